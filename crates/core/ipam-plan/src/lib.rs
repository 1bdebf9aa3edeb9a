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
//! No two blocks from which addresses are taken overlap; `claim.rs` has the protocol and the proof.
//!
//! **Invariant:** an address is in a block's `allocations` exactly when it is not in its `unallocated` queue.

mod address;
mod affinity;
mod assign;
mod block;
mod check;
mod claim;
mod collector;
mod error;
mod handle;
mod holder;
mod merge;
mod observed;
mod pool;
mod problem;
mod release;
mod snapshot;
mod spare;
mod split;

mod usage;

pub use address::plan_address;
pub use affinity::{plan_claim_affinity, plan_release_affinity};
pub use assign::{GroupPlan, plan_group};
pub use block::{Allocation, Block, HostReserved, Owner, RESERVED_HANDLE, ReleaseOutcome};
pub use caracal_api::Stamp;
pub use check::{Finding, Report, check, confirmed};
pub use collector::{Chore, Collector};
pub use error::PlanError;
pub use handle::{counted, handle_exact, handle_with};
pub use holder::{Holder, cidr_of_block_name};
pub use merge::plan_merge;
pub use observed::{Asker, BlockWrite, Observed, Plan, Step, Want, cooldown};
pub use pool::{Candidate, PoolQuery, pool_covering, select_pools};
pub use problem::{Fix, Problem, ProblemKind};
pub use release::{ReleasePlan, ReleaseRequest, handles_of, plan_release, plan_thaw};
pub use snapshot::{Life, Snapshot, User, View};
pub use spare::spare_blocks;
pub use split::split_pool;
pub use usage::{Usage, utilisation};
