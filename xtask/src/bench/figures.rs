//! Calico's figures and the goals, as `bench/README.md` has them.

use super::{rows::Row, world::NODE};

pub(super) const BINARY: Row = Row::new("binary", "the program, stripped", "MiB", "120", 30.0);
pub(super) const COLD_100: [Row; 4] = [
    Row::new("cold-100", "100 policies, 10 k remote: ready", "s", "1.52", 0.10),
    Row::plain("cold-100", "CPU until ready", "s", "1.72"),
    Row::new("cold-100", "RSS in sync", "MiB", "97", 20.0),
    Row::plain("cold-100", "peak of the process tree", "MiB", "143"),
];
pub(super) const COLD_1000: [Row; 4] = [
    Row::new(
        "cold-1000",
        "1 000 policies, 10 k remote: ready",
        "s",
        "2.09",
        0.15,
    ),
    Row::plain("cold-1000", "CPU until ready", "s", "2.67"),
    Row::new("cold-1000", "RSS in sync", "MiB", "112", 25.0),
    Row::plain("cold-1000", "peak of the process tree", "MiB", "168"),
];
pub(super) const COLD_10000: [Row; 4] = [
    Row::new(
        "cold-10000",
        "10 000 policies, 10 k remote: ready",
        "s",
        "7.91",
        0.6,
    ),
    Row::plain("cold-10000", "CPU until ready", "s", "11.0"),
    Row::new("cold-10000", "RSS in sync", "MiB", "225", 60.0),
    Row::plain("cold-10000", "peak of the process tree", "MiB", "594"),
];
pub(super) const COLD_100K: [Row; 4] = [
    Row::new(
        "cold-10000-100k",
        "10 000 policies, 100 k remote: ready",
        "s",
        "15.1",
        1.2,
    ),
    Row::plain("cold-10000-100k", "CPU until ready", "s", "21.7"),
    Row::new("cold-10000-100k", "RSS in sync", "MiB", "420", 120.0),
    Row::plain("cold-10000-100k", "peak of the process tree", "MiB", "846"),
];
pub(super) const RESTART: [Row; 4] = [
    Row::new(
        "restart",
        "10 000 / 10 k over its own rules: ready",
        "s",
        "19.6",
        0.6,
    ),
    Row::plain("restart", "CPU until ready", "s", "25.2"),
    Row::new("restart", "RSS in sync", "MiB", "221", 80.0),
    Row::plain("restart", "peak of the process tree", "MiB", "1219"),
];
pub(super) const POLICY: [Row; 3] = [
    Row::new(
        "change-policy",
        "one rule of one policy, from ack: p50",
        "ms",
        "50–53",
        2.0,
    ),
    Row::new("change-policy", "p99", "ms", "95–5800", 6.0),
    Row::new("change-policy", "worst", "ms", "8926", 30.0),
];
pub(super) const LABEL: [Row; 3] = [
    Row::new(
        "change-label",
        "a remote endpoint's label, from ack: p50",
        "ms",
        "45–51",
        1.0,
    ),
    Row::new("change-label", "p99", "ms", "76–4432", 4.0),
    Row::new("change-label", "worst", "ms", "13380", 30.0),
];
pub(super) const ENDPOINT: [Row; 6] = [
    Row::new(
        "change-endpoint",
        "a new local endpoint, complete, from ack: p50",
        "ms",
        "120–135",
        3.0,
    ),
    Row::new("change-endpoint", "p99", "ms", "243–4827", 8.0),
    Row::new("change-endpoint", "worst", "ms", "4827", 30.0),
    Row::new(
        "change-endpoint",
        "a local endpoint deleted, from ack: p50",
        "ms",
        "130–134",
        2.0,
    ),
    Row::new("change-endpoint", "p99", "ms", "5182–12635", 6.0),
    Row::new("change-endpoint", "worst", "ms", "12635", 30.0),
];
pub(super) const IDLE_FEW: [Row; 2] = [
    Row::new("idle", "few objects: CPU", "% of a core", "2.0", 0.1),
    Row::new("idle", "few objects: RSS", "MiB", "76", 20.0),
];
pub(super) const IDLE_MANY: [Row; 2] = [
    Row::new(
        "idle",
        "10 000 / 10 k, after the changes: CPU",
        "% of a core",
        "12.6",
        0.2,
    ),
    Row::new(
        "idle",
        "10 000 / 10 k, after the changes: RSS",
        "MiB",
        "615–744",
        80.0,
    ),
];
pub(super) const CNI_SEQ: [Row; 4] = [
    Row::new("cni", "100 ADD one after another: p50", "ms", "142–169", 15.0),
    Row::new("cni", "100 ADD one after another: p99", "ms", "214–222", 30.0),
    Row::new("cni", "100 DEL one after another: p50", "ms", "104–116", 8.0),
    Row::plain("cni", "100 DEL one after another: p99", "ms", "136–152"),
];
pub(super) const CNI_PAR: [Row; 2] = [
    Row::new("cni", "100 ADD at once: in all", "s", "10.4–11.5", 0.5),
    Row::new("cni", "100 DEL at once: in all", "s", "6.5–7.4", 0.3),
];

