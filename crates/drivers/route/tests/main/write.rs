use std::collections::BTreeMap;
use std::time::Instant;

use caracal_net::{Cidr, Family};
use caracal_route::{Owned, Ownership, Route, RouteError, RouteKey, Routes, Target};
use caracal_testkit::{needs, netns};

use crate::support::{Node, dev, ip, key, onlink, route};

fn wanted() -> BTreeMap<RouteKey, Route> {
    let sourced = |source: &str| Route {
        source: Some(ip(source)),
        mtu: Some(1400),
        ..route(dev("cali1"))
    };
    let far = |gateway: &str| {
        route(Target::Via {
            link: "cali1".to_owned(),
            gateway: ip(gateway),
            onlink: false,
        })
    };
    BTreeMap::from([
        (key("10.65.0.0/26"), route(Target::Blackhole)),
        (key("10.65.0.64/26"), route(Target::Unreachable)),
        (key("10.65.0.128/26"), route(Target::Prohibit)),
        (key("10.65.0.192/26"), route(Target::Throw)),
        (
            key("10.65.0.2/32"),
            Route {
                protocol: 3,
                ..route(dev("cali1"))
            },
        ),
        (key("10.65.1.0/26"), route(onlink("cali1", "10.99.0.1"))),
        (key("10.65.2.0/26"), far("10.1.0.9")),
        (key("10.65.3.0/26"), sourced("10.1.0.1")),
        (
            RouteKey::new(700, "10.65.4.0/26".parse().unwrap(), 0),
            route(dev("cali1")),
        ),
        (key("0.0.0.0/0"), far("10.1.0.9")),
        (key("fd65::/122"), route(Target::Blackhole)),
        (key("fd65::40/122"), route(Target::Unreachable)),
        (key("fd65::80/122"), route(Target::Prohibit)),
        (key("fd65::c0/122"), route(Target::Throw)),
        (
            key("fd65::2/128"),
            Route {
                protocol: 3,
                ..route(dev("cali1"))
            },
        ),
        (key("fd65:1::/122"), route(onlink("cali1", "fd99::1"))),
        (key("fd65:2::/122"), far("fd01::9")),
        (key("fd65:3::/122"), sourced("fd01::1")),
        (
            RouteKey::new(700, "fd65:4::/122".parse().unwrap(), 0),
            route(dev("cali1")),
        ),
        (key("::/0"), far("fd01::9")),
    ])
}

fn ownership() -> Ownership {
    let mut ownership = Ownership::default();
    ownership.tables.insert(700);
    ownership
}

fn node() -> Node {
    let mut node = Node::owning("node", ownership());
    node.veth("cali1");
    node.address("cali1", "10.1.0.1/24");
    node.address("cali1", "fd01::1/64");
    node
}

