//! What is counted: each rule of each policy, the ends of lists, and the walls that belong to no policy.
//!
//! A counter belongs to what a rule of a policy says, not to the rule's place: a rule that is put before others takes
//! nobody's count. Nor does it belong to the chains that the rule came to be in: those come and go with endpoints, the
//! counter stays as long as one of them needs it.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, Hasher},
};

use caracal_api::Action;
use caracal_desired::{Rule, Side};
use caracal_ids::{PolicyId, ProfileName, TierName};
use caracal_net::{Cidr, PortRange};
use foldhash::fast::FixedState;

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

/// The counter of a rule. `begin` is of [`SourceId::counters`](crate::list::SourceId::counters), `id` of [`ids`].
pub(crate) fn of_rule(begin: &str, direction: Direction, id: &str, action: &str) -> CounterName {
    format!("{begin}.{}.{id}.{action}", direction.side()).into()
}

/// What tells the rules of a policy and direction apart, in their order: made of what each says.
///
/// Lists of several ports or nets count only where rules differ in nothing else: they are what people change most, and
/// such a change is one of a set's elements, of which the rule with its counter knows nothing.
pub(crate) fn ids(rules: &[Rule]) -> Vec<String> {
    let forms: Vec<u64> = rules.iter().map(|r| form(r, false)).collect();
    let mut like: HashMap<u64, u32> = HashMap::with_capacity(forms.len());
    for form in &forms {
        *like.entry(*form).or_default() += 1;
    }
    let mut taken = HashSet::with_capacity(forms.len());
    let mut id = |(rule, of): (&Rule, &u64)| {
        let id = match like.get(of) {
            Some(2..) => letters(form(rule, true)),
            _ => letters(*of),
        };
        if taken.insert(id.clone()) {
            return id;
        }
        // They are the same: whichever is asked first decides.
        let free = (2..).map(|n| format!("{id}-{n}")).find(|id| !taken.contains(id));
        let id = free.unwrap_or(id);
        taken.insert(id.clone());
        id
    };
    rules.iter().zip(&forms).map(&mut id).collect()
}

/// A digest of what a rule says; of its lists of several values only if asked.
fn form(rule: &Rule, whole: bool) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    (rule.action, rule.family, rule.protocol, rule.not_protocol).hash(&mut hasher);
    (rule.icmp, rule.not_icmp).hash(&mut hasher);
    for side in [&rule.src, &rule.dst] {
        let Side {
            nets,
            not_nets,
            ip_sets,
            not_ip_sets,
            ports,
            named_ports,
            not_ports,
            not_named_ports,
            ip_port_sets,
        } = side;
        for nets in [nets, not_nets] {
            values(nets, whole, |_: &Cidr| true, &mut hasher);
        }
        for ports in [ports, not_ports] {
            values(ports, whole, |p: &PortRange| p.first == p.last, &mut hasher);
        }
        for sets in [ip_sets, not_ip_sets, named_ports, not_named_ports, ip_port_sets] {
            sets.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Values that stand in a set of their own count as there, if not asked for.
fn values<T: Hash>(list: &[T], whole: bool, is_one: impl Fn(&T) -> bool, hasher: &mut impl Hasher) {
    let inline = list.len() <= 1 && list.iter().all(is_one);
    inline.hash(hasher);
    if inline || whole {
        list.hash(hasher);
    }
}

/// Forty bits as letters: the rules of one policy are few.
fn letters(mut bits: u64) -> String {
    let mut text = String::with_capacity(8);
    for _ in 0..8 {
        // Five bits are a number below 32.
        let letter = b"abcdefghijklmnopqrstuvwxyz234567"[usize::from((bits >> 59) as u8)];
        text.push(char::from(letter));
        bits <<= 5;
    }
    text
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

#[cfg(test)]
mod tests {
    use caracal_net::Proto;

    use super::*;

    fn rule(nets: &[&str], ports: &[(u16, u16)]) -> Rule {
        let mut rule = Rule::new(Action::Allow);
        rule.protocol = Some(Proto::TCP);
        let nets: Vec<Cidr> = nets.iter().map(|n| n.parse().unwrap()).collect();
        rule.src.nets = nets.into();
        let ports: Vec<PortRange> = ports
            .iter()
            .map(|(first, last)| PortRange {
                first: *first,
                last: *last,
            })
            .collect();
        rule.dst.ports = ports.into();
        rule
    }

    #[test]
    fn a_rule_put_before_others_takes_nobodys_place() {
        let (a, b, c) = (
            rule(&[], &[(80, 80)]),
            rule(&[], &[(81, 81)]),
            rule(&["10.0.0.0/8"], &[]),
        );
        let before = ids(&[a.clone(), c.clone()]);
        let after = ids(&[b.clone(), a.clone(), c.clone()]);
        assert_eq!(after[1..], before);
        assert_ne!(after[0], before[0]);
        assert_eq!(ids(&[c, a, b])[1..], [before[0].clone(), after[0].clone()]);
    }

    #[test]
    fn lists_of_values_change_without_another_counter() {
        let (a, b) = (
            rule(&[], &[(80, 80), (90, 99)]),
            rule(&[], &[(80, 80), (90, 98), (7, 7)]),
        );
        assert_eq!(ids(std::slice::from_ref(&a)), ids(std::slice::from_ref(&b)));
        // Where nothing else tells them apart they do.
        let both = ids(&[a.clone(), b.clone()]);
        assert_ne!(both[0], both[1]);
        let third = rule(&[], &[(1, 2)]);
        assert_eq!(ids(&[third, a, b])[1..], both);
    }

    #[test]
    fn equal_rules_are_numbered() {
        let a = rule(&["10.0.0.0/8"], &[(80, 80)]);
        let all = ids(&[a.clone(), a.clone(), a]);
        assert_eq!(all[1], format!("{}-2", all[0]));
        assert_eq!(all[2], format!("{}-3", all[0]));
        assert!(all[0].len() == 8 && all[0].bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}
