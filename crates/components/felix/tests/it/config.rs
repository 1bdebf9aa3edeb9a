//! Parameters that change while the agent runs.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{blocked, echo, reaches, stream},
    world::{LONG, World, try_run},
};

#[test]
fn netns_parameters_take_effect_without_a_gap() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    node.sh("ip address add fd20::1/128 dev lo");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    a.announce(&world, json!({}));
    b.announce(&world, json!({}));
    echo(&b.ns, 80);
    let only_80 = json!({"order": 10, "selector": "all()", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.only-80", only_80);
    node.up();
    node.programmed(&b);
    let pid = node.agent.as_ref().unwrap().0.id();
    let allowed = b.both().map(|to| stream(&a.ns, to, 80));
    blocked(&a.ns, b.both(), 81);
    // At once: the answer to what is denied.
    world.configure(json!({"nftablesFilterDenyAction": "Reject"}));
    for to in b.both() {
        eventually(LONG, || {
            // Between namespaces the first answer comes while the socket is still busy sending, and is lost; the second
            // packet follows after a second.
            let limit = Duration::from_secs(5);
            let outcome =
                a.ns.run(|| TcpStream::connect_timeout(&SocketAddr::new(to, 81), limit))
                    .unwrap();
            match outcome.map_err(|e| e.kind()) {
                Err(ErrorKind::ConnectionRefused) => Ok(()),
                other => Err(format!("{to}: {other:?}")),
            }
        });
    }
    node.metric_is("felix_host", 1.0);
    // Read once: the agent starts anew, as the same process, and what is in force stays.
    node.env.remove("FELIX_HEALTHENABLED");
    world.configure(json!({"deviceRouteProtocol": 99}));
    eventually(LONG, || {
        let routes = node.ns.run(|| try_run("ip route show proto 99")).unwrap()?;
        if routes.contains("10.65.0.1") && routes.contains("10.65.0.2") {
            Ok(())
        } else {
            Err(routes)
        }
    });
    node.ready();
    assert_eq!(node.agent.as_ref().unwrap().0.id(), pid);
    assert!(node.agent.as_mut().unwrap().0.try_wait().unwrap().is_none());
    reaches(&a.ns, b.both(), 80);
    for stream in allowed {
        stream.more_rounds(20);
        assert_eq!(stream.end(), Ok(()));
    }
    // Other interfaces are workloads now: those of before are nobody's business.
    world.configure(json!({"interfacePrefix": "cali,tap"}));
    eventually(LONG, || {
        let rules = node.ns.run(|| try_run("nft list table ip caracal")).unwrap()?;
        if rules.contains("tap*") {
            Ok(())
        } else {
            Err(rules)
        }
    });
    reaches(&a.ns, b.both(), 80);
}

#[test]
fn netns_an_idle_agent_uses_no_time() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    a.announce(&world, json!({}));
    node.up();
    node.programmed(&a);
    let pid = node.agent.as_ref().unwrap().0.id();
    // Switches of its threads tell of every time it woke, in no unit of a busy machine's time.
    let wakes = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks
            .map(|t| {
                let status = std::fs::read_to_string(t.unwrap().path().join("status")).unwrap();
                let line = status
                    .lines()
                    .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
                line.unwrap().trim().parse::<u64>().unwrap()
            })
            .sum()
    };
    // A stretch of time in which nothing happens; the last events of its own writes come before it.
    let mut began = (Instant::now(), wakes());
    eventually(LONG, || {
        let woken = wakes() - began.1;
        if woken > 10 {
            began = (Instant::now(), wakes());
            return Err(format!("{woken} times in less than five seconds"));
        }
        if began.0.elapsed() < Duration::from_secs(5) {
            return Err(format!("{woken} times so far"));
        }
        Ok(())
    });
}

#[test]
fn netns_a_locked_datastore_changes_nothing_until_it_is_unlocked() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let lock = |ready: bool| {
        let spec = json!({"clusterGUID": "g", "datastoreReady": ready});
        world.put(Kind::ClusterInformation, "default", spec);
    };
    lock(true);
    let (mut node, a, b) = world.two_pods(json!({}), json!({}));
    echo(&b.ns, 80);
    node.up();
    reaches(&a.ns, b.both(), 80);
    lock(false);
    eventually(LONG, || match node.health("readiness") {
        Ok((503, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let closed = json!({"order": 10, "selector": "all()", "types": ["Ingress"]});
    world.put(Kind::GlobalNetworkPolicy, "default.closed", closed);
    reaches(&a.ns, b.both(), 80);
    assert_eq!(node.health("readiness").unwrap().0, 503);
    assert_eq!(node.health("liveness").unwrap().0, 200);
    lock(true);
    node.ready();
    blocked(&a.ns, b.both(), 80);
}
