//! Lists and watches a set of kinds, merged into one stream of events with the in-sync token.
//!
//! - Snapshot pages are passed on as they come; [`Event::InSync`] follows once, after the first complete snapshot of
//!   every kind. A change is passed on at once; only what is there already shares a batch.
//! - A lost watch goes on where it stopped. When that is too old, the kind is listed again, and only what changed is
//!   passed on, with deletes for what is gone.
//! - What one node's program needs is a [`Stream`]; the datastore itself leaves out what it can tell apart by its key.
//! - An object that cannot be read is gone, and reported ([`Event::Unreadable`]), until it can be read again.
//!
//! **Invariant:** folding the updates gives the store's objects (those that the filters keep), whatever fails between.
//! **Invariant:** memory is one short text and a number per object; objects themselves are not kept.
//!
//! [`Event::InSync`]: caracal_update::Event::InSync
//! [`Event::Unreadable`]: caracal_update::Event::Unreadable

mod follow;
mod known;
mod merge;
mod source;
mod streams;

pub use merge::{Options, Syncer};
pub use source::Source;
pub use streams::Stream;
