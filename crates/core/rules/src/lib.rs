//! Desired state to typed, backend-neutral rules and sets.
//!
//! [`Compiler`] takes the deltas of `desired` in and gives deltas of two tables out, one per address family; [`ir`] is
//! the language of those tables. `docs/design/ruleset.md` shows and explains the layout.
//!
//! **Invariants**
//! - The content of the tables is a function of the current state and configuration, never of the way there.
//! - A packet's verdict is that of `oracle`. Rules change places only among neighbours of one verdict.
//! - What is missing denies: an endpoint, a policy, a profile, an IP set.
//! - Work follows the change: one policy costs the lists that hold it, one set member costs one element.

mod atom;
mod base;
mod chain;
mod compiler;
mod config;
mod counters;
mod counting;
mod few;
mod hosts;
mod ip_sets;
pub mod ir;
mod list;
mod merge;
pub mod model;
mod names;
mod out;
mod owned;
mod slot;
mod source;
mod table;

pub use compiler::Compiler;
pub use config::{DenyAction, Failsafe, HostAction, LogRate, OpenStack, RulesConfig, ServiceLoops};
pub use counters::{Counted, What};
pub use counting::Counting;

/// A hash map whose order nothing depends on.
type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
