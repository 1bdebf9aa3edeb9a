//! Policies of every kind.

use caracal_api::{
    Action, EntityRule, GlobalNetworkPolicySpec, Icmp, NetworkPolicySpec, Object, PolicyType, Port, Protocol,
    Resource, Rule, ServiceAccountMatch, ServiceMatch, StagedAction, StagedGlobalNetworkPolicySpec,
    StagedNetworkPolicySpec,
};
use caracal_net::PortRange;

use super::{NAMESPACES, nets};
use crate::rng::Rng;

const SELECTORS: [&str; 16] = [
    "app == 'a'",
    "app == 'b'",
    "app != 'a'",
    "app in {'a', 'b'}",
    "app not in {'a'}",
    "has(app)",
    "!has(app)",
    "has(env) && app == 'a'",
    "!has(env) || app == 'b'",
    "app starts with 'a'",
    "app ends with 'b'",
    "app contains 'a'",
    "!(app == 'a')",
    "all()",
    "env == 'prod'",
    "projectcalico.org/namespace == 'red'",
];
const NAMESPACE_SELECTORS: [&str; 6] = [
    "all()",
    "global()",
    "team == 'x'",
    "has(team)",
    "team != 'x'",
    "team not in {'y'}",
];

fn selector(rng: &mut Rng) -> String {
    rng.pick(&SELECTORS).to_owned()
}

fn port(rng: &mut Rng) -> Port {
    match rng.below(4) {
        0 => Port::number(80),
        1 => Port::Range(PortRange { first: 79, last: 81 }),
        2 => Port::number(53),
        _ => Port::Named(rng.pick(&["http", "dns"]).to_owned()),
    }
}

