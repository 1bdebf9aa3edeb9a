//! An example of each kind goes through manifest, defaults, validation and back without loss.

use caracal_api::{Kind, ManifestObject, Resource, default_resource, parse, to_yaml, validate};
use serde_json::{Value, json};

fn rules() -> Value {
    json!([
        {
            "action": "Allow", "ipVersion": 4, "protocol": "TCP", "notProtocol": "UDP",
            "source": {"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"], "selector": "a == 'b'", "notSelector": "has(c)",
                "namespaceSelector": "all()", "serviceAccounts": {"names": ["web"], "selector": "has(x)"}},
            "destination": {"ports": [80, "81:90", "http"], "notPorts": [85]},
            "metadata": {"annotations": {"why": "because"}},
        },
        {"action": "Pass", "protocol": 1, "icmp": {"type": 8, "code": 0}, "notICMP": {"type": 3}},
        {"action": "Log"},
        {"action": "Deny", "source": {"namespaceSelector": "global()"}},
    ])
}

fn egress() -> Value {
    json!([{"action": "Allow", "destination": {"services": {"name": "db", "namespace": "prod"}}}])
}

/// A spec of each kind with as many fields as can stand together.
fn example(kind: Kind) -> Value {
    let ingress = rules();
    let egress = egress();
    match kind {
        Kind::NetworkPolicy => json!({
            "tier": "default", "order": 1.5, "selector": "role == 'web'", "types": ["Ingress", "Egress"], "ingress": ingress,
            "egress": egress, "serviceAccountSelector": "has(a)", "performanceHints": ["AssumeNeededOnEveryNode"],
        }),
        Kind::StagedNetworkPolicy => {
            json!({"stagedAction": "Learn", "tier": "t", "ingress": ingress, "types": ["Ingress"]})
        }
        Kind::GlobalNetworkPolicy => json!({
            "tier": "t", "order": 10, "ingress": ingress, "egress": egress, "selector": "all()", "types": ["Ingress", "Egress"],
            "doNotTrack": true, "applyOnForward": true, "namespaceSelector": "has(a)", "serviceAccountSelector": "has(b)",
        }),
        Kind::StagedGlobalNetworkPolicy => {
            json!({"stagedAction": "Ignore", "tier": "t", "preDNAT": true, "applyOnForward": true, "types": ["Ingress"]})
        }
        Kind::StagedKubernetesNetworkPolicy => json!({
            "stagedAction": "Set", "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]},
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80, "endPort": 90}, {"port": "http", "protocol": "UDP"}]}],
            "egress": [{"to": [{"podSelector": {}, "namespaceSelector": {}}]}], "policyTypes": ["Ingress", "Egress"],
        }),
        Kind::Tier => json!({"order": 7, "defaultAction": "Pass"}),
        Kind::NetworkSet | Kind::GlobalNetworkSet => json!({"nets": ["10.0.0.0/8", "fd00::1", "0.0.0.0/0"]}),
        Kind::Profile => {
            json!({"ingress": [{"action": "Allow"}], "egress": [{"action": "Deny"}], "labelsToApply": {"pcns.a": "b"}})
        }
        Kind::WorkloadEndpoint => json!({
            "orchestrator": "k8s", "workload": "w", "node": "n", "containerID": "AB12", "pod": "p", "endpoint": "eth0", "serviceAccountName": "sa",
            "ipNetworks": ["10.0.0.1/32", "fd00::1/128"], "ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "192.0.2.1"}],
            "ipv4Gateway": "169.254.1.1", "ipv6Gateway": "fe80::1", "profiles": ["kns.a"], "interfaceName": "cali123", "mac": "02:00:00:00:00:01",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 8080, "hostIP": "1.2.3.4"}],
            "allowSpoofedSourcePrefixes": ["192.0.2.0/24"], "qosControls": {"ingressBandwidth": 1000},
        }),
        Kind::HostEndpoint => {
            json!({"node": "n", "interfaceName": "*", "expectedIPs": ["10.0.0.1", "fd00::1"], "profiles": ["p"], "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}]})
        }
        Kind::Node => json!({
            "bgp": {"asNumber": 64512, "ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64", "ipv4IPIPTunnelAddr": "10.1.0.1", "routeReflectorClusterID": "1.0.0.1"},
            "ipv4VXLANTunnelAddr": "10.2.0.1", "vxlanTunnelMACAddr": "66:00:00:00:00:01", "ipv6VXLANTunnelAddr": "fd01::1", "vxlanTunnelMACAddrV6": "66:00:00:00:00:02",
            "orchRefs": [{"nodeName": "n", "orchestrator": "k8s"}], "wireguard": {"interfaceIPv4Address": "10.3.0.1", "interfaceIPv6Address": "fd03::1"},
            "addresses": [{"address": "10.0.0.1/24", "type": "CalicoNodeIP"}, {"address": "10.0.0.2"}],
        }),
        Kind::IpPool => json!({
            "cidr": "10.0.0.0/16", "vxlanMode": "CrossSubnet", "ipipMode": "Never", "natOutgoing": true, "disabled": true, "disableBGPExport": true,
            "blockSize": 28, "nodeSelector": "has(a)", "allowedUses": ["Workload"], "namespaceSelector": "has(b)", "assignmentMode": "Manual",
        }),
        Kind::IpReservation => json!({"reservedCIDRs": ["10.0.0.1/32", "fd00::/64"]}),
        Kind::IpamConfiguration => {
            json!({"strictAffinity": true, "maxBlocksPerHost": 4, "autoAllocateBlocks": false, "kubeVirtVMAddressPersistence": "Enabled", "ipCooldownSeconds": 30})
        }
        Kind::IpamBlock => json!({
            "cidr": "10.0.0.0/30", "affinity": "host:node-1", "affinityClaimTime": "2026-01-01T00:00:00Z", "allocations": [0, null, null, null], "unallocated": [1, 2, 3],
            "attributes": [{"handle_id": "h", "secondary": {"pod": "p"}}], "sequenceNumber": 5, "sequenceNumberForAllocation": {"0": 4}, "deleted": true, "strictAffinity": true,
        }),
        Kind::IpamHandle => json!({"handleID": "H.1", "block": {"10.0.0.0/26": 2}, "deleted": true}),
        Kind::BlockAffinity => {
            json!({"state": "confirmed", "node": "n", "type": "host", "cidr": "10.0.0.0/26", "deleted": true})
        }
        Kind::ClusterInformation => {
            json!({"clusterGUID": "g", "clusterType": "a,b", "calicoVersion": "v", "datastoreReady": true, "variant": "x"})
        }
        Kind::BgpConfiguration => json!({
            "logSeverityScreen": "Debug", "nodeToNodeMeshEnabled": true, "asNumber": 65000, "serviceLoadBalancerIPs": [{"cidr": "10.0.0.0/8"}],
            "serviceExternalIPs": [{"cidr": "10.0.0.1"}], "serviceClusterIPs": [{"cidr": "fd00::/108"}], "serviceLoadBalancerAggregation": "Disabled",
            "communities": [{"name": "c", "value": "1:2"}], "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["c", "1:2:3"]}], "listenPort": 1179,
            "nodeMeshPassword": {"secretKeyRef": {"name": "s", "key": "k"}}, "nodeMeshMaxRestartTime": "2m0s", "bindMode": "NodeIP", "ignoredInterfaces": ["eth*"],
            "localWorkloadPeeringIPV4": "169.254.1.2", "localWorkloadPeeringIPV6": "fe80::2", "programClusterRoutes": "EnabledIPIPOnly",
            "ipv4NormalRoutePriority": 100, "ipv6NormalRoutePriority": 200,
        }),
        Kind::BgpPeer => json!({
            "nodeSelector": "has(rr)", "peerIP": "192.0.2.1:1179", "asNumber": 65001, "localASNumber": 65002, "nextHopMode": "Self",
            "password": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}, "sourceAddress": "None", "maxRestartTime": "1m0s", "keepaliveTime": "30s",
            "numAllowedLocalASNumbers": 1, "ttlSecurity": 1, "reachableBy": "192.0.2.2", "filters": ["f"], "reversePeering": "Manual",
        }),
        Kind::BgpFilter => json!({
            "exportV4": [{"cidr": "10.0.0.0/8", "prefixLength": {"min": 16, "max": 24}, "source": "RemotePeers", "interface": "eth*", "matchOperator": "In", "peerType": "eBGP",
                "communities": {"values": ["1:2"]}, "asPathPrefix": [65000], "priority": 5, "action": "Accept",
                "operations": [{"addCommunity": {"value": "1:2:3"}}, {"prependASPath": {"prefix": [65000]}}, {"setPriority": {"value": 7}}]}],
            "importV6": [{"cidr": "fd00::/8", "matchOperator": "NotEqual", "action": "Reject"}],
        }),
        Kind::KubeControllersConfiguration => json!({
            "logSeverityScreen": "Info", "healthChecks": "Disabled", "etcdV3CompactionPeriod": "10m0s", "prometheusMetricsPort": 0, "debugProfilePort": 9094,
            "controllers": {
                "node": {"reconcilerPeriod": "5m0s", "syncLabels": "Enabled", "hostEndpoint": {"autoCreate": "Enabled", "createDefaultHostEndpoint": "Disabled",
                    "templates": [{"generateName": "x", "interfaceCIDRs": ["10.0.0.0/8"], "interfacePattern": "eth.*", "nodeSelector": "has(a)", "labels": {"a": "b"}, "annotations": {"c": "d"}}]}, "leakGracePeriod": "15m0s"},
                "policy": {"reconcilerPeriod": "5m0s"}, "workloadEndpoint": {}, "serviceAccount": {}, "namespace": {},
                "loadBalancer": {"assignIPs": "RequestedServicesOnly"}, "migration": {"policyNameMigrator": "Disabled"},
            },
        }),
        Kind::CalicoNodeStatus => {
            json!({"node": "n", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 10})
        }
        Kind::KubernetesService => json!({
            "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd96::10"], "externalIPs": ["192.0.2.1"], "selector": {"app": "a"},
            "ports": [{"name": "web", "protocol": "TCP", "port": 80, "targetPort": "http"}, {"port": 53, "protocol": "UDP", "targetPort": 5353}],
        }),
        Kind::KubernetesEndpointSlice => json!({
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}, {"addresses": []}],
            "ports": [{"name": "web", "protocol": "TCP", "port": 8080}, {}],
        }),
        Kind::LiveMigration => json!({
            "Source": {"Workload": {"Hostname": "n1", "OrchestratorID": "k8s", "WorkloadID": "ns/vm"}},
            "Target": {"WorkloadEndpoint": {"Hostname": "n2", "OrchestratorID": "openstack", "WorkloadID": "w", "EndpointID": "e"}},
        }),
        Kind::FelixConfiguration => {
            json!({"nodeSelector": "has(a)", "logSeverityScreen": "Info", "routeTableRanges": [{"min": 1, "max": 2}]})
        }
    }
}

