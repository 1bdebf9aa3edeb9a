//! What is wrong with policies, or does nothing, by the objects of a state.

mod rules;
mod scope;

use std::collections::BTreeSet;

use caracal_api::{
    Action, HostEndpointSpec, Object, PolicyType, Resource, Rule, TierDefaultAction, policy_tier,
};
use caracal_desired::{Desired, Side};
use caracal_ids::{PolicyId, PolicyKind};
use serde::Serialize;

use crate::diff::desired_of;
use crate::state::State;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not in force, or drops, although it reads otherwise.
    Error,
    /// Something does nothing.
    Warning,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What kind of finding it is; never changes its meaning.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The object: `Kind/namespace/name` or `Kind/name`.
    pub object: String,
    /// The rule, for example `ingress[2]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// A policy of any kind with what the checks need.
pub(crate) struct PolicyView<'a> {
    pub(crate) id: PolicyId,
    pub(crate) name: String,
    pub(crate) tier: String,
    pub(crate) order: Option<f64>,
    pub(crate) types: &'a [PolicyType],
    pub(crate) ingress: &'a [Rule],
    pub(crate) egress: &'a [Rule],
    /// Namespace, selector, namespace selector, service account selector.
    pub(crate) scope: [&'a str; 4],
    /// Only host endpoints can be governed by it.
    pub(crate) hosts_only: bool,
}

impl<'a> PolicyView<'a> {
    pub(crate) fn directions(&self) -> [(PolicyType, &'static str, &'a [Rule]); 2] {
        [
            (PolicyType::Ingress, "ingress", self.ingress),
            (PolicyType::Egress, "egress", self.egress),
        ]
    }
}

/// The enforced policies of a state, in the order in which they are asked.
pub(crate) fn policies(state: &State) -> Vec<PolicyView<'_>> {
    let mut found: Vec<PolicyView<'_>> = state.objects().filter_map(view).collect();
    // Tiers that do not exist are behind those that do, also behind those without an order.
    let place = |name: &str| {
        let of = |r: &Resource| match r {
            Resource::Tier(t) if t.metadata.name == name => {
                Some((false, t.spec.order.unwrap_or(f64::INFINITY)))
            }
            _ => None,
        };
        state.objects().find_map(of).unwrap_or((true, f64::INFINITY))
    };
    let tiers: std::collections::BTreeMap<String, (bool, f64)> =
        found.iter().map(|p| (p.tier.clone(), place(&p.tier))).collect();
    found.sort_by(|a, b| {
        let order = |p: &PolicyView<'_>| (tiers[&p.tier], p.order.unwrap_or(f64::INFINITY));
        let (((ma, ta), oa), ((mb, tb), ob)) = (order(a), order(b));
        let by_tier = ma
            .cmp(&mb)
            .then(ta.total_cmp(&tb))
            .then_with(|| a.tier.cmp(&b.tier));
        by_tier
            .then(oa.total_cmp(&ob))
            .then_with(|| a.id.tie_break().cmp(&b.id.tie_break()))
    });
    found
}

fn view(resource: &Resource) -> Option<PolicyView<'_>> {
    let tier = policy_tier(resource)?.to_owned();
    match resource {
        Resource::NetworkPolicy(o) => {
            let namespace = o.metadata.namespace.as_deref().unwrap_or_default();
            let id = PolicyId::namespaced(PolicyKind::NetworkPolicy, namespace, &o.metadata.name);
            Some(PolicyView {
                name: id.to_string(),
                id,
                tier,
                order: o.spec.order,
                types: &o.spec.types,
                ingress: &o.spec.ingress,
                egress: &o.spec.egress,
                scope: [namespace, &o.spec.selector, "", &o.spec.service_account_selector],
                hosts_only: false,
            })
        }
        Resource::GlobalNetworkPolicy(o) => {
            let id = PolicyId::global(PolicyKind::GlobalNetworkPolicy, &o.metadata.name);
            Some(PolicyView {
                name: id.to_string(),
                id,
                tier,
                order: o.spec.order,
                types: &o.spec.types,
                ingress: &o.spec.ingress,
                egress: &o.spec.egress,
                scope: [
                    "",
                    &o.spec.selector,
                    &o.spec.namespace_selector,
                    &o.spec.service_account_selector,
                ],
                hosts_only: o.spec.do_not_track || o.spec.pre_dnat || o.spec.apply_on_forward,
            })
        }
        _ => None,
    }
}

