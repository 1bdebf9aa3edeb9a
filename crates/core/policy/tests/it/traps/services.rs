//! §3.8: endpoints of services as matches.

use std::sync::Arc;

use caracal_net::Proto;
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};

use super::*;

fn slice(name: &str, service: &str, addresses: &[&str], ports: &[(Proto, u16)]) -> SliceUpdate {
    let port = |(proto, port): &(Proto, u16)| SlicePort {
        proto: *proto,
        port: *port,
    };
    SliceUpdate {
        key: SliceKey {
            namespace: "shop".into(),
            name: name.into(),
        },
        value: Some(Arc::new(EndpointSlice {
            service: service.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ports: ports.iter().map(port).collect(),
        })),
    }
}

fn gone(name: &str) -> SliceUpdate {
    SliceUpdate {
        value: None,
        ..slice(name, "", &[], &[])
    }
}

/// A world where `shop/db` has one slice, and two rules about it: from it, and to it.
fn world() -> (World, [IpSetId; 2]) {
    let mut world = World::with_pod();
    let ports = [(Proto::TCP, 5432)];
    world
        .node
        .engine
        .apply_slice(&slice("a", "db", &["10.1.0.1", "fd01::1"], &ports));
    let service = json!({"services": {"name": "db", "namespace": "shop"}});
    world.put(
        "GlobalNetworkPolicy",
        "",
        "db",
        json!({
            "ingress": [{"action": "Allow", "source": service}],
            "egress": [{"action": "Allow", "destination": service}],
        }),
    );
    let policy = world.policy("GlobalNetworkPolicy/db");
    let (from, to) = (&policy.ingress[0].src, &policy.egress[0].dst);
    assert!(from.ip_port_sets.is_empty() && to.ip_sets.is_empty());
    let sets = [from.ip_sets[0].clone(), to.ip_port_sets[0].clone()];
    assert!(sets[0].as_str().starts_with("svcnoport:") && sets[1].as_str().starts_with("svc:"));
    (world, sets)
}

#[test]
fn a_destination_has_ports_and_a_source_has_none() {
    let (world, [from, to]) = world();
    assert_eq!(world.members(&from), set(&["10.1.0.1/32", "fd01::1/128"]));
    assert_eq!(
        world.members(&to),
        set(&["10.1.0.1 TCP 5432", "fd01::1 TCP 5432"])
    );
}

#[test]
fn slices_add_up_and_may_say_the_same() {
    let (mut world, [from, to]) = world();
    let ports = [(Proto::TCP, 5432), (Proto::UDP, 53)];
    world
        .node
        .engine
        .apply_slice(&slice("b", "db", &["10.1.0.1", "10.1.0.2"], &ports));
    world.flush();
    assert_eq!(
        world.members(&from),
        set(&["10.1.0.1/32", "10.1.0.2/32", "fd01::1/128"])
    );
    assert_eq!(world.members(&to).len(), 5);
    // What both say stays while one of them does.
    world.node.engine.apply_slice(&gone("a"));
    let deltas = world.deltas();
    assert_eq!(deltas.len(), 2, "members only: {deltas:?}");
    assert_eq!(world.members(&from), set(&["10.1.0.1/32", "10.1.0.2/32"]));
    assert!(world.members(&to).contains("10.1.0.1 TCP 5432"));
    world.node.engine.apply_slice(&gone("b"));
    world.flush();
    assert!(world.members(&from).is_empty() && world.members(&to).is_empty());
}

#[test]
fn a_slice_may_move_to_another_service_or_to_none() {
    let (mut world, [from, _]) = world();
    for service in ["web", ""] {
        world
            .node
            .engine
            .apply_slice(&slice("a", service, &["10.1.0.1"], &[]));
        world.flush();
        assert!(world.members(&from).is_empty(), "now of {service:?}");
        world
            .node
            .engine
            .apply_slice(&slice("a", "db", &["10.1.0.1"], &[]));
        world.flush();
        assert_eq!(world.members(&from), set(&["10.1.0.1/32"]));
    }
}

#[test]
fn a_namespaced_policy_means_a_service_of_its_own_namespace_by_default() {
    let mut world = World::with_pod();
    let update = SliceUpdate {
        key: SliceKey {
            namespace: "red".into(),
            name: "x".into(),
        },
        ..slice("x", "db", &["10.1.0.9"], &[])
    };
    world.node.engine.apply_slice(&update);
    let service = json!({"services": {"name": "db"}, "ports": [80]});
    world.put(
        "NetworkPolicy",
        "red",
        "db",
        json!({"ingress": [{"action": "Allow", "protocol": "TCP", "source": service}]}),
    );
    let policy = world.policy("NetworkPolicy/red/db");
    let from = &policy.ingress[0].src;
    assert_eq!(world.members(&from.ip_sets[0]), set(&["10.1.0.9/32"]));
    assert_eq!(from.ports.len(), 1, "source ports may stand beside a service");
}
