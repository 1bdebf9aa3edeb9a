//! Rules that can never decide, because one before them takes everything they could match.

use caracal_api::{Action, EntityRule, PolicyType, Port, Rule};
use caracal_net::Cidr;

use super::{Finding, PolicyView, Severity};

pub(super) fn shadowed(policies: &[PolicyView<'_>], out: &mut Vec<Finding>) {
    for policy in policies {
        for (_, direction, rules) in policy.directions() {
            for (n, rule) in rules.iter().enumerate() {
                let before = rules[..n]
                    .iter()
                    .position(|first| first.action != Action::Log && covers(first, rule));
                let Some(before) = before else { continue };
                let same = rules[before].action == rule.action;
                out.push(finding(
                    policy,
                    direction,
                    n,
                    format!(
                        "everything it matches is decided by {direction}[{before}] ({:?}) before it{}",
                        rules[before].action,
                        if same { ", with the same action" } else { "" }
                    ),
                ));
            }
        }
    }
    for (at, policy) in policies.iter().enumerate() {
        for (kind, direction, rules) in policy.directions() {
            let before = policies[..at].iter().find(|p| decides_all(p, policy, &kind));
            let Some(before) = before.filter(|_| !rules.is_empty() && policy.types.contains(&kind)) else {
                continue;
            };
            out.push(finding(
                policy,
                direction,
                0,
                format!(
                    "{} comes first in tier {:?}, selects the same and decides everything",
                    before.name, policy.tier
                ),
            ));
        }
    }
}

fn finding(policy: &PolicyView<'_>, direction: &str, n: usize, message: String) -> Finding {
    Finding {
        id: "shadowed-rule",
        severity: Severity::Warning,
        object: policy.name.clone(),
        rule: Some(format!("{direction}[{n}]")),
        message,
        fix: "put it before the other, narrow the other, or delete it".to_owned(),
    }
}

/// Whether `first` leaves nothing for `then` in the same tier.
fn decides_all(first: &PolicyView<'_>, then: &PolicyView<'_>, kind: &PolicyType) -> bool {
    let rules = match kind {
        PolicyType::Ingress => first.ingress,
        PolicyType::Egress => first.egress,
    };
    let [namespace, selector, namespaces, accounts] = first.scope;
    let everybody = namespace.is_empty()
        && namespaces.is_empty()
        && accounts.is_empty()
        && matches!(selector.trim(), "" | "all()");
    let everything = |r: &Rule| {
        r.action != Action::Log
            && *r
                == Rule {
                    metadata: r.metadata.clone(),
                    ..Rule::new(r.action)
                }
    };
    first.tier == then.tier
        && first.hosts_only == then.hosts_only
        && !first.hosts_only
        && first.types.contains(kind)
        && (everybody || first.scope == then.scope)
        && rules.iter().any(everything)
}

/// Whether every packet that `then` matches is matched by `first` too. Says no where that cannot be seen from the text.
fn covers(first: &Rule, then: &Rule) -> bool {
    fn free_or_same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        a.is_none() || a == b
    }
    let proto = |r: &Rule| r.protocol.as_ref().and_then(caracal_api::Protocol::proto);
    (first.protocol.is_none() || (proto(first).is_some() && proto(first) == proto(then)))
        && free_or_same(&first.not_protocol, &then.not_protocol)
        && free_or_same(&first.ip_version, &then.ip_version)
        && free_or_same(&first.icmp, &then.icmp)
        && free_or_same(&first.not_icmp, &then.not_icmp)
        && free_or_same(&first.http, &then.http)
        && side_covers(&first.source, &then.source)
        && side_covers(&first.destination, &then.destination)
}

fn side_covers(first: &EntityRule, then: &EntityRule) -> bool {
    let who = |e: &EntityRule| {
        (
            e.selector.trim().to_owned(),
            e.namespace_selector.trim().to_owned(),
            e.not_selector.trim().to_owned(),
            e.service_accounts.clone(),
            e.services.clone(),
        )
    };
    let anybody = who(first) == who(&EntityRule::default());
    let inside = |net: &str, nets: &[String]| {
        let Ok(net) = net.parse::<Cidr>() else {
            return false;
        };
        nets.iter()
            .filter_map(|n| n.parse::<Cidr>().ok())
            .any(|n| n.covers(&net))
    };
    let within = |port: &Port| first.ports.iter().any(|p| port_covers(p, port));
    (anybody || who(first) == who(then))
        && (first.nets.is_empty()
            || !then.nets.is_empty() && then.nets.iter().all(|n| inside(n, &first.nets)))
        && first.not_nets.iter().all(|n| inside(n, &then.not_nets))
        && (first.ports.is_empty() || !then.ports.is_empty() && then.ports.iter().all(within))
        && (first.not_ports.is_empty() || first.not_ports == then.not_ports)
}

fn port_covers(first: &Port, then: &Port) -> bool {
    match (first, then) {
        (Port::Range(a), Port::Range(b)) => a.first <= b.first && b.last <= a.last,
        _ => first == then,
    }
}
