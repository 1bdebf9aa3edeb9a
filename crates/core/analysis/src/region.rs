//! Sets of packet headers between two fixed addresses: protocol, ports, ICMP types; each set has one form and one id.

use caracal_net::{Family, Proto};

use crate::map::Map;

/// First and last value, both inside.
pub(crate) type Span = (u16, u16);

/// A set of (source port, destination port), or of (ICMP type, code): slabs of first coordinates in order, each with the
/// second coordinates that are in, merged wherever they touch and are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Plane(Vec<(Span, Vec<Span>)>);

/// What the two coordinates of a protocol's packets can be.
pub(crate) fn domain(proto: Proto, family: Family) -> u16 {
    if proto.has_ports() {
        u16::MAX
    } else if is_icmp(proto, family) {
        255
    } else {
        0
    }
}

/// Whether packets of the protocol have an ICMP type.
pub(crate) fn is_icmp(proto: Proto, family: Family) -> bool {
    proto
        == match family {
            Family::V4 => Proto::ICMP,
            Family::V6 => Proto::ICMPV6,
        }
}

impl Plane {
    fn full(last: u16) -> Self {
        Self(vec![((0, last), vec![(0, last)])])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn slabs(&self) -> &[(Span, Vec<Span>)] {
        &self.0
    }

    /// Adds the slab behind all that are there.
    pub(crate) fn push(&mut self, span: Span, columns: Vec<Span>) {
        if columns.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some((last, known)) if last.1.checked_add(1) == Some(span.0) && *known == columns => {
                last.1 = span.1
            }
            _ => self.0.push((span, columns)),
        }
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, x: u16, y: u16) -> bool {
        let within = |s: &Span, v| s.0 <= v && v <= s.1;
        let mut slabs = self.0.iter();
        slabs.any(|(span, columns)| within(span, x) && columns.iter().any(|c| within(c, y)))
    }

    fn columns_at(&self, x: u16) -> &[Span] {
        let found = self.0.iter().find(|(span, _)| span.0 <= x && x <= span.1);
        found.map_or(&[], |(_, columns)| columns)
    }

    fn combine(&self, other: &Self, last: u16, keep: impl Fn(bool, bool) -> bool + Copy) -> Self {
        let mut plane = Self::default();
        let edges = |p: &Self| p.0.iter().map(|(span, _)| *span).collect::<Vec<_>>();
        for span in cells(edges(self).into_iter().chain(edges(other)), last) {
            let (a, b) = (self.columns_at(span.0), other.columns_at(span.0));
            plane.push(span, combine_spans(a, b, last, keep));
        }
        plane
    }
}

fn combine_spans(a: &[Span], b: &[Span], last: u16, keep: impl Fn(bool, bool) -> bool) -> Vec<Span> {
    let within = |spans: &[Span], v| spans.iter().any(|s| s.0 <= v && v <= s.1);
    let mut out = Vec::new();
    for cell in cells(a.iter().chain(b).copied(), last) {
        if keep(within(a, cell.0), within(b, cell.0)) {
            push_span(&mut out, cell);
        }
    }
    out
}

/// Adds a span behind all that are there.
pub(crate) fn push_span(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(last) if last.1.checked_add(1) == Some(span.0) => last.1 = span.1,
        _ => spans.push(span),
    }
}

/// The numbers from 0 to `last`, cut wherever one of the spans begins or ends.
pub(crate) fn cells(spans: impl Iterator<Item = Span>, last: u16) -> Vec<Span> {
    let mut starts = vec![0];
    for (first, end) in spans {
        if first <= last {
            starts.push(first);
        }
        if end < last {
            starts.push(end + 1);
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).map(|s| s - 1).chain([last]);
    starts.iter().copied().zip(ends).collect()
}

/// A set of headers of one family. Protocols with ports, and the family's ICMP, always have their plane; others only
/// where they differ from the rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    pub(crate) family: Family,
    /// By protocol, in order.
    pub(crate) planes: Vec<(u8, Plane)>,
    /// Whether all other protocols are in.
    pub(crate) rest: bool,
}

impl Region {
    /// The protocols that always have a plane.
    pub(crate) fn standing(family: Family) -> [u8; 4] {
        let mut protos = [
            match family {
                Family::V4 => Proto::ICMP.0,
                Family::V6 => Proto::ICMPV6.0,
            },
            Proto::TCP.0,
            Proto::UDP.0,
            Proto::SCTP.0,
        ];
        protos.sort_unstable();
        protos
    }

    /// Makes the one form of it.
    pub(crate) fn new(family: Family, mut planes: Vec<(u8, Plane)>, rest: bool) -> Self {
        planes.sort_unstable_by_key(|(proto, _)| *proto);
        let standing = Self::standing(family);
        let usual = rest_plane(rest);
        planes.retain(|(proto, plane)| standing.contains(proto) || *plane != usual);
        Self { family, planes, rest }
    }

