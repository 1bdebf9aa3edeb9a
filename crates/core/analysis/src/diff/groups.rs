//! Pairs of classes together that change alike.

use super::space::ClassId;
use super::{Pair, RegionId};
use crate::map::Map;

/// Everything of `from` to everything of `to` changes alike.
pub(super) struct Group {
    pub(super) from: Vec<ClassId>,
    pub(super) to: Vec<ClassId>,
    pub(super) opened: RegionId,
    pub(super) closed: RegionId,
}

type Key = (RegionId, RegionId, Vec<ClassId>);

/// Sources with the same destinations become one group, then destinations with the same sources.
pub(super) fn groups(pairs: &[Pair]) -> Vec<Group> {
    let mut by_source: Map<(ClassId, RegionId, RegionId), Vec<ClassId>> = Map::default();
    for pair in pairs {
        by_source
            .entry((pair.from, pair.opened, pair.closed))
            .or_default()
            .push(pair.to);
    }
    let mut by_destinations: Map<Key, Vec<ClassId>> = Map::default();
    for ((from, opened, closed), mut to) in by_source {
        to.sort_unstable();
        by_destinations
            .entry((opened, closed, to))
            .or_default()
            .push(from);
    }
    let mut by_sources: Map<Key, Vec<ClassId>> = Map::default();
    for ((opened, closed, to), mut from) in by_destinations {
        from.sort_unstable();
        by_sources.entry((opened, closed, from)).or_default().extend(to);
    }
    let group = |((opened, closed, from), mut to): (Key, Vec<ClassId>)| {
        to.sort_unstable();
        Group {
            from,
            to,
            opened,
            closed,
        }
    };
    let mut groups: Vec<Group> = by_sources.into_iter().map(group).collect();
    groups.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    groups
}
