//! Words for sets of endpoints, addresses and headers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_net::{Cidr, Family, Proto};

use super::report::Headers;
use super::world::Endpoint;
use crate::region::{Plane, Region, Span, domain, is_icmp};

/// More names than this are told by a number.
const MOST: usize = 6;

/// Names sets of endpoints.
pub(super) struct Namer<'a> {
    endpoints: &'a [Endpoint],
    /// The judged workloads by namespace.
    namespaces: BTreeMap<&'a str, Vec<u32>>,
    workloads: usize,
    hosts: usize,
}

impl<'a> Namer<'a> {
    pub(super) fn new(endpoints: &'a [Endpoint]) -> Self {
        let mut namespaces: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (n, e) in (0..).zip(endpoints) {
            if !e.is_host && e.seen.iter().all(Option::is_some) {
                namespaces.entry(&e.namespace).or_default().push(n);
            }
        }
        Self {
            endpoints,
            workloads: namespaces.values().map(Vec::len).sum(),
            namespaces,
            hosts: endpoints.iter().filter(|e| e.is_host).count(),
        }
    }

    /// Words for a set of endpoints, in order and each once.
    pub(super) fn endpoints(&self, set: &[u32]) -> String {
        let is_host = |n: &&u32| self.endpoints[**n as usize].is_host;
        let hosts: Vec<&u32> = set.iter().filter(is_host).collect();
        let mut parts = Vec::new();
        if set.len() - hosts.len() == self.workloads && self.workloads > 1 {
            parts.push(format!("all workloads ({})", self.workloads));
        } else {
            parts.extend(self.by_namespace(set));
        }
        match hosts.len() {
            0 => {}
            n if n == self.hosts && n > 1 => parts.push(format!("all hosts ({n})")),
            _ => parts.push(format!("host {}", some(hosts.iter().map(|n| self.name(**n))))),
        }
        parts.join("; ")
    }

    fn name(&self, n: u32) -> &'a str {
        &self.endpoints[n as usize].name
    }

    fn by_namespace(&self, set: &[u32]) -> Vec<String> {
        let mut found: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for n in set.iter().filter(|n| !self.endpoints[**n as usize].is_host) {
            found
                .entry(&self.endpoints[*n as usize].namespace)
                .or_default()
                .push(*n);
        }
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        for (namespace, members) in found {
            let all = self
                .namespaces
                .get(namespace)
                .map(Vec::as_slice)
                .unwrap_or_default();
            if members.len() == all.len() && members.len() > 1 {
                whole.push((namespace, members.len()));
            } else if members.len() == 1 {
                parts.push(self.name(members[0]).to_owned());
            } else if let Some(label) = self.common_label(&members, all) {
                parts.push(format!("{namespace}: {label} ({})", members.len()));
            } else {
                parts.push(some(members.iter().map(|n| self.name(*n))));
            }
        }
        if !whole.is_empty() {
            let sum: usize = whole.iter().map(|(_, n)| n).sum();
            let word = if whole.len() == 1 {
                "namespace"
            } else {
                "namespaces"
            };
            parts.insert(
                0,
                format!("{word} {} ({sum})", some(whole.iter().map(|(name, _)| *name))),
            );
        }
        if parts.len() > MOST {
            let more = parts.len() - MOST;
            parts.truncate(MOST);
            parts.push(format!("and in {more} more namespaces"));
        }
        parts
    }

    /// A label that exactly these of the namespace have.
    fn common_label(&self, members: &[u32], all: &[u32]) -> Option<String> {
        let first = self.endpoints.get(*members.first()? as usize)?;
        let set: BTreeSet<&u32> = members.iter().collect();
        let fits = |(name, value): &(&String, &String)| {
            let has = |n: &u32| self.endpoints[*n as usize].labels.get(*name) == Some(*value);
            all.iter().all(|n| has(n) == set.contains(n)) && members.iter().all(has)
        };
        let ours = |name: &str| name.starts_with("projectcalico.org/");
        let mut labels = first.labels.iter().filter(|(name, _)| !ours(name));
        labels.find(fits).map(|(name, value)| format!("{name}={value}"))
    }
}

/// A few of the names, and how many more there are.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = names.len();
    let shown: Vec<&str> = names.take(MOST).collect();
    match count.saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The prefixes that make up ranges; what lies between two of them and is `occupied` joins them.
