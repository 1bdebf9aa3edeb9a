//! Random small worlds, made so that rules, sets and packets often meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use caracal_api::{Action, EncapMode, TierDefaultAction};
use caracal_desired::{
    Delta, Desired, Host, HostEndpoint, IcmpMatch, IpSet, IpSetKind, IpSetMember, List, Policy, Pool,
    Profile, Rule, Side, TierPolicies, Vtep, WorkloadEndpoint,
};
use caracal_ids::{IpSetId, NodeName, PolicyId, PolicyKind, ProfileName, TierName, WorkloadId};
use caracal_net::{Cidr, Family, IfAddr, PerFamily, PortRange, Proto};
use caracal_oracle::Packet;
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::interpreter::icmp_of;

pub(crate) const SETS: usize = 5;
pub(crate) const POLICIES: usize = 6;
pub(crate) const PROFILES: usize = 3;
pub(crate) const WORKLOADS: usize = 4;
pub(crate) const NODES: usize = 3;
pub(crate) const POOLS: usize = 4;
pub(crate) const HOST_ENDPOINTS: usize = 3;

pub(crate) fn addr(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, n]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)]),
    }
}

pub(crate) fn set_id(n: usize) -> IpSetId {
    IpSetId::new(format!("{}:{n}", if n < 3 { "s" } else { "n" }))
}

pub(crate) fn policy_id(n: usize) -> PolicyId {
    match n {
        0 => PolicyId::global(PolicyKind::StagedGlobalNetworkPolicy, "staged"),
        1 => PolicyId::namespaced(PolicyKind::NetworkPolicy, "ns", "p1"),
        n => PolicyId::global(PolicyKind::GlobalNetworkPolicy, &format!("p{n}")),
    }
}

pub(crate) fn profile_name(n: usize) -> ProfileName {
    ProfileName::new(format!("kns.{n}")).unwrap()
}

pub(crate) fn workload_id(n: usize) -> WorkloadId {
    WorkloadId::new("ns", &format!("w{n}"))
}

pub(crate) fn interface(n: usize) -> String {
    format!("cali{n}")
}

pub(crate) fn node(n: usize) -> NodeName {
    NodeName::new(format!("node-{n}")).unwrap()
}

pub(crate) fn pool_cidr(n: usize) -> Cidr {
    let texts = ["10.0.0.0/29", "10.0.0.8/29", "10.0.0.0/28", "fd00::/124"];
    texts[n].parse().unwrap()
}

fn family() -> impl Strategy<Value = Family> {
    select(vec![Family::V4, Family::V6])
}

