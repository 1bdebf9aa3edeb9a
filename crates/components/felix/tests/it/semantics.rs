//! What policy means for connections that the kernel knows, or is not to know (`docs/policy-semantics.md`).

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use caracal_api::Kind;
use caracal_testkit::{NetNs, eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{Peer, blocked, echo, reaches, stream},
    world::{LONG, Node, Pod, World, run, wire},
};

#[test]
fn netns_established_connections_survive_a_policy_that_denies_new_ones() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    echo(&b.ns, 80);
    node.up();
    reaches(&a.ns, b.both(), 80);
    let streams = b.both().map(|to| stream(&a.ns, to, 80));
    let closed = json!({"order": 1, "selector": "all()", "types": ["Ingress", "Egress"]});
    world.put(Kind::GlobalNetworkPolicy, "default.closed", closed);
    blocked(&a.ns, b.both(), 80);
    for stream in streams {
        stream.more_rounds(50);
        assert_eq!(stream.end(), Ok(()));
    }
}

#[test]
fn netns_untracked_traffic_leaves_no_connection() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let outside = world.node("out");
    wire(
        ("n1", &["172.20.0.1/24", "fd20::1/64"]),
        ("out", &["172.20.0.9/24", "fd20::9/64"]),
    );
    world.put(
        Kind::HostEndpoint,
        "h",
        json!({"node": "n1", "interfaceName": "eth0", "profiles": ["kns.default"]}),
    );
    let udp = |side: &str| json!([{"action": "Allow", "protocol": "UDP", side: {"ports": [7]}}]);
    let untracked = json!({"order": 1, "selector": "all()", "types": ["Ingress", "Egress"],
        "ingress": udp("destination"), "egress": udp("source"), "applyOnForward": true, "doNotTrack": true});
    world.put(Kind::GlobalNetworkPolicy, "default.untracked", untracked.clone());
    node.up();
    let server = Peer::new(&node.ns, 7);
    let client = Peer::new(&outside.ns, 5000);
    let known = || -> u32 {
        let text = node.sh("cat /proc/sys/net/netfilter/nf_conntrack_count");
        text.trim().parse().unwrap()
    };
    let here = ["172.20.0.1".parse().unwrap(), "fd20::1".parse().unwrap()];
    let before = known();
    for to in here {
        eventually(LONG, || client.ask(&server, to, 7));
    }
    assert_eq!(known(), before);
    // The same with tracking is known, so what was counted are connections.
    world.delete(Kind::GlobalNetworkPolicy, "default.untracked");
    eventually(LONG, || {
        for to in here {
            client.ask(&server, to, 7)?;
        }
        match known() {
            n if n >= before + 2 => Ok(()),
            n => Err(format!("{n} connections are known")),
        }
    });
}

/// A word by UDP from an address of one pod arrives at another.
fn arrives(from: &NetNs, source: IpAddr, to: &NetNs, at: IpAddr) -> Result<(), String> {
    let listener = to.run(|| UdpSocket::bind((at, 7))).unwrap().unwrap();
    listener
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let sent = from.run(|| UdpSocket::bind((source, 0)).and_then(|s| s.send_to(b"word", (at, 7))));
    sent.unwrap().map_err(|e| e.to_string())?;
    // Words of before may be late.
    loop {
        let (_, sender) = listener.recv_from(&mut [0; 16]).map_err(|e| e.to_string())?;
        if sender.ip() == source {
            return Ok(());
        }
    }
}

#[test]
fn netns_sources_that_a_workload_may_send_from() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    // The kernel's own check, which would hide whether the rules do it.
    let check = |whose: &str| format!("/proc/sys/net/ipv4/conf/{whose}/rp_filter");
    let set = |node: &Node, whose: &str, to: &str| {
        node.ns.run(|| std::fs::write(check(whose), to).unwrap()).unwrap();
    };
    set(&node, "all", "0");
    set(&node, "default", "0");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    let prefixes = json!({"allowSpoofedSourcePrefixes": ["10.77.0.0/24", "fd77::/64"]});
    a.announce_with(&world, json!({}), prefixes);
    b.announce(&world, json!({}));
    for (address, flag) in [
        ("10.77.0.5/32", ""),
        ("10.78.0.5/32", ""),
        ("fd77::5/128", "nodad"),
        ("fd78::5/128", "nodad"),
    ] {
        a.ns.run(|| run(&format!("ip addr add {address} dev lo {flag}")))
            .unwrap();
    }
    node.up();
    for pod in [&a, &b] {
        node.programmed(pod);
    }
    let named = ["10.77.0.5", "fd77::5"].map(|t| t.parse::<IpAddr>().unwrap());
    let others = ["10.78.0.5", "fd78::5"].map(|t| t.parse::<IpAddr>().unwrap());
    let closed = |sources: [IpAddr; 2]| {
        for ((source, own), at) in sources.into_iter().zip(a.both()).zip(b.both()) {
            eventually(LONG, || arrives(&a.ns, own, &b.ns, at));
            assert!(arrives(&a.ns, source, &b.ns, at).is_err(), "{source}");
        }
    };
    closed(named);
    closed(others);
    let checked = |pod: &Pod, want: &str| {
        eventually(LONG, || {
            let path = check(&pod.interface);
            let text = node.ns.run(|| std::fs::read_to_string(path)).unwrap();
            let text = text.map_err(|e| e.to_string())?;
            if text.trim() == want { Ok(()) } else { Err(text) }
        });
    };
    // A host that asks for it as well.
    for whose in ["default", &a.interface, &b.interface] {
        set(&node, whose, "1");
    }
    world.configure(json!({"workloadSourceSpoofing": "Any"}));
    for (source, at) in named.into_iter().zip(b.both()) {
        eventually(LONG, || arrives(&a.ns, source, &b.ns, at));
    }
    closed(others);
    checked(&a, "0");
    checked(&b, "1");
    // Prefixes that come while it is allowed.
    b.announce_with(
        &world,
        json!({}),
        json!({"allowSpoofedSourcePrefixes": ["10.79.0.0/24", "fd79::/64"]}),
    );
    for (source, flag, at) in [("10.79.0.5", "", a.both()[0]), ("fd79::5", "nodad", a.both()[1])] {
        b.ns.run(|| run(&format!("ip addr add {source} dev lo {flag}")))
            .unwrap();
        eventually(LONG, || arrives(&b.ns, source.parse().unwrap(), &a.ns, at));
    }
    // Those of b's that were IPv4 go: the kernel looks again.
    checked(&b, "0");
    b.announce_with(
        &world,
        json!({}),
        json!({"allowSpoofedSourcePrefixes": ["fd79::/64"]}),
    );
    checked(&b, "1");
    world.configure(json!({"workloadSourceSpoofing": "Disabled"}));
    checked(&a, "1");
    set(&node, &a.interface, "0");
    for (source, at) in named.into_iter().zip(b.both()) {
        eventually(LONG, || match arrives(&a.ns, source, &b.ns, at) {
            Ok(()) => Err("still let through".into()),
            Err(_) => Ok(()),
        });
    }
    closed(named);
}
