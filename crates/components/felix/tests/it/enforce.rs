//! From the start of the agent to packets that pass or do not.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{Sink, blocked, echo, flood, reaches},
    world::{LONG, World, run, wire},
};

#[test]
fn netns_policy_is_enforced_from_readiness_on() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let mut world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    // The datastore is away: alive, but not ready, and nothing is written.
    world.kill_store();
    node.start();
    eventually(LONG, || match node.health("liveness") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(node.health("readiness").unwrap().0, 503);
    assert!(!node.sh("nft list tables").contains("caracal"));
    world.start_store();
    node.ready();
    for pod in [&a, &b] {
        node.programmed(pod);
    }
    reaches(&a.ns, b.both(), 80);
    assert!(node.sh("nft list tables").contains("table ip6 caracal"));
    assert!(
        node.dir
            .join("run/endpoint-status/default n1-k8s-a-eth0")
            .exists()
    );
    // Ingress by a selector and a port.
    let only_80 = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'a'"}, "destination": {"ports": [80]}}]});
    world.put(Kind::NetworkPolicy, "default/default.only-80", only_80);
    blocked(&a.ns, b.both(), 81);
    reaches(&a.ns, b.both(), 80);
    node.metric_is("felix_active_local_endpoints", 2.0);
    node.metric_is("felix_active_local_policies", 1.0);
    node.metric_is("felix_cluster_num_workload_endpoints", 2.0);
    node.metric_is("felix_resync_state", 3.0);
    assert!(
        node.metric("felix_int_dataplane_apply_time_seconds_count")
            .unwrap()
            >= 2.0
    );
    assert!(node.metric("process_resident_memory_bytes").unwrap() > 1e6);
    // A label that moves the source out of the selector.
    a.announce(&world, json!({"app": "other"}));
    blocked(&a.ns, b.both(), 80);
    // Egress of the sender.
    world.delete(Kind::NetworkPolicy, "default/default.only-80");
    reaches(&a.ns, b.both(), 81);
    let no_egress = json!({"order": 1, "selector": "app == 'other'", "types": ["Egress"]});
    world.put(Kind::GlobalNetworkPolicy, "default.no-egress", no_egress);
    blocked(&a.ns, b.both(), 81);
    reaches(&b.ns, [], 80);
}

#[test]
fn netns_traffic_between_host_and_workloads() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    a.announce(&world, json!({}));
    let host = ["172.20.0.1".parse().unwrap(), "fd20::1".parse().unwrap()];
    run_host_addresses(&node);
    echo(&node.ns, 53);
    echo(&a.ns, 80);
    node.up();
    node.programmed(&a);
    // The default: workloads may not talk to their host, the host may talk to its workloads.
    reaches(&node.ns, a.both(), 80);
    blocked(&a.ns, host, 53);
    world.configure(json!({"defaultEndpointToHostAction": "Accept"}));
    reaches(&a.ns, host, 53);
    // Egress policy comes before the default action.
    let no_egress = json!({"order": 1, "selector": "all()", "types": ["Egress"]});
    world.put(Kind::GlobalNetworkPolicy, "default.no-egress", no_egress);
    blocked(&a.ns, host, 53);
    reaches(&node.ns, a.both(), 80);
    // Ingress policy does not police the host's own processes.
    let no_ingress = json!({"order": 1, "selector": "all()", "types": ["Ingress"]});
    world.put(Kind::GlobalNetworkPolicy, "default.no-ingress", no_ingress);
    node.metric_is("felix_active_local_policies", 2.0);
    reaches(&node.ns, a.both(), 80);
}

fn run_host_addresses(node: &crate::world::Node) {
    node.sh("ip address add 172.20.0.1/32 dev lo; ip address add fd20::1/128 dev lo");
}

#[test]
fn netns_nat_for_pools_that_ask_for_it() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let outside = world.node("out");
    wire(
        ("n1", &["172.20.0.1/24", "fd20::1/64"]),
        ("out", &["172.20.0.9/24", "fd20::9/64"]),
    );
    outside.sh("ip route add 10.65.0.0/24 via 172.20.0.1; ip -6 route add fd65::/120 via fd20::1");
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    a.announce(&world, json!({}));
    let pool = |nat: bool, cidr: &str| json!({"cidr": cidr, "natOutgoing": nat, "vxlanMode": "Never", "ipipMode": "Never"});
    let pools = |nat| {
        world.put(Kind::IpPool, "p4", pool(nat, "10.65.0.0/24"));
        world.put(Kind::IpPool, "p6", pool(nat, "fd65::/120"));
    };
    pools(false);
    node.up();
    node.programmed(&a);
    let sink = Sink::new(&outside.ns, 7);
    let there = vec!["172.20.0.9".parse().unwrap(), "fd20::9".parse().unwrap()];
    let seen = |expected: [std::net::IpAddr; 2]| {
        // A connection keeps the translation it began with, so each try is a new one.
        eventually(LONG, || {
            let flow = flood(&a.ns, there.clone(), 7);
            sink.arrived();
            flow.more_rounds(20);
            flow.end();
            let from = sink.arrived();
            let all = expected.iter().all(|e| from.contains(e));
            let only = from.iter().all(|f| expected.contains(f));
            if all && only {
                Ok(())
            } else {
                Err(format!("{from:?}"))
            }
        });
    };
    seen(a.both());
    pools(true);
    seen(["172.20.0.1".parse().unwrap(), "fd20::1".parse().unwrap()]);
}

