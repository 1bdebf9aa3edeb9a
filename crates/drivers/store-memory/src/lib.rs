//! A store in memory that plays etcd or Kubernetes, quirks included, for tests of everything above the contract.
//!
//! - [`MemoryStore::etcd`]: decimal revisions of one counter, every write is an event, all kinds can be written.
//! - [`MemoryStore::kubernetes`]: opaque revisions, short history per kind, small pages, a write that changes nothing
//!   makes no event, endpoints and profiles are derived ([`MemoryStore::derive`]) and read-only.
//!
//! Faults on demand: failing calls, broken or expired watches, watches held back (no order across kinds), values that
//! cannot be read, compaction.
//!
//! **Invariant:** what one mode allows and the other does not, the contract leaves open.

mod faults;
mod state;
mod store;
mod watch;

pub use faults::Op;
pub use store::MemoryStore;
