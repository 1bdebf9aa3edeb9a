//! Lists, page by page. While a page is decoded, beside the caller's thread, and used, the next one is on its way.

use std::sync::{Mutex, MutexGuard};

use caracal_api::{Kind, Resource};
use caracal_store::{ListOptions, Page, StoreError, WatchFrom};
use caracal_wire::{
    Bytes, KeyValue,
    etcdserverpb::{RangeRequest, RangeResponse},
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    EtcdStore, keys,
    status::{About, explain, too_large},
    store::decode,
    transport::Failed,
};

/// Objects in a page when the caller does not say. etcd walks all keys that are still to come for each page, and the next
/// one can be asked for only when this one is there, so a long list has larger pages: about [`PAGES`] of them, as long as
/// they stay below [`LARGEST`].
const PAGE: i64 = 2_000;
const PAGES: i64 = 4;
const LARGEST: i64 = 8_000;
/// So many objects are decoded on the spot.
const FEW: usize = 100;
/// A page of more than so many is decoded by several threads.
const MANY: usize = 1_000;
const DECODERS: usize = 2;
/// Lists that are read ahead at the same time. One that nobody goes on with is dropped when there are more.
const LISTS: usize = 16;

/// A part of a list.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    /// The revision that is read; 0 for the newest.
    pub(crate) at: i64,
    pub(crate) limit: i64,
}

pub(crate) type Answer = Result<RangeResponse, Failed>;

/// The parts that are asked for already.
#[derive(Debug, Default)]
pub(crate) struct Ahead(Mutex<Vec<(Part, JoinHandle<Answer>)>>);

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, Vec<(Part, JoinHandle<Answer>)>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn put(&self, part: Part, answer: JoinHandle<Answer>) {
        let mut all = self.lock();
        if all.len() == LISTS {
            all.remove(0).1.abort();
        }
        all.push((part, answer));
    }

    /// The part at the same place of the same list, however large, and the answer to come.
    fn take(&self, wanted: &Part) -> Option<(Part, JoinHandle<Answer>)> {
        let mut all = self.lock();
        let same = |p: &Part| (p.at, &p.start, &p.end) == (wanted.at, &wanted.start, &wanted.end);
        let place = all.iter().position(|(part, _)| same(part))?;
        Some(all.remove(place))
    }
}

/// One page of a list.
pub(crate) async fn page(store: &EtcdStore, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
    let span = keys::span(kind, options);
    let (at, start) = match &options.continue_from {
        None => (0, span.start),
        Some(token) => parse_continuation(token).ok_or(StoreError::Expired(kind))?,
    };
    let our_choice = options.limit == 0;
    let mut part = Part {
        start: start.into(),
        end: span.end.into(),
        at,
        limit: if our_choice {
            PAGE
        } else {
            i64::try_from(options.limit).unwrap_or(i64::MAX)
        },
    };
    let mut answer = None;
    if our_choice && let Some((asked, coming)) = store.ahead().take(&part) {
        part.limit = asked.limit;
        // One that failed is asked for again, for the error or for better luck.
        answer = coming.await.ok().and_then(Result::ok);
    }
    let answer = match answer {
        Some(answer) => answer,
        None => fetch(store, part.clone())
            .await
            .map_err(|f| explain(&f, About::Kind(kind)))?,
    };
    let revision = match at {
        0 => answer.header.as_ref().map_or(0, |h| h.revision),
        at => at,
    };
    let last = answer.kvs.last().filter(|_| answer.more).map(|kv| kv.key.clone());
    if our_choice && let Some(last) = &last {
        let next = Part {
            start: after(last).into(),
            end: part.end,
            at: revision,
            limit: (answer.count / PAGES).clamp(part.limit, part.limit.max(LARGEST)),
        };
        let (own, wanted) = (store.clone(), next.clone());
        let coming = tokio::spawn(async move { fetch(&own, wanted).await });
        store.ahead().put(next, coming);
    }
    let next = last.map(|key| continuation(revision, &key));
    let (items, malformed) = read(kind, options, answer.kvs).await?;
    Ok(Page {
        items,
        malformed,
        next,
        watch_from: WatchFrom(revision.to_string()),
    })
}