#[test]
fn netns_every_sort_of_route_is_written_and_known_again() {
    netns!();
    needs!("ip");
    let mut node = node();
    node.routes.replace_all(wanted());
    assert_eq!(node.apply_clean().written, wanted().len());
    assert_eq!(node.apply_clean().written, 0);
    for (family, expected) in [
        (
            Family::V4,
            [
                "blackhole 10.65.0.0/26 proto 80 metric 1024",
                "10.65.0.2 dev cali1 scope link metric 1024",
                "10.65.1.0/26 via 10.99.0.1 dev cali1 proto 80 metric 1024 onlink",
                "10.65.2.0/26 via 10.1.0.9 dev cali1 proto 80 metric 1024",
                "10.65.3.0/26 dev cali1 proto 80 scope link src 10.1.0.1 metric 1024 mtu 1400",
                "10.1.0.0/24 dev cali1 proto kernel scope link src 10.1.0.1",
            ],
        ),
        (
            Family::V6,
            [
                "blackhole fd65::/122 dev lo proto 80 metric 1024",
                "fd65::2 dev cali1 metric 1024",
                "fd65:1::/122 via fd99::1 dev cali1 proto 80 metric 1024 onlink",
                "fd65:2::/122 via fd01::9 dev cali1 proto 80 metric 1024",
                "fd65:3::/122 dev cali1 proto 80 src fd01::1 metric 1024 mtu 1400",
                "fd01::/64 dev cali1 proto kernel metric 256",
            ],
        ),
    ] {
        let shown = node.show(family, "");
        for line in expected {
            assert!(shown.contains(line), "no {line:?} in {shown:#?}");
        }
        assert_eq!(node.show(family, "table 700").len(), 1);
    }
    // A new process finds all in order, and one that wants nothing removes ours and only ours.
    node.routes = Routes::new(ownership());
    node.routes.replace_all(wanted());
    let report = node.apply_clean();
    assert_eq!((report.written, report.deleted), (0, 0));
    node.routes = Routes::new(ownership());
    assert_eq!(node.apply_clean().deleted, wanted().len());
    assert!(
        node.show(Family::V4, "")
            .contains("10.1.0.0/24 dev cali1 proto kernel scope link src 10.1.0.1")
    );
    assert!(
        node.show(Family::V6, "")
            .contains("fd01::/64 dev cali1 proto kernel metric 256")
    );
}

#[test]
fn netns_a_route_changes_in_place() {
    netns!();
    needs!("ip");
    let mut node = node();
    for dst in ["10.65.1.0/26", "fd65:1::/122"] {
        let gateway = if dst.contains(':') { "fd99::1" } else { "10.99.0.1" };
        let sorts = [
            dev("cali1"),
            onlink("cali1", gateway),
            Target::Blackhole,
            onlink("cali1", gateway),
            Target::Throw,
            dev("cali1"),
        ];
        for target in sorts {
            node.routes.set(key(dst), route(target.clone()));
            let report = node.apply_clean();
            assert_eq!((report.written, report.deleted), (1, 0), "{dst} {target}");
            // Amnesia: what the kernel has is what was wanted.
            node.routes.resync();
            let report = node.apply_clean();
            assert_eq!((report.written, report.deleted), (0, 0), "{dst} {target}");
        }
        node.routes.remove(&key(dst));
        assert_eq!(node.apply_clean().deleted, 1);
    }
}

#[test]
fn netns_foreign_routes_stay() {
    netns!();
    needs!("ip");
    let mut node = node();
    node.veth("eth0");
    node.address("eth0", "172.30.0.1/24");
    node.address("eth0", "fd30::1/64");
    let foreign = [
        "route add 10.70.0.0/24 via 172.30.0.9 proto bird",
        "route add 10.71.0.0/24 dev cali1 proto static",
        "route add blackhole 10.72.0.0/24",
        "route add 10.73.0.0/24 dev cali1 proto 80 table 99",
        "route add default via 172.30.0.9",
        "-6 route add fd70::/64 via fd30::9 proto bird",
        "-6 route add fd71::/64 dev cali1 proto static",
        "-6 route add blackhole fd72::/64",
    ];
    for line in foreign {
        node.ip(line);
    }
    node.ip("route add 10.80.0.0/24 dev eth0 proto 80");
    node.ip("-6 route add fd80::/64 dev eth0 proto 80");
    node.ip("route add 10.81.0.2 dev cali1 proto boot");
    let before: Vec<_> = Family::BOTH
        .iter()
        .map(|family| node.show(*family, "table all"))
        .collect();
    node.routes.set(key("10.65.1.0/26"), route(Target::Blackhole));
    let report = node.apply_clean();
    assert_eq!(
        (report.written, report.deleted),
        (1, 3),
        "ours that nobody wants are deleted"
    );
    node.routes.remove(&key("10.65.1.0/26"));
    node.apply_clean();
    for (family, before) in Family::BOTH.iter().zip(before) {
        let after = node.show(*family, "table all");
        let gone: Vec<_> = before.difference(&after).collect();
        let ours = if *family == Family::V4 { 2 } else { 1 };
        assert_eq!(gone.len(), ours, "{gone:?}");
        assert!(after.is_subset(&before));
    }
}

