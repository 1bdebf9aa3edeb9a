//! Fail closed, per object: what is wrong is named and does not open anything.

use caracal_api::Action;

use super::*;

#[test]
fn a_bad_rule_denies_in_its_place() {
    let cases = [
        (
            json!({"protocol": "FOO"}),
            "spec.ingress[1].protocol: FOO is not a protocol",
        ),
        (
            json!({"protocol": 0}),
            "spec.ingress[1].protocol: 0 is not a protocol",
        ),
        (json!({"notProtocol": "FOO"}), "spec.ingress[1].notProtocol"),
        (
            json!({"ipVersion": 5}),
            "spec.ingress[1].ipVersion: 5 is not an IP version",
        ),
        (
            json!({"ipVersion": 6, "protocol": "ICMP"}),
            "spec.ingress[1].ipVersion: 6 contradicts",
        ),
        (
            json!({"protocol": "ICMP", "icmp": {"code": 1}}),
            "spec.ingress[1].icmp: a code needs a type",
        ),
        (
            json!({"protocol": "ICMP", "icmp": {"type": 255}}),
            "spec.ingress[1].icmp.type: 255",
        ),
        (
            json!({"protocol": "ICMP", "notICMP": {"type": 1, "code": 256}}),
            "spec.ingress[1].notICMP.code: 256",
        ),
        (
            json!({"protocol": "TCP", "icmp": {"type": 1}}),
            "spec.ingress[1].icmp: the rule's protocol",
        ),
        (
            json!({"destination": {"ports": [80]}}),
            "spec.ingress[1].destination.ports: ports need a protocol",
        ),
        (
            json!({"protocol": "ICMP", "source": {"notPorts": ["x"]}}),
            "spec.ingress[1].source.notPorts: ICMP has no ports",
        ),
        (
            json!({"source": {"nets": ["1.2.3.4", "10.0.0.0/33"]}}),
            "spec.ingress[1].source.nets[1]: \"10.0.0.0/33\"",
        ),
        (
            json!({"source": {"selector": "a = 'b'"}}),
            "spec.ingress[1].source.selector: bad selector at byte 2",
        ),
        (
            json!({"source": {"notSelector": "("}}),
            "spec.ingress[1].source.notSelector",
        ),
        (
            json!({"source": {"namespaceSelector": "global() && has(a)"}}),
            "spec.ingress[1].source.namespaceSelector: global()",
        ),
        (
            json!({"source": {"selector": "global()"}}),
            "spec.ingress[1].source.selector: global()",
        ),
        (
            json!({"source": {"serviceAccounts": {"selector": "x"}}}),
            "spec.ingress[1].source.serviceAccounts.selector",
        ),
        (
            json!({"destination": {"services": {"name": "s"}}}),
            "spec.ingress[1].destination.services.namespace: a policy without namespace must say the service's",
        ),
        (
            json!({"destination": {"services": {"namespace": "n"}}}),
            "spec.ingress[1].destination.services.name",
        ),
        (
            json!({"source": {"services": {"name": "s", "namespace": "n"}, "selector": "all()"}}),
            "spec.ingress[1].source.services",
        ),
        (
            json!({"protocol": "TCP", "destination": {"services": {"name": "s", "namespace": "n"}, "ports": [80]}}),
            "spec.ingress[1].destination.services",
        ),
    ];
    let mut world = World::with_pod();
    for (fields, expected) in cases {
        let mut bad = json!({"action": "Allow"});
        for (k, v) in fields.as_object().unwrap() {
            bad[k] = v.clone();
        }
        let from = json!({"action": "Allow", "source": {"selector": "app == 'web'"}});
        world.rules("p", json!([from, bad, {"action": "Pass"}]));
        let policy = world.policy("GlobalNetworkPolicy/p");
        let actions: Vec<Action> = policy.ingress.iter().map(|r| r.action).collect();
        assert_eq!(actions, [Action::Allow, Action::Deny, Action::Pass], "{bad}");
        assert_eq!(
            policy.ingress[1],
            caracal_desired::Rule::new(Action::Deny),
            "{bad}"
        );
        let reason = world.reason("GlobalNetworkPolicy", "", "p").unwrap_or("nothing");
        assert!(
            reason.starts_with(expected),
            "{reason:?} should start with {expected:?}"
        );
    }
    world.rules("p", json!([]));
    let deltas = world.deltas();
    assert!(matches!(deltas.last(), Some(Delta::Valid(_))), "{deltas:?}");
}

#[test]
fn a_policy_that_cannot_select_is_named_and_selects_nothing() {
    let mut world = World::with_pod();
    world.put("NetworkPolicy", "red", "p", json!({"selector": "app === 'web'"}));
    world.put(
        "NetworkPolicy",
        "red",
        "neighbour",
        json!({"selector": "app == 'web'"}),
    );
    assert_eq!(
        show(&world.workload("red", "web").tiers),
        ["default:Deny neighbour / neighbour"]
    );
    assert!(
        world
            .reason("NetworkPolicy", "red", "p")
            .unwrap()
            .starts_with("spec.selector: bad selector")
    );
    world.gone("NetworkPolicy", "red", "p");
    world.flush();
    assert_eq!(world.reason("NetworkPolicy", "red", "p"), None);
}

