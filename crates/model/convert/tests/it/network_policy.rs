//! NetworkPolicy: selectors, peers, ports, directions.

use caracal_api::{Resource, value_to_yaml};
use caracal_convert::{KubeNetworkPolicy, foreign, network_policy};
use serde_json::{Value, json};

use crate::object;

const POD: &str = "projectcalico.org/orchestrator == \"k8s\"";

fn text(spec: &Value) -> String {
    value_to_yaml(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "ns"}, "spec": spec,
    }))
}

/// The spec that a Kubernetes spec converts to.
fn spec(spec: &Value) -> Value {
    let mut out = foreign(&object(&text(spec))).unwrap_or_else(|e| panic!("{e}"));
    out.remove(0).to_value()["spec"].take()
}

fn refused(spec: &Value) -> String {
    foreign(&object(&text(spec))).expect_err("refused").to_string()
}

/// The rules of one direction that a Kubernetes rule converts to.
fn ingress(rule: &Value) -> Value {
    spec(&json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]}))["ingress"].take()
}

fn egress(rule: &Value) -> Value {
    spec(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}))["egress"].take()
}

#[test]
fn name_tier_order_and_selector() {
    let f = object(&text(&json!({"podSelector": {"matchLabels": {"app": "web"}}})));
    let out = foreign(&f).expect("converts");
    let Resource::NetworkPolicy(p) = &out[0] else {
        panic!("a policy")
    };
    assert_eq!(
        (p.metadata.name.as_str(), p.metadata.namespace.as_deref()),
        ("knp.default.p", Some("ns"))
    );
    assert_eq!((p.spec.tier.as_str(), p.spec.order), ("default", Some(1000.0)));
    assert_eq!(p.spec.selector, format!("({POD} && app == \"web\")"));
}

#[test]
fn directions() {
    let rule = json!([{}]);
    for (given, types) in [
        (json!({}), json!(["Ingress"])),
        (json!({"ingress": rule}), json!(["Ingress"])),
        (json!({"egress": rule}), json!(["Ingress", "Egress"])),
        (json!({"egress": []}), json!(["Ingress"])),
        (json!({"policyTypes": ["Egress"]}), json!(["Egress"])),
        (
            json!({"policyTypes": ["Egress", "Ingress"]}),
            json!(["Ingress", "Egress"]),
        ),
        (
            json!({"policyTypes": ["Ingress"], "egress": rule}),
            json!(["Ingress"]),
        ),
    ] {
        assert_eq!(spec(&given)["types"], types, "{given}");
    }
}

#[test]
fn no_rules_isolate_and_an_empty_rule_allows_all() {
    assert_eq!(
        spec(&json!({"podSelector": {}, "ingress": []})).get("ingress"),
        None
    );
    let all = json!([{"action": "Allow"}]);
    assert_eq!(ingress(&json!({})), all);
    assert_eq!(ingress(&json!({"from": [], "ports": []})), all);
    assert_eq!(ingress(&json!({"from": null, "ports": null})), all);
    assert_eq!(egress(&json!({"to": []})), all);
}

#[test]
fn every_shape_of_peer() {
    for (peer, entity) in [
        (json!({"podSelector": {}}), json!({"selector": POD})),
        (
            json!({"podSelector": {"matchLabels": {"a": "b"}}}),
            json!({"selector": format!("({POD} && a == \"b\")")}),
        ),
        (
            json!({"namespaceSelector": {}}),
            json!({"namespaceSelector": "all()"}),
        ),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x", "y"]}]}}),
            json!({"namespaceSelector": "team not in {\"x\", \"y\"}"}),
        ),
        (
            json!({"namespaceSelector": {}, "podSelector": {}}),
            json!({"selector": POD, "namespaceSelector": "all()"}),
        ),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "podSelector": {"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}}),
            json!({"selector": format!("({POD} && !has(b))"), "namespaceSelector": "has(a)"}),
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8"}}),
            json!({"nets": ["10.0.0.0/8"]}),
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.3.4/32"]}}),
            json!({"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16", "10.2.3.4/32"]}),
        ),
        (
            json!({"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:1::/32"]}}),
            json!({"nets": ["fd00::/8"], "notNets": ["fd00:1::/32"]}),
        ),
    ] {
        assert_eq!(
            ingress(&json!({"from": [peer]})),
            json!([{"action": "Allow", "source": entity}]),
            "{peer}"
        );
        assert_eq!(
            egress(&json!({"to": [peer]})),
            json!([{"action": "Allow", "destination": entity}]),
            "{peer}"
        );
    }
}

