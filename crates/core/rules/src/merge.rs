//! Rules of one verdict that stand side by side, merged: those equal but for one list of values become one rule, and
//! the values one set. Within such a run the order does not matter, so the first match means the same as before.
//!
//! Each value of a merged rule counts for the first rule that has it. So rules merge along one list of values only: of
//! a product of two lists no element would say whose packet it was.

use std::{borrow::Cow, collections::HashSet};

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::{
    atom::{Atom, Dim, Values, hash},
    ir::{CounterName, Element, Elements, Key, Match, Set, SetDef, SetName},
    list::{List, SourceId},
    names::Digest,
    owned::{Owned, owned_spans},
};

/// An atom and the policy or profile it is of.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) source: &'a SourceId,
    pub(crate) atom: &'a Atom,
}

/// Atoms that became one rule.
struct Group<'a> {
    first: Piece<'a>,
    count: usize,
    dims: SmallVec<[Cow<'a, Values>; 2]>,
    /// Where rules differed in one list of values: which, and the values with their rules, in order.
    merged: Option<(Dim, Vec<Part<'a>>)>,
}

/// Values, and what counts their packets.
type Part<'a> = (Cow<'a, Values>, &'a CounterName);

/// What a group becomes: conditions, the sets they look into, and what it is for.
pub(crate) struct Merged<'a> {
    pub(crate) matches: Vec<Match>,
    pub(crate) sets: Vec<(SetName, Set)>,
    pub(crate) first: Piece<'a>,
    pub(crate) count: usize,
    /// What counts its packets; nothing where the conditions do.
    pub(crate) counter: Option<CounterName>,
}

impl<'a> Group<'a> {
    fn of(piece: Piece<'a>) -> Self {
        Self {
            first: piece,
            count: 1,
            dims: piece.atom.dims.iter().map(Cow::Borrowed).collect(),
            merged: None,
        }
    }

    /// Whether it may merge along a dimension.
    fn merges_along(&self, dim: Dim) -> bool {
        self.merged.as_ref().is_none_or(|(d, _)| *d == dim)
    }

    fn values(&self, dim: Dim) -> Option<&Cow<'a, Values>> {
        self.dims.iter().find(|v| v.dim == dim)
    }

    /// A hash of everything but one dimension.
    fn hash_without(&self, dim: Option<Dim>) -> u64 {
        let rest = self.dims.iter().filter(|v| Some(v.dim) != dim);
        rest.fold(self.first.atom.fixed_hash, |h, v| hash(&(h, v.hash)))
    }

    fn equal_without(&self, other: &Self, dim: Option<Dim>) -> bool {
        let rest = |g: &'_ Self| g.dims.len();
        self.first.atom.fixed == other.first.atom.fixed
            && rest(self) == rest(other)
            && self.dims.iter().zip(&other.dims).all(|(a, b)| {
                a.dim == b.dim && (Some(a.dim) == dim || a.hash == b.hash && a.spans == b.spans)
            })
    }
}

/// What counts the packets of a group.
enum Counts<'a> {
    /// One counter.
    One(&'a CounterName),
    /// Each value of a dimension has its own.
    Each(Dim, Vec<Owned<'a>>),
}

impl<'a> Counts<'a> {
    fn one(&self) -> Option<CounterName> {
        match self {
            Self::One(counter) => Some((*counter).clone()),
            Self::Each(..) => None,
        }
    }

    fn along(&self, dim: Dim) -> Option<&[Owned<'a>]> {
        match self {
            Self::Each(d, values) if *d == dim => Some(values),
            _ => None,
        }
    }

    fn is_along(&self, dim: Dim) -> bool {
        self.along(dim).is_some()
    }
}

impl<'a> Group<'a> {
    fn counted(&self) -> Counts<'a> {
        let first = &self.first.atom.counter;
        let Some((dim, parts)) = &self.merged else {
            return Counts::One(first);
        };
        let parts = parts.iter().map(|(values, counter)| (&*values.spans, *counter));
        let owned = owned_spans(parts);
        match owned.split_first() {
            Some((one, rest)) if rest.iter().all(|o| o.owner == one.owner) => Counts::One(one.owner),
            Some(_) => Counts::Each(*dim, owned),
            None => Counts::One(first),
        }
    }
}

/// Merges one run. The result is a function of the run alone.
pub(crate) fn merge<'a>(run: &[Piece<'a>], list: &List, taken: &mut HashSet<SetName>) -> Vec<Merged<'a>> {
    let mut groups: Vec<Group<'a>> = run.iter().map(|p| Group::of(*p)).collect();
    if groups.len() > 1 {
        groups = pass(groups, None);
        for dim in Dim::MERGING {
            groups = pass(groups, Some(dim));
        }
    }
    groups.iter().map(|g| finish(g, list, taken)).collect()
}

