//! Desired-versus-observed tracker.
//!
//! A driver has two pictures of the kernel's state: what should be there (fed by the engine's
//! deltas) and what is there (read back at the start, then followed through the driver's own writes
//! and the kernel's events). This crate keeps both, and at any moment the difference: what to write
//! and what to delete. Every driver touches only that.
//!
//! - [`Tracker`]: keys with values. Equality of desired and observed may be the caller's
//!   ([`Same`]), for kernels that fill in fields of their own.
//! - [`SetTracker`]: keys alone.
//!
//! ```
//! use caracal_delta::Tracker;
//!
//! let mut routes = Tracker::new();
//! routes.replace_observed([("10.0.0.0/24", "eth0"), ("10.0.9.0/24", "eth0")]);
//! routes.set_desired("10.0.0.0/24", "eth0");
//! routes.set_desired("10.0.1.0/24", "eth1");
//! let write: Vec<_> = routes.pending_updates().map(|update| *update.key).collect();
//! let delete: Vec<_> = routes.pending_deletes().map(|(key, _)| *key).collect();
//! assert_eq!((write, delete), (vec!["10.0.1.0/24"], vec!["10.0.9.0/24"]));
//!
//! routes.applied(&"10.0.1.0/24"); // the write went well, the delete failed
//! assert_eq!((routes.updates_len(), routes.deletes_len()), (0, 1));
//! ```
//!
//! # Invariants
//!
//! - The pending updates are exactly the keys that are desired and not observed as desired; the
//!   pending deletes exactly those observed and not desired.
//! - Every call costs what it changes. Only the calls that replace a whole picture look at all of it.
//! - Nothing is forgotten by failing: what was not reported as done stays pending.
//! - Iteration is in the order of the keys, whatever the order of the calls was.

mod set;
mod tracker;

pub use set::SetTracker;
pub use tracker::{Same, Tracker, Update};
