use std::collections::BTreeMap as Map;

use caracal_api::{AllocationAttribute, IpPoolSpec, IpamBlockSpec, NodeBgpSpec, NodeSpec, Object};
use caracal_desired::Desired;
use proptest::prelude::*;

use super::*;

fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

fn node(n: &str, v4: &str, tunnel: &str) -> Update {
    let bgp = NodeBgpSpec {
        ipv4_address: v4.into(),
        ..NodeBgpSpec::default()
    };
    let spec = NodeSpec {
        bgp: Some(bgp),
        ipv4_vxlan_tunnel_addr: tunnel.into(),
        ..NodeSpec::default()
    };
    Update::set(Object::new(n, spec).into())
}

fn pool(n: &str, cidr: &str, mode: EncapMode) -> Update {
    let spec = IpPoolSpec {
        cidr: cidr.into(),
        vxlan_mode: Some(mode),
        ..IpPoolSpec::default()
    };
    Update::set(Object::new(n, spec).into())
}

/// A node with an address for IP-in-IP.
fn ipip_node(n: &str, v4: &str, tunnel: &str) -> Update {
    let bgp = NodeBgpSpec {
        ipv4_address: v4.into(),
        ipv4_ipip_tunnel_addr: tunnel.into(),
        ..NodeBgpSpec::default()
    };
    let spec = NodeSpec {
        bgp: Some(bgp),
        ..NodeSpec::default()
    };
    Update::set(Object::new(n, spec).into())
}

fn ipip_pool(n: &str, cidr: &str, mode: EncapMode) -> Update {
    let spec = IpPoolSpec {
        cidr: cidr.into(),
        ipip_mode: Some(mode),
        ..IpPoolSpec::default()
    };
    Update::set(Object::new(n, spec).into())
}

/// A block owned by `owner` in which each of `holders` holds one address, from ordinal 0 on.
fn block(cidr: &str, owner: Option<&str>, holders: &[&str]) -> Update {
    let attributes = holders
        .iter()
        .map(|h| AllocationAttribute {
            handle_id: Some(format!("h-{h}")),
            secondary: Map::from([("node".to_owned(), (*h).to_owned())]),
            ..AllocationAttribute::default()
        })
        .collect();
    let spec = IpamBlockSpec {
        cidr: cidr.into(),
        affinity: owner.map(|o| format!("host:{o}")),
        allocations: (0..holders.len()).map(Some).collect(),
        attributes,
        ..IpamBlockSpec::default()
    };
    Update::set(Object::new(cidr.replace(['.', '/', ':'], "-"), spec).into())
}

fn run(updates: &[Update]) -> (Engine, Desired) {
    let mut e = Engine::new(name("me"), RouteSource::CalicoIpam);
    let mut d = Desired::default();
    for u in updates {
        e.apply(u);
    }
    d.apply_all(e.flush());
    (e, d)
}

fn cidr(s: &str) -> Cidr {
    s.parse().unwrap()
}

#[test]
fn a_remote_block_is_encapsulated_by_mode_and_subnet() {
    for (mode, remote_ip, encap) in [
        (EncapMode::Always, "172.30.0.2/24", true),
        (EncapMode::CrossSubnet, "172.30.0.2/24", false),
        (EncapMode::CrossSubnet, "172.31.0.2/24", true),
        (EncapMode::Never, "172.31.0.2/24", false),
    ] {
        let (_, d) = run(&[
            node("me", "172.30.0.1/24", "10.0.0.0"),
            node("other", remote_ip, "10.0.1.0"),
            pool("p", "10.0.0.0/16", mode),
            block("10.0.1.0/26", Some("other"), &["other"]),
        ]);
        let r = &d.routes[&cidr("10.0.1.0/26")];
        assert_eq!(r.encap, encap, "{mode:?} {remote_ip}");
        assert!(r.flags.remote_workload && !r.local_block);
        assert_eq!(
            r.node_ip,
            Some(remote_ip.split('/').next().unwrap().parse().unwrap())
        );
        assert!(d.routes[&cidr("10.0.1.0/32")].flags.remote_tunnel);
        assert_eq!(
            d.vteps[&name("other")].tunnel_addr.v4,
            Some("10.0.1.0".parse().unwrap())
        );
    }
}

