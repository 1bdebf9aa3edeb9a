//! Policies as the engine keeps them: where they stand, what they select, and their rules, ready to be emitted.

use std::sync::Arc;

use caracal_api::{
    Kind, NetworkPolicySpec, Object, PolicyType, Resource, ResourceKey, Rule, StagedAction,
    StagedKubernetesNetworkPolicySpec,
};
use caracal_desired::Policy;
use caracal_ids::{PolicyId, PolicyKind, TierName};
use caracal_selector::Selector;

use crate::{
    faults::{Fault, Faults},
    objects::stand_in,
    rules::Compiler,
    scope::{self, PolicyScope},
    sets::SetTable,
    store::{Map, Set, Slab},
};

/// The hint that makes a policy needed on nodes where nothing matches it yet.
const NEEDED_EVERYWHERE: &str = "AssumeNeededOnEveryNode";

/// The kind of policy that an object is; nothing for other objects. A new kind of policy starts here.
pub(crate) fn policy_kind(kind: Kind) -> Option<PolicyKind> {
    match kind {
        Kind::NetworkPolicy => Some(PolicyKind::NetworkPolicy),
        Kind::GlobalNetworkPolicy => Some(PolicyKind::GlobalNetworkPolicy),
        Kind::StagedNetworkPolicy => Some(PolicyKind::StagedNetworkPolicy),
        Kind::StagedGlobalNetworkPolicy => Some(PolicyKind::StagedGlobalNetworkPolicy),
        Kind::StagedKubernetesNetworkPolicy => Some(PolicyKind::StagedKubernetesNetworkPolicy),
        _ => None,
    }
}

/// What all kinds of policy have in common, as written.
pub(crate) struct Source<'a> {
    tier: &'a str,
    order: Option<f64>,
    ingress: &'a [Rule],
    egress: &'a [Rule],
    types: &'a [PolicyType],
    selector: &'a str,
    namespace_selector: &'a str,
    service_account_selector: &'a str,
    hints: &'a [String],
    untracked: bool,
    pre_dnat: bool,
    forward: bool,
}

/// The fields that the specs of all kinds have.
macro_rules! namespaced {
    ($spec:expr) => {
        Source {
            tier: &$spec.tier,
            order: $spec.order,
            ingress: &$spec.ingress,
            egress: &$spec.egress,
            types: &$spec.types,
            selector: &$spec.selector,
            namespace_selector: "",
            service_account_selector: &$spec.service_account_selector,
            hints: &$spec.performance_hints,
            untracked: false,
            pre_dnat: false,
            forward: false,
        }
    };
}

macro_rules! global {
    ($spec:expr) => {
        Source {
            namespace_selector: &$spec.namespace_selector,
            untracked: $spec.do_not_track,
            pre_dnat: $spec.pre_dnat,
            forward: $spec.apply_on_forward,
            ..namespaced!($spec)
        }
    };
}

impl<'a> Source<'a> {
    /// The policy in an object; nothing for other objects, and for what would only delete a policy (§3.5).
    pub(crate) fn of(resource: &'a Resource) -> Option<Self> {
        let deletes = |action: Option<StagedAction>| action == Some(StagedAction::Delete);
        match resource {
            Resource::NetworkPolicy(o) => Some(namespaced!(&o.spec)),
            Resource::GlobalNetworkPolicy(o) => Some(global!(&o.spec)),
            Resource::StagedNetworkPolicy(o) if !deletes(o.spec.staged_action) => Some(namespaced!(&o.spec)),
            Resource::StagedGlobalNetworkPolicy(o) if !deletes(o.spec.staged_action) => {
                Some(global!(&o.spec))
            }
            _ => None,
        }
    }

    /// The policy that was converted from Kubernetes'.
    pub(crate) fn of_spec(spec: &'a NetworkPolicySpec) -> Self {
        namespaced!(spec)
    }
}

