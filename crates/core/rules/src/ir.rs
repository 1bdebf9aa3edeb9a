//! The typed, backend-neutral form of a packet filter: chains of rules, named sets and maps, and the deltas between
//! two states of them. One [`TableState`] per address family; a backend (nftables, iptables) encodes it.
//!
//! **Invariants**
//! - Everything here is a value: no handle, no kernel number, no clock.
//! - Elements of an interval set are disjoint and do not touch; [`CidrUnion`] and [`merge_spans`] make them so.
//! - Applying the deltas of a change to the old state gives the new state, and nothing else does.

mod key;
mod merge;
mod name;
mod render;
mod rule;
mod table;

pub use key::{Data, Element, Elements, Field, Key, KeyType, Span};
pub use merge::{CidrUnion, UnionChange, merge_spans};
pub use name::{ChainName, CounterName, IfName, LongName, SetName};
pub use render::render;
pub use rule::{
    CtState, CtStatus, FibKey, LogTo, Match, NatTo, Per, PktType, RejectWith, Rule, Statement, Verdict,
};
pub use table::{
    BadDelta, BaseChain, Chain, ChainKind, DataType, Hook, Policy, Set, SetDef, TableDelta, TableState,
};
