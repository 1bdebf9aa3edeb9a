//! Tunnels between nodes, beside policy of hosts.

use caracal_api::Kind;
use caracal_testkit::{eventually, missing, needs, netns};
use serde_json::json;

use crate::{
    nodes::{block, pair},
    traffic::{blocked, echo, reaches},
    world::{LONG, Node, World},
};

/// Sends a packet of a tunnel: what kind, from where, to where.
const SEND: &str = r#"
import socket, sys
kind, src, dst = sys.argv[1:]
proto, what = {"vxlan": (socket.SOCK_DGRAM, 0), "ipip": (socket.SOCK_RAW, 4)}[kind]
s = socket.socket(socket.AF_INET6 if ":" in src else socket.AF_INET, proto, what)
s.bind((src, 0))
s.sendto(bytes.fromhex("4500001400010000403b") + b"\0\0" + socket.inet_aton("10.65.2.9") + socket.inet_aton("10.65.1.9"), (dst, 4789 if kind == "vxlan" else 0))
"#;

/// Counts what has come in past all other rules.
const SEEN: &str = "table inet seen {
    counter vxlan_node { }
    counter vxlan_stranger { }
    counter ipip_node { }
    counter ipip_stranger { }
    counter ipip_elsewhere { }
    chain in {
        type filter hook input priority 100;
        udp dport 4789 ip saddr 172.20.0.2 counter name vxlan_node
        udp dport 4789 ip6 saddr fd20::2 counter name vxlan_node
        udp dport 4789 ip saddr 172.20.0.99 counter name vxlan_stranger
        udp dport 4789 ip6 saddr fd20::99 counter name vxlan_stranger
        ip protocol 4 ip saddr 172.20.0.2 counter name ipip_node
        ip protocol 4 ip saddr 172.20.0.99 counter name ipip_stranger
        ip protocol 4 ip saddr 172.20.0.1 ip daddr 172.20.0.2 counter name ipip_node
        ip protocol 4 ip saddr 172.20.0.1 ip daddr 172.20.0.99 counter name ipip_elsewhere
    }
}";

