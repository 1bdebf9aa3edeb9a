//! The policy engine: from the objects of the cluster to what one node must enforce, incrementally and purely.
//!
//! [`Engine::apply`] takes [`Update`](caracal_update::Update)s in any order; [`Engine::flush`] gives the
//! [`Delta`](caracal_desired::Delta)s since the last flush, ordered so that nothing ever refers to what is not there.
//! What it means is `calico-components.md` §3; where each part of that is:
//!
//! - `scope`: what a selector means where it is written (§3.6), as structure, never as text.
//! - `rules`: a rule with everything resolved (§3.3, §3.6, §3.7).
//! - `policy`, `tier`, `lists`: types, order, tie-breaks, the lists of an endpoint (§3.1, §3.2, §3.4).
//! - `profile`, `objects`: profiles, endpoints, network sets; labels that are forced and inherited (§3.6, §3.11).
//! - `services`: the ranges that services have their addresses of (§3.10).
//! - `index`: which labelled things match which selectors, at the cost of what changed.
//! - `cluster`, `sets`: IP sets and their members. `local`: this node's endpoints. `engine`: all of it together.
//!
//! # Fail closed
//!
//! An object with a mistake is named in `Delta::Invalid` with the field, disturbs nothing else, and
//!
//! - a rule of a policy or profile becomes a Deny of everything in its place;
//! - a policy whose selector cannot be read selects nothing;
//! - a policy in a tier that does not exist is enforced after all tiers that do, and that tier ends in Deny;
//! - a profile that does not exist denies (but `projectcalico-default-allow`, which is built in);
//! - a workload endpoint of this node is left out: its interface is unknown then, and dropped;
//! - a host endpoint, or a network set, keeps what can be read.
//!
//! # Invariants
//!
//! - The fold of all deltas is a function of the last update of each key: not of their order, nor of when flushes came.
//! - After each flush no endpoint names a policy or profile, and no rule an IP set, that is not in the tables.
//! - Only what this node's endpoints need is emitted (and policies with the hint `AssumeNeededOnEveryNode`).
//! - A flush after no change is empty.

mod cluster;
mod engine;
mod faults;
mod index;
mod lists;
mod local;
mod objects;
mod policy;
mod profile;
mod rules;
mod scope;
mod services;
mod sets;
mod store;
mod tier;
mod vocabulary;

pub use engine::{Counts, Engine};
