//! ClusterNetworkPolicy (§3.12) and EndpointSlice (§3.8).

use caracal_api::{KubernetesEndpointSliceSpec, Object, value_to_yaml};
use caracal_convert::{ClusterNetworkPolicy, cluster_network_policy, endpoint_slice, foreign};
use caracal_net::Proto;
use serde_json::{Value, json};

use crate::object;

fn policy(more: &Value) -> ClusterNetworkPolicy {
    let mut spec = json!({"tier": "Admin", "priority": 10, "subject": {"namespaces": {}}});
    for (field, value) in more.as_object().expect("an object") {
        spec[field] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("reads")
}

/// What it converts to, and what was wrong with it.
fn convert(more: &Value) -> (Value, Vec<String>) {
    let converted = cluster_network_policy(&policy(more)).unwrap_or_else(|e| panic!("{e}"));
    let bad = caracal_api::validate(&converted.object.clone().into());
    assert!(bad.is_empty(), "{bad:?}");
    let value = serde_json::to_value(&converted.object).expect("JSON");
    (
        value,
        converted.problems.iter().map(ToString::to_string).collect(),
    )
}

fn ingress(rule: &Value) -> Value {
    let (value, problems) = convert(&json!({"ingress": [rule]}));
    assert_eq!(problems, Vec::<String>::new());
    value["spec"]["ingress"].clone()
}

#[test]
fn tier_order_subject_and_types() {
    let rule = json!([{"action": "Pass", "from": [{"namespaces": {}}]}]);
    for (tier, expected) in [("Admin", "kube-admin"), ("Baseline", "kube-baseline")] {
        let (value, _) = convert(&json!({"tier": tier, "ingress": rule}));
        assert_eq!(value["metadata"]["name"], "kcnp.p");
        let spec = &value["spec"];
        assert_eq!((&spec["tier"], &spec["order"]), (&json!(expected), &json!(10)));
        assert_eq!(spec["namespaceSelector"], "all()");
        assert_eq!(spec["selector"], "projectcalico.org/orchestrator == \"k8s\"");
        assert_eq!(spec["types"], json!(["Ingress"]));
    }
    let subject = json!({"pods": {
        "namespaceSelector": {"matchLabels": {"team": "x"}},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
    }});
    let egress = json!([{"action": "Deny", "to": [{"namespaces": {}}]}]);
    let (value, _) = convert(&json!({"subject": subject, "egress": egress}));
    let spec = &value["spec"];
    assert_eq!(spec["namespaceSelector"], "team == \"x\"");
    let selector = spec["selector"].as_str().expect("text");
    assert!(
        selector.contains("has(app)") && selector.contains("orchestrator"),
        "{selector}"
    );
    assert_eq!(spec["types"], json!(["Egress"]));
    assert!(
        convert(&json!({})).0["spec"].get("types").is_none(),
        "without rules it governs nothing"
    );
}

#[test]
fn actions_names_and_peers() {
    for (action, expected) in [("Accept", "Allow"), ("Deny", "Deny"), ("Pass", "Pass")] {
        let rules = ingress(&json!({"name": "why", "action": action, "from": [{"namespaces": {}}]}));
        assert_eq!(rules[0]["action"], expected);
        assert_eq!(rules[0]["metadata"]["annotations"]["name"], "why");
    }
    let pods = json!({"pods": {"podSelector": {"matchLabels": {"app": "a"}}, "namespaceSelector": {}}});
    let rules =
        ingress(&json!({"action": "Accept", "from": [{"namespaces": {"matchLabels": {"t": "x"}}}, pods]}));
    assert_eq!(rules.as_array().map(Vec::len), Some(2), "one per peer");
    assert_eq!(rules[0]["source"], json!({"namespaceSelector": "t == \"x\""}));
    assert_eq!(rules[1]["source"]["namespaceSelector"], "all()");
    let networks = json!({"networks": ["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"]});
    let (value, problems) = convert(&json!({"egress": [{"action": "Deny", "to": [networks]}]}));
    assert_eq!(problems, Vec::<String>::new());
    let rules = &value["spec"]["egress"];
    assert_eq!(
        rules[0]["destination"]["nets"],
        json!(["10.0.0.0/8", "192.0.2.0/24"])
    );
    assert_eq!(rules[1]["destination"]["nets"], json!(["fd00::/8"]));
}

#[test]
fn protocols_and_ports() {
    let rule = |protocols: Value| {
        let rules =
            ingress(&json!({"action": "Accept", "from": [{"namespaces": {}}], "protocols": protocols}));
        let line = |r: &Value| format!("{} {}", r["protocol"], r["destination"]["ports"]);
        rules
            .as_array()
            .expect("rules")
            .iter()
            .map(line)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        rule(json!([
            {"udp": {"destinationPort": {"number": 53}}},
            {"tcp": {"destinationPort": {"number": 80}}},
            {"tcp": {"destinationPort": {"range": {"start": 8000, "end": 8010}}}},
        ])),
        ["\"TCP\" [80,\"8000:8010\"]", "\"UDP\" [53]"]
    );
    assert_eq!(
        rule(json!([{"sctp": {}}, {"sctp": {"destinationPort": {"number": 80}}}])),
        ["\"SCTP\" null"],
        "all ports of the protocol"
    );
    assert_eq!(
        rule(json!([{"destinationNamedPort": "http"}])),
        ["\"TCP\" [\"http\"]", "\"UDP\" [\"http\"]", "\"SCTP\" [\"http\"]"],
        "a name is of any protocol"
    );
    assert_eq!(rule(json!([])), ["null null"]);
}

#[test]
fn a_rule_that_cannot_be_converted_closes_unless_it_would_have_allowed() {
    let bad = [
        json!({"from": [{"nodes": {}}]}),
        json!({"from": []}),
        json!({"from": [{"networks": ["10.0.0.0/8"]}]}),
        json!({"from": [{"namespaces": {"matchLabels": {"": "x"}}}]}),
        json!({"from": [{"namespaces": {}}], "protocols": [{}]}),
        json!({"from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 70000}}}]}),
        json!({"from": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"range": {"start": 9, "end": 8}}}}]}),
    ];
    for fields in bad {
        for (action, left) in [("Accept", 0), ("Deny", 1), ("Pass", 1)] {
            let mut rule = fields.clone();
            rule["action"] = action.into();
            let (value, problems) = convert(&json!({"ingress": [rule]}));
            assert!(!problems.is_empty(), "{rule}");
            let rules = value["spec"]["ingress"].as_array().cloned().unwrap_or_default();
            assert_eq!(rules, vec![json!({"action": "Deny"}); left], "{rule}");
        }
    }
}

