//! Packets that IPVS forwards (`calico-components.md` §3.9).
//!
//! They are addressed to the host, and IPVS takes them from its input and sends them from its output, where the interface
//! that they came in by is not known any more. What comes in is therefore marked with it and goes on unjudged. What IPVS
//! leaves is judged behind it as sent to the host; what it sends on is judged like other forwarded packets, with the
//! destination that it chose.

use std::collections::BTreeMap;

use super::{Builder, ENCAP, TO_HOST, hook};
use crate::{
    ir::{
        ChainKind, ChainName, Element, Field, Hook, IfName, Key, KeyType, Match, Rule, Set, SetDef, Span,
        Statement, Verdict,
    },
    list::Direction,
    slot::Slot,
};

const FORWARD: &str = "ipvs-forward";
const UNKNOWN: &str = "ipvs-unknown-from-wl";
const FROM: &str = "ipvs-from-wl";

/// Behind IPVS, which takes packets at 98 and 99.
const BEHIND: i32 = 110;

/// Numbers of what packets came in by; those of host endpoints follow, the last is for all that have no number left.
const OTHER: u32 = 1;
const WORKLOAD: u32 = 2;
const FIRST: u32 = 3;

/// Where IPVS is in use: the lists that ask for what its packets do not say any more.
#[derive(Debug, Default)]
pub(crate) struct IpvsFacts {
    /// The list of traffic from each workload, by the workload's addresses.
    pub(crate) workloads: BTreeMap<Span, ChainName>,
    /// The list of what comes in by an interface of the host, or by all others, and is forwarded.
    pub(crate) forward_in: Vec<(Option<IfName>, ChainName)>,
}

/// Lays the bits of a number into the places of a mask, the lowest first.
fn spread(mut number: u32, mask: u32) -> u32 {
    let mut out = 0;
    for place in (0..32).map(|n| 1 << n).filter(|place| mask & place != 0) {
        if number & 1 != 0 {
            out |= place;
        }
        number >>= 1;
    }
    out
}

/// The number of each interface of the host that has a list; those without a number share the last.
struct Numbers {
    mask: u32,
    last: u32,
}

impl Numbers {
    fn of(mask: u32) -> Self {
        let last = u32::MAX.checked_shr(32 - mask.count_ones()).unwrap_or(0);
        Self { mask, last }
    }

    fn value(&self, number: u32) -> u32 {
        spread(number.min(self.last), self.mask)
    }

    fn mark(&self, number: u32) -> Statement {
        Statement::SetMark {
            mask: self.mask,
            value: self.value(number),
        }
    }

    fn is(&self, number: u32) -> Match {
        Match::Mark {
            mask: self.mask,
            value: self.value(number),
            not: false,
        }
    }
}

