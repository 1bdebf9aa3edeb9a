//! Service-loop prevention: a router that sends what services have to the node, and gets back what nobody translated
//! there, since it is the node's own way out.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use caracal_api::Kind;
use caracal_testkit::{NetNs, eventually, needs, netns};
use serde_json::{Value, json};

use crate::{
    bad_input::{is_named, put_raw},
    traffic::{blocked, echo, reaches, stream},
    world::{LONG, Node, World, run, wire},
};

const ROUTER: [&str; 2] = ["172.30.0.2", "fd30::2"];
/// Nobody has these.
const SERVICES: [&str; 2] = ["10.96.0.19", "fd96::19"];
const OTHERS: [&str; 2] = ["10.97.0.19", "fd97::19"];

/// Counts what comes to the router for addresses that only the node can have sent there.
const SEEN: &str = "table inet seen {
    counter services_v4 { }
    counter services_v6 { }
    counter others_v4 { }
    counter others_v6 { }
    chain in {
        type filter hook prerouting priority -300;
        ip daddr 10.96.0.0/16 counter name services_v4
        ip6 daddr fd96::/64 counter name services_v6
        ip daddr 10.97.0.0/16 counter name others_v4
        ip6 daddr fd97::/64 counter name others_v6
    }
}";

fn addresses(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(|t| t.parse().unwrap())
}

/// The node's router, for which the node is the way to services.
fn router(node: &Node) -> NetNs {
    let ns = NetNs::create("router").unwrap();
    ns.run(|| {
        for setting in ["ipv6/conf/default/accept_dad", "ipv6/conf/all/accept_dad"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "0").unwrap();
        }
        for setting in [
            "ipv4/conf/all/rp_filter",
            "ipv4/conf/default/rp_filter",
            "ipv4/conf/all/send_redirects",
            "ipv4/conf/default/send_redirects",
        ] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "0").unwrap();
        }
        // What comes back has the router's own address.
        std::fs::write("/proc/sys/net/ipv4/conf/all/accept_local", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    })
    .unwrap();
    wire(
        (&node.name, &["172.30.0.1/24", "fd30::1/64"]),
        ("router", &["172.30.0.2/24", "fd30::2/64"]),
    );
    run(&format!(
        "ip -n {0} route add default via 172.30.0.2
         ip -n {0} -6 route add default via fd30::2
         for net in 10.96.0.0/16 10.97.0.0/16 10.65.0.0/16; do ip -n router route add $net via 172.30.0.1; done
         for net in fd96::/64 fd97::/64 fd65::/64; do ip -n router -6 route add $net via fd30::1; done
         ip netns exec router nft -f - <<'END'\n{SEEN}\nEND",
        node.name
    ));
    ns
}

