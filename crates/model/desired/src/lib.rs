//! What a node should have: the contract between brain and hands.
//!
//! [`Desired`] is a set of shared tables (policies, profiles, IP sets, routes, VTEPs, hosts, pools) plus endpoints, each
//! listing ordered policy ids per tier and per list. Engines emit [`Delta`]s; a driver owns a replica and folds them in
//! with [`Desired::apply`]. `fold(deltas) == from_scratch(final state)`.
//!
//! **Invariant:** between two flushes of an engine no endpoint names a policy, and no rule an IP set, that is not in
//! the tables: deltas that add come before those that refer, deltas that remove come after.

mod delta;
mod endpoint;
mod list;
mod net;
mod rule;
mod set;

pub use delta::{Delta, Desired, Invalid};
pub use endpoint::{HostEndpoint, TierPolicies, WorkloadEndpoint};
pub use list::List;
pub use net::{EncapType, Host, Pool, RouteFlags, RouteInfo, Vtep};
pub use rule::{IcmpMatch, Policy, Profile, Rule, RuleOrigin, Side};
pub use set::{IpSet, IpSetKind, IpSetMember};
