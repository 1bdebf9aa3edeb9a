//! Scoping: what a selector means in the place where it is written (`calico-components.md` §3.6).
//!
//! Labels of namespaces and service accounts reach endpoints through their profiles, under the prefixes below. Scope
//! is added to the expression, never to its text.

use caracal_api::{EntityRule, ServiceAccountMatch};
use caracal_selector::Selector;

use crate::faults::Fault;

/// The label that says which namespace an endpoint or network set is in.
pub(crate) const NAMESPACE: &str = "projectcalico.org/namespace";
/// The label that says which service account a workload runs as.
pub(crate) const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// The label that says who runs a workload.
pub(crate) const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// Before the names of a namespace's labels.
const NAMESPACE_PREFIX: &str = "pcns.";
/// Before the names of a service account's labels.
const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";

/// Reads a selector in which `global()` has no meaning.
fn plain(text: &str, field: &str) -> Result<Selector, Fault> {
    let selector = parse(text, field)?;
    if selector.contains_global() {
        return Err(Fault::new(
            field,
            "global() is allowed only as the whole of a rule's namespaceSelector",
        ));
    }
    Ok(selector)
}

fn parse(text: &str, field: &str) -> Result<Selector, Fault> {
    Selector::parse(text).map_err(|e| Fault::new(field, format!("bad selector {}", e.summary())))
}

fn in_namespace(namespace: &str) -> Selector {
    Selector::eq(NAMESPACE, namespace)
}

/// A selector of namespaces as one of endpoints: `all()` is everything in a namespace, `global()` everything in none.
fn of_namespaces(text: &str, field: &str) -> Result<Selector, Fault> {
    let selector = parse(text, field)?;
    if selector.is_global() {
        return Ok(Selector::has(NAMESPACE).not());
    }
    if selector.contains_global() {
        return Err(Fault::new(
            field,
            "global() cannot be combined with anything else",
        ));
    }
    Ok(selector
        .map_labels(NAMESPACE_PREFIX)
        .replace_all_with(&Selector::has(NAMESPACE)))
}

/// A selector of service accounts as one of endpoints.
fn of_service_accounts(text: &str, field: &str) -> Result<Selector, Fault> {
    Ok(plain(text, field)?
        .map_labels(SERVICE_ACCOUNT_PREFIX)
        .replace_all_with(&Selector::has(SERVICE_ACCOUNT)))
}

/// The selectors of a policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PolicyScope<'a> {
    /// Empty for a global policy.
    pub(crate) namespace: &'a str,
    pub(crate) selector: &'a str,
    pub(crate) namespace_selector: &'a str,
    pub(crate) service_account_selector: &'a str,
}

/// Which endpoints a policy selects.
pub(crate) fn of_policy(policy: PolicyScope<'_>) -> Result<Selector, Fault> {
    let mut parts = Vec::new();
    if !policy.selector.is_empty() {
        parts.push(plain(policy.selector, "spec.selector")?);
    }
    if !policy.namespace_selector.is_empty() {
        let namespaces = of_namespaces(policy.namespace_selector, "spec.namespaceSelector")?;
        // As in Calico, all() in the policy's own selector means "in some namespace" too; beside global() that would
        // select nothing, so there it keeps its meaning.
        if namespaces != Selector::has(NAMESPACE).not() {
            narrow_all(&mut parts, NAMESPACE);
        }
        parts.push(namespaces);
    }
    if !policy.service_account_selector.is_empty() {
        narrow_all(&mut parts, SERVICE_ACCOUNT);
        parts.push(of_service_accounts(
            policy.service_account_selector,
            "spec.serviceAccountSelector",
        )?);
    }
    if !policy.namespace.is_empty() {
        parts.push(in_namespace(policy.namespace));
    }
    Ok(Selector::all_of(parts))
}

fn narrow_all(parts: &mut [Selector], label: &str) {
    for part in parts {
        *part = part.replace_all_with(&Selector::has(label));
    }
}

/// What one side of a rule selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EntityScope {
    /// The address must be one of what this selects.
    pub(crate) positive: Option<Selector>,
    /// The address must not be one of what this selects; only where there is no positive one to hold it.
    pub(crate) negative: Option<Selector>,
}

/// Which addresses one side of a rule is about. `namespace` is the policy's, empty for a global policy or a profile.
pub(crate) fn of_entity(entity: &EntityRule, namespace: &str) -> Result<EntityScope, Fault> {
    let accounts = entity.service_accounts.as_ref();
    let scoped = !entity.selector.is_empty()
        || !entity.not_selector.is_empty()
        || !entity.namespace_selector.is_empty()
        || accounts.is_some();
    let mut parts = Vec::new();
    if !entity.namespace_selector.is_empty() {
        parts.push(of_namespaces(&entity.namespace_selector, "namespaceSelector")?);
    } else if scoped && !namespace.is_empty() {
        parts.push(in_namespace(namespace));
    }
    if let Some(accounts) = accounts {
        of_accounts(accounts, &mut parts)?;
    }
    if !entity.selector.is_empty() {
        parts.push(plain(&entity.selector, "selector")?);
    }
    let negative = match entity.not_selector.as_str() {
        "" => None,
        text => Some(plain(text, "notSelector")?),
    };
    if parts.is_empty() {
        return Ok(EntityScope {
            positive: None,
            negative,
        });
    }
    parts.extend(negative.map(|n| n.not()));
    Ok(EntityScope {
        positive: Some(Selector::all_of(parts)),
        negative: None,
    })
}

fn of_accounts(accounts: &ServiceAccountMatch, parts: &mut Vec<Selector>) -> Result<(), Fault> {
    if !accounts.names.is_empty() {
        parts.push(Selector::in_set(SERVICE_ACCOUNT, &accounts.names));
    }
    if !accounts.selector.is_empty() {
        parts.push(of_service_accounts(
            &accounts.selector,
            "serviceAccounts.selector",
        )?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