pub(super) const CNI_COST: [Row; 9] = [
    Row::plain("cni", "plugin start-up (VERSION): p50", "ms", "41"),
    Row::plain("cni", "peak memory of one plugin process, ADD", "MiB", "-"),
    Row::plain("cni", "one ADD: CPU of the plugin", "ms", "161–208"),
    Row::plain("cni", "one ADD: CPU of the agent", "ms", "-"),
    Row::plain("cni", "one ADD: CPU of the store", "ms", "-"),
    Row::new("cni", "one ADD: CPU of all three", "ms", "-", 7.0),
    Row::plain("cni", "one DEL: CPU of the plugin", "ms", "-"),
    Row::plain("cni", "one DEL: CPU of the agent", "ms", "-"),
    Row::plain("cni", "one DEL: CPU of the store", "ms", "-"),
];

/// Pods of a node, 32 at once: ADDs and DELs.
pub(super) const CNI_CURVE: [(usize, [Row; 2]); 6] = [
    (10, a_second(["10 pods, 32 at once: ADD", "10 pods: DEL"])),
    (50, a_second(["50 pods: ADD", "50 pods: DEL"])),
    (100, a_second(["100 pods: ADD", "100 pods: DEL"])),
    (250, a_second(["250 pods: ADD", "250 pods: DEL"])),
    (500, a_second(["500 pods: ADD", "500 pods: DEL"])),
    (1000, a_second(["1 000 pods: ADD", "1 000 pods: DEL"])),
];

