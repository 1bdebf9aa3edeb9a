//! §3.4, §3.11 and §3.12: what Kubernetes' objects become, and mean then.

use serde_json::{Value, json};

use super::{World, allow, deny};

/// What pod 0 says of itself; `more` overrides it.
fn pod(more: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "web", "namespace": "red", "labels": {"app": "pod"}},
        "spec": {"nodeName": "here", "serviceAccountName": "robot", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    });
    merge(&mut pod, more);
    pod
}

/// A pod elsewhere with the address of a stranger.
fn peer(more: Value) -> Value {
    let mut peer = pod(json!({
        "metadata": {"name": "peer", "labels": {"app": "peer"}}, "spec": {"nodeName": "elsewhere"},
        "status": {"podIPs": [{"ip": "192.0.2.9"}]},
    }));
    merge(&mut peer, more);
    peer
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (field, value) in more {
                merge(into.entry(field).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

/// The pod is the one behind cali0, and open to peers only.
fn among_peers(w: &mut World<'_>) {
    let from_peers = json!([{"action": "Allow", "source": {"selector": "app == 'peer'"}}]);
    w.rules("p", json!({"ingress": from_peers}));
}

pub(super) fn a_pod_is_an_endpoint_unless_it_has_its_nodes_network_or_no_node(w: &mut World<'_>) {
    among_peers(w);
    w.kube_pod(4, peer(json!({})));
    assert!(w.reached("192.0.2.9", 80));
    w.kube_pod(4, peer(json!({"spec": {"hostNetwork": true}})));
    assert!(!w.reached("192.0.2.9", 80));
    w.kube_pod(4, peer(json!({"spec": {"nodeName": ""}})));
    assert!(!w.reached("192.0.2.9", 80));
}

pub(super) fn a_pod_that_has_ended_is_no_endpoint(w: &mut World<'_>) {
    among_peers(w);
    let deleted = "2026-01-02T03:04:05Z";
    let containers = |state: &str| json!([{"name": "c", "state": {state: {}}}]);
    for (lives, more) in [
        (false, json!({"status": {"phase": "Succeeded"}})),
        (false, json!({"status": {"phase": "Failed"}})),
        (
            false,
            json!({"metadata": {"deletionTimestamp": deleted}, "status": {"containerStatuses": containers("terminated")}}),
        ),
        (
            false,
            json!({"metadata": {"deletionTimestamp": deleted, "annotations": {"cni.projectcalico.org/podIP": ""}}}),
        ),
        (
            true,
            json!({"metadata": {"deletionTimestamp": deleted}, "status": {"containerStatuses": containers("running")}}),
        ),
        (true, json!({"status": {"phase": "Pending"}})),
    ] {
        w.kube_pod(4, peer(more.clone()));
        assert_eq!(w.reached("192.0.2.9", 80), lives, "{more}");
    }
}

pub(super) fn the_addresses_in_a_pods_annotations_come_before_those_of_its_status(w: &mut World<'_>) {
    among_peers(w);
    for annotation in ["cni.projectcalico.org/podIP", "cni.projectcalico.org/podIPs"] {
        w.kube_pod(
            4,
            peer(json!({"metadata": {"annotations": {annotation: "198.51.100.9/32"}}})),
        );
        assert!(w.reached("198.51.100.9", 80) && !w.reached("192.0.2.9", 80));
    }
}

pub(super) fn a_pod_without_policy_is_open_by_its_namespace_and_its_account_has_no_rules(w: &mut World<'_>) {
    w.kube_pod(0, pod(json!({})));
    assert!(
        !w.reached("192.0.2.9", 80),
        "a namespace that is not known denies"
    );
    w.kube_namespace(namespace("red", json!({})));
    w.kube_account(json!({"metadata": {"name": "robot", "namespace": "red"}}));
    assert!(w.reached("192.0.2.9", 80) && w.reaches("192.0.2.9", 80));
    let only = |profile: &str| json!({"profiles": [profile]});
    w.kube_pod(0, pod(json!({"spec": {"hostNetwork": true}})));
    w.pod(0, "red", json!({}), only("ksa.red.robot"));
    assert!(!w.reached("192.0.2.9", 80) && !w.reaches("192.0.2.9", 80));
    w.pod(0, "red", json!({}), only("kns.red"));
    assert!(w.reached("192.0.2.9", 80) && w.reaches("192.0.2.9", 80));
}

pub(super) fn a_pods_namespace_and_account_are_where_it_is_whatever_its_labels_say(w: &mut World<'_>) {
    w.kube_namespace(namespace("red", json!({"team": "x"})));
    w.kube_account(json!({"metadata": {"name": "robot", "namespace": "red", "labels": {"kind": "machine"}}}));
    let liar = json!({"metadata": {"labels": {
        "projectcalico.org/namespace": "blue", "projectcalico.org/serviceaccount": "human",
        "projectcalico.org/orchestrator": "none",
    }}});
    w.kube_pod(0, pod(liar));
    for (selects, more) in [
        (true, json!({"selector": "projectcalico.org/namespace == 'red'"})),
        (
            false,
            json!({"selector": "projectcalico.org/namespace == 'blue'"}),
        ),
        (
            true,
            json!({"selector": "projectcalico.org/serviceaccount == 'robot'"}),
        ),
        (
            false,
            json!({"selector": "projectcalico.org/orchestrator == 'none'"}),
        ),
        (
            true,
            json!({"selector": "all()", "namespaceSelector": "team == 'x'"}),
        ),
        (
            true,
            json!({"selector": "all()", "serviceAccountSelector": "kind == 'machine'"}),
        ),
        (
            false,
            json!({"selector": "all()", "serviceAccountSelector": "kind == 'person'"}),
        ),
    ] {
        w.rules("p", more.clone());
        assert_eq!(!w.reached("192.0.2.9", 80), selects, "{more}");
    }
}

pub(super) fn ports_of_a_pods_containers_have_names_init_containers_too(w: &mut World<'_>) {
    w.kube_namespace(namespace("red", json!({})));
    let port =
        |name: &str, port: u16| json!([{"name": "c", "ports": [{"name": name, "containerPort": port}]}]);
    w.kube_pod(
        0,
        pod(json!({"spec": {"containers": port("http", 8080), "initContainers": port("setup", 8081)}})),
    );
    let named = json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": ["http", "setup"]}}]);
    w.rules("p", json!({"ingress": named}));
    assert!(w.reached("192.0.2.9", 8080) && w.reached("192.0.2.9", 8081) && !w.reached("192.0.2.9", 80));
}

/// Kubernetes' policy of namespace red.
fn policy(w: &mut World<'_>, spec: Value) {
    w.kube_policy(json!({"metadata": {"name": "p", "namespace": "red"}, "spec": spec}));
}

pub(super) fn a_kubernetes_policy_governs_ingress_and_egress_only_if_it_says_so(w: &mut World<'_>) {
    policy(w, json!({"podSelector": {}}));
    assert!(!w.reached("192.0.2.9", 80) && w.reaches("192.0.2.9", 80));
    policy(w, json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    assert!(w.reached("192.0.2.9", 80) && !w.reaches("192.0.2.9", 80));
    policy(
        w,
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]}),
    );
    assert!(w.reached("192.0.2.9", 80) && !w.reaches("192.0.2.9", 80));
    policy(w, json!({"podSelector": {"matchLabels": {"app": "other"}}}));
    assert!(w.reached("192.0.2.9", 80), "it is for others");
}

pub(super) fn a_kubernetes_policy_stands_in_tier_default_at_order_1000(w: &mut World<'_>) {
    policy(w, json!({"podSelector": {}, "ingress": [{}]}));
    w.rules("late", json!({"order": 1001, "ingress": deny(80)}));
    assert!(w.reached("192.0.2.9", 80));
    w.rules("early", json!({"order": 999, "ingress": deny(80)}));
    assert!(!w.reached("192.0.2.9", 80));
    w.rules("early", json!({"order": 999, "ingress": allow(81)}));
    policy(w, json!({"podSelector": {}}));
    assert!(w.reached("192.0.2.9", 81) && !w.reached("192.0.2.9", 80));
}

/// A cluster policy for all pods; `more` overrides what it says.
fn cluster(w: &mut World<'_>, name: &str, more: Value) {
    let mut spec = json!({"tier": "Admin", "priority": 10, "subject": {"namespaces": {}}});
    merge(&mut spec, more);
    w.kube_cluster_policy(json!({"metadata": {"name": name}, "spec": spec}));
}

/// Tiers as they always are, two namespaces, pod 0 in red and a peer in blue.
fn a_cluster(w: &mut World<'_>) {
    for (tier, order) in [("kube-admin", 1e3), ("kube-baseline", 1e7)] {
        w.put("Tier", tier, json!({"order": order, "defaultAction": "Pass"}));
    }
    w.kube_namespace(namespace("red", json!({"team": "x"})));
    w.kube_namespace(namespace("blue", json!({"team": "y"})));
    w.kube_pod(0, pod(json!({})));
    w.kube_pod(4, peer(json!({"metadata": {"namespace": "blue"}})));
}

/// A rule about TCP to a port from all pods.
fn rule(action: &str, port: u16) -> Value {
    json!([{"action": action, "from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": port}}}]}])
}

