use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_api::Kind;
use caracal_desired::Desired;
use caracal_net::Proto;
use caracal_oracle::{Direction, ListKind, Packet, Verdict, decide, decide_host};
use caracal_policy_fuzz::Case;
use proptest::prelude::*;

use super::*;

/// The verdict of an endpoint alone, straight from the oracle.
fn one_side(
    state: &State,
    desired: &Desired,
    safe: &program::Failsafe,
    e: &Endpoint,
    direction: Direction,
    p: &Packet,
) -> bool {
    if !e.is_host {
        let mut own = state.objects.iter().filter_map(|(key, r)| match &**r {
            caracal_api::Resource::WorkloadEndpoint(w) if crate::endpoint_name(w) == e.name => Some(key),
            _ => None,
        });
        let key = own.next().unwrap();
        let id = caracal_ids::WorkloadId::new(&key.namespace, &key.name);
        let endpoint = desired.workloads.get(&id);
        return endpoint.is_some_and(|w| decide(desired, w, direction, p).verdict == Verdict::Allowed);
    }
    let Some(host) = desired.host_endpoints.get(e.name.as_str()) else {
        return true;
    };
    let safe = safe.clone();
    let (open, answers, peer) = match direction {
        Direction::Ingress => (safe.inbound, safe.outbound, p.src),
        Direction::Egress => (safe.outbound, safe.inbound, p.dst),
    };
    let fits = |f: &caracal_oracle::FailsafePort, port: u16| {
        f.proto == p.proto && f.port == port && f.net.is_none_or(|n| n.contains(peer))
    };
    if open.iter().any(|f| fits(f, p.dport)) {
        return true;
    }
    let ask = |list| decide_host(desired, host, list, direction, p).map(|d| d.verdict == Verdict::Allowed);
    let untracked = &*host.interface != "*" && !answers.iter().any(|f| fits(f, p.sport));
    let mut said = None;
    if untracked && !host.untracked.is_empty() {
        said = ask(ListKind::Untracked);
    }
    if direction == Direction::Ingress && !host.pre_dnat.is_empty() {
        said = said.or_else(|| ask(ListKind::PreDnat));
    }
    said.or_else(|| ask(ListKind::Normal)).unwrap()
}

#[derive(Debug, Clone, Copy)]
enum End<'a> {
    Endpoint(&'a Endpoint),
    Outside(IpAddr),
}

impl End<'_> {
    fn address(&self, s: usize, family: Family) -> Option<IpAddr> {
        match self {
            End::Outside(a) => Some(*a).filter(|a| Family::of(*a) == family),
            End::Endpoint(e) => {
                let seen = e.seen[s].as_ref()?;
                seen.addresses.iter().copied().find(|a| Family::of(*a) == family)
            }
        }
    }

    fn is_in(&self, party: &Party) -> bool {
        match self {
            End::Outside(a) => party.nets.iter().any(|n| n.contains(*a)),
            End::Endpoint(e) => party.members.contains(&if e.is_host {
                Subject::Host(e.name.as_str().into())
            } else {
                Subject::Workload(e.name.as_str().into())
            }),
        }
    }
}

fn is_in(headers: &[Headers], p: &Packet) -> bool {
    let within =
        |spans: &[(u16, u16)], v: u16| spans.is_empty() || spans.iter().any(|s| s.0 <= v && v <= s.1);
    headers.iter().any(|h| {
        let proto = match &h.protocol {
            Some(name) => *name == p.proto.to_string(),
            None => !h.except.contains(&p.proto.to_string()),
        };
        let icmp = p
            .icmp
            .is_none_or(|(t, c)| within(&h.icmp_types, t.into()) && within(&h.icmp_codes, c.into()));
        proto && within(&h.ports, p.dport) && within(&h.source_ports, p.sport) && icmp
    })
}

/// What a diff says of a packet: opened, closed, or neither. It must say it once.
fn told(diff: &Diff, from: End<'_>, to: End<'_>, p: &Packet) -> Option<bool> {
    let mut said = Vec::new();
    for change in &diff.changes {
        if change.families.contains(&p.family().number()) && from.is_in(&change.from) && to.is_in(&change.to)
        {
            said.extend(is_in(&change.opened, p).then_some(true));
            said.extend(is_in(&change.closed, p).then_some(false));
        }
    }
    assert!(said.len() < 2, "told more than once: {p}");
    said.first().copied()
}

