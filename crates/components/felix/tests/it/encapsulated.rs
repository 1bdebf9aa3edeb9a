//! Packets in packets: those that workloads send, and whether connection tracking sees those of nodes.

use caracal_testkit::{NetNs, eventually, needs, netns};
use serde_json::json;

use crate::{
    nodes::pair,
    traffic::{echo, reaches},
    world::{LONG, Node, Pod, World, run, wire},
};

/// Sends one packet of each kind, to an address of either family.
const SEND: &str = r#"
import socket, sys
for dst in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in dst else socket.AF_INET
    for port in (4789, 4790):
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"packet", (dst, port))
    inner = bytes.fromhex("4500001400010000403b") + b"\0\0" + socket.inet_aton("10.65.2.9") + socket.inet_aton("10.65.1.9")
    socket.socket(family, socket.SOCK_RAW, 4).sendto(inner, (dst, 0))
"#;

/// Counts what arrives.
const SEEN: &str = "table inet seen {
    counter vxlan_v4 { }
    counter vxlan_v6 { }
    counter ipip_v4 { }
    counter ipip_v6 { }
    counter other_v4 { }
    counter other_v6 { }
    chain in {
        type filter hook prerouting priority -300;
        meta nfproto ipv4 udp dport 4789 counter name vxlan_v4
        meta nfproto ipv6 udp dport 4789 counter name vxlan_v6
        ip protocol 4 counter name ipip_v4
        ip6 nexthdr 4 counter name ipip_v6
        meta nfproto ipv4 udp dport 4790 counter name other_v4
        meta nfproto ipv6 udp dport 4790 counter name other_v6
    }
}";

/// Counts tunnel packets by whether they are tracked, behind all that may have said so.
const TRACKED: &str = "table inet tracked {
    counter untracked_in { }
    counter untracked_out { }
    counter tracked { }
    chain in {
        type filter hook input priority 100;
        udp dport 4789 ct state untracked counter name untracked_in
        udp dport 4789 ct state != untracked counter name tracked
    }
    chain out {
        type filter hook output priority 100;
        udp dport 4789 ct state untracked counter name untracked_out
        udp dport 4789 ct state != untracked counter name tracked
    }
}";

fn counted(ns: &NetNs, table: &str, counter: &str) -> u64 {
    let text = ns
        .run(|| run(&format!("nft list counter inet {table} {counter}")))
        .unwrap();
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// What of a pod's packets arrives: VXLAN and IP-in-IP by family. Others arrive in any case.
fn arrives(node: &Node, pod: &Pod, outside: &NetNs) -> Result<[bool; 4], String> {
    let names = [
        "vxlan_v4", "vxlan_v6", "ipip_v4", "ipip_v6", "other_v4", "other_v6",
    ];
    let count = || names.map(|name| counted(outside, "seen", name));
    let before = count();
    let script = node.dir.join("send.py");
    std::fs::write(&script, SEND).unwrap();
    let line = format!("python3 {} 192.0.2.9 2001:db8::9", script.display());
    pod.ns.run(|| run(&line)).unwrap();
    let after = count();
    let came: Vec<bool> = before.iter().zip(after).map(|(b, a)| a > *b).collect();
    match came[..] {
        [a, b, c, d, true, true] => Ok([a, b, c, d]),
        _ => Err(format!("{names:?}: {came:?}")),
    }
}

#[test]
fn netns_workloads_send_tunnel_packets_only_where_that_is_allowed() {
    netns!(120);
    needs!("root", "ip", "nft", "sh", "python3");
    let world = World::new();
    let mut node = world.node("n1");
    let outside = NetNs::create("outside").unwrap();
    wire(
        ("n1", &["192.0.2.1/24", "2001:db8::1/64"]),
        ("outside", &["192.0.2.9/24", "2001:db8::9/64"]),
    );
    run(&format!(
        "ip -n outside route add 10.65.0.0/16 via 192.0.2.1
         ip -n outside -6 route add fd65::/64 via 2001:db8::1
         ip netns exec outside nft -f - <<'END'\n{SEEN}\nEND"
    ));
    let pod = node.pod("a", "10.65.0.1", "fd65::1");
    pod.announce(&world, json!({}));
    node.up();
    node.programmed(&pod);
    let becomes = |wanted: [bool; 4]| {
        eventually(LONG, || match arrives(&node, &pod, &outside)? {
            now if now == wanted => Ok(()),
            now => Err(format!("{now:?}, not {wanted:?}")),
        });
    };
    becomes([false; 4]);
    world.configure(json!({"allowVXLANPacketsFromWorkloads": true}));
    becomes([true, true, false, false]);
    world.configure(json!({"allowIPIPPacketsFromWorkloads": true}));
    becomes([false, false, true, true]);
    world.configure(json!({"vxlanPort": 4790, "allowIPIPPacketsFromWorkloads": true}));
    // Another port is the tunnel's now: the old one is anybody's.
    eventually(LONG, || match arrives(&node, &pod, &outside) {
        Err(e) if e.contains("[true, true, true, true, false, false]") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn netns_tunnels_between_nodes_are_not_tracked() {
    netns!(180);
    needs!("root", "ip", "nft", "sh", "link:vxlan");
    let world = World::new();
    let mut nodes = pair(&world);
    let a = nodes[0].pod("a", "10.65.1.2", "fd65::1:2");
    let b = nodes[1].pod("b", "10.65.2.2", "fd65::2:2");
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    for node in &mut nodes {
        node.up();
        node.sh(&format!("nft -f - <<'END'\n{TRACKED}\nEND"));
    }
    reaches(&a.ns, b.both(), 80);
    for node in &nodes {
        let count = |name| counted(&node.ns, "tracked", name);
        assert!(count("untracked_in") > 0 && count("untracked_out") > 0);
        assert_eq!(count("tracked"), 0, "{}", node.name);
    }
}
