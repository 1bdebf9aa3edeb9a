//! The answers to all questions of a state, for any address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_net::{Family, Step};

use super::{Extent, mark};
use crate::map::Map;

/// The address behind this one; nothing at the end of the family.
pub(super) fn after(address: IpAddr) -> Option<IpAddr> {
    Step::next(address)
}

/// The address before one that is not the family's first.
pub(super) fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::V4(u32::from(a).saturating_sub(1).into()),
        IpAddr::V6(a) => IpAddr::V6(u128::from(a).saturating_sub(1).into()),
    }
}

/// The last address of a family.
pub(super) fn last(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([255; 4]),
        Family::V6 => IpAddr::from([255; 16]),
    }
}

fn first(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    }
}

/// For every address one number that stands for all answers: constant between starts, but for single addresses of
/// endpoints.
pub(super) struct Lines {
    /// Where the number changes, by family.
    starts: [Vec<(IpAddr, u128)>; 2],
    points: Map<IpAddr, u128>,
}

fn place(family: Family) -> usize {
    usize::from(family == Family::V6)
}

impl Lines {
    /// Single addresses of endpoints (`own`) are kept beside the ranges: there are many, and each is in many sets.
    pub(super) fn new(extents: &[Extent], own: &BTreeSet<IpAddr>) -> Self {
        let mut flips: Map<IpAddr, u128> = Map::default();
        let mut points: Map<IpAddr, u128> = Map::default();
        let own_fast: Map<IpAddr, ()> = own.iter().map(|a| (*a, ())).collect();
        let mut put = |from: IpAddr, to: IpAddr, mark: u128| {
            if from == to && own_fast.contains_key(&from) {
                *points.entry(from).or_default() ^= mark;
                return;
            }
            *flips.entry(from).or_default() ^= mark;
            if let Some(next) = after(to) {
                *flips.entry(next).or_default() ^= mark;
            }
        };
        for (question, extent) in (0..).zip(extents) {
            for (from, to) in extent.ranges.iter() {
                put(from, to, mark(question, 1));
            }
            for (address, number) in extent.points() {
                put(address, address, mark(question, number));
            }
        }
        let starts = Family::BOTH.map(|family| {
            let mut flips: Vec<(IpAddr, u128)> = flips
                .iter()
                .filter(|(a, _)| Family::of(**a) == family)
                .map(|(a, m)| (*a, *m))
                .collect();
            flips.push((first(family), 0));
            flips.sort_unstable();
            let mut starts: Vec<(IpAddr, u128)> = Vec::with_capacity(flips.len());
            let mut all = 0;
            for (at, mark) in flips {
                all ^= mark;
                match starts.last_mut() {
                    Some(known) if known.0 == at => known.1 = all,
                    _ => starts.push((at, all)),
                }
            }
            starts
        });
        Self { starts, points }
    }

    /// The number of an address.
    pub(super) fn at(&self, address: IpAddr) -> u128 {
        let starts = &self.starts[place(Family::of(address))];
        let behind = starts.partition_point(|(a, _)| *a <= address);
        let range = behind.checked_sub(1).map_or(0, |n| starts[n].1);
        range ^ self.points.get(&address).copied().unwrap_or_default()
    }

    /// Where numbers change.
    pub(super) fn starts(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        self.starts[place(family)].iter().map(|(a, _)| *a)
    }
}
