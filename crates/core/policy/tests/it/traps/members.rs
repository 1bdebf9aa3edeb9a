//! §3.6: who is in a set.

use super::*;

/// The members of the set of `selector` in a rule of a global policy.
fn selected(world: &mut World, selector: &str) -> BTreeSet<String> {
    let rule = world.rule(json!({"action": "Allow", "source": {"selector": selector}}));
    world.members(&rule.src.ip_sets[0])
}

#[test]
fn labels_come_from_the_endpoint_then_from_its_profiles_in_order() {
    let mut world = World::new();
    world.put(
        "Profile",
        "",
        "p",
        json!({"labelsToApply": {"team": "p", "own": "p", "pcns.env": "prod"}}),
    );
    world.put(
        "Profile",
        "",
        "q",
        json!({"labelsToApply": {"team": "q", "only": "q"}}),
    );
    world.pod(
        "red",
        "web",
        &["10.0.0.1"],
        json!({"own": "pod"}),
        json!({"profiles": ["p", "q"]}),
    );
    for selector in ["team == 'p'", "own == 'pod'", "only == 'q'", "pcns.env == 'prod'"] {
        assert_eq!(
            selected(&mut world, selector),
            set(&["10.0.0.1/32"]),
            "{selector}"
        );
    }
    assert_eq!(selected(&mut world, "team == 'q' || own == 'p'"), set(&[]));
    // The profile goes, and what it hid comes to light.
    world.gone("Profile", "", "p");
    assert_eq!(
        selected(&mut world, "team == 'q' && own == 'pod' && !has(pcns.env)"),
        set(&["10.0.0.1/32"])
    );
}

#[test]
fn what_a_pod_is_cannot_be_forged_with_labels() {
    let mut world = World::new();
    let forged = json!({
        "projectcalico.org/namespace": "blue", "projectcalico.org/serviceaccount": "admin",
        "projectcalico.org/orchestrator": "nobody",
    });
    let spec = json!({"serviceAccountName": "robot", "orchestrator": "k8s"});
    world.pod("red", "web", &["10.0.0.1"], forged.clone(), spec);
    world.put_labelled(
        "NetworkSet",
        "red",
        "s",
        forged.clone(),
        json!({"nets": ["1.0.0.0/8"]}),
    );
    world.put_labelled(
        "GlobalNetworkSet",
        "",
        "g",
        forged,
        json!({"nets": ["2.0.0.0/8"]}),
    );
    let red = selected(&mut world, "projectcalico.org/namespace == 'red'");
    assert_eq!(red, set(&["1.0.0.0/8", "10.0.0.1/32"]));
    assert_eq!(
        selected(&mut world, "!has(projectcalico.org/namespace)"),
        set(&["2.0.0.0/8"])
    );
    let robot = "projectcalico.org/serviceaccount == 'robot' && projectcalico.org/orchestrator == 'k8s'";
    assert_eq!(selected(&mut world, robot), set(&["10.0.0.1/32"]));
    assert!(
        world
            .reason("GlobalNetworkSet", "", "g")
            .unwrap()
            .contains("projectcalico.org/namespace")
    );
}

#[test]
fn an_address_stays_while_somebody_has_it() {
    let mut world = World::with_pod();
    world.put_labelled(
        "NetworkSet",
        "red",
        "s",
        json!({"app": "web"}),
        json!({"nets": ["10.0.0.9", "10.0.0.9/32"]}),
    );
    world.pod("red", "old", &["10.0.0.9"], json!({"app": "web"}), json!({}));
    world.pod(
        "red",
        "new",
        &["10.0.0.9", "10.0.0.9"],
        json!({"app": "web"}),
        json!({}),
    );
    let all = set(&["10.0.0.1/32", "10.0.0.9/32", "fd00::1/128"]);
    assert_eq!(selected(&mut world, "app == 'web'"), all);
    world.gone("WorkloadEndpoint", "red", "old");
    world.gone("NetworkSet", "red", "s");
    assert!(
        matches!(world.deltas()[..], [Delta::WorkloadGone(_)]),
        "no member changes"
    );
    world.pod("red", "new", &["10.0.0.9"], json!({"app": "other"}), json!({}));
    assert_eq!(
        selected(&mut world, "app == 'web'"),
        set(&["10.0.0.1/32", "fd00::1/128"])
    );
}

#[test]
fn hosts_are_members_by_their_addresses_and_ports() {
    let mut world = World::with_pod();
    let spec = json!({
        "node": "elsewhere", "interfaceName": "*", "expectedIPs": ["192.168.0.1", "fd01::1"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    });
    world.put_labelled("HostEndpoint", "", "h", json!({"role": "host"}), spec);
    assert_eq!(
        selected(&mut world, "role == 'host'"),
        set(&["192.168.0.1/32", "fd01::1/128"])
    );
    let rule = json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": ["http"], "selector": "role == 'host'"}});
    let rule = world.rule(rule);
    let ports = set(&["192.168.0.1 TCP 8080", "fd01::1 TCP 8080"]);
    assert_eq!(world.members(&rule.dst.named_ports[0]), ports);
    assert!(
        world.node.desired.host_endpoints.is_empty(),
        "it is another node's"
    );
}

#[test]
fn rules_share_sets_by_meaning() {
    let mut world = World::with_pod();
    let from = |s: &str| json!({"action": "Allow", "source": {"selector": s}});
    world.rules("a", json!([from("app in {'a', 'b'}"), from("app == 'c'")]));
    world.rules("b", json!([from("app  in {\"b\",'a'}")]));
    world.flush();
    assert_eq!(world.node.desired.ip_sets.len(), 2);
    world.rules("a", json!([]));
    world.flush();
    assert_eq!(world.node.desired.ip_sets.len(), 1, "b still needs its set");
}
