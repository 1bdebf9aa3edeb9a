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
        lab.request("ADD", container, pod)
            .env("CNI_ARGS", "")
            .conf("ipam", json!({"type": "calico-ipam", "ipv4_pools": ["tiny"]}))
    };
    lab.ok(add("c1-first-container", "a"));
    let (code, text) = lab.fails(add("c2-other-container", "b"));
    assert!(code == 100 && text.contains("tiny"), "{text}");
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
