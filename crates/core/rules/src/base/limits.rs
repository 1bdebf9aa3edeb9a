//! What workloads may send and receive beside what policy allows: packets in a second, connections at a time, and the
//! mark that their packets leave the cluster with.

use caracal_api::QosControls;
use caracal_net::Proto;

use super::{Builder, MANGLE, hook};
use crate::{
    ir::{
        ChainKind, Element, Field, Hook, IfName, Key, KeyType, Match, Per, RejectWith, Rule, Set, SetDef,
        Span, Statement, Verdict,
    },
    list::Direction,
    names,
};

/// A packet rate with its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    per_second: u64,
    burst: u32,
}

/// The limits of one workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    rate: [Option<Rate>; 2],
    connections: [Option<u32>; 2],
}

/// Whose packets are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limited {
    From,
    To,
}

impl Limited {
    fn word(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }

    fn field(self) -> Field {
        match self {
            Self::From => Field::Iif,
            Self::To => Field::Oif,
        }
    }

    fn direction(self) -> Direction {
        match self {
            Self::From => Direction::From,
            Self::To => Direction::To,
        }
    }
}

impl Limits {
    /// The limits that controls ask for; nothing if there is none. A value that is no limit is none.
    pub(crate) fn of(q: &QosControls) -> Option<Self> {
        let rate = |rate: Option<i64>, burst: Option<i64>| {
            let per_second = u64::try_from(rate?).ok().filter(|n| *n > 0)?;
            let burst = burst.and_then(|b| u32::try_from(b).ok()).filter(|b| *b > 0);
            Some(Rate {
                per_second,
                burst: burst.unwrap_or(5),
            })
        };
        let connections = |n: Option<i64>| u32::try_from(n?).ok().filter(|n| *n > 0);
        let limits = Self {
            rate: [
                rate(q.egress_packet_rate, q.egress_packet_burst),
                rate(q.ingress_packet_rate, q.ingress_packet_burst),
            ],
            connections: [
                connections(q.egress_max_connections),
                connections(q.ingress_max_connections),
            ],
        };
        (limits != Self::default()).then_some(limits)
    }
}

/// The name of a chain for one interface.
fn chain_of(what: &str, interface: IfName) -> String {
    let text = interface.text();
    if names::readable(text) == text {
        format!("{what}-{text}")
    } else {
        format!("{what}..{}", names::Digest::default().part(text).text())
    }
}

impl Builder<'_> {
    /// Rules that drop what comes faster than it may; all packets meet them, those of known connections too.
    pub(super) fn rates(&mut self, sides: &[Limited]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for side in sides {
            let rate = |l: &Limits| l.rate[*side as usize];
            let over = |r: Rate| Statement::Limit {
                rate: r.per_second,
                per: Per::Second,
                burst: r.burst,
                over: true,
            };
            let limited = self.facts.limits.iter().filter_map(|(i, l)| Some((*i, rate(l)?)));
            let chains: Vec<(IfName, Rule)> = limited
                .map(|(interface, rate)| {
                    let stop = self.wall("packet-rate", side.direction(), Statement::DROP);
                    let statements: Vec<_> = [over(rate)].into_iter().chain(stop).collect();
                    (interface, Rule::new([], statements, "more packets than it may"))
                })
                .collect();
            rules.extend(self.limited(*side, "rate", [], chains));
        }
        rules
    }

    /// Rules that refuse new connections above what may be open at a time.
    pub(super) fn connections(&mut self, sides: &[Limited]) -> Vec<Rule> {
        // A connection begins with SYN alone of these four flags.
        let begins = [
            Match::is(Field::Proto, Proto::TCP),
            Match::TcpFlags {
                mask: 0x17,
                value: 0x02,
                not: false,
            },
        ];
        let mut rules = Vec::new();
        for side in sides {
            let most = |l: &Limits| l.connections[*side as usize];
            let limited = self.facts.limits.iter().filter_map(|(i, l)| Some((*i, most(l)?)));
            let chains: Vec<(IfName, Rule)> = limited
                .map(|(interface, most)| {
                    let refuse = Statement::Reject(RejectWith::TcpReset);
                    let stop = self.wall("connections", side.direction(), refuse);
                    let rule = Rule::new(
                        [Match::ConnectionsOver(most)],
                        stop,
                        "more connections than it may",
                    );
                    (interface, rule)
                })
                .collect();
            rules.extend(self.limited(*side, "conn", begins.clone(), chains));
        }
        rules
    }

    /// A map from interface to the chain of its limit, and the rule that asks it.
    fn limited<const N: usize>(
        &mut self,
        side: Limited,
        what: &str,
        matches: [Match; N],
        chains: Vec<(IfName, Rule)>,
    ) -> Option<Rule> {
        if chains.is_empty() {
            return None;
        }
        let map = format!("{what}-{}", side.word());
        let def = SetDef::verdict_map([KeyType::IfName]).commented("limits of workloads");
        let mut set = Set::empty(def);
        for (interface, rule) in chains {
            let chain = chain_of(&map, interface);
            let jump = Element::verdict(Verdict::Jump(chain.as_str().into()));
            set.elements.insert(Key::from(interface), jump);
            self.chain(&chain, vec![rule]);
        }
        self.out.sets.insert(map.as_str().into(), set);
        let vmap = Statement::VerdictMap {
            fields: vec![side.field()],
            map: map.into(),
        };
        Some(Rule::new(matches, [vmap], "limits of workloads"))
    }

    /// Marks what leaves the cluster, and what host endpoints ask for on the way out.
    pub(super) fn postrouting(&mut self) {
        let mut rules = self.dscp();
        rules.extend(self.translated());
        if !rules.is_empty() {
            let base = hook(ChainKind::Filter, Hook::Postrouting, MANGLE);
            self.base_chain("mangle-postrouting", base, rules);
        }
    }

    fn dscp(&mut self) -> Vec<Rule> {
        const NEAR: &str = "dscp-near";
        const MAP: &str = "dscp-from";
        if self.facts.dscp.is_empty() {
            return Vec::new();
        }
        let mut set = Set::empty(
            SetDef::verdict_map([KeyType::Addr])
                .intervals()
                .commented("workloads whose packets leave the cluster with a DSCP"),
        );
        let facts = self.facts;
        for (dscp, sources) in &facts.dscp {
            let chain = format!("dscp-{dscp}");
            let jump = Element::verdict(Verdict::Jump(chain.as_str().into()));
            let elements = sources.iter().map(|s: &Span| (Key::One(*s), jump.clone()));
            set.elements.extend(elements);
            let mark = Rule::new([], [Statement::SetDscp(*dscp)], "DSCP of a workload");
            self.chain(&chain, vec![mark]);
        }
        self.out.sets.insert(MAP.into(), set);
        let def = SetDef::new([KeyType::Addr])
            .intervals()
            .commented("pools and nodes");
        self.set(NEAR, def, facts.near.iter().map(|s| Key::One(*s)));
        let vmap = Statement::VerdictMap {
            fields: vec![Field::Saddr],
            map: MAP.into(),
        };
        vec![Rule::new(
            [Match::not_in_set([Field::Daddr], NEAR)],
            [vmap],
            "DSCP of packets that leave the cluster",
        )]
    }
}
