//! A change says what changed and nothing else.

use super::*;

fn full() -> World {
    let mut world = World::with_pod();
    world.pod(
        "red",
        "far",
        &["10.0.0.7"],
        json!({"app": "far", "v": "1"}),
        json!({"node": "elsewhere"}),
    );
    world.rules(
        "p",
        json!([{"action": "Allow", "source": {"selector": "app == 'far'"}}]),
    );
    world.flush();
    world
}

#[test]
fn the_first_flush_is_ordered_and_complete() {
    let mut world = World::with_pod();
    world.rules(
        "p",
        json!([{"action": "Allow", "source": {"selector": "app == 'web'"}}]),
    );
    world.rules("broken", json!([{"action": "Allow", "protocol": "FOO"}]));
    world.put(
        "HostEndpoint",
        "",
        "h",
        json!({"node": NODE, "interfaceName": "eth0", "profiles": ["x"]}),
    );
    let deltas = world.deltas();
    let kinds: Vec<&str> = deltas
        .iter()
        .map(|d| match d {
            Delta::IpSet(..) => "set",
            Delta::Policy(_) => "policy",
            Delta::Profile(_) => "profile",
            Delta::Workload(_) => "workload",
            Delta::HostEndpoint(_) => "host",
            Delta::Invalid(_) => "invalid",
            _ => "other",
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "set", "policy", "policy", "profile", "workload", "host", "invalid"
        ]
    );
}

#[test]
fn a_remote_label_moves_members_only() {
    let mut world = full();
    let far = |labels: Value| (labels, json!({"node": "elsewhere"}));
    let (labels, more) = far(json!({"app": "far", "v": "2"}));
    world.pod("red", "far", &["10.0.0.7"], labels, more);
    assert!(world.deltas().is_empty(), "no selector looks at v");
    let (labels, more) = far(json!({"app": "farther"}));
    world.pod("red", "far", &["10.0.0.7"], labels, more);
    let deltas = world.deltas();
    assert!(
        matches!(&deltas[..], [Delta::IpSetMembers { added, removed, .. }] if added.is_empty() && removed.len() == 1),
        "{deltas:?}"
    );
    // There and back again before anybody looked.
    let (labels, more) = far(json!({"app": "far"}));
    world.pod("red", "far", &["10.0.0.7"], labels, more);
    world.gone("WorkloadEndpoint", "red", "far");
    assert!(world.deltas().is_empty());
}

#[test]
fn a_rule_changes_its_policy_only_and_an_order_its_endpoints_only() {
    let mut world = full();
    let spec = |action: &str, order: u32| {
        json!({"types": ["Ingress"], "order": order,
               "ingress": [{"action": action, "source": {"selector": "app == 'far'"}}]})
    };
    world.put("GlobalNetworkPolicy", "", "p", spec("Allow", 5));
    world.rules("q", json!([]));
    world.flush();
    world.put("GlobalNetworkPolicy", "", "p", spec("Deny", 5));
    assert!(matches!(world.deltas()[..], [Delta::Policy(_)]));
    world.put("GlobalNetworkPolicy", "", "p", spec("Deny", 6));
    assert!(world.deltas().is_empty(), "it is still before q");
    world.put(
        "GlobalNetworkPolicy",
        "",
        "q",
        json!({"types": ["Ingress"], "order": 1}),
    );
    assert!(matches!(world.deltas()[..], [Delta::Workload(_)]));
    world.put(
        "GlobalNetworkPolicy",
        "",
        "q",
        json!({"types": ["Ingress"], "order": 1}),
    );
    assert!(world.deltas().is_empty(), "a replay says nothing");
    world.gone("GlobalNetworkPolicy", "", "p");
    let deltas = world.deltas();
    assert!(
        matches!(
            deltas[..],
            [Delta::Workload(_), Delta::PolicyGone(_), Delta::IpSetGone(_)]
        ),
        "{deltas:?}"
    );
}

#[test]
fn spurious_deletes_and_foreign_kinds_say_nothing() {
    let mut world = full();
    for kind in Kind::ALL {
        let namespace = if kind.namespaced() { "nowhere" } else { "" };
        world.gone(kind.as_str(), namespace, "nothing");
    }
    world.put("Node", "", "n", json!({}));
    assert!(world.deltas().is_empty());
}

#[test]
fn words_of_the_past_are_forgotten_and_those_in_use_are_not() {
    let mut world = full();
    for n in 0..12_000 {
        let labels = json!({"app": "far", "pod-name": format!("pod-{n}")});
        world.pod("red", "far", &["10.0.0.7"], labels, json!({"node": "elsewhere"}));
        if n % 500 == 0 {
            assert!(world.deltas().is_empty());
        }
    }
    world.pod("red", "near", &["10.0.0.8"], json!({"app": "far"}), json!({}));
    let deltas = world.deltas();
    assert!(
        matches!(deltas[..], [Delta::IpSetMembers { .. }, Delta::Workload(_)]),
        "{deltas:?}"
    );
    assert_eq!(world.node.engine.counts().items, 3);
}

#[test]
fn counts_say_how_much_there_is() {
    let mut world = full();
    world.put("NetworkPolicy", "blue", "idle", json!({}));
    world.put("NetworkPolicy", "blue", "bad", json!({"selector": "("}));
    world.flush();
    let expected = caracal_policy::Counts {
        items: 2,
        local_endpoints: 1,
        policies: 3,
        active_policies: 1,
        active_profiles: 0,
        ip_sets: 1,
        slices: 0,
        invalid: 1,
    };
    assert_eq!(world.node.engine.counts(), expected);
}
