//! Assertions on who reaches whom.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_net::{Family, Proto};
use caracal_oracle::{Packet, RuleSource, Step, Verdict};
use caracal_selector::Selector;
use serde::Serialize;

use crate::judge::{Court, End, Who};
use crate::lint::policies;
use crate::state::State;

/// A source port; assertions that say nothing about it mean any client.
const SOURCE_PORT: u16 = 40_000;
/// More pairs than this in one assertion are a mistake.
const MOST_PAIRS: usize = 100_000;

/// One side of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `namespace/pod`.
    Pod(String),
    /// A host endpoint.
    Host(String),
    /// Workloads by their labels, those of one namespace only if that is given.
    Labels {
        selector: String,
        namespace: Option<String>,
    },
    /// An address; of a workload if it has it, else of somebody outside.
    Address(IpAddr),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A protocol with a port.
    Port(Proto, u16),
    /// A named port of the receiver.
    Named(String),
    /// ICMP of the family, type and code.
    Icmp(u8, u8),
    /// A protocol without ports.
    Proto(Proto),
}

/// One assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assertion {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) from: Peer,
    pub(crate) to: Peer,
    pub(crate) wanted: Wanted,
    pub(crate) port_text: String,
    pub(crate) source_port: u16,
    pub(crate) expect: Verdict,
}

/// Assertions, read from files.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    pub(crate) assertions: Vec<Assertion>,
}

/// What became of an assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its name, or what it says.
    pub name: String,
    /// File and number.
    pub place: String,
    /// Who sends, in words.
    pub from: String,
    /// Who is sent to, in words.
    pub to: String,
    /// The port, as written.
    pub port: String,
    /// `allow` or `deny`.
    pub expect: &'static str,
    /// Whether everything was as expected.
    pub passed: bool,
    /// How many packets were judged.
    pub checked: usize,
    /// The packets that were not as expected, and why; the first ones.
    pub failures: Vec<String>,
    /// What decided, when all is well.
    pub decided_by: Vec<String>,
}

/// How many rules decided at least one assertion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// How many rules there are, those that only log left out.
    pub rules: usize,
    /// How many of them matched a packet of an assertion.
    pub covered: usize,
    /// The others: policy and rule.
    pub uncovered: Vec<(String, String)>,
}

/// What became of a suite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// In the order of the files.
    pub outcomes: Vec<Outcome>,
    /// Which rules were tested.
    pub coverage: Coverage,
}

impl Verdicts {
    /// Whether every assertion holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|o| o.passed)
    }
}

impl Suite {
    /// Reads the assertions of a file that is already a value; what is wrong is added to `problems`.
    pub fn read(&mut self, source: &str, value: &serde_json::Value, problems: &mut Vec<String>) {
        read::read(source, value, &mut self.assertions, problems);
    }

    /// How many assertions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.assertions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assertions.is_empty()
    }

    /// Judges all assertions over a state.
    #[must_use]
    pub fn judge(&self, state: &State) -> Verdicts {
        let court = Court::new(state);
        let mut bench = Bench {
            ends: court.ends(),
            court,
            matched: BTreeSet::new(),
        };
        let outcomes = self.assertions.iter().map(|a| bench.assertion(a)).collect();
        Verdicts {
            outcomes,
            coverage: bench.coverage(),
        }
    }
}

struct Bench<'a> {
    court: Court<'a>,
    ends: Vec<(End, BTreeMap<String, String>)>,
    /// Policy, direction and rule.
    matched: BTreeSet<(String, &'static str, usize)>,
}

