//! Selectors that select nothing, and pods that nothing selects.

use std::collections::BTreeSet;

use caracal_desired::{Desired, Rule};
use caracal_ids::PolicyId;

use super::{Finding, PolicyView, Severity, host_of, positive_sets};
use crate::state::State;

/// The policies that some endpoint's lists name.
fn named(desired: &Desired) -> BTreeSet<&PolicyId> {
    let workloads = desired.workloads.values().map(|w| &w.tiers);
    let hosts = desired.host_endpoints.values();
    let hosts = hosts.flat_map(|h| [&h.tiers, &h.untracked, &h.pre_dnat, &h.forward]);
    let tiers = workloads.chain(hosts).flatten();
    tiers.flat_map(|t| t.ingress.iter().chain(&t.egress)).collect()
}

pub(super) fn nothing_selected(
    state: &State,
    desired: &Desired,
    policies: &[PolicyView<'_>],
    out: &mut Vec<Finding>,
) {
    let any = state.objects().any(|o| {
        matches!(
            o.kind(),
            caracal_api::Kind::WorkloadEndpoint | caracal_api::Kind::HostEndpoint
        )
    });
    // Of policies alone nobody can say what they would select.
    if !any {
        return;
    }
    let named = named(desired);
    for policy in policies {
        if !named.contains(&policy.id) {
            let whom = if policy.hosts_only {
                "host endpoint"
            } else {
                "workload or host endpoint"
            };
            out.push(Finding {
                id: "selects-nothing",
                severity: Severity::Warning,
                object: policy.name.clone(),
                rule: None,
                message: format!("no {whom} is selected by it"),
                fix: "correct the selectors (labels, namespace, service account), or delete the policy"
                    .to_owned(),
            });
            continue;
        }
        let Some(known) = desired.policies.get(&policy.id) else {
            continue;
        };
        for (direction, rules) in [("ingress", &known.ingress), ("egress", &known.egress)] {
            for (n, rule) in rules.iter().enumerate() {
                out.extend(empty_sets(desired, rule).map(|(field, what)| Finding {
                    id: "rule-matches-nothing",
                    severity: Severity::Warning,
                    object: policy.name.clone(),
                    rule: Some(format!("{direction}[{n}]")),
                    message: format!("{field} matches {what}: the rule never applies"),
                    fix: "correct the selector or the name of the port, or delete the rule".to_owned(),
                }));
            }
        }
    }
}

fn empty_sets<'a>(desired: &'a Desired, rule: &'a Rule) -> impl Iterator<Item = (String, &'static str)> + 'a {
    let sides = [("source", &rule.src), ("destination", &rule.dst)];
    sides.into_iter().flat_map(move |(side, criteria)| {
        let empty = |id| desired.ip_sets.get(id).is_none_or(|s| s.members.is_empty());
        // A name beside numbers does no harm when nobody has it.
        let counts = move |field: &str| field != "ports" || criteria.ports.is_empty();
        let found = positive_sets(criteria).filter(move |(field, id)| counts(field) && empty(id));
        found.map(move |(field, _)| {
            let what = if field == "ports" {
                "no named port of anything selected"
            } else {
                "no endpoint and no network set"
            };
            (format!("{side}.{field}"), what)
        })
    })
}

pub(super) fn host_pods(state: &State, desired: &Desired, out: &mut Vec<Finding>) {
    let hosts: Vec<_> = state.objects().filter_map(host_of).collect();
    for pod in &state.host_pods {
        let on_node = |node: &str| pod.node.is_empty() || node == pod.node;
        let governed = hosts.iter().filter(|h| on_node(&h.spec.node)).any(|h| {
            let lists = desired.host_endpoints.get(h.metadata.name.as_str());
            lists.is_some_and(|h| {
                let tiers = [&h.tiers, &h.untracked, &h.pre_dnat].into_iter().flatten();
                tiers
                    .into_iter()
                    .any(|t| !t.ingress.is_empty() || !t.egress.is_empty())
            })
        });
        if !governed {
            let node = if pod.node.is_empty() {
                "any node"
            } else {
                &pod.node
            };
            out.push(Finding {
                id: "host-network-open",
                severity: Severity::Warning,
                object: format!("Pod/{}/{}", pod.namespace, pod.name),
                rule: None,
                message: format!(
                    "it has the network of its node, so policies for pods do not reach it, and no policy selects a host \
                     endpoint of {node}"
                ),
                fix: "create a HostEndpoint for the node and a policy that selects it, or remove hostNetwork".to_owned(),
            });
        }
    }
}
