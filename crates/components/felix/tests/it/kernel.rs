//! Beside policy: WireGuard's packets between nodes, and what IPVS forwards. In a virtual machine where this kernel lacks
//! one of them.

use std::net::IpAddr;

use caracal_api::Kind;
use caracal_testkit::{Vm, eventually, needs, netns, vm};
use serde_json::json;

use crate::{
    nodes::pair,
    traffic::{Peer, blocked, echo, reaches, stream},
    world::{LONG, Node, World, wire},
};

const HOSTS: [&str; 2] = ["172.20.0.2", "fd20::2"];
/// WireGuard's ports, by family.
const PORTS: [u16; 2] = [51820, 51821];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Host endpoints that let nothing through but failsafe ports, and what IPv6 cannot do without.
fn close(world: &World, nodes: &[&str]) {
    let neighbours = json!([{"action": "Allow", "protocol": "ICMPv6"}]);
    let policy = json!({"order": 9, "selector": "has(host)", "types": ["Ingress", "Egress"],
        "ingress": neighbours, "egress": neighbours});
    world.put(Kind::GlobalNetworkPolicy, "default.neighbours", policy);
    for node in nodes {
        let endpoint = json!({"node": node, "interfaceName": "eth0"});
        let labels = json!({"labels": {"host": node}});
        world.put_with(Kind::HostEndpoint, node, labels, endpoint);
    }
}

#[test]
fn netns_ports_of_wireguard_are_open_whatever_policy_says() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut nodes = pair(&world);
    close(&world, &["n1", "n2"]);
    for node in &mut nodes {
        node.up();
    }
    let sides = PORTS.map(|port| nodes.each_ref().map(|n| Peer::new(&n.ns, port)));
    let asked = |n: usize| {
        let [one, two] = &sides[n];
        one.ask(two, ip(HOSTS[n]), PORTS[n])
    };
    let is_closed = |n: usize| {
        eventually(LONG, || match asked(n) {
            Ok(()) => Err(format!("port {} is open", PORTS[n])),
            Err(_) => Ok(()),
        });
    };
    is_closed(0);
    is_closed(1);
    // One family at a time.
    world.configure(json!({"wireguardEnabled": true}));
    eventually(LONG, || asked(0));
    is_closed(1);
    world.configure(json!({"wireguardEnabledV6": true}));
    eventually(LONG, || asked(1));
    // Other ports of UDP stay closed, and so does WireGuard's of the other family.
    let other = nodes.each_ref().map(|n| Peer::new(&n.ns, 51822));
    for to in HOSTS {
        assert!(other[0].ask(&other[1], ip(to), 51822).is_err());
    }
    let (from, to) = (&sides[0][0], &sides[0][1]);
    assert!(from.ask(to, ip(HOSTS[1]), PORTS[0]).is_err());
    // Another port, without a restart.
    world.configure(json!({"wireguardEnabledV6": true, "wireguardListeningPortV6": 51822}));
    eventually(LONG, || other[0].ask(&other[1], ip(HOSTS[1]), 51822));
}

/// One end of a WireGuard tunnel inside which the other end is known by its key.
fn tunnel(node: &Node, link: &str, port: u16, inside: &str) -> String {
    let key = node.dir.join(link);
    node.sh(&format!(
        "umask 077; wg genkey > {key}
         ip link add {link} type wireguard
         wg set {link} listen-port {port} private-key {key}
         ip address add {inside} dev {link}
         ip link set {link} up",
        key = key.display()
    ));
    node.sh(&format!("wg show {link} public-key")).trim().to_owned()
}