#[test]
fn ip_in_ip_by_mode_and_subnet_with_borrowed_and_tunnel_addresses() {
    for (mode, remote_ip, encap) in [
        (EncapMode::Always, "172.30.0.2/24", true),
        (EncapMode::CrossSubnet, "172.30.0.2/24", false),
        (EncapMode::CrossSubnet, "172.31.0.2/24", true),
    ] {
        let (mut e, mut d) = run(&[
            ipip_node("me", "172.30.0.1/24", "10.0.0.0"),
            ipip_node("other", remote_ip, "10.0.1.0"),
            ipip_pool("p", "10.0.0.0/16", mode),
            // The other node's tunnel address is borrowed, as one of its workloads' is.
            block("10.0.0.0/26", Some("me"), &["me", "other"]),
            block("10.0.1.0/26", Some("other"), &["other", "other"]),
        ]);
        let far = remote_ip.split('/').next().unwrap().parse().ok();
        for (dst, borrowed) in [("10.0.1.0/26", false), ("10.0.0.1/32", true)] {
            let r = &d.routes[&cidr(dst)];
            assert_eq!(
                (r.pool, r.encap, r.borrowed),
                (EncapType::Ipip, encap, borrowed),
                "{mode:?} {dst}"
            );
            assert!(r.flags.remote_workload && r.node_ip == far);
        }
        assert!(d.routes[&cidr("10.0.1.0/32")].flags.remote_tunnel);
        assert!(d.routes[&cidr("10.0.0.0/32")].flags.local_tunnel);
        assert_eq!(d.hosts[&name("me")].ipip, Some([10, 0, 0, 0].into()));
        assert!(d.vteps.is_empty(), "no end of a VXLAN tunnel");
        // The address moves, then the node has none.
        e.apply(&ipip_node("me", "172.30.0.1/24", "10.0.0.9"));
        d.apply_all(e.flush());
        assert_eq!(d.hosts[&name("me")].ipip, Some([10, 0, 0, 9].into()));
        assert!(d.routes[&cidr("10.0.0.9/32")].flags.local_tunnel);
        assert!(!d.routes.contains_key(&cidr("10.0.0.0/32")));
        e.apply(&ipip_node("me", "172.30.0.1/24", "fd00::9"));
        d.apply_all(e.flush());
        let said = &d.invalid[&ResourceKey::global(Kind::Node, "me")];
        assert!(said.contains("spec.bgp.ipv4IPIPTunnelAddr"), "{said}");
    }
}

#[test]
fn a_pool_of_ipv6_with_ip_in_ip_is_named_and_counts_without() {
    let (mut e, mut d) = run(&[
        node("me", "172.30.0.1/24", ""),
        ipip_pool("six", "fd00::/64", EncapMode::Always),
        block("fd00::/122", Some("me"), &[]),
    ]);
    let key = ResourceKey::global(Kind::IpPool, "six");
    assert!(d.invalid[&key].contains("spec.ipipMode"), "{:?}", d.invalid);
    assert_eq!(d.routes[&cidr("fd00::/122")].pool, EncapType::NoEncap);
    e.apply(&ipip_pool("six", "fd00::/64", EncapMode::Never));
    d.apply_all(e.flush());
    assert!(d.invalid.is_empty());
}

