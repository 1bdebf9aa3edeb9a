//! §3.3, §3.6, §3.7: what a rule becomes.

use caracal_api::Action;
use caracal_net::{Family, PortRange, Proto};

use super::*;

fn crowded() -> World {
    let mut world = World::with_pod();
    world.pod("blue", "db", &["10.0.0.2"], json!({"app": "db"}), json!({}));
    world.put_labelled(
        "GlobalNetworkSet",
        "",
        "world",
        json!({"app": "web"}),
        json!({"nets": ["1.2.3.0/24", "::/0"]}),
    );
    world
}

#[test]
fn a_namespaced_rule_without_selectors_is_about_everybody() {
    let mut world = crowded();
    let rule = |source: Value| json!({"ingress": [{"action": "Allow", "protocol": "TCP", "source": source}]});
    let mut source = |spec: Value| {
        world.put("NetworkPolicy", "red", "p", rule(spec));
        let side = world.policy("NetworkPolicy/red/p").ingress[0].src.clone();
        let sets: Vec<_> = side.ip_sets.iter().map(|id| world.members(id)).collect();
        assert!(side.not_ip_sets.is_empty());
        sets
    };
    assert!(source(json!({})).is_empty());
    assert!(source(json!({"nets": ["10.0.0.0/8"], "ports": [80]})).is_empty());
    let own = || set(&["10.0.0.1/32", "fd00::1/128"]);
    assert_eq!(source(json!({"selector": "all()"})), [own()]);
    assert_eq!(
        source(json!({"notSelector": "app == 'db'"})),
        [own()],
        "never what is outside"
    );
    assert_eq!(source(json!({"notSelector": "app == 'web'"})), [set(&[])]);
    assert_eq!(source(json!({"serviceAccounts": {}})), [own()]);
    let everywhere = set(&["10.0.0.1/32", "10.0.0.2/32", "fd00::1/128"]);
    assert_eq!(
        source(json!({"namespaceSelector": "all()"})),
        [everywhere],
        "neither hosts nor global sets"
    );
    assert_eq!(
        source(json!({"namespaceSelector": "global()"})),
        [set(&["1.2.3.0/24", "::/0"])]
    );
}

#[test]
fn a_positive_and_a_negative_selector_are_one_set_and_a_lone_negative_one_is_negated() {
    let mut world = crowded();
    let both = world
        .rule(json!({"action": "Allow", "source": {"selector": "has(app)", "notSelector": "app == 'web'"}}));
    assert_eq!((both.src.ip_sets.len(), both.src.not_ip_sets.len()), (1, 0));
    assert_eq!(world.members(&both.src.ip_sets[0]), set(&["10.0.0.2/32"]));
    let lone = world.rule(json!({"action": "Allow", "source": {"notSelector": "app == 'web'"}}));
    assert_eq!((lone.src.ip_sets.len(), lone.src.not_ip_sets.len()), (0, 1));
    let members = set(&["1.2.3.0/24", "10.0.0.1/32", "::/0", "fd00::1/128"]);
    assert_eq!(world.members(&lone.src.not_ip_sets[0]), members);
}

#[test]
fn named_ports_are_owned_by_what_the_positive_selector_selects() {
    let mut world = crowded();
    let rule = |destination: Value| json!({"action": "Allow", "protocol": "TCP", "destination": destination});
    // Names alone say whose they are.
    let named = world
        .rule(rule(
            json!({"selector": "app == 'web'", "ports": ["http", "http"]}),
        ))
        .dst;
    assert!(named.ip_sets.is_empty() && named.ports.is_empty());
    assert_eq!(named.named_ports.len(), 1);
    assert_eq!(
        world.members(&named.named_ports[0]),
        set(&["10.0.0.1 TCP 80", "fd00::1 TCP 80"])
    );
    // A number does not, so the selector stays; number and name are one criterion.
    let mixed = world
        .rule(rule(json!({"selector": "app == 'web'", "ports": ["http", 9090]})))
        .dst;
    assert_eq!((mixed.ip_sets.len(), mixed.named_ports.len()), (1, 1));
    assert_eq!(mixed.ports, [PortRange::single(9090)]);
    // Negated names are of the positive selector too, which stays.
    let negated = world
        .rule(rule(
            json!({"selector": "app == 'db'", "notPorts": ["http", "8000:8010"]}),
        ))
        .dst;
    assert_eq!(
        (
            negated.ip_sets.len(),
            negated.named_ports.len(),
            negated.not_ports.len()
        ),
        (1, 0, 1)
    );
    assert_eq!(
        world.members(&negated.not_named_ports[0]),
        set(&["10.0.0.2 TCP 80"])
    );
    // Without a selector they are everybody's; a lone negative selector does not change that.
    let anyone = world
        .rule(rule(json!({"ports": ["http"], "notSelector": "app == 'db'"})))
        .dst;
    let all = set(&["10.0.0.1 TCP 80", "10.0.0.2 TCP 80", "fd00::1 TCP 80"]);
    assert_eq!(world.members(&anyone.named_ports[0]), all);
    assert_eq!((anyone.ip_sets.len(), anyone.not_ip_sets.len()), (0, 1));
}

