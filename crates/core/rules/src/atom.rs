//! Rules of policies in a normal form per family: conditions that all must hold, split into values that merge (nets,
//! ports, ICMP types) and the rest.

use std::{
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use caracal_api::Action;
use caracal_desired::{Rule, Side};
use caracal_ids::IpSetId;
use caracal_net::{Cidr, Family, PortRange, Proto};
use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::{
    counters,
    ip_sets::IpSets,
    ir::{CounterName, DataType, Field, KeyType, Match, SetDef, Span, merge_spans},
    list::{Direction, SourceId},
};

/// A list of values that one field of a packet is held against. The order is that of the tests in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Dim {
    Dport,
    Sport,
    Icmp,
    Src,
    Dst,
    NotDport,
    NotSport,
    NotSrc,
    NotDst,
}

impl Dim {
    /// Those in which rules that are equal otherwise become one, in the order in which that is tried.
    pub(crate) const MERGING: [Self; 5] = [Self::Dport, Self::Src, Self::Dst, Self::Sport, Self::Icmp];

    pub(crate) fn field(self) -> Field {
        match self {
            Self::Dport | Self::NotDport => Field::Dport,
            Self::Sport | Self::NotSport => Field::Sport,
            Self::Icmp => Field::IcmpType,
            Self::Src | Self::NotSrc => Field::Saddr,
            Self::Dst | Self::NotDst => Field::Daddr,
        }
    }

    pub(crate) fn is_negated(self) -> bool {
        matches!(
            self,
            Self::NotDport | Self::NotSport | Self::NotSrc | Self::NotDst
        )
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Dport => "dport",
            Self::Sport => "sport",
            Self::Icmp => "icmp",
            Self::Src => "src",
            Self::Dst => "dst",
            Self::NotDport => "not-dport",
            Self::NotSport => "not-sport",
            Self::NotSrc => "not-src",
            Self::NotDst => "not-dst",
        }
    }

    pub(crate) fn def(self) -> SetDef {
        let def = SetDef::new([self.field().key_type()]);
        if self.field().key_type() == KeyType::IcmpType {
            def
        } else {
            def.intervals()
        }
    }

    /// The same for a map that says which counter each value has.
    pub(crate) fn counters(self) -> SetDef {
        SetDef {
            data: Some(DataType::Counter),
            ..self.def()
        }
    }

    /// Whether the values stand in the rule itself. Only what is one value is: a range of ports is what people move,
    /// and moving an element is cheaper than moving a rule.
    pub(crate) fn is_inline(self, spans: &[Span]) -> bool {
        match spans {
            [Span::Port(first, last)] => first == last,
            [one @ (Span::V4(..) | Span::V6(..))] => one.prefix().is_some(),
            [_] => true,
            _ => false,
        }
    }
}

/// Disjoint values in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) dim: Dim,
    pub(crate) hash: u64,
    pub(crate) spans: Box<[Span]>,
}

/// Conditions that do not merge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fixed {
    /// Tests of the protocol, which come first.
    pub(crate) head: SmallVec<[Match; 1]>,
    /// Look-ups and the rest, which come last.
    pub(crate) tail: Vec<Match>,
}

/// One conjunction of a rule. A rule with an "or" inside makes several, which stand side by side.
#[derive(Debug)]
pub(crate) struct Atom {
    /// The rule's place in its list.
    pub(crate) rule: u32,
    /// The place among the atoms of the rule.
    pub(crate) part: u32,
    pub(crate) action: Action,
    pub(crate) fixed: Fixed,
    pub(crate) fixed_hash: u64,
    /// By dimension.
    pub(crate) dims: SmallVec<[Values; 1]>,
    /// The IP sets that the conditions look into.
    pub(crate) sets: SmallVec<[IpSetId; 1]>,
    /// The IP set that is missing; the atom then denies everything.
    pub(crate) missing: Option<IpSetId>,
    /// What the rule's owner wrote to it.
    pub(crate) note: Option<Arc<str>>,
    /// What counts the rule's packets.
    pub(crate) counter: CounterName,
}

impl Atom {
    /// Whether every packet matches.
    pub(crate) fn is_any(&self) -> bool {
        self.dims.is_empty() && self.fixed.head.is_empty() && self.fixed.tail.is_empty()
    }
}

/// A hash for tables that compare what they find; it decides nothing.
pub(crate) fn hash(what: &impl Hash) -> u64 {
    FixedState::default().hash_one(what)
}

/// The IP sets that a rule names.
pub(crate) fn sets_of(rule: &Rule) -> impl Iterator<Item = &IpSetId> {
    [&rule.src, &rule.dst].into_iter().flat_map(|s| {
        let lists = [
            &s.ip_sets,
            &s.not_ip_sets,
            &s.named_ports,
            &s.not_named_ports,
            &s.ip_port_sets,
        ];
        lists.into_iter().flatten()
    })
}

