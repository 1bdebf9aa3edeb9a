//! The agent dies, is away, or ends: what it put in force stays in force.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use caracal_agent_api::v1::AwaitEndpointRequest;
use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{Sink, blocked, echo, flood, reaches, stream, talk},
    world::{LONG, World, block_on, connect, run},
};

/// Times that the agent is killed in one test.
const DEATHS: u64 = 15;

#[test]
fn netns_killed_at_random_moments() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let pods = [
        ("a", "10.65.0.1", "fd65::1"),
        ("b", "10.65.0.2", "fd65::2"),
        ("c", "10.65.0.3", "fd65::3"),
    ];
    let [a, b, c] = pods.map(|(name, v4, v6)| node.pod(name, v4, v6));
    for pod in [&a, &b, &c] {
        pod.announce(&world, json!({"app": pod.name}));
    }
    let only_a = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "source": {"selector": "app == 'a'"}}]});
    world.put(Kind::NetworkPolicy, "default/default.only-a", only_a);
    echo(&b.ns, 80);
    let sink = Sink::new(&b.ns, 7);
    node.up();
    reaches(&a.ns, b.both(), 80);
    blocked(&c.ns, b.both(), 80);
    let allowed = b.both().map(|to| stream(&a.ns, to, 80));
    let denied = flood(&c.ns, b.both().to_vec(), 7);
    let random = RandomState::new();
    for death in 0..DEATHS {
        node.kill();
        // Something is different at each start, so that there is something to write.
        let other = json!({"order": 20 + death, "selector": "app == 'b'", "types": ["Ingress"],
            "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"nets": ["192.0.2.0/24"]}, "destination": {"ports": [1000 + death]}}]});
        world.put(Kind::GlobalNetworkPolicy, "default.other", other);
        node.start();
        // The moment of death is what is random here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.hash_one(death) % 250));
    }
    node.kill();
    node.up();
    denied.more_rounds(20);
    denied.end();
    for stream in allowed {
        stream.more_rounds(20);
        assert_eq!(stream.end(), Ok(()));
    }
    assert_eq!(sink.arrived(), Vec::<std::net::IpAddr>::new());
    // The port is not just unheard: an allowed sender gets through.
    let flow = flood(&a.ns, b.both().to_vec(), 7);
    flow.more_rounds(20);
    flow.end();
    eventually(LONG, || match sink.arrived().len() {
        0 => Err("nothing arrived".to_owned()),
        _ => Ok(()),
    });
}

#[test]
fn netns_unknown_interfaces_are_closed_while_the_agent_is_dead() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    node.sh("ip address add 172.20.0.1/32 dev lo; ip address add fd20::1/128 dev lo");
    world.configure(json!({"defaultEndpointToHostAction": "Accept"}));
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    a.announce(&world, json!({}));
    node.up();
    node.programmed(&a);
    node.kill();
    let d = node.pod("d", "10.65.0.9", "fd65::9");
    node.sh("ip route add 10.65.0.9/32 dev calid; ip -6 route add fd65::9/128 dev calid");
    let (at_a, at_d, at_host) = (Sink::new(&a.ns, 7), Sink::new(&d.ns, 7), Sink::new(&node.ns, 7));
    let host = ["172.20.0.1".parse().unwrap(), "fd20::1".parse().unwrap()];
    let flows = [
        flood(&d.ns, [a.both(), host].concat(), 7),
        flood(&a.ns, [d.both(), host].concat(), 7),
    ];
    for flow in flows {
        flow.more_rounds(50);
        flow.end();
    }
    let known = at_host.arrived();
    assert!(a.both().iter().all(|x| known.contains(x)), "{known:?}");
    assert!(!d.both().iter().any(|x| known.contains(x)), "{known:?}");
    for sink in [at_a, at_d] {
        assert_eq!(sink.arrived(), Vec::<std::net::IpAddr>::new());
    }
    // Once it is known, it is open.
    d.announce(&world, json!({}));
    echo(&d.ns, 80);
    node.up();
    reaches(&a.ns, d.both(), 80);
}

