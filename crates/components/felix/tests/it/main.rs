//! The agent in network namespaces: real kernel, real packets, a real datastore, killed and started again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bad_input;
mod cleanup;
mod conditions;
mod config;
mod crash;
mod decide;
mod drift;
mod encapsulated;
mod enforce;
mod hostile;
mod kernel;
mod live;
mod loops;
mod nodes;
mod openstack;
mod pods;
mod reports;
mod semantics;
mod traffic;
mod trial;
mod tunnels;
mod upgrade;
mod world;

/// Not a test: the agent and the store run as processes of this very program, so that what is tested is what was built.
#[test]
fn role() {
    world::play_role();
}
