//! Bad input: a clear error, and nothing changed.

use caracal_api::{ClusterInformationSpec, IpPoolSpec};
use caracal_sys::NetNs;
use caracal_testkit::netns;
use serde_json::json;

use super::lab::{Lab, Request, block_on, object};
use crate::{
    call::Invocation,
    run::{Plugin, answer},
};

#[test]
fn stdin_and_command_are_checked_before_anything() {
    let call = |command: &str, stdin: &str| {
        let env = [("CNI_COMMAND".to_owned(), command.to_owned())].into();
        let given = Invocation {
            env,
            stdin: stdin.as_bytes().to_vec(),
            ..Invocation::default()
        };
        let reply = block_on(answer(Plugin::Calico, &given));
        let json: serde_json::Value = serde_json::from_str(&reply.stdout).unwrap();
        (reply.exit, json["code"].as_u64().unwrap_or(0))
    };
    assert_eq!(call("VERSION", ""), (0, 0));
    assert_eq!(call("VERSION", r#"{"cniVersion":"9.9.9"}"#), (0, 0));
    assert_eq!(call("ADD", "not json"), (1, 6));
    assert_eq!(call("ADD", r#"{"name":"n","cniVersion":"0.2.1"}"#), (1, 1));
    assert_eq!(call("CHECK", r#"{"name":"n","cniVersion":"0.3.1"}"#), (1, 1));
    assert_eq!(call("ADD", r#"{"name":"n","cniVersion":"1.0.0"}"#), (1, 4));
    assert_eq!(call("", "{}"), (1, 4));
    assert_eq!(call("PAINT", "{}"), (1, 4));
    assert_eq!(call("STATUS", r#"{"cniVersion":"1.1.0"}"#), (1, 7));
}

#[test]
fn netns_refused_requests_change_nothing() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    std::fs::write("/run/netns/plain", "").unwrap();
    let add = || lab.request("ADD", "c1", "pod");
    let ipam = |value| json!({"type": "calico-ipam", "ipv4_pools": value});
    let cases: Vec<(&str, Request, u64, &str)> = vec![
        (
            "no netns",
            lab.request("ADD", "c1", "nowhere"),
            3,
            "/run/netns/nowhere",
        ),
        ("not a netns", lab.request("ADD", "c1", "plain"), 3, "plain"),
        (
            "own netns",
            add().env("CNI_NETNS", "/proc/self/ns/net"),
            4,
            "CNI_NETNS",
        ),
        (
            "long name",
            add().env("CNI_IFNAME", "a-name-that-is-long"),
            4,
            "CNI_IFNAME",
        ),
        (
            "half a pod",
            add().env("CNI_ARGS", "K8S_POD_NAME=a"),
            4,
            "K8S_POD_NAMESPACE",
        ),
        ("bad args", add().env("CNI_ARGS", "x"), 4, "CNI_ARGS"),
        ("no name", add().conf("name", json!("")), 7, "name"),
        ("version", add().conf("cniVersion", json!("3.0.0")), 1, "3.0.0"),
        (
            "log level",
            add().conf("log_level", json!("loud")),
            7,
            "log_level",
        ),
        (
            "unknown pool",
            add().conf("ipam", ipam(json!(["nopool"]))),
            100,
            "nopool",
        ),
        ("no type", add().conf("ipam", json!({})), 7, "ipam.type"),
        ("netkit", add().conf("device_type", json!("netkit")), 2, "netkit"),
        (
            "port",
            add().conf(
                "args",
                json!({"cni": {"ports": [{"name": "a", "protocol": "TCP", "port": 0}]}}),
            ),
            7,
            "ports[0]",
        ),
        (
            "foreign address",
            add().env("CNI_ARGS", "IP=192.0.2.1"),
            101,
            "192.0.2.1",
        ),
        (
            "annotation",
            add().conf(
                "args",
                json!({"cni": {"annotations": {"cni.projectcalico.org/floatingIPs": "[1]"}}}),
            ),
            2,
            "floating_ips",
        ),
        (
            "other hand's addresses",
            add().conf("ipam", json!({"type": "host-local", "subnet": "usePodCidr"})),
            11,
            "no such Node",
        ),
        (
            "ranges of Kubernetes",
            add().conf(
                "ipam",
                json!({"type": "host-local", "ranges": [[{"subnet": "usePodCidr"}]]}),
            ),
            11,
            "usePodCidr",
        ),
        ("MTU of nonsense", add().conf("mtu", json!(1)), 103, "veth"),
        (
            "no prevResult",
            lab.request("CHECK", "c1", "pod"),
            7,
            "prevResult",
        ),
    ];
    for (what, request, code, hint) in cases {
        let (found, text) = lab.fails(request);
        assert!(found == code && text.contains(hint), "{what}: {text}");
        lab.assert_empty(what);
    }
}

#[test]
fn netns_an_exhausted_pool_says_what_was_tried() {
    netns!();
    let lab = Lab::new();
    for name in ["a", "b"] {
        NetNs::create(name).unwrap();
    }
    lab.put(object::<IpPoolSpec>(
        "tiny",
        json!({"cidr": "10.70.0.0/32", "blockSize": 32}),
    ));
    let add = |container: &str, pod: &str| {
        lab.request("ADD", container, pod).env("CNI_ARGS", "").conf(
            "ipam",
            json!({"type": "calico-ipam", "ipv4_pools": ["tiny", "shut"]}),
        )
    };
    lab.put(object::<IpPoolSpec>(
        "shut",
        json!({"cidr": "10.71.0.0/24", "disabled": true}),
    ));
    lab.ok(add("c1-first-container", "a"));
    let (code, text) = lab.fails(add("c2-other-container", "b"));
    for part in [
        "pool tiny",
        "pool shut: it is disabled",
        "no block of another node",
    ] {
        assert!(code == 100 && text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        (lab.taken(), lab.endpoints().len(), lab.host_links().len()),
        (1, 1, 1)
    );
    // Two families, and the second has no pool left: the first is given back.
    let both = json!({"type": "calico-ipam", "assign_ipv6": true, "ipv6_pools": ["nopool"]});
    assert_eq!(lab.fails(lab.request("ADD", "c3", "b").conf("ipam", both)).0, 100);
    assert_eq!(lab.taken(), 1);
}

#[test]
fn netns_a_cluster_that_is_not_ready_is_left_alone() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    lab.put(object::<ClusterInformationSpec>(
        "default",
        json!({"datastoreReady": false}),
    ));
    let (code, text) = lab.fails(lab.request("ADD", "c1", "pod"));
    assert!(code == 11 && text.contains("datastoreReady"), "{text}");
    lab.assert_empty("not ready");
}

#[test]
fn netns_paths_that_lead_nowhere_and_arguments_without_end() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    std::os::unix::fs::symlink("/run/netns/loop", "/run/netns/loop").unwrap();
    let (code, text) = lab.fails(lab.request("ADD", "c1", "loop"));
    assert!(
        (3..=5).contains(&code) && text.contains("/run/netns/loop"),
        "{text}"
    );
    lab.assert_empty("loop");
    // DEL does not need the path.
    lab.ok(lab.request("DEL", "c1", "loop"));
    let long = format!(
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;X={}",
        "x".repeat(65_000)
    );
    lab.ok(lab.request("ADD", "c1", "pod").env("CNI_ARGS", &long));
    lab.ok(lab.request("DEL", "c1", "pod").env("CNI_ARGS", &long));
    for long in [
        format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", "x".repeat(65_000)),
        "=".repeat(65_000),
    ] {
        let (code, text) = lab.fails(lab.request("ADD", "c1", "pod").env("CNI_ARGS", &long));
        assert!(code == 4 && text.len() < 2000, "{text}");
    }
    lab.assert_empty("long");
}

#[test]
fn netns_an_mtu_file_that_must_be_there_and_a_log_file_that_cannot() {
    netns!();
    caracal_testkit::private_dir(std::path::Path::new("/var/lib")).unwrap();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let add = || lab.request("ADD", "c1", "pod").conf("mtu", json!(0));
    let (code, text) = lab.fails(add().conf("require_mtu_file", json!(true)));
    assert!(code == 11 && text.contains("/var/lib/calico/mtu"), "{text}");
    let status = lab.request("STATUS", "", "").conf("cniVersion", json!("1.1.0"));
    let status = status.conf("mtu", json!(0)).conf("require_mtu_file", json!(true));
    assert_eq!(lab.fails(status).0, 50);
    lab.assert_empty("no MTU");
    std::fs::create_dir("/var/lib/calico").unwrap();
    std::fs::write("/var/lib/calico/mtu", "1234\n").unwrap();
    // A path below a file: as on a disk that takes no writes, the pod starts all the same.
    lab.ok(add()
        .conf("require_mtu_file", json!(true))
        .conf("log_file_path", json!("/var/lib/calico/mtu/cni.log"))
        .conf("ipam", json!({"type": "calico-ipam"}))
        .conf("ipam_lock_file", json!("/var/lib/calico/mtu/lock")));
    let eth0 = caracal_link::Rtnl::open_in(&NetNs::named("pod").unwrap())
        .unwrap()
        .require_link("eth0")
        .unwrap();
    assert_eq!(eth0.mtu, 1234);
    std::fs::write("/var/lib/calico/mtu", "many\n").unwrap();
    let (code, text) = lab.fails(add());
    assert!(code == 5 && text.contains("/var/lib/calico/mtu"), "{text}");
}

#[test]
fn netns_an_address_in_use_says_by_whom_and_a_closed_gate_stops() {
    netns!();
    let lab = Lab::new();
    for name in ["a", "b"] {
        NetNs::create(name).unwrap();
    }
    let args = |pod: &str| format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};IP=10.65.0.5");
    lab.ok(lab.request("ADD", "c1", "a").env("CNI_ARGS", &args("web")));
    let (code, text) = lab.fails(lab.request("ADD", "c2", "b").env("CNI_ARGS", &args("other")));
    assert!(
        code == 101 && text.contains("10.65.0.5") && text.contains("net1.c1"),
        "{text}"
    );
    assert_eq!(
        (lab.taken(), lab.endpoints().len(), lab.host_links().len()),
        (1, 1, 1)
    );
    let gate = json!(["http://127.0.0.1:1/readiness"]);
    let (code, text) = lab.fails(lab.request("ADD", "c3", "b").conf("readiness_gates", gate));
    assert!(code == 11 && text.contains("127.0.0.1:1"), "{text}");
    assert_eq!(
        (lab.taken(), lab.endpoints().len(), lab.host_links().len()),
        (1, 1, 1)
    );
}

/// The other plugin's place is taken by a program that keeps what it is given.
#[test]
fn netns_the_ranges_of_the_node_are_given_to_the_other_plugin() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("keeps");
    let text = format!(
        "#!/bin/sh\ncat > {}/$CNI_COMMAND\necho \
         '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.9.0.5/24\"}}]}}'\n",
        dir.path().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ranges =
        json!([[{"subnet": "usePodCidr"}], [{"subnet": "usepodcidripv6"}], [{"subnet": "10.3.0.0/24"}]]);
    let request = |verb: &str| {
        lab.request(verb, "c1", "pod")
            .env("CNI_PATH", &dir.path().display().to_string())
            .conf(
                "ipam",
                json!({"type": "keeps", "subnet": "usePodCidr", "ranges": ranges}),
            )
    };
    let node = |ranges: serde_json::Value| -> caracal_api::Resource {
        let mut node = caracal_api::Object::<caracal_api::NodeSpec>::new("node-1", Default::default());
        node.status = Some(serde_json::from_value(json!({ "podCIDRs": ranges })).unwrap());
        node.into()
    };
    lab.put(node(json!(["10.9.0.0/24"])));
    let (code, text) = lab.fails(request("ADD"));
    assert!(
        code == 11 && text.contains("IPv6"),
        "one family is missing: {text}"
    );
    let key = caracal_api::ResourceKey::global(caracal_api::Kind::Node, "node-1");
    let remove = || {
        block_on(caracal_store::Store::delete(
            &lab.store,
            &key,
            &Default::default(),
        ))
        .unwrap()
    };
    remove();
    lab.put(node(json!(["fd09::/112", "10.9.0.0/24"])));
    let result = lab.ok(request("ADD"));
    lab.ok(request("CHECK").conf("prevResult", result));
    let told = |verb: &str| -> serde_json::Value {
        let text = std::fs::read_to_string(dir.path().join(verb)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["ipam"].take()
    };
    for verb in ["ADD", "CHECK"] {
        let ipam = told(verb);
        assert_eq!(ipam["subnet"], "10.9.0.0/24", "{ipam}");
        let subnets =
            json!([[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/112"}], [{"subnet": "10.3.0.0/24"}]]);
        assert_eq!(ipam["ranges"], subnets);
    }
    // The node may be gone when its last pods go.
    remove();
    lab.ok(request("DEL"));
    assert_eq!(told("DEL")["subnet"], "0.0.0.0/0");
    lab.assert_empty("after DEL");
}

/// What no list of bad input names: all of it is refused shortly and clearly, and nothing is changed.
#[test]
fn netns_names_that_are_paths_and_json_without_end_change_nothing() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let add = || lab.request("ADD", "c1", "pod");
    let args = |pod: &str| format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}");
    let cases: Vec<(&str, Request, u64, &str)> = vec![
        (
            "network as a path",
            add().conf("name", json!("../../net")),
            7,
            "name",
        ),
        (
            "container as a path",
            add().env("CNI_CONTAINERID", "../../etc/passwd"),
            4,
            "CNI_CONTAINERID",
        ),
        (
            "container in two lines",
            add().env("CNI_CONTAINERID", "c1\nc2"),
            4,
            "CNI_CONTAINERID",
        ),
        (
            "interface as a path",
            add().env("CNI_IFNAME", "../eth0"),
            4,
            "CNI_IFNAME",
        ),
        (
            "pod as a path",
            add().env("CNI_ARGS", &args("../web")),
            4,
            "K8S_POD_NAME",
        ),
        (
            "a result that is a list",
            lab.request("CHECK", "c1", "pod").conf("prevResult", json!([])),
            7,
            "prevResult",
        ),
        (
            "addresses that are none",
            lab.request("CHECK", "c1", "pod").conf(
                "prevResult",
                json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.300/24"}]}),
            ),
            7,
            "prevResult",
        ),
    ];
    for (what, request, code, hint) in cases {
        let (found, text) = lab.fails(request);
        assert!(
            found == code && text.contains(hint) && text.len() < 2000,
            "{what}: {found} {text}"
        );
        lab.assert_empty(what);
    }
    let deep = format!("{{\"name\":\"n\",\"x\":{}", "[".repeat(200_000));
    let bytes = b"{\"cniVersion\":\"1.0.0\",\"name\":\"\xff\xfe\"}".to_vec();
    for stdin in [deep.clone().into_bytes(), bytes] {
        let given = Invocation {
            env: [("CNI_COMMAND".to_owned(), "ADD".to_owned())].into(),
            stdin,
            ..Invocation::default()
        };
        let reply = block_on(answer(Plugin::Calico, &given));
        let json: serde_json::Value = serde_json::from_str(&reply.stdout).unwrap();
        assert_eq!((reply.exit, &json["code"]), (1, &json!(6)), "{}", reply.stdout);
        assert!(reply.stdout.len() < 2000, "{} bytes", reply.stdout.len());
    }
}