fn packets(node: &Node, table: &str, counter: &str) -> u64 {
    let text = node.sh(&format!(
        "nft list counter {table} '\"{counter}\"' 2>/dev/null || nft list counter {table} {counter}"
    ));
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

#[test]
fn netns_tunnels_of_nodes_pass_closed_host_endpoints_and_those_of_strangers_end() {
    netns!(240);
    needs!("root", "ip", "nft", "sh", "python3", "link:vxlan");
    let world = World::new();
    let mut nodes = pair(&world);
    let a = nodes[0].pod("a", "10.65.1.2", "fd65::1:2");
    let b = nodes[1].pod("b", "10.65.2.2", "fd65::2:2");
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    echo(&nodes[1].ns, 7777);
    let hosts = ["172.20.0.2".parse().unwrap(), "fd20::2".parse().unwrap()];
    for node in &mut nodes {
        node.up();
    }
    reaches(&nodes[0].ns, hosts, 7777);
    reaches(&a.ns, b.both(), 80);
    // Closed but for failsafe ports, and no policy says anything about tunnels.
    for node in ["n1", "n2"] {
        world.put(
            Kind::HostEndpoint,
            node,
            json!({"node": node, "interfaceName": "eth0"}),
        );
    }
    blocked(&nodes[0].ns, hosts, 7777);
    reaches(&a.ns, b.both(), 80);
    // Somebody else on the wire, whom the other node lends its own.
    nodes[1].sh("ip address add 172.20.0.99/24 dev eth0; ip address add fd20::99/64 dev eth0 nodad");
    for node in &nodes {
        for (file, text) in [("send.py", SEND), ("seen.nft", SEEN)] {
            std::fs::write(node.dir.join(file), text).unwrap();
        }
        node.sh(&format!("nft -f {}", node.dir.join("seen.nft").display()));
    }
    let send = |node: &Node, words: &str| {
        // What is not let out is told to who sends it.
        node.sh(&format!(
            "python3 {} {words} 2>/dev/null || true",
            node.dir.join("send.py").display()
        ));
    };
    let seen = |node: &Node, counter: &str| packets(node, "inet seen", counter);
    let stopped = |node: &Node, counter: &str| packets(node, "ip caracal", counter);
    let (one, two) = (&nodes[0], &nodes[1]);
    for (from, to) in [("172.20.0.2", "172.20.0.1"), ("fd20::2", "fd20::1")] {
        let before = seen(one, "vxlan_node");
        eventually(LONG, || {
            send(two, &format!("vxlan {from} {to}"));
            match seen(one, "vxlan_node") {
                n if n > before => Ok(()),
                _ => Err(format!("no packet of the tunnel from {from}")),
            }
        });
    }
    for (from, to, table) in [
        ("172.20.0.99", "172.20.0.1", "ip caracal"),
        ("fd20::99", "fd20::1", "ip6 caracal"),
    ] {
        eventually(LONG, || {
            send(two, &format!("vxlan {from} {to}"));
            match packets(one, table, "wall/vxlan-stranger.in.deny") {
                0 => Err(format!("{from} was not stopped")),
                _ => Ok(()),
            }
        });
    }
    assert_eq!(seen(one, "vxlan_stranger"), 0);
    // IP-in-IP likewise, once a pool asks for it.
    let spec = json!({"cidr": "10.65.0.0/16", "ipipMode": "Always", "vxlanMode": "Never", "natOutgoing": true, "blockSize": 26});
    world.put(Kind::IpPool, "p4", spec);
    eventually(LONG, || {
        send(two, "ipip 172.20.0.99 172.20.0.1");
        match stopped(one, "wall/ipip-stranger.in.deny") {
            0 => Err("it was not stopped".into()),
            _ => Ok(()),
        }
    });
    eventually(LONG, || {
        send(two, "ipip 172.20.0.2 172.20.0.1");
        send(one, "ipip 172.20.0.1 172.20.0.99");
        send(one, "ipip 172.20.0.1 172.20.0.2");
        match (seen(one, "ipip_node"), seen(two, "ipip_node")) {
            (1.., 1..) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    });
    assert_eq!(seen(one, "ipip_stranger"), 0);
    assert_eq!(seen(two, "ipip_elsewhere"), 0, "no node, no exception");
}

#[test]
fn netns_without_ip_in_ip_in_the_kernel_it_is_named_and_nothing_else_suffers() {
    netns!(240);
    needs!("root", "ip", "nft", "sh", "link:vxlan");
    needs!(if missing(&["link:ipip"]).is_some(), "a kernel without ipip");
    let world = World::new();
    let mut nodes = pair(&world);
    let pool = |mode: &str| {
        let spec = json!({"cidr": "10.66.0.0/16", "ipipMode": mode, "vxlanMode": "Never", "blockSize": 26});
        world.put(Kind::IpPool, "by-ipip", spec);
    };
    pool("Always");
    for n in [1, 2] {
        let name = format!("n{n}");
        let spec = json!({
            "bgp": {"ipv4Address": format!("172.20.0.{n}/24"), "ipv6Address": format!("fd20::{n}/64"),
                    "ipv4IPIPTunnelAddr": format!("10.66.{n}.0")},
            "ipv4VXLANTunnelAddr": format!("10.65.{n}.0"), "vxlanTunnelMACAddr": format!("66:00:00:00:00:0{n}"),
            "ipv6VXLANTunnelAddr": format!("fd65::{n}:0"), "vxlanTunnelMACAddrV6": format!("66:00:00:00:06:0{n}"),
        });
        world.put(Kind::Node, &name, spec);
        block(&world, &name, &format!("10.66.{n}.0/26"));
    }
    let a = nodes[0].pod("a", "10.65.1.2", "fd65::1:2");
    let b = nodes[1].pod("b", "10.65.2.2", "fd65::2:2");
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    for node in &mut nodes {
        node.up();
    }
    for node in &nodes {
        eventually(LONG, || match node.health("readiness")? {
            (200, text) if text.contains("tunl0") && text.contains("does not know IP-in-IP") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    // Everything else goes on, also what comes later.
    nodes[0].programmed(&a);
    reaches(&a.ns, b.both(), 80);
    let late = nodes[0].pod("late", "10.65.1.3", "fd65::1:3");
    late.announce(&world, json!({}));
    nodes[0].programmed(&late);
    reaches(&late.ns, b.both(), 80);
    nodes[0].sh("ip route del 10.65.2.0/26; ip link del vxlan.calico");
    reaches(&late.ns, b.both(), 80);
    let shown = nodes[0].sh("ip route");
    assert!(!shown.contains("10.66.2.0"), "no way there: {shown}");
    // Packets of such a tunnel meet their rules all the same.
    assert!(nodes[0].sh("nft list table ip caracal").contains("ipip-hosts"));
    // Done without, all is well again.
    pool("Never");
    for node in &nodes {
        eventually(LONG, || match node.health("readiness")? {
            (200, text) if !text.contains("IP-in-IP") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}
