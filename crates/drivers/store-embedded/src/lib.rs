//! Durable single-machine server of the etcd v3 API.
//!
//! Clients know only etcd: `store-etcd` and `etcdctl` work on this as on one member of etcd. One file holds everything
//! ([redb](https://docs.rs/redb)); one thread writes it.
//!
//! Invariants:
//! - Acknowledged means on disk. Requests that wait together share one sync (group commit); each is a revision of its
//!   own, whole or not at all.
//! - A watcher sees every revision once, in order: it follows the log from a revision on, in memory while it keeps up,
//!   on disk when it does not. So a slow one neither delays writers nor holds memory.
//! - Nothing of a request is written before all of it is checked: after that only the storage can fail, and then no part
//!   of the batch is acknowledged.
//! - A sync that failed is not forgotten: the whole file is written and synced again before anything else is.
//! - A full disk refuses what needs space; reads, deletes and compactions go on. One that became read-only refuses every
//!   write; reads go on.
//! - It is reached through a unix socket of mode 0600, with TLS by clients that show a certificate of the right
//!   authority, or without on loopback when asked to.

mod apply;
mod backend;
mod backup;
mod census;
mod db;
mod engine;
mod error;
mod figures;
mod gateway;
mod leases;
mod overlay;
mod query;
mod recent;
mod record;
mod scrub;
mod server;
mod service;
mod shared;
mod span;
mod txn;
mod verify;
mod view;
mod watcher;
mod writer;

pub use backend::{Disk, Files, Medium};
pub use backup::{Backup, restore, shrink};
pub use engine::{Engine, Options, Stats};
pub use error::{BackupError, OpenError, RequestError, ServeError};
pub use server::{Listen, Server};