/// The atoms of a policy's or profile's rules of one direction in one family.
pub(crate) fn atoms(
    source: &SourceId,
    direction: Direction,
    rules: &[Rule],
    family: Family,
    sets: &IpSets,
) -> Vec<Atom> {
    let mut out = Vec::with_capacity(rules.len());
    let begin = source.counters();
    let ids = counters::ids(rules);
    for ((rule, id), index) in rules.iter().zip(&ids).zip(0..) {
        if rule.applies_to(family) {
            let missing = sets_of(rule).find(|id| sets.get(id).is_none());
            let counter = |action| counters::of_rule(&begin, direction, id, action);
            match missing {
                Some(id) => out.push(closed(index, id.clone(), counter(counters::MISSING))),
                None => {
                    let counter = counter(counters::action(rule.action));
                    expand(rule, (index, counter), family, sets, &mut out);
                }
            }
        }
    }
    out
}

/// A rule that names a set that is not there must not let a packet through, nor may the rules behind it.
fn closed(rule: u32, missing: IpSetId, counter: CounterName) -> Atom {
    Atom {
        rule,
        part: 0,
        action: Action::Deny,
        fixed: Fixed::default(),
        fixed_hash: hash(&Fixed::default()),
        dims: SmallVec::new(),
        sets: SmallVec::new(),
        missing: Some(missing),
        note: None,
        counter,
    }
}

/// What is known of an atom while it is made.
#[derive(Clone, Default)]
struct Draft {
    fixed: Fixed,
    dims: SmallVec<[(Dim, Vec<Span>); 2]>,
    sets: SmallVec<[IpSetId; 1]>,
}

fn expand(
    rule: &Rule,
    (index, counter): (u32, CounterName),
    family: Family,
    sets: &IpSets,
    out: &mut Vec<Atom>,
) {
    let icmp = match family {
        Family::V4 => Proto::ICMP,
        Family::V6 => Proto::ICMPV6,
    };
    let asks_icmp = rule.icmp.is_some() || rule.not_icmp.is_some();
    let asks_ports = [&rule.src, &rule.dst]
        .iter()
        .any(|s| !s.ports.is_empty() || !s.not_ports.is_empty() || !s.not_named_ports.is_empty());
    let mut protos: SmallVec<[Option<Proto>; 3]> = match rule.protocol {
        _ if asks_icmp => SmallVec::from_slice(&[Some(icmp)]),
        None if asks_ports => [Proto::TCP, Proto::UDP, Proto::SCTP]
            .into_iter()
            .map(Some)
            .collect(),
        given => SmallVec::from_slice(&[given]),
    };
    protos.retain(|p| {
        let fits = p.is_none() || rule.protocol.is_none_or(|want| *p == Some(want));
        let names_ports = asks_ports || !rule.src.named_ports.is_empty() || !rule.dst.named_ports.is_empty();
        fits && !(p.is_some() && *p == rule.not_protocol)
            && !(names_ports && p.is_some_and(|p| !p.has_ports()))
    });
    let mut part = 0;
    let note = note(rule);
    for proto in protos {
        let mut drafts = vec![Draft::of(rule, proto)];
        with_icmp(rule, &mut drafts);
        for (side, is_source) in [(&rule.src, true), (&rule.dst, false)] {
            drafts = with_side(drafts, side, is_source, family, sets);
        }
        for draft in drafts {
            out.push(draft.finish((index, part), rule.action, note.clone(), counter.clone()));
            part += 1;
        }
    }
}

/// The annotations of a rule, for whoever reads the table.
fn note(rule: &Rule) -> Option<Arc<str>> {
    let annotations = &rule.origin.as_ref()?.annotations;
    let line = |(key, value): &(String, String)| format!("{key}={value}");
    let text = annotations.iter().map(line).collect::<Vec<_>>().join(", ");
    // What would break a line or a quotation is not for a table.
    let plain = |c: char| if c.is_control() || c == '"' { '_' } else { c };
    (!text.is_empty()).then(|| text.chars().map(plain).collect::<String>().into())
}