fn ports(rng: &mut Rng, most: usize) -> Vec<Port> {
    let mut ports = Vec::new();
    for port in rng.some(most, port) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

fn entity(rng: &mut Rng, with_ports: bool) -> EntityRule {
    let mut e = EntityRule::default();
    match rng.below(10) {
        0 | 1 => e.nets = nets(rng, 2),
        2 | 3 => e.selector = selector(rng),
        4 => e.not_selector = selector(rng),
        5 => {
            e.namespace_selector = rng.pick(&NAMESPACE_SELECTORS).to_owned();
            if rng.percent(40) {
                e.selector = selector(rng);
            }
        }
        6 => {
            let names = rng.some(1, |r| r.pick(&["robot", "human"]).to_owned());
            let any = names.is_empty() || rng.percent(40);
            let selector = if any {
                rng.pick(&["all()", "team == 'x'", "has(team)"]).to_owned()
            } else {
                String::new()
            };
            e.service_accounts = Some(match rng.percent(10) {
                true => ServiceAccountMatch::default(),
                false => ServiceAccountMatch { names, selector },
            });
            if rng.percent(30) {
                e.not_selector = self::selector(rng);
            }
        }
        7 => {
            e.selector = selector(rng);
            e.not_selector = selector(rng);
        }
        _ => {}
    }
    if rng.percent(12) {
        e.not_nets = nets(rng, 2);
    }
    if with_ports && rng.percent(10) {
        // By name only, of whom is selected.
        e.selector = selector(rng);
        e.ports = vec![Port::Named(rng.pick(&["http", "dns"]).to_owned())];
    } else if with_ports {
        if rng.percent(50) {
            e.ports = ports(rng, 3);
        }
        if rng.percent(15) {
            e.not_ports = ports(rng, 2);
        }
    }
    e
}

fn service(rng: &mut Rng, namespaced: bool) -> EntityRule {
    let own = namespaced && rng.percent(50);
    EntityRule {
        services: Some(ServiceMatch {
            name: rng.pick(&["web", "db"]).to_owned(),
            namespace: if own { "" } else { rng.pick(&NAMESPACES) }.to_owned(),
        }),
        ..EntityRule::default()
    }
}

fn rule(rng: &mut Rng, ingress: bool, namespaced: bool) -> Rule {
    let action = match rng.below(20) {
        0..10 => Action::Allow,
        10..15 => Action::Deny,
        15..18 => Action::Pass,
        _ => Action::Log,
    };
    let mut rule = Rule::new(action);
    let name = |n: &str| Some(Protocol::Name(n.to_owned()));
    let mut with_ports = false;
    match rng.below(10) {
        0..4 => {
            rule.protocol = name(rng.pick(&["TCP", "TCP", "UDP", "SCTP"]));
            with_ports = true;
        }
        4 | 5 => {
            rule.protocol = name(rng.pick(&["ICMP", "ICMPv6"]));
            let icmp = Some(Icmp {
                icmp_type: Some(rng.one(&[8, 13, 128, 139, 3, 11, 1])),
                code: rng.one(&[None, Some(0), Some(1)]),
            });
            if rng.percent(50) {
                rule.icmp = icmp;
            } else {
                rule.not_icmp = icmp;
            }
        }
        6 => {
            rule.not_protocol = Some(rng.one(&[
                Protocol::Name("TCP".into()),
                Protocol::Name("UDP".into()),
                Protocol::Number(47),
            ]));
        }
        7 => rule.protocol = Some(Protocol::Number(rng.one(&[6, 17, 47, 136]))),
        _ => {}
    }
    let is_icmp = matches!(&rule.protocol, Some(Protocol::Name(n)) if n.starts_with("ICMP"));
    if rng.percent(10) && !is_icmp {
        rule.ip_version = rng.one(&[Some(4), Some(6)]);
    }
    let from_service = ingress && rng.percent(12);
    let to_service = !ingress && rng.percent(15);
    rule.source = if from_service {
        service(rng, namespaced)
    } else {
        let side_ports = with_ports && rng.percent(10);
        let e = entity(rng, side_ports);
        if ingress || rng.percent(20) {
            e
        } else {
            EntityRule::default()
        }
    };
    rule.destination = if to_service {
        service(rng, namespaced)
    } else {
        let e = entity(rng, with_ports);
        if !ingress || rng.percent(20) {
            e
        } else {
            EntityRule {
                ports: e.ports,
                not_ports: e.not_ports,
                ..EntityRule::default()
            }
        }
    };
    rule
}

fn rules(rng: &mut Rng, ingress: bool, namespaced: bool) -> Vec<Rule> {
    rng.some(3, |r| rule(r, ingress, namespaced))
}

/// Mostly what profiles of namespaces are: open.
pub(super) fn profile_rules(rng: &mut Rng, ingress: bool) -> Vec<Rule> {
    match rng.below(10) {
        0..7 => vec![Rule::new(Action::Allow)],
        7 => vec![],
        _ => rules(rng, ingress, false),
    }
}

fn order(rng: &mut Rng) -> Option<f64> {
    rng.one(&[None, Some(1.0), Some(1.0), Some(-2.5), Some(100.0)])
}

fn tier(rng: &mut Rng) -> String {
    rng.pick(&["", "default", "early", "early", "a-late", "nowhere"])
        .to_owned()
}

fn types(rng: &mut Rng) -> Vec<PolicyType> {
    let (ingress, egress) = (PolicyType::Ingress, PolicyType::Egress);
    rng.one(&[vec![], vec![ingress], vec![egress], vec![ingress, egress]])
}

/// Which endpoints: often all.
fn whom(rng: &mut Rng) -> String {
    if rng.percent(40) {
        String::new()
    } else {
        selector(rng)
    }
}

fn accounts(rng: &mut Rng) -> String {
    if rng.percent(88) {
        ""
    } else {
        rng.pick(&["all()", "team == 'x'"])
    }
    .to_owned()
}

pub(super) fn namespaced(rng: &mut Rng) -> NetworkPolicySpec {
    NetworkPolicySpec {
        tier: tier(rng),
        order: order(rng),
        ingress: rules(rng, true, true),
        egress: rules(rng, false, true),
        selector: whom(rng),
        types: types(rng),
        service_account_selector: accounts(rng),
        ..NetworkPolicySpec::default()
    }
}

pub(super) fn global(rng: &mut Rng, hosts: bool) -> GlobalNetworkPolicySpec {
    let mut spec = GlobalNetworkPolicySpec {
        tier: tier(rng),
        order: order(rng),
        ingress: rules(rng, true, false),
        egress: rules(rng, false, false),
        selector: whom(rng),
        types: types(rng),
        service_account_selector: accounts(rng),
        ..GlobalNetworkPolicySpec::default()
    };
    if rng.percent(20) {
        // A policy's own may not be global().
        let selector = rng.pick(&NAMESPACE_SELECTORS);
        spec.namespace_selector = selector.replace("global()", "all()");
    }
    if hosts && rng.percent(60) {
        spec.apply_on_forward = true;
        // Those that pods have no place for are for all endpoints of hosts, so that they meet packets.
        match rng.below(3) {
            0 => spec.do_not_track = true,
            1 => {
                spec.pre_dnat = true;
                spec.types = vec![PolicyType::Ingress];
                spec.egress.clear();
            }
            _ => {}
        }
        if spec.do_not_track || spec.pre_dnat {
            spec.selector.clear();
            spec.namespace_selector.clear();
            spec.service_account_selector.clear();
        }
    }
    spec
}

/// Two policies of opposite will that only their names put in order.
fn rivals(rng: &mut Rng) -> [Resource; 2] {
    let (order, tier) = (order(rng), rng.pick(&["default", "early"]).to_owned());
    let mut actions = [Action::Allow, Action::Deny];
    if rng.percent(50) {
        actions.reverse();
    }
    let names = ["a", rng.pick(&["a-b", "a.b"])];
    [0, 1].map(|n| {
        let all = vec![Rule::new(actions[n])];
        let spec = GlobalNetworkPolicySpec {
            tier: tier.clone(),
            order,
            ingress: all.clone(),
            egress: all,
            types: vec![PolicyType::Ingress, PolicyType::Egress],
            ..GlobalNetworkPolicySpec::default()
        };
        Object::new(names[n], spec).into()
    })
}

/// A policy that lets through to named ports of selected endpoints only.
fn by_name(rng: &mut Rng) -> Resource {
    let mut rule = Rule::new(Action::Allow);
    rule.protocol = Some(Protocol::Name("TCP".into()));
    rule.destination = EntityRule {
        selector: rng.pick(&["app == 'a'", "env == 'prod'", "has(env)"]).to_owned(),
        ports: vec![Port::Named("http".into())],
        ..EntityRule::default()
    };
    let spec = GlobalNetworkPolicySpec {
        tier: "default".into(),
        order: Some(-100.0),
        egress: vec![rule],
        types: vec![PolicyType::Egress],
        ..GlobalNetworkPolicySpec::default()
    };
    Object::new("by-name", spec).into()
}

/// A policy that lets everything through but one sort of ICMP messages.
fn by_icmp(rng: &mut Rng) -> Resource {
    let but = |name: &str, icmp_type| {
        let mut rule = Rule::new(Action::Allow);
        rule.protocol = Some(Protocol::Name(name.into()));
        rule.not_icmp = Some(Icmp {
            icmp_type: Some(icmp_type),
            code: None,
        });
        rule
    };
    let mut others = Rule::new(Action::Allow);
    others.protocol = Some(Protocol::Name(rng.pick(&["TCP", "UDP"]).to_owned()));
    let rules = vec![but("ICMP", 8), but("ICMPv6", 128), others];
    let spec = GlobalNetworkPolicySpec {
        tier: "default".into(),
        order: Some(-90.0),
        ingress: rules.clone(),
        egress: rules,
        types: rng.one(&[vec![PolicyType::Ingress], vec![PolicyType::Egress]]),
        ..GlobalNetworkPolicySpec::default()
    };
    Object::new("by-icmp", spec).into()
}

/// Staged by way of JSON: the fields are the same.
pub(super) fn stage<A: serde::Serialize, B: serde::de::DeserializeOwned>(
    spec: &A,
    action: Option<StagedAction>,
) -> Option<B> {
    let mut value = serde_json::to_value(spec).ok()?;
    if let Some(action) = action {
        value["stagedAction"] = serde_json::to_value(action).ok()?;
    }
    serde_json::from_value(value).ok()
}

/// A staged policy of some name.
pub(super) fn staged(rng: &mut Rng, hosts: bool) -> Option<Resource> {
    let (name, namespace) = (rng.pick(&["new", "a"]), rng.pick(&NAMESPACES));
    if rng.percent(50) {
        let spec: StagedGlobalNetworkPolicySpec = stage(&global(rng, hosts), None)?;
        return Some(Object::new(name, spec).into());
    }
    let spec: StagedNetworkPolicySpec = stage(&namespaced(rng), None)?;
    Some(Object::namespaced(namespace, name, spec).into())
}

pub(super) fn policies(rng: &mut Rng, hosts: bool, out: &mut Vec<Resource>) {
    let names = ["a", "a-b", "a.b", "b"];
    let mut made: Vec<Resource> = Vec::new();
    for _ in 0..1 + rng.below(6) {
        let name = rng.pick(&names);
        let namespace = rng.pick(&NAMESPACES);
        let is_global = rng.percent(60);
        let staged = rng.percent(25);
        let action = rng.one(&[None, Some(StagedAction::Set), Some(StagedAction::Learn)]);
        made.extend(match (is_global, staged) {
            (true, false) => Some(Object::new(name, global(rng, hosts)).into()),
            (false, false) => Some(Object::namespaced(namespace, name, namespaced(rng)).into()),
            (true, true) => {
                let spec: Option<StagedGlobalNetworkPolicySpec> = stage(&global(rng, hosts), action);
                spec.map(|s| Object::new(name, s).into())
            }
            (false, true) => {
                let spec: Option<StagedNetworkPolicySpec> = stage(&namespaced(rng), action);
                spec.map(|s| Object::namespaced(namespace, name, s).into())
            }
        });
    }
    if rng.percent(15) {
        made.extend(rivals(rng));
    }
    if rng.percent(10) {
        made.push(by_name(rng));
    }
    if rng.percent(8) {
        made.push(by_icmp(rng));
    }
    if rng.percent(10) {
        let spec = StagedGlobalNetworkPolicySpec {
            staged_action: Some(StagedAction::Delete),
            ..StagedGlobalNetworkPolicySpec::default()
        };
        made.push(Object::new(rng.pick(&names), spec).into());
    }
    // The last of those with one name stays.
    made.reverse();
    made.sort_by_key(Resource::key);
    made.dedup_by_key(|r| r.key());
    out.extend(made);
}
