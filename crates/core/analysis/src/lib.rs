//! What a change of policy changes, whether policy is tested, and what is wrong with it. Pure: states are v3 objects in
//! memory.
//!
//! - [`State`]: the objects, from manifests or from a datastore; [`give_addresses`] for pods that have none yet.
//! - [`diff`]: which packets between two states change verdict, exactly, grouped for people.
//! - [`lint`]: what is wrong with policies, or does nothing.
//! - [`Suite`]: assertions on who reaches whom, judged, with the rules that none of them tested.
//!
//! **Invariant:** verdicts are the engine's and the oracle's: what is said here is what nodes enforce.

mod diff;
mod judge;
mod lint;
mod map;
mod names;
mod region;
mod state;
mod suite;

pub use diff::{Change, Diff, Headers, Party, Subject, diff};
pub use lint::{Finding, Severity, lint};
pub use names::endpoint_name;
pub use state::{HostPod, KINDS, Service, ServicePort, State, Target, give_addresses};
pub use suite::{Coverage, Outcome, Suite, Verdicts};
