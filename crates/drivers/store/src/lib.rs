//! The datastore contract that fits its poorest backend (design §2).
//!
//! - A revision is an opaque string per object; [`WatchFrom`] is opaque too and belongs to one kind.
//! - A watch is per kind, without order across kinds; it may expire ([`StoreError::Expired`]): list again.
//! - Lists come in pages. A delete names the object it saw.
//! - Nothing needs a transaction over several objects. Some backends have one ([`Store::write_together`]), which saves
//!   requests; what is written with it is right without it, too.
//! - A write that failed with [`StoreError::Unavailable`] may have been done: read again before repeating it.
//! - A part of a kind (by namespace, name's beginning, labels) can be listed and watched; the backend filters where it can.
//! - Some kinds are derived and read-only on Kubernetes ([`StoreError::Unsupported`]).
//!
//! [`Reports`] are no objects: nodes write them under a lease, so that they go with the node.
//!
//! Beside the contract: [`Checked`] refuses what breaks a rule before it is written; [`apply`], [`ensure`], [`modify`]
//! and [`retire`] are the usual ways to write; the functions on metadata are what every backend does alike.
//!
//! **Invariant:** an `Ok` of a write means that the write is durable in the backend and later reads see it.

mod apply;
mod backoff;
mod checked;
mod error;
mod meta;
mod reports;
mod retire;
mod together;
mod traits;

pub use apply::{Applied, apply, ensure, modify};
pub use backoff::Backoff;
pub use checked::Checked;
pub use error::StoreError;
pub use meta::{
    check_key, check_preconditions, clock, derived_uid, has_status, merge_for_status, merge_for_update, now,
    stamp, unreadable,
};
pub use reports::{Lease, ReportKey, Reports, Subject};
pub use retire::{Retired, retire};
pub use together::{Found, Reads, Write, check_together};
pub use traits::{ListOptions, Page, Preconditions, Store, WatchEvent, WatchFrom, WatchStream, only_part};
