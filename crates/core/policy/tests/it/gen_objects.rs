//! Random objects from a small world, so that they meet: few names, labels, addresses; some of them wrong.

use std::{collections::BTreeMap, sync::Arc};

use caracal_api::*;
use caracal_net::{PortRange, Proto};
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate, Update};
use proptest::{collection::vec, option, prelude::*, sample::select};

pub(crate) const NODE: &str = "here";
const NAMESPACES: [&str; 2] = ["red", "blue"];

fn text(options: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(options).prop_map(str::to_owned)
}

fn texts(options: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    vec(text(options), 0..=most)
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pair = prop_oneof![
        (Just("app"), select(&["a", "b", "c"][..])),
        (Just("rank"), select(&["low", "lower"][..])),
        (Just("env"), Just("prod")),
    ];
    vec(pair, 0..3).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    })
}

const SELECTORS: &[&str] = &[
    "",
    "all()",
    "app == 'a'",
    "app == 'b'",
    "app in {'a', 'c'}",
    "has(app)",
    "!has(app)",
    "app != 'a'",
    "env == 'prod'",
    "rank starts with 'low' && app == 'a'",
    "app == 'a' || all()",
    "app = 'a'",
];
const RULE_SELECTORS: &[&str] = &[
    "",
    "",
    "",
    "all()",
    "app == 'a'",
    "app == 'b'",
    "has(env)",
    "!has(app)",
    "app not in {'a'}",
    "oops oops",
];
const NAMESPACE_SELECTORS: &[&str] = &[
    "",
    "",
    "",
    "all()",
    "env == 'prod'",
    "env != 'prod'",
    "global()",
    "!all() || env == 'prod'",
];
const ACCOUNT_SELECTORS: &[&str] = &["", "", "", "all()", "role == 'r'"];
const PROFILES: &[&str] = &["kns.red", "kns.blue", "ksa.red.robot", "missing"];
const TIERS: &[&str] = &["", "default", "first", "late", "nowhere"];
const NETS: &[&str] = &["10.0.0.0/8", "10.1.2.3/16", "fd00::/8", "0.0.0.0/0", "1.2.3.4"];

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let port = prop_oneof![
        Just(Port::number(80)),
        Just(Port::Range(PortRange {
            first: 8000,
            last: 8010
        })),
        Just(Port::Named("http".into())),
        Just(Port::Named("dns".into())),
    ];
    prop_oneof![3 => Just(Vec::new()), 2 => vec(port, 1..4)]
}

fn entity() -> impl Strategy<Value = EntityRule> {
    let nets = || prop_oneof![4 => texts(NETS, 2), 1 => texts(&["10.0.0.0/33"], 1)];
    let accounts = (texts(&["robot", "human"], 2), text(ACCOUNT_SELECTORS))
        .prop_map(|(names, selector)| ServiceAccountMatch { names, selector });
    let accounts = prop_oneof![4 => Just(None), 1 => accounts.prop_map(Some)];
    let some_nets = || prop_oneof![3 => Just(Vec::new()), 1 => nets()];
    (
        some_nets(),
        some_nets(),
        text(RULE_SELECTORS),
        text(RULE_SELECTORS),
        text(NAMESPACE_SELECTORS),
        accounts,
        ports(),
        ports(),
    )
        .prop_map(
            |(
                nets,
                not_nets,
                selector,
                not_selector,
                namespace_selector,
                service_accounts,
                ports,
                not_ports,
            )| {
                EntityRule {
                    nets,
                    not_nets,
                    selector,
                    not_selector,
                    namespace_selector,
                    service_accounts,
                    ports,
                    not_ports,
                    services: None,
                }
            },
        )
}

fn service() -> impl Strategy<Value = ServiceMatch> {
    (select(&["web", "db", ""][..]), select(&["", "red", "blue"][..])).prop_map(|(name, namespace)| {
        ServiceMatch {
            name: name.into(),
            namespace: namespace.into(),
        }
    })
}