#[test]
fn own_blocks_and_borrowed_addresses() {
    let (_, d) = run(&[
        node("me", "172.30.0.1/24", ""),
        pool("p", "10.0.0.0/16", EncapMode::Always),
        block("10.0.0.0/26", Some("me"), &["me", "other"]),
        block("10.0.1.0/26", None, &["me"]),
    ]);
    assert!(d.routes[&cidr("10.0.0.0/26")].local_block);
    let borrowed = &d.routes[&cidr("10.0.0.1/32")];
    assert!(borrowed.borrowed && borrowed.flags.remote_workload && borrowed.node == Some(name("other")));
    let mine = &d.routes[&cidr("10.0.1.0/32")];
    assert!(mine.borrowed && mine.flags.local_workload && !mine.encap);
    assert!(!d.routes.contains_key(&cidr("10.0.1.0/26")));
}

#[test]
fn a_bad_object_is_named_and_disturbs_nothing() {
    let (mut e, mut d) = run(&[node("bad", "not-an-address", ""), node("me", "172.30.0.1/24", "")]);
    let key = ResourceKey::global(Kind::Node, "bad");
    assert!(
        d.invalid[&key].contains("spec.bgp.ipv4Address"),
        "{:?}",
        d.invalid
    );
    assert!(d.hosts.contains_key(&name("me")));
    assert_eq!(d.hosts[&name("bad")].addr.v4, None);
    e.apply(&node("bad", "172.30.0.9/24", ""));
    d.apply_all(e.flush());
    assert!(d.invalid.is_empty() && d.hosts[&name("bad")].addr.v4.is_some());
}

