//! Questions to a compiler: what is counted, and what an oracle must know to judge one packet.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Desired, HostEndpoint, IpSet, Policy, Profile, TierPolicies};
use caracal_ids::ProfileName;

use super::Compiler;
use crate::{
    atom::sets_of,
    counters::{self, Counted, What},
    ir::{CounterName, IfName},
    list::{Direction, List, Segment, SourceId},
    source::Rules,
};

impl Compiler {
    /// Everything that decides about packets on this node, walls left out, each with the counter that it has or would
    /// have if packets could get to it; in the order of the counters' names.
    #[must_use]
    pub fn counted(&self) -> Vec<Counted> {
        let mut out = BTreeMap::new();
        for (_, table) in self.tables.iter() {
            for list in table.lists() {
                self.of_list(list, &mut out);
            }
        }
        out.into_values().collect()
    }

    fn of_list(&self, list: &List, out: &mut BTreeMap<CounterName, Counted>) {
        let direction = list.role.direction;
        let mut put = |counter: CounterName, what: What, action: Action, missing: bool| {
            let counted = || Counted {
                counter: counter.clone(),
                what,
                ingress: direction == Direction::To,
                action,
                missing,
            };
            out.entry(counter.clone()).or_insert_with(counted);
        };
        match &list.segment {
            Segment::Tier(tier, TierDefaultAction::Deny) => {
                let counter = counters::of_tier(tier, direction, Action::Deny);
                put(counter, What::Tier(tier.clone()), Action::Deny, false);
            }
            Segment::Tier(tier, TierDefaultAction::Pass) => {
                let counter = counters::of_tier(tier, direction, Action::Pass);
                put(counter, What::Tier(tier.clone()), Action::Pass, false);
            }
            Segment::Profiles => {
                put(
                    counters::of_no_profile(direction),
                    What::NoProfile,
                    Action::Deny,
                    false,
                );
            }
            Segment::Groups(_) | Segment::Empty => {}
        }
        for source in &list.sources {
            let begin = source.counters();
            let what = |rule| match (source, &list.segment) {
                (SourceId::Policy(id), Segment::Tier(tier, _)) => Some(What::Policy {
                    tier: tier.clone(),
                    id: id.clone(),
                    rule,
                }),
                // Policies stand in tiers only.
                (SourceId::Policy(_), _) => None,
                (SourceId::Profile(name), _) => Some(What::Profile {
                    name: name.clone(),
                    rule,
                }),
            };
            let Some(rules) = self.sources.get(source) else {
                if let Some(what) = what(None) {
                    put(counters::of_missing(&begin, direction), what, Action::Deny, true);
                }
                continue;
            };
            for (rule, index) in rules.of(direction).iter().zip(0..) {
                let missing = sets_of(rule).any(|id| self.ip_sets.get(id).is_none());
                let (word, action) = if missing {
                    (counters::MISSING, Action::Deny)
                } else {
                    (counters::action(rule.action), rule.action)
                };
                if let Some(what) = what(Some(index)) {
                    put(
                        counters::of_rule(&begin, direction, index, word),
                        what,
                        action,
                        missing,
                    );
                }
            }
        }
    }

    /// The host endpoint of this name.
    #[must_use]
    pub fn host_endpoint(&self, name: &str) -> Option<&Arc<HostEndpoint>> {
        self.host_endpoints.get(name)
    }

    /// The host endpoint that an interface is, as of the last flush.
    #[must_use]
    pub fn host_endpoint_at(&self, interface: &str) -> Option<&Arc<HostEndpoint>> {
        let name = IfName::exact(interface).ok()?;
        let bound = self.host_endpoints.bound();
        bound.get(&Some(name)).or_else(|| bound.get(&None))
    }

    /// What an oracle must know to judge packets between these two addresses by these tiers and profiles: their
    /// policies, staged ones too, and of the IP sets only what holds one of the addresses.
    #[must_use]
    pub fn ground(&self, tiers: &[TierPolicies], profiles: &[ProfileName], between: [IpAddr; 2]) -> Desired {
        let mut ground = Desired::default();
        let ids = tiers.iter().flat_map(|t| t.ingress.iter().chain(&t.egress));
        for id in ids {
            if let Some(Rules::Policy(p)) = self.sources.get(&SourceId::Policy(id.clone())) {
                ground.policies.insert(id.clone(), Arc::clone(p));
            }
        }
        for name in profiles {
            if let Some(Rules::Profile(p)) = self.sources.get(&SourceId::Profile(name.clone())) {
                ground.profiles.insert(name.clone(), Arc::clone(p));
            }
        }
        let of_policy = |p: &Arc<Policy>| [p.ingress.clone(), p.egress.clone()].concat();
        let of_profile = |p: &Arc<Profile>| [p.ingress.clone(), p.egress.clone()].concat();
        let policies = ground.policies.values().flat_map(of_policy);
        let rules: Vec<_> = policies
            .chain(ground.profiles.values().flat_map(of_profile))
            .collect();
        for id in rules.iter().flat_map(sets_of) {
            if let Some(replica) = self.ip_sets.get(id) {
                let set = IpSet {
                    kind: replica.kind(),
                    members: replica.holding(between).collect(),
                };
                ground.ip_sets.insert(id.clone(), set);
            }
        }
        ground
    }
}
