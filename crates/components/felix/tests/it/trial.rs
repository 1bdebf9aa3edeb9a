//! `calicoctl apply --confirm-within`: a host that is locked out comes back by itself.

use std::{net::IpAddr, time::Duration};

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{blocked, echo, reaches, talk},
    world::{LONG, Node, World, wire},
};

/// The time for confirmation and the allowance for clocks: 20 s, on a slow machine.
const BACK: Duration = Duration::from_secs(90);

struct Side {
    node: Node,
    outside: Node,
    addresses: [IpAddr; 2],
}

/// A node that serves two ports, and a neighbour that uses them.
fn side(world: &World, n: u8) -> Side {
    let node = world.node(&format!("n{n}"));
    let outside = world.node(&format!("out{n}"));
    wire(
        (
            &node.name,
            &[&format!("172.20.{n}.1/24"), &format!("fd20:{n}::1/64")],
        ),
        (
            &outside.name,
            &[&format!("172.20.{n}.9/24"), &format!("fd20:{n}::9/64")],
        ),
    );
    for port in [22, 8080] {
        echo(&node.ns, port);
    }
    Side {
        addresses: [
            format!("172.20.{n}.1").parse().unwrap(),
            format!("fd20:{n}::1").parse().unwrap(),
        ],
        node,
        outside,
    }
}

fn hosts() -> String {
    let host = |n: u8| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: h{n}}}\n\
             spec: {{node: n{n}, interfaceName: eth0}}\n"
        )
    };
    format!("{}---\n{}", host(1), host(2))
}

#[test]
fn netns_a_host_that_is_locked_out_comes_back_by_itself() {
    netns!(300);
    needs!("root", "ip", "nft", "sh");
    let mut world = World::new();
    let mut sides = [side(&world, 1), side(&world, 2)];
    for side in &mut sides {
        side.node.up();
        reaches(&side.outside.ns, side.addresses, 8080);
    }
    let file = world.dir.path().join("hosts.yaml");
    std::fs::write(&file, hosts()).unwrap();
    let file = file.display();

    // Endpoints without policy and profile: nobody may come in, but by the failsafe ports.
    let mut client = world.calicoctl_that_stays(&format!("apply -f {file} --confirm-within 15s"));
    for side in &sides {
        blocked(&side.outside.ns, side.addresses, 8080);
        reaches(&side.outside.ns, side.addresses, 22);
    }
    // Whoever applied it is gone, and so is the datastore; one of the agents is started anew without it.
    client.kill();
    sides[1].node.kill();
    world.kill_store();
    sides[1].node.start();
    for side in &sides {
        assert!(
            talk(&side.outside.ns, side.addresses[0], 8080).is_err(),
            "it came back too early"
        );
    }
    for side in &sides {
        for address in side.addresses {
            eventually(BACK, || talk(&side.outside.ns, address, 8080).map(drop));
        }
    }

    // With the datastore back nothing changes: nobody confirmed it, and now nobody can.
    world.start_store();
    for side in &sides {
        side.node.ready();
    }
    assert_eq!(world.calicoctl("confirm hep h1 h2"), 1);
    let kept = sides[1].node.dir.join("lib/trial.json");
    eventually(LONG, || {
        if kept.exists() {
            Err("still kept".into())
        } else {
            Ok(())
        }
    });
    for side in &sides {
        reaches(&side.outside.ns, side.addresses, 8080);
    }
    // Applied and confirmed in time it is for good, and an agent that starts later knows it.
    assert_eq!(
        world.calicoctl(&format!("apply -f {file} --confirm-within 1h")),
        0
    );
    assert_eq!(world.calicoctl("confirm hep h1 h2"), 0);
    sides[0].node.kill();
    sides[0].node.up();
    for side in &sides {
        blocked(&side.outside.ns, side.addresses, 8080);
        reaches(&side.outside.ns, side.addresses, 22);
    }
}

/// A policy that closes a port of every pod.
fn closes(order: u32, port: u16) -> serde_json::Value {
    let deny = json!({"action": "Deny", "protocol": "TCP", "destination": {"ports": [port]}});
    json!({"order": order, "selector": "all()", "types": ["Ingress"], "ingress": [deny, {"action": "Allow"}]})
}

#[test]
fn netns_a_node_without_host_endpoint_goes_back_too() {
    netns!(300);
    needs!("root", "ip", "nft", "sh");
    let mut world = World::new();
    let mut node = world.node("n1");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    for pod in [&a, &b] {
        pod.announce(&world, json!({}));
    }
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    node.up();
    for pod in [&a, &b] {
        node.programmed(pod);
    }
    reaches(&a.ns, b.both(), 80);
    let file = world.dir.path().join("closed.yaml");
    let policy = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
                        "metadata": {"name": "default.closed"}, "spec": closes(1, 80)});
    std::fs::write(&file, policy.to_string()).unwrap();
    let apply = |time: &str| format!("apply -f {} --confirm-within {time}", file.display());

    // The agent is killed and starts anew without the datastore: past the deadline it goes back all the same.
    assert_eq!(world.calicoctl(&apply("15s")), 0);
    blocked(&a.ns, b.both(), 80);
    node.kill();
    world.kill_store();
    node.start();
    assert!(talk(&a.ns, b.v4, 80).is_err(), "it came back too early");
    for address in b.both() {
        eventually(BACK, || talk(&a.ns, address, 80).map(drop));
    }
    world.start_store();
    node.ready();
    reaches(&a.ns, b.both(), 80);

    // Where the way back cannot be written down, what is on trial does not come into force.
    let kept = node.dir.join("lib/trial.json");
    eventually(LONG, || {
        if kept.exists() {
            Err("still kept".into())
        } else {
            Ok(())
        }
    });
    std::fs::create_dir(&kept).unwrap();
    assert_eq!(world.calicoctl(&apply("1h")), 0);
    world.put(Kind::GlobalNetworkPolicy, "default.closed-too", closes(2, 81));
    blocked(&a.ns, b.both(), 81);
    for address in b.both() {
        talk(&a.ns, address, 80).unwrap();
    }
    std::fs::remove_dir(&kept).unwrap();
    blocked(&a.ns, b.both(), 80);
    assert!(kept.exists());
}