/// Criteria, or now and then a service in their place or (wrongly) beside them.
fn entity_or_service() -> impl Strategy<Value = EntityRule> {
    let alone = (service(), ports()).prop_map(|(service, ports)| EntityRule {
        services: Some(service),
        ports,
        ..EntityRule::default()
    });
    let beside = (service(), entity()).prop_map(|(service, entity)| EntityRule {
        services: Some(service),
        ..entity
    });
    prop_oneof![12 => entity(), 3 => alone, 1 => beside]
}

/// A slice of a service comes to be, changes, or goes.
pub(crate) fn slice() -> impl Strategy<Value = SliceUpdate> {
    let address = select(&["10.0.0.1", "10.0.0.2", "fd00::1"][..]).prop_map(|a| a.parse().unwrap());
    let port = (select(vec![Proto::TCP, Proto::UDP]), select(vec![80, 53]))
        .prop_map(|(proto, port)| SlicePort { proto, port });
    let value = (
        select(&["web", "db", ""][..]),
        vec(address, 0..4),
        vec(port, 0..3),
    )
        .prop_map(|(service, addresses, ports)| EndpointSlice {
            service: service.into(),
            addresses,
            ports,
        });
    (
        select(&NAMESPACES[..]),
        select(&["s1", "s2", "s3"][..]),
        option::weighted(0.75, value),
    )
        .prop_map(|(namespace, name, value)| SliceUpdate {
            key: SliceKey {
                namespace: namespace.into(),
                name: name.into(),
            },
            value: value.map(Arc::new),
        })
}

fn protocol() -> impl Strategy<Value = Option<Protocol>> {
    let name = |n: &str| Some(Protocol::Name(n.to_owned()));
    prop_oneof![
        2 => Just(None),
        4 => Just(name("TCP")),
        2 => Just(name("UDP")),
        1 => Just(Some(Protocol::Number(6))),
        1 => Just(name("ICMP")),
        1 => Just(name("ICMPv6")),
        1 => Just(name("Carrier pigeon")),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let icmp =
        (option::of(0..260i64), option::of(0..3i64)).prop_map(|(icmp_type, code)| Icmp { icmp_type, code });
    let icmp = icmp.prop_filter("neither is no criterion", |i| {
        i.icmp_type.is_some() || i.code.is_some()
    });
    (
        select(vec![Action::Allow, Action::Deny, Action::Pass, Action::Log]),
        protocol(),
        prop_oneof![5 => Just(None), 1 => icmp.prop_map(Some)],
        prop_oneof![6 => Just(None), 1 => select(vec![Some(4), Some(6), Some(5)])],
        prop_oneof![5 => Just(None), 1 => protocol()],
        entity_or_service(),
        prop_oneof![2 => Just(EntityRule::default()), 1 => entity_or_service()],
        any::<bool>(),
    )
        .prop_map(|(action, protocol, icmp, ip_version, not_protocol, a, b, swap)| {
            let (source, destination) = if swap { (a, b) } else { (b, a) };
            Rule {
                protocol,
                icmp,
                ip_version,
                not_protocol,
                source,
                destination,
                ..Rule::new(action)
            }
        })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(), 0..3)
}

fn order() -> impl Strategy<Value = Option<f64>> {
    select(vec![None, Some(1.0), Some(1.0), Some(-2.5), Some(100.0)])
}

fn types() -> impl Strategy<Value = Vec<PolicyType>> {
    use PolicyType::{Egress, Ingress};
    select(vec![vec![], vec![Ingress], vec![Egress], vec![Ingress, Egress]])
}

fn hints() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![6 => Just(vec![]), 1 => Just(vec!["AssumeNeededOnEveryNode".to_owned()])]
}

fn set<S: Spec>(namespace: Option<&str>, name: &str, labels: BTreeMap<String, String>, spec: S) -> Update
where
    Resource: From<Object<S>>,
{
    let mut object = match namespace {
        Some(ns) => Object::namespaced(ns, name, spec),
        None => Object::new(name, spec),
    };
    object.metadata.labels = labels;
    Update::set(object.into())
}

