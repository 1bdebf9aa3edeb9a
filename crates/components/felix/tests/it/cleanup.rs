//! `caracal felix --cleanup`.

use caracal_api::Kind;
use caracal_testkit::{needs, netns};
use serde_json::json;

use crate::{
    drift::{SHOW_FOREIGN, foreign},
    nodes::pair,
    traffic::{blocked, echo, reaches},
    world::{World, try_run},
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
    for socket in ["run/agent.sock", "run/pods.sock"] {
        assert!(node.dir.join(socket).exists(), "{socket}");
    }
    // Twice: what is gone already is no error.
    for _ in 0..2 {
        assert_eq!(node.call("--cleanup"), 0);
        assert_eq!(state(&node), bare);
        assert_eq!(node.sh(SHOW_FOREIGN), before);
    }
    for file in [
        "run/agent.sock",
        "run/pods.sock",
        "run/endpoint-status",
        "lib/mtu",
    ] {
        assert!(!node.dir.join(file).exists(), "{file}");
    }
    // And back again.
    world.delete(Kind::FelixConfiguration, "default");
    node.up();
    reaches(&a.ns, b.both(), 80);
}

/// What Calico leaves in nftables mode, and with iptables over nf_tables, beside rules of somebody else.
const CALICOS: &str = "
table ip calico {
    chain filter-FORWARD { type filter hook forward priority 0; policy accept; drop; }
}
table ip filter {
    chain cali-tw { drop; }
    chain cali-FORWARD { jump cali-tw; }
    chain FORWARD {
        type filter hook forward priority 0; policy accept;
        jump cali-FORWARD
        meta mark 0x10000 accept comment \"cali:S93hcgKJrXEqnTfs\"
        meta mark 0x77 accept comment \"of somebody else\"
    }
    chain mine { accept; }
}
table ip6 filter {
    chain cali-FORWARD { drop; }
    chain FORWARD { type filter hook forward priority 0; policy accept; goto cali-FORWARD; }
}";

#[test]
fn netns_what_calico_left_goes_when_the_operator_says_so() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({}));
    echo(&b.ns, 80);
    let leave = |node: &crate::world::Node| {
        std::fs::write(node.dir.join("calicos"), CALICOS).unwrap();
        node.sh(&format!("nft -f {}", node.dir.join("calicos").display()));
    };
    leave(&node);
    assert_eq!(node.call("--cleanup-calico --dry-run"), 1, "there is something");
    node.up();
    node.programmed(&b);
    // Its own table has given way to ours; what is iptables' is still in force, and told.
    let rules = node.sh("nft list ruleset");
    assert!(
        !rules.contains("table ip calico") && rules.contains("cali-FORWARD"),
        "{rules}"
    );
    node.metric_is("caracal_calico_leftovers", 2.0);
    blocked(&a.ns, b.both(), 80);
    assert_eq!(node.call("--cleanup-calico"), 0);
    let rules = node.sh("nft list ruleset");
    assert!(!rules.contains("cali-") && !rules.contains("cali:"), "{rules}");
    assert!(
        rules.contains("of somebody else") && rules.contains("chain mine"),
        "{rules}"
    );
    reaches(&a.ns, b.both(), 80);
    assert_eq!(node.call("--cleanup-calico --dry-run"), 0);
    // Or at once, by the agent, when its own tables are in force.
    node.kill();
    node.sh("nft delete table ip filter; nft delete table ip6 filter");
    leave(&node);
    node.env.insert("CARACAL_REMOVE_CALICO".into(), "true".into());
    node.up();
    reaches(&a.ns, b.both(), 80);
    node.metric_is("caracal_calico_leftovers", 0.0);
}

/// What Calico leaves with the old iptables, beside rules and chains of somebody else; `S` is its IP set.
const LEGACY: &str = "
*filter
:FORWARD ACCEPT [0:0]
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
:mine - [0:0]
-A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD
-A FORWARD -m comment --comment \"of somebody else\" -j mine
-A FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-FORWARD -m set --match-set S src -j ACCEPT
-A cali-FORWARD -j cali-from-wl-dispatch
-A cali-from-wl-dispatch -j DROP
-A mine -j ACCEPT
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:cali-PREROUTING - [0:0]
-A PREROUTING -m comment --comment \"cali:6gwbT8clXdHdC1b1\" -j cali-PREROUTING
COMMIT
";

#[test]
fn netns_what_calico_left_in_iptables_legacy_and_ipset_goes_when_the_operator_says_so() {
    netns!(120);
    needs!(
        "root",
        "ip",
        "nft",
        "sh",
        "iptables-legacy-restore",
        "ip6tables-legacy-restore",
        "ipset"
    );
    let world = World::new();
    let mut node = world.node("n1");
    // The programs may be there and the kernel without it.
    let works = try_run("ip netns exec n1 iptables-legacy -S && ip netns exec n1 ipset list -n").is_ok();
    needs!(if works, "kernel:ip_tables");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    let leave = |node: &crate::world::Node| {
        node.sh("ipset -exist create mine hash:ip");
        for (program, set, family) in [
            ("iptables-legacy-restore", "cali40s:abc", "inet"),
            ("ip6tables-legacy-restore", "cali60s:abc", "inet6"),
        ] {
            let file = node.dir.join("legacy");
            std::fs::write(&file, LEGACY.replace(" S ", &format!(" {set} "))).unwrap();
            node.sh(&format!(
                "ipset create {set} hash:net family {family}; {program} {}",
                file.display()
            ));
        }
    };
    let is_clean = |node: &crate::world::Node| {
        let rules = node.sh("iptables-legacy-save; ip6tables-legacy-save");
        assert!(!rules.contains("cali"), "{rules}");
        for theirs in ["-j mine", ":mine", "-A mine -j ACCEPT"] {
            assert_eq!(rules.matches(theirs).count(), 2, "{theirs}: {rules}");
        }
        assert_eq!(node.sh("ipset list -n").trim(), "mine");
    };
    leave(&node);
    assert_eq!(node.call("--cleanup-calico --dry-run"), 1, "there is something");
    node.up();
    node.programmed(&b);
    node.metric_is("caracal_calico_leftovers", 3.0);
    blocked(&a.ns, b.both(), 80);
    assert_eq!(node.call("--cleanup-calico"), 0);
    is_clean(&node);
    reaches(&a.ns, b.both(), 80);
    assert_eq!(node.call("--cleanup-calico --dry-run"), 0);
    // Or by the agent when it starts; it asks the kernel that both iptables share.
    node.kill();
    leave(&node);
    node.env.insert("CARACAL_REMOVE_CALICO".into(), "true".into());
    node.up();
    reaches(&a.ns, b.both(), 80);
    node.metric_is("caracal_calico_leftovers", 0.0);
    is_clean(&node);
}