/// Joins groups that differ in nothing (`None`) or in one dimension only.
fn pass<'a>(groups: Vec<Group<'a>>, dim: Option<Dim>) -> Vec<Group<'a>> {
    let mut out: Vec<Group<'a>> = Vec::with_capacity(groups.len());
    let mut hashes: Vec<u64> = Vec::with_capacity(groups.len());
    let mut more: Vec<Vec<Part<'a>>> = Vec::with_capacity(groups.len());
    let mut table: HashTable<usize> = HashTable::with_capacity(groups.len());
    for group in groups {
        let values = dim.and_then(|d| group.values(d).filter(|_| group.merges_along(d)).cloned());
        if dim.is_some() && values.is_none() {
            out.push(group);
            hashes.push(0);
            more.push(Vec::new());
            continue;
        }
        let h = group.hash_without(dim);
        match table.find(h, |i| out[*i].equal_without(&group, dim)) {
            Some(i) => {
                out[*i].count += group.count;
                more[*i].extend(values.map(|v| (v, &group.first.atom.counter)));
            }
            None => {
                table.insert_unique(h, out.len(), |i| hashes[*i]);
                out.push(group);
                hashes.push(h);
                more.push(Vec::new());
            }
        }
    }
    for (group, more) in out.iter_mut().zip(more) {
        let own = group.dims.iter_mut().find(|v| Some(v.dim) == dim);
        if let Some(own) = own.filter(|_| !more.is_empty()) {
            let mut parts = vec![(own.clone(), &group.first.atom.counter)];
            parts.extend(more);
            let spans = parts.iter().flat_map(|(v, _)| v.spans.iter().copied()).collect();
            *own = Cow::Owned(Values::new(own.dim, spans));
            group.merged = Some((own.dim, parts));
        }
    }
    out
}

fn finish<'a>(group: &Group<'a>, list: &List, taken: &mut HashSet<SetName>) -> Merged<'a> {
    let atom = group.first.atom;
    let mut matches = atom.fixed.head.to_vec();
    let counted = group.counted();
    let (inline, listed): (SmallVec<[&Values; 2]>, SmallVec<[&Values; 2]>) = group
        .dims
        .iter()
        .map(|v| &**v)
        .partition(|v| v.dim.is_inline(&v.spans) && !counted.is_along(v.dim));
    matches.extend(inline.iter().map(|v| Match::Is {
        field: v.dim.field(),
        not: v.dim.is_negated(),
        span: v.spans[0],
    }));
    let mut sets = Vec::with_capacity(listed.len());
    let mut last = None;
    for v in &listed {
        let values = counted.along(v.dim);
        let name = set_name(group, v.dim, values.is_some(), &inline, listed.len(), list, taken);
        let fields = vec![v.dim.field()];
        let (elements, def): (Elements, SetDef) = match values {
            Some(values) => {
                let map = name.clone();
                last = Some(Match::Counted { fields, map });
                let element = |o: &Owned<'_>| (Key::One(o.span), Element::counter(o.owner.clone()));
                (values.iter().map(element).collect(), v.dim.counters())
            }
            None => {
                matches.push(Match::InSet {
                    fields,
                    not: v.dim.is_negated(),
                    set: name.clone(),
                });
                let plain = |s: &crate::ir::Span| (Key::One(*s), Element::plain());
                (v.spans.iter().map(plain).collect(), v.dim.def())
            }
        };
        let for_whom = if group.count == 1 {
            format!("of {}", group.first.source.label())
        } else {
            format!("of chain {}", list.name)
        };
        let def = def.commented(for_whom);
        sets.push((name, Set { def, elements }));
    }
    matches.extend(atom.fixed.tail.iter().cloned());
    matches.extend(last);
    Merged {
        matches,
        sets,
        first: group.first,
        count: group.count,
        counter: counted.one(),
    }
}

/// A name that stays while only the values change. A rule that merged with none has a set of its own, which every
/// chain with that policy shares; else the conditions beside the values tell the groups of a chain apart, or, where
/// there are several lists of values, the first rule does.
fn set_name(
    group: &Group<'_>,
    dim: Dim,
    counts: bool,
    inline: &[&Values],
    lists: usize,
    list: &List,
    taken: &mut HashSet<SetName>,
) -> SetName {
    let atom = group.first.atom;
    let mut digest = group.first.source.digest();
    if group.count > 1 {
        digest = Digest::default().part(list.name.as_str());
        digest.add([atom.action as u8]);
    }
    if group.count > 1 && lists == 1 {
        // Debug text is as exact as the values themselves; it is made for sets only, so its price does not matter.
        digest.add(format!("{:?}", atom.fixed));
        inline
            .iter()
            .for_each(|v| digest.add(format!("{:?}", (v.dim, &v.spans))));
    } else {
        digest.add(list.role.direction.word());
        digest.add(atom.rule.to_le_bytes());
        digest.add(atom.part.to_le_bytes());
    }
    if group.count > 1 && lists > 1 {
        digest.add(group.first.source.digest().text());
    }
    let kind = if counts { "n." } else { "" };
    let name = SetName::new(format!("{kind}{}-{}", dim.word(), digest.text()));
    if taken.insert(name.clone()) {
        return name;
    }
    let free = (2..)
        .map(|n| SetName::from(format!("{name}.{n}")))
        .find(|n| !taken.contains(n));
    let name = free.unwrap_or(name);
    taken.insert(name.clone());
    name
}
