//! Tiers and their order (`calico-components.md` §3.1).

use caracal_api::{TierDefaultAction, TierSpec};
use caracal_ids::TierName;

use crate::{
    policy::order_key,
    store::{Map, Slab},
};

#[derive(Debug)]
struct Tier {
    name: TierName,
    /// Its order and default action; nothing if it does not exist but policies name it.
    spec: Option<(u64, TierDefaultAction)>,
    policies: usize,
}

/// Every tier that exists or that a policy names.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    tiers: Slab<Tier>,
    by_name: Map<TierName, u32>,
    /// The place of each tier by its number; as of the last call of [`rank`](Self::rank).
    ranks: Vec<u32>,
    stale: bool,
}

impl Tiers {
    fn find_or_make(&mut self, name: &TierName) -> u32 {
        if let Some(tier) = self.by_name.get(name) {
            return *tier;
        }
        self.stale = true;
        let tier = self.tiers.insert(Tier {
            name: name.clone(),
            spec: None,
            policies: 0,
        });
        self.by_name.insert(name.clone(), tier);
        tier
    }

    /// A policy joins a tier.
    pub(crate) fn join(&mut self, name: &TierName) -> u32 {
        let tier = self.find_or_make(name);
        self.tiers[tier].policies += 1;
        tier
    }

    /// A policy leaves a tier.
    pub(crate) fn leave(&mut self, tier: u32) {
        self.tiers[tier].policies -= 1;
        self.drop_if_idle(tier);
    }

    /// The tier exists and is this, or does not exist. Returns whether that makes a difference to any policy.
    pub(crate) fn put(&mut self, name: &TierName, spec: Option<&TierSpec>) -> bool {
        if spec.is_none() && !self.by_name.contains_key(name) {
            return false;
        }
        let number = self.find_or_make(name);
        let tier = &mut self.tiers[number];
        let spec = spec.map(|s| (order_key(s.order), s.default_action.unwrap_or_default()));
        let changed = tier.spec != spec;
        tier.spec = spec;
        self.stale |= changed;
        let used = tier.policies > 0;
        self.drop_if_idle(number);
        changed && used
    }

    fn drop_if_idle(&mut self, number: u32) {
        let tier = &self.tiers[number];
        if tier.policies == 0
            && tier.spec.is_none()
            && let Some(tier) = self.tiers.remove(number)
        {
            self.by_name.remove(&tier.name);
        }
    }

    /// Puts the tiers in order: those that exist first, then by order, then by name.
    pub(crate) fn rank(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut sorted: Vec<(u32, &Tier)> = self.tiers.iter().collect();
        let key = |t: &Tier| (t.spec.is_none(), t.spec.map(|(order, _)| order));
        sorted.sort_by(|(_, a), (_, b)| key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name)));
        self.ranks.clear();
        for (rank, (number, _)) in (0u32..).zip(sorted) {
            let at = number as usize;
            if self.ranks.len() <= at {
                self.ranks.resize(at + 1, u32::MAX);
            }
            self.ranks[at] = rank;
        }
    }

    /// The place of a tier among all.
    pub(crate) fn rank_of(&self, tier: u32) -> u32 {
        self.ranks.get(tier as usize).copied().unwrap_or(u32::MAX)
    }

    pub(crate) fn name(&self, tier: u32) -> &TierName {
        &self.tiers[tier].name
    }

    /// Deny for a tier that does not exist.
    pub(crate) fn default_action(&self, tier: u32) -> TierDefaultAction {
        self.tiers[tier]
            .spec
            .map(|(_, action)| action)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_tiers() {
        let mut tiers = Tiers::default();
        let name = |n: &str| TierName::new(n).unwrap();
        let numbers: Vec<u32> = ["missing", "a-missing", "none", "b", "a", "early"]
            .iter()
            .map(|n| tiers.join(&name(n)))
            .collect();
        let spec = |order| TierSpec {
            order,
            default_action: Some(TierDefaultAction::Pass),
        };
        for (n, order) in [
            ("none", None),
            ("b", Some(10.0)),
            ("a", Some(10.0)),
            ("early", Some(-1.0)),
        ] {
            assert!(tiers.put(&name(n), Some(&spec(order))));
            assert!(
                !tiers.put(&name(n), Some(&spec(order))),
                "no change the second time"
            );
        }
        assert!(
            !tiers.put(&name("unused"), Some(&spec(Some(0.0)))),
            "nobody cares"
        );
        tiers.rank();
        let mut sorted = numbers;
        sorted.sort_by_key(|t| tiers.rank_of(*t));
        let names: Vec<&str> = sorted.iter().map(|t| tiers.name(*t).as_str()).collect();
        assert_eq!(names, ["early", "a", "b", "none", "a-missing", "missing"]);
        assert_eq!(tiers.default_action(sorted[5]), TierDefaultAction::Deny);
        assert_eq!(tiers.default_action(sorted[0]), TierDefaultAction::Pass);
    }

    #[test]
    fn a_tier_is_kept_while_it_exists_or_is_named() {
        let mut tiers = Tiers::default();
        let name = TierName::new("t").unwrap();
        let number = tiers.join(&name);
        assert!(!tiers.put(&name, None), "it did not exist before");
        assert!(tiers.put(&name, Some(&TierSpec::default())));
        tiers.leave(number);
        assert_eq!(tiers.tiers.len(), 1);
        assert!(!tiers.put(&name, None));
        assert!(!tiers.put(&name, None));
        assert!(tiers.tiers.len() == 0 && tiers.by_name.is_empty());
    }
}