fn counted(ns: &NetNs, table: &str, counter: &str) -> u64 {
    let line =
        format!("nft list counter {table} '\"{counter}\"' 2>/dev/null || nft list counter {table} {counter}");
    let text = ns.run(|| run(&line)).unwrap();
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// Sends a datagram and says whether the sender was told that it is refused.
fn refused(from: &NetNs, source: IpAddr, to: IpAddr) -> bool {
    let socket = from.run(|| UdpSocket::bind((source, 0))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.connect((to, 9)).unwrap();
    // The answer may be there before the second word.
    let told = |e: std::io::Error| e.kind() == ErrorKind::ConnectionRefused;
    socket.send(b"word").is_err_and(told) || socket.recv(&mut [0; 8]).is_err_and(told)
}

/// How many packets come back to the router of one that it sends to each address: by family.
fn comes_back(router: &NetNs, to: [&str; 2], counter: &str) -> [u64; 2] {
    let families = ["v4", "v6"];
    let count = || families.map(|f| counted(router, "inet seen", &format!("{counter}_{f}")));
    let before = count();
    for (source, to) in addresses(ROUTER).into_iter().zip(addresses(to)) {
        refused(router, source, to);
    }
    let after = count();
    [after[0] - before[0], after[1] - before[1]]
}

/// Waits until packets loop, or do not.
fn loops(router: &NetNs, to: [&str; 2], counter: &str, wanted: bool) {
    eventually(LONG, || {
        let back = comes_back(router, to, counter);
        // One time would be a host that forwards; a loop goes on until the packet is too old.
        let as_wanted = match wanted {
            true => back.iter().all(|n| *n > 2),
            false => back == [0, 0],
        };
        as_wanted
            .then_some(())
            .ok_or_else(|| format!("{back:?} came back"))
    });
}

fn ranges(cluster: &[&str], external: &[&str], balancers: &[&str]) -> Value {
    let blocks = |of: &[&str]| of.iter().map(|c| json!({"cidr": c})).collect::<Value>();
    json!({
        "serviceClusterIPs": blocks(cluster), "serviceExternalIPs": blocks(external),
        "serviceLoadBalancerIPs": blocks(balancers),
    })
}

#[test]
fn netns_what_nobody_translates_of_services_does_not_loop() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let router = router(&node);
    let pod = node.pod("a", "10.65.0.1", "fd65::1");
    pod.announce(&world, json!({}));
    echo(&pod.ns, 80);
    node.up();
    node.programmed(&pod);
    let stopped = |node: &Node| {
        ["ip caracal", "ip6 caracal"].map(|table| counted(&node.ns, table, "wall/service-loop.in.deny"))
    };
    // Somebody translates a service's address to the pod.
    node.sh("nft -f - <<'END'
table inet proxy {
    chain services {
        type nat hook prerouting priority -100;
        ip daddr 10.96.0.80 tcp dport 443 dnat ip to 10.65.0.1:80
        ip6 daddr fd96::80 tcp dport 443 dnat ip6 to [fd65::1]:80
    }
}
END");
    let service = addresses(["10.96.0.80", "fd96::80"]);
    reaches(&router, service, 443);
    // Nothing is known of services, or only a single node says something.
    world.put(
        Kind::BgpConfiguration,
        "node.n1",
        ranges(&["10.96.0.0/16", "fd96::/64"], &[], &[]),
    );
    loops(&router, SERVICES, "services", true);
    world.put(
        Kind::BgpConfiguration,
        "default",
        ranges(&["10.96.0.0/16"], &["fd96::/64"], &[]),
    );
    loops(&router, SERVICES, "services", false);
    eventually(LONG, || match stopped(&node) {
        n if n.iter().all(|n| *n > 0) => Ok(()),
        n => Err(format!("{n:?} were counted")),
    });
    let denied = node.metric("calico_denied_packets{direction=\"ingress\",policy=\"__NODE__|service-loop|");
    assert!(denied.is_ok_and(|n| n > 0.0));
    loops(&router, OTHERS, "others", true);
    reaches(&router, service, 443);
    // What is refused is answered; switched off, it loops again. All of it while the agent runs.
    let told = |router: &NetNs| {
        let pairs = addresses(ROUTER).into_iter().zip(addresses(SERVICES));
        pairs
            .map(|(source, to)| refused(router, source, to))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&router), [false, false]);
    world.configure(json!({"serviceLoopPrevention": "Reject"}));
    eventually(LONG, || match told(&router).as_slice() {
        [true, true] => Ok(()),
        other => Err(format!("told: {other:?}")),
    });
    loops(&router, SERVICES, "services", false);
    world.configure(json!({"serviceLoopPrevention": "Disabled"}));
    loops(&router, SERVICES, "services", true);
    world.configure(json!({}));
    loops(&router, SERVICES, "services", false);
    // A range that cannot be read is named, and the others are in force.
    world.put(
        Kind::BgpConfiguration,
        "default",
        ranges(&["10.96.0.0/16"], &["10.97.0.0/33"], &["fd97::/64", "fd96::/64"]),
    );
    is_named(&node, "BGPConfiguration default", "serviceExternalIPs[0].cidr");
    eventually(LONG, || match comes_back(&router, OTHERS, "others") {
        n if n[0] > 2 && n[1] == 0 => Ok(()),
        n => Err(format!("{n:?} came back")),
    });
    loops(&router, SERVICES, "services", false);
    // An object that is not one, with ranges in it all the same.
    let raw = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "BGPConfiguration", "metadata": {"name": "default"},
        "spec": {"listenPort": "many", "serviceClusterIPs": [{"cidr": "10.97.0.0/16"}, {"cidr": "fd97::/64"}]},
    });
    put_raw(&world, "bgpconfigurations", "default", &raw.to_string());
    loops(&router, OTHERS, "others", false);
    loops(&router, SERVICES, "services", true);
    is_named(&node, "BGPConfiguration default", "listenPort");
}

#[test]
fn netns_known_connections_survive_a_service_range_that_comes_over_them() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let router = router(&node);
    let pod = node.pod("a", "10.65.0.1", "fd65::1");
    pod.announce(&world, json!({}));
    echo(&pod.ns, 80);
    node.up();
    node.programmed(&pod);
    reaches(&router, pod.both(), 80);
    let streams = pod.both().map(|to| stream(&router, to, 80));
    world.put(
        Kind::BgpConfiguration,
        "default",
        ranges(&[], &[], &["10.65.0.0/24", "fd65::/64"]),
    );
    blocked(&router, pod.both(), 80);
    for stream in &streams {
        stream.more_rounds(50);
    }
    // The node's own packets are not forwarded.
    reaches(&node.ns, pod.both(), 80);
    world.delete(Kind::BgpConfiguration, "default");
    reaches(&router, pod.both(), 80);
    for stream in streams {
        assert_eq!(stream.end(), Ok(()));
    }
}