#[test]
fn vm_a_wireguard_tunnel_passes_closed_host_endpoints() {
    needs!("ip", "nft", "wg");
    vm!(Vm::new().tools(&["ip", "nft", "wg"]));
    let world = World::new();
    let mut nodes = pair(&world);
    close(&world, &["n1", "n2"]);
    for node in &mut nodes {
        node.up();
    }
    let [one, two] = &nodes;
    echo(&two.ns, 80);
    for (link, port, net, ends) in [
        ("wg4", 51820, "10.99.0", ["172.20.0.1", "172.20.0.2"]),
        ("wg6", 51821, "10.99.1", ["[fd20::1]", "[fd20::2]"]),
    ] {
        let keys = [(one, 1), (two, 2)].map(|(node, n)| tunnel(node, link, port, &format!("{net}.{n}/24")));
        for (node, peer) in [(one, 1), (two, 0)] {
            node.sh(&format!(
                "wg set {link} peer {} allowed-ips {net}.0/24 endpoint {}:{port}",
                keys[peer], ends[peer]
            ));
        }
    }
    let inside = [ip("10.99.0.2"), ip("10.99.1.2")];
    blocked(&one.ns, inside, 80);
    world.configure(json!({"wireguardEnabled": true, "wireguardEnabledV6": true}));
    reaches(&one.ns, inside, 80);
    // Nothing but the tunnel is open.
    blocked(&one.ns, HOSTS.map(ip), 80);
}

/// A service of IPVS, as kube-proxy makes it.
fn service(node: &Node, address: &str, port: u16, pod: IpAddr) {
    let wrapped = |a: &str| {
        if a.contains(':') {
            format!("[{a}]")
        } else {
            a.to_owned()
        }
    };
    let (service, pod) = (wrapped(address), wrapped(&pod.to_string()));
    node.sh(&format!(
        "ipvsadm -A -t {service}:{port} -s rr; ipvsadm -a -t {service}:{port} -r {pod}:80 -m"
    ));
}

const SERVICES: [&str; 2] = ["10.96.0.10", "fd96::10"];