pub(super) fn cluster_policies_are_before_and_behind_all_others_by_tier_and_priority(w: &mut World<'_>) {
    a_cluster(w);
    w.rules("p", json!({"ingress": allow(80)}));
    cluster(w, "a", json!({"ingress": rule("Deny", 80)}));
    assert!(!w.reached("192.0.2.9", 80), "Admin is before tier default");
    cluster(w, "b", json!({"priority": 9, "ingress": rule("Accept", 80)}));
    assert!(w.reached("192.0.2.9", 80), "the lower priority is first");
    cluster(w, "b", json!({"priority": 11, "ingress": rule("Accept", 80)}));
    assert!(!w.reached("192.0.2.9", 80));
    a_world_of_baseline(w);
}

fn a_world_of_baseline(w: &mut World<'_>) {
    w.clear();
    a_cluster(w);
    cluster(w, "a", json!({"tier": "Baseline", "ingress": rule("Deny", 80)}));
    assert!(
        !w.reached("192.0.2.9", 80) && w.reached("192.0.2.9", 81),
        "Baseline decides where nobody did, before the profiles"
    );
    w.rules("p", json!({"ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 80), "it is behind tier default");
}

pub(super) fn accept_deny_and_pass_of_a_cluster_policy(w: &mut World<'_>) {
    a_cluster(w);
    w.rules("p", json!({"ingress": allow(81)}));
    assert!(!w.reached("192.0.2.9", 80));
    cluster(w, "a", json!({"ingress": rule("Accept", 80)}));
    assert!(
        w.reached("192.0.2.9", 80),
        "what is accepted is asked of nobody else"
    );
    cluster(w, "a", json!({"ingress": rule("Deny", 81)}));
    assert!(!w.reached("192.0.2.9", 81));
    cluster(w, "b", json!({"priority": 1, "ingress": rule("Pass", 81)}));
    assert!(
        w.reached("192.0.2.9", 81),
        "what is passed on is left to the next tier"
    );
}

pub(super) fn subjects_and_peers_of_a_cluster_policy_are_namespaces_pods_and_networks(w: &mut World<'_>) {
    a_cluster(w);
    let labels = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let pods = |team: &str, app: &str| json!({"pods": {"namespaceSelector": labels("team", team), "podSelector": labels("app", app)}});
    let deny_all = json!([{"action": "Deny", "from": [{"namespaces": {}}]}]);
    for (selects, subject) in [
        (true, json!({"namespaces": labels("team", "x")})),
        (false, json!({"namespaces": labels("team", "y")})),
        (true, pods("x", "pod")),
        (false, pods("x", "other")),
        (false, pods("y", "pod")),
    ] {
        let spec = json!({"tier": "Admin", "priority": 10, "subject": subject, "ingress": deny_all});
        w.kube_cluster_policy(json!({"metadata": {"name": "s"}, "spec": spec}));
        assert_eq!(!w.reached("192.0.2.9", 80), selects, "{subject}");
    }
    for (is_peer, peer) in [
        (true, json!({"namespaces": labels("team", "y")})),
        (false, json!({"namespaces": labels("team", "x")})),
        (true, pods("y", "peer")),
        (false, pods("y", "pod")),
    ] {
        cluster(w, "s", json!({"ingress": [{"action": "Deny", "from": [peer]}]}));
        assert_eq!(!w.reached("192.0.2.9", 80), is_peer, "{peer}");
    }
    cluster(
        w,
        "s",
        json!({"ingress": null, "egress": [{"action": "Deny", "to": [{"networks": ["198.51.100.0/24", "2001:db8::/32"]}]}]}),
    );
    assert!(!w.reaches("198.51.100.9", 80) && w.reaches("192.0.2.9", 80));
}

pub(super) fn protocols_of_a_cluster_policy_are_ports_ranges_and_names(w: &mut World<'_>) {
    a_cluster(w);
    let port = json!([{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]);
    w.kube_pod(0, pod(json!({"spec": {"containers": port}})));
    for (denied, open, protocol) in [
        (
            vec![80],
            vec![81],
            json!({"tcp": {"destinationPort": {"number": 80}}}),
        ),
        (
            vec![80, 82],
            vec![79, 83],
            json!({"tcp": {"destinationPort": {"range": {"start": 80, "end": 82}}}}),
        ),
        (vec![80, 8080], vec![], json!({"tcp": {}})),
        (vec![], vec![80], json!({"udp": {}})),
        (vec![8080], vec![80], json!({"destinationNamedPort": "http"})),
    ] {
        let rule = json!([{"action": "Deny", "from": [{"namespaces": {}}], "protocols": [protocol]}]);
        cluster(w, "s", json!({"ingress": rule}));
        for port in denied {
            assert!(!w.reached("192.0.2.9", port), "{port}: {protocol}");
        }
        for port in open {
            assert!(w.reached("192.0.2.9", port), "{port}: {protocol}");
        }
    }
}

pub(super) fn a_rule_that_cannot_be_converted_denies_everything_unless_it_accepts(w: &mut World<'_>) {
    a_cluster(w);
    // Nodes and names of domains are peers that nothing here can match.
    for peer in [
        json!({"nodes": {"matchLabels": {"a": "b"}}}),
        json!({"domainNames": ["example.org"]}),
    ] {
        for (action, open) in [("Accept", true), ("Deny", false), ("Pass", false)] {
            cluster(
                w,
                "s",
                json!({"ingress": null, "egress": [{"action": action, "to": [peer]}]}),
            );
            assert_eq!(w.reaches("192.0.2.9", 80), open, "{action} {peer}");
            assert!(
                w.reached("192.0.2.9", 80),
                "the other direction is another matter"
            );
        }
    }
    // What comes before it is as it says; what cannot be told at all is not there.
    let broken = json!({"action": "Deny", "from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 0}}}]});
    let rules = json!([rule("Accept", 80)[0], broken]);
    cluster(w, "s", json!({"egress": null, "ingress": rules}));
    assert!(w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    cluster(
        w,
        "s",
        json!({"tier": "Middle", "egress": null, "ingress": rules}),
    );
    assert!(w.reached("192.0.2.9", 81));
}