/// Protocol, ports, ICMP type and code.
type Header = (Proto, u16, u16, Option<(u8, u8)>);

fn headers() -> Vec<Header> {
    let mut all = vec![
        (Proto(47), 0, 0, None),
        (Proto(0), 0, 0, None),
        (Proto(136), 0, 0, None),
    ];
    for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
        for dport in [0, 22, 53, 79, 80, 81, 82, 90, 179, 1000, 6443, 8080, 65535] {
            all.extend([1, 53, 80, 1024, 40000].map(|sport| (proto, sport, dport, None)));
        }
    }
    all
}

fn icmp(family: Family) -> Vec<Header> {
    let proto = match family {
        Family::V4 => Proto::ICMP,
        Family::V6 => Proto::ICMPV6,
    };
    let types = [
        (0, 0),
        (3, 1),
        (3, 4),
        (8, 0),
        (8, 1),
        (128, 0),
        (128, 5),
        (255, 255),
    ];
    types.into_iter().map(|i| (proto, 0, 0, Some(i))).collect()
}

fn state(objects: impl IntoIterator<Item = caracal_api::Resource>) -> State {
    let mut state = State::default();
    objects.into_iter().for_each(|o| state.insert(o));
    state
}

/// Compares a diff with the oracle, packet by packet. Returns how many verdicts changed.
fn check(old: &State, new: &State) -> Result<usize, TestCaseError> {
    let found = compare(old, new);
    let diff = report::report(&found);
    let desired = world::desired(old, new);
    let both: Vec<&Endpoint> = found
        .endpoints
        .iter()
        .filter(|e| e.seen.iter().all(Option::is_some))
        .collect();
    let own: BTreeSet<IpAddr> = found
        .endpoints
        .iter()
        .flat_map(|e| e.seen.iter().flatten())
        .flat_map(|s| s.addresses.clone())
        .collect();
    let outside = [
        "192.0.2.1",
        "192.0.2.77",
        "192.0.2.255",
        "198.51.100.9",
        "198.51.100.10",
        "203.0.113.5",
        "10.0.0.0",
        "10.0.0.6",
        "10.0.0.9",
        "10.255.0.1",
        "0.0.0.1",
        "255.255.255.255",
        "2001:db8::1",
        "2001:db8::77",
        "2001:db8:1::9",
        "fd00::4",
        "fd00::a",
        "ffff::",
    ];
    let outside = outside
        .iter()
        .map(|a| a.parse::<IpAddr>().unwrap())
        .filter(|a| !own.contains(a));
    let ends: Vec<End<'_>> = both
        .iter()
        .map(|e| End::Endpoint(e))
        .chain(outside.map(End::Outside))
        .collect();
    let all = Family::BOTH.map(|f| headers().into_iter().chain(icmp(f)).collect::<Vec<_>>());
    // No state of these has a configuration: all nodes keep the same ports open.
    let safe = world::failsafe(old, "");
    let (mut changed, mut turn) = (0, old.objects.len());
    for family in Family::BOTH {
        for from in &ends {
            for to in &ends {
                match (from, to) {
                    (End::Outside(_), End::Outside(_)) => continue,
                    (End::Endpoint(a), End::Endpoint(b)) if std::ptr::eq(*a, *b) => continue,
                    _ => {}
                }
                let at = |s: usize| Some((from.address(s, family)?, to.address(s, family)?));
                let [Some(before), Some(now)] = [at(0), at(1)] else {
                    continue;
                };
                // A few of them for each pair; over all pairs and cases all come.
                turn += 1;
                let some = all[usize::from(family == Family::V6)]
                    .iter()
                    .skip(turn % 7)
                    .step_by(7);
                for (proto, sport, dport, icmp) in some.copied() {
                    let verdict = |s: usize| {
                        let (src, dst) = [before, now][s];
                        let p = Packet {
                            src,
                            dst,
                            proto,
                            sport,
                            dport,
                            icmp,
                        };
                        let state = [old, new][s];
                        let side = |end: &End<'_>, direction| match end {
                            End::Outside(_) => true,
                            End::Endpoint(e) => one_side(state, &desired[s], &safe, e, direction, &p),
                        };
                        side(from, Direction::Egress) && side(to, Direction::Ingress)
                    };
                    let p = Packet {
                        src: now.0,
                        dst: now.1,
                        proto,
                        sport,
                        dport,
                        icmp,
                    };
                    let expected = match (verdict(0), verdict(1)) {
                        (false, true) => Some(true),
                        (true, false) => Some(false),
                        _ => None,
                    };
                    changed += usize::from(expected.is_some());
                    prop_assert_eq!(
                        told(&diff, *from, *to, &p),
                        expected,
                        "{} -> {}",
                        p,
                        format!("{from:?} {to:?}")
                    );
                }
            }
        }
    }
    Ok(changed)
}