#[test]
fn a_field_of_a_node_that_cannot_be_read_costs_what_it_says_and_no_more() {
    let with = |change: &dyn Fn(&mut NodeSpec)| {
        let mut spec = NodeSpec {
            bgp: Some(NodeBgpSpec {
                ipv4_address: "172.30.0.2/24".into(),
                ipv4_ipip_tunnel_addr: "10.0.1.1".into(),
                ..NodeBgpSpec::default()
            }),
            ipv4_vxlan_tunnel_addr: "10.0.1.0".into(),
            ..NodeSpec::default()
        };
        change(&mut spec);
        Update::set(Object::new("far", spec).into())
    };
    let key = ResourceKey::global(Kind::Node, "far");
    let (mut e, mut d) = run(&[
        node("me", "172.30.0.1/24", "10.0.0.0"),
        pool("p", "10.0.0.0/16", EncapMode::Always),
        with(&|_| ()),
        block("10.0.1.0/26", Some("far"), &[]),
    ]);
    let (routes, vteps, hosts) = (d.routes.clone(), d.vteps.clone(), d.hosts.clone());
    assert!(routes[&cidr("10.0.1.0/26")].node_ip.is_some() && vteps.len() == 2);
    let bgp = |s: &mut NodeSpec| -> NodeBgpSpec { s.bgp.take().unwrap_or_default() };
    // Nothing of IPv4 depends on these.
    type Change<'a> = &'a dyn Fn(&mut NodeSpec);
    let ipv6 = |s: &mut NodeSpec| {
        let ipv6_address = "fd00::/x".into();
        s.bgp = Some(NodeBgpSpec {
            ipv6_address,
            ..bgp(s)
        });
    };
    let changes: [(&str, Change<'_>); 4] = [
        ("spec.bgp.ipv6Address", &ipv6),
        ("spec.ipv6VXLANTunnelAddr", &|s| {
            s.ipv6_vxlan_tunnel_addr = "10.0.0.1".into()
        }),
        ("spec.vxlanTunnelMACAddrV6", &|s| {
            s.vxlan_tunnel_mac_addr_v6 = "66".into()
        }),
        // As if none was named.
        ("spec.vxlanTunnelMACAddr", &|s| {
            s.vxlan_tunnel_mac_addr = "66".into()
        }),
    ];
    for (field, change) in changes {
        e.apply(&with(change));
        d.apply_all(e.flush());
        assert!(d.invalid[&key].contains(field), "{:?}", d.invalid);
        assert_eq!(
            (&d.routes, &d.vteps, &d.hosts),
            (&routes, &vteps, &hosts),
            "{field}"
        );
    }
    e.apply(&with(&|s| {
        s.bgp = Some(NodeBgpSpec {
            ipv4_ipip_tunnel_addr: "x".into(),
            ..bgp(s)
        })
    }));
    d.apply_all(e.flush());
    assert_eq!((d.hosts[&name("far")].ipip, &d.vteps), (None, &vteps));
    assert_eq!(d.hosts[&name("far")].addr, hosts[&name("far")].addr);
    e.apply(&with(&|s| s.ipv4_vxlan_tunnel_addr = "x".into()));
    d.apply_all(e.flush());
    assert!(!d.vteps.contains_key(&name("far")) && d.hosts == hosts);
    e.apply(&with(&|_| ()));
    d.apply_all(e.flush());
    assert!(d.invalid.is_empty());
    assert_eq!((&d.routes, &d.vteps), (&routes, &vteps));
}

/// A block of `me` in which `other` has the address 1, with something wrong beside it.
fn partly_bad(change: impl FnOnce(&mut IpamBlockSpec)) -> Update {
    let update = block("10.0.0.0/26", Some("me"), &["me", "other", "me"]);
    let Some(caracal_api::Resource::IpamBlock(mut o)) = update.value.as_deref().cloned() else {
        panic!("a block");
    };
    change(&mut o.spec);
    Update::set((*o).into())
}

#[test]
fn a_bad_entry_of_a_block_costs_its_own_route_only() {
    let neighbours = [
        node("me", "172.30.0.1/24", ""),
        pool("p", "10.0.0.0/16", EncapMode::Always),
        block("10.0.1.0/26", Some("other"), &["me"]),
    ];
    let bad = |index: Option<usize>| partly_bad(move |spec| spec.allocations.push(index));
    let secondary = |spec: &mut IpamBlockSpec, node: &str| {
        spec.attributes[2].secondary.insert("node".into(), node.into());
    };
    let cases: [(Update, &[&str]); 4] = [
        (
            bad(Some(9)),
            &["allocations[3] (10.0.0.3) is attribute 9: there are 3"],
        ),
        (
            partly_bad(|spec| secondary(spec, "no node!")),
            &["attributes[2].secondary.node of 10.0.0.2 \"no node!\""],
        ),
        (
            partly_bad(|spec| spec.allocations.resize(70, Some(1))),
            &["allocations[64]: the block has no such address", "and 3 more"],
        ),
        (
            partly_bad(|spec| spec.affinity = Some("host:no node!".into())),
            &["affinity \"no node!\""],
        ),
    ];
    for (update, told) in cases {
        let key = update.key.clone();
        let (mut e, mut d) = run(&[&neighbours[..], std::slice::from_ref(&update)].concat());
        let reason = &d.invalid[&key];
        for text in told {
            assert!(reason.contains(text), "{text}: {reason}");
        }
        // What can be read of it is in force, and so are the neighbours.
        let borrowed = &d.routes[&cidr("10.0.0.1/32")];
        assert!(
            borrowed.borrowed && borrowed.node == Some(name("other")),
            "{reason}"
        );
        let owned = d.routes.get(&cidr("10.0.0.0/26")).is_some_and(|r| r.local_block);
        assert_eq!(owned, !reason.contains("affinity"), "{reason}");
        assert!(d.routes.contains_key(&cidr("10.0.1.0/26")) && d.routes.contains_key(&cidr("10.0.1.0/32")));
        assert!(
            !d.routes.contains_key(&cidr("10.0.0.3/32")) || reason.contains("64"),
            "{reason}"
        );
        // Put right, nothing is wrong with it any more, and its routes did not go meanwhile.
        e.apply(&partly_bad(|_| {}));
        let deltas = e.flush();
        assert!(
            !deltas.contains(&Delta::RouteGone(cidr("10.0.0.1/32"))),
            "{deltas:?}"
        );
        d.apply_all(deltas);
        assert_eq!(d.invalid, Map::new());
        assert!(d.routes[&cidr("10.0.0.0/26")].local_block);
    }
}

#[test]
fn a_bad_network_of_an_endpoint_costs_its_own_route_only() {
    let spec = caracal_api::WorkloadEndpointSpec {
        node: "other".into(),
        ip_networks: vec!["10.0.0.5/32".into(), "10.0.0.300".into(), "fd00::5/128".into()],
        ..caracal_api::WorkloadEndpointSpec::default()
    };
    let update = Update::set(Object::namespaced("default", "e", spec).into());
    let mut e = Engine::new(name("me"), RouteSource::WorkloadIps);
    e.apply(&update);
    let mut d = Desired::default();
    d.apply_all(e.flush());
    assert!(d.invalid[&update.key].contains("10.0.0.300"), "{:?}", d.invalid);
    let routes: Vec<String> = d.routes.keys().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.0.0.5/32", "fd00::5/128"]);
}

#[test]
fn the_mac_is_stable_and_local() {
    let mac = vtep_mac_of("node-1");
    assert_eq!(mac, vtep_mac_of("node-1"));
    assert_ne!(mac, vtep_mac_of("node-2"));
    assert_eq!(mac.0[0] & 0b11, 0b10);
}

fn vtep_mac_of(n: &str) -> caracal_net::MacAddr {
    crate::vtep_mac(&name(n), caracal_net::Family::V4)
}

fn any_update() -> impl Strategy<Value = Update> {
    let n = prop::sample::select(vec!["me", "a", "b"]);
    let ip = prop::sample::select(vec![
        "172.30.0.1/24",
        "172.30.0.2/24",
        "172.31.0.3/24",
        "junk",
        "",
    ]);
    let tunnel = prop::sample::select(vec!["", "10.0.0.1", "10.0.1.1", "fd00::1"]);
    let mode = prop::sample::select(vec![EncapMode::Never, EncapMode::Always, EncapMode::CrossSubnet]);
    let pools = prop::sample::select(vec!["10.0.0.0/16", "10.0.0.0/24", "10.0.1.0/24"]);
    let blocks = prop::sample::select(vec!["10.0.0.0/26", "10.0.0.64/26", "10.0.1.0/26"]);
    let holder = prop::sample::select(vec!["me", "a", "b", "no node!"]);
    let holders = prop::collection::vec(holder, 0..3);
    prop_oneof![
        (n.clone(), ip.clone(), tunnel.clone()).prop_map(|(n, ip, t)| node(n, ip, t)),
        (n.clone(), ip, tunnel).prop_map(|(n, ip, t)| ipip_node(n, ip, t)),
        (prop::sample::select(vec!["p", "q"]), pools.clone(), mode.clone())
            .prop_map(|(n, c, m)| pool(n, c, m)),
        (prop::sample::select(vec!["p", "q"]), pools, mode).prop_map(|(n, c, m)| ipip_pool(n, c, m)),
        (blocks, prop::option::of(n), holders).prop_map(|(c, o, h)| block(c, o, &h)),
    ]
}

proptest! {
    #[test]
    fn deltas_fold_to_the_state_from_scratch(
        history in prop::collection::vec((any_update(), any::<bool>(), prop::bool::weighted(0.3)), 0..40)
    ) {
        let mut e = Engine::new(name("me"), RouteSource::CalicoIpam);
        let mut folded = Desired::default();
        let mut last: Map<ResourceKey, Update> = Map::new();
        for (u, flush, delete) in history {
            let u = if delete { Update::gone(u.key) } else { u };
            e.apply(&u);
            last.insert(u.key.clone(), u);
            if flush {
                folded.apply_all(e.flush());
            }
        }
        folded.apply_all(e.flush());
        prop_assert!(e.flush().is_empty());
        // In reverse order, from nothing.
        let fresh: Vec<Update> = last.into_values().rev().collect();
        let (_, scratch) = run(&fresh);
        prop_assert_eq!(folded, scratch);
    }
}
