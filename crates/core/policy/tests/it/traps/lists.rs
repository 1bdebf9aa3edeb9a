//! §3.1, §3.2, §3.4, §3.9: what is listed where, and in which order.

use super::*;

fn gnp(world: &mut World, name: &str, spec: Value) {
    world.put("GlobalNetworkPolicy", "", name, spec);
}

#[test]
fn policies_of_a_tier_go_by_order_then_by_name_namespace_kind_as_text() {
    let mut world = World::with_pod();
    gnp(&mut world, "a", json!({"order": 5}));
    gnp(&mut world, "a-b", json!({"order": 5}));
    gnp(&mut world, "a.b", json!({"order": 5}));
    world.put("NetworkPolicy", "red", "a", json!({"order": 5}));
    gnp(&mut world, "unordered", json!({}));
    gnp(&mut world, "zero", json!({"order": 0}));
    gnp(&mut world, "late", json!({"order": 1e9}));
    gnp(&mut world, "negative", json!({"order": -1.5}));
    let web = world.workload("red", "web");
    let ids: Vec<String> = web.tiers[0].ingress.iter().map(ToString::to_string).collect();
    let expected = [
        "GlobalNetworkPolicy/negative",
        "GlobalNetworkPolicy/zero",
        "GlobalNetworkPolicy/a-b",
        "GlobalNetworkPolicy/a.b",
        "GlobalNetworkPolicy/a",
        "NetworkPolicy/red/a",
        "GlobalNetworkPolicy/late",
        "GlobalNetworkPolicy/unordered",
    ];
    assert_eq!(ids, expected);
}

#[test]
fn tiers_go_by_existence_then_order_then_name() {
    let mut world = World::with_pod();
    for (tier, spec) in [
        ("default", json!({"order": 1e6, "defaultAction": "Deny"})),
        ("kube-baseline", json!({"order": 1e7, "defaultAction": "Pass"})),
        ("b", json!({"order": 10, "defaultAction": "Pass"})),
        ("a", json!({"order": 10})),
        ("no-order", json!({"defaultAction": "Pass"})),
    ] {
        world.put("Tier", "", tier, spec);
    }
    for tier in [
        "",
        "kube-baseline",
        "b",
        "a",
        "no-order",
        "missing",
        "also-missing",
    ] {
        let name = if tier.is_empty() {
            "plain".to_owned()
        } else {
            format!("{tier}.p")
        };
        gnp(&mut world, &name, json!({"tier": tier, "types": ["Ingress"]}));
    }
    let expected = [
        "a:Deny a.p / ",
        "b:Pass b.p / ",
        "default:Deny plain / ",
        "kube-baseline:Pass kube-baseline.p / ",
        "no-order:Pass no-order.p / ",
        "also-missing:Deny also-missing.p / ",
        "missing:Deny missing.p / ",
    ];
    assert_eq!(show(&world.workload("red", "web").tiers), expected);
    // The tier comes to be, moves, and goes: only the endpoint changes.
    world.put(
        "Tier",
        "",
        "missing",
        json!({"order": 1, "defaultAction": "Pass"}),
    );
    assert!(matches!(world.deltas()[..], [Delta::Workload(_)]));
    assert_eq!(
        show(&world.workload("red", "web").tiers)[0],
        "missing:Pass missing.p / "
    );
    world.gone("Tier", "", "missing");
    assert_eq!(show(&world.workload("red", "web").tiers), expected);
}

#[test]
fn a_policy_governs_by_its_types_not_by_its_rules() {
    let mut world = World::with_pod();
    gnp(&mut world, "a-egress-no-rules", json!({"types": ["Egress"]}));
    gnp(
        &mut world,
        "b-ingress",
        json!({"types": ["Ingress"], "egress": [{"action": "Allow"}]}),
    );
    gnp(
        &mut world,
        "c-old-data",
        json!({"ingress": [{"action": "Allow"}]}),
    );
    assert_eq!(
        show(&world.workload("red", "web").tiers),
        ["default:Deny b-ingress c-old-data / a-egress-no-rules c-old-data"]
    );
}

#[test]
fn kinds_and_namespaces_keep_policies_apart() {
    let mut world = World::with_pod();
    gnp(&mut world, "x", json!({}));
    world.put("NetworkPolicy", "red", "x", json!({}));
    world.put("NetworkPolicy", "blue", "x", json!({}));
    world.put(
        "NetworkPolicy",
        "red",
        "knp.default.x",
        json!({"order": 1000, "types": ["Ingress"]}),
    );
    world.flush();
    let ids: Vec<String> = world
        .node
        .desired
        .policies
        .keys()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "NetworkPolicy/red/knp.default.x",
        "NetworkPolicy/red/x",
        "GlobalNetworkPolicy/x",
    ];
    assert_eq!(ids, expected, "blue/x selects nothing here");
    world.gone("NetworkPolicy", "red", "x");
    world.flush();
    assert_eq!(world.node.desired.policies.len(), 2);
}

