//! One watch: where it stands in the log, what it wants to see, and how that is put into responses.

use std::sync::Arc;
use std::time::Instant;

use caracal_wire::etcdserverpb::watch_create_request::FilterType;
use caracal_wire::etcdserverpb::{WatchCreateRequest, WatchResponse};
use caracal_wire::{Bytes, Event};
use prost::Message;

use crate::apply::is_put;
use crate::error::RequestError;
use crate::recent::Revision;
use crate::record::Change;
use crate::shared::Core;
use crate::span::Span;
use crate::view::{self, Source};

/// About how large a response may get; a revision is never split unless the watcher allows it.
const RESPONSE_BYTES: usize = 1 << 20;
/// Entries of the log looked at before other watches of the stream have their turn.
const SCAN: usize = 10_000;

/// A watch of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    pub(crate) id: i64,
    span: Span,
    /// First revision not shown yet.
    pub(crate) next: i64,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    /// Wants to know that nothing happened.
    pub(crate) progress: bool,
    /// Something was sent since the last progress interval.
    pub(crate) busy: bool,
}

/// Events of one revision.
type Shown = (i64, Vec<Event>);

/// What reading the log from disk gave.
pub(crate) enum Chunk {
    Shown {
        revisions: Vec<Shown>,
        /// First revision not looked at.
        next: i64,
    },
    /// The log begins only here.
    Compacted(i64),
}

impl Watcher {
    /// A watch as asked for; without a start it begins after `current`.
    pub(crate) fn new(id: i64, request: WatchCreateRequest, current: i64) -> Result<Self, &'static str> {
        // As in etcd an empty key stands for the smallest one.
        let key = if request.key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            request.key
        };
        let span = Span::new(key, &request.range_end);
        if span.is_empty() {
            return Err("mvcc: watcher range is empty");
        }
        let without = |filter: FilterType| request.filters.contains(&i32::from(filter));
        Ok(Self {
            id,
            span,
            next: if request.start_revision > 0 {
                request.start_revision
            } else {
                current + 1
            },
            puts: !without(FilterType::Noput),
            deletes: !without(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify,
            busy: false,
        })
    }

    fn wants(&self, key: &[u8], put: bool) -> bool {
        (if put { self.puts } else { self.deletes }) && self.span.contains(key)
    }

    /// Goes on with revisions that are in memory; also tells when the oldest one shown was committed.
    pub(crate) fn follow(
        &mut self,
        revisions: &[Arc<Revision>],
        compacted: i64,
    ) -> (Vec<WatchResponse>, Option<Instant>) {
        let mut shown = Vec::new();
        let mut oldest = None;
        for revision in revisions.iter().filter(|revision| revision.number >= self.next) {
            let events: Vec<Event> = revision
                .events
                .iter()
                .filter(|event| {
                    event
                        .kv
                        .as_ref()
                        .is_some_and(|kv| self.wants(&kv.key, is_put(event)))
                })
                .map(|event| self.dress(event, revision.number > compacted))
                .collect();
            if !events.is_empty() {
                shown.push((revision.number, events));
                oldest.get_or_insert(revision.at);
            }
        }
        if let Some(last) = revisions.last() {
            self.next = self.next.max(last.number + 1);
        }
        (self.responses(shown), oldest)
    }

    /// The version before is shown while it could be read: in etcd, too, not that of a revision compacted to.
    fn dress(&self, event: &Event, readable: bool) -> Event {
        let shown = self.prev_kv && readable;
        let prev_kv = if shown { event.prev_kv.clone() } else { None };
        Event {
            r#type: event.r#type,
            kv: event.kv.clone(),
            prev_kv,
        }
    }

    /// Reads on in the log on disk.
    pub(crate) fn read(&self, core: &Core) -> Result<Chunk, RequestError> {
        let snapshot = core.db.snapshot()?;
        if self.next < snapshot.compacted() {
            return Ok(Chunk::Compacted(snapshot.compacted()));
        }
        let mut revisions: Vec<Shown> = Vec::new();
        let (mut bytes, mut seen, mut next) = (0, 0, self.next);
        for entry in snapshot.log().range((self.next, 0)..)? {
            let (place, record) = entry?;
            let (number, sub) = place.value();
            if number > next && (bytes >= RESPONSE_BYTES || seen >= SCAN) {
                // Everything up to here is whole revisions.
                return Ok(Chunk::Shown {
                    revisions,
                    next: number,
                });
            }
            next = number;
            seen += 1;
            let (put, key) = Change::peek(record.value())?;
            if !self.wants(key, put) {
                continue;
            }
            let prev_kv = if self.prev_kv && number > snapshot.compacted() {
                view::before(&snapshot, key, (number, sub))?
            } else {
                None
            };
            let event = Change::decode(number, record.value())?.into_event(prev_kv);
            bytes += event.encoded_len();
            match revisions.last_mut() {
                Some((last, events)) if *last == number => events.push(event),
                _ => revisions.push((number, vec![event])),
            }
        }
        Ok(Chunk::Shown {
            revisions,
            next: self.next.max(snapshot.revision() + 1),
        })
    }

    /// Puts revisions into responses.
    pub(crate) fn responses(&mut self, shown: Vec<Shown>) -> Vec<WatchResponse> {
        let mut out: Vec<WatchResponse> = Vec::new();
        let mut bytes = 0;
        for (revision, events) in shown {
            self.busy = true;
            let size: usize = events.iter().map(Message::encoded_len).sum();
            if let (Some(last), true) = (out.last_mut(), bytes + size <= RESPONSE_BYTES) {
                bytes += size;
                last.events.extend(events);
                last.header = Some(revision_only(revision));
            } else if self.fragment && size > RESPONSE_BYTES {
                out.extend(self.fragments(revision, events));
                bytes = RESPONSE_BYTES;
            } else {
                bytes = size;
                out.push(self.response(revision, events));
            }
        }
        out
    }

    fn fragments(&self, revision: i64, events: Vec<Event>) -> Vec<WatchResponse> {
        let mut out = Vec::new();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for event in events {
            let size = event.encoded_len();
            if !part.is_empty() && bytes + size > RESPONSE_BYTES {
                let mut response = self.response(revision, std::mem::take(&mut part));
                response.fragment = true;
                out.push(response);
                bytes = 0;
            }
            bytes += size;
            part.push(event);
        }
        out.push(self.response(revision, part));
        out
    }

    fn response(&self, revision: i64, events: Vec<Event>) -> WatchResponse {
        WatchResponse {
            header: Some(revision_only(revision)),
            watch_id: self.id,
            events,
            ..Default::default()
        }
    }
}

