use std::collections::BTreeMap;

use caracal_link::Event;
use caracal_net::Family;
use caracal_route::{Ownership, Route, RouteKey, Routes, Target};
use caracal_testkit::{needs, netns};

use crate::support::{Node, complete, dev, key, onlink, route};

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
        node.apply();
        // After a multipath route of IPv6 a second look is due.
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

/// Numbers without a pattern, the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

#[test]
fn netns_whatever_happens_the_state_converges() {
    netns!(180);
    needs!("ip");
    const LINKS: [&str; 3] = ["cali1", "cali2", "eth0"];
    const DESTINATIONS: [[&str; 4]; 2] = [
        ["10.65.0.0/26", "10.65.1.0/26", "10.65.2.0/26", "10.65.3.0/26"],
        ["fd65::/122", "fd65:1::/122", "fd65:2::/122", "fd65:3::/122"],
    ];
    let mut node = Node::new("node");
    for link in LINKS {
        node.veth(link);
    }
    // Another game with CARACAL_TEST_SEED=NUMBER.
    let seed = std::env::var("CARACAL_TEST_SEED").map_or(0x2545_f491_4f6c_dd1d, |seed| seed.parse().unwrap());
    let mut dice = Dice(seed);
    let mut work = 0;
    for round in 0..300 {
        for _ in 0..=dice.roll(6) {
            let family = dice.roll(2);
            let (dst, link) = (dice.pick(&DESTINATIONS[family]), dice.pick(&LINKS));
            let (flag, gateway) = [("-4", "10.99.0.1"), ("-6", "fd99::1")][family];
            let stranger = match dice.roll(10) {
                0 => {
                    println!("{round}: nothing wanted at {dst}");
                    node.routes.remove(&key(dst));
                    continue;
                }
                1..=3 => {
                    let target = match dice.roll(3) {
                        0 => Target::Blackhole,
                        1 => dev(link),
                        _ => onlink(link, gateway),
                    };
                    println!("{round}: wanted {dst} {target}");
                    node.routes.set(key(dst), route(target));
                    continue;
                }
                4 => format!("{flag} route del {dst} metric 1024"),
                5 => format!(
                    "{flag} route replace {dst} dev {link} metric 1024 proto {}",
                    dice.pick(&["80", "bird"])
                ),
                6 => {
                    format!("{flag} route append {dst} via {gateway} dev {link} onlink metric 1024 proto 80")
                }
                7 => format!("{flag} route prepend {dst} dev {link} metric 1024 proto 80"),
                8 => format!("link set {link} {}", dice.pick(&["up", "down"])),
                _ => format!("link del {link}"),
            };
            // Much of it fails (there is nothing to delete, the link is down); that is part of the game.
            println!("{round}: {stranger}: {}", node.try_ip(&stranger).is_some());
            if stranger.starts_with("link del") {
                node.veth(link);
            }
        }
        let mut report = node.apply();
        work += report.written + report.deleted;
        if node.routes.is_pending() {
            report = node.apply();
        }
        assert!(report.errors.is_empty(), "round {round}: {:?}", report.errors);
        let wanted: BTreeMap<RouteKey, Route> = node.routes.wanted().clone();
        println!("{round}: {report:?}");
        println!("{:?} {:?}", node.show(Family::V4, ""), node.show(Family::V6, ""));
        let mut fresh = Routes::new(Ownership::default());
        fresh.replace_all(wanted);
        let fresh = fresh.apply(&mut node.rtnl, &complete());
        let difference = (fresh.written, fresh.deleted, fresh.waiting);
        assert_eq!(
            difference,
            (0, 0, report.waiting),
            "round {round}: a fresh start finds something to do"
        );
    }
    println!("{work} routes written or deleted");
    assert!(work > 150);
}
