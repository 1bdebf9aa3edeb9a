//! Policies and profiles with what they and their rules select.

use caracal_api::{Kind, Object, Resource, ResourceKey, Rule, Spec};
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

/// The policy or profile that an object is, if it is one.
pub(super) fn policy(object: &Resource) -> Option<Policy> {
    match object {
        Resource::NetworkPolicy(p) => {
            let s = &p.spec;
            Some(made(
                p,
                PolicyKind::NetworkPolicy,
                s.order,
                (&s.selector, "", &s.service_account_selector),
                (&s.ingress, &s.egress),
            ))
        }
        Resource::StagedNetworkPolicy(p) => {
            let s = &p.spec;
            Some(made(
                p,
                PolicyKind::StagedNetworkPolicy,
                s.order,
                (&s.selector, "", &s.service_account_selector),
                (&s.ingress, &s.egress),
            ))
        }
        Resource::GlobalNetworkPolicy(p) => {
            let s = &p.spec;
            let scope = (
                s.selector.as_str(),
                s.namespace_selector.as_str(),
                s.service_account_selector.as_str(),
            );
            Some(made(
                p,
                PolicyKind::GlobalNetworkPolicy,
                s.order,
                scope,
                (&s.ingress, &s.egress),
            ))
        }
        Resource::StagedGlobalNetworkPolicy(p) => {
            let s = &p.spec;
            let scope = (
                s.selector.as_str(),
                s.namespace_selector.as_str(),
                s.service_account_selector.as_str(),
            );
            Some(made(
                p,
                PolicyKind::StagedGlobalNetworkPolicy,
                s.order,
                scope,
                (&s.ingress, &s.egress),
            ))
        }
        Resource::StagedKubernetesNetworkPolicy(p) => {
            let s = caracal_convert::staged_network_policy(p).ok()?.object;
            Some(made(
                p,
                PolicyKind::StagedKubernetesNetworkPolicy,
                s.order,
                (&s.selector, "", ""),
                (&s.ingress, &s.egress),
            ))
        }
        Resource::Profile(p) => {
            let key = ResourceKey::global(Kind::Profile, &p.metadata.name);
            Some(Policy {
                name: key.name.to_string(),
                id: None,
                order: None,
                selector: String::new(),
                rules: rules("", &p.spec.ingress, &p.spec.egress),
            })
        }
        _ => None,
    }
}

fn made<S: Spec>(
    object: &Object<S>,
    kind: PolicyKind,
    order: Option<f64>,
    (selector, of_namespaces, of_accounts): (&str, &str, &str),
    (ingress, egress): (&[Rule], &[Rule]),
) -> Policy {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = &object.metadata.name;
    Policy {
        name: if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        },
        id: Some(PolicyId::namespaced(kind, namespace, name)),
        order,
        selector: scope::of_policy(namespace, selector, of_namespaces, of_accounts),
        rules: rules(namespace, ingress, egress),
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
