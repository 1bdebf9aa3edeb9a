//! Rules as they are written, for people.

use caracal_api::{EntityRule, Icmp, Kind, Resource, ResourceKey, Rule};
use caracal_ids::{PolicyId, PolicyKind};
use caracal_oracle::{Direction, RuleSource};

use crate::world::World;

/// The object that a rule stands in.
pub(super) fn key_of(source: &RuleSource) -> ResourceKey {
    match source {
        RuleSource::Profile(name) => ResourceKey::global(Kind::Profile, name.as_str()),
        RuleSource::Policy(_, id) => policy_key(id),
    }
}

/// The object of a policy.
pub(super) fn policy_key(id: &PolicyId) -> ResourceKey {
    let kind = match id.kind {
        PolicyKind::NetworkPolicy | PolicyKind::KubernetesNetworkPolicy => Kind::NetworkPolicy,
        PolicyKind::GlobalNetworkPolicy | PolicyKind::KubernetesClusterNetworkPolicy => {
            Kind::GlobalNetworkPolicy
        }
        PolicyKind::StagedNetworkPolicy => Kind::StagedNetworkPolicy,
        PolicyKind::StagedGlobalNetworkPolicy => Kind::StagedGlobalNetworkPolicy,
        PolicyKind::StagedKubernetesNetworkPolicy => Kind::StagedKubernetesNetworkPolicy,
    };
    let namespace = Some(&*id.namespace).filter(|n| !n.is_empty());
    ResourceKey::of(kind, namespace, &id.name)
}

/// `Kind namespace/name`.
pub(super) fn name_of(source: &RuleSource) -> String {
    match source {
        RuleSource::Profile(name) => format!("Profile {name}"),
        RuleSource::Policy(_, id) => policy_name(id),
    }
}

pub(super) fn policy_name(id: &PolicyId) -> String {
    if id.namespace.is_empty() {
        format!("{} {}", id.kind, id.name)
    } else {
        format!("{} {}/{}", id.kind, id.namespace, id.name)
    }
}

/// The rules of one direction as written; empty where the object cannot be found.
pub(super) fn written(world: &World, source: &RuleSource, direction: Direction) -> Vec<Rule> {
    let Some(object) = world.by_key.get(&key_of(source)) else {
        return Vec::new();
    };
    let (ingress, egress) = match &**object {
        Resource::NetworkPolicy(p) => (p.spec.ingress.clone(), p.spec.egress.clone()),
        Resource::GlobalNetworkPolicy(p) => (p.spec.ingress.clone(), p.spec.egress.clone()),
        Resource::StagedNetworkPolicy(p) => (p.spec.ingress.clone(), p.spec.egress.clone()),
        Resource::StagedGlobalNetworkPolicy(p) => (p.spec.ingress.clone(), p.spec.egress.clone()),
        Resource::StagedKubernetesNetworkPolicy(p) => match caracal_convert::staged_network_policy(p) {
            Ok(converted) => (converted.object.ingress, converted.object.egress),
            Err(_) => return Vec::new(),
        },
        Resource::Profile(p) => (p.spec.ingress.clone(), p.spec.egress.clone()),
        _ => return Vec::new(),
    };
    match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    }
}

/// What a rule asks for, in a line; its action is not part of it.
pub(super) fn describe(rule: &Rule) -> String {
    let mut parts = Vec::new();
    parts.extend(rule.ip_version.map(|v| format!("IPv{v}")));
    parts.extend(rule.protocol.as_ref().map(ToString::to_string));
    parts.extend(rule.not_protocol.as_ref().map(|p| format!("not {p}")));
    parts.extend(rule.icmp.map(|i| icmp(&i)));
    parts.extend(rule.not_icmp.map(|i| format!("not {}", icmp(&i))));
    parts.extend(side("from", &rule.source));
    parts.extend(side("to", &rule.destination));
    if rule.http.is_some() {
        parts.push("with HTTP criteria".to_owned());
    }
    if parts.is_empty() {
        "anything".to_owned()
    } else {
        parts.join(" ")
    }
}

pub(super) fn icmp(icmp: &Icmp) -> String {
    let number = |n: Option<i64>| n.map_or_else(|| "any".to_owned(), |n| n.to_string());
    match icmp.code {
        Some(_) => format!("type {} code {}", number(icmp.icmp_type), number(icmp.code)),
        None => format!("type {}", number(icmp.icmp_type)),
    }
}

fn side(word: &str, entity: &EntityRule) -> Option<String> {
    if entity.is_empty() {
        return None;
    }
    let mut parts = vec![word.to_owned()];
    let who = selectors(entity);
    parts.extend((!who.is_empty()).then_some(who));
    parts.extend(list("", &entity.nets));
    parts.extend(list("not ", &entity.not_nets));
    if !entity.not_selector.is_empty() {
        parts.push(format!("not {}", enclosed(&entity.not_selector)));
    }
    parts.extend(
        entity
            .services
            .as_ref()
            .map(|s| format!("service {}/{}", s.namespace, s.name)),
    );
    parts.extend(list(plural(entity.ports.len()), &entity.ports));
    parts.extend(list(
        &format!("not {}", plural(entity.not_ports.len())),
        &entity.not_ports,
    ));
    Some(parts.join(" "))
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "port " } else { "ports " }
}

/// A selector in brackets. That a Kubernetes policy is about Kubernetes' pods is not told again.
pub(super) fn enclosed(selector: &str) -> String {
    let (before, after) = ("(projectcalico.org/orchestrator == \"k8s\" && ", ")");
    let own = selector
        .strip_prefix(before)
        .and_then(|s| s.strip_suffix(after))
        .unwrap_or(selector);
    format!("({own})")
}

/// The positive selectors of a side.
pub(super) fn selectors(entity: &EntityRule) -> String {
    let mut parts = Vec::new();
    if !entity.selector.is_empty() {
        parts.push(enclosed(&entity.selector));
    }
    if !entity.namespace_selector.is_empty() {
        parts.push(format!("of namespaces {}", enclosed(&entity.namespace_selector)));
    }
    if let Some(accounts) = &entity.service_accounts {
        if !accounts.names.is_empty() {
            parts.push(format!("service accounts {}", accounts.names.join(", ")));
        }
        if !accounts.selector.is_empty() {
            parts.push(format!("service accounts {}", enclosed(&accounts.selector)));
        }
    }
    parts.join(" ")
}

pub(super) fn list<T: ToString>(before: &str, values: &[T]) -> Option<String> {
    const SHOWN: usize = 6;
    if values.is_empty() {
        return None;
    }
    let some: Vec<String> = values.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = values.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(", … ({more} more)")
    } else {
        String::new()
    };
    Some(format!("{before}{}{more}", some.join(", ")))
}