pub(super) fn nets(family: Family, ranges: &[(IpAddr, IpAddr)], occupied: &[(IpAddr, IpAddr)]) -> Vec<Cidr> {
    let mut all: Vec<(u128, u128, bool)> = ranges.iter().map(|(a, b)| (value(*a), value(*b), true)).collect();
    let own = occupied.iter().filter(|(a, _)| Family::of(*a) == family);
    all.extend(own.map(|(a, b)| (value(*a), value(*b), false)));
    all.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    // Up to where there was nothing since the last range but occupied addresses.
    let mut joined = None;
    for (first, last, real) in all {
        let touches = joined.is_some_and(|j: u128| j.checked_add(1) == Some(first));
        match (real, merged.last_mut()) {
            (true, Some(known)) if touches => known.1 = last,
            (true, _) => merged.push((first, last)),
            (false, _) if !touches => {
                joined = None;
                continue;
            }
            _ => {}
        }
        joined = Some(last);
    }
    merged
        .into_iter()
        .flat_map(|(a, b)| prefixes(family, a, b))
        .collect()
}

fn prefixes(family: Family, mut first: u128, last: u128) -> Vec<Cidr> {
    let bits = u32::from(family.bits());
    let mut out = Vec::new();
    loop {
        let aligned = if first == 0 {
            bits
        } else {
            first.trailing_zeros().min(bits)
        };
        let mut size = aligned;
        // The largest aligned block that does not reach beyond the end.
        while size > 0 && last - first < mask(size) {
            size -= 1;
        }
        let address = match family {
            Family::V4 => IpAddr::V4(u32::try_from(first).unwrap_or(u32::MAX).into()),
            Family::V6 => IpAddr::V6(first.into()),
        };
        out.push(Cidr::new(
            address,
            u8::try_from(bits - size).unwrap_or(family.bits()),
        ));
        let end = first + mask(size);
        if end >= last {
            return out;
        }
        first = end + 1;
    }
}

fn mask(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |n| n - 1)
}

/// Words for addresses that are nobody's.
pub(super) fn outside(family: Family, nets: &[Cidr]) -> String {
    let whole = match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    };
    if nets.iter().any(Cidr::is_catch_all) {
        return format!("outside ({whole})");
    }
    let list = |nets: &[Cidr]| {
        let texts: Vec<String> = nets.iter().map(ToString::to_string).collect();
        some(texts.iter().map(String::as_str))
    };
    let ranges: Vec<(IpAddr, IpAddr)> = nets.iter().map(|c| (c.addr(), c.last())).collect();
    let but = complement(family, &ranges);
    if but.len() < nets.len() {
        format!("outside ({whole} but {})", list(&but))
    } else {
        format!("outside ({})", list(nets))
    }
}

fn complement(family: Family, ranges: &[(IpAddr, IpAddr)]) -> Vec<Cidr> {
    let last = mask(u32::from(family.bits()));
    let mut next = Some(0);
    let mut out = Vec::new();
    for (first, end) in ranges.iter().map(|(a, b)| (value(*a), value(*b))) {
        if let Some(from) = next.filter(|n| *n < first) {
            out.extend(prefixes(family, from, first - 1));
        }
        next = end.checked_add(1).filter(|n| *n <= last);
    }
    if let Some(from) = next {
        out.extend(prefixes(family, from, last));
    }
    out
}

/// Headers as a list and in words.
pub(super) fn headers(region: &Region) -> (Vec<Headers>, String) {
    let family = region.family;
    let mut list = Vec::new();
    for (proto, plane) in &region.planes {
        push(&mut list, Proto(*proto), plane, family);
    }
    if region.rest {
        list.push(Headers {
            protocol: None,
            except: region.planes.iter().map(|(p, _)| Proto(*p).to_string()).collect(),
            ..Headers::default()
        });
    }
    let positive: Vec<String> = list.iter().map(ToString::to_string).collect();
    let missing = Region::all(family).combine(region, |a, b| a && !b);
    let text = if missing.is_nothing() {
        "everything".to_owned()
    } else if region.rest {
        let mut but = Vec::new();
        for (proto, plane) in &missing.planes {
            push(&mut but, Proto(*proto), plane, family);
        }
        let but: Vec<String> = but.iter().map(ToString::to_string).collect();
        format!("everything but {}", but.join(", "))
    } else {
        positive.join(", ")
    };
    (list, text)
}

fn push(list: &mut Vec<Headers>, proto: Proto, plane: &Plane, family: Family) {
    let last = domain(proto, family);
    let whole = |s: Span| s == (0, last);
    for (span, columns) in plane.slabs() {
        let spans = |spans: &[Span]| {
            if spans.iter().any(|s| whole(*s)) {
                Vec::new()
            } else {
                spans.to_vec()
            }
        };
        let (x, y) = (spans(&[*span]), spans(columns));
        let (source_ports, ports, icmp_types, icmp_codes) = if is_icmp(proto, family) {
            (Vec::new(), Vec::new(), x, y)
        } else {
            (x, y, Vec::new(), Vec::new())
        };
        list.push(Headers {
            protocol: Some(proto.to_string()),
            ports,
            source_ports,
            icmp_types,
            icmp_codes,
            except: Vec::new(),
        });
    }
}