/// Two states that share some objects.
fn pair(a: u64, b: u64, keep: u8) -> (State, State) {
    let (old, other) = (Case::random(a, 0).objects, Case::random(b, 0).objects);
    let mut new = state(old.clone());
    for (n, object) in other.into_iter().enumerate() {
        let kept = matches!(object.kind(), Kind::WorkloadEndpoint) && n % 4 != 0;
        if !kept && (n as u64 * 7 + a) % 10 >= u64::from(keep) {
            new.insert(object);
        }
    }
    let gone: Vec<_> = new
        .objects
        .keys()
        .filter(|k| k.kind != Kind::WorkloadEndpoint)
        .cloned()
        .collect();
    for (n, key) in gone.into_iter().enumerate() {
        if (n as u64 * 5 + b).is_multiple_of(10) {
            new.objects.remove(&key);
        }
    }
    (state(old), new)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_is_the_comparison_packet_by_packet(a in 0u64..1_000_000, b in 0u64..1_000_000, keep in 0u8..10) {
        let (old, new) = pair(a, b, keep);
        check(&old, &new)?;
    }

    #[test]
    fn nothing_changes_between_equal_states(a in 0u64..1_000_000) {
        let all = state(Case::random(a, 0).objects);
        let diff = diff(&all, &all.clone());
        prop_assert!(diff.is_empty() && diff.pairs == 0 && diff.warnings.is_empty());
    }
}

/// The random pairs are of some use: most of them differ.
#[test]
fn random_pairs_differ() {
    let differ = (0..20).filter(|n| {
        let (old, new) = pair(*n, n + 1000, 5);
        !diff(&old, &new).changes.is_empty()
    });
    assert!(differ.count() > 10);
}

/// As the agent reads them: the node's own object, else the oldest that selects it, else the one for all; annotations, too.
#[test]
fn failsafe_ports_are_those_of_all_configurations_that_are_about_a_node() {
    let ports = |port: u16| format!("failsafeInboundHostPorts: [{{protocol: tcp, port: {port}}}]");
    let object = |kind: &str, meta: &str, spec: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{meta}}}\nspec: {{{spec}}}\n"
        )
    };
    let text = [
        object("FelixConfiguration", "name: default", &ports(1)),
        object(
            "FelixConfiguration",
            "name: rack, creationTimestamp: '2026-01-02T00:00:00Z'",
            &format!("nodeSelector: rack == '1', {}", ports(2)),
        ),
        object(
            "FelixConfiguration",
            "name: a-later-one, creationTimestamp: '2026-01-03T00:00:00Z'",
            &format!("nodeSelector: has(rack), {}", ports(3)),
        ),
        object("FelixConfiguration", "name: node.own", &ports(4)),
        object(
            "FelixConfiguration",
            "name: node.noted, annotations: {config.projectcalico.org/FailsafeInboundHostPorts: 'tcp:5'}",
            "",
        ),
        object("Node", "name: racked, labels: {rack: '1'}", ""),
        object("Node", "name: own, labels: {rack: '1'}", ""),
        object("Node", "name: noted", ""),
    ]
    .concat();
    let (mut state, mut problems) = (State::default(), Vec::new());
    state.read("all", &text, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    for (node, port) in [("racked", 2), ("own", 4), ("noted", 5), ("unknown", 1)] {
        let inbound = world::failsafe(&state, node).inbound;
        let found: Vec<u16> = inbound.iter().map(|f| f.port).collect();
        assert_eq!(found, [port], "{node}");
    }
}
