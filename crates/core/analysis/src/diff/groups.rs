//! Pairs of classes together that change alike.

use super::space::{ClassId, Members, Space};
use super::{Pair, RegionId};
use crate::map::Map;

/// Everything of `from` to everything of `to` changes alike.
pub(super) struct Group {
    pub(super) from: Vec<ClassId>,
    pub(super) to: Vec<ClassId>,
    pub(super) opened: RegionId,
    pub(super) closed: RegionId,
}

/// Sources with the same destinations become one group, and destinations with the same sources. Endpoints and addresses
/// outside come together last: who is let in from where often differs although who is let in by whom does not.
pub(super) fn groups(pairs: &[Pair], space: &Space) -> Vec<Group> {
    let outside = |c: ClassId| matches!(space.classes[c as usize].members, Members::Outside(_));
    let by_receiver = receivers_tell_more(pairs);
    let mut rows: Map<(ClassId, bool, RegionId, RegionId), Vec<ClassId>> = Map::default();
    for pair in pairs {
        let (one, other) = if by_receiver {
            (pair.to, pair.from)
        } else {
            (pair.from, pair.to)
        };
        let row = (one, outside(other), pair.opened, pair.closed);
        rows.entry(row).or_default().push(other);
    }
    let row =
        |((one, _, opened, closed), mut others): ((ClassId, bool, RegionId, RegionId), Vec<ClassId>)| {
            others.sort_unstable();
            let (from, to) = if by_receiver {
                (others, vec![one])
            } else {
                (vec![one], others)
            };
            Group {
                from,
                to,
                opened,
                closed,
            }
        };
    let (inner, outer): (Vec<Group>, Vec<Group>) =
        rows.into_iter().map(row).partition(|g| !outside(g.from[0]));
    let mut groups = by_source(by_destination(inner));
    groups.extend(by_source(by_destination(outer)));
    let mut groups = by_source(by_destination(groups));
    groups.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    groups
}

/// Whether there are fewer groups to begin with when all senders of a receiver are put together, judged by some of the
/// pairs. What is told is the same either way; it takes less time and memory.
fn receivers_tell_more(pairs: &[Pair]) -> bool {
    const SOME: u64 = 4096;
    // Scattered, because pairs come in rows: in even steps one would meet the same few of a side again and again.
    let len = pairs.len() as u64;
    let scattered = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16) % len.max(1);
    let some = || (0..SOME.min(len)).filter_map(|n| pairs.get(usize::try_from(scattered(n)).ok()?));
    let count = |of: fn(&Pair) -> ClassId| {
        let keys: Map<(ClassId, RegionId, RegionId), ()> =
            some().map(|p| ((of(p), p.opened, p.closed), ())).collect();
        keys.len()
    };
    count(|p| p.to) < count(|p| p.from)
}

/// Groups with the same destinations become one.
fn by_destination(groups: Vec<Group>) -> Vec<Group> {
    let mut merged: Map<(RegionId, RegionId, Vec<ClassId>), Vec<ClassId>> = Map::default();
    for group in groups {
        merged
            .entry((group.opened, group.closed, group.to))
            .or_default()
            .extend(group.from);
    }
    let group = |((opened, closed, to), mut from): ((RegionId, RegionId, Vec<ClassId>), Vec<ClassId>)| {
        from.sort_unstable();
        Group {
            from,
            to,
            opened,
            closed,
        }
    };
    merged.into_iter().map(group).collect()
}

/// Groups with the same sources become one.
fn by_source(groups: Vec<Group>) -> Vec<Group> {
    let turn = |g: Group| Group {
        from: g.to,
        to: g.from,
        ..g
    };
    by_destination(groups.into_iter().map(turn).collect())
        .into_iter()
        .map(turn)
        .collect()
}
