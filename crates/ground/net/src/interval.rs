use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

/// Addresses from `first` to `last`, both inside, both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
}

/// A value that intervals can be made of: ordered, with a next one.
pub trait Step: Copy + Ord {
    /// The value after this one; `None` at the end.
    fn next(self) -> Option<Self>;
}

impl Step for IpAddr {
    fn next(self) -> Option<Self> {
        match self {
            IpAddr::V4(a) => u32::from(a).checked_add(1).map(|n| IpAddr::V4(n.into())),
            IpAddr::V6(a) => u128::from(a).checked_add(1).map(|n| IpAddr::V6(n.into())),
        }
    }
}

impl Step for u16 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// A set of values kept as disjoint intervals with a gap between any two, as kernel interval sets need them:
/// overlapping, duplicate and touching inputs are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalSet<T: Step> {
    // first → last
    map: BTreeMap<T, T>,
}

impl<T: Step> Default for IntervalSet<T> {
    fn default() -> Self {
        Self { map: BTreeMap::new() }
    }
}

impl<T: Step> IntervalSet<T> {
    /// Adds all values from `first` to `last`; nothing when they are in the wrong order.
    pub fn insert(&mut self, first: T, last: T) {
        if first > last {
            return;
        }
        let (mut lo, mut hi) = (first, last);
        // Everything that starts at or before the value after `last` and ends at or after the value before `first`.
        let reach = last.next().unwrap_or(last);
        let touching: Vec<(T, T)> = self
            .map
            .range(..=reach)
            .rev()
            .take_while(|(_, l)| l.next().unwrap_or(**l) >= first)
            .map(|(f, l)| (*f, *l))
            .collect();
        for (f, l) in touching {
            self.map.remove(&f);
            lo = lo.min(f);
            hi = hi.max(l);
        }
        self.map.insert(lo, hi);
    }

    /// The intervals in order.
    pub fn iter(&self) -> impl Iterator<Item = (T, T)> + '_ {
        self.map.iter().map(|(f, l)| (*f, *l))
    }

    /// How many intervals there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether `value` is inside.
    #[must_use]
    pub fn contains(&self, value: T) -> bool {
        self.map
            .range(..=value)
            .next_back()
            .is_some_and(|(_, l)| *l >= value)
    }
}

impl<T: Step> FromIterator<(T, T)> for IntervalSet<T> {
    fn from_iter<I: IntoIterator<Item = (T, T)>>(iter: I) -> Self {
        let mut set = Self::default();
        iter.into_iter().for_each(|(f, l)| set.insert(f, l));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(ranges in proptest::collection::vec((0u16..60, 0u16..12), 0..20)) {
            let set: IntervalSet<u16> = ranges.iter().map(|(f, n)| (*f, f + n)).collect();
            let plain: std::collections::BTreeSet<u16> = ranges.iter().flat_map(|(f, n)| *f..=f + n).collect();
            for v in 0..100 {
                prop_assert_eq!(set.contains(v), plain.contains(&v), "value {}", v);
            }
            let all: Vec<_> = set.iter().collect();
            for w in all.windows(2) {
                prop_assert!(w[0].1 + 1 < w[1].0, "{:?} touch", w);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let mut s = IntervalSet::<u16>::default();
        s.insert(65000, u16::MAX);
        s.insert(0, 64999);
        assert_eq!(s.iter().collect::<Vec<_>>(), [(0, u16::MAX)]);
    }
}
