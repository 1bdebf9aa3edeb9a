use std::time::Duration;

use caracal_link::{AddressSpec, Departure, InetSetting, LinkChange, LinkError, Rtnl, VethSpec};
use caracal_net::{Family, MacAddr};
use caracal_sys::Sysctl;
use caracal_testkit::{NetNs, eventually, netns};

use crate::support::{Node, datagram_arrives, if_addr, ip, two_nodes};

const HOST_MAC: MacAddr = MacAddr([0xee; 6]);
const POD_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);

#[test]
fn netns_veth_is_born_in_two_namespaces_and_down() {
    netns!();
    let pod = NetNs::create("pod").unwrap();
    let mut rtnl = Rtnl::open().unwrap();
    let spec = VethSpec {
        name: "cali0123",
        mac: Some(HOST_MAC),
        peer_name: "eth0",
        peer_mac: Some(POD_MAC),
        peer_netns: Some(&pod),
        mtu: Some(1450),
        queues: Some(1),
    };
    rtnl.create_veth(&spec).unwrap();
    let host = rtnl.require_link("cali0123").unwrap();
    assert_eq!((host.mac, host.mtu, host.up), (Some(HOST_MAC), 1450, false));
    assert_eq!(host.kind.as_deref(), Some("veth"));
    assert!(host.netnsid.is_some(), "{host:?}");
    assert!(rtnl.link("eth0").unwrap().is_none());

    let mut inside = Rtnl::open_in(&pod).unwrap();
    let peer = inside.require_link("eth0").unwrap();
    assert_eq!((peer.mac, peer.mtu, peer.up), (Some(POD_MAC), 1450, false));
    assert_eq!(host.parent, Some(peer.index));

    let twice = rtnl.create_veth(&spec).unwrap_err();
    assert_eq!(twice.errno(), Some(17), "{twice}");
    assert!(twice.to_string().contains("cali0123"), "{twice}");

    inside.set_link("eth0", &LinkChange::up()).unwrap();
    rtnl.set_link("cali0123", &LinkChange::up()).unwrap();
    assert!(rtnl.require_link(host.index).unwrap().running);
    assert!(rtnl.delete_link("cali0123").unwrap());
    assert!(!rtnl.delete_link("cali0123").unwrap());
    assert!(inside.link("eth0").unwrap().is_none(), "the other end goes too");
}

#[test]
fn netns_a_link_changes_in_one_request() {
    netns!();
    let other = NetNs::create("other").unwrap();
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.create_veth(&VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    })
    .unwrap();
    let change = LinkChange {
        mtu: Some(1400),
        mac: Some(HOST_MAC),
        alias: Some("of pod default/x"),
        name: Some("renamed"),
        ..LinkChange::up()
    };
    rtnl.set_link("a", &change).unwrap();
    let link = rtnl.require_link("renamed").unwrap();
    assert_eq!((link.mtu, link.mac, link.up), (1400, Some(HOST_MAC), true));
    assert_eq!(link.alias.as_deref(), Some("of pod default/x"));
    rtnl.create_bridge("br0").unwrap();
    let bridge = rtnl.require_link("br0").unwrap();
    rtnl.set_link(
        "renamed",
        &LinkChange {
            controller: Some(bridge.index),
            ..LinkChange::default()
        },
    )
    .unwrap();
    assert_eq!(
        rtnl.require_link("renamed").unwrap().controller,
        Some(bridge.index)
    );
    rtnl.set_link(
        "b",
        &LinkChange {
            netns: Some(&other),
            name: Some("moved"),
            ..LinkChange::default()
        },
    )
    .unwrap();
    assert!(rtnl.link("b").unwrap().is_none());
    assert!(Rtnl::open_in(&other).unwrap().link("moved").unwrap().is_some());
    let names: Vec<_> = rtnl.links().unwrap().into_iter().map(|link| link.name).collect();
    assert!(
        names.contains(&"lo".to_owned()) && names.contains(&"renamed".to_owned()),
        "{names:?}"
    );
}

#[test]
fn netns_errors_name_the_link() {
    netns!();
    let mut rtnl = Rtnl::open().unwrap();
    let missing = rtnl.set_link("nowhere", &LinkChange::up()).unwrap_err();
    assert!(
        matches!(&missing, LinkError::Missing(name) if name == "nowhere"),
        "{missing}"
    );
    assert!(matches!(rtnl.require_link(4711), Err(LinkError::Missing(_))));
    assert!(matches!(
        rtnl.link("much-too-long-a-name"),
        Err(LinkError::Name(_))
    ));
    let mtu = rtnl
        .set_link(
            "lo",
            &LinkChange {
                mtu: Some(u32::MAX),
                ..LinkChange::default()
            },
        )
        .unwrap_err();
    assert!(mtu.to_string().contains("link lo"), "{mtu}");
}

