//! The lists of policies of an endpoint (`calico-components.md` §3.1, §3.2).

use std::{cmp::Ordering, sync::Arc};

use caracal_api::TierDefaultAction;
use caracal_desired::TierPolicies;

use crate::{
    local::Endpoint,
    policy::{Policies, Standing, State},
    tier::Tiers,
};

/// Where things stand when lists are made.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) policies: &'a Policies,
    pub(crate) tiers: &'a Tiers,
}

impl Ground<'_> {
    fn compare(&self, a: &State, b: &State) -> Ordering {
        let rank = |s: &State| (self.tiers.rank_of(s.tier), s.standing.order);
        let key = rank(a).cmp(&rank(b));
        key.then_with(|| a.standing.tie_break.cmp(&b.standing.tie_break))
    }

    /// Puts policies in the order in which packets meet them.
    pub(crate) fn sorted(&self, policies: impl Iterator<Item = u32>) -> Vec<&State> {
        let mut states: Vec<&State> = policies.filter_map(|p| self.policies.state(p)).collect();
        states.sort_unstable_by(|a, b| self.compare(a, b));
        states
    }

    /// The endpoint with those of the sorted policies that have a place in one of its lists.
    pub(crate) fn dress(&self, bare: &Endpoint, sorted: &[&State]) -> Endpoint {
        let ordinary = |s: &Standing| !s.untracked && !s.pre_dnat;
        match bare {
            Endpoint::Workload(bare) => {
                let mut endpoint = (**bare).clone();
                endpoint.tiers = self.list(sorted, ordinary, None);
                Endpoint::Workload(Arc::new(endpoint))
            }
            Endpoint::Host(bare) => {
                let mut endpoint = (**bare).clone();
                endpoint.tiers = self.list(sorted, ordinary, None);
                endpoint.forward = self.list(sorted, |s| ordinary(s) && s.forward, None);
                let pass = Some(TierDefaultAction::Pass);
                endpoint.untracked = self.list(sorted, |s| s.untracked, pass);
                endpoint.pre_dnat = self.list(sorted, |s| s.pre_dnat, pass);
                for tier in &mut endpoint.pre_dnat {
                    tier.egress.clear();
                }
                endpoint.pre_dnat.retain(|tier| !tier.ingress.is_empty());
                Endpoint::Host(Arc::new(endpoint))
            }
        }
    }

    /// Groups the policies that `belongs` by tier. `end` overrules the tiers' default actions.
    fn list(
        &self,
        sorted: &[&State],
        belongs: impl Fn(&Standing) -> bool,
        end: Option<TierDefaultAction>,
    ) -> Vec<TierPolicies> {
        let mut list: Vec<TierPolicies> = Vec::new();
        let mut last = None;
        for state in sorted.iter().filter(|s| belongs(&s.standing)) {
            if last != Some(state.tier) {
                last = Some(state.tier);
                list.push(TierPolicies {
                    name: self.tiers.name(state.tier).clone(),
                    default_action: end.unwrap_or_else(|| self.tiers.default_action(state.tier)),
                    ingress: Vec::new(),
                    egress: Vec::new(),
                });
            }
            let Some(tier) = list.last_mut() else {
                continue;
            };
            let id = &state.ready.policy.id;
            if state.standing.ingress {
                tier.ingress.push(id.clone());
            }
            if state.standing.egress {
                tier.egress.push(id.clone());
            }
        }
        list
    }
}