#[test]
fn each_policy_of_a_host_endpoint_is_in_its_lists() {
    let mut world = World::with_pod();
    world.put("Tier", "", "default", json!({"order": 1}));
    world.put(
        "HostEndpoint",
        "",
        "eth0",
        json!({"node": NODE, "interfaceName": "eth0", "expectedIPs": ["192.168.0.1", "fd01::1"],
               "profiles": ["projectcalico-default-allow"]}),
    );
    gnp(&mut world, "a-normal", json!({}));
    gnp(&mut world, "b-forward", json!({"applyOnForward": true}));
    gnp(
        &mut world,
        "c-untracked",
        json!({"applyOnForward": true, "doNotTrack": true}),
    );
    gnp(
        &mut world,
        "d-pre",
        json!({"applyOnForward": true, "preDNAT": true}),
    );
    gnp(
        &mut world,
        "e-pre-egress",
        json!({"applyOnForward": true, "preDNAT": true, "types": ["Egress"]}),
    );
    world.flush();
    let host = world.node.desired.host_endpoints["eth0"].clone();
    assert_eq!((&*host.interface, host.expected_ips.len()), ("eth0", 2));
    assert_eq!(
        show(&host.tiers),
        ["default:Deny a-normal b-forward / a-normal b-forward"]
    );
    assert_eq!(show(&host.forward), ["default:Deny b-forward / b-forward"]);
    assert_eq!(show(&host.untracked), ["default:Pass c-untracked / c-untracked"]);
    assert_eq!(show(&host.pre_dnat), ["default:Pass d-pre / "]);
    assert_eq!(
        show(&world.workload("red", "web").tiers),
        ["default:Deny a-normal b-forward / a-normal b-forward"],
        "a workload has no place for the others"
    );
    let untracked = world.policy("GlobalNetworkPolicy/c-untracked");
    assert!(untracked.untracked && !untracked.pre_dnat);
    // Without the host endpoint they are not needed.
    world.gone("HostEndpoint", "", "eth0");
    world.flush();
    assert_eq!(world.node.desired.policies.len(), 2);
}

#[test]
fn profiles_are_listed_in_order_and_missing_ones_deny() {
    let mut world = World::new();
    world.put(
        "Profile",
        "",
        "kns.red",
        json!({"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}),
    );
    world.put("Profile", "", "unused", json!({}));
    let profiles = ["kns.red", "missing", "projectcalico-default-allow"];
    world.pod(
        "red",
        "web",
        &["10.0.0.1"],
        json!({}),
        json!({"profiles": profiles}),
    );
    let web = world.workload("red", "web");
    assert_eq!(
        web.profiles.iter().map(|p| p.as_str()).collect::<Vec<_>>(),
        profiles
    );
    let actions: Vec<String> = profiles
        .iter()
        .map(|p| {
            let profile = &world.node.desired.profiles[*p];
            assert_eq!((profile.ingress.len(), profile.egress.len()), (1, 1));
            format!("{:?}", profile.ingress[0].action)
        })
        .collect();
    assert_eq!(actions, ["Allow", "Deny", "Allow"]);
    assert_eq!(world.node.desired.profiles.len(), 3);
    // An object may still say otherwise of the built-in one.
    world.put("Profile", "", "projectcalico-default-allow", json!({}));
    world.put("Profile", "", "missing", json!({"egress": [{"action": "Deny"}]}));
    world.flush();
    assert!(
        world.node.desired.profiles["projectcalico-default-allow"]
            .ingress
            .is_empty()
    );
    assert!(world.node.desired.profiles["missing"].ingress.is_empty());
}

#[test]
fn only_what_is_needed_here_is_here() {
    let mut world = World::with_pod();
    world.pod(
        "red",
        "far",
        &["10.0.0.2"],
        json!({"app": "far"}),
        json!({"node": "elsewhere"}),
    );
    world.pod("red", "no-address-yet", &[], json!({"app": "web"}), json!({}));
    let allow_from =
        |app: &str| json!([{"action": "Allow", "source": {"selector": format!("app == '{app}'")}}]);
    gnp(
        &mut world,
        "far",
        json!({"selector": "app == 'far'", "ingress": allow_from("x")}),
    );
    gnp(
        &mut world,
        "hinted",
        json!({
            "selector": "app == 'far'", "ingress": allow_from("far"),
            "performanceHints": ["AssumeNeededOnEveryNode"],
        }),
    );
    world.flush();
    let desired = &world.node.desired;
    assert_eq!(
        (
            desired.workloads.len(),
            desired.policies.len(),
            desired.ip_sets.len()
        ),
        (1, 1, 1)
    );
    assert!(desired.policies.keys().all(|id| &*id.name == "hinted"));
    // The far pod is scheduled here.
    world.pod("red", "far", &["10.0.0.2"], json!({"app": "far"}), json!({}));
    world.flush();
    let desired = &world.node.desired;
    assert_eq!(
        (
            desired.workloads.len(),
            desired.policies.len(),
            desired.ip_sets.len()
        ),
        (2, 2, 2)
    );
}
