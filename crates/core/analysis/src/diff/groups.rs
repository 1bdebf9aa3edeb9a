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
    let mut rows: Map<(ClassId, bool, RegionId, RegionId), Vec<ClassId>> = Map::default();
    for pair in pairs {
        let row = (pair.from, outside(pair.to), pair.opened, pair.closed);
        rows.entry(row).or_default().push(pair.to);
    }
    let row = |((from, _, opened, closed), mut to): ((ClassId, bool, RegionId, RegionId), Vec<ClassId>)| {
        to.sort_unstable();
        Group {
            from: vec![from],
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