#[test]
fn named_ports_have_the_rule_s_protocol_or_any() {
    let mut world = crowded();
    let mut ports = |protocol: Option<&str>, name: &str| {
        let mut rule =
            json!({"action": "Allow", "destination": {"selector": "app == 'web'", "ports": [name]}});
        if let Some(protocol) = protocol {
            rule["protocol"] = protocol.into();
        }
        let rule = world.rule(rule);
        world.members(&rule.dst.named_ports[0])
    };
    assert_eq!(ports(Some("UDP"), "http"), set(&[]));
    assert_eq!(
        ports(Some("UDP"), "dns"),
        set(&["10.0.0.1 UDP 53", "fd00::1 UDP 53"])
    );
    assert_eq!(ports(None, "dns"), set(&["10.0.0.1 UDP 53", "fd00::1 UDP 53"]));
}

#[test]
fn protocols_and_families() {
    let mut world = World::with_pod();
    let mut read = |fields: Value| {
        let mut rule = json!({"action": "Deny"});
        for (k, v) in fields.as_object().unwrap() {
            rule[k] = v.clone();
        }
        let rule = world.rule(rule);
        (rule.protocol, rule.family)
    };
    assert_eq!(
        read(json!({"protocol": "ICMP"})),
        (Some(Proto::ICMP), Some(Family::V4))
    );
    assert_eq!(
        read(json!({"protocol": "ICMPv6"})),
        (Some(Proto::ICMPV6), Some(Family::V6))
    );
    assert_eq!(
        read(json!({"protocol": "icmpv6", "ipVersion": 6})),
        (Some(Proto::ICMPV6), Some(Family::V6))
    );
    assert_eq!(
        read(json!({"protocol": 6, "ipVersion": 6})),
        (Some(Proto::TCP), Some(Family::V6))
    );
    assert_eq!(read(json!({"protocol": "UDPLite"})), (Some(Proto::UDPLITE), None));
    assert_eq!(read(json!({"protocol": 47})), (Some(Proto(47)), None));
    assert_eq!(read(json!({"notProtocol": "ICMP"})), (None, None));
}

#[test]
fn the_rest_of_a_rule_is_carried_as_it_is() {
    let mut world = World::with_pod();
    let rule = world.rule(json!({
        "action": "Pass", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}, "notICMP": {"type": 3},
        "notProtocol": "TCP",
        "source": {"nets": ["10.1.2.3/8", "fd00::/8"], "notNets": ["10.0.0.0/30"]},
    }));
    assert_eq!((rule.action, rule.not_protocol), (Action::Pass, Some(Proto::TCP)));
    let icmp = |icmp_type, code| Some(caracal_desired::IcmpMatch { icmp_type, code });
    assert_eq!((rule.icmp, rule.not_icmp), (icmp(8, Some(0)), icmp(3, None)));
    let nets: Vec<String> = rule.src.nets.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "fd00::/8"]);
    assert!(rule.origin.is_none(), "there is nothing more to tell");
    let told = world.rule(json!({
        "action": "Allow", "protocol": "TCP",
        "source": {"selector": "app in {'a'}", "serviceAccounts": {"names": ["robot"]}},
        "http": {"methods": ["GET"]}, "metadata": {"annotations": {"why": "because"}},
    }));
    let origin = told.origin.unwrap();
    assert_eq!(origin.src_service_accounts.as_ref().unwrap().names, ["robot"]);
    assert_eq!(origin.http.as_ref().unwrap().methods, ["GET"]);
    assert_eq!(origin.annotations, [("why".to_owned(), "because".to_owned())]);
}
