//! Rules of one verdict that stand side by side, merged: those equal but for one list of values become one rule, and
//! the values one set. Within such a run the order does not matter, so the first match means the same as before.

use std::{borrow::Cow, collections::HashSet};

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::{
    atom::{Atom, Dim, Values, hash},
    ir::{Element, Elements, Key, Match, Set, SetName},
    list::{List, SourceId},
    names::Digest,
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
}

/// What a group becomes: conditions, the sets they look into, and what it is for.
pub(crate) struct Merged<'a> {
    pub(crate) matches: Vec<Match>,
    pub(crate) sets: Vec<(SetName, Set)>,
    pub(crate) first: Piece<'a>,
    pub(crate) count: usize,
}

impl<'a> Group<'a> {
    fn of(piece: Piece<'a>) -> Self {
        Self {
            first: piece,
            count: 1,
            dims: piece.atom.dims.iter().map(Cow::Borrowed).collect(),
        }
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
    let mut more: Vec<Vec<Cow<'a, Values>>> = Vec::with_capacity(groups.len());
    let mut table: HashTable<usize> = HashTable::with_capacity(groups.len());
    for group in groups {
        let values = dim.and_then(|d| group.values(d).cloned());
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
                more[*i].extend(values);
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
            let parts = std::iter::once(&*own).chain(&more);
            let spans = parts.flat_map(|v| v.spans.iter().copied()).collect();
            *own = Cow::Owned(Values::new(own.dim, spans));
        }
    }
    out
}

fn finish<'a>(group: &Group<'a>, list: &List, taken: &mut HashSet<SetName>) -> Merged<'a> {
    let atom = group.first.atom;
    let mut matches = atom.fixed.head.to_vec();
    let (inline, listed): (SmallVec<[&Values; 2]>, SmallVec<[&Values; 2]>) = group
        .dims
        .iter()
        .map(|v| &**v)
        .partition(|v| v.dim.is_inline(&v.spans));
    matches.extend(inline.iter().map(|v| Match::Is {
        field: v.dim.field(),
        not: v.dim.is_negated(),
        span: v.spans[0],
    }));
    let mut sets = Vec::with_capacity(listed.len());
    for v in &listed {
        let name = set_name(group, v.dim, &inline, listed.len(), list, taken);
        matches.push(Match::InSet {
            fields: vec![v.dim.field()],
            not: v.dim.is_negated(),
            set: name.clone(),
        });
        let elements: Elements = v.spans.iter().map(|s| (Key::One(*s), Element::plain())).collect();
        let for_whom = if group.count == 1 {
            format!("of {}", group.first.source.label())
        } else {
            format!("of chain {}", list.name)
        };
        let def = v.dim.def().commented(for_whom);
        sets.push((name, Set { def, elements }));
    }
    matches.extend(atom.fixed.tail.iter().cloned());
    Merged {
        matches,
        sets,
        first: group.first,
        count: group.count,
    }
}

/// A name that stays while only the values change. A rule that merged with none has a set of its own, which every
/// chain with that policy shares; else the conditions beside the values tell the groups of a chain apart, or, where
/// there are several lists of values, the first rule does.
fn set_name(
    group: &Group<'_>,
    dim: Dim,
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
    let name = SetName::new(format!("{}-{}", dim.word(), digest.text()));
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