#[test]
fn every_kind_goes_through_without_loss() {
    for kind in Kind::ALL {
        let name = match kind {
            Kind::ClusterInformation | Kind::IpamConfiguration | Kind::KubeControllersConfiguration => {
                "default"
            }
            _ => "example",
        };
        let mut meta = json!({"name": name, "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"l": "1"}, "annotations": {"a.b/c": "2"}});
        if kind.namespaced() {
            meta["namespace"] = json!("ns");
        }
        let object = json!({"apiVersion": "projectcalico.org/v3", "kind": kind.as_str(), "metadata": meta, "spec": example(*kind)});
        let docs = parse("example", &object.to_string());
        let ManifestObject::Calico(r) = docs[0].as_ref().unwrap_or_else(|e| panic!("{e}")).object.clone()
        else {
            panic!("{kind} is foreign");
        };
        assert_eq!(normal(&r.to_value()), normal(&object), "{kind}");
        let again = parse("example", &to_yaml(&r));
        assert_eq!(
            again[0].as_ref().unwrap_or_else(|e| panic!("{e}")).object,
            ManifestObject::Calico(r.clone()),
            "{kind}"
        );
        let mut defaulted = r.clone();
        default_resource(&mut defaulted);
        let bad = validate(&defaulted);
        assert!(bad.is_empty(), "{kind}: {bad:?}");
        assert_eq!(
            Resource::from_slice(*kind, r.to_value().to_string().as_bytes()).expect("reads"),
            r
        );
    }
}

/// The same whatever the order of fields.
fn normal(v: &Value) -> Value {
    match v {
        Value::Object(m) => {
            let mut fields: Vec<_> = m.iter().map(|(k, v)| (k.clone(), normal(v))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(a) => a.iter().map(normal).collect(),
        other => other.clone(),
    }
}

#[test]
fn statuses_go_through() {
    for (kind, status) in [
        (
            Kind::Tier,
            json!({"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 3}]}),
        ),
        (
            Kind::CalicoNodeStatus,
            json!({
                "lastUpdated": "2026-01-01T00:00:00Z",
                "agent": {"birdV4": {"state": "Ready", "version": "2", "routerID": "r", "lastBootTime": "b", "lastReconfigurationTime": "c"}, "birdV6": {}},
                "bgp": {"numberEstablishedV4": 1, "numberNotEstablishedV4": 0, "numberEstablishedV6": 0, "numberNotEstablishedV6": 0,
                    "peersV4": [{"peerIP": "192.0.2.1", "type": "NodeMesh", "state": "Established", "since": "s"}]},
                "routes": {"routesV6": [{"type": "FIB", "destination": "d", "gateway": "g", "interface": "i", "learnedFrom": {"sourceType": "BGPPeer", "peerIP": "p"}}]},
            }),
        ),
        (
            Kind::Node,
            json!({"wireguardPublicKey": "k", "podCIDRs": ["10.0.0.0/24"], "later": 1}),
        ),
        (
            Kind::KubeControllersConfiguration,
            json!({"runningConfig": {"healthChecks": "Enabled", "controllers": {}}, "environmentVars": {"A": "b"}}),
        ),
    ] {
        let r =
            Resource::from_value(kind, json!({"metadata": {"name": "a"}, "status": status})).expect("reads");
        assert_eq!(normal(&r.to_value()["status"]), normal(&status), "{kind}");
    }
}

#[test]
fn names_on_the_command_line() {
    for (name, kind) in [
        ("networkpolicy", Kind::NetworkPolicy),
        ("NetworkPolicies", Kind::NetworkPolicy),
        ("np", Kind::NetworkPolicy),
        ("policy", Kind::NetworkPolicy),
        ("gnp", Kind::GlobalNetworkPolicy),
        ("gnetsets", Kind::GlobalNetworkSet),
        ("ipp", Kind::IpPool),
        ("pools", Kind::IpPool),
        ("wep", Kind::WorkloadEndpoint),
        ("bgpp", Kind::BgpPeer),
        ("bfs", Kind::BgpFilter),
        ("bgpconfig", Kind::BgpConfiguration),
        ("reservation", Kind::IpReservation),
        ("kubecontrollersconfig", Kind::KubeControllersConfiguration),
        ("nodestatuses", Kind::CalicoNodeStatus),
        ("sknp", Kind::StagedKubernetesNetworkPolicy),
        ("stagedpolicy", Kind::StagedNetworkPolicy),
        ("sgnps", Kind::StagedGlobalNetworkPolicy),
        ("clusterinfo", Kind::ClusterInformation),
        ("no", Kind::Node),
    ] {
        assert_eq!(Kind::from_cli(name), Some(kind), "{name}");
    }
    assert_eq!(Kind::from_cli("nonsense"), None);
    // The rows of the table of names that calicoctl takes.
    assert_eq!(Kind::ALL.iter().filter(|k| k.public()).count(), 22);
    for (i, a) in Kind::ALL.iter().enumerate() {
        for b in &Kind::ALL[i + 1..] {
            assert!(
                a.aliases()
                    .iter()
                    .all(|x| !b.aliases().contains(x) && *x != b.plural()),
                "{a} and {b}"
            );
        }
    }
}