const fn a_second(what: [&'static str; 2]) -> [Row; 2] {
    [
        Row::at_least("cni", what[0], "a second", 200.0),
        Row::at_least("cni", what[1], "a second", 200.0),
    ]
}

/// A command line, the row of its time and, for some, of its memory; what it is given.
pub(super) const COMMANDS: [(Row, Option<Row>, &[&str]); 5] = [
    (
        Row::new("cli", "version --client: p50", "ms", "40–42", 3.0),
        Some(Row::new(
            "cli",
            "version --client: peak memory",
            "MiB",
            "43–46",
            12.0,
        )),
        &["version", "--client"],
    ),
    (
        Row::new("cli", "get ippool -o wide: p50", "ms", "40–42", 5.0),
        Some(Row::new(
            "cli",
            "get ippool -o wide: peak memory",
            "MiB",
            "43–46",
            12.0,
        )),
        &["get", "ippool", "-o", "wide"],
    ),
    (
        Row::new("cli", "get node X -o yaml: p50", "ms", "40–42", 5.0),
        Some(Row::new(
            "cli",
            "get node X -o yaml: peak memory",
            "MiB",
            "43–46",
            12.0,
        )),
        &["get", "node", NODE, "-o", "yaml"],
    ),
    (
        Row::new(
            "cli",
            "get globalnetworkpolicy -o yaml, 1 000: p50",
            "ms",
            "344",
            40.0,
        ),
        Some(Row::plain(
            "cli",
            "get globalnetworkpolicy -o yaml, 1 000: peak memory",
            "MiB",
            "128",
        )),
        &["get", "globalnetworkpolicy", "-o", "yaml"],
    ),
    (
        Row::new("cli", "get workloadendpoint -A, 10 100: p50", "ms", "585", 80.0),
        Some(Row::plain(
            "cli",
            "get workloadendpoint -A, 10 100: peak memory",
            "MiB",
            "102",
        )),
        &["get", "workloadendpoint", "-A"],
    ),
];

/// `create -f` of a file of the workload.
pub(super) const CREATES: [(Row, &str); 2] = [
    (
        Row::new("cli-create", "create -f, 10 000 policies", "s", "25.5", 2.0),
        "20-policies.yaml",
    ),
    (
        Row::new("cli-create", "create -f, 10 000 endpoints", "s", "9.3", 2.0),
        "40-remote.yaml",
    ),
];

pub(super) const COLD_V6: [Row; 4] = [
    Row::plain("ipv6", "10 000 policies, 10 k remote, IPv6: ready", "s", "-"),
    Row::plain("ipv6", "CPU until ready", "s", "-"),
    Row::plain("ipv6", "RSS in sync", "MiB", "-"),
    Row::plain("ipv6", "peak of the process tree", "MiB", "-"),
];
pub(super) const NETS: [Row; 4] = [
    Row::plain("nets", "a set of 1 000 000 /30: ready", "s", "-"),
    Row::plain("nets", "CPU until ready", "s", "-"),
    Row::plain("nets", "RSS in sync", "MiB", "-"),
    Row::plain("nets", "peak of the process tree", "MiB", "-"),
];

/// What is measured on a node of so many pods.
const fn of_pods(what: [&'static str; 3]) -> [Row; 3] {
    [
        Row::plain("pods", what[0], "s", "-"),
        Row::plain("pods", what[1], "s", "-"),
        Row::plain("pods", what[2], "MiB", "-"),
    ]
}

/// What each pod more costs, against the number before.
const fn a_pod_more(what: [&'static str; 2]) -> [Row; 2] {
    [
        Row::plain("pods", what[0], "µs", "-"),
        Row::plain("pods", what[1], "KiB", "-"),
    ]
}

pub(super) const PODS: [(u32, [Row; 3], [Row; 2]); 4] = [
    (
        10,
        of_pods([
            "10 pods, 1 000 policies: ready",
            "10 pods: CPU until ready",
            "10 pods: RSS in sync",
        ]),
        a_pod_more(["", ""]),
    ),
    (
        100,
        of_pods([
            "100 pods: ready",
            "100 pods: CPU until ready",
            "100 pods: RSS in sync",
        ]),
        a_pod_more(["10 to 100 pods: CPU of each", "10 to 100 pods: memory of each"]),
    ),
    (
        1000,
        of_pods([
            "1 000 pods: ready",
            "1 000 pods: CPU until ready",
            "1 000 pods: RSS in sync",
        ]),
        a_pod_more([
            "100 to 1 000 pods: CPU of each",
            "100 to 1 000 pods: memory of each",
        ]),
    ),
    (
        1500,
        of_pods([
            "1 500 pods: ready",
            "1 500 pods: CPU until ready",
            "1 500 pods: RSS in sync",
        ]),
        a_pod_more([
            "1 000 to 1 500 pods: CPU of each",
            "1 000 to 1 500 pods: memory of each",
        ]),
    ),
];

pub(super) const FLOWS_NONE: [Row; 2] = [
    Row::plain("flows", "no policy: a byte there and back, p50", "µs", "-"),
    Row::plain(
        "flows",
        "no policy: connections one after another",
        "a second",
        "-",
    ),
];
pub(super) const FLOWS: [Row; 2] = [
    Row::plain(
        "flows",
        "10 000 policies, 100 at the pod, by the last: there and back, p50",
        "µs",
        "-",
    ),
    Row::plain(
        "flows",
        "10 000 policies: connections one after another",
        "a second",
        "-",
    ),
];
