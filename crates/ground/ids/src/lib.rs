//! Names and numbers as types: parsed once at the edge, then carried as what they are.
//!
//! **Invariant:** a value of a type in this crate was checked when it was made; code that holds one never checks again.

mod name;
mod policy_id;
mod set_id;

pub use name::{BadName, BlockAffinityName, HandleId, NamespaceName, NodeName, ProfileName, TierName};
pub use policy_id::{PolicyId, PolicyKind};
pub use set_id::{IpSetId, WorkloadId};