/// The revision up to which the watch has come; the stream adds the rest of the header.
fn revision_only(revision: i64) -> caracal_wire::etcdserverpb::ResponseHeader {
    caracal_wire::etcdserverpb::ResponseHeader {
        revision,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_wire::KeyValue;

    fn watcher(fragment: bool) -> Watcher {
        let request = WatchCreateRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"z"),
            fragment,
            ..Default::default()
        };
        Watcher::new(3, request, 0).unwrap()
    }

    fn event(key: &'static str, bytes: usize) -> Event {
        let kv = KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            value: vec![0; bytes].into(),
            ..Default::default()
        };
        Event {
            kv: Some(kv),
            ..Default::default()
        }
    }

    fn shape(responses: &[WatchResponse]) -> Vec<(i64, usize, bool)> {
        responses
            .iter()
            .map(|r| (r.header.as_ref().unwrap().revision, r.events.len(), r.fragment))
            .collect()
    }

    #[test]
    fn small_revisions_share_a_response_and_large_ones_are_split_only_when_allowed() {
        let half = RESPONSE_BYTES / 2 + 1;
        let shown = || {
            vec![
                (2, vec![event("b", 1)]),
                (3, vec![event("b", 1)]),
                (4, vec![event("b", half), event("c", half)]),
            ]
        };
        assert_eq!(
            shape(&watcher(false).responses(shown())),
            [(3, 2, false), (4, 2, false)]
        );
        assert_eq!(
            shape(&watcher(true).responses(shown())),
            [(3, 2, false), (4, 1, true), (4, 1, false)]
        );
    }

    #[test]
    fn following_skips_what_was_shown_and_what_is_not_wanted() {
        let mut watcher = watcher(false);
        let revisions: Vec<Arc<Revision>> = (2..6)
            .map(|n| Arc::new(Revision::new(n, vec![event(if n == 3 { "zz" } else { "b" }, 1)])))
            .collect();
        watcher.next = 3;
        assert_eq!(shape(&watcher.follow(&revisions, 0).0), [(5, 2, false)]);
        assert_eq!(watcher.next, 6);
        assert!(watcher.follow(&revisions, 0).0.is_empty());
    }
}