#[test]
fn netns_addresses_are_replaced() {
    netns!();
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.create_veth(&VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    })
    .unwrap();
    rtnl.set_link("a", &LinkChange::up()).unwrap();
    rtnl.set_link("b", &LinkChange::up()).unwrap();
    let link = rtnl.require_link("a").unwrap().index;
    for (family, first, second) in [
        (Family::V4, "10.0.0.1/32", "10.0.0.2/24"),
        (Family::V6, "fd00::1/128", "fd00::2/64"),
    ] {
        let first = AddressSpec::new(if_addr(first));
        let second = AddressSpec {
            noprefixroute: true,
            ..AddressSpec::new(if_addr(second))
        };
        assert!(rtnl.replace_addresses(link, family, &[first]).unwrap());
        assert!(
            !rtnl.replace_addresses(link, family, &[first]).unwrap(),
            "nothing differs"
        );
        assert!(rtnl.replace_addresses(link, family, &[first, second]).unwrap());
        let found = rtnl.addresses_of(link).unwrap();
        let second_found = found.iter().find(|a| a.addr == second.addr).unwrap();
        assert!(
            second_found.noprefixroute && !second_found.tentative,
            "{second_found:?}"
        );
        assert!(rtnl.replace_addresses(link, family, &[second]).unwrap());
        assert!(!rtnl.delete_address(link, first.addr).unwrap());
        assert_eq!(rtnl.link_with_address(second.addr.addr).unwrap(), Some(link));
        assert!(rtnl.replace_addresses(link, family, &[]).unwrap());
        assert_eq!(rtnl.link_with_address(second.addr.addr).unwrap(), None);
    }
    let local = eventually(Duration::from_secs(10), || {
        rtnl.link_local(link).unwrap().ok_or("none yet".to_owned())
    });
    assert!(local.is_unicast_link_local());
}

#[test]
fn netns_neighbours_come_and_go() {
    netns!();
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.create_veth(&VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    })
    .unwrap();
    rtnl.set_link("a", &LinkChange::up()).unwrap();
    let link = rtnl.require_link("a").unwrap().index;
    for (family, addr) in [(Family::V4, ip("10.1.1.1")), (Family::V6, ip("fd01::1"))] {
        rtnl.set_neighbour(link, addr, HOST_MAC).unwrap();
        rtnl.set_neighbour(link, addr, POD_MAC).unwrap();
        let found = rtnl.neighbours(link, family).unwrap();
        let entry = found.iter().find(|entry| entry.addr == addr).unwrap();
        assert_eq!(
            (entry.mac, entry.permanent, entry.proxy),
            (Some(POD_MAC), true, false)
        );
        assert!(rtnl.delete_neighbour(link, addr).unwrap());
        assert!(!rtnl.delete_neighbour(link, addr).unwrap());

        rtnl.set_proxy_neighbour(link, addr).unwrap();
        assert!(
            rtnl.proxy_neighbours(link, family)
                .unwrap()
                .iter()
                .any(|e| e.addr == addr && e.proxy)
        );
        assert!(rtnl.delete_proxy_neighbour(link, addr).unwrap());
        assert!(!rtnl.delete_proxy_neighbour(link, addr).unwrap());
    }
}

#[test]
fn netns_a_datagram_crosses_a_veth() {
    netns!();
    let (one, two) = two_nodes();
    for (from, to) in [("172.30.0.1", "172.30.0.2"), ("fd00:30::1", "fd00:30::2")] {
        eventually(Duration::from_secs(10), || {
            datagram_arrives(&one.netns, ip(from), &two.netns, ip(to))
        });
    }
}

#[test]
fn netns_five_hundred_pairs() {
    netns!();
    let mut node = Node::new("node");
    let begin = std::time::Instant::now();
    for number in 0..500 {
        let (name, peer) = (format!("cali{number}"), format!("peer{number}"));
        node.rtnl
            .create_veth(&VethSpec {
                name: &name,
                peer_name: &peer,
                ..VethSpec::default()
            })
            .unwrap();
        node.rtnl.set_link(name.as_str(), &LinkChange::up()).unwrap();
    }
    println!("500 veth pairs made and one end up: {:?}", begin.elapsed());
    let begin = std::time::Instant::now();
    let links = node.rtnl.links().unwrap();
    println!("{} links listed: {:?}", links.len(), begin.elapsed());
    assert_eq!(links.len(), 1001);
}

