//! IPAM as pure plans: `plan(observed, wanted) → steps`.
//!
//! A block is the unit of allocation and of compare-and-swap; a plan never spans two blocks without being safe after
//! each of its steps. Steps carry whole objects with the revision that was observed, so that executing one is dull: a
//! conflict means that somebody else was faster, and the answer is to observe and plan again.
//!
//! The order inside a plan makes a crash after any step harmless: a handle counts an address before the block gives it
//! out, and stops counting it after the block took it back; an affinity is `pending` before its block exists and
//! `confirmed` after (`calico-components.md` §4.6).
//!
//! **Invariant:** an address is in a block's `allocations` exactly when it is not in its `unallocated` queue.

mod block;
mod error;
mod handle;
mod plan;
mod pool;
mod release;

pub use block::{Block, Owner, ReleaseOutcome};
pub use error::PlanError;
pub use handle::{handle_with, handle_without};
pub use plan::{AssignPlan, AssignRequest, Observed, Step, plan_assign, plan_assign_address};
pub use pool::{Candidate, PoolQuery, select_pools};
pub use release::{ReleasePlan, ReleaseRequest, plan_release};
