//! Judges a recorded history of a datastore with revisions: what clients asked and were told, and what watches showed,
//! while the server was killed again and again.
//!
//! [`check`] proves, or names what is wrong ([`Violation`]):
//!
//! - **Linearizable**, per key and over all keys: revisions are one order of all changes; a call that returned before
//!   another was made is before it in that order (reads, too: nothing stale); every answer is what the changes up to its
//!   revision make of an empty store, with versions, revisions and leases.
//! - **Nothing acknowledged is lost, nothing is half applied:** a change is found at its revision with all its parts.
//! - **Nothing happens by itself:** every revision has one cause: an acknowledged call, or one call whose fate nobody
//!   was told (it was on its way at a kill: it happened once and whole, or not at all), or the end of a lease. What was
//!   refused left no trace.
//! - **Watches:** every revision once, in order, whole, across restarts and resumptions; all watches and all reads agree
//!   about every revision. What a watch did not show must have been compacted away.
//!
//! The order needs no search, as in checkers for stores without revisions: the store names it, and this only has to
//! believe nothing else. One watch over all keys from the first revision on is the witness ([`Log`]); that it was told the
//! truth follows from every other answer agreeing with it. Calls are on one clock: any numbers that grow with time.
//!
//! Pure: no clock, no threads, no I/O. It is tested against wrong histories of every kind above.

mod cause;
mod check;
mod effect;
mod log;
mod record;
mod violation;
mod watch;

pub use check::{Proof, check};
pub use log::Log;
pub use record::{
    Answer, Call, Compare, Event, Field, History, Item, Op, Outcome, Refusal, Span, Step, Txn, Version, Watch,
};
pub use violation::Violation;
