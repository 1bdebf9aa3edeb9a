//! How many keys there are under each folder: what comes before a `/` of a key. A client that lists by pages is told with
//! each page how many keys there are in all; for a kind of objects, which is a folder, that need not be counted each time.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use caracal_wire::Bytes;

use redb::ReadableTable;

use crate::apply::is_put;
use crate::db::Snapshot;
use crate::error::RequestError;
use crate::recent::Revision;
use crate::span::Span;
use crate::view::Source;

/// Folders within this many others are known. Deeper ones are counted when somebody asks.
const DEPTH: usize = 8;

/// The numbers as of one revision.
#[derive(Debug, Default)]
pub(crate) struct Census {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// None while it is not known what the store holds.
    revision: Option<i64>,
    folders: HashMap<Box<[u8]>, i64>,
}

impl Inner {
    fn add(&mut self, key: &[u8], more: i64) {
        for folder in folders(key) {
            match self.folders.get_mut(folder) {
                Some(count) => {
                    *count += more;
                    if *count == 0 {
                        self.folders.remove(folder);
                    }
                }
                None => {
                    self.folders.insert(folder.into(), more);
                }
            }
        }
    }
}

/// The folders a key is in, each with the `/` at its end.
fn folders(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    ends.take(DEPTH).map(|(end, _)| &key[..=end])
}

impl Census {
    /// Counts anew: these are all keys there are at a revision.
    pub(crate) fn begin<E>(
        &self,
        revision: i64,
        fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner::default();
        fill(&mut |key| inner.add(key, 1))?;
        inner.revision = Some(revision);
        Ok(())
    }

    /// Counts the keys of a snapshot.
    pub(crate) fn take(&self, snapshot: &Snapshot) -> Result<(), RequestError> {
        self.begin(snapshot.revision(), |add| {
            for entry in snapshot.keys().iter()? {
                add(entry?.0.value());
            }
            Ok(())
        })
    }

    /// Follows revisions, in order.
    pub(crate) fn follow(&self, revisions: &[Revision], now: i64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let events = revisions.iter().flat_map(|revision| &revision.events);
        for event in events {
            let Some(kv) = &event.kv else { continue };
            match (is_put(event), &event.prev_kv) {
                (true, None) => inner.add(&kv.key, 1),
                (false, Some(_)) => inner.add(&kv.key, -1),
                _ => {}
            }
        }
        inner.revision = inner.revision.map(|_| now);
    }

    /// Whether these numbers contradict others that were counted at the same revision.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        let other = other.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        own.revision.is_some() && own.revision == other.revision && own.folders != other.folders
    }

    /// How many keys are in a span at a revision, if that is known.
    pub(crate) fn count(&self, key: &Bytes, range_end: &Bytes, revision: i64) -> Option<i64> {
        let depth = key.iter().filter(|byte| **byte == b'/').count();
        if key.last() != Some(&b'/') || depth > DEPTH || !is_folder(key, range_end) {
            return None;
        }
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.revision == Some(revision)).then(|| inner.folders.get(&**key).copied().unwrap_or(0))
    }
}

/// Whether a span is all that begins with its key.
fn is_folder(key: &Bytes, range_end: &Bytes) -> bool {
    let Some((last, before)) = key.split_last() else {
        return false;
    };
    let span = Span::new(key.clone(), range_end);
    matches!(span.bounds().1, Bound::Excluded(end) if end.split_last() == Some((&(last + 1), before)))
}

#[cfg(test)]
mod tests {
    use caracal_wire::{Event, EventType, KeyValue};

    use super::*;

    fn event(key: &str, put: bool, before: bool) -> Event {
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        Event {
            r#type: i32::from(if put { EventType::Put } else { EventType::Delete }),
            prev_kv: before.then(|| kv.clone()),
            kv: Some(kv),
        }
    }

    fn count(census: &Census, from: &str, to: &str, revision: i64) -> Option<i64> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        census.count(&bytes(from), &bytes(to), revision)
    }

    #[test]
    fn folders_are_counted_and_follow_changes() {
        let census = Census::default();
        assert_eq!(count(&census, "/a/", "/a0", 5), None, "nothing is known yet");
        let fill = |add: &mut dyn FnMut(&[u8])| -> Result<(), ()> {
            ["/a/1", "/a/2", "/a/b/1", "/c"]
                .iter()
                .for_each(|key| add(key.as_bytes()));
            Ok(())
        };
        census.begin(5, fill).unwrap();
        assert_eq!(count(&census, "/a/", "/a0", 5), Some(3));
        assert_eq!(count(&census, "/a/b/", "/a/b0", 5), Some(1));
        assert_eq!(count(&census, "/", "0", 5), Some(4));
        assert_eq!(count(&census, "/none/", "/none0", 5), Some(0));
        assert_eq!(count(&census, "/a/", "/a0", 4), None, "of another revision");
        census.follow(
            &[
                Revision::new(6, vec![event("/a/1", false, true), event("/a/b/1", true, true)]),
                Revision::new(7, vec![event("/a/b/2", true, false), event("/a/x", false, false)]),
            ],
            7,
        );
        assert_eq!(count(&census, "/a/", "/a0", 7), Some(3));
        assert_eq!(count(&census, "/a/b/", "/a/b0", 7), Some(2));
    }

    #[test]
    fn only_whole_folders_are_known() {
        let census = Census::default();
        census
            .begin(1, |add| -> Result<(), ()> {
                add(b"/a/b");
                Ok(())
            })
            .unwrap();
        for (from, to) in [
            ("/a", "/b"),
            ("/a/", "/b"),
            ("/a/", ""),
            ("/a/", "\0"),
            ("", "\0"),
            ("/a/b", "/a/c"),
        ] {
            assert_eq!(count(&census, from, to, 1), None, "{from:?} {to:?}");
        }
        let deep = "/".repeat(DEPTH + 1);
        assert_eq!(count(&census, &deep, &format!("{}0", &deep[1..]), 1), None);
        let failed = census.begin(2, |_| Err("no"));
        assert_eq!(failed, Err("no"));
        assert_eq!(count(&census, "/a/", "/a0", 2), None);
    }
}
