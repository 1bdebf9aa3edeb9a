//! What policy means for connections that the kernel knows, or is not to know (`docs/policy-semantics.md`).

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{Peer, blocked, echo, reaches, stream},
    world::{LONG, World, wire},
};

#[test]
fn netns_established_connections_survive_a_policy_that_denies_new_ones() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    a.announce(&world, json!({"app": "a"}));
    b.announce(&world, json!({"app": "b"}));
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