#[test]
fn a_policy_whose_pods_cannot_be_told_is_none() {
    for more in [
        json!({"tier": "Middle"}),
        json!({"priority": 1001}),
        json!({"subject": {}}),
        json!({"subject": {"namespaces": {}, "pods": {"podSelector": {}}}}),
        json!({"subject": {"namespaces": {"matchLabels": {"": ""}}}}),
    ] {
        assert!(cluster_network_policy(&policy(&more)).is_err(), "{more}");
    }
    let manifest = value_to_yaml(&json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": "p"},
        "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
                 "egress": [{"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]},
    }));
    let out = foreign(&object(&manifest)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(&*out[0].key().name, "kcnp.p");
}

#[test]
fn slices_of_services() {
    let slice: Object<KubernetesEndpointSliceSpec> = serde_json::from_value(json!({
        "metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
        "spec": {
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2", "a.name"], "conditions": {"ready": false, "terminating": true}},
            ],
            "ports": [
                {"name": "sql", "port": 5432}, {"port": 53, "protocol": "UDP"}, {"name": "any"},
                {"port": 1, "protocol": "Pigeon"}, {"port": 70000},
            ],
        },
    }))
    .expect("reads");
    let converted = endpoint_slice(&slice);
    assert_eq!(converted.problems.len(), 2);
    let update = converted.object;
    assert_eq!((&*update.key.namespace, &*update.key.name), ("shop", "db-1"));
    let value = update.value.expect("it is there");
    assert_eq!(&*value.service, "db");
    let addresses: Vec<String> = value.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"], "ready or not");
    let ports: Vec<(Proto, u16)> = value.ports.iter().map(|p| (p.proto, p.port)).collect();
    assert_eq!(ports, [(Proto::TCP, 5432), (Proto::UDP, 53)]);
}