#[test]
fn netns_many_links_go_in_one_request() {
    netns!();
    let mut node = Node::new("node");
    let mut make = |number: u32| {
        let (name, peer) = (format!("cali{number}"), format!("peer{number}"));
        node.rtnl
            .create_veth(&VethSpec {
                name: &name,
                peer_name: &peer,
                ..VethSpec::default()
            })
            .unwrap();
        node.rtnl.set_link(name.as_str(), &LinkChange::up()).unwrap();
        node.rtnl.require_link(name.as_str()).unwrap().index
    };
    let doomed: Vec<u32> = (0..20).map(&mut make).collect();
    let stays = make(99);
    // One of them goes before: that is no error, and nobody waits for its event.
    node.rtnl.delete_link(doomed[7]).unwrap();
    let wait = |links: &[u32]| {
        let links = links.to_vec();
        let limit = Duration::from_secs(30);
        node.netns
            .run(move || Departure::begin(&links).and_then(|d| d.wait(limit)))
            .unwrap()
            .unwrap()
    };
    assert!(wait(&doomed).is_empty());
    let names: Vec<String> = node.rtnl.links().unwrap().into_iter().map(|l| l.name).collect();
    let ours = |n: &&String| n.starts_with("cali") || n.starts_with("peer");
    let mut left: Vec<&String> = names.iter().filter(ours).collect();
    left.sort();
    assert_eq!(left, ["cali99", "peer99"], "both ends of all but one are gone");
    assert!(wait(&[stays]).is_empty());
    assert!(wait(&[stays]).is_empty(), "gone already");
    assert!(wait(&doomed).is_empty(), "all gone already");
}

#[test]
fn netns_a_link_that_cannot_be_deleted_is_told() {
    netns!();
    let node = Node::new("node");
    let lo = Rtnl::open_in(&node.netns)
        .unwrap()
        .require_link("lo")
        .unwrap()
        .index;
    let refused = node.netns.run(move || {
        Departure::begin(&[lo])
            .and_then(|d| d.wait(Duration::from_secs(30)))
            .map_err(|e| e.errno())
    });
    assert_eq!(refused.unwrap(), Err(Some(libc::EOPNOTSUPP)));
}

#[test]
fn netns_settings_of_ipv4_go_along_with_a_change() {
    netns!();
    let mut rtnl = Rtnl::open().unwrap();
    let pair = VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    };
    rtnl.create_veth(&pair).unwrap();
    let read = |group: &str, link: &str, name: &str| {
        let setting = Sysctl::new(&["net", "ipv4", group, link, name]).unwrap();
        setting.read().unwrap()
    };
    let inet = [
        (InetSetting::RouteLocalnet, 1),
        (InetSetting::ProxyArp, 1),
        (InetSetting::Forwarding, 1),
    ];
    let names = ["route_localnet", "proxy_arp", "forwarding"];
    for name in names {
        assert_eq!(read("conf", "a", name), "0", "{name}");
    }
    let change = LinkChange {
        alias: Some("of somebody"),
        inet: &inet,
        ..LinkChange::up()
    };
    rtnl.set_link("a", &change).unwrap();
    for name in names {
        assert_eq!(read("conf", "a", name), "1", "{name}");
        assert_eq!(read("conf", "b", name), "0", "{name}");
        assert_eq!(read("conf", "default", name), "0", "{name}");
    }
    let link = rtnl.require_link("a").unwrap();
    assert!(link.up && link.alias.as_deref() == Some("of somebody"));
    assert_eq!(read("neigh", "a", "proxy_delay"), "80");
    rtnl.set_proxy_delay(link.index, Duration::ZERO).unwrap();
    assert_eq!(read("neigh", "a", "proxy_delay"), "0");
    assert_eq!(read("neigh", "b", "proxy_delay"), "80");
    let missing = rtnl.set_proxy_delay(4711, Duration::ZERO).unwrap_err();
    assert!(missing.to_string().contains("4711"), "{missing}");
}

#[test]
fn netns_whether_a_namespace_forwards() {
    netns!();
    let mut rtnl = Rtnl::open().unwrap();
    let other = NetNs::anonymous().unwrap();
    let mut there = Rtnl::open_in(&other).unwrap();
    let families = [
        (Family::V4, Sysctl::new(&["net", "ipv4", "ip_forward"]).unwrap()),
        (Family::V6, Sysctl::conf(Family::V6, "all", "forwarding").unwrap()),
    ];
    for (family, setting) in families {
        assert_eq!(rtnl.forwards(family).unwrap(), Some(false), "{family}");
        setting.write("1").unwrap();
        assert_eq!(rtnl.forwards(family).unwrap(), Some(true), "{family}");
        assert_eq!(there.forwards(family).unwrap(), Some(false), "{family}");
    }
}
