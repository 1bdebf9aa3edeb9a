use caracal_link::{LinkChange, VethSpec};
use caracal_net::Family;
use caracal_route::Route;
use caracal_testkit::{needs, netns};

use crate::support::{Node, dev, ip, key, onlink, route};

fn workload() -> Node {
    let mut node = Node::new("node");
    node.routes.set(
        key("10.65.0.2/32"),
        Route {
            protocol: 3,
            ..route(dev("cali1"))
        },
    );
    node.routes.set(
        key("fd65::2/128"),
        Route {
            protocol: 3,
            ..route(dev("cali1"))
        },
    );
    node
}

fn ours(node: &Node) -> usize {
    node.show(Family::V4, "")
        .iter()
        .filter(|line| line.starts_with("10.65."))
        .count()
        + node
            .show(Family::V6, "")
            .iter()
            .filter(|line| line.starts_with("fd65:"))
            .count()
}

#[test]
fn netns_routes_wait_for_their_link() {
    netns!();
    needs!("ip");
    let mut node = workload();
    let report = node.apply_clean();
    assert_eq!((report.written, report.waiting), (0, 2));
    assert_eq!(node.routes.waiting().count(), 2);
    let spec = VethSpec {
        name: "cali1",
        peer_name: "peer",
        ..VethSpec::default()
    };
    node.rtnl.create_veth(&spec).unwrap();
    node.follow();
    assert!(!node.routes.is_pending(), "the link is down");
    node.rtnl.set_link("cali1", &LinkChange::up()).unwrap();
    node.follow_until_pending("link up");
    let report = node.apply_clean();
    assert_eq!((report.written, report.waiting), (2, 0));
    assert_eq!(ours(&node), 2);
}

#[test]
fn netns_routes_come_back_after_a_flap() {
    netns!();
    needs!("ip");
    let mut node = workload();
    node.veth("cali1");
    node.apply_clean();
    node.follow();
    for _ in 0..3 {
        node.ip("link set cali1 down");
        node.follow();
        assert_eq!(node.apply_clean().waiting, 2);
        assert_eq!(ours(&node), 0);
        node.ip("link set cali1 up");
        node.follow_until_pending("link up");
        assert_eq!(node.apply_clean().written, 2);
        assert_eq!(ours(&node), 2);
        // Both at once, seen late.
        node.ip("link set cali1 down");
        node.ip("link set cali1 up");
        node.follow_until_pending("flap");
        assert_eq!(node.apply_clean().written, 2);
        assert_eq!(ours(&node), 2);
    }
}

#[test]
fn netns_a_link_made_anew_gets_its_routes() {
    netns!();
    needs!("ip");
    let mut node = workload();
    node.veth("cali1");
    node.apply_clean();
    node.ip("link del cali1");
    node.veth("cali1");
    node.follow_until_pending("new link");
    assert_eq!(node.apply_clean().written, 2);
    assert_eq!(ours(&node), 2);
    // Under another name it is another link.
    node.ip("link set cali1 down");
    node.ip("link set cali1 name cali2");
    node.ip("link set cali2 up");
    node.follow();
    assert_eq!(node.apply_clean().waiting, 2);
    assert_eq!(ours(&node), 0);
    node.routes.set(
        key("10.65.0.2/32"),
        Route {
            protocol: 3,
            ..route(dev("cali2"))
        },
    );
    assert_eq!(node.apply_clean().written, 1);
}

#[test]
fn netns_a_workload_moves_to_another_link() {
    netns!();
    needs!("ip");
    let mut node = workload();
    node.veth("cali1");
    node.veth("cali2");
    node.apply_clean();
    for dst in ["10.65.0.2/32", "fd65::2/128"] {
        node.routes.set(
            key(dst),
            Route {
                protocol: 3,
                ..route(dev("cali2"))
            },
        );
    }
    let report = node.apply_clean();
    assert_eq!((report.written, report.deleted), (2, 0));
    assert!(
        node.show(Family::V4, "")
            .contains("10.65.0.2 dev cali2 scope link metric 1024")
    );
    assert!(
        node.show(Family::V6, "")
            .contains("fd65::2 dev cali2 metric 1024")
    );
    // To a link that does not exist yet: better no way than the wrong one.
    node.routes.set(
        key("10.65.0.2/32"),
        Route {
            protocol: 3,
            ..route(dev("cali3"))
        },
    );
    let report = node.apply_clean();
    assert_eq!((report.written, report.deleted, report.waiting), (0, 1, 1));
}

#[test]
fn netns_routes_come_back_after_their_source_address() {
    netns!();
    needs!("ip");
    let mut node = Node::new("node");
    node.veth("cali1");
    for (dst, gateway, source) in [
        ("10.65.1.0/26", "10.99.0.1", "10.1.0.1"),
        ("fd65:1::/122", "fd99::1", "fd01::1"),
    ] {
        node.address(
            "cali1",
            &format!("{source}/{}", if source.contains(':') { 64 } else { 24 }),
        );
        let sourced = Route {
            source: Some(ip(source)),
            ..route(onlink("cali1", gateway))
        };
        node.routes.set(key(dst), sourced);
    }
    node.apply_clean();
    node.follow();
    assert!(!node.routes.is_pending());
    let good: Vec<_> = Family::BOTH
        .iter()
        .map(|family| node.show(*family, "proto 80"))
        .collect();
    node.ip("addr del 10.1.0.1/24 dev cali1");
    node.ip("-6 addr del fd01::1/64 dev cali1");
    node.follow_until_pending("addresses gone");
    assert_eq!(
        node.apply().errors.len(),
        2,
        "there is no such source address now"
    );
    node.address("cali1", "10.1.0.1/24");
    node.address("cali1", "fd01::1/64");
    node.apply_clean();
    let now: Vec<_> = Family::BOTH
        .iter()
        .map(|family| node.show(*family, "proto 80"))
        .collect();
    assert_eq!(now, good);
}
