//! Hostile surroundings: somebody breaks what is ours, floods what we listen to, or takes links away in the middle of a
//! change. It is repaired in moments or said by name, and nobody else suffers.

use std::time::{Duration, Instant};

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{Sink, blocked, echo, flood, reaches, stream, talk},
    world::{LONG, Node, Pod, World},
};

/// Two pods of which the second is open at one port for the first, on a node where nothing but events helps.
fn two_pods(world: &World) -> (Node, Pod, Pod) {
    world.configure(json!({"nftablesRefreshInterval": "0s", "routeRefreshInterval": "0s"}));
    let (node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    let only_80 = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'a'"}, "destination": {"ports": [80]}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.only-80", only_80);
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    (node, a, b)
}

/// Our rules and the pods' routes as they should be: handles change, counters count, and a table has one of three names.
fn picture(node: &Node) -> String {
    let tables = node
        .sh("nft -s list ruleset")
        .replace(" caracal-b ", " caracal ")
        .replace(" caracal-c ", " caracal ");
    let routes = node.sh("ip route; ip -6 route show dev calia; ip -6 route show dev calib");
    format!("{tables}{routes}")
}

#[test]
fn netns_damage_is_repaired_in_moments() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = two_pods(&world);
    node.up();
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    let before = picture(&node);
    let mut worst = Duration::ZERO;
    for what in [
        "nft flush table ip caracal",
        "nft flush table ip6 caracal",
        "nft insert rule ip caracal filter-forward accept",
        "nft insert rule ip6 caracal filter-forward accept",
        "nft add rule ip caracal filter-forward drop",
        "nft flush chain ip6 caracal raw-prerouting; nft delete chain ip6 caracal raw-prerouting",
        "nft 'delete element ip caracal to-wl { \"calib\" }'",
        "nft 'add element ip6 caracal from-wl { \"calix\" : accept }'",
        "nft 'add chain ip caracal hole { type filter hook forward priority -10; policy accept; }'",
        "ip route del 10.65.0.2/32 dev calib",
        "ip -6 route replace fd65::2/128 dev calia",
        "nft flush ruleset",
    ] {
        // After a whole load the tables may have their other name.
        let name = node
            .sh("nft list tables")
            .split_whitespace()
            .nth(2)
            .unwrap_or("caracal")
            .to_owned();
        node.sh(&what.replace(" caracal ", &format!(" {name} ")));
        let start = Instant::now();
        eventually(LONG, || match picture(&node) {
            now if now == before => Ok(()),
            now => Err(format!("after {what}:\n{now}\ninstead of\n{before}")),
        });
        println!("-- {:4} ms: {what}", start.elapsed().as_millis());
        worst = worst.max(start.elapsed());
    }
    println!(
        "-- worst {} ms, with the time that looking takes",
        worst.as_millis()
    );
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
}

#[test]
fn netns_a_foreign_firewall_opens_nothing_and_keeps_what_it_closes() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = two_pods(&world);
    // One that accepts before and behind ours, and that closes a port.
    let firewall = "table inet firewall {
        chain early { type filter hook forward priority -150; policy accept; tcp dport 82 drop; accept; }
        chain late { type filter hook forward priority 150; policy accept; accept; }
    }";
    node.sh(&format!("nft '{firewall}'"));
    let before = node.sh("nft list table inet firewall");
    echo(&b.ns, 82);
    let open = json!({"order": 20, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [82]}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.open-82", open);
    node.up();
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    blocked(&a.ns, b.both(), 82);
    assert_eq!(node.sh("nft list table inet firewall"), before);
    // It goes, and ours is as it was.
    node.sh("nft delete table inet firewall");
    reaches(&a.ns, b.both(), 82);
    blocked(&a.ns, b.both(), 81);
}

/// More events than fit into what the agent listens with, while it does not listen.
fn overrun(node: &Node) {
    let elements: Vec<String> = (0..60_000)
        .map(|n| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255))
        .collect();
    let file = node.dir.join("elements");
    let text = format!(
        "table ip noise {{\nset s {{\ntype ipv4_addr\nelements = {{ {} }}\n}}\n}}\n",
        elements.join(", ")
    );
    std::fs::write(&file, text).unwrap();
    for _ in 0..4 {
        node.sh(&format!("nft -f {}; nft delete table ip noise", file.display()));
    }
    node.sh("for n in $(seq 3000); do echo \"address add 192.0.2.1/32 dev lo
address del 192.0.2.1/32 dev lo\"; done | ip -batch -");
}