impl Bench<'_> {
    fn assertion(&mut self, a: &Assertion) -> Outcome {
        let mut outcome = Outcome {
            name: a.name.clone(),
            place: a.place.clone(),
            from: a.from.to_string(),
            to: a.to.to_string(),
            port: a.port_text.clone(),
            expect: word(a.expect),
            passed: false,
            checked: 0,
            failures: Vec::new(),
            decided_by: Vec::new(),
        };
        let (from, to) = match (self.resolve(&a.from), self.resolve(&a.to)) {
            (Ok(from), Ok(to)) => (from, to),
            (from, to) => {
                let errors = [("from", from.err()), ("to", to.err())];
                outcome.failures.extend(
                    errors
                        .into_iter()
                        .filter_map(|(f, e)| Some(format!("{f}: {}", e?))),
                );
                return outcome;
            }
        };
        if from.len() * to.len() > MOST_PAIRS {
            outcome.failures.push(format!(
                "{} senders times {} receivers are too many",
                from.len(),
                to.len()
            ));
            return outcome;
        }
        let mut decided = BTreeSet::new();
        let mut wrong = 0;
        for from in &from {
            for to in to.iter().filter(|to| to.name != from.name) {
                for packet in self.packets(a, from, to) {
                    let decisions = self.court.judge(from, to, &packet);
                    outcome.checked += 1;
                    decisions.iter().for_each(|d| self.note(d));
                    let got = decisions.last().map_or(Verdict::Allowed, |d| d.verdict);
                    let by: Vec<String> = decisions
                        .iter()
                        .map(|d| format!("{} {} by {}", d.direction, d.verdict, d.by))
                        .collect();
                    if got == a.expect {
                        decided.extend(by);
                    } else {
                        wrong += 1;
                        if outcome.failures.len() < 5 {
                            outcome
                                .failures
                                .push(format!("{} -> {}: {}", from.name, to.name, by.join("; ")));
                        }
                    }
                }
            }
        }
        if outcome.checked == 0 {
            outcome
                .failures
                .push("no packet can be sent: no common address family, or nobody has that port".to_owned());
        } else if wrong > outcome.failures.len() {
            outcome
                .failures
                .push(format!("and {} more", wrong - outcome.failures.len()));
        }
        outcome.passed = outcome.failures.is_empty();
        outcome.decided_by = decided.into_iter().take(5).collect();
        outcome
    }

    fn note(&mut self, decision: &caracal_oracle::Decision) {
        let direction = match decision.direction {
            caracal_oracle::Direction::Ingress => "ingress",
            caracal_oracle::Direction::Egress => "egress",
        };
        for step in &decision.path {
            if let Step::Matched(RuleSource::Policy(_, id), n, _) = step {
                self.matched.insert((id.to_string(), direction, *n));
            }
        }
    }

    fn resolve(&self, peer: &Peer) -> Result<Vec<End>, String> {
        let named = |name: &str| -> Vec<End> {
            self.ends
                .iter()
                .map(|(e, _)| e)
                .filter(|e| e.name == name)
                .cloned()
                .collect()
        };
        let found = match peer {
            Peer::Pod(name) => named(name),
            Peer::Host(name) => named(&format!("host {name}")),
            Peer::Labels { selector, namespace } => {
                let parsed = Selector::parse(selector).map_err(|e| format!("selector {}", e.summary()))?;
                let of_namespace = |e: &End| match (&e.who, namespace) {
                    (Who::Workload(id), Some(ns)) => *id.namespace == **ns,
                    (Who::Workload(_), None) => true,
                    _ => false,
                };
                let all = self
                    .ends
                    .iter()
                    .filter(|(e, labels)| of_namespace(e) && parsed.matches_map(labels));
                all.map(|(e, _)| e.clone()).collect()
            }
            Peer::Address(address) => {
                let own = self
                    .ends
                    .iter()
                    .map(|(e, _)| e)
                    .find(|e| e.addresses.contains(address));
                let outside = End {
                    name: address.to_string(),
                    who: Who::Outside,
                    addresses: vec![*address],
                };
                vec![own.cloned().unwrap_or(outside)]
            }
        };
        if found.is_empty() {
            return Err(format!("there is no {peer}"));
        }
        Ok(found)
    }

    fn packets(&self, a: &Assertion, from: &End, to: &End) -> Vec<Packet> {
        let mut out = Vec::new();
        for family in Family::BOTH {
            // An address is that address, although its workload may have others.
            let at = |peer: &Peer, end: &End| match peer {
                Peer::Address(address) => Some(*address).filter(|a| Family::of(*a) == family),
                _ => end.address(family),
            };
            let (Some(src), Some(dst)) = (at(&a.from, from), at(&a.to, to)) else {
                continue;
            };
            let port = |(proto, port)| Packet::with_ports(src, dst, proto, a.source_port, port);
            let plain = |proto, icmp| Packet {
                icmp,
                ..Packet::with_ports(src, dst, proto, 0, 0)
            };
            match &a.wanted {
                Wanted::Port(proto, n) => out.push(port((*proto, *n))),
                Wanted::Named(name) => out.extend(self.named_ports(to, name).into_iter().map(port)),
                Wanted::Icmp(t, c) => {
                    let proto = if family == Family::V4 {
                        Proto::ICMP
                    } else {
                        Proto::ICMPV6
                    };
                    out.push(plain(proto, Some((*t, *c))));
                }
                Wanted::Proto(proto) => out.push(plain(*proto, None)),
            }
        }
        out
    }

    fn named_ports(&self, end: &End, name: &str) -> Vec<(Proto, u16)> {
        let Who::Workload(id) = &end.who else {
            return Vec::new();
        };
        let of = |r: &caracal_api::Resource| match r {
            caracal_api::Resource::WorkloadEndpoint(w)
                if w.metadata.name == *id.name && w.metadata.namespace.as_deref() == Some(&*id.namespace) =>
            {
                let ports = w.spec.ports.iter().filter(|p| p.name == name);
                Some(
                    ports
                        .filter_map(|p| Some((p.protocol.proto()?, p.port)))
                        .collect(),
                )
            }
            _ => None,
        };
        self.court.state.objects().find_map(of).unwrap_or_default()
    }

    fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for policy in policies(self.court.state) {
            for (_, direction, rules) in policy.directions() {
                let decide = |r: &caracal_api::Rule| r.action != caracal_api::Action::Log;
                for (n, _) in rules.iter().enumerate().filter(|(_, r)| decide(r)) {
                    coverage.rules += 1;
                    if self.matched.contains(&(policy.name.clone(), direction, n)) {
                        coverage.covered += 1;
                    } else {
                        coverage
                            .uncovered
                            .push((policy.name.clone(), format!("{direction}[{n}]")));
                    }
                }
            }
        }
        coverage
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allow",
        Verdict::Blocked => "deny",
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod(name) => f.write_str(name),
            Self::Host(name) => write!(f, "host {name}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Labels { selector, namespace } => match namespace {
                Some(namespace) => write!(f, "{selector} in {namespace}"),
                None => f.write_str(selector),
            },
        }
    }
}

#[cfg(test)]
mod tests;
