use std::process::Command;
use std::time::Duration;

use caracal_link::{Event, Groups, LinkError, Monitor, Rtnl, Vxlan, VxlanPeer, VxlanReport, VxlanSpec};
use caracal_net::{Family, MacAddr};
use caracal_testkit::{eventually, find_tool, needs, netns};
use caracal_update::InSync;

use crate::support::{Node, datagram_arrives, ip, network, two_nodes};

fn mac(node: u8) -> MacAddr {
    MacAddr([0x66, 0, 0, 0, 0, node])
}

fn device_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "vxlan.calico",
        Family::V6 => "vxlan-v6.calico",
    }
}

fn underlay(family: Family, node: u8) -> std::net::IpAddr {
    match family {
        Family::V4 => ip(&format!("172.30.0.{node}")),
        Family::V6 => ip(&format!("fd00:30::{node}")),
    }
}

fn tunnel(family: Family, node: u8) -> std::net::IpAddr {
    match family {
        Family::V4 => ip(&format!("10.65.{node}.1")),
        Family::V6 => ip(&format!("fd65:{node}::1")),
    }
}

/// Both families with Calico's defaults: one identifier, one port.
fn spec(family: Family, node: u8) -> VxlanSpec {
    VxlanSpec {
        name: device_name(family).to_owned(),
        vni: 4096,
        port: 4789,
        local: underlay(family, node),
        mac: mac(node),
        mtu: 1430,
        address: Some(tunnel(family, node)),
    }
}

fn peer(family: Family, node: u8) -> VxlanPeer {
    VxlanPeer {
        mac: mac(node),
        tunnel: tunnel(family, node),
        underlay: underlay(family, node),
    }
}

fn driver(family: Family, node: u8, others: &[u8]) -> Vxlan {
    let mut driver = Vxlan::new(device_name(family));
    driver.set_device(Some(spec(family, node)));
    for other in others {
        driver.set_peer(&format!("node{other}"), peer(family, *other));
    }
    driver
}

fn complete() -> InSync {
    InSync::after_complete_snapshot()
}

#[track_caller]
fn clean(report: VxlanReport) -> VxlanReport {
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    report
}

fn fdb_pairs(rtnl: &mut Rtnl, link: u32) -> Vec<(MacAddr, std::net::IpAddr)> {
    let entries = rtnl.fdb(link).unwrap().into_iter();
    let mut pairs: Vec<_> = entries.filter_map(|e| Some((e.mac, e.remote?))).collect();
    pairs.sort();
    pairs
}

#[test]
fn netns_datagrams_cross_both_tunnels() {
    netns!();
    needs!("ip");
    let (mut one, mut two) = two_nodes();
    for family in Family::BOTH {
        clean(driver(family, 1, &[2]).apply(&mut one.rtnl, &complete()));
        clean(driver(family, 2, &[1]).apply(&mut two.rtnl, &complete()));
        let device = device_name(family);
        for (node, other) in [(&one, 2), (&two, 1)] {
            let via = tunnel(family, other);
            node.ip(&format!(
                "route add {} via {via} dev {device} onlink",
                network(via)
            ));
        }
    }
    for family in Family::BOTH {
        let (from, to) = (tunnel(family, 1), tunnel(family, 2));
        eventually(Duration::from_secs(10), || {
            datagram_arrives(&one.netns, from, &two.netns, to)
        });
        eventually(Duration::from_secs(10), || {
            datagram_arrives(&two.netns, to, &one.netns, from)
        });
        let ip = find_tool("ip").unwrap();
        let show = || {
            Command::new(ip)
                .args(["-s", "link", "show", device_name(family)])
                .output()
                .unwrap()
        };
        println!(
            "{}",
            String::from_utf8_lossy(&two.netns.run(show).unwrap().stdout)
        );
    }
}