#[test]
fn a_tier_or_profile_with_an_impossible_name_is_one_that_is_missing() {
    let mut world = World::with_pod();
    world.put(
        "GlobalNetworkPolicy",
        "",
        "p",
        json!({"tier": "no such/tier", "types": ["Ingress"]}),
    );
    assert_eq!(
        show(&world.workload("red", "web").tiers),
        ["invalid:no_such_tier:Deny p / "]
    );
    assert!(
        world
            .reason("GlobalNetworkPolicy", "", "p")
            .unwrap()
            .starts_with("spec.tier:")
    );
    let spec =
        json!({"node": NODE, "interfaceName": "eth0", "profiles": ["a b"], "expectedIPs": ["x", "10.0.0.1"]});
    world.put("HostEndpoint", "", "h", spec);
    world.put("Profile", "", "a b", json!({"ingress": [{"action": "Allow"}]}));
    world.put("Tier", "", "no such/tier", json!({}));
    world.flush();
    let host = &world.node.desired.host_endpoints["h"];
    assert_eq!((host.expected_ips.len(), host.profiles.len()), (1, 1));
    assert_eq!(
        world.node.desired.profiles[&host.profiles[0]].ingress[0].action,
        Action::Deny
    );
    for (kind, name) in [
        ("HostEndpoint", "h"),
        ("Profile", "a b"),
        ("Tier", "no such/tier"),
    ] {
        assert!(world.reason(kind, "", name).is_some(), "{kind}");
    }
}

#[test]
fn a_local_workload_with_a_mistake_is_left_out_and_stays_a_member() {
    let cases = [
        (json!({"mac": "zz"}), "spec.mac"),
        (json!({"interfaceName": ""}), "spec.interfaceName"),
        (
            json!({"ipNetworks": ["10.0.0.5", "10.0.0.300"]}),
            "spec.ipNetworks[1]",
        ),
        (
            json!({"ipNATs": [{"internalIP": "10.0.0.5", "externalIP": "?"}]}),
            "spec.ipNATs[0].externalIP",
        ),
        (
            json!({"allowSpoofedSourcePrefixes": ["/8"]}),
            "spec.allowSpoofedSourcePrefixes[0]",
        ),
        (json!({"profiles": [""]}), "spec.profiles[0]"),
        (
            json!({"ports": [{"name": "x", "protocol": "ICMP", "port": 1}]}),
            "spec.ports[0].protocol",
        ),
    ];
    for (more, field) in cases {
        let mut world = World::with_pod();
        world.pod("red", "bad", &["10.0.0.5"], json!({"app": "bad"}), more);
        let rule = world.rule(json!({"action": "Allow", "source": {"selector": "app == 'bad'"}}));
        assert_eq!(
            world.members(&rule.src.ip_sets[0]),
            set(&["10.0.0.5/32"]),
            "{field}"
        );
        assert_eq!(
            world.node.desired.workloads.len(),
            1,
            "{field}: only the good one"
        );
        let reason = world
            .reason("WorkloadEndpoint", "red", "bad")
            .unwrap_or("nothing");
        assert!(
            reason.starts_with(field),
            "{reason:?} should start with {field:?}"
        );
        // Mended, it is in.
        world.pod(
            "red",
            "bad",
            &["10.0.0.5"],
            json!({"app": "bad"}),
            json!({"mac": "ee:ee:ee:ee:ee:ee"}),
        );
        assert!(world.workload("red", "bad").mac.is_some());
        assert_eq!(world.reason("WorkloadEndpoint", "red", "bad"), None);
    }
}

#[test]
fn a_network_set_keeps_what_can_be_read() {
    let mut world = World::with_pod();
    world.put_labelled(
        "GlobalNetworkSet",
        "",
        "s",
        json!({"s": ""}),
        json!({"nets": ["0.0.0.0/0", "x", "::/0"]}),
    );
    let rule = world.rule(json!({"action": "Deny", "source": {"selector": "has(s)"}}));
    assert_eq!(world.members(&rule.src.ip_sets[0]), set(&["0.0.0.0/0", "::/0"]));
    assert!(
        world
            .reason("GlobalNetworkSet", "", "s")
            .unwrap()
            .starts_with("spec.nets[1]: \"x\" is not a CIDR")
    );
}

#[test]
fn an_object_under_a_key_of_another_kind_does_not_exist() {
    let mut world = World::with_pod();
    world.rules("p", json!([]));
    world.flush();
    let tier: Resource = serde_json::from_value(json!({"kind": "Tier", "metadata": {"name": "p"}})).unwrap();
    world.node.engine.apply(&Update {
        key: ResourceKey::global(Kind::GlobalNetworkPolicy, "p"),
        value: Some(std::sync::Arc::new(tier)),
    });
    world.flush();
    assert!(world.node.desired.policies.is_empty());
    assert!(
        world
            .reason("GlobalNetworkPolicy", "", "p")
            .unwrap()
            .starts_with("kind:")
    );
}

#[test]
fn a_host_endpoint_that_no_interface_can_be_is_named() {
    let mut world = World::with_pod();
    for (name, spec, expected) in [
        (
            "long",
            json!({"node": NODE, "interfaceName": "a-name-too-long-for-it"}),
            Some("at most 15 bytes"),
        ),
        ("none", json!({"node": NODE}), Some("expectedIPs is needed")),
        ("all", json!({"node": NODE, "interfaceName": "*"}), None),
        ("found", json!({"node": NODE, "expectedIPs": ["192.0.2.1"]}), None),
        ("elsewhere", json!({"node": "elsewhere"}), None),
    ] {
        world.put("HostEndpoint", "", name, spec);
        world.flush();
        let reason = world.reason("HostEndpoint", "", name);
        match expected {
            Some(text) => assert!(reason.is_some_and(|r| r.contains(text)), "{name}: {reason:?}"),
            None => assert_eq!(reason, None, "{name}"),
        }
    }
}
