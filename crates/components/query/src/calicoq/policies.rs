//! Policies and profiles with what they and their rules select.

use caracal_api::{Object, Resource, Rule, Spec};
use caracal_ids::{PolicyId, PolicyKind};
use caracal_selector::Selector;

use super::scope;

/// A policy or profile.
pub(super) struct Policy {
    /// `namespace/name`, or the name.
    pub(super) name: String,
    pub(super) id: Option<PolicyId>,
    pub(super) order: Option<f64>,
    /// Text; empty for profiles.
    pub(super) selector: String,
    pub(super) rules: Vec<RuleSelector>,
}

/// A selector of a rule.
pub(super) struct RuleSelector {
    /// Such as `outbound rule 1 destination match`.
    pub(super) what: String,
    pub(super) text: String,
    pub(super) parsed: Option<Selector>,
}

/// What a policy of any kind says of whom it is about, and its rules.
struct Parts<'a> {
    order: Option<f64>,
    selector: &'a str,
    of_namespaces: &'a str,
    of_accounts: &'a str,
    ingress: &'a [Rule],
    egress: &'a [Rule],
}

/// The parts of a spec; of those kinds that select namespaces with the selector for them.
macro_rules! parts {
    ($spec:expr, $of_namespaces:expr) => {
        Parts {
            order: $spec.order,
            selector: &$spec.selector,
            of_namespaces: $of_namespaces,
            of_accounts: &$spec.service_account_selector,
            ingress: &$spec.ingress,
            egress: &$spec.egress,
        }
    };
}

/// The policy or profile that an object is, if it is one.
pub(super) fn policy(object: &Resource) -> Option<Policy> {
    use PolicyKind as K;
    Some(match object {
        Resource::NetworkPolicy(p) => made(p, K::NetworkPolicy, &parts!(p.spec, "")),
        Resource::StagedNetworkPolicy(p) => made(p, K::StagedNetworkPolicy, &parts!(p.spec, "")),
        Resource::GlobalNetworkPolicy(p) => {
            let parts = parts!(p.spec, &p.spec.namespace_selector);
            made(p, K::GlobalNetworkPolicy, &parts)
        }
        Resource::StagedGlobalNetworkPolicy(p) => {
            let parts = parts!(p.spec, &p.spec.namespace_selector);
            made(p, K::StagedGlobalNetworkPolicy, &parts)
        }
        Resource::StagedKubernetesNetworkPolicy(p) => {
            let spec = caracal_convert::staged_network_policy(p).ok()?.object;
            made(p, K::StagedKubernetesNetworkPolicy, &parts!(spec, ""))
        }
        Resource::Profile(p) => Policy {
            name: p.metadata.name.clone(),
            id: None,
            order: None,
            selector: String::new(),
            rules: rules("", &p.spec.ingress, &p.spec.egress),
        },
        _ => return None,
    })
}

fn made<S: Spec>(object: &Object<S>, kind: PolicyKind, parts: &Parts<'_>) -> Policy {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = &object.metadata.name;
    let Parts {
        selector,
        of_namespaces,
        of_accounts,
        ..
    } = parts;
    Policy {
        name: if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        },
        id: Some(PolicyId::namespaced(kind, namespace, name)),
        order: parts.order,
        selector: scope::of_policy(namespace, selector, of_namespaces, of_accounts),
        rules: rules(namespace, parts.ingress, parts.egress),
    }
}

fn rules(namespace: &str, ingress: &[Rule], egress: &[Rule]) -> Vec<RuleSelector> {
    let mut all = Vec::new();
    for (direction, list) in [("inbound", ingress), ("outbound", egress)] {
        for (n, rule) in list.iter().enumerate() {
            for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
                let (positive, negative) = scope::of_side(namespace, entity);
                let found = [("match", positive), ("not match", negative)];
                all.extend(found.into_iter().filter_map(|(word, text)| {
                    let text = text?;
                    Some(RuleSelector {
                        what: format!("{direction} rule {} {side} {word}", n + 1),
                        parsed: Selector::parse(&text).ok(),
                        text,
                    })
                }));
            }
        }
    }
    all
}