#[test]
fn every_shape_of_port() {
    for (ports, rules) in [
        (json!([{"port": 80}]), json!([["TCP", [80]]])),
        (json!([{"port": "http"}]), json!([["TCP", ["http"]]])),
        (
            json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]),
            json!([["TCP", [53]], ["UDP", [53]]]),
        ),
        (
            json!([{"port": 80}, {"port": 443}, {"port": 80}]),
            json!([["TCP", [80, 443]]]),
        ),
        (
            json!([{"port": 8000, "endPort": 8080}]),
            json!([["TCP", ["8000:8080"]]]),
        ),
        (json!([{"port": 80, "endPort": 80}]), json!([["TCP", [80]]])),
        (json!([{"protocol": "SCTP"}]), json!([["SCTP", null]])),
        (
            json!([{"port": 80}, {"protocol": "TCP"}, {"port": 81}]),
            json!([["TCP", null]]),
        ),
        (json!([{}]), json!([["TCP", null]])),
    ] {
        let expected: Vec<Value> = rules
            .as_array()
            .expect("a list")
            .iter()
            .map(|r| match r[1].is_null() {
                true => json!({"action": "Allow", "protocol": r[0]}),
                false => json!({"action": "Allow", "protocol": r[0], "destination": {"ports": r[1]}}),
            })
            .collect();
        assert_eq!(ingress(&json!({"ports": ports})), json!(expected), "{ports}");
        assert_eq!(egress(&json!({"ports": ports})), json!(expected), "{ports}");
    }
}

#[test]
fn more_ports_than_a_rule_takes_make_more_rules() {
    let ports: Vec<Value> = (1..=120).map(|p| json!({"port": p})).collect();
    let rules = ingress(&json!({"ports": ports}));
    let rules = rules.as_array().expect("a list");
    let ports: Vec<&Value> = rules
        .iter()
        .filter_map(|r| r["destination"]["ports"].as_array())
        .flatten()
        .collect();
    assert_eq!((rules.len(), ports.len(), ports[119]), (3, 120, &json!(120)));
}

#[test]
fn peers_times_protocols() {
    let rules = egress(&json!({
        "to": [{"podSelector": {}}, {"ipBlock": {"cidr": "::/0"}}],
        "ports": [{"port": 1}, {"port": 2, "protocol": "UDP"}],
    }));
    assert_eq!(
        rules,
        json!([
            {"action": "Allow", "protocol": "TCP", "destination": {"selector": POD, "ports": [1]}},
            {"action": "Allow", "protocol": "UDP", "destination": {"selector": POD, "ports": [2]}},
            {"action": "Allow", "protocol": "TCP", "destination": {"nets": ["::/0"], "ports": [1]}},
            {"action": "Allow", "protocol": "UDP", "destination": {"nets": ["::/0"], "ports": [2]}},
        ])
    );
}

#[test]
fn mistakes_are_named() {
    for (rule, place, word) in [
        (json!({"from": [{}]}), "spec.ingress[0].from[0]", "needs"),
        (
            json!({"from": [{"ipBlock": {"cidr": "::/0"}, "podSelector": {}}]}),
            "spec.ingress[0].from[0]",
            "ipBlock",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.300/8"}}]}),
            "spec.ingress[0].from[0].ipBlock.cidr",
            "10.0.0.300",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}),
            "spec.ingress[0].from[0].ipBlock.cidr",
            "prefix length",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}),
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "inside",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}]}),
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "inside",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ingress[0].ports[0].port",
            "65535",
        ),
        (
            json!({"ports": [{"port": 70000}]}),
            "spec.ingress[0].ports[0].port",
            "65535",
        ),
        (
            json!({"ports": [{"port": 90, "endPort": 80}]}),
            "spec.ingress[0].ports[0].endPort",
            "below",
        ),
        (
            json!({"ports": [{"endPort": 80}]}),
            "spec.ingress[0].ports[0].endPort",
            "number",
        ),
        (
            json!({"ports": [{"port": "http", "endPort": 80}]}),
            "spec.ingress[0].ports[0].endPort",
            "number",
        ),
        (
            json!({"ports": [{"port": "Not A Name"}]}),
            "spec.ingress[0].ports[0].port",
            "port name",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "ICMP"}]}),
            "spec.ingress[0].ports[0].protocol",
            "TCP, UDP, SCTP",
        ),
        (json!({"form": []}), "spec.ingress[0].form", "\"from\""),
        (
            json!({"ports": [{"port": 1.5}]}),
            "spec.ingress[0].ports[0].port",
            "number",
        ),
        (
            json!({"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}]}),
            "operator",
            "NotIn",
        ),
    ] {
        let e = refused(&json!({"podSelector": {}, "ingress": [rule]}));
        assert!(
            e.starts_with("NetworkPolicy \"ns/p\": ") && e.contains(place) && e.contains(word),
            "{rule}: {e}"
        );
    }
    let e = refused(&json!({"podSelector": {"matchLabels": {"a b": "c"}}}));
    assert!(e.contains("spec.podSelector.matchLabels"), "{e}");
}

#[test]
fn a_wrong_rule_from_a_live_cluster_only_allows_less() {
    let policy: KubeNetworkPolicy = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "bad"}}]}, {"ports": [{"port": 80}, {"port": 0}]}]},
    }))
    .expect("reads");
    let out = network_policy(&policy).expect("converts");
    assert_eq!(out.problems.len(), 2);
    assert_eq!(
        out.object.spec.ingress.len(),
        1,
        "the first rule would allow all if its only peer were just left out"
    );
    assert_eq!(out.object.spec.ingress[0].destination.ports.len(), 1);
}
