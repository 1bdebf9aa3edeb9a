//! Protobuf of the etcd v3 API: messages, client and server stubs.
//!
//! Only what a client of a network's datastore uses is here, and that part is compatible with etcd on the wire. The
//! sources are in `proto/`; `src/generated/` is committed and rewritten by `xtask/protogen` (its docs say how).
//!
//! Invariant: names of packages, services and methods and the numbers of fields are etcd's. `bytes` fields are
//! [`Bytes`], so that one value can be in many answers without being copied.

/// A key's versions and their changes (package `mvccpb`).
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
#[path = "generated/mvccpb.rs"]
pub mod mvccpb;

/// Requests, responses and services (package `etcdserverpb`).
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
#[path = "generated/etcdserverpb.rs"]
pub mod etcdserverpb;

pub use mvccpb::{Event, KeyValue, event::EventType};
pub use prost::bytes::Bytes;
