//! Metadata, endpoints, IPAM, BGP, cluster-wide settings.

use caracal_api::{FieldError, Kind, Resource, parse, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{accept, errors, refuse};

/// The errors of an object with this metadata.
fn meta(kind: Kind, metadata: Value) -> Vec<String> {
    let spec = if kind == Kind::IpPool {
        json!({"cidr": "10.0.0.0/16"})
    } else {
        json!({})
    };
    let r = Resource::from_value(kind, json!({"metadata": metadata, "spec": spec})).expect("reads");
    validate(&r).iter().map(FieldError::to_string).collect()
}

#[test]
fn metadata() {
    let long = "v".repeat(64);
    for (metadata, place, word) in [
        (json!({}), "metadata.name", "needs a name"),
        (json!({"name": "A"}), "metadata.name", "a-z"),
        (json!({"name": "a/b"}), "metadata.name", "a-z"),
        (
            json!({"name": "a", "namespace": "n"}),
            "metadata.namespace",
            "no namespace",
        ),
        (
            json!({"name": "a", "labels": {"a b": "c"}}),
            "metadata.labels[\"a b\"]",
            "label",
        ),
        (
            json!({"name": "a", "labels": {"A.b/c": "d"}}),
            "metadata.labels[\"A.b/c\"]",
            "label",
        ),
        (
            json!({"name": "a", "labels": {"k": "a b"}}),
            "metadata.labels.k",
            "value",
        ),
        (
            json!({"name": "a", "labels": {"k": "\"'ü"}}),
            "metadata.labels.k",
            "value",
        ),
        (
            json!({"name": "a", "labels": {"k": long}}),
            "metadata.labels.k",
            "63",
        ),
        (
            json!({"name": "a", "labels": {long.as_str(): ""}}),
            "metadata.labels.",
            "63",
        ),
        (
            json!({"name": "a", "annotations": {"a b": ""}}),
            "metadata.annotations[\"a b\"]",
            "label",
        ),
        (
            json!({"name": "a", "annotations": {"k": "x".repeat(256 << 10)}}),
            "metadata.annotations",
            "262144",
        ),
    ] {
        let e = meta(Kind::IpPool, metadata);
        assert!(
            e.len() == 1 && e[0].starts_with(place) && e[0].contains(word),
            "{place}: {e:?}"
        );
    }
    for metadata in [
        json!({"name": "a.b-c.1", "labels": {"x.y/Z_1": "", "a": "B.c_d-e"}, "annotations": {"X.Y/z": "any \"thing\""}}),
        json!({"name": "a", "annotations": {"k": "x".repeat((256 << 10) - 1)}}),
    ] {
        assert_eq!(meta(Kind::IpPool, metadata), [""; 0]);
    }
    for (metadata, word) in [
        (json!({"name": "a"}), "needs a namespace"),
        (json!({"name": "a", "namespace": "A"}), "name of a namespace"),
        (json!({"name": "a", "namespace": "a.b"}), "name of a namespace"),
    ] {
        let e = meta(Kind::NetworkSet, metadata);
        assert!(
            e.len() == 1 && e[0].starts_with("metadata.namespace") && e[0].contains(word),
            "{e:?}"
        );
    }
    let e = meta(
        Kind::GlobalNetworkSet,
        json!({"name": "a", "labels": {"projectcalico.org/namespace": "x"}}),
    );
    assert!(
        e.len() == 1 && e[0].contains("projectcalico.org/namespace"),
        "{e:?}"
    );
    for kind in [
        Kind::ClusterInformation,
        Kind::IpamConfiguration,
        Kind::KubeControllersConfiguration,
    ] {
        let e = meta(kind, json!({"name": "other"}));
        assert!(e.len() == 1 && e[0].contains("allowed: default"), "{e:?}");
    }
}

#[test]
fn host_endpoints() {
    let with = |field: &str, value: Value| {
        let mut v = json!({"node": "n", "interfaceName": "eth0"});
        v[field] = value;
        v
    };
    accept(
        Kind::HostEndpoint,
        "h",
        &[
            with("interfaceName", json!("*")),
            json!({"node": "n", "expectedIPs": ["10.0.0.1", "fd00::1"]}),
        ],
    );
    refuse(
        Kind::HostEndpoint,
        "h",
        &[
            (json!({"interfaceName": "eth0"}), "spec.node", "node"),
            (json!({"node": "n"}), "spec.interfaceName", "expectedIPs"),
            (with("interfaceName", json!("eth 0")), "spec.interfaceName", "15"),
            (
                with("interfaceName", json!("sixteen-letters-x")),
                "spec.interfaceName",
                "15",
            ),
            (with("interfaceName", json!("eth*")), "spec.interfaceName", "15"),
            (
                with("expectedIPs", json!(["10.0.0.1/32"])),
                "spec.expectedIPs[0]",
                "address",
            ),
            (
                with("expectedIPs", json!(["x"])),
                "spec.expectedIPs[0]",
                "address",
            ),
            (
                with("expectedIPs", json!(["::1", "::1"])),
                "spec.expectedIPs[1]",
                "twice",
            ),
            (with("profiles", json!(["A"])), "spec.profiles[0]", "name"),
            (
                with("ports", json!([{"name": "HTTP", "protocol": "TCP", "port": 80}])),
                "spec.ports[0].name",
                "port",
            ),
            (
                with("ports", json!([{"name": "http", "protocol": "ICMP", "port": 80}])),
                "spec.ports[0].protocol",
                "TCP",
            ),
            (
                with("ports", json!([{"name": "http", "protocol": "TCP", "port": 0}])),
                "spec.ports[0].port",
                "65535",
            ),
        ],
    );
}

#[test]
fn workload_endpoints() {
    let nat = |internal: &str, external: &str| json!({"ipNetworks": ["10.0.0.1/32"], "ipNATs": [{"internalIP": internal, "externalIP": external}]});
    accept(
        Kind::WorkloadEndpoint,
        "w",
        &[
            json!({}),
            nat("10.0.0.1", "192.0.2.1"),
            json!({"ipNetworks": ["10.0.0.1", "fd00::1/128"]}),
        ],
    );
    refuse(
        Kind::WorkloadEndpoint,
        "w",
        &[
            (json!({"node": "N"}), "spec.node", "name"),
            (json!({"containerID": "a/b"}), "spec.containerID", "container"),
            (
                json!({"ipNetworks": ["10.0.0.0/24"]}),
                "spec.ipNetworks[0]",
                "one address",
            ),
            (json!({"ipNetworks": ["x"]}), "spec.ipNetworks[0]", "x"),
            (
                nat("10.0.0.2", "192.0.2.1"),
                "spec.ipNATs[0].internalIP",
                "ipNetworks",
            ),
            (nat("10.0.0.1", "fd00::1"), "spec.ipNATs[0].externalIP", "family"),
            (nat("10.0.0.1", ""), "spec.ipNATs[0].externalIP", "address"),
            (json!({"ipv4Gateway": "fe80::1"}), "spec.ipv4Gateway", "IPv4"),
            (json!({"ipv6Gateway": "169.254.1.1"}), "spec.ipv6Gateway", "IPv6"),
            (json!({"profiles": ["a", "a"]}), "spec.profiles[1]", "twice"),
            (
                json!({"interfaceName": "cali 1"}),
                "spec.interfaceName",
                "interface",
            ),
            (json!({"mac": "02:00"}), "spec.mac", "MAC"),
            (
                json!({"ports": [{"protocol": "TCP", "port": 80}]}),
                "spec.ports[0].name",
                "hostPort",
            ),
            (
                json!({"ports": [{"name": "a", "protocol": 1, "port": 80}]}),
                "spec.ports[0].protocol",
                "TCP",
            ),
            (
                json!({"allowSpoofedSourcePrefixes": ["x"]}),
                "spec.allowSpoofedSourcePrefixes[0]",
                "x",
            ),
        ],
    );
}

#[test]
fn nodes() {
    accept(
        Kind::Node,
        "n",
        &[
            json!({}),
            json!({"bgp": {"asNumber": "1.10"}}),
            json!({"bgp": {"ipv4Address": "10.0.0.1"}}),
        ],
    );
    refuse(
        Kind::Node,
        "n",
        &[
            (json!({"bgp": {}}), "spec.bgp", "empty"),
            (
                json!({"bgp": {"ipv4Address": "fd00::1/64"}}),
                "spec.bgp.ipv4Address",
                "family",
            ),
            (json!({"bgp": {"ipv6Address": "x"}}), "spec.bgp.ipv6Address", "x"),
            (
                json!({"ipv4VXLANTunnelAddr": "10.0.0.0/24"}),
                "spec.ipv4VXLANTunnelAddr",
                "IPv4",
            ),
            (
                json!({"vxlanTunnelMACAddrV6": "zz"}),
                "spec.vxlanTunnelMACAddrV6",
                "MAC",
            ),
            (
                json!({"wireguard": {"interfaceIPv6Address": "10.0.0.1"}}),
                "spec.wireguard.interfaceIPv6Address",
                "IPv6",
            ),
            (
                json!({"addresses": [{"address": "x"}]}),
                "spec.addresses[0].address",
                "address",
            ),
            (
                json!({"addresses": [{"address": "::1", "type": "Home"}]}),
                "spec.addresses[0].type",
                "InternalIP",
            ),
            (
                json!({"orchRefs": [{}]}),
                "spec.orchRefs[0].orchestrator",
                "given",
            ),
        ],
    );
}

#[test]
fn pools() {
    let with = |cidr: &str, field: &str, value: Value| json!({"cidr": cidr, field: value});
    let v4 = "10.0.0.0/16";
    let lb = |field: &str, value: Value| json!({"cidr": v4, "allowedUses": ["LoadBalancer"], field: value});
    accept(
        Kind::IpPool,
        "p",
        &[
            json!({"cidr": v4}),
            json!({"cidr": "10.0.0.0/26"}),
            with(v4, "blockSize", json!(20)),
            with("10.0.0.0/32", "blockSize", json!(32)),
            with("fd00::/64", "blockSize", json!(116)),
            with("fd00::/64", "vxlanMode", json!("Always")),
            with("10.0.0.0/30", "disabled", json!(true)),
            with(v4, "namespaceSelector", json!("has(a)")),
            lb("natOutgoing", json!(true)),
        ],
    );
    refuse(
        Kind::IpPool,
        "p",
        &[
            (json!({}), "spec.cidr", "range"),
            (json!({"cidr": "10.0.0.0"}), "spec.cidr", "prefix length"),
            (json!({"cidr": "10.0.0.0/x"}), "spec.cidr", "10.0.0.0/x"),
            (json!({"cidr": "10.0.1.0/16"}), "spec.cidr", "10.0.0.0/16"),
            (json!({"cidr": "169.254.1.0/24"}), "spec.cidr", "169.254.0.0/16"),
            (json!({"cidr": "168.0.0.0/6"}), "spec.cidr", "169.254.0.0/16"),
            (json!({"cidr": "fe80:1::/64"}), "spec.cidr", "fe80::/10"),
            (json!({"cidr": "::/0"}), "spec.cidr", "fe80::/10"),
            (json!({"cidr": "10.0.0.0/27"}), "spec.cidr", "block"),
            (json!({"cidr": "fd00::/123"}), "spec.cidr", "block"),
            (with(v4, "blockSize", json!(19)), "spec.blockSize", "20 to 32"),
            (with(v4, "blockSize", json!(33)), "spec.blockSize", "20 to 32"),
            (
                with("fd00::/64", "blockSize", json!(26)),
                "spec.blockSize",
                "116 to 128",
            ),
            (
                with("fd00::/64", "ipipMode", json!("Always")),
                "spec.ipipMode",
                "IPv6",
            ),
            (
                json!({"cidr": v4, "ipipMode": "Always", "vxlanMode": "CrossSubnet"}),
                "spec.ipipMode",
                "vxlanMode",
            ),
            (with(v4, "nodeSelector", json!("has(")), "spec.nodeSelector", ""),
            (
                with(v4, "nodeSelector", json!("global()")),
                "spec.nodeSelector",
                "global()",
            ),
            (
                with(v4, "namespaceSelector", json!("global()")),
                "spec.namespaceSelector",
                "global()",
            ),
            (
                with(v4, "allowedUses", json!(["Workload", "Workload"])),
                "spec.allowedUses[1]",
                "twice",
            ),
            (
                with(v4, "allowedUses", json!(["LoadBalancer", "Tunnel"])),
                "spec.allowedUses",
                "own",
            ),
            (
                json!({"cidr": v4, "allowedUses": ["Tunnel"], "namespaceSelector": "has(a)"}),
                "spec.namespaceSelector",
                "Tunnel",
            ),
            (lb("vxlanMode", json!("Always")), "spec.vxlanMode", "Never"),
            (lb("ipipMode", json!("Always")), "spec.ipipMode", "Never"),
            (
                lb("disableBGPExport", json!(true)),
                "spec.disableBGPExport",
                "LoadBalancer",
            ),
            (lb("nodeSelector", json!("has(a)")), "spec.nodeSelector", "all()"),
        ],
    );
}

#[test]
fn ipam() {
    refuse(
        Kind::IpamConfiguration,
        "default",
        &[
            (json!({"maxBlocksPerHost": -1}), "spec.maxBlocksPerHost", "0 to"),
            (
                json!({"ipCooldownSeconds": 1201}),
                "spec.ipCooldownSeconds",
                "1200",
            ),
            (
                json!({"kubeVirtVMAddressPersistence": "On"}),
                "spec.kubeVirtVMAddressPersistence",
                "Enabled",
            ),
            (
                json!({"strictAffinity": false, "autoAllocateBlocks": false}),
                "spec.autoAllocateBlocks",
                "strictAffinity",
            ),
        ],
    );
    refuse(
        Kind::IpReservation,
        "r",
        &[(json!({"reservedCIDRs": ["x"]}), "spec.reservedCIDRs[0]", "x")],
    );
    refuse(
        Kind::BlockAffinity,
        "a",
        &[
            (
                json!({"state": "confirmed", "node": "n", "cidr": "10.0.0.1/26"}),
                "spec.cidr",
                "10.0.0.0/26",
            ),
            (
                json!({"state": "sure", "node": "n", "cidr": "10.0.0.0/26"}),
                "spec.state",
                "pendingDeletion",
            ),
            (json!({"state": "", "cidr": "10.0.0.0/26"}), "spec.node", "owner"),
        ],
    );
    refuse(
        Kind::IpamHandle,
        "h",
        &[(json!({"handleID": "h", "block": {"x": 1}}), "spec.block.x", "x")],
    );
    let block = |field: &str, value: Value| {
        let mut b =
            json!({"cidr": "10.0.0.0/31", "allocations": [0, null], "unallocated": [1], "attributes": [{}]});
        b[field] = value;
        b
    };
    accept(
        Kind::IpamBlock,
        "b",
        &[block("affinity", json!("virtual:load-balancer"))],
    );
    refuse(
        Kind::IpamBlock,
        "b",
        &[
            (
                block("cidr", json!("10.0.0.0/30")),
                "spec.allocations",
                "4 entries",
            ),
            (
                block("allocations", json!([1, null])),
                "spec.allocations[0]",
                "attributes",
            ),
            (
                block("unallocated", json!([2])),
                "spec.unallocated[0]",
                "2 addresses",
            ),
            (
                block("unallocated", json!([1, 1])),
                "spec.unallocated[1]",
                "twice",
            ),
            (block("affinity", json!("node:x")), "spec.affinity", "host:<node>"),
        ],
    );
}

#[test]
fn bgp_configurations() {
    refuse(
        Kind::BgpConfiguration,
        "default",
        &[
            (
                json!({"logSeverityScreen": "Loud"}),
                "spec.logSeverityScreen",
                "Info",
            ),
            (
                json!({"nodeToNodeMeshEnabled": false, "nodeMeshPassword": {}}),
                "spec.nodeMeshPassword",
                "nodeToNodeMeshEnabled",
            ),
            (
                json!({"nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "1s"}),
                "spec.nodeMeshMaxRestartTime",
                "nodeToNodeMeshEnabled",
            ),
            (
                json!({"nodeMeshPassword": {"secretKeyRef": {"name": "s"}}}),
                "spec.nodeMeshPassword.secretKeyRef.key",
                "key",
            ),
            (
                json!({"communities": [{"name": "a", "value": "1:2"}]}),
                "spec.communities",
                "prefixAdvertisements",
            ),
            (
                json!({"communities": [{"name": "a", "value": "1:65536"}]}),
                "spec.communities[0].value",
                "65535",
            ),
            (
                json!({"communities": [{"name": "a", "value": "1"}]}),
                "spec.communities[0].value",
                "aa:nn",
            ),
            (
                json!({"prefixAdvertisements": [{"cidr": "x"}]}),
                "spec.prefixAdvertisements[0].cidr",
                "x",
            ),
            (
                json!({"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["a"]}]}),
                "spec.prefixAdvertisements[0].communities[0]",
                "aa:nn",
            ),
            (
                json!({"serviceClusterIPs": [{"cidr": "x"}]}),
                "spec.serviceClusterIPs[0].cidr",
                "x",
            ),
            (json!({"listenPort": 0}), "spec.listenPort", "65535"),
            (
                json!({"ignoredInterfaces": ["a b"]}),
                "spec.ignoredInterfaces[0]",
                "interface",
            ),
            (
                json!({"localWorkloadPeeringIPV4": "::1"}),
                "spec.localWorkloadPeeringIPV4",
                "IPv4",
            ),
            (
                json!({"ipv6NormalRoutePriority": 0}),
                "spec.ipv6NormalRoutePriority",
                "1 to",
            ),
        ],
    );
}

#[test]
fn bgp_peers() {
    accept(
        Kind::BgpPeer,
        "p",
        &[
            json!({}),
            json!({"peerIP": "[fd00::1]:179", "asNumber": 1}),
            json!({"localWorkloadSelector": "has(a)", "asNumber": 1}),
        ],
    );
    refuse(
        Kind::BgpPeer,
        "p",
        &[
            (
                json!({"node": "n", "nodeSelector": "all()"}),
                "spec.node",
                "nodeSelector",
            ),
            (
                json!({"peerIP": "10.0.0.1", "peerSelector": "all()"}),
                "spec.peerIP",
                "peerSelector",
            ),
            (
                json!({"peerSelector": "all()", "asNumber": 1}),
                "spec.asNumber",
                "peerSelector",
            ),
            (
                json!({"localWorkloadSelector": "all()", "asNumber": 1, "peerIP": "10.0.0.1"}),
                "spec.peerIP",
                "localWorkloadSelector",
            ),
            (
                json!({"localWorkloadSelector": "all()", "peerSelector": "all()"}),
                "spec.peerSelector",
                "localWorkloadSelector",
            ),
            (
                json!({"localWorkloadSelector": "all()"}),
                "spec.asNumber",
                "needed",
            ),
            (json!({"reachableBy": "10.0.0.1"}), "spec.reachableBy", "peerIP"),
            (
                json!({"peerIP": "fd00::1", "reachableBy": "10.0.0.1"}),
                "spec.reachableBy",
                "family",
            ),
            (
                json!({"peerIP": "fd00::1", "reachableBy": "x"}),
                "spec.reachableBy",
                "address",
            ),
            (
                json!({"keepOriginalNextHop": true, "nextHopMode": "Keep"}),
                "spec.keepOriginalNextHop",
                "nextHopMode",
            ),
            (json!({"peerIP": "10.0.0.1:0"}), "spec.peerIP", "192.0.2.1:179"),
            (json!({"peerIP": "host"}), "spec.peerIP", "192.0.2.1:179"),
            (json!({"nodeSelector": "("}), "spec.nodeSelector", ""),
            (json!({"filters": ["A"]}), "spec.filters[0]", "name"),
        ],
    );
}

#[test]
fn bgp_filters() {
    let rule = |r: Value| json!({"importV4": [r]});
    refuse(
        Kind::BgpFilter,
        "f",
        &[
            (
                rule(json!({"action": "Accept", "cidr": "10.0.0.0/8"})),
                "spec.importV4[0].matchOperator",
                "cidr",
            ),
            (
                rule(json!({"action": "Accept", "matchOperator": "In"})),
                "spec.importV4[0].matchOperator",
                "cidr",
            ),
            (
                rule(json!({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"})),
                "spec.importV4[0].cidr",
                "family",
            ),
            (
                rule(json!({"action": "Accept", "prefixLength": {"min": 8}})),
                "spec.importV4[0].prefixLength",
                "cidr",
            ),
            (
                rule(json!({"action": "Accept", "prefixLength": {"max": 33}})),
                "spec.importV4[0].prefixLength.max",
                "32",
            ),
            (
                rule(json!({"action": "Accept", "prefixLength": {"min": 9, "max": 8}})),
                "spec.importV4[0].prefixLength.min",
                "max",
            ),
            (
                rule(json!({"action": "Reject", "operations": [{"setPriority": {"value": 1}}]})),
                "spec.importV4[0].operations",
                "Accept",
            ),
            (
                rule(json!({"action": "Accept", "operations": [{}]})),
                "spec.importV4[0].operations[0]",
                "exactly one",
            ),
            (
                rule(json!({"action": "Accept", "operations": [{"setPriority": {"value": 0}}]})),
                "spec.importV4[0].operations[0].setPriority.value",
                "1 to",
            ),
            (
                rule(json!({"action": "Accept", "operations": [{"prependASPath": {"prefix": []}}]})),
                "spec.importV4[0].operations[0].prependASPath.prefix",
                "1 to 10",
            ),
            (
                rule(json!({"action": "Accept", "operations": [{"addCommunity": {"value": "x"}}]})),
                "spec.importV4[0].operations[0].addCommunity.value",
                "aa:nn",
            ),
            (
                rule(json!({"action": "Accept", "communities": {"values": ["1:1", "2:2"]}})),
                "spec.importV4[0].communities.values",
                "one",
            ),
            (
                rule(json!({"action": "Accept", "interface": "a b"})),
                "spec.importV4[0].interface",
                "interface",
            ),
            (
                rule(json!({"action": "Accept", "priority": 0})),
                "spec.importV4[0].priority",
                "1 to",
            ),
        ],
    );
}

#[test]
fn cluster_settings() {
    refuse(
        Kind::KubeControllersConfiguration,
        "default",
        &[
            (
                json!({"logSeverityScreen": "Loud"}),
                "spec.logSeverityScreen",
                "Info",
            ),
            (
                json!({"prometheusMetricsPort": 65536}),
                "spec.prometheusMetricsPort",
                "65535",
            ),
            (
                json!({"controllers": {"node": {"hostEndpoint": {"templates": [{"nodeSelector": "("}]}}}}),
                "spec.controllers.node.hostEndpoint.templates[0].nodeSelector",
                "",
            ),
        ],
    );
    refuse(
        Kind::CalicoNodeStatus,
        "s",
        &[
            (json!({}), "spec.node", "node"),
            (
                json!({"node": "n", "updatePeriodSeconds": 86401}),
                "spec.updatePeriodSeconds",
                "86400",
            ),
            (
                json!({"node": "n", "classes": ["BGP", "BGP"]}),
                "spec.classes[1]",
                "twice",
            ),
        ],
    );
    for (name, spec, good) in [
        ("default", json!({}), true),
        ("default", json!({"nodeSelector": "all()"}), false),
        ("node.a", json!({"nodeSelector": "all()"}), false),
        ("other", json!({"nodeSelector": "all()"}), true),
        ("other", json!({"nodeSelector": "("}), false),
        ("other", json!({"nodeSelector": 5}), false),
    ] {
        let e = errors(Kind::FelixConfiguration, name, spec.clone());
        assert_eq!(e.is_empty(), good, "{name} {spec}: {e:?}");
        assert!(good || e[0].starts_with("spec.nodeSelector: "), "{e:?}");
    }
}

#[test]
fn long_values_are_shortened_in_errors() {
    let e = errors(Kind::NetworkSet, "x", json!({"nets": ["é".repeat(10_000)]}));
    assert!(e.len() == 1 && e[0].chars().count() < 400, "{e:?}");
}

/// Any JSON, with the names that specs use more likely than others.
fn any_value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("cidr"),
        Just("ingress"),
        Just("egress"),
        Just("source"),
        Just("destination"),
        Just("nets"),
        Just("ports"),
        Just("selector"),
        Just("action"),
        Just("protocol"),
        Just("services"),
        Just("name"),
        Just("node"),
        Just("blockSize"),
        Just("allocations"),
        Just("icmp"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!("Allow")),
        Just(json!("10.0.0.0/8")),
        Just(json!("fd00::/129")),
        Just(json!("a == 'b'")),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|f| Value::Object(f.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_on_any_spec(kind in proptest::sample::select(Kind::ALL), spec in any_value()) {
        if let Ok(mut r) = Resource::from_value(kind, json!({"metadata": {"name": "a"}, "spec": spec})) {
            let _ = validate(&r);
            caracal_api::default_resource(&mut r);
            let _ = validate(&r);
        }
        let object = json!({"apiVersion": "projectcalico.org/v3", "kind": kind.as_str(), "metadata": {"name": "a"}, "spec": spec});
        for doc in parse("x", &object.to_string()) {
            if let Err(e) = doc {
                prop_assert!(!e.to_string().is_empty());
            }
        }
    }
}
