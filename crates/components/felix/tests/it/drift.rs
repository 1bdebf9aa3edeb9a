//! What others do to the kernel's state: undone where it is ours, left alone where it is theirs.

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{blocked, echo, reaches},
    world::{LONG, Node, Process, World, try_run},
};

#[test]
fn netns_changes_of_others_are_undone() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    // Nothing may help but the kernel's own events.
    world.configure(json!({"nftablesRefreshInterval": "0s", "routeRefreshInterval": "0s"}));
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    let only_80 = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'a'"}, "destination": {"ports": [80]}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.only-80", only_80);
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    node.up();
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    // Only what is as it should be: handles change, counters count.
    let picture = || {
        let tables = node.sh("nft -s list table ip caracal; nft -s list table ip6 caracal");
        let routes = node.sh("ip route; ip -6 route show dev calia; ip -6 route show dev calib");
        format!("{tables}{routes}")
    };
    let before = picture();
    for what in [
        "nft flush chain ip caracal filter-forward",
        "nft flush chain ip6 caracal filter-forward",
        "nft insert rule ip caracal filter-forward accept",
        "nft insert rule ip6 caracal filter-forward counter drop",
        "nft 'add element ip caracal to-wl { \"calix\" : accept }'",
        "nft 'delete element ip6 caracal to-wl { \"calib\" }'",
        "nft flush map ip caracal from-wl",
        "nft add chain ip caracal strange",
        "nft 'add set ip6 caracal strange { type ipv6_addr; }'",
        "nft delete chain ip caracal raw-prerouting",
        "ip route del 10.65.0.2/32 dev calib",
        "ip -6 route del fd65::2/128 dev calib",
        "ip route add 10.65.0.77/32 dev calib proto 3",
        "ip route replace 10.65.0.2/32 dev calia proto 3",
        "ip link set calib down; ip link set calib up",
    ] {
        node.sh(what);
        eventually(LONG, || {
            let now = picture();
            if now == before {
                Ok(())
            } else {
                Err(format!("after {what}:\n{now}\ninstead of\n{before}"))
            }
        });
    }
    // A whole table, which comes back under any of our names.
    for family in ["ip", "ip6"] {
        node.sh(&format!("nft delete table {family} caracal"));
        eventually(LONG, || {
            let chains = node.ns.run(|| try_run("nft list chains")).unwrap()?;
            match chains.matches("filter-forward").count() {
                2 => Ok(()),
                n => Err(format!("{n} times in {chains}")),
            }
        });
        blocked(&a.ns, b.both(), 81);
        reaches(&a.ns, b.both(), 80);
    }
    node.sh("nft flush ruleset");
    blocked(&a.ns, b.both(), 81);
    reaches(&a.ns, b.both(), 80);
    assert!(node.metric("caracal_nft_repairs").unwrap() > 0.0);
}

const FOREIGN: &str = "nft add table ip mine
    nft 'add chain ip mine in { type filter hook input priority 10; }'
    nft add rule ip mine in counter accept
    nft add table inet mine
    ip link add mine0 type veth peer name mine1
    ip link set mine1 up
    ip link set mine0 up
    ip address add 192.0.2.1/24 dev mine0
    ip route add 198.51.100.0/24 via 192.0.2.2
    ip route add 203.0.113.0/24 dev mine0 proto static
    ip -6 route add 2001:db8::/64 dev mine0 proto static
    ip route add 10.65.0.0/24 dev mine0 table 77
    ip rule add from 10.9.9.9 table 77 priority 99";

pub(crate) const SHOW_FOREIGN: &str =
    "nft -s list table ip mine; nft list table inet mine; ip link show mine0; ip address show mine0;
    ip route show dev mine0; ip -6 route show dev mine0; ip route show table 77; ip rule";

pub(crate) fn foreign(node: &Node) -> String {
    node.sh(FOREIGN);
    node.sh(SHOW_FOREIGN)
}

#[test]
fn netns_what_is_foreign_is_left_alone_and_calicos_table_replaced() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let before = foreign(&node);
    // A node that Calico ran on: its table would drop everything; its chains in iptables-nft are not ours to touch.
    node.sh("nft add table ip calico
        nft 'add chain ip calico filter-cali-FORWARD { type filter hook forward priority 0; policy drop; }'
        nft add table ip6 calico
        nft 'add chain ip6 calico filter-cali-FORWARD { type filter hook forward priority 0; policy drop; }'
        nft add table ip filter
        nft add chain ip filter cali-FORWARD");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    let (mut monitor, log) = monitor(&node);
    node.up();
    reaches(&a.ns, b.both(), 80);
    monitor.kill();
    // One transaction puts ours in and takes Calico's out.
    let seen = std::fs::read_to_string(log).unwrap();
    for family in ["ip", "ip6"] {
        let change = seen
            .split("# new generation")
            .find(|part| part.contains(&format!("delete table {family} calico")));
        let change = change.unwrap_or_else(|| panic!("Calico's table was not deleted:\n{seen}"));
        for chain in ["filter-forward", "filter-input", "raw-prerouting"] {
            assert!(
                change.contains(&format!("add chain {family} caracal {chain}")),
                "{chain} in {change}"
            );
        }
    }
    let tables = node.sh("nft list tables");
    assert!(!tables.contains(" calico"), "{tables}");
    assert!(node.sh("nft list table ip filter").contains("cali-FORWARD"));
    node.metric_is("caracal_calico_leftovers", 1.0);
    node.kill();
    node.up();
    assert_eq!(node.sh(SHOW_FOREIGN), before);
}

/// What happens to nftables in a node, written to a file from now on.
fn monitor(node: &Node) -> (Process, std::path::PathBuf) {
    let path = node.dir.join("monitor");
    let file = std::fs::File::create(&path).unwrap();
    let spawn = || {
        std::process::Command::new("nft")
            .arg("monitor")
            .stdout(file)
            .spawn()
            .unwrap()
    };
    let process = Process(node.ns.run(spawn).unwrap());
    // It listens once it tells of something.
    eventually(LONG, || {
        node.sh("nft add table ip probe; nft delete table ip probe");
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("probe") {
            Ok(())
        } else {
            Err("nothing heard".to_owned())
        }
    });
    (process, path)
}
