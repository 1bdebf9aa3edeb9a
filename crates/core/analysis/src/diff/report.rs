//! The result for people and programs.

use std::fmt;
use std::sync::Arc;

use caracal_net::{Cidr, Family};
use serde::Serialize;

use super::describe::{self, Namer};
use super::groups::groups;
use super::lockout;
use super::space::{ClassId, Members};
use super::{Comparison, Endpoint};
use crate::map::Map;
use crate::region::{Region, RegionId, Span};

/// What changes between two states.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// Who is opened to whom, and who closed.
    pub changes: Vec<Change>,
    /// What the change would cut that a cluster cannot do without.
    pub warnings: Vec<String>,
    /// Workloads that only the new state has; their traffic is not judged.
    pub appeared: Vec<String>,
    /// Workloads that only the old state has; their traffic is not judged.
    pub gone: Vec<String>,
    /// Objects of the old state that cannot be used, with the reason.
    pub invalid_before: Vec<String>,
    /// Objects of the new state that cannot be used, with the reason.
    pub invalid: Vec<String>,
    /// What is not judged although it differs.
    pub notes: Vec<String>,
    /// How many pairs of workloads change, each way counted; hosts count as workloads.
    pub pairs: u64,
    /// Whether there was too much to tell: what is here is right, but not all.
    pub truncated: bool,
}

impl Diff {
    /// Whether no verdict changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty()
    }
}

/// Everybody of `from` to everybody of `to` changes alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Who sends.
    pub from: Party,
    /// Who is sent to.
    pub to: Party,
    /// What is let through now.
    pub opened: Vec<Headers>,
    /// What is not let through any more.
    pub closed: Vec<Headers>,
    /// `opened` in words; empty for nothing.
    pub opened_text: String,
    /// `closed` in words; empty for nothing.
    pub closed_text: String,
    /// IP versions.
    pub families: Vec<u8>,
}

/// A set of senders or receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    /// In words.
    pub text: Arc<str>,
    /// Workloads and hosts. Parties of the same members share them.
    pub members: Arc<[Subject]>,
    /// Prefixes of addresses; those in them that are a workload's or a host's are not meant.
    pub nets: Arc<[Cidr]>,
}

/// A workload or a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// `namespace/name`.
    Workload(Arc<str>),
    /// The name of a host endpoint.
    Host(Arc<str>),
}

/// A set of packet headers. An empty list means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Headers {
    /// The protocol; absent for all but those of `except`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Destination ports: first and last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Span>,
    /// Source ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ports: Vec<Span>,
    /// ICMP types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub icmp_types: Vec<Span>,
    /// ICMP codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub icmp_codes: Vec<Span>,
    /// Protocols that are not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = |spans: &[Span]| {
            let one = |s: &Span| {
                if s.0 == s.1 {
                    s.0.to_string()
                } else {
                    format!("{}-{}", s.0, s.1)
                }
            };
            spans.iter().map(one).collect::<Vec<_>>().join(",")
        };
        f.write_str(self.protocol.as_deref().unwrap_or("other protocols"))?;
        if !self.ports.is_empty() {
            write!(f, " {}", spans(&self.ports))?;
        }
        if !self.icmp_types.is_empty() {
            write!(f, " type {}", spans(&self.icmp_types))?;
        }
        if !self.icmp_codes.is_empty() {
            write!(f, " code {}", spans(&self.icmp_codes))?;
        }
        if !self.source_ports.is_empty() {
            write!(f, " from port {}", spans(&self.source_ports))?;
        }
        Ok(())
    }
}

/// A side of a group. Many groups have the same, so that each is made once.
#[derive(Clone)]
struct Side {
    /// The number of its set of endpoints, if it is of endpoints alone.
    endpoints: Option<usize>,
    party: Party,
}

/// All sides so far.
struct Sides<'a> {
    found: &'a Comparison,
    namer: Namer<'a>,
    subjects: Vec<Subject>,
    by_classes: Map<Vec<ClassId>, Side>,
    /// Sets of endpoints, which classes of both families can be.
    sets: Map<Vec<u32>, Named>,
}

/// A set of endpoints.
struct Named {
    number: usize,
    text: String,
    members: Arc<[Subject]>,
}

impl<'a> Sides<'a> {
    fn new(found: &'a Comparison) -> Self {
        Self {
            found,
            namer: Namer::new(&found.endpoints),
            subjects: found.endpoints.iter().map(subject).collect(),
            by_classes: Map::default(),
            sets: Map::default(),
        }
    }

    fn of(&mut self, classes: Vec<ClassId>) -> Side {
        if let Some(known) = self.by_classes.get(&classes) {
            return known.clone();
        }
        let side = self.make(&classes);
        self.by_classes.insert(classes, side.clone());
        side
    }

