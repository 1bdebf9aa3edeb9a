//! `caracal felix --cleanup`.

use caracal_api::Kind;
use caracal_testkit::{needs, netns};
use serde_json::json;

use crate::{
    drift::{SHOW_FOREIGN, foreign},
    nodes::pair,
    traffic::{echo, reaches},
    world::World,
};

#[test]
fn netns_cleanup_removes_all_that_is_ours_and_nothing_else() {
    netns!(120);
    needs!("root", "ip", "nft", "sh", "link:vxlan");
    let world = World::new();
    let [mut node, mut other] = pair(&world);
    let before = foreign(&node);
    let state = |node: &crate::world::Node| {
        node.sh("nft list tables; ip -br link; ip route; ip -6 route; ip rule; ip -6 rule")
    };
    let a = node.pod("a", "10.65.1.2", "fd65::1:2");
    let b = other.pod("b", "10.65.2.2", "fd65::2:2");
    node.sh("ip route add 10.99.0.0/24 dev calia proto static");
    let bare = state(&node);
    world.configure(json!({"removeExternalRoutes": false}));
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    node.up();
    other.up();
    reaches(&a.ns, b.both(), 80);
    let full = state(&node);
    for ours in [
        "vxlan.calico",
        "vxlan-v6.calico",
        "table ip6 caracal",
        "10.65.1.2",
        "blackhole",
    ] {
        assert!(full.contains(ours), "{ours} in {full}");
    }
    // Not under a running agent's feet.
    assert_eq!(node.call("--cleanup"), 1);
    assert_eq!(state(&node), full);
    node.kill();
    assert!(node.dir.join("run/agent.sock").exists());
    // Twice: what is gone already is no error.
    for _ in 0..2 {
        assert_eq!(node.call("--cleanup"), 0);
        assert_eq!(state(&node), bare);
        assert_eq!(node.sh(SHOW_FOREIGN), before);
    }
    for file in ["run/agent.sock", "run/endpoint-status", "lib/mtu"] {
        assert!(!node.dir.join(file).exists(), "{file}");
    }
    // And back again.
    world.delete(Kind::FelixConfiguration, "default");
    node.up();
    reaches(&a.ns, b.both(), 80);
}