#[test]
fn netns_only_what_differs_is_touched() {
    netns!();
    let (mut one, _two) = two_nodes();
    for family in Family::BOTH {
        let mut vxlan = driver(family, 1, &[2, 3, 4]);
        let report = clean(vxlan.apply(&mut one.rtnl, &complete()));
        let link = report.link.unwrap();
        assert_eq!(report.changed, 6);
        assert!(!vxlan.is_pending());
        assert_eq!(clean(vxlan.apply(&mut one.rtnl, &complete())).changed, 0);

        // A new process, knowing nothing, finds all in order.
        let mut again = driver(family, 1, &[2, 3, 4]);
        let report = clean(again.apply(&mut one.rtnl, &complete()));
        assert_eq!((report.changed, report.link), (0, Some(link)));

        // A peer moves to another underlay address, one leaves.
        again.set_peer(
            "node2",
            VxlanPeer {
                underlay: underlay(family, 22),
                ..peer(family, 2)
            },
        );
        again.remove_peer("node3");
        assert_eq!(
            clean(again.apply(&mut one.rtnl, &complete())).changed,
            3,
            "moved, and two deleted"
        );
        let expected = vec![(mac(2), underlay(family, 22)), (mac(4), underlay(family, 4))];
        assert_eq!(fdb_pairs(&mut one.rtnl, link), expected);
        let neighbours = one.rtnl.neighbours(link, family).unwrap();
        assert_eq!(neighbours.iter().filter(|n| n.permanent).count(), 2);

        // Mutable attributes change in place, the others make a new device.
        again.set_device(Some(VxlanSpec {
            mtu: 1400,
            mac: mac(9),
            ..spec(family, 1)
        }));
        assert_eq!(clean(again.apply(&mut one.rtnl, &complete())).link, Some(link));
        let found = one.rtnl.require_link(link).unwrap();
        assert_eq!((found.mtu, found.mac), (1400, Some(mac(9))));
        again.set_device(Some(VxlanSpec {
            vni: 7777,
            ..spec(family, 1)
        }));
        let report = clean(again.apply(&mut one.rtnl, &complete()));
        assert_ne!(report.link, Some(link));
        assert_eq!(fdb_pairs(&mut one.rtnl, report.link.unwrap()), expected);

        again.set_device(None);
        clean(again.apply(&mut one.rtnl, &complete()));
        assert!(one.rtnl.link(device_name(family)).unwrap().is_none());
        assert!(!again.is_pending());
    }
}