/// Asks for a part; for a smaller one when the answer would be too large.
pub(crate) async fn fetch(store: &EtcdStore, part: Part) -> Answer {
    let mut request = RangeRequest {
        key: part.start,
        range_end: part.end,
        limit: part.limit,
        revision: part.at,
        ..RangeRequest::default()
    };
    loop {
        match store.range(&request).await {
            Err(f) if request.limit > 1 && too_large(f.status.message()) => {
                request.limit = (request.limit / 4).max(1);
            }
            outcome => return outcome,
        }
    }
}

type Decoded = (Vec<Resource>, Vec<StoreError>);

/// Decodes the objects that are wanted.
async fn read(kind: Kind, options: &ListOptions, kvs: Vec<KeyValue>) -> Result<Decoded, StoreError> {
    if kvs.len() <= FEW {
        return Ok(read_now(kind, options, &kvs));
    }
    let mut rest = kvs;
    let mut parts = Vec::new();
    if rest.len() > MANY {
        let size = rest.len().div_ceil(DECODERS);
        while rest.len() > size {
            let behind = rest.split_off(size);
            parts.push(std::mem::replace(&mut rest, behind));
        }
    }
    parts.push(rest);
    let decode = |kvs: Vec<KeyValue>| {
        let options = options.clone();
        spawn_blocking(move || read_now(kind, &options, &kvs))
    };
    let mut decoded: Option<Decoded> = None;
    for part in parts.into_iter().map(decode).collect::<Vec<_>>() {
        let (items, malformed) = part.await.map_err(|e| match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => StoreError::Unavailable(format!("the program is ending: {e}")),
        })?;
        match &mut decoded {
            Some(all) => {
                all.0.extend(items);
                all.1.extend(malformed);
            }
            None => decoded = Some((items, malformed)),
        }
    }
    Ok(decoded.unwrap_or_default())
}

pub(crate) fn read_now(kind: Kind, options: &ListOptions, kvs: &[KeyValue]) -> Decoded {
    let mut items = Vec::with_capacity(kvs.len());
    let mut malformed = Vec::new();
    for kv in kvs {
        let Some(key) = keys::parse(kind, &kv.key).filter(|k| options.wants_key(k)) else {
            continue;
        };
        match decode(&key, kv) {
            Ok(resource) if options.wants_labels(&resource) => items.push(resource),
            Ok(_) => {}
            Err(e) => malformed.push(e),
        }
    }
    (items, malformed)
}

/// A page's continuation: the list's revision and the last key.
fn continuation(revision: i64, last: &[u8]) -> String {
    let hex: String = last.iter().map(|b| format!("{b:02x}")).collect();
    format!("{revision}:{hex}")
}

fn parse_continuation(text: &str) -> Option<(i64, Vec<u8>)> {
    let (revision, hex) = text.split_once(':')?;
    let digits = hex.as_bytes().chunks(2);
    let key: Option<Vec<u8>> = digits
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok())
        .collect();
    Some((revision.parse().ok()?, after(&key?)))
}

/// The first key after this one.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_come_back_after_the_last_key() {
        let text = continuation(42, b"/a\xff");
        assert_eq!(parse_continuation(&text), Some((42, b"/a\xff\0".to_vec())));
        for bad in ["", "1", "x:00", "1:zz", "1:0é"] {
            assert_eq!(parse_continuation(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_asked_ahead_is_found_by_its_place_and_the_oldest_gives_way() {
        let part = |n: usize, limit| Part {
            start: format!("/a{n}").into(),
            end: "/b".into(),
            at: 7,
            limit,
        };
        let ahead = Ahead::default();
        for n in 0..=LISTS {
            let answer = RangeResponse {
                count: i64::try_from(n).unwrap(),
                ..RangeResponse::default()
            };
            ahead.put(part(n, 5_000), tokio::spawn(async move { Ok(answer) }));
        }
        assert!(ahead.take(&part(0, 5_000)).is_none());
        let (asked, coming) = ahead.take(&part(3, PAGE)).unwrap();
        assert_eq!((asked.limit, coming.await.unwrap().unwrap().count), (5_000, 3));
        assert!(ahead.take(&part(3, PAGE)).is_none());
        assert!(
            ahead
                .take(&Part {
                    at: 8,
                    ..part(4, PAGE)
                })
                .is_none()
        );
    }
}