fn with_icmp(rule: &Rule, drafts: &mut Vec<Draft>) {
    if let Some(m) = rule.icmp {
        let kind = Span::IcmpType(m.icmp_type);
        for d in drafts.iter_mut() {
            match m.code {
                None => d.dims.push((Dim::Icmp, vec![kind])),
                Some(code) => d.fixed.tail.extend([
                    Match::is(Field::IcmpType, kind),
                    Match::is(Field::IcmpCode, Span::IcmpCode(code)),
                ]),
            }
        }
    }
    if let Some(m) = rule.not_icmp {
        let kind = Span::IcmpType(m.icmp_type);
        let mut same_type = Vec::new();
        for d in drafts.iter_mut() {
            if let Some(code) = m.code {
                let mut other_code = d.clone();
                other_code.fixed.tail.extend([
                    Match::is(Field::IcmpType, kind),
                    Match::is_not(Field::IcmpCode, Span::IcmpCode(code)),
                ]);
                same_type.push(other_code);
            }
            d.fixed.tail.push(Match::is_not(Field::IcmpType, kind));
        }
        drafts.append(&mut same_type);
    }
}

fn nets(nets: &[Cidr], family: Family) -> Vec<Span> {
    nets.iter()
        .filter(|c| c.family() == family)
        .map(|c| Span::from(*c))
        .collect()
}

fn with_side(
    mut drafts: Vec<Draft>,
    side: &Side,
    is_source: bool,
    family: Family,
    sets: &IpSets,
) -> Vec<Draft> {
    let (addr, port) = if is_source {
        (Field::Saddr, Field::Sport)
    } else {
        (Field::Daddr, Field::Dport)
    };
    let dims = if is_source {
        [Dim::Src, Dim::NotSrc, Dim::Sport, Dim::NotSport]
    } else {
        [Dim::Dst, Dim::NotDst, Dim::Dport, Dim::NotDport]
    };
    let ports = |ranges: &[PortRange]| ranges.iter().map(|r| Span::from(*r)).collect::<Vec<_>>();
    let look_up = |d: &mut Draft, id: &IpSetId, not: bool| {
        if let Some((set, shape)) = sets.resolve(id, family) {
            let fields = shape.fields(addr, port);
            d.fixed.tail.push(Match::InSet { fields, not, set });
            d.sets.push(id.clone());
        }
    };
    for d in &mut drafts {
        if !side.nets.iter().any(|c| c.is_catch_all() && c.family() == family) {
            d.values(dims[0], nets(&side.nets, family));
        }
        d.values(dims[1], nets(&side.not_nets, family));
        d.values(dims[3], ports(&side.not_ports));
        side.ip_sets.iter().for_each(|id| look_up(d, id, false));
        side.not_ip_sets.iter().for_each(|id| look_up(d, id, true));
        side.not_named_ports.iter().for_each(|id| look_up(d, id, true));
    }
    if !side.ports.is_empty() || !side.named_ports.is_empty() {
        drafts = drafts
            .iter()
            .flat_map(|d| {
                let numbers = (!side.ports.is_empty()).then(|| {
                    let mut d = d.clone();
                    d.values(dims[2], ports(&side.ports));
                    d
                });
                let names = side.named_ports.iter().map(|id| {
                    let mut d = d.clone();
                    look_up(&mut d, id, false);
                    d
                });
                numbers.into_iter().chain(names).collect::<Vec<_>>()
            })
            .collect();
    }
    if !side.ip_port_sets.is_empty() {
        let one = |d: &Draft, id| {
            let mut d = d.clone();
            look_up(&mut d, id, false);
            d
        };
        drafts = drafts
            .iter()
            .flat_map(|d| side.ip_port_sets.iter().map(move |id| one(d, id)))
            .collect();
    }
    drafts
}

impl Draft {
    fn of(rule: &Rule, proto: Option<Proto>) -> Self {
        let mut d = Self::default();
        if let Some(p) = proto {
            d.fixed.head.push(Match::is(Field::Proto, p));
        } else if let Some(p) = rule.not_protocol {
            d.fixed.head.push(Match::is_not(Field::Proto, p));
        }
        d
    }

    fn values(&mut self, dim: Dim, spans: Vec<Span>) {
        if !spans.is_empty() {
            self.dims.push((dim, spans));
        }
    }

    fn finish(
        mut self,
        (rule, part): (u32, u32),
        action: Action,
        note: Option<Arc<str>>,
        counter: CounterName,
    ) -> Atom {
        self.dims.sort_by_key(|(dim, _)| *dim);
        self.sets.sort();
        self.sets.dedup();
        let dims = self
            .dims
            .into_iter()
            .map(|(dim, spans)| Values::new(dim, spans))
            .collect();
        Atom {
            rule,
            part,
            action,
            fixed_hash: hash(&self.fixed),
            fixed: self.fixed,
            dims,
            sets: self.sets,
            missing: None,
            note,
            counter,
        }
    }
}

impl Values {
    pub(crate) fn new(dim: Dim, spans: Vec<Span>) -> Self {
        let spans: Box<[Span]> = match spans.as_slice() {
            [_] => spans.into(),
            _ => merge_spans(spans).into(),
        };
        Self {
            dim,
            hash: hash(&(dim, &spans)),
            spans,
        }
    }
}