fn workload() -> impl Strategy<Value = Update> {
    const IPS: &[&str] = &["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3", "fd00::1/128", "fd00::2"];
    let ips = prop_oneof![8 => vec(text(IPS), 1..3), 1 => Just(vec![]), 1 => Just(vec!["10.0.0.1".into(), "nonsense".into()])];
    let port = |name: &str, proto: &str, port| WorkloadPort {
        name: name.into(),
        protocol: Protocol::Name(proto.into()),
        port,
        host_port: 0,
        host_ip: String::new(),
    };
    let port = select(vec![
        port("http", "TCP", 80),
        port("http", "TCP", 8080),
        port("dns", "UDP", 53),
        port("dns", "TCP", 53),
    ]);
    (
        select(&NAMESPACES[..]),
        select(&["p1", "p2", "p3", "p4"][..]),
        labels(),
        ips,
        texts(PROFILES, 2),
        vec(port, 0..3),
        prop_oneof![3 => Just(NODE), 2 => Just("elsewhere")],
        select(&["", "robot"][..]),
    )
        .prop_map(
            |(ns, name, labels, ip_networks, profiles, ports, node, account)| {
                let spec = WorkloadEndpointSpec {
                    node: node.into(),
                    ip_networks,
                    profiles,
                    ports,
                    service_account_name: account.into(),
                    interface_name: format!("cali{name}"),
                    ..WorkloadEndpointSpec::default()
                };
                set(Some(ns), name, labels, spec)
            },
        )
}

fn host() -> impl Strategy<Value = Update> {
    let ips = texts(&["10.0.0.1", "192.168.0.1", "fd00::1", "nonsense"], 2);
    let ports = vec(
        Just(EndpointPort {
            name: "http".into(),
            protocol: Protocol::Name("TCP".into()),
            port: 80,
        }),
        0..2,
    );
    (
        select(&["eth0", "all"][..]),
        labels(),
        ips,
        texts(PROFILES, 1),
        ports,
        prop_oneof![3 => Just(NODE), 1 => Just("elsewhere")],
    )
        .prop_map(|(name, labels, expected_ips, profiles, ports, node)| {
            let spec = HostEndpointSpec {
                node: node.into(),
                interface_name: name.into(),
                expected_ips,
                profiles,
                ports,
            };
            set(None, name, labels, spec)
        })
}

fn network_set() -> impl Strategy<Value = Update> {
    let nets = prop_oneof![6 => texts(NETS, 3), 1 => Just(vec!["10.0.0.0/8".to_owned(), "/".to_owned()])];
    let namespace = select(vec![None, Some("red"), Some("blue")]);
    (
        namespace,
        select(&["s1", "s2"][..]),
        labels(),
        nets,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(namespace, name, mut labels, nets, forged)| {
            if forged {
                labels.insert("projectcalico.org/namespace".into(), "red".into());
            }
            match namespace {
                Some(ns) => set(Some(ns), name, labels, NetworkSetSpec { nets }),
                None => set(None, name, labels, GlobalNetworkSetSpec { nets }),
            }
        })
}