/// Looks for everything that is wrong, in order of severity and objects.
#[must_use]
pub fn lint(state: &State) -> Vec<Finding> {
    let desired = desired_of(state);
    let policies = policies(state);
    let mut out = Vec::new();
    invalid(&desired, &mut out);
    tiers(state, &policies, &mut out);
    rules::shadowed(&policies, &mut out);
    log_only(state, &policies, &mut out);
    http(&policies, &mut out);
    scope::host_pods(state, &desired, &mut out);
    scope::nothing_selected(state, &desired, &policies, &mut out);
    out.sort_by(|a, b| (a.severity, a.id, &a.object, &a.rule).cmp(&(b.severity, b.id, &b.object, &b.rule)));
    out
}

fn invalid(desired: &Desired, out: &mut Vec<Finding>) {
    for (key, why) in &desired.invalid {
        out.push(Finding {
            id: "invalid",
            severity: Severity::Error,
            object: key.to_string(),
            rule: None,
            message: format!("it cannot be used as it is: {why}"),
            fix: "correct the field; until then the agent takes the stricter meaning".to_owned(),
        });
    }
}

fn tiers(state: &State, policies: &[PolicyView<'_>], out: &mut Vec<Finding>) {
    let known: BTreeSet<&str> = state
        .objects()
        .filter(|o| o.kind() == caracal_api::Kind::Tier)
        .map(|o| o.metadata().name.as_str())
        .collect();
    for policy in policies.iter().filter(|p| !known.contains(p.tier.as_str())) {
        out.push(Finding {
            id: "missing-tier",
            severity: Severity::Error,
            object: policy.name.clone(),
            rule: None,
            message: format!(
                "tier {:?} does not exist: the policy is asked after all others, and what it does not decide is denied",
                policy.tier
            ),
            fix: format!("create the tier {:?}, or put the policy into one that exists", policy.tier),
        });
    }
}

fn log_only(state: &State, policies: &[PolicyView<'_>], out: &mut Vec<Finding>) {
    let denies = |name: &str| {
        let passes = |r: &Resource| {
            matches!(r, Resource::Tier(t) if t.metadata.name == name
                && t.spec.default_action == Some(TierDefaultAction::Pass))
        };
        !state.objects().any(passes)
    };
    for policy in policies.iter().filter(|p| !p.hosts_only && denies(&p.tier)) {
        for (kind, direction, rules) in policy.directions() {
            let logs = !rules.is_empty() && rules.iter().all(|r| r.action == Action::Log);
            if logs && policy.types.contains(&kind) {
                out.push(Finding {
                    id: "log-only-drops",
                    severity: Severity::Error,
                    object: policy.name.clone(),
                    rule: Some(format!("{direction}[0]")),
                    message: format!(
                        "its {direction} rules only log, but that it selects an endpoint is enough: what no policy of \
                         tier {:?} allows is denied at the tier's end",
                        policy.tier
                    ),
                    fix: "add a last rule with action Pass (or Allow), or move it to a tier whose defaultAction is Pass"
                        .to_owned(),
                });
            }
        }
    }
}

fn http(policies: &[PolicyView<'_>], out: &mut Vec<Finding>) {
    for policy in policies {
        for (_, direction, rules) in policy.directions() {
            for (n, _) in rules.iter().enumerate().filter(|(_, r)| r.http.is_some()) {
                out.push(Finding {
                    id: "http-not-enforced",
                    severity: Severity::Error,
                    object: policy.name.clone(),
                    rule: Some(format!("{direction}[{n}]")),
                    message: "a packet filter does not see HTTP: the rule lets every request through that its other \
                              criteria match"
                        .to_owned(),
                    fix: "run Dikastes beside the workload, or replace the HTTP match by ports and peers".to_owned(),
                });
            }
        }
    }
}

/// The sets of a side that must hold the address.
pub(crate) fn positive_sets(side: &Side) -> impl Iterator<Item = (&'static str, &caracal_ids::IpSetId)> {
    let selected = side.ip_sets.iter().map(|id| ("selector", id));
    selected.chain(side.named_ports.iter().map(|id| ("ports", id)))
}

/// The node of a host endpoint.
pub(crate) fn host_of(resource: &Resource) -> Option<&Object<HostEndpointSpec>> {
    match resource {
        Resource::HostEndpoint(h) => Some(h),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
