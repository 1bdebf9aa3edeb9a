//! `caracal policy-check --dataplane nftables`, as a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use caracal_sys::processes_in;
use caracal_testkit::{NetNs, eventually};
use serde_json::{Value, json};

use crate::world::{Said, machine, program};

/// Where runs keep what is theirs.
const BASE: &str = "/run/caracal-policy-check";

/// A step may wait for a minute before it is given up.
const LIMIT: Duration = Duration::from_secs(60);

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../testdata/policy")
        .join(name)
}

fn command(table: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .arg("policy-check")
        .arg(table)
        .args(["--dataplane", "nftables"])
        .args(args);
    command
}

fn check(table: &Path, args: &[&str]) -> Said {
    command(table, args).output().unwrap().into()
}

#[track_caller]
fn nothing_is_left() {
    let namespaces = NetNs::list().unwrap();
    assert!(namespaces.is_empty(), "{namespaces:?}");
    assert!(!Path::new(BASE).exists());
}

/// The last line: what was checked, mismatched, skipped.
fn counts(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn netns_packets_agree_with_calicos_cases_in_both_families() {
    machine!(300);
    let said = check(&table("calico-cases.json"), &["--family", "both"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert_eq!(counts(&said.out), "checked 1008, mismatched 0, skipped 0");
    nothing_is_left();
}

#[test]
fn netns_packets_agree_with_some_of_kubernetes_cases() {
    machine!(300);
    let cases = "^(Create|Update)|ipblock|named port that";
    let args = ["--family", "both", "--cases", cases, "-o", "json"];
    let said = check(&table("kubernetes-truth-tables.json.gz"), &args);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let result: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(result["mismatches"], json!([]));
    assert_eq!(result["skipped"], 0);
    // 24 steps of at least 432 probes, in each family.
    assert!(result["checked"].as_u64().unwrap() >= 20_736, "{result}");
    assert!(
        counts(&said.err).starts_with(&format!("checked {}, mismatched 0", result["checked"])),
        "{}",
        said.err
    );
    nothing_is_left();
}

#[test]
fn netns_what_is_wrong_is_found_in_both_directions() {
    machine!(300);
    let probe = |to: &str, verdict: &str| {
        json!({
            "From": "x/b", "To": to, "Proto": "TCP", "Port": 80, "Ingress": verdict, "Egress": "allowed",
            "Combined": verdict,
        })
    };
    let wrong = json!([{"Description": "upside down", "Steps": [{
        "Namespaces": {"x": {}},
        "Pods": [
            {"Namespace": "x", "Name": "a", "IP": "192.0.2.1", "Labels": {"pod": "a"}},
            {"Namespace": "x", "Name": "b", "IP": "192.0.2.2"},
            {"Namespace": "x", "Name": "c", "IP": "192.0.2.3"},
        ],
        "Policies": [{
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": "x"},
            "spec": {"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Ingress"]},
        }],
        "Probes": [probe("x/a", "allowed"), probe("x/c", "blocked")],
    }]}]);
    let file = Path::new("/run/upside-down.json");
    std::fs::write(file, wrong.to_string()).unwrap();
    let said = check(file, &[]);
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", said.out);
    assert!(
        lines[0].contains("x/b -> x/a TCP 80: combined should be allowed, is blocked (no answer;")
            && lines[0].contains("end of tier default"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains("x/b -> x/c TCP 80: combined should be blocked, is allowed (answered;")
            && lines[1].contains("profile kns.x, rule 0"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "checked 2, mismatched 2, skipped 0");
    nothing_is_left();
}

/// Starts a run and waits until its pods are being probed.
fn started(table: &Path) -> Child {
    let mut command = command(table, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    eventually(LIMIT, || {
        let names = NetNs::list().unwrap_or_default();
        let nodes = names.iter().filter(|n| n.contains("-node-"));
        let devices = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let has_pods = |name: &&String| {
            let devices = NetNs::named(name).and_then(|netns| netns.run(devices));
            devices.is_ok_and(|text| text.contains("cali"))
        };
        match nodes.filter(has_pods).count() {
            2 => Ok(()),
            n => Err(format!("{n} nodes have pods")),
        }
    });
    child
}

#[test]
fn netns_a_run_that_is_interrupted_removes_everything() {
    machine!(300);
    let mut child = started(&table("kubernetes-truth-tables.json.gz"));
    let id = caracal_sys::ProcessId::of(child.id()).unwrap().unwrap();
    id.signal(15).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    nothing_is_left();
}

#[test]
fn netns_what_a_killed_run_left_is_removed_by_the_next() {
    machine!(300);
    let mut child = started(&table("kubernetes-truth-tables.json.gz"));
    child.kill().unwrap();
    child.wait().unwrap();
    let left: Vec<_> = NetNs::list()
        .unwrap()
        .iter()
        .map(|n| NetNs::named(n).unwrap().id())
        .flat_map(|id| processes_in(id).unwrap())
        .collect();
    // Two agents and the datastore.
    assert_eq!(left.len(), 3, "{left:?}");
    let said = check(&table("calico-cases.json"), &["--cases", "^nothing$"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(left.iter().all(|p| !p.is_alive()), "{left:?}");
    nothing_is_left();
}