    fn make(&mut self, classes: &[ClassId]) -> Side {
        let mut endpoints = Vec::new();
        let mut ranges = Vec::new();
        for class in classes {
            match &self.found.space.classes[*class as usize].members {
                Members::Endpoints(list) => endpoints.extend(list),
                Members::Outside(list) => ranges.extend(list),
            }
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        let mut nets = Vec::new();
        let mut outside = None;
        if let (false, Some(first)) = (ranges.is_empty(), classes.first()) {
            let family = self.found.space.classes[*first as usize].family;
            nets = describe::nets(family, &ranges, &self.found.space.occupied);
            outside = Some(describe::outside(family, &nets));
        }
        let number = self.sets.len();
        let (namer, subjects) = (&self.namer, &self.subjects);
        let set = self.sets.entry(endpoints).or_insert_with_key(|set| Named {
            number,
            text: namer.endpoints(set),
            members: set.iter().map(|n| subjects[*n as usize].clone()).collect(),
        });
        let inside = Some(set.text.as_str()).filter(|text| !text.is_empty());
        let parts: Vec<&str> = inside.into_iter().chain(outside.as_deref()).collect();
        Side {
            endpoints: nets.is_empty().then_some(set.number),
            party: Party {
                text: parts.join("; ").into(),
                members: Arc::clone(&set.members),
                nets: nets.into(),
            },
        }
    }
}

pub(super) fn report(found: &Comparison) -> Diff {
    let mut sides = Sides::new(found);
    let mut texts: Map<RegionId, (Vec<Headers>, String)> = Map::default();
    let mut changes: Vec<Change> = Vec::new();
    // The same change in the other family is the same line, if only endpoints are concerned.
    let mut lines: Map<(usize, usize, String, String), usize> = Map::default();
    for group in groups(&found.pairs, &found.space) {
        let family = found.space.classes[group.from[0] as usize].family;
        let (from, to) = (sides.of(group.from), sides.of(group.to));
        let mut words = |id: RegionId| {
            let region = || found.regions.get(id);
            texts.entry(id).or_insert_with(|| words(region())).clone()
        };
        let ((opened, opened_text), (closed, closed_text)) = (words(group.opened), words(group.closed));
        let plain = |text: &str| text.replace("ICMPv6", "ICMP");
        if let (Some(from), Some(to)) = (from.endpoints, to.endpoints) {
            let key = (from, to, plain(&opened_text), plain(&closed_text));
            match lines.get(&key) {
                // ICMP of one family and of the other are two things where they are told.
                Some(at) if !(opened_text.contains("ICMP") || closed_text.contains("ICMP")) => {
                    changes[*at].families.push(family.number());
                    continue;
                }
                Some(_) => {}
                None => {
                    lines.insert(key, changes.len());
                }
            }
        }
        changes.push(Change {
            from: from.party,
            to: to.party,
            opened,
            closed,
            opened_text,
            closed_text,
            families: vec![family.number()],
        });
    }
    let only = |at: usize| {
        let of = found
            .endpoints
            .iter()
            .filter(|e| e.seen[at].is_some() && e.seen[1 - at].is_none());
        of.map(|e| e.name.clone()).collect()
    };
    let forward = found.forward.iter().map(|name| {
        format!("host endpoint {name}: its forward policies (applyOnForward) differ; what they do is not judged here")
    });
    Diff {
        changes,
        warnings: lockout::warnings(found),
        appeared: only(1),
        gone: only(0),
        invalid_before: found.invalid[0].clone(),
        invalid: found.invalid[1].clone(),
        notes: forward.collect(),
        pairs: count(found),
        truncated: found.cut,
    }
}

fn words(region: &Region) -> (Vec<Headers>, String) {
    if region.is_nothing() {
        return (Vec::new(), String::new());
    }
    describe::headers(region)
}

fn subject(endpoint: &Endpoint) -> Subject {
    if endpoint.is_host {
        Subject::Host(endpoint.name.as_str().into())
    } else {
        Subject::Workload(endpoint.name.as_str().into())
    }
}

/// Pairs of endpoints, each way, that change in either family.
fn count(found: &Comparison) -> u64 {
    let members = |class: ClassId| match &found.space.classes[class as usize].members {
        Members::Endpoints(list) => list.as_slice(),
        Members::Outside(_) => &[],
    };
    let of = |family: Family| {
        let pairs = found
            .pairs
            .iter()
            .filter(move |p| found.space.classes[p.from as usize].family == family);
        pairs.map(|p| {
            let (from, to) = (members(p.from).len() as u64, members(p.to).len() as u64);
            // Nobody is a pair with oneself.
            if p.from == p.to {
                from * to.saturating_sub(1)
            } else {
                from * to
            }
        })
    };
    Family::BOTH
        .map(|f| of(f).sum::<u64>())
        .into_iter()
        .max()
        .unwrap_or_default()
}
