//! What is counted: each rule of each policy, the ends of lists, and the walls that belong to no policy.
//!
//! A counter belongs to a rule's place in its policy and to its action, not to the chains it came to be in: those come
//! and go with endpoints, the counter stays as long as one of them needs it.

use caracal_api::Action;
use caracal_ids::{PolicyId, ProfileName, TierName};

use crate::{ir::CounterName, list::Direction};

/// In the place of an action: something is missing, which denies.
pub(crate) const MISSING: &str = "missing";

/// The word of an action in a counter's name.
pub(crate) fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Pass => "pass",
        Action::Log => "log",
    }
}

/// The counter of a rule. `begin` is of [`SourceId::counters`](crate::list::SourceId::counters).
pub(crate) fn of_rule(begin: &str, direction: Direction, rule: u32, action: &str) -> CounterName {
    format!("{begin}.{}.{rule}.{action}", direction.side()).into()
}

/// The counter of a policy or profile that is not there.
pub(crate) fn of_missing(begin: &str, direction: Direction) -> CounterName {
    format!("{begin}.{}.{MISSING}", direction.side()).into()
}

/// The counter of a tier's end.
pub(crate) fn of_tier(tier: &TierName, direction: Direction, action: Action) -> CounterName {
    let whole = format!("tier/{tier}");
    let begin = crate::names::of_counters(&crate::names::shortened(&whole, 100), &whole);
    format!("{begin}.{}.{}", direction.side(), self::action(action)).into()
}

/// The counter of packets that no profile allowed.
pub(crate) fn of_no_profile(direction: Direction) -> CounterName {
    format!("no-profile.{}.deny", direction.side()).into()
}

/// The counter of a wall.
pub(crate) fn of_wall(name: &str, direction: Direction) -> CounterName {
    format!("wall/{name}.{}.deny", direction.side()).into()
}

/// Something that decides about packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A rule of a policy.
    Policy {
        /// The tier it is in.
        tier: TierName,
        /// The policy.
        id: PolicyId,
        /// The rule's place; nothing when the policy itself is missing.
        rule: Option<u32>,
    },
    /// A rule of a profile.
    Profile {
        /// The profile.
        name: ProfileName,
        /// The rule's place; nothing when the profile itself is missing.
        rule: Option<u32>,
    },
    /// The end of a tier.
    Tier(TierName),
    /// No profile allowed it.
    NoProfile,
    /// A rule of the node that belongs to no policy.
    Wall(String),
}

/// A counter, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counted {
    /// Its name in the table. It is in the table only if packets can get to what it counts.
    pub counter: CounterName,
    /// What it counts.
    pub what: What,
    /// Whether packets to the endpoint are counted, or packets from it.
    pub ingress: bool,
    /// What happens to the packets.
    pub action: Action,
    /// Something is missing, which denies.
    pub missing: bool,
}

impl Counted {
    /// The action in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        action(self.action)
    }

    /// A wall, by the name of its counter.
    #[must_use]
    pub fn wall(counter: &CounterName) -> Option<Self> {
        let name = counter.as_str().strip_prefix("wall/")?.strip_suffix(".deny")?;
        let (name, side) = name.rsplit_once('.')?;
        Some(Self {
            counter: counter.clone(),
            what: What::Wall(name.to_owned()),
            ingress: side == Direction::To.side(),
            action: Action::Deny,
            missing: false,
        })
    }
}
