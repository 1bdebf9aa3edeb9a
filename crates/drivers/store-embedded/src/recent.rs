//! The latest revisions, in memory, for watchers that keep up.
//!
//! Bounded: who falls behind what is kept here reads the log on disk instead. So a slow watcher costs nothing.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use caracal_wire::Event;
use prost::Message;

/// What one revision changed. Events carry the version they replaced.
#[derive(Debug, PartialEq)]
pub(crate) struct Revision {
    pub(crate) number: i64,
    pub(crate) events: Vec<Event>,
    /// When it was committed.
    pub(crate) at: Instant,
    size: usize,
}

impl Revision {
    pub(crate) fn new(number: i64, events: Vec<Event>) -> Self {
        let size = events.iter().map(|event| event.encoded_len() + 128).sum();
        Self {
            number,
            events,
            at: Instant::now(),
            size,
        }
    }
}

/// The latest revisions without a gap, from `first` on.
pub(crate) struct Recent {
    inner: RwLock<Inner>,
    max_bytes: usize,
}

struct Inner {
    first: i64,
    revisions: VecDeque<Arc<Revision>>,
    bytes: usize,
}

impl Recent {
    /// Keeps at most about `max_bytes`; `next` is the first revision that will be pushed.
    pub(crate) fn new(next: i64, max_bytes: usize) -> Self {
        Self {
            inner: RwLock::new(Inner {
                first: next,
                revisions: VecDeque::new(),
                bytes: 0,
            }),
            max_bytes,
        }
    }

    /// Adds the revisions of a batch, in order.
    pub(crate) fn push(&self, revisions: Vec<Revision>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        for mut revision in revisions {
            revision.at = at;
            inner.bytes += revision.size;
            inner.revisions.push_back(Arc::new(revision));
        }
        while inner.bytes > self.max_bytes {
            let Some(old) = inner.revisions.pop_front() else {
                break;
            };
            inner.bytes -= old.size;
            inner.first = old.number + 1;
        }
    }

    /// Forgets everything: the next push begins with `next`.
    pub(crate) fn reset(&self, next: i64) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner {
            first: next,
            revisions: VecDeque::new(),
            bytes: 0,
        };
    }

    /// All revisions from one on; none when some of them are not here any more.
    pub(crate) fn since(&self, from: i64) -> Option<Vec<Arc<Revision>>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.checked_sub(inner.first)?).ok()?;
        Some(inner.revisions.iter().skip(skip).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_wire::{Bytes, KeyValue};

    fn revision(number: i64, bytes: usize) -> Revision {
        let kv = KeyValue {
            value: Bytes::from(vec![0; bytes]),
            ..Default::default()
        };
        Revision::new(
            number,
            vec![Event {
                kv: Some(kv),
                ..Default::default()
            }],
        )
    }

    fn numbers(recent: &Recent, from: i64) -> Option<Vec<i64>> {
        recent
            .since(from)
            .map(|found| found.iter().map(|r| r.number).collect())
    }

    #[test]
    fn keeps_what_fits_and_says_what_is_gone() {
        let recent = Recent::new(2, 1000);
        assert_eq!(numbers(&recent, 2), Some(vec![]));
        recent.push(vec![revision(2, 300), revision(3, 300)]);
        assert_eq!(numbers(&recent, 2), Some(vec![2, 3]));
        recent.push(vec![revision(4, 300)]);
        assert_eq!(numbers(&recent, 2), None);
        assert_eq!(numbers(&recent, 3), Some(vec![3, 4]));
        assert_eq!(numbers(&recent, 5), Some(vec![]));
    }

    #[test]
    fn a_revision_larger_than_all_empties_it() {
        let recent = Recent::new(2, 1000);
        recent.push(vec![revision(2, 10), revision(3, 5000)]);
        assert_eq!(numbers(&recent, 3), None);
        assert_eq!(numbers(&recent, 4), Some(vec![]));
        recent.push(vec![revision(4, 10)]);
        assert_eq!(numbers(&recent, 4), Some(vec![4]));
    }
}