#[test]
fn netns_the_datastore_goes_and_comes_back() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let mut world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({}));
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    let only_80 = json!({"order": 10, "selector": "all()", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.only-80", only_80);
    node.up();
    reaches(&a.ns, b.both(), 80);
    world.kill_store();
    eventually(LONG, || match node.health("readiness")? {
        (200, text) if text.contains("datastore is away") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    node.metric_is("caracal_datastore_connected", 0.0);
    node.metric_is("felix_resync_state", 1.0);
    // It goes on enforcing, and repairing.
    node.sh("nft flush chain ip caracal filter-forward");
    blocked(&a.ns, b.both(), 81);
    reaches(&a.ns, b.both(), 80);
    world.start_store();
    world.delete(Kind::GlobalNetworkPolicy, "default.only-80");
    reaches(&a.ns, b.both(), 81);
    // Each kind of objects has a watch of its own; it is back when all of them are.
    node.metric_is("caracal_datastore_connected", 1.0);
    node.metric_is("felix_resync_state", 3.0);
}

#[test]
fn netns_ends_in_order_on_sigterm() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    a.announce(&world, json!({}));
    node.up();
    node.programmed(&a);
    let socket = node.dir.join("run/agent.sock");
    // Two agents would undo each other's work: the second one gives up.
    assert_eq!(node.call(""), 1);
    // Somebody waits for what will not come.
    let (asking, asked) = std::sync::mpsc::channel();
    let waiting = {
        let socket = socket.clone();
        std::thread::spawn(move || {
            block_on(async {
                let mut client = connect(socket).await.unwrap();
                let request = AwaitEndpointRequest {
                    namespace: "default".into(),
                    name: "none".into(),
                    container_id: "none".into(),
                    timeout_ms: 60_000,
                };
                asking.send(()).unwrap();
                client
                    .await_endpoint(request)
                    .await
                    .map(|r| r.into_inner().in_force)
            })
        })
    };
    asked.recv().unwrap();
    let start = Instant::now();
    let agent = node.agent.as_mut().unwrap();
    agent.signal("TERM");
    assert_eq!(agent.wait(), 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!matches!(waiting.join().unwrap(), Ok(true)));
    assert!(!socket.exists());
    assert!(node.sh("nft list tables").contains("caracal"));
    assert!(node.sh("ip route").contains("10.65.0.1 dev calia"));
}

#[test]
fn netns_connections_of_a_departed_address_are_forgotten() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut node = world.node("n1");
    let b = node.pod("b", "10.65.0.2", "fd65::2");
    b.announce(&world, json!({"app": "b"}));
    let only_a = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "source": {"selector": "app == 'a'"}}]});
    world.put(Kind::GlobalNetworkPolicy, "default.only-a", only_a);
    let pool = |cidr: &str| json!({"cidr": cidr, "vxlanMode": "Never", "ipipMode": "Never"});
    world.put(Kind::IpPool, "p4", pool("10.65.0.0/24"));
    world.put(Kind::IpPool, "p6", pool("fd65::/120"));
    crate::nodes::block(&world, "n1", "10.65.0.0/26");
    crate::nodes::block(&world, "n1", "fd65::/122");
    node.up();
    // Of each two holders of one address the first may talk to b, the second may not. What changes hands is the
    // address, with the same ports: only a connection that is still known would let the second one through.
    for away in [false, true] {
        let first = node.pod("a", "10.65.0.1", "fd65::1");
        first.announce(&world, json!({"app": "a"}));
        node.programmed(&first);
        let server = crate::traffic::Peer::new(&b.ns, 7);
        let client = crate::traffic::Peer::new(&first.ns, 5000);
        for to in b.both() {
            eventually(LONG, || client.ask(&server, to, 7));
        }
        if away {
            node.kill();
        }
        first.withdraw(&world);
        run("ip -n n1 link del calia; ip netns del a");
        drop(client);
        let second = node.pod("z", "10.65.0.1", "fd65::1");
        second.announce(&world, json!({"app": "z"}));
        if away {
            node.up();
        }
        node.programmed(&second);
        let client = crate::traffic::Peer::new(&second.ns, 5000);
        for to in b.both() {
            assert!(client.ask(&server, to, 7).is_err(), "{to} took over a connection");
        }
        echo_and_talk(&b, &second);
        second.withdraw(&world);
        run("ip -n n1 link del caliz; ip netns del z");
        drop((server, client));
    }
    assert!(node.metric("caracal_conntrack_flushed").unwrap() >= 2.0);
}

/// The other direction is allowed, so the second holder is really there.
fn echo_and_talk(b: &crate::world::Pod, second: &crate::world::Pod) {
    echo(&second.ns, 81);
    for to in second.both() {
        eventually(LONG, || talk(&b.ns, to, 81).map(drop));
    }
}

#[test]
fn netns_killed_in_the_middle_of_a_first_load() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    echo(&b.ns, 80);
    // Enough to be written in several batches.
    for n in 0..4 {
        let nets: Vec<String> = (0..15_000)
            .map(|i| format!("11.{n}.{}.{}/32", i / 250, i % 250))
            .collect();
        world.put_with(
            Kind::GlobalNetworkSet,
            &format!("set{n}"),
            json!({"labels": {"set": n.to_string()}}),
            json!({"nets": nets}),
        );
        let deny = json!({"order": n, "selector": "app == 'b'", "types": ["Ingress"],
            "ingress": [{"action": "Deny", "source": {"selector": format!("set == '{n}'")}}]});
        world.put(Kind::GlobalNetworkPolicy, &format!("default.deny{n}"), deny);
    }
    let random = RandomState::new();
    for death in 0..8u64 {
        node.sh("nft flush ruleset");
        node.start();
        // Our tables come first, empty; what is in them comes in the batches that follow.
        let deadline = Instant::now() + LONG;
        while node.sh("nft list tables").is_empty() {
            assert!(Instant::now() < deadline, "no table was written");
        }
        std::thread::sleep(Duration::from_millis(random.hash_one(death) % 40));
        node.kill();
        let hooks = node.sh("nft list chains").matches("filter-forward").count();
        println!(
            "-- left: {}, hooks: {hooks}",
            node.sh("nft list tables").replace('\n', ", ")
        );
        // Never half of it.
        assert!(hooks == 0 || hooks == 2, "{}", node.sh("nft list chains"));
    }
    node.up();
    let tables = node.sh("nft list tables");
    assert_eq!(tables.lines().count(), 2, "{tables}");
    // The end of the tier denies all that no policy allows.
    blocked(&a.ns, b.both(), 80);
    let allow = json!({"order": 100, "selector": "app == 'b'", "types": ["Ingress"], "ingress": [{"action": "Allow"}]});
    world.put(Kind::GlobalNetworkPolicy, "default.allow", allow);
    reaches(&a.ns, b.both(), 80);
}
