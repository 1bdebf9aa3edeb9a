use std::sync::{Arc, Mutex, MutexGuard};

use caracal_api::Kind;
use caracal_store::{StoreError, WatchEvent, WatchFrom, WatchStream};
use futures::{StreamExt, stream};
use tokio::sync::watch;

use crate::state::{BreakWatch, State};

/// At most this many events are taken from the state at once.
const BATCH: usize = 1024;

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::new()),
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Changes the state and wakes the watches.
    pub(crate) fn change<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let out = f(&mut self.lock());
        self.changed.send_modify(|n| *n += 1);
        out
    }
}

/// One open watch.
struct Cursor {
    shared: Arc<Shared>,
    kind: Kind,
    at: u64,
    broken: u64,
    bookmarks: u64,
    place: fn(Kind, u64) -> WatchFrom,
    wake: watch::Receiver<u64>,
}

enum Next {
    Events(Vec<WatchEvent>),
    Fail(StoreError),
    End,
    Wait,
}

impl Cursor {
    fn poll(&mut self) -> Next {
        let state = self.shared.lock();
        if state.broken != self.broken {
            return match state.broken_because {
                BreakWatch::Lost => Next::Fail(StoreError::Unavailable("the watch was cut off".into())),
                BreakWatch::Expired => Next::Fail(StoreError::Expired(self.kind)),
                BreakWatch::Ended => Next::End,
            };
        }
        let mut events = Vec::new();
        if let Some(table) = state.tables.get(&self.kind) {
            if table.held {
                return Next::Wait;
            }
            if self.at < table.compacted {
                return Next::Fail(StoreError::Expired(self.kind));
            }
            for (rev, key, slot) in table.since(self.at) {
                // What was written together stays together.
                if events.len() >= BATCH && *rev != self.at {
                    break;
                }
                events.push(slot.event(key));
                self.at = *rev;
            }
        }
        if events.len() < BATCH && (!events.is_empty() || state.bookmarks != self.bookmarks) {
            self.at = state.rev;
            self.bookmarks = state.bookmarks;
            events.push(WatchEvent::Bookmark((self.place)(self.kind, self.at)));
        }
        if events.is_empty() {
            Next::Wait
        } else {
            Next::Events(events)
        }
    }
}

/// The events of `kind` after `at`.
pub(crate) fn open(
    shared: &Arc<Shared>,
    kind: Kind,
    at: u64,
    place: fn(Kind, u64) -> WatchFrom,
) -> WatchStream {
    let (broken, bookmarks) = {
        let state = shared.lock();
        (state.broken, state.bookmarks)
    };
    let cursor = Cursor {
        shared: shared.clone(),
        kind,
        at,
        broken,
        bookmarks,
        place,
        wake: shared.changed.subscribe(),
    };
    let batches = stream::unfold(Some(cursor), |cursor| async {
        let mut cursor = cursor?;
        loop {
            cursor.wake.mark_unchanged();
            match cursor.poll() {
                Next::Events(events) => {
                    let batch: Vec<_> = events.into_iter().map(Ok).collect();
                    return Some((batch, Some(cursor)));
                }
                Next::Fail(error) => return Some((vec![Err(error)], None)),
                Next::End => return None,
                Next::Wait => {}
            }
            // The sender is in `shared`, which the cursor keeps alive.
            cursor.wake.changed().await.ok()?;
        }
    });
    batches.flat_map(stream::iter).boxed()
}
