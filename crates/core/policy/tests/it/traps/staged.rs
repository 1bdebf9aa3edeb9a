//! §3.5: staged policies are calculated like others, and say so by their kind.

use super::*;

#[test]
fn a_staged_policy_is_listed_in_its_place_with_its_rules() {
    let mut world = World::with_pod();
    world.put("GlobalNetworkPolicy", "", "b", json!({"order": 2}));
    for (action, name) in [("Set", "a"), ("Learn", "c"), ("Ignore", "d"), ("Delete", "e")] {
        let rule = json!([{"action": "Deny", "source": {"selector": "app == 'x'"}}]);
        let spec = json!({"order": 2, "stagedAction": action, "ingress": rule, "types": ["Ingress"]});
        world.put("StagedGlobalNetworkPolicy", "", name, spec);
    }
    world.put(
        "StagedNetworkPolicy",
        "red",
        "f",
        json!({"order": 1, "types": ["Egress"]}),
    );
    world.put("StagedNetworkPolicy", "blue", "g", json!({"order": 1}));
    let web = world.workload("red", "web");
    let ids = |list: &[PolicyId]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        ids(&web.tiers[0].ingress),
        [
            "StagedGlobalNetworkPolicy/a",
            "GlobalNetworkPolicy/b",
            "StagedGlobalNetworkPolicy/c",
            "StagedGlobalNetworkPolicy/d"
        ]
    );
    assert_eq!(
        ids(&web.tiers[0].egress),
        ["StagedNetworkPolicy/red/f", "GlobalNetworkPolicy/b"]
    );
    assert_eq!(world.policy("StagedGlobalNetworkPolicy/a").ingress.len(), 1);
}

#[test]
fn staging_a_deletion_takes_the_staged_policy_away_and_leaves_the_enforced_one() {
    let mut world = World::with_pod();
    world.put("GlobalNetworkPolicy", "", "p", json!({}));
    world.put(
        "StagedGlobalNetworkPolicy",
        "",
        "p",
        json!({"types": ["Ingress"]}),
    );
    assert_eq!(world.workload("red", "web").tiers[0].ingress.len(), 2);
    world.put(
        "StagedGlobalNetworkPolicy",
        "",
        "p",
        json!({"stagedAction": "Delete"}),
    );
    let web = world.workload("red", "web");
    assert_eq!(
        web.tiers[0]
            .ingress
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["GlobalNetworkPolicy/p"]
    );
}

#[test]
fn a_staged_kubernetes_policy_is_read_as_kubernetes_would() {
    let mut world = World::with_pod();
    let web = json!({"matchLabels": {"app": "web"}});
    let k8s = json!({"orchestrator": "k8s"});
    world.pod("red", "web", &["10.0.0.1"], json!({"app": "web"}), k8s);
    let kind = "StagedKubernetesNetworkPolicy";
    world.put(kind, "red", "in", json!({"podSelector": web}));
    world.put(
        kind,
        "red",
        "out",
        json!({"podSelector": web, "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}),
    );
    world.put(
        kind,
        "red",
        "gone",
        json!({"podSelector": web, "stagedAction": "Delete"}),
    );
    world.put(
        kind,
        "red",
        "bad",
        json!({"podSelector": {"matchLabels": {"": "x"}}}),
    );
    let endpoint = world.workload("red", "web");
    assert_eq!(show(&endpoint.tiers), ["default:Deny in out / out"]);
    let out = world.policy("StagedKubernetesNetworkPolicy/red/out");
    assert_eq!(out.egress[0].dst.ports.len(), 1);
    assert!(world.reason(kind, "red", "bad").is_some());
}
