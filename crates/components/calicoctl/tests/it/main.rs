//! calicoctl over the embedded store, on a socket, as users have it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bad_input;
mod broken;
mod calico;
mod changes;
mod errors;
mod fixtures;
mod ipam;
mod life;
mod listing;
mod many;
mod migrate;
mod moving;
mod node;
mod rig;
mod trial;

/// Not a test: the program as a process of its own, of this very build, for tests that kill it.
#[test]
fn role() {
    migrate::play_role();
}
