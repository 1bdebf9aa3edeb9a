use caracal_link::Event;
use caracal_net::Family;
use caracal_route::{RouteKey, Target};
use caracal_testkit::{needs, netns};

use crate::support::{Node, dev, key, onlink, route};

fn node() -> Node {
    let mut node = Node::new("node");
    node.veth("cali1");
    node.address("cali1", "10.1.0.1/24");
    node.address("cali1", "fd01::1/64");
    node.routes.set(key("10.65.0.0/26"), route(Target::Blackhole));
    node.routes
        .set(key("10.65.1.0/26"), route(onlink("cali1", "10.99.0.1")));
    node.routes.set(key("fd65::/122"), route(Target::Blackhole));
    node.routes
        .set(key("fd65:1::/122"), route(onlink("cali1", "fd99::1")));
    node.apply_clean();
    node.follow();
    assert!(!node.routes.is_pending());
    node
}

#[test]
fn netns_what_a_stranger_breaks_is_repaired() {
    netns!();
    needs!("ip");
    let mut node = node();
    let good: Vec<_> = Family::BOTH.iter().map(|family| node.show(*family, "")).collect();
    for breakage in [
        "route del 10.65.1.0/26",
        "route del blackhole 10.65.0.0/26",
        "route replace 10.65.1.0/26 dev cali1 metric 1024",
        "route replace 10.65.1.0/26 via 10.1.0.7 metric 1024 proto 80",
        "route replace unreachable 10.65.1.0/26 metric 1024 proto 80",
        "route add 10.67.0.0/26 dev cali1 proto 80",
        "-6 route del fd65:1::/122",
        "-6 route del blackhole fd65::/122 metric 1024",
        "-6 route replace fd65:1::/122 dev cali1 metric 1024",
        "-6 route replace fd65:1::/122 via fd01::7 metric 1024 proto 80",
        "-6 route append fd65:1::/122 via fd01::7 metric 1024 proto 80",
        "-6 route add fd67::/122 dev cali1 proto 80",
    ] {
        node.ip(breakage);
        node.follow_until_pending(breakage);
        node.apply_clean();
        let now: Vec<_> = Family::BOTH.iter().map(|family| node.show(*family, "")).collect();
        assert_eq!(now, good, "after {breakage}");
        node.follow();
        assert!(
            !node.routes.is_pending(),
            "own writes give no work, after {breakage}"
        );
    }
}

#[test]
fn netns_a_strangers_other_routes_give_no_work() {
    netns!();
    needs!("ip");
    let mut node = node();
    for line in [
        "route add 10.65.1.0/26 dev cali1 metric 7",
        "route add 10.65.1.0/26 dev cali1 table 77 metric 1024",
        "route add 10.68.0.0/24 dev cali1 proto bird",
        "-6 route add fd65:1::/122 dev cali1 metric 7 proto static",
    ] {
        node.ip(line);
        node.follow();
        // The first is `boot` through a workload's link, so ours to remove.
        let ours = node.routes.is_pending();
        assert_eq!(ours, line.ends_with("metric 7"), "{line}");
        let report = node.apply_clean();
        assert_eq!((report.written, report.deleted), (0, usize::from(ours)), "{line}");
    }
}

#[test]
fn netns_what_was_missed_is_found_after_an_overrun() {
    netns!();
    needs!("ip");
    let mut node = node();
    let stray = RouteKey::main("10.67.0.0/26".parse().unwrap(), 0);
    node.ip("route del 10.65.1.0/26");
    node.ip("route add 10.67.0.0/26 dev cali1 proto 80");
    // The events of these changes are thrown away, as the kernel does when the buffer is full.
    node.monitor.drain().unwrap();
    assert!(!node.routes.is_pending());
    assert!(node.routes.on_event(&Event::Overrun));
    let report = node.apply_clean();
    assert_eq!((report.written, report.deleted), (1, 1));
    node.routes.set(stray, route(dev("cali1")));
    assert_eq!(node.apply_clean().written, 1);
}