impl Builder<'_> {
    fn ipvs(&self) -> Option<(Numbers, &IpvsFacts)> {
        let facts = self.facts.ipvs.as_ref()?;
        Some((Numbers::of(self.config.ipvs_mark?), facts))
    }

    /// What input's chain ends with: the lists of the host, or the number of the interface where IPVS comes first.
    pub(super) fn end_of_input(&mut self) -> Vec<Rule> {
        let Some((numbers, facts)) = self.ipvs() else {
            return self.judged_here();
        };
        let mut rules = vec![Rule::new(
            [],
            [numbers.mark(OTHER)],
            "to the host, or to IPVS, which forwards it",
        )];
        let marked = [numbers.mark(WORKLOAD), Statement::ACCEPT];
        rules.extend(self.each_prefix(Field::Iif, &marked, "came from a workload"));
        for (number, interface) in (FIRST..).zip(facts.forward_in.iter().filter_map(|(i, _)| *i)) {
            let came_by = [Match::is(Field::Iif, interface)];
            let marked = [numbers.mark(number), Statement::ACCEPT];
            rules.push(Rule::new(
                came_by,
                marked,
                "came by an interface with an endpoint",
            ));
        }
        let left = [numbers.is(0)];
        let mut behind = vec![
            Rule::new(left, [Statement::ACCEPT], "known connections and tunnels"),
            Rule::new([], [numbers.mark(0)], "IPVS left it, it is to this host"),
        ];
        behind.extend(self.judged_here());
        let base = hook(ChainKind::Filter, Hook::Input, BEHIND);
        self.base_chain("filter-input-behind-ipvs", base, behind);
        rules
    }

    fn judged_here(&mut self) -> Vec<Rule> {
        let mut rules = self.per_prefix(Field::Iif, &Statement::goto(TO_HOST), "workloads to this host");
        rules.extend(self.host_rules(Slot::HostIn));
        rules
    }

    /// The rule that leads what IPVS forwards away from what is asked of the host's own packets.
    pub(super) fn ipvs_out(&mut self) -> Option<Rule> {
        let (numbers, facts) = self.ipvs()?;
        let not_allowed = Match::Mark {
            mask: self.config.allowed_mark,
            value: self.config.allowed_mark,
            not: true,
        };
        let mut rules = Vec::new();
        let mut ask = |number, chain: &ChainName| {
            let matches = [numbers.is(number), not_allowed.clone()];
            let jump = Statement::Verdict(Verdict::Jump(chain.clone()));
            rules.push(Rule::new(matches, [jump], Slot::ForwardIn.what()));
        };
        let named = facts.forward_in.iter().filter(|(i, _)| i.is_some());
        let mut crowd = false;
        for (number, (_, chain)) in (FIRST..).zip(named) {
            if number < numbers.last {
                ask(number, chain);
            }
            crowd |= number >= numbers.last;
        }
        for (_, chain) in facts.forward_in.iter().filter(|(i, _)| i.is_none()) {
            ask(OTHER, chain);
            ask(WORKLOAD, chain);
        }
        if crowd {
            let stop = self.wall("ipvs-interface", Direction::To, Statement::DROP);
            let comment = "more host endpoints than bits in the mark";
            rules.push(Rule::new([numbers.is(numbers.last)], stop, comment));
        }
        let from_workload = [numbers.is(WORKLOAD)];
        if !self.encap_rules().is_empty() {
            let jump = [Statement::jump(ENCAP)];
            rules.push(Rule::new(from_workload.clone(), jump, "tunnels of workloads"));
        }
        let verdict = |chain: &ChainName| Element::verdict(Verdict::Jump(chain.clone()));
        let known = facts.workloads.iter().map(|(a, c)| (Key::One(*a), verdict(c)));
        let elements = known.chain([(Key::Any, verdict(&UNKNOWN.into()))]).collect();
        let vmap = Statement::VerdictMap {
            fields: vec![Field::Saddr],
            map: FROM.into(),
        };
        rules.push(Rule::new(from_workload, [vmap], Slot::FromWorkload.what()));
        let clear = numbers.mark(0);
        let any = Match::Mark {
            mask: numbers.mask,
            value: 0,
            not: true,
        };
        let def = SetDef::verdict_map([KeyType::Addr]).commented("policy list of traffic from each address");
        self.out.sets.insert(FROM.into(), Set { def, elements });
        let stop = self.wall("unknown-interface", Direction::From, super::deny(self.config));
        let unknown = Rule::new([], stop, "no endpoint has this address");
        self.chain(UNKNOWN, vec![unknown]);
        rules.push(self.dispatch(Slot::ToWorkload));
        rules.extend(self.host_rules(Slot::ForwardOut));
        rules.push(Rule::new([], [clear], "judged"));
        rules.extend(self.forwarded());
        self.chain(FORWARD, rules);
        Some(Rule::new([any], [Statement::goto(FORWARD)], "forwarded by IPVS"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_places_of_a_mask() {
        assert_eq!(spread(0b101, 0b1111_0000), 0b0101_0000);
        assert_eq!(spread(0b11, 0x8000_0001), 0x8000_0001);
        assert_eq!(Numbers::of(0xff00).last, 255);
        assert_eq!(Numbers::of(0x700).last, 7);
        assert_eq!(Numbers::of(0xff00).value(300), 0xff00);
        assert_eq!(Numbers::of(0).last, 0);
    }
}
