//! Questions about policy, over manifests or a datastore.
//!
//! - [`policy`]: `caracal policy diff|test|lint`, what a change does, whether it is tested, what is wrong with it.
//! - [`policy_with`]: the same over streams and a datastore of the caller's, for tests.
//!
//! **Invariant:** nothing is written to the datastore.

mod policy;

pub use policy::{Io, policy, policy_with};
