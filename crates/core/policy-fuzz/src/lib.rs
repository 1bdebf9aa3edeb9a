//! Random snapshots of a cluster with packets, and three opinions on each packet that must agree: a reference that
//! reads the objects alone, the engine's output read by the oracle, and a dataplane.
//!
//! - [`Case::random`] makes a case of a seed; the same seed makes the same case on every machine. [`Case::random_staged`]
//!   has more staged policies, [`Case::committed`] is what is when they are enforced.
//! - [`Reference`] is small and obvious: nested loops over the objects, a selector parser of its own. It can be told to
//!   make one deliberate [`Mistake`], which the suite must catch.
//! - [`Dataplane`] is what packets go through: [`Model`] here, the kernel in the lab.
//! - [`check`] finds the first packet on which they differ; [`shrink`] makes the case small and [`Case::to_yaml`] shows it.
//!
//! **Invariant:** pure: no clock, no randomness but the seed.

mod case;
mod check;
mod dataplane;
mod generate;
mod mistake;
mod reference;
mod rng;
mod selector;
mod shrink;
mod staged;

pub use case::{Case, NODE};
pub use check::{Difference, check, check_believing};
pub use dataplane::{Dataplane, Model, desired, rules_config};
pub use mistake::Mistake;
pub use reference::Reference;
pub use shrink::shrink;