#[test]
fn netns_status_follows_the_interface_and_what_the_kernel_refuses() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({}));
    node.up();
    node.programmed(&a);
    let file = node.dir.join("run/endpoint-status/default n1-k8s-a-eth0");
    let is = |state: &str, why: &str| {
        eventually(LONG, || {
            let now = node.endpoint(&a)?;
            let there = file.exists();
            if now.0 == state && now.1.contains(why) && there == (state == "up") {
                Ok(())
            } else {
                Err(format!("{now:?}, file: {there}; wanted: {state} {why}"))
            }
        });
    };
    is("up", "");
    let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(text["ifaceName"], "calia");
    assert_eq!(text["ipv6Nets"], json!(["fd65::1/128"]));
    node.sh("ip link set calia down");
    is("down", "calia is down");
    node.sh("ip link set calia up");
    is("up", "");
    // A kernel that takes no IPv6 route to this interface.
    node.sh("echo 1 > /proc/sys/net/ipv6/conf/calia/disable_ipv6");
    is("error", "fd65::1");
    node.metric_is("caracal_endpoints{state=\"error\"}", 1.0);
    assert!(node.metric("felix_int_dataplane_failures").unwrap() > 0.0);
    assert_eq!(node.health("readiness").unwrap().0, 200);
    // The others do not suffer, and it is tried again.
    assert_eq!(node.endpoint(&b).unwrap().0, "up");
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/calia/disable_ipv6");
    is("up", "");
    node.sh("ip link del calia");
    is("down", "does not exist");
}

/// Sends an error of ICMP about nothing that anybody knows, in both families.
const STRAY_ERRORS: &str = r#"
import socket, struct, sys
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
inner = bytes.fromhex("45000020000100004011") + b"\0\0" + socket.inet_aton(sys.argv[1]) + socket.inet_aton("192.0.2.9") + struct.pack("!4H", 7, 7, 12, 0) + b"none"
body = struct.pack("!BBHI", 3, 3, 0, 0) + inner
body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(body, (sys.argv[1], 0))
inner = bytes.fromhex("60000000000c1140") + socket.inet_pton(socket.AF_INET6, sys.argv[2]) + socket.inet_pton(socket.AF_INET6, "2001:db8::9") + struct.pack("!4H", 7, 7, 12, 0) + b"none"
body = struct.pack("!BBHI", 1, 4, 0, 0) + inner
socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6).sendto(body, (sys.argv[2], 0))
"#;

#[test]
fn netns_errors_of_icmp_belong_to_their_connections_and_those_about_nothing_are_dropped() {
    netns!(180);
    needs!("root", "ip", "nft", "sh", "python3");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    world.put(
        Kind::GlobalNetworkPolicy,
        "closed",
        json!({"order": 1, "selector": "app == 'a'", "types": ["Ingress"]}),
    );
    node.up();
    node.programmed(&a);
    // Nothing may come in to a, but that nobody listens at b's port is said in answer to a's own packet.
    for to in b.both() {
        let socket = a.ns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)));
        let socket = socket.unwrap().unwrap();
        let to = match to {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        socket.connect((to, 9)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        eventually(LONG, || {
            let _ = socket.send(b"x");
            match socket.recv(&mut [0; 8]) {
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
                other => Err(format!("{to}: {other:?}")),
            }
        });
    }
    // Policy lets everything in now. An error about nothing is of no connection, and no policy is asked.
    world.put(
        Kind::GlobalNetworkPolicy,
        "closed",
        json!({"order": 1, "selector": "app == 'a'", "types": ["Ingress"], "ingress": [{"action": "Allow"}]}),
    );
    std::fs::write(node.dir.join("stray.py"), STRAY_ERRORS).unwrap();
    node.sh(
        "ip netns exec a nft 'table inet seen { chain in { type filter hook input priority 0;
         icmp type destination-unreachable counter; icmpv6 type destination-unreachable counter
         }
         }'",
    );
    let stray = format!(
        "ip netns exec b python3 {} 10.65.0.1 fd65::1",
        node.dir.join("stray.py").display()
    );
    let seen = || {
        let rules = run("ip netns exec a nft list table inet seen");
        rules.matches("packets 0 ").count()
    };
    let dropped = || -> u64 {
        let counters = node.sh("nft list counters");
        let mut lines = counters.lines();
        let mut sum = 0;
        while let Some(line) = lines.next() {
            if line.contains("wall/invalid.") {
                let packets = lines
                    .next()
                    .and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
                sum += packets.unwrap_or_default();
            }
        }
        sum
    };
    assert_eq!(dropped(), 0);
    run(&stray);
    eventually(LONG, || match dropped() {
        2 => Ok(()),
        n => Err(format!("{n} packets of no connection were dropped")),
    });
    assert_eq!(seen(), 2, "none arrived");
    // Unless the operator does not want that.
    world.configure(json!({"disableConntrackInvalidCheck": true}));
    eventually(LONG, || {
        run(&stray);
        match seen() {
            0 => Ok(()),
            n => Err(format!("in {n} families none arrived")),
        }
    });
}
