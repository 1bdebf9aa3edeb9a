//! The incremental route engine: pools, blocks and nodes in; routes, VTEPs, hosts and pools out.
//!
//! Feed it with [`Engine::apply`], take what changed with [`Engine::flush`]. Every destination is computed from the
//! claims on it (a block's owner, a borrower, a node's own or tunnel address, a workload), the pool it is in and the
//! addresses of the node it is on; only destinations that a change touches are computed again.
//!
//! **Invariant:** `fold(flush outputs) == from_scratch(final state)`, whatever the order of updates.

mod claim;
mod engine;
mod parse;

pub use engine::{Engine, RouteSource};
pub use parse::vtep_mac;
