//! What a change of policy changes, whether policy is tested, and what is wrong with it. Pure: states are v3 objects in
//! memory.
//!
//! - [`State`]: the objects, from manifests or from a datastore; [`give_addresses`] for pods that have none yet.
//! - [`diff`]: which packets between two states change verdict, exactly, grouped for people.
//!
//! **Invariant:** verdicts are the engine's and the oracle's: what is said here is what nodes enforce.

mod diff;
mod map;
mod names;
mod region;
mod state;

pub use diff::{Change, Diff, Headers, Party, Subject, diff};
pub use names::endpoint_name;
pub use state::{HostPod, KINDS, State, give_addresses};
