//! Who has a value first, where several lists have it.

use std::collections::BTreeMap;

use crate::ir::{CounterName, Span};

/// A run of values, and the counter of the first rule that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned<'a> {
    pub(crate) span: Span,
    pub(crate) owner: &'a CounterName,
}

/// A span as numbers, with what it is a span of.
fn numbers(span: &Span) -> Option<(u128, u128)> {
    match *span {
        Span::V4(a, b) => Some((a.to_bits().into(), b.to_bits().into())),
        Span::V6(a, b) => Some((a.to_bits(), b.to_bits())),
        Span::Port(a, b) => Some((a.into(), b.into())),
        Span::IcmpType(n) => Some((n.into(), n.into())),
        Span::Proto(_) | Span::If(_) | Span::Mark(_) | Span::IcmpCode(_) => None,
    }
}

/// The same back; `like` says of what.
fn span(like: Span, (first, last): (u128, u128)) -> Span {
    let v4 = |n: u128| u32::try_from(n).unwrap_or(u32::MAX).into();
    let port = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
    match like {
        Span::V4(..) => Span::V4(v4(first), v4(last)),
        Span::V6(..) => Span::V6(first.into(), last.into()),
        Span::Port(..) => Span::Port(port(first), port(last)),
        Span::IcmpType(_) => Span::IcmpType(u8::try_from(first).unwrap_or(u8::MAX)),
        other => other,
    }
}

/// The values of all parts, each once and for the first part that has it. Neighbours of one owner are one run (but for
/// values that have no runs).
pub(crate) fn owned_spans<'a, 'v>(
    parts: impl Iterator<Item = (&'v [Span], &'a CounterName)>,
) -> Vec<Owned<'a>> {
    // first → (last, owner), disjoint
    let mut taken: BTreeMap<u128, (u128, &'a CounterName)> = BTreeMap::new();
    let mut like = None;
    for (spans, owner) in parts {
        for s in spans {
            let Some((first, last)) = numbers(s) else { continue };
            like = Some(*s);
            for free in gaps(&taken, first, last) {
                taken.insert(free.0, (free.1, owner));
            }
        }
    }
    let Some(like) = like else { return Vec::new() };
    let runs = !matches!(like, Span::IcmpType(_));
    let mut out: Vec<((u128, u128), &'a CounterName)> = Vec::with_capacity(taken.len());
    for (first, (last, owner)) in taken {
        match out.last_mut() {
            Some(((_, end), before)) if runs && *before == owner && end.checked_add(1) == Some(first) => {
                *end = last;
            }
            _ => out.push(((first, last), owner)),
        }
    }
    let owned = |(ends, owner)| Owned {
        span: span(like, ends),
        owner,
    };
    out.into_iter().map(owned).collect()
}

/// What of a run nobody has.
fn gaps<T>(taken: &BTreeMap<u128, (u128, T)>, first: u128, last: u128) -> Vec<(u128, u128)> {
    let before = taken.range(..first).next_back();
    let mut at = match before {
        Some((_, (end, _))) if *end >= last => return Vec::new(),
        Some((_, (end, _))) if *end >= first => *end + 1,
        _ => first,
    };
    let mut free = Vec::new();
    for (start, (end, _)) in taken.range(first..=last) {
        if *start > at {
            free.push((at, start - 1));
        }
        if *end >= last {
            return free;
        }
        at = end + 1;
    }
    free.push((at, last));
    free
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use proptest::prelude::*;

    fn holds(span: &Span, addr: IpAddr) -> bool {
        span.ip_range().is_some_and(|r| r.first <= addr && addr <= r.last)
    }

    fn v4(a: u32, b: u32) -> Span {
        Span::V4(a.into(), b.into())
    }

    proptest! {
        #[test]
        fn each_value_is_of_the_first_that_has_it(
            parts in proptest::collection::vec(proptest::collection::vec((0u32..40, 0u32..12), 1..4), 1..8),
        ) {
            let names: Vec<CounterName> = (0..parts.len()).map(|i| format!("c{i}").into()).collect();
            let spans: Vec<Vec<Span>> = parts
                .iter()
                .map(|p| p.iter().map(|(a, n)| v4(*a, a + n)).collect())
                .collect();
            let owned = owned_spans(spans.iter().map(Vec::as_slice).zip(&names));
            for n in 0u32..60 {
                let addr = IpAddr::V4(n.into());
                let first = spans.iter().position(|s| s.iter().any(|s| holds(s, addr)));
                let found: Vec<_> = owned.iter().filter(|o| holds(&o.span, addr)).collect();
                prop_assert_eq!(found.len(), usize::from(first.is_some()), "disjoint and complete at {}", n);
                if let Some(first) = first {
                    prop_assert_eq!(found[0].owner, &names[first]);
                }
            }
            let touching = owned.windows(2).filter(|w| w[0].owner == w[1].owner).filter(|w| {
                match (w[0].span, w[1].span) {
                    (Span::V4(_, b), Span::V4(a, _)) => b.to_bits() + 1 == a.to_bits(),
                    _ => false,
                }
            });
            prop_assert_eq!(touching.count(), 0);
        }
    }

    #[test]
    fn the_ends_of_the_families_and_of_the_ports() {
        let (a, b) = (CounterName::from("a"), CounterName::from("b"));
        let all = Span::V6(0.into(), u128::MAX.into());
        let low = Span::V6(0.into(), 9.into());
        let owned = owned_spans([(&[low][..], &a), (&[all][..], &b)].into_iter());
        let spans: Vec<Span> = owned.iter().map(|o| o.span).collect();
        assert_eq!(spans, [low, Span::V6(10.into(), u128::MAX.into())]);
        let ports = [Span::Port(0, u16::MAX)];
        let some = [Span::Port(80, 80), Span::Port(u16::MAX, u16::MAX)];
        let owned = owned_spans([(&some[..], &a), (&ports[..], &b)].into_iter());
        let spans: Vec<String> = owned.iter().map(|o| format!("{} {}", o.span, o.owner)).collect();
        assert_eq!(spans, ["0-79 b", "80 a", "81-65534 b", "65535 a"]);
    }
}
