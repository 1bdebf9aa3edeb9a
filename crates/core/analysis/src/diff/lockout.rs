//! Warnings: changes that would cut what a cluster cannot do without.

use std::collections::BTreeSet;

use caracal_net::Proto;

use super::space::{ClassId, Members};
use super::{Comparison, Endpoint};
use crate::map::Map;
use crate::region::{Region, RegionId};

/// Who talks to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// Anybody to a host.
    ToHosts,
    /// A host to anybody, and anybody to a host.
    Hosts,
    /// Anybody of ours to a host or to somebody outside.
    Anybody,
    /// Anybody of ours to those that resolve names.
    Resolvers,
}

struct Lifeline {
    what: &'static str,
    protos: &'static [Proto],
    ports: &'static [u16],
    between: Between,
}

const LIFELINES: &[Lifeline] = &[
    Lifeline {
        what: "the API server",
        protos: &[Proto::TCP],
        ports: &[6443],
        between: Between::Anybody,
    },
    Lifeline {
        what: "DNS",
        protos: &[Proto::UDP, Proto::TCP],
        ports: &[53],
        between: Between::Resolvers,
    },
    Lifeline {
        what: "the datastore (etcd)",
        protos: &[Proto::TCP],
        ports: &[2379, 2380],
        between: Between::Hosts,
    },
    Lifeline {
        what: "the datastore (Typha)",
        protos: &[Proto::TCP],
        ports: &[5473],
        between: Between::Hosts,
    },
    Lifeline {
        what: "BGP",
        protos: &[Proto::TCP],
        ports: &[179],
        between: Between::Hosts,
    },
    Lifeline {
        what: "SSH",
        protos: &[Proto::TCP],
        ports: &[22],
        between: Between::ToHosts,
    },
];

/// Labels of pods that resolve names.
const RESOLVER_LABELS: &[(&str, &[&str])] = &[
    ("k8s-app", &["kube-dns", "coredns", "node-local-dns"]),
    ("app.kubernetes.io/name", &["coredns", "kube-dns"]),
];

/// At most this many names in a warning.
const MOST: usize = 3;

pub(super) fn warnings(found: &Comparison) -> Vec<String> {
    let resolvers = found.endpoints.iter().any(resolves);
    let closed: BTreeSet<RegionId> = found.pairs.iter().map(|p| p.closed).collect();
    let mut out = Vec::new();
    for line in LIFELINES {
        let lost = closed.iter().map(|id| (*id, lost(line, found.regions.get(*id))));
        let lost: Map<RegionId, Vec<(&Proto, u16)>> = lost.filter(|(_, ports)| !ports.is_empty()).collect();
        // Most changes close nothing of the kind.
        if lost.is_empty() {
            continue;
        }
        let mut cut: BTreeSet<(&Proto, u16)> = BTreeSet::new();
        let mut who = BTreeSet::new();
        let mut whom = BTreeSet::new();
        for pair in &found.pairs {
            let Some(lost) = lost.get(&pair.closed) else {
                continue;
            };
            if !concerns(found, line.between, resolvers, pair.from, pair.to) {
                continue;
            }
            cut.extend(lost.iter().copied());
            who.extend(names(found, pair.from));
            whom.extend(names(found, pair.to));
        }
        if !cut.is_empty() {
            let ports: Vec<String> = cut.iter().map(|(p, n)| format!("{p} {n}")).collect();
            out.push(format!(
                "this cuts {}: {} from {} to {}",
                line.what,
                ports.join(", "),
                few(&who),
                few(&whom)
            ));
        }
    }
    out
}

/// The ports of a lifeline that are closed. Some source port suffices: a client does not choose.
fn lost<'a>(line: &'a Lifeline, closed: &Region) -> Vec<(&'a Proto, u16)> {
    let is_lost = |(proto, port): &(&Proto, u16)| {
        let plane = closed.planes.iter().find(|(p, _)| *p == proto.0);
        plane.is_some_and(|(_, plane)| {
            let mut columns = plane.slabs().iter().flat_map(|(_, columns)| columns);
            columns.any(|c| c.0 <= *port && *port <= c.1)
        })
    };
    let ports = line
        .protos
        .iter()
        .flat_map(|p| line.ports.iter().map(move |n| (p, *n)));
    ports.filter(is_lost).collect()
}

fn few(names: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = names.iter().copied().take(MOST).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn endpoints(found: &Comparison, class: ClassId) -> impl Iterator<Item = &Endpoint> {
    let list = match &found.space.classes[class as usize].members {
        Members::Endpoints(list) => list.as_slice(),
        Members::Outside(_) => &[],
    };
    list.iter().map(|n| &found.endpoints[*n as usize])
}

fn names(found: &Comparison, class: ClassId) -> Vec<&str> {
    let outside = matches!(found.space.classes[class as usize].members, Members::Outside(_));
    let names = endpoints(found, class).map(|e| e.name.as_str());
    // A name for people; one too many is enough to say that there are more.
    names.chain(outside.then_some("outside")).collect()
}

fn concerns(found: &Comparison, between: Between, resolvers: bool, from: ClassId, to: ClassId) -> bool {
    let outside = |c: ClassId| matches!(found.space.classes[c as usize].members, Members::Outside(_));
    let host = |c: ClassId| endpoints(found, c).any(|e| e.is_host);
    match between {
        Between::ToHosts => host(to),
        Between::Hosts => host(to) || (host(from) && outside(to)),
        Between::Anybody => !outside(from) && (host(to) || outside(to)),
        Between::Resolvers if resolvers => !outside(from) && endpoints(found, to).any(resolves),
        Between::Resolvers => !outside(from) && (host(to) || outside(to)),
    }
}

/// Whether a pod says that it resolves names, by its labels or by a port of the name.
fn resolves(endpoint: &Endpoint) -> bool {
    let label = |(name, values): &(&str, &[&str])| {
        endpoint
            .labels
            .get(*name)
            .is_some_and(|v| values.contains(&v.as_str()))
    };
    let port = |(_, proto, port): &(String, String, u16)| *port == 53 && proto.eq_ignore_ascii_case("UDP");
    RESOLVER_LABELS.iter().any(label) || endpoint.ports.iter().any(port)
}
