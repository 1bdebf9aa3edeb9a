//! calicoctl over the embedded store, on a socket, as users have it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod changes;
mod errors;
mod ipam;
mod life;
mod listing;
mod many;
mod moving;
mod rig;
mod trial;