fn profile() -> impl Strategy<Value = Update> {
    let pair = prop_oneof![
        (Just("pcns.env"), select(&["prod", "test"][..])),
        (Just("pcsa.role"), Just("r")),
        (Just("env"), select(&["prod", "test"][..])),
        (Just("app"), select(&["a", "b"][..])),
    ];
    let handed =
        vec(pair, 0..3).prop_map(|p| p.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    (select(&PROFILES[..3]), handed, rules(), rules()).prop_map(|(name, labels_to_apply, ingress, egress)| {
        let spec = ProfileSpec {
            ingress,
            egress,
            labels_to_apply,
        };
        set(None, name, BTreeMap::new(), spec)
    })
}

fn tier() -> impl Strategy<Value = Update> {
    let action = select(vec![
        None,
        Some(TierDefaultAction::Deny),
        Some(TierDefaultAction::Pass),
    ]);
    (select(&TIERS[1..4]), order(), action).prop_map(|(name, order, default_action)| {
        set(
            None,
            name,
            BTreeMap::new(),
            TierSpec {
                order,
                default_action,
            },
        )
    })
}

fn policy() -> impl Strategy<Value = Update> {
    (
        select(&NAMESPACES[..]),
        select(&["a", "a-b", "knp.default.x"][..]),
        text(TIERS),
        order(),
        (rules(), rules()),
        text(SELECTORS),
        types(),
        text(ACCOUNT_SELECTORS),
        hints(),
    )
        .prop_map(
            |(ns, name, tier, order, (ingress, egress), selector, types, accounts, performance_hints)| {
                let spec = NetworkPolicySpec {
                    tier,
                    order,
                    ingress,
                    egress,
                    selector,
                    types,
                    service_account_selector: accounts,
                    performance_hints,
                };
                set(Some(ns), name, BTreeMap::new(), spec)
            },
        )
}

fn global_policy() -> impl Strategy<Value = Update> {
    let kind = prop_oneof![
        4 => Just([false, false, false]),
        1 => Just([false, false, true]),
        1 => Just([true, false, true]),
        1 => Just([false, true, true]),
    ];
    (
        select(&["a", "a-b", "g"][..]),
        text(TIERS),
        order(),
        (rules(), rules()),
        text(SELECTORS),
        types(),
        (text(ACCOUNT_SELECTORS), text(NAMESPACE_SELECTORS)),
        kind,
        hints(),
    )
        .prop_map(
            |(name, tier, order, (ingress, egress), selector, types, scope, kind, performance_hints)| {
                let spec = GlobalNetworkPolicySpec {
                    tier,
                    order,
                    ingress,
                    egress,
                    selector,
                    types,
                    do_not_track: kind[0],
                    pre_dnat: kind[1],
                    apply_on_forward: kind[2],
                    service_account_selector: scope.0,
                    namespace_selector: scope.1,
                    performance_hints,
                };
                set(None, name, BTreeMap::new(), spec)
            },
        )
}

/// The same policy, staged.
fn staged() -> impl Strategy<Value = Update> {
    let action = select(vec![
        None,
        Some(StagedAction::Set),
        Some(StagedAction::Learn),
        Some(StagedAction::Ignore),
        Some(StagedAction::Delete),
    ]);
    let enforced = prop_oneof![policy(), global_policy()];
    (enforced, action).prop_map(|(update, staged_action)| {
        let staged: Resource = match update.value.as_deref() {
            Some(Resource::NetworkPolicy(p)) => {
                let mut value = serde_json::to_value(&p.spec).unwrap();
                value["stagedAction"] = serde_json::to_value(staged_action).unwrap();
                let spec: StagedNetworkPolicySpec = serde_json::from_value(value).unwrap();
                Object::namespaced(&*update.key.namespace, &*update.key.name, spec).into()
            }
            Some(Resource::GlobalNetworkPolicy(p)) => {
                let mut value = serde_json::to_value(&p.spec).unwrap();
                value["stagedAction"] = serde_json::to_value(staged_action).unwrap();
                let spec: StagedGlobalNetworkPolicySpec = serde_json::from_value(value).unwrap();
                Object::new(&*update.key.name, spec).into()
            }
            other => panic!("{other:?} is no policy"),
        };
        Update::set(staged)
    })
}

/// An object comes to be, changes, or goes; it need not have been there.
pub(crate) fn update() -> impl Strategy<Value = Update> {
    let object = prop_oneof![
        4 => workload(),
        1 => host(),
        2 => network_set(),
        2 => profile(),
        1 => tier(),
        3 => policy(),
        3 => global_policy(),
        2 => staged(),
    ];
    (object, prop::bool::weighted(0.25))
        .prop_map(|(update, gone)| if gone { Update::gone(update.key) } else { update })
}