fn cidr() -> impl Strategy<Value = Cidr> {
    let near = (family(), 0u8..16, 0u8..4).prop_map(|(f, n, up)| Cidr::new(addr(f, n), f.bits() - up));
    let wide = select(vec!["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "fd00::/16"])
        .prop_map(|t| t.parse::<Cidr>().unwrap());
    prop_oneof![12 => near, 1 => wide]
}

fn port_range() -> impl Strategy<Value = PortRange> {
    (0u16..8, 0u16..3).prop_map(|(first, n)| PortRange {
        first,
        last: first + n,
    })
}

fn some<T: std::fmt::Debug + Clone>(
    weight: u32,
    of: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = List<T>> {
    prop_oneof![10 - weight => Just(List::default()), weight => vec(of, 1..4).prop_map(List::from)]
}

fn nets_set() -> impl Strategy<Value = IpSetId> {
    (0usize..3).prop_map(set_id)
}

fn ports_set() -> impl Strategy<Value = IpSetId> {
    (3usize..5).prop_map(set_id)
}

fn side() -> impl Strategy<Value = Side> {
    let first = (
        some(4, cidr()),
        some(1, cidr()),
        some(2, nets_set()),
        some(1, nets_set()),
    );
    let second = (
        some(4, port_range()),
        some(1, ports_set()),
        some(1, port_range()),
        some(1, ports_set()),
        some(1, ports_set()),
    );
    let all = (first, second).prop_map(
        |(
            (nets, not_nets, ip_sets, not_ip_sets),
            (ports, named_ports, not_ports, not_named_ports, ip_port_sets),
        )| Side {
            nets,
            not_nets,
            ip_sets,
            not_ip_sets,
            ports,
            named_ports,
            not_ports,
            not_named_ports,
            ip_port_sets,
        },
    );
    let nets = vec(cidr(), 1..3).prop_map(|nets| Side {
        nets: nets.into(),
        ..Side::default()
    });
    let ports = vec(port_range(), 1..3).prop_map(|ports| Side {
        ports: ports.into(),
        ..Side::default()
    });
    prop_oneof![6 => Just(Side::default()), 2 => nets, 3 => ports, 2 => all]
}

fn proto() -> impl Strategy<Value = Proto> {
    select(vec![
        Proto::TCP,
        Proto::TCP,
        Proto::TCP,
        Proto::UDP,
        Proto::UDP,
        Proto::SCTP,
        Proto::ICMP,
        Proto::ICMPV6,
        Proto::UDPLITE,
        Proto(47),
    ])
}

fn icmp() -> impl Strategy<Value = IcmpMatch> {
    (0u8..3, option::of(0u8..2)).prop_map(|(icmp_type, code)| IcmpMatch { icmp_type, code })
}

fn maybe<T: std::fmt::Debug + Clone>(
    weight: u32,
    of: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![10 - weight => Just(None), weight => of.prop_map(Some)]
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![
        5 => Just(Action::Allow),
        3 => Just(Action::Deny),
        1 => Just(Action::Pass),
        1 => Just(Action::Log),
    ];
    let what = (maybe(7, proto()), maybe(1, proto()), maybe(1, family()));
    let icmps = (maybe(1, icmp()), maybe(1, icmp()), any::<bool>());
    (action, what, icmps, side(), side()).prop_map(
        |(action, (protocol, not_protocol, family), (icmp, not_icmp, stray), src, dst)| {
            let is_icmp = matches!(protocol, Some(Proto::ICMP | Proto::ICMPV6));
            let with_icmp = is_icmp || stray;
            let implied = match protocol {
                Some(Proto::ICMP) => Some(Family::V4),
                Some(Proto::ICMPV6) => Some(Family::V6),
                _ => family,
            };
            Rule {
                action,
                family: implied,
                protocol,
                not_protocol,
                icmp: icmp.filter(|_| with_icmp),
                not_icmp: not_icmp.filter(|_| with_icmp),
                src,
                dst,
                origin: None,
            }
        },
    )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(), 0..6)
}

fn policy(n: usize) -> impl Strategy<Value = Arc<Policy>> {
    (rules(), rules()).prop_map(move |(ingress, egress)| {
        Arc::new(Policy {
            id: policy_id(n),
            tier: TierName::default_tier(),
            ingress,
            egress,
            untracked: false,
            pre_dnat: false,
        })
    })
}

fn profile(n: usize) -> impl Strategy<Value = Arc<Profile>> {
    (rules(), rules()).prop_map(move |(ingress, egress)| {
        Arc::new(Profile {
            name: profile_name(n),
            ingress,
            egress,
        })
    })
}

fn ip_set(n: usize) -> impl Strategy<Value = IpSet> {
    let net = prop_oneof![
        3 => vec((family(), 0u8..16).prop_map(|(f, n)| IpSetMember::Net(Cidr::host(addr(f, n)))), 0..8),
        2 => vec(cidr().prop_map(IpSetMember::Net), 0..6),
    ];
    let port = (
        family(),
        0u8..16,
        select(vec![Proto::TCP, Proto::UDP, Proto::SCTP]),
        0u16..8,
    )
        .prop_map(|(f, n, proto, port)| IpSetMember::IpPort(addr(f, n), proto, port));
    let of = move |kind, members: Vec<IpSetMember>| IpSet {
        kind,
        members: members.into_iter().collect::<BTreeSet<_>>(),
        about: format!("number {n}").into(),
    };
    let nets = net.prop_map(move |m| of(IpSetKind::Net, m));
    let ports = vec(port, 0..12).prop_map(move |m| of(IpSetKind::IpPort, m));
    if n < 3 { nets.boxed() } else { ports.boxed() }
}

fn workload(n: usize) -> impl Strategy<Value = Arc<WorkloadEndpoint>> {
    let policies = || vec((0..POLICIES).prop_map(policy_id), 0..4);
    let action = select(vec![TierDefaultAction::Deny, TierDefaultAction::Pass]);
    let tier = (policies(), policies(), action);
    let profiles = vec((0..PROFILES).prop_map(profile_name), 0..3);
    let extra = some(1, cidr());
    // Mostly its own interface; sometimes another's, as when a pod is made anew.
    let port = prop_oneof![8 => Just(n), 1 => 0..WORKLOADS];
    let tiers = prop_oneof![12 => vec(tier.clone(), 0..4), 1 => vec(tier, 8..30)];
    (tiers, profiles, any::<[bool; 2]>(), extra, port).prop_map(
        move |(tiers, profiles, speaks, allowed_sources, port)| {
            let tier = |(i, (ingress, egress, default_action))| TierPolicies {
                name: TierName::new(format!("tier{i}")).unwrap(),
                default_action,
                ingress,
                egress,
            };
            let number = u8::try_from(n).unwrap();
            let own = |f| vec![Cidr::host(addr(f, number))];
            let mut addresses = PerFamily::new(own);
            if !speaks[0] && !speaks[1] {
                addresses.v6.clear();
            }
            Arc::new(WorkloadEndpoint {
                id: workload_id(n),
                interface: interface(port).into(),
                container_id: "".into(),
                mac: None,
                addresses,
                nats: vec![],
                allowed_sources: allowed_sources.to_vec(),
                tiers: tiers.into_iter().enumerate().map(tier).collect(),
                profiles,
                qos: None,
            })
        },
    )
}

pub(crate) fn host_endpoint_name(n: usize) -> Arc<str> {
    format!("h{n}").into()
}

/// A few tiers.
fn tiers(ends: &'static [TierDefaultAction]) -> impl Strategy<Value = Vec<TierPolicies>> {
    let policies = || vec((0..POLICIES).prop_map(policy_id), 0..3);
    let tier = (policies(), policies(), select(ends));
    let tier_of = |(i, (ingress, egress, default_action))| TierPolicies {
        name: TierName::new(format!("tier{i}")).unwrap(),
        default_action,
        ingress,
        egress,
    };
    prop_oneof![
        5 => Just(vec![]),
        12 => vec(tier.clone(), 1..3),
        1 => vec(tier, 8..20)
    ]
    .prop_map(move |tiers| tiers.into_iter().enumerate().map(tier_of).collect())
}

pub(crate) fn host_endpoint(n: usize) -> impl Strategy<Value = Arc<HostEndpoint>> {
    use TierDefaultAction::{Deny, Pass};
    let interface = select(vec![
        "eth0",
        "eth0",
        "eth1",
        "*",
        "*",
        "",
        "cali1",
        "much-too-long-for-a-name",
    ]);
    let expected = vec((family(), 100u8..104).prop_map(|(f, n)| addr(f, n)), 0..3);
    let profiles = vec((0..PROFILES).prop_map(profile_name), 0..3);
    let lists = (
        tiers(&[Deny, Pass]),
        tiers(&[Deny, Pass]),
        tiers(&[Pass]),
        tiers(&[Pass]),
    );
    (interface, expected, profiles, lists).prop_map(
        move |(interface, expected_ips, profiles, (normal, forward, untracked, mut pre_dnat))| {
            for tier in &mut pre_dnat {
                tier.egress.clear();
            }
            Arc::new(HostEndpoint {
                name: host_endpoint_name(n),
                interface: interface.into(),
                expected_ips,
                tiers: normal,
                untracked,
                pre_dnat,
                forward,
                profiles,
            })
        },
    )
}

fn net_part() -> impl Strategy<Value = Vec<Delta>> {
    let node_addrs = (0u8..16, any::<bool>());
    let pool = (
        any::<bool>(),
        select(vec![EncapMode::Never, EncapMode::Never, EncapMode::Always]),
    );
    let service = (family(), 0u8..18, 0u8..6).prop_map(|(f, n, bits)| {
        let whole = if f == Family::V4 { 32 } else { 128 };
        Cidr::new(addr(f, n), whole - bits)
    });
    let services = prop_oneof![3 => Just(vec![]), 2 => vec(service, 1..4)];
    let parts = (
        vec(option::of(node_addrs), NODES),
        vec(option::of(pool), POOLS),
        services,
    );
    parts.prop_map(|(nodes, pools, services)| {
        let mut out = vec![Delta::ServiceCidrs(services.into_iter().collect())];
        for (n, (a, both)) in nodes.into_iter().enumerate().filter_map(|(n, x)| Some((n, x?))) {
            let of = |f| (both || f == Family::V4).then(|| addr(f, a));
            out.push(Delta::Host(Host {
                node: node(n),
                addr: PerFamily::new(|f| of(f).map(|addr| IfAddr { addr, len: 24 })),
                ipip: None,
            }));
            out.push(Delta::Vtep(Vtep {
                node: node(n),
                mac: PerFamily::default(),
                tunnel_addr: PerFamily::default(),
                underlay: PerFamily::new(of),
            }));
        }
        for (n, (nat_outgoing, vxlan)) in pools.into_iter().enumerate().filter_map(|(n, x)| Some((n, x?))) {
            out.push(Delta::Pool(Pool {
                cidr: pool_cidr(n),
                nat_outgoing,
                vxlan,
                ipip: EncapMode::Never,
            }));
        }
        out
    })
}

/// The host's interfaces: two with addresses, by which host endpoints are found.
pub(crate) fn interfaces() -> impl Strategy<Value = BTreeMap<String, BTreeSet<IpAddr>>> {
    let addrs = || prop::collection::btree_set((family(), 100u8..104).prop_map(|(f, n)| addr(f, n)), 0..3);
    (addrs(), addrs(), addrs()).prop_map(|(a, b, c)| {
        let names = ["eth0", "eth1", "cali1"].map(str::to_owned);
        names.into_iter().zip([a, b, c]).collect()
    })
}

/// A state in which about one object in ten is missing; of sets only with `without_sets`.
pub(crate) fn world(without_sets: bool) -> impl Strategy<Value = Desired> {
    let there = prop::bool::weighted(0.9);
    let policies: Vec<_> = (0..POLICIES).map(|n| (there, policy(n))).collect();
    let profiles: Vec<_> = (0..PROFILES).map(|n| (there, profile(n))).collect();
    let workloads: Vec<_> = (0..WORKLOADS).map(|n| (there, workload(n))).collect();
    let sets: Vec<_> = (0..SETS).map(|n| (there, ip_set(n))).collect();
    let often = prop::bool::weighted(0.7);
    let hosts: Vec<_> = (0..HOST_ENDPOINTS).map(|n| (often, host_endpoint(n))).collect();
    let hosts = prop_oneof![1 => Just(vec![]), 2 => hosts];
    (policies, profiles, workloads, sets, net_part(), hosts).prop_map(
        move |(policies, profiles, workloads, sets, net, hosts)| {
            let mut d = Desired::default();
            let keep = |(there, x): (bool, _)| there.then_some(x);
            d.apply_all(policies.into_iter().filter_map(keep).map(Delta::Policy));
            d.apply_all(profiles.into_iter().filter(|p| p.0).map(|p| Delta::Profile(p.1)));
            d.apply_all(
                workloads
                    .into_iter()
                    .filter(|w| w.0)
                    .map(|w| Delta::Workload(w.1)),
            );
            d.apply_all(
                hosts
                    .into_iter()
                    .filter(|h| h.0)
                    .map(|h| Delta::HostEndpoint(h.1)),
            );
            for (n, (there, set)) in sets.into_iter().enumerate() {
                if there || !without_sets {
                    d.apply(Delta::IpSet(set_id(n), set));
                }
            }
            d.apply_all(net);
            d
        },
    )
}

/// The deltas that make a state.
pub(crate) fn deltas(d: &Desired) -> Vec<Delta> {
    let mut out: Vec<Delta> = vec![];
    out.extend(
        d.ip_sets
            .iter()
            .map(|(id, s)| Delta::IpSet(id.clone(), s.clone())),
    );
    out.extend(d.policies.values().cloned().map(Delta::Policy));
    out.extend(d.profiles.values().cloned().map(Delta::Profile));
    out.extend(d.workloads.values().cloned().map(Delta::Workload));
    out.extend(d.host_endpoints.values().cloned().map(Delta::HostEndpoint));
    out.extend(d.hosts.values().cloned().map(Delta::Host));
    out.extend(d.vteps.values().cloned().map(Delta::Vtep));
    out.extend(d.pools.values().cloned().map(Delta::Pool));
    out.push(Delta::ServiceCidrs(d.service_cidrs.clone()));
    out
}

pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let proto = select(vec![
        Proto::TCP,
        Proto::TCP,
        Proto::UDP,
        Proto::SCTP,
        Proto(1),
        Proto::UDPLITE,
        Proto(47),
    ]);
    (
        family(),
        0u8..18,
        0u8..18,
        proto,
        0u16..10,
        0u16..10,
        (0u8..4, 0u8..3),
    )
        .prop_map(|(f, src, dst, proto, sport, dport, icmp)| {
            let proto = if proto == Proto(1) { icmp_of(f) } else { proto };
            let ports = proto.has_ports();
            Packet {
                src: addr(f, src),
                dst: addr(f, dst),
                proto,
                sport: if ports { sport } else { 0 },
                dport: if ports { dport } else { 0 },
                icmp: (proto == icmp_of(f)).then_some(icmp),
            }
        })
}

/// So many cases, unless `PROPTEST_CASES` asks for another number.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = usual;
    }
    config
}
