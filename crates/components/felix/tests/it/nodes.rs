//! Two nodes with VXLAN between them.

use std::net::IpAddr;

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{blocked, echo, reaches, stream},
    world::{LONG, Node, World, wire},
};

/// A block of addresses that belongs to a node, nothing assigned.
pub(crate) fn block(world: &World, node: &str, cidr: &str) {
    let name = cidr.replace(['.', ':', '/'], "-");
    let spec = json!({
        "cidr": cidr, "affinity": format!("host:{node}"), "allocations": vec![None::<usize>; 64],
        "unallocated": (0..64).collect::<Vec<_>>(), "attributes": [], "deleted": false, "strictAffinity": false,
    });
    world.put(Kind::IpamBlock, &name, spec);
}

/// Number `n` of the nodes, with its object, its blocks and the address of its tunnel.
fn member(world: &World, n: usize) -> Node {
    let name = format!("n{n}");
    world.put(
        Kind::Node,
        &name,
        json!({
            "bgp": {"ipv4Address": format!("172.20.0.{n}/24"), "ipv6Address": format!("fd20::{n}/64")},
            "ipv4VXLANTunnelAddr": format!("10.65.{n}.0"), "vxlanTunnelMACAddr": format!("66:00:00:00:00:0{n}"),
            "ipv6VXLANTunnelAddr": format!("fd65::{n}:0"), "vxlanTunnelMACAddrV6": format!("66:00:00:00:06:0{n}"),
        }),
    );
    block(world, &name, &format!("10.65.{n}.0/26"));
    block(world, &name, &format!("fd65::{n}:0/122"));
    world.node(&name)
}

pub(crate) fn pair(world: &World) -> [Node; 2] {
    for (name, cidr, size) in [("p4", "10.65.0.0/16", 26), ("p6", "fd65::/96", 122)] {
        let spec = json!({"cidr": cidr, "vxlanMode": "Always", "ipipMode": "Never", "natOutgoing": true, "blockSize": size});
        world.put(Kind::IpPool, name, spec);
    }
    let nodes = [1, 2].map(|n| member(world, n));
    wire(
        ("n1", &["172.20.0.1/24", "fd20::1/64"]),
        ("n2", &["172.20.0.2/24", "fd20::2/64"]),
    );
    nodes
}

#[test]
fn netns_vxlan_between_two_nodes() {
    netns!(180);
    needs!("root", "ip", "nft", "sh", "link:vxlan");
    let world = World::new();
    let mut nodes = pair(&world);
    let a = nodes[0].pod("a", "10.65.1.2", "fd65::1:2");
    let b = nodes[1].pod("b", "10.65.2.2", "fd65::2:2");
    a.announce(&world, json!({"app": "a"}));
    b.announce(&world, json!({"app": "b"}));
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    echo(&a.ns, 80);
    for node in &mut nodes {
        node.up();
    }
    reaches(&a.ns, b.both(), 80);
    reaches(&b.ns, a.both(), 80);
    // A node reaches pods of the other one, through the tunnel.
    reaches(&nodes[0].ns, b.both(), 80);
    let only_80 = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'a'"}, "destination": {"ports": [80]}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.only-80", only_80);
    blocked(&a.ns, b.both(), 81);
    blocked(&nodes[0].ns, b.both(), 80);
    // The MTU leaves room for the outer headers.
    let mtu = std::fs::read_to_string(nodes[0].dir.join("lib/mtu")).unwrap();
    assert_eq!(mtu.trim(), "1430");
    assert!(nodes[0].sh("ip -d link show vxlan.calico").contains("mtu 1450"));
    // An agent that dies takes no connection with it, on neither side.
    let allowed = b.both().map(|to| stream(&a.ns, to, 80));
    for node in &mut nodes {
        node.kill();
        node.up();
    }
    for stream in allowed {
        stream.more_rounds(20);
        assert_eq!(stream.end(), Ok(()));
    }
    // What belongs to the tunnel comes back.
    for what in [
        "ip link del vxlan.calico; ip link del vxlan-v6.calico",
        "ip neighbour flush dev vxlan.calico; ip -6 neighbour flush dev vxlan-v6.calico",
        "bridge fdb del 66:00:00:00:00:02 dev vxlan.calico; bridge fdb del 66:00:00:00:06:02 dev vxlan-v6.calico",
        "ip route del 10.65.2.0/26; ip -6 route del fd65::2:0/122",
        "ip link set vxlan.calico down; ip link set vxlan-v6.calico down",
        "ip address flush dev vxlan.calico; ip -6 address flush dev vxlan-v6.calico scope global",
    ] {
        println!("-- {what}");
        nodes[0].sh(what);
        reaches(&a.ns, b.both(), 80);
    }
    // The other node leaves.
    world.delete(Kind::Node, "n2");
    eventually(LONG, || {
        let left = nodes[0].sh("ip route show dev vxlan.calico; bridge fdb show dev vxlan.calico");
        if left.contains("10.65.2.0") || left.contains("172.20.0.2") {
            Err(left)
        } else {
            Ok(())
        }
    });
    let there: IpAddr = b.v4;
    blocked(&a.ns, [there], 80);
}
