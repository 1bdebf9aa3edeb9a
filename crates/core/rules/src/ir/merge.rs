use std::{collections::BTreeMap, net::IpAddr};

use caracal_net::{Cidr, IntervalSet, Step};

use super::key::Span;

/// What a change of members did to the merged intervals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnionChange {
    /// Intervals that are no more.
    pub removed: Vec<Span>,
    /// Intervals that are new.
    pub added: Vec<Span>,
}

impl UnionChange {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// Prefixes of one family, possibly nested and repeated, kept together with their union as disjoint intervals that
/// do not touch. Adding or removing one costs what it overlaps, not what there is.
#[derive(Debug, Clone, Default)]
pub struct CidrUnion {
    // (first address, prefix length) → how often
    members: BTreeMap<(IpAddr, u8), usize>,
    // first → last
    merged: BTreeMap<IpAddr, IpAddr>,
}

fn before(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(a) => a.to_bits().checked_sub(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(a) => a.to_bits().checked_sub(1).map(|n| IpAddr::V6(n.into())),
    }
}

fn span(first: IpAddr, last: IpAddr) -> Span {
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Span::V4(a, b),
        (IpAddr::V6(a), IpAddr::V6(b)) => Span::V6(a, b),
        // Intervals are made of prefixes' ends, which share a family.
        (a, _) => Span::addr(a),
    }
}

impl CidrUnion {
    /// Adds one prefix.
    pub fn insert(&mut self, cidr: Cidr) -> UnionChange {
        let mut change = UnionChange::default();
        let count = self.members.entry((cidr.addr(), cidr.len())).or_insert(0);
        *count += 1;
        if *count > 1 {
            return change;
        }
        let (mut first, mut last) = (cidr.addr(), cidr.last());
        if self.around(first).is_some_and(|(_, l)| l >= last) {
            return change;
        }
        let reach = last.next().unwrap_or(last);
        let touching: Vec<(IpAddr, IpAddr)> = self
            .merged
            .range(..=reach)
            .rev()
            .take_while(|(_, l)| l.next().is_none_or(|n| n >= first) && l.is_ipv4() == first.is_ipv4())
            .map(|(f, l)| (*f, *l))
            .collect();
        for (f, l) in touching {
            self.merged.remove(&f);
            change.removed.push(span(f, l));
            first = first.min(f);
            last = last.max(l);
        }
        self.merged.insert(first, last);
        change.added.push(span(first, last));
        change
    }

    /// Takes one prefix away that was added before; nothing happens if it was not.
    pub fn remove(&mut self, cidr: Cidr) -> UnionChange {
        let mut change = UnionChange::default();
        match self.members.get_mut(&(cidr.addr(), cidr.len())) {
            Some(count) if *count == 1 => {
                self.members.remove(&(cidr.addr(), cidr.len()));
            }
            Some(count) => {
                *count -= 1;
                return change;
            }
            None => return change,
        }
        let covered = (0..cidr.len()).any(|len| {
            let outer = Cidr::new(cidr.addr(), len);
            self.members.contains_key(&(outer.addr(), len))
        });
        let gaps = if covered { Vec::new() } else { self.gaps(cidr) };
        let Some((mut first, last)) = self.around(cidr.addr()).filter(|_| !gaps.is_empty()) else {
            return change;
        };
        self.merged.remove(&first);
        change.removed.push(span(first, last));
        let mut keep = |f: IpAddr, l: IpAddr| {
            self.merged.insert(f, l);
            change.added.push(span(f, l));
        };
        for (gap_first, gap_last) in gaps {
            if let Some(end) = before(gap_first).filter(|end| *end >= first) {
                keep(first, end);
            }
            match gap_last.next() {
                Some(next) => first = next,
                None => return change,
            }
        }
        if first <= last {
            keep(first, last);
        }
        change
    }

    /// The intervals in order.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.merged.iter().map(|(f, l)| span(*f, *l))
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn around(&self, addr: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.merged.range(..=addr).next_back()?;
        (*last >= addr).then_some((*first, *last))
    }

    /// The parts of `cidr` that no member inside it covers.
    fn gaps(&self, cidr: Cidr) -> Vec<(IpAddr, IpAddr)> {
        let mut gaps = Vec::new();
        let mut at = Some(cidr.addr());
        // Nested members begin no earlier than their outer one, so one pass in order sees every covered run.
        for (addr, len) in self
            .members
            .range((cidr.addr(), 0)..=(cidr.last(), u8::MAX))
            .map(|(k, _)| *k)
        {
            let Some(free) = at else { break };
            if let Some(end) = before(addr).filter(|end| *end >= free && addr > free) {
                gaps.push((free, end));
            }
            let inner_last = Cidr::new(addr, len).last();
            if inner_last >= free {
                at = inner_last.next();
            }
        }
        if let Some(free) = at.filter(|free| *free <= cidr.last()) {
            gaps.push((free, cidr.last()));
        }
        gaps
    }
}

/// Merges runs of addresses (of one family) or of ports, so that no two overlap or touch. Spans that are neither are
/// kept once each.
pub fn merge_spans(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut v4 = IntervalSet::<IpAddr>::default();
    let mut v6 = IntervalSet::<IpAddr>::default();
    let mut ports = IntervalSet::<u16>::default();
    let mut rest = std::collections::BTreeSet::new();
    for s in spans {
        match s {
            Span::V4(a, b) => v4.insert(a.into(), b.into()),
            Span::V6(a, b) => v6.insert(a.into(), b.into()),
            Span::Port(a, b) => ports.insert(a, b),
            other => {
                rest.insert(other);
            }
        }
    }
    let addrs = v4.iter().chain(v6.iter()).map(|(a, b)| span(a, b));
    addrs
        .chain(ports.iter().map(|(a, b)| Span::Port(a, b)))
        .chain(rest)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn cidr() -> impl Strategy<Value = Cidr> {
        (prop_oneof![Just(0u32), Just(u32::MAX - 63)], 0u32..64, 25u8..=32)
            .prop_map(|(base, low, len)| Cidr::new(IpAddr::V4((base + low).into()), len))
    }

    proptest! {
        #[test]
        fn the_union_follows_its_members(ops in proptest::collection::vec((any::<bool>(), cidr()), 1..40)) {
            let mut union = CidrUnion::default();
            let mut members: Vec<Cidr> = Vec::new();
            let mut seen: BTreeSet<Span> = BTreeSet::new();
            for (add, c) in ops {
                let change = if add {
                    members.push(c);
                    union.insert(c)
                } else {
                    if let Some(i) = members.iter().position(|m| *m == c) { members.swap_remove(i); }
                    union.remove(c)
                };
                for s in &change.removed { prop_assert!(seen.remove(s), "{s} was never there"); }
                for s in &change.added { prop_assert!(seen.insert(*s), "{s} was there already"); }
                let fresh = merge_spans(members.iter().map(|m| Span::from(*m)));
                prop_assert_eq!(&fresh, &union.spans().collect::<Vec<_>>());
                prop_assert_eq!(fresh, seen.iter().copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn both_ends_of_both_families() {
        for all in ["0.0.0.0/0", "::/0"] {
            let all: Cidr = all.parse().expect("a prefix");
            let mut union = CidrUnion::default();
            assert_eq!(union.insert(all).added, [Span::from(all)]);
            let host = Cidr::host(all.last());
            assert!(union.insert(host).is_empty());
            assert_eq!(union.remove(all).added, [Span::from(host)]);
            assert_eq!(union.remove(host).removed, [Span::from(host)]);
            assert!(union.is_empty());
        }
    }
}
