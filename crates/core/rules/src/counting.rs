//! What is counted on a node at one moment.

use std::{collections::BTreeMap, sync::Arc, sync::OnceLock};

use caracal_api::{Action, TierDefaultAction};
use caracal_ids::IpSetId;

use crate::{
    Map,
    atom::sets_of,
    counters::{self, Counted, What},
    ir::CounterName,
    list::{Direction, List, Segment, SourceId},
    source::Rules,
};

/// The lists of a moment with all that is needed to say what is counted. Saying it costs much more than having this, and
/// is done once, by whoever asks first.
#[derive(Debug, Default)]
pub struct Counting {
    pub(crate) lists: Vec<Arc<List>>,
    pub(crate) rules: Map<SourceId, Option<Rules>>,
    /// IP sets that are there.
    pub(crate) ip_sets: std::collections::HashSet<IpSetId>,
    counted: OnceLock<Vec<Counted>>,
}

impl Counting {
    /// Everything that decides about packets on this node, walls left out, each with the counter that it has or would
    /// have if packets could get to it; in the order of the counters' names.
    pub fn counted(&self) -> &[Counted] {
        self.counted.get_or_init(|| {
            let mut out = BTreeMap::new();
            self.lists.iter().for_each(|list| self.of_list(list, &mut out));
            out.into_values().collect()
        })
    }

    /// What a counter counts.
    #[must_use]
    pub fn find(&self, counter: &CounterName) -> Option<Counted> {
        let counted = self.counted();
        let found = counted.binary_search_by(|c| c.counter.cmp(counter)).ok();
        found
            .map(|i| counted[i].clone())
            .or_else(|| Counted::wall(counter))
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
            let Some(rules) = self.rules.get(source).and_then(Option::as_ref) else {
                if let Some(what) = what(None) {
                    put(counters::of_missing(&begin, direction), what, Action::Deny, true);
                }
                continue;
            };
            let rules = rules.of(direction);
            for ((rule, id), index) in rules.iter().zip(counters::ids(rules)).zip(0..) {
                let missing = sets_of(rule).any(|id| !self.ip_sets.contains(id));
                let (word, action) = if missing {
                    (counters::MISSING, Action::Deny)
                } else {
                    (counters::action(rule.action), rule.action)
                };
                if let Some(what) = what(Some(index)) {
                    put(
                        counters::of_rule(&begin, direction, &id, word),
                        what,
                        action,
                        missing,
                    );
                }
            }
        }
    }
}