#[test]
fn netns_what_a_stranger_breaks_is_repaired() {
    netns!();
    needs!("ip", "bridge");
    let (one, _two) = two_nodes();
    let mut monitor = one.netns.run(|| Monitor::open(Groups::ALL)).unwrap().unwrap();
    // The driver's own socket, and one to look through.
    let mut rtnl = Rtnl::open_in(&one.netns).unwrap();
    let mut probe = Rtnl::open_in(&one.netns).unwrap();
    monitor.ignore(&rtnl);
    for family in Family::BOTH {
        let (name, addr) = (device_name(family), tunnel(family, 2));
        let mut vxlan = driver(family, 1, &[2]);
        let link = clean(vxlan.apply(&mut rtnl, &complete())).link.unwrap();
        let good = fdb_pairs(&mut probe, link);
        let (far, other) = (underlay(family, 2), underlay(family, 77));
        let bridge = |line: String| {
            let run = || Command::new("bridge").args(line.split(' ')).output().unwrap();
            let output = one.netns.run(run).unwrap();
            assert!(
                output.status.success(),
                "bridge {line}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let m = mac(2);
        let breakages: Vec<Box<dyn Fn()>> = vec![
            Box::new(|| bridge(format!("fdb del {m} dev {name} dst {far} self"))),
            Box::new(|| bridge(format!("fdb replace {m} dev {name} dst {other} self"))),
            Box::new(|| bridge(format!("fdb add {} dev {name} dst {other} self", mac(88)))),
            Box::new(|| one.ip(&format!("neigh del {addr} dev {name}"))),
            Box::new(|| {
                one.ip(&format!(
                    "neigh replace {addr} lladdr {} dev {name} nud permanent",
                    mac(9)
                ))
            }),
            Box::new(|| one.ip(&format!("link set {name} mtu 1300"))),
            Box::new(|| one.ip(&format!("link set {name} down"))),
            Box::new(|| one.ip(&format!("addr del {} dev {name}", network(tunnel(family, 1))))),
            Box::new(|| one.ip(&format!("link del {name}"))),
        ];
        for (number, break_it) in breakages.iter().enumerate() {
            break_it();
            // The event has been queued before the command returned, or comes at once.
            let mut follow = || match monitor.next(Some(Duration::from_millis(100))).unwrap() {
                Some(event) if vxlan.on_event(&event) => Ok(()),
                other => Err(format!("breakage {number} of {name} not noticed; last {other:?}")),
            };
            eventually(Duration::from_secs(10), &mut follow);
            for event in monitor.drain().unwrap() {
                vxlan.on_event(&event);
            }
            let link = clean(vxlan.apply(&mut rtnl, &complete())).link.unwrap();
            assert_eq!(fdb_pairs(&mut probe, link), good, "breakage {number} of {name}");
            let neighbours = probe.neighbours(link, family).unwrap();
            assert!(
                neighbours
                    .iter()
                    .any(|n| n.addr == addr && n.mac == Some(m) && n.permanent),
                "{number}"
            );
            let found = probe.require_link(link).unwrap();
            assert_eq!((found.mtu, found.up), (1430, true), "breakage {number} of {name}");
            assert_eq!(
                probe.link_with_address(tunnel(family, 1)).unwrap(),
                Some(link),
                "{number}"
            );
        }
    }
}

#[test]
fn netns_foreign_links_and_entries_stay() {
    netns!();
    needs!("ip", "bridge");
    let (mut one, _two) = two_nodes();
    one.ip("link add foreign type vxlan id 99 dstport 4790 local 172.30.0.1 dev eth0 nolearning");
    one.ip("link set foreign up");
    one.ip("neigh add 172.30.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
    let mut vxlan = driver(Family::V4, 1, &[2]);
    let link = clean(vxlan.apply(&mut one.rtnl, &complete())).link.unwrap();
    let run = |line: &str| {
        let command = || Command::new("bridge").args(line.split(' ')).output().unwrap();
        assert!(one.netns.run(command).unwrap().status.success(), "bridge {line}");
    };
    run("fdb append 00:00:00:00:00:00 dev vxlan.calico dst 172.30.0.50 self");
    run("fdb append 02:00:00:00:00:01 dev foreign dst 172.30.0.51 self");
    vxlan.resync();
    clean(vxlan.apply(&mut one.rtnl, &complete()));
    let zero = (MacAddr([0; 6]), ip("172.30.0.50"));
    assert!(fdb_pairs(&mut one.rtnl, link).contains(&zero));
    let foreign = one.index("foreign");
    assert_eq!(
        fdb_pairs(&mut one.rtnl, foreign),
        [(MacAddr([2, 0, 0, 0, 0, 1]), ip("172.30.0.51"))]
    );
    let eth0 = one.index("eth0");
    assert!(
        one.rtnl
            .neighbours(eth0, Family::V4)
            .unwrap()
            .iter()
            .any(|n| n.addr == ip("172.30.0.99"))
    );
}

#[test]
fn netns_bad_situations_are_told_and_heal() {
    netns!();
    let mut node = Node::new("lonely");
    let mut vxlan = driver(Family::V4, 1, &[2]);
    let report = vxlan.apply(&mut node.rtnl, &complete());
    let text = report
        .errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    assert!(
        text.contains("vxlan.calico") && text.contains("172.30.0.1"),
        "{text}"
    );
    assert!(vxlan.is_pending());
    // A link that is not ours sits on the name.
    node.rtnl.create_bridge("vxlan.calico").unwrap();
    node.rtnl.create_bridge("eth0").unwrap();
    node.address("eth0", "172.30.0.1/24");
    let report = vxlan.apply(&mut node.rtnl, &complete());
    assert!(
        matches!(report.errors[..], [LinkError::InTheWay { .. }]),
        "{:?}",
        report.errors
    );
    node.rtnl.delete_link("vxlan.calico").unwrap();
    clean(vxlan.apply(&mut node.rtnl, &complete()));
    assert!(!vxlan.is_pending());
    // Two nodes claim one Ethernet address: the first by name has it, whoever came first.
    vxlan.set_peer(
        "node0",
        VxlanPeer {
            mac: mac(2),
            ..peer(Family::V4, 5)
        },
    );
    let report = vxlan.apply(&mut node.rtnl, &complete());
    assert!(matches!(&report.errors[..], [LinkError::Conflict { claimants, .. }] if claimants[0] == "node0"));
    let link = report.link.unwrap();
    assert_eq!(
        fdb_pairs(&mut node.rtnl, link),
        [(mac(2), underlay(Family::V4, 5))]
    );
    vxlan.remove_peer("node0");
    clean(vxlan.apply(&mut node.rtnl, &complete()));
    assert_eq!(
        fdb_pairs(&mut node.rtnl, link),
        [(mac(2), underlay(Family::V4, 2))]
    );
    // An event about an unrelated link means nothing.
    let lo = node.rtnl.require_link("lo").unwrap();
    assert!(!vxlan.on_event(&Event::Link(lo)));
}