#[test]
fn vm_what_ipvs_forwards_meets_the_policy_of_both_ends() {
    needs!("ip", "nft", "ipvsadm");
    vm!(Vm::new()
        .tools(&["ip", "nft", "ipvsadm"])
        .modules(&["ip_vs", "ip_vs_rr"]));
    let world = World::new();
    let mut node = world.node("n1");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    a.announce(&world, json!({"app": "a"}));
    b.announce(&world, json!({"app": "b"}));
    echo(&b.ns, 80);
    echo(&node.ns, 7777);
    node.sh("echo 1 > /proc/sys/net/ipv4/vs/conntrack
             ip link add kube-ipvs0 type dummy
             ip address add 10.96.0.10/32 dev kube-ipvs0
             ip address add fd96::10/128 dev kube-ipvs0 nodad
             ip address add 172.20.7.1/32 dev lo; ip address add fd20:7::1/128 dev lo nodad");
    for (address, pod) in SERVICES.into_iter().zip(b.both()) {
        service(&node, address, 80, pod);
    }
    node.up();
    for pod in [&a, &b] {
        node.programmed(pod);
    }
    let services = SERVICES.map(ip);
    reaches(&a.ns, services, 80);
    // What a pod sends to the host itself is judged as ever.
    let host = [ip("172.20.7.1"), ip("fd20:7::1")];
    blocked(&a.ns, host, 7777);
    world.configure(json!({"defaultEndpointToHostAction": "Return"}));
    reaches(&a.ns, host, 7777);
    // The host's own packets to its pods meet no policy, by a service neither.
    let policy = |selector: &str, side: &str, rules: serde_json::Value| {
        let spec = json!({"order": 1, "selector": selector, "types": [side], side.to_lowercase(): rules});
        world.put(Kind::GlobalNetworkPolicy, "default.p", spec);
    };
    policy("app == 'b'", "Ingress", json!([]));
    blocked(&a.ns, services, 80);
    reaches(&node.ns, services, 80);
    policy(
        "app == 'b'",
        "Ingress",
        json!([{"action": "Allow", "source": {"selector": "app == 'a'"}}]),
    );
    reaches(&a.ns, services, 80);
    // Egress policy speaks of the pod that IPVS chose.
    policy(
        "app == 'a'",
        "Egress",
        json!([{"action": "Allow", "destination": {"selector": "app == 'b'"}}]),
    );
    reaches(&a.ns, services, 80);
    let open = services.map(|to| stream(&a.ns, to, 80));
    policy(
        "app == 'a'",
        "Egress",
        json!([{"action": "Deny", "destination": {"selector": "app == 'b'"}}, {"action": "Allow"}]),
    );
    blocked(&a.ns, services, 80);
    // What is open goes on.
    for stream in open {
        stream.more_rounds(20);
        assert_eq!(stream.end(), Ok(()));
    }
    // Without kube-proxy's interface nothing of this is in the tables.
    let chains = || node.sh("nft list chains");
    assert!(chains().contains("ipvs-forward"));
    node.sh("ip link del kube-ipvs0");
    eventually(LONG, || match chains().contains("ipvs") {
        true => Err(chains()),
        false => Ok(()),
    });
}

#[test]
fn vm_what_ipvs_forwards_meets_host_endpoints_as_forwarded() {
    needs!("ip", "nft", "ipvsadm");
    vm!(Vm::new()
        .tools(&["ip", "nft", "ipvsadm"])
        .modules(&["ip_vs", "ip_vs_rr"]));
    let world = World::new();
    let mut node = world.node("n1");
    let outside = world.node("out");
    wire(
        ("n1", &["172.20.0.1/24", "fd20::1/64"]),
        ("out", &["172.20.0.9/24", "fd20::9/64"]),
    );
    for net in ["10.96.0.0/16", "10.65.0.0/16"] {
        outside.sh(&format!("ip route add {net} via 172.20.0.1"));
    }
    for net in ["fd96::/64", "fd65::/64"] {
        outside.sh(&format!("ip route add {net} via fd20::1"));
    }
    let b = node.pod("b", "10.65.0.2", "fd65::2");
    b.announce(&world, json!({"app": "b"}));
    echo(&b.ns, 80);
    echo(&node.ns, 7777);
    // Somebody of the host listens at a port that services have elsewhere.
    echo(&node.ns, 30_001);
    node.sh("echo 1 > /proc/sys/net/ipv4/vs/conntrack
             ip link add kube-ipvs0 type dummy
             ip address add 10.96.0.10/32 dev kube-ipvs0
             ip address add fd96::10/128 dev kube-ipvs0 nodad");
    let here = ["172.20.0.1", "fd20::1"];
    for ((address, own), pod) in SERVICES.into_iter().zip(here).zip(b.both()) {
        service(&node, address, 80, pod);
        service(&node, own, 30_000, pod);
    }
    node.up();
    node.programmed(&b);
    let (services, here) = (SERVICES.map(ip), here.map(ip));
    reaches(&outside.ns, services, 80);
    reaches(&outside.ns, here, 30_000);
    reaches(&outside.ns, here, 7777);
    // A closed endpoint is about the host's own ports; what is forwarded passes until a policy says otherwise.
    close(&world, &["n1"]);
    blocked(&outside.ns, here, 7777);
    blocked(&outside.ns, here, 30_001);
    reaches(&outside.ns, services, 80);
    reaches(&outside.ns, here, 30_000);
    let forward = |action: &str, side: &str| {
        let spec = json!({"order": 1, "selector": "host == 'n1'", "types": [side], "applyOnForward": true,
            side.to_lowercase(): [{"action": action, "protocol": "TCP"}]});
        world.put(Kind::GlobalNetworkPolicy, "default.forward", spec);
    };
    forward("Deny", "Ingress");
    blocked(&outside.ns, services, 80);
    blocked(&outside.ns, here, 30_000);
    forward("Allow", "Ingress");
    reaches(&outside.ns, services, 80);
    reaches(&outside.ns, here, 30_000);
    // The same of an endpoint for all interfaces, which pods' packets meet too.
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    a.announce(&world, json!({"app": "a"}));
    node.programmed(&a);
    reaches(&a.ns, services, 80);
    let everywhere = json!({"node": "n1", "interfaceName": "*"});
    world.put_with(
        Kind::HostEndpoint,
        "n1",
        json!({"labels": {"host": "n1"}}),
        everywhere,
    );
    forward("Deny", "Ingress");
    blocked(&outside.ns, services, 80);
    blocked(&a.ns, services, 80);
    forward("Allow", "Ingress");
    reaches(&outside.ns, services, 80);
    reaches(&a.ns, services, 80);
    // And the way out, to a pod of another host.
    echo(&outside.ns, 80);
    for (address, to) in [("10.96.0.10", "172.20.0.9"), ("fd96::10", "fd20::9")] {
        service(&node, address, 81, ip(to));
    }
    reaches(&a.ns, services, 81);
    forward("Deny", "Egress");
    blocked(&a.ns, services, 81);
    forward("Allow", "Egress");
    reaches(&a.ns, services, 81);
}