/// A staged Kubernetes policy as one that can be read; nothing if it cannot, or would only delete a policy.
pub(crate) fn converted(
    object: &Object<StagedKubernetesNetworkPolicySpec>,
    faults: &mut Faults,
) -> Option<NetworkPolicySpec> {
    if object.spec.staged_action == Some(StagedAction::Delete) {
        return None;
    }
    let (spec, problems) = match caracal_convert::staged_network_policy(object) {
        Ok(converted) => (Some(converted.object), converted.problems),
        Err(error) => (None, error.problems),
    };
    for problem in problems {
        faults.add(Fault::new(problem.path.to_string(), problem.message));
    }
    spec
}

/// Whether an object stages that a policy is deleted.
pub(crate) fn deletes(resource: &Resource) -> bool {
    let action = match resource {
        Resource::StagedNetworkPolicy(o) => o.spec.staged_action,
        Resource::StagedGlobalNetworkPolicy(o) => o.spec.staged_action,
        Resource::StagedKubernetesNetworkPolicy(o) => o.spec.staged_action,
        _ => None,
    };
    action == Some(StagedAction::Delete)
}

/// A staged deletion: it selects nothing and says nothing, but is there.
pub(crate) fn deletion(id: PolicyId) -> Read {
    let tier = TierName::default_tier();
    Read {
        tier: tier.clone(),
        standing: Standing {
            order: u64::MAX,
            tie_break: id.tie_break().into_boxed_str(),
            ingress: false,
            egress: false,
            untracked: false,
            pre_dnat: false,
            forward: false,
            needed_everywhere: false,
        },
        selector: None,
        ready: Ready {
            policy: Arc::new(Policy {
                id,
                tier,
                ingress: Vec::new(),
                egress: Vec::new(),
                untracked: false,
                pre_dnat: false,
            }),
            sets: Box::default(),
        },
    }
}

/// Where a policy stands and what it governs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) order: u64,
    pub(crate) tie_break: Box<str>,
    pub(crate) ingress: bool,
    pub(crate) egress: bool,
    pub(crate) untracked: bool,
    pub(crate) pre_dnat: bool,
    pub(crate) forward: bool,
    pub(crate) needed_everywhere: bool,
}

impl Standing {
    /// Whether only host endpoints have a place for it.
    pub(crate) fn hosts_only(&self) -> bool {
        self.untracked || self.pre_dnat
    }
}

/// An order as a number that sorts the same: ascending, without an order last.
pub(crate) fn order_key(order: Option<f64>) -> u64 {
    let Some(order) = order.filter(|o| !o.is_nan() && *o != f64::INFINITY) else {
        return u64::MAX;
    };
    // Minus zero is zero.
    let bits = (order + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Rules ready to be emitted, with the sets they name (each as often as they do).
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) policy: Arc<Policy>,
    pub(crate) sets: Box<[u32]>,
}

/// A policy as read.
pub(crate) struct Read {
    pub(crate) tier: TierName,
    pub(crate) standing: Standing,
    /// Nothing if the policy's selector cannot be understood: then it selects nothing.
    pub(crate) selector: Option<Selector>,
    pub(crate) ready: Ready,
}

/// Reads a policy. The sets that its rules name are named in `table`, for the caller to forget.
pub(crate) fn read(
    key: &ResourceKey,
    kind: PolicyKind,
    source: &Source<'_>,
    table: &mut SetTable,
    faults: &mut Faults,
) -> Read {
    let id = PolicyId {
        kind,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    };
    let selector = faults.take(scope::of_policy(PolicyScope {
        namespace: &key.namespace,
        selector: source.selector,
        namespace_selector: source.namespace_selector,
        service_account_selector: source.service_account_selector,
    }));
    let tier = tier_of(source.tier, faults);
    let governs = |wanted| source.types.is_empty() || source.types.contains(&wanted);
    let mut compiler = Compiler::new(&key.namespace, table, faults);
    let ingress = compiler.rules(source.ingress, "spec.ingress");
    let egress = compiler.rules(source.egress, "spec.egress");
    let sets = compiler.into_sets();
    Read {
        tier: tier.clone(),
        standing: Standing {
            order: order_key(source.order),
            tie_break: id.tie_break().into_boxed_str(),
            ingress: governs(PolicyType::Ingress),
            egress: governs(PolicyType::Egress),
            untracked: source.untracked,
            // Both together are refused by validation; untracked comes first in the packet's way.
            pre_dnat: source.pre_dnat && !source.untracked,
            forward: source.forward,
            needed_everywhere: source.hints.iter().any(|h| h == NEEDED_EVERYWHERE),
        },
        selector,
        ready: Ready {
            policy: Arc::new(Policy {
                id,
                tier,
                ingress,
                egress,
                untracked: source.untracked,
                pre_dnat: source.pre_dnat && !source.untracked,
            }),
            sets,
        },
    }
}