    pub(crate) fn all(family: Family) -> Self {
        let full = |p: u8| (p, Plane::full(domain(Proto(p), family)));
        Self::new(
            family,
            Self::standing(family).into_iter().map(full).collect(),
            true,
        )
    }

    #[cfg(test)]
    pub(crate) fn nothing(family: Family) -> Self {
        let none = |p: u8| (p, Plane::default());
        Self::new(
            family,
            Self::standing(family).into_iter().map(none).collect(),
            false,
        )
    }

    pub(crate) fn is_nothing(&self) -> bool {
        !self.rest && self.planes.iter().all(|(_, p)| p.is_empty())
    }

    fn plane(&self, proto: u8) -> Plane {
        let found = self.planes.iter().find(|(p, _)| *p == proto);
        found.map_or_else(|| rest_plane(self.rest), |(_, plane)| plane.clone())
    }

    /// Whether a packet of the header is in it; `x` and `y` are the ports, or ICMP's type and code, else 0.
    #[cfg(test)]
    pub(crate) fn contains(&self, proto: Proto, x: u16, y: u16) -> bool {
        match self.planes.iter().find(|(p, _)| *p == proto.0) {
            Some((_, plane)) => plane.contains(x, y),
            None => self.rest,
        }
    }

    pub(crate) fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool + Copy) -> Self {
        let mut protos: Vec<u8> = self.planes.iter().chain(&other.planes).map(|(p, _)| *p).collect();
        protos.sort_unstable();
        protos.dedup();
        let planes = protos.into_iter().map(|p| {
            let last = domain(Proto(p), self.family);
            (p, self.plane(p).combine(&other.plane(p), last, keep))
        });
        Self::new(self.family, planes.collect(), keep(self.rest, other.rest))
    }
}

fn rest_plane(rest: bool) -> Plane {
    if rest { Plane::full(0) } else { Plane::default() }
}

/// The number of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RegionId(pub(crate) u32);

/// Regions, each once.
#[derive(Default)]
pub(crate) struct Regions {
    all: Vec<Region>,
    ids: Map<Region, RegionId>,
    both: Map<(RegionId, RegionId), RegionId>,
    without: Map<(RegionId, RegionId), RegionId>,
}

impl Regions {
    pub(crate) fn id(&mut self, region: Region) -> RegionId {
        if let Some(id) = self.ids.get(&region) {
            return *id;
        }
        // There are far fewer regions than there is memory for 2³² of them.
        let id = RegionId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(region.clone());
        self.ids.insert(region, id);
        id
    }

    pub(crate) fn get(&self, id: RegionId) -> &Region {
        &self.all[id.0 as usize]
    }

    /// What is in both.
    pub(crate) fn both(&mut self, a: RegionId, b: RegionId) -> RegionId {
        if a == b {
            return a;
        }
        let key = (a.min(b), a.max(b));
        if let Some(id) = self.both.get(&key) {
            return *id;
        }
        let id = self.id(self.get(a).combine(self.get(b), |x, y| x && y));
        self.both.insert(key, id);
        id
    }

    /// What is in the first and not in the second.
    pub(crate) fn without(&mut self, a: RegionId, b: RegionId) -> RegionId {
        if let Some(id) = self.without.get(&(a, b)) {
            return *id;
        }
        let id = self.id(self.get(a).combine(self.get(b), |x, y| x && !y));
        self.without.insert((a, b), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(spans: &[Span]) -> Region {
        let mut plane = Plane::default();
        plane.push((0, u16::MAX), spans.to_vec());
        let mut planes: Vec<_> = Region::standing(Family::V4)
            .map(|p| (p, Plane::default()))
            .to_vec();
        planes.retain(|(p, _)| *p != Proto::TCP.0);
        planes.push((Proto::TCP.0, plane));
        Region::new(Family::V4, planes, false)
    }

    #[test]
    fn equal_sets_have_one_id() {
        let mut regions = Regions::default();
        let all = regions.id(Region::all(Family::V4));
        let some = regions.id(tcp(&[(80, 90), (443, 443)]));
        let rest = regions.without(all, some);
        assert_eq!(regions.both(rest, some), regions.id(Region::nothing(Family::V4)));
        assert_eq!(regions.without(all, rest), some);
        assert!(
            !regions.get(rest).contains(Proto::TCP, 1, 85) && regions.get(rest).contains(Proto::TCP, 1, 91)
        );
        assert!(regions.get(rest).contains(Proto(47), 0, 0));
    }

    #[test]
    fn cells_cover_everything_once() {
        assert_eq!(
            cells([(5, 9), (7, 65535)].into_iter(), u16::MAX),
            [(0, 4), (5, 6), (7, 9), (10, 65535)]
        );
        assert_eq!(cells(std::iter::empty(), 255), [(0, 255)]);
    }
}