#[test]
fn netns_what_happened_while_events_were_lost_is_found() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = two_pods(&world);
    node.up();
    reaches(&a.ns, b.both(), 80);
    let before = picture(&node);
    let agent = node.agent.as_ref().unwrap();
    agent.signal("STOP");
    overrun(&node);
    let lost = node.sh("awk 'NR > 1 { lost += $9 } END { print lost }' /proc/net/netlink");
    assert_ne!(lost.trim(), "0", "no event was lost");
    // Nobody tells of these: the events are lost.
    node.sh("nft flush chain ip caracal filter-forward
        nft 'delete element ip6 caracal to-wl { \"calib\" }'
        nft insert rule ip6 caracal filter-forward accept
        ip route del 10.65.0.2/32 dev calib
        ip -6 route del fd65::1/128 dev calia");
    agent.signal("CONT");
    let start = Instant::now();
    eventually(LONG, || match picture(&node) {
        now if now == before => Ok(()),
        now => Err(format!("{now}\ninstead of\n{before}")),
    });
    println!("-- {} ms after a flood of events", start.elapsed().as_millis());
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
}

#[test]
fn netns_links_that_go_in_the_middle_of_changes_harm_only_their_endpoint() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = two_pods(&world);
    let c = node.pod("c", "10.65.0.3", "fd65::3");
    c.announce(&world, json!({"app": "c"}));
    echo(&c.ns, 80);
    let closed = json!({"order": 5, "selector": "app == 'c'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'a'"}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.closed", closed);
    node.up();
    reaches(&a.ns, c.both(), 80);
    let streams = c.both().map(|to| stream(&a.ns, to, 80));
    let sink = Sink::new(&c.ns, 7);
    let denied = flood(&a.ns, c.both().to_vec(), 7);
    for round in 0..20 {
        let change = json!({"order": 20, "selector": "all()", "types": ["Ingress"],
            "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [2000 + round, 80]}}]});
        world.put(Kind::GlobalNetworkPolicy, "default.change", change);
        b.announce(&world, json!({"app": "b", "round": round.to_string()}));
        node.sh("ip link set calib down; ip link set calib name gone0; ip link set gone0 up");
        node.sh("ip link set gone0 down; ip link set gone0 name calib; ip link set calib up");
    }
    let is = |state: &str, why: &str| {
        eventually(LONG, || match node.endpoint(&b)? {
            (s, reason) if s == state && reason.contains(why) => Ok(()),
            other => Err(format!("{other:?}; wanted: {state} {why}")),
        });
    };
    is("up", "");
    reaches(&a.ns, b.both(), 80);
    node.sh("ip link set calib down; ip link set calib name gone0");
    is("down", "calib");
    node.sh("ip link set gone0 name calib; ip link set calib up");
    is("up", "");
    node.sh("ip link del calib");
    is("down", "calib");
    assert_eq!(node.endpoint(&c).unwrap().0, "up");
    // Nobody else noticed.
    for stream in streams {
        stream.more_rounds(20);
        assert_eq!(stream.end(), Ok(()));
    }
    denied.more_rounds(20);
    denied.end();
    assert_eq!(sink.arrived(), Vec::<std::net::IpAddr>::new());
    assert_eq!(node.health("readiness").unwrap().0, 200);
}

#[test]
fn netns_a_set_of_a_million_nets_is_in_force_and_the_agent_lives() {
    netns!(600);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = two_pods(&world);
    node.up();
    reaches(&a.ns, b.both(), 80);
    // A million at night; by day what takes a moment. Half of each family, single addresses that cannot be merged.
    let nightly = std::env::var_os("CARACAL_NIGHTLY").is_some();
    let (half, patience) = if nightly {
        (500_000_u32, 8 * LONG)
    } else {
        (10_000, LONG)
    };
    // An object must fit into one request.
    let parts = (half / 10_000).max(1);
    for part in 0..parts {
        let count = half / parts;
        let nets: Vec<String> = (part * count..(part + 1) * count)
            .flat_map(|n| {
                let n = n * 2;
                [
                    format!("11.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255),
                    format!("2001:db8::{:x}:{:x}/128", n >> 16, n & 0xffff),
                ]
            })
            .collect();
        let name = format!("large-{part}");
        world.put_with(
            Kind::GlobalNetworkSet,
            &name,
            json!({"labels": {"large": "yes"}}),
            json!({"nets": nets}),
        );
    }
    // One of its addresses is the sender's.
    let member = json!({"nets": ["10.65.0.1/32", "fd65::1/128"]});
    world.put_with(
        Kind::GlobalNetworkSet,
        "member",
        json!({"labels": {"large": "yes"}}),
        member,
    );
    let start = Instant::now();
    let deny = json!({"order": 1, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Deny", "source": {"selector": "large == 'yes'"}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.large", deny);
    for to in b.both() {
        eventually(patience, || match talk(&a.ns, to, 80) {
            Ok(_) => Err(format!("{to} is still reached")),
            Err(_) => Ok(()),
        });
    }
    println!("-- {} ms for {} nets", start.elapsed().as_millis(), 2 * half + 2);
    assert_eq!(node.health("liveness").unwrap().0, 200);
    world.delete(Kind::GlobalNetworkSet, "member");
    for to in b.both() {
        eventually(patience, || talk(&a.ns, to, 80).map(drop));
    }
    assert_eq!(node.endpoint(&b).unwrap().0, "up");
}