/// A tier name that cannot be one stands for a tier that does not exist, after all others.
fn tier_of(name: &str, faults: &mut Faults) -> TierName {
    if name.is_empty() {
        return TierName::default_tier();
    }
    TierName::new(name).unwrap_or_else(|e| {
        faults.add(Fault::new("spec.tier", e.to_string()));
        TierName::new(stand_in(name)).unwrap_or_else(|_| TierName::default_tier())
    })
}

/// A policy that exists.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tier: u32,
    pub(crate) standing: Standing,
    /// Its selector in the index of local endpoints.
    pub(crate) selector: Option<u32>,
    pub(crate) ready: Arc<Ready>,
}

impl State {
    /// What is emitted of a staged policy that governs nothing here, but would replace or delete one that may.
    pub(crate) fn mark(&self) -> Arc<Ready> {
        let policy = Policy {
            ingress: Vec::new(),
            egress: Vec::new(),
            ..(*self.ready.policy).clone()
        };
        Arc::new(Ready {
            policy: Arc::new(policy),
            sets: Box::default(),
        })
    }
}

/// A policy that exists or is still emitted.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: PolicyId,
    pub(crate) state: Option<State>,
    pub(crate) emitted: Option<Arc<Ready>>,
}

/// All policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    pub(crate) entries: Slab<Entry>,
    by_id: Map<PolicyId, u32>,
    /// How many of them are staged.
    staged: usize,
    /// Policies to look at in the next flush.
    pub(crate) touched: Set<u32>,
}

impl Policies {
    pub(crate) fn find(&self, id: &PolicyId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn find_or_make(&mut self, id: &PolicyId) -> u32 {
        if let Some(at) = self.find(id) {
            return at;
        }
        let at = self.entries.insert(Entry {
            id: id.clone(),
            state: None,
            emitted: None,
        });
        self.by_id.insert(id.clone(), at);
        self.staged += usize::from(id.kind.is_staged());
        at
    }

    /// Whether a staged policy is about one that exists.
    pub(crate) fn replaces(&self, staged: u32) -> bool {
        let enforced = self.entries[staged].id.enforced();
        let at = enforced.and_then(|id| self.find(&id));
        at.is_some_and(|at| self.entries[at].state.is_some())
    }

    /// The staged policies that are about this one are looked at in the next flush.
    pub(crate) fn touch_staged(&mut self, at: u32) {
        if self.staged > 0 {
            let staged = self.entries[at].id.staged();
            let staged: Vec<u32> = staged.filter_map(|id| self.find(&id)).collect();
            self.touched.extend(staged);
        }
    }

    pub(crate) fn state(&self, policy: u32) -> Option<&State> {
        self.entries.get(policy)?.state.as_ref()
    }

    pub(crate) fn drop_if_idle(&mut self, policy: u32) {
        let entry = &self.entries[policy];
        if entry.state.is_none()
            && entry.emitted.is_none()
            && let Some(entry) = self.entries.remove(policy)
        {
            self.by_id.remove(&entry.id);
            self.staged -= usize::from(entry.id.kind.is_staged());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_sort_as_numbers_and_none_is_last() {
        let orders = [-1e300, -2.5, -0.0, 1e-9, 1.0, 1000.0, 1e300].map(Some);
        let keys: Vec<u64> = orders.into_iter().map(order_key).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert_eq!(order_key(Some(0.0)), order_key(Some(-0.0)));
        assert!(order_key(Some(f64::MAX)) < order_key(None));
        assert_eq!(order_key(Some(f64::INFINITY)), order_key(None));
        assert_eq!(order_key(Some(f64::NAN)), order_key(None));
    }
}