#[test]
fn netns_all_of_a_workloads_link_can_be_ours() {
    netns!();
    needs!("ip");
    let mut node = Node::owning("node", Ownership::calico(&["cali"], 3, true));
    node.veth("cali1");
    node.address("cali1", "fd01::1/64");
    node.ip("route add 10.71.0.0/24 dev cali1 proto static");
    node.ip("-6 route add fd71::/64 dev cali1 proto static");
    assert_eq!(node.apply_clean().deleted, 2);
    assert!(
        node.show(Family::V6, "")
            .contains("fd01::/64 dev cali1 proto kernel metric 256")
    );
    let rules = vec![Owned::Protocol(81)];
    node.routes = Routes::new(Ownership {
        rules,
        ..Ownership::default()
    });
    assert_eq!(node.apply_clean().deleted, 0);
}

#[test]
fn netns_a_refused_route_is_named_and_the_others_are_written() {
    netns!();
    let mut node = node();
    let unreachable = Target::Via {
        link: "cali1".to_owned(),
        gateway: ip("192.0.2.1"),
        onlink: false,
    };
    node.routes.set(key("10.66.0.0/26"), route(unreachable));
    node.routes.set(
        key("fd66::/122"),
        Route {
            source: Some(ip("fd01::77")),
            ..route(dev("cali1"))
        },
    );
    node.routes
        .replace_all(node.routes.wanted().clone().into_iter().chain(wanted()).collect());
    let report = node.apply();
    assert_eq!(report.written, wanted().len());
    let texts: Vec<_> = report.errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains("10.66.0.0/26 (table 254, metric 1024) via 192.0.2.1 dev cali1"),
        "{texts:?}"
    );
    assert!(texts[1].contains("fd66::/122"), "{texts:?}");
    assert!(matches!(report.errors[0], RouteError::Write { .. }));
    assert!(node.routes.is_pending());
    // They are written once the reason is gone.
    node.address("cali1", "192.0.2.2/24");
    node.address("cali1", "fd01::77/64");
    assert_eq!(node.apply_clean().written, 2);
}

#[test]
fn netns_many_routes_at_once() {
    netns!(120);
    let mut node = node();
    for count in [500u128, 10_000] {
        let block: Cidr = "10.128.0.0/9".parse().unwrap();
        let block6: Cidr = "fd77::/64".parse().unwrap();
        let half = (0..count / 2).flat_map(|number| [block.nth(number * 64), block6.nth(number * 64)]);
        let all: BTreeMap<_, _> = half
            .map(|addr| {
                let addr = addr.unwrap();
                let (len, gateway) = if addr.is_ipv4() {
                    (26, "10.99.0.1")
                } else {
                    (122, "fd99::1")
                };
                (
                    RouteKey::main(Cidr::new(addr, len), 1024),
                    route(onlink("cali1", gateway)),
                )
            })
            .collect();
        node.routes = Routes::new(ownership());
        node.apply_clean();
        let begin = Instant::now();
        node.routes.replace_all(all.clone());
        let desired = begin.elapsed();
        let report = node.apply_clean();
        println!(
            "{count} routes: desired {desired:?}, with writing {:?}",
            begin.elapsed()
        );
        assert_eq!(report.written, all.len());
        let begin = Instant::now();
        node.routes.resync();
        assert_eq!(node.apply_clean().written, 0);
        println!("{count} routes: read back {:?}", begin.elapsed());
        let begin = Instant::now();
        node.routes.replace_all(BTreeMap::new());
        assert_eq!(node.apply_clean().deleted, all.len());
        println!("{count} routes: deleted {:?}", begin.elapsed());
    }
}
