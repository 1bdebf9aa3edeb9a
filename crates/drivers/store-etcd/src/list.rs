//! Lists, page by page. A page of etcd's is given out in pieces: while one is used, the next ones are decoded beside the
//! caller's thread, and the next page is on its way. So a long list is never in memory as a whole, in no form.

use caracal_api::{Kind, Resource, ResourceKey, read_brief_endpoint};
use caracal_store::{ListOptions, Page, StoreError, WatchFrom};
use caracal_wire::{
    Bytes, KeyValue,
    etcdserverpb::{RangeRequest, RangeResponse},
};

use crate::{
    EtcdStore,
    ahead::{Coming, Reading},
    keys,
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

/// One page of a list.
pub(crate) async fn page(store: &EtcdStore, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
    let span = keys::span(kind, options);
    let (at, start) = match &options.continue_from {
        None => (0, span.start),
        Some(token) => parse_continuation(token).ok_or(StoreError::Expired(kind))?,
    };
    let our_choice = options.limit == 0;
    let part = Part {
        start: start.into(),
        end: span.end.into(),
        at,
        limit: if our_choice {
            PAGE
        } else {
            i64::try_from(options.limit).unwrap_or(i64::MAX)
        },
    };
    let known = our_choice
        .then(|| store.ahead().take(kind, options, &part))
        .flatten();
    let known = match known {
        Some(Coming::Read(reading)) => Some(*reading),
        // One that failed is asked for again, for the error or for better luck.
        Some(Coming::Asked(coming)) => coming.await.ok().and_then(Result::ok),
        None => None,
    };
    let mut reading = match known {
        Some(reading) => reading,
        None => begin(store, kind, options.clone(), part)
            .await
            .map_err(|f| explain(&f, About::Kind(kind)))?,
    };
    let piece = if our_choice {
        if let Some(next) = reading.ask_next() {
            let (own, options) = (store.clone(), options.clone());
            let coming = tokio::spawn(async move { begin(&own, kind, options, next).await });
            reading.next_is_asked(coming);
        }
        reading.piece().await?
    } else {
        reading.all().await?
    };
    let revision = reading.revision;
    let last = piece.last.filter(|_| reading.goes_on());
    if our_choice && let Some(last) = &last {
        let (start, end) = (after(last).into(), reading.end.clone());
        let place = Part {
            start,
            end,
            at: revision,
            limit: 0,
        };
        store.ahead().put(kind, options, place, reading.rest());
    }
    Ok(Page {
        items: piece.items,
        malformed: piece.malformed,
        next: last.map(|key| continuation(revision, &key)),
        watch_from: WatchFrom(revision.to_string()),
    })
}

/// Asks for the beginning of a list that will be wanted in a moment.
pub(crate) fn prefetch(store: &EtcdStore, kind: Kind, options: &ListOptions) {
    let span = keys::span(kind, options);
    let part = Part {
        start: span.start.into(),
        end: span.end.into(),
        at: 0,
        limit: PAGE,
    };
    let (own, wanted, place) = (store.clone(), options.clone(), part.clone());
    let coming = tokio::spawn(async move { begin(&own, kind, wanted, part).await });
    store.ahead().put(kind, options, place, Coming::Asked(coming));
}

/// Asks for a page of etcd's, and begins to decode it.
async fn begin(store: &EtcdStore, kind: Kind, options: ListOptions, part: Part) -> Result<Reading, Failed> {
    let answer = fetch(store, part.clone()).await?;
    let revision = match part.at {
        0 => answer.header.as_ref().map_or(0, |h| h.revision),
        at => at,
    };
    let last = answer.kvs.last().filter(|_| answer.more);
    let next = last.map(|kv| Part {
        start: after(&kv.key).into(),
        end: part.end.clone(),
        at: revision,
        limit: (answer.count / PAGES).clamp(part.limit, part.limit.max(LARGEST)),
    });
    Ok(Reading::begin(
        kind, options, revision, part.end, answer.kvs, next,
    ))
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

pub(crate) fn read_now(
    kind: Kind,
    options: &ListOptions,
    kvs: &[KeyValue],
) -> (Vec<Resource>, Vec<StoreError>) {
    let mut items = Vec::with_capacity(kvs.len());
    let mut malformed = Vec::new();
    for kv in kvs {
        let Some(key) = keys::parse(kind, &kv.key).filter(|k| options.wants_key(k)) else {
            continue;
        };
        match brief(&key, kv, options).map_or_else(|| decode(&key, kv), Ok) {
            Ok(resource) if options.wants_labels(&resource) => items.push(resource),
            Ok(_) => {}
            Err(e) => malformed.push(e),
        }
    }
    (items, malformed)
}

/// What the agent of another node needs of a workload endpoint.
fn brief(key: &ResourceKey, kv: &KeyValue, options: &ListOptions) -> Option<Resource> {
    let node = options.for_node.as_ref()?;
    if key.kind != Kind::WorkloadEndpoint {
        return None;
    }
    let mut resource = read_brief_endpoint(&kv.value, node)?;
    let meta = resource.metadata_mut();
    meta.name = key.name.to_string();
    meta.namespace = key.namespace().map(str::to_owned);
    meta.resource_version = Some(kv.mod_revision.to_string());
    Some(resource)
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
}
