use std::sync::Arc;

use caracal_api::{Kind, Resource};
use caracal_store::{ListOptions, StoreError, WatchEvent, WatchFrom, WatchStream};
use caracal_wire::{
    Event, EventType, KeyValue,
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
};
use futures::{StreamExt, stream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use crate::{
    codec::from_stored,
    keys::{self, Span},
    login::{WATCH_REFUSED, Wire},
    recent::Recent,
    status::{About, explain},
    store::MAX_MESSAGE,
    transport::{Failed, Repeat, Transport},
};

/// Follows a part of a kind from the revision after `from`; the server sends what is under the part's keys. Returns once
/// the server has accepted, so that a revision that is too old is an error at once.
pub(crate) async fn open(
    transport: &Transport,
    recent: &Arc<Recent>,
    kind: Kind,
    from: i64,
    part: &ListOptions,
) -> Result<WatchStream, StoreError> {
    let opened = transport.call(Repeat::Safe, |wire| start(wire, keys::span(kind, part), from));
    let (first, stream) = opened.await.map_err(|f| explain(&f, About::Kind(kind)))?;
    let endpoint = transport.describe();
    let state = Following {
        kind,
        recent: recent.clone(),
        endpoint,
        stream,
    };
    // A database that is younger than the place to continue from is another one, or was restored.
    if first.header.as_ref().is_some_and(|h| h.revision < from) {
        return Err(StoreError::Expired(kind));
    }
    let head = state.translate(first)?;
    let head: Vec<_> = head.into_iter().map(Ok).collect();
    let tail = stream::unfold(Some(state), |state| async {
        let mut state = state?;
        Some(match state.next().await {
            Ok(events) => (events.into_iter().map(Ok).collect(), Some(state)),
            Err(e) => (vec![Err(e)], None),
        })
    });
    Ok(stream::iter(head)
        .chain(tail.flat_map(|batch: Vec<_>| stream::iter(batch)))
        .boxed())
}

async fn start(
    wire: Wire,
    span: Span,
    from: i64,
) -> Result<Response<(WatchResponse, Streaming<WatchResponse>)>, Status> {
    let create = WatchCreateRequest {
        key: span.start.into(),
        range_end: span.end.into(),
        start_revision: from.saturating_add(1),
        progress_notify: true,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The requests never end: that would end the watch.
    let mut request = Request::new(stream::iter([create]).chain(stream::pending()));
    // A member that lost its leader ends the watch instead of going silent.
    request
        .metadata_mut()
        .insert("hasleader", MetadataValue::from_static("true"));
    let mut client = WatchClient::new(wire).max_decoding_message_size(MAX_MESSAGE);
    let mut stream = client.watch(request).await?.into_inner();
    let first = stream.message().await?;
    let first = first.ok_or_else(|| Status::unavailable("the watch ended at once"))?;
    match refusal(&first) {
        Some(status) => Err(status),
        None => Ok(Response::new((first, stream))),
    }
}

/// What a call would have answered where a watch is canceled for who asks: the session may be over, and another does.
fn refusal(first: &WatchResponse) -> Option<Status> {
    let why = &first.cancel_reason;
    if !first.canceled || first.compact_revision != 0 {
        return None;
    }
    if why.contains("permission denied") {
        return Some(Status::permission_denied(format!("{WATCH_REFUSED}: {why}")));
    }
    if why.contains("invalid auth token") {
        return Some(Status::unauthenticated(why));
    }
    why.contains("revision of auth store is old")
        .then(|| Status::invalid_argument(why))
}

struct Following {
    kind: Kind,
    recent: Arc<Recent>,
    endpoint: String,
    stream: Streaming<WatchResponse>,
}

impl Following {
    async fn next(&mut self) -> Result<Vec<WatchEvent>, StoreError> {
        match self.stream.message().await {
            Ok(Some(response)) => self.translate(response),
            Ok(None) => Err(self.explain(Status::unavailable("the server ended the watch"))),
            Err(status) => Err(self.explain(status)),
        }
    }

    fn explain(&self, status: Status) -> StoreError {
        let failed = Failed {
            endpoint: self.endpoint.clone(),
            status,
        };
        explain(&failed, About::Kind(self.kind))
    }

    fn translate(&self, response: WatchResponse) -> Result<Vec<WatchEvent>, StoreError> {
        if response.canceled {
            if response.compact_revision > 0 {
                return Err(StoreError::Expired(self.kind));
            }
            let why = response.cancel_reason;
            let status = if why.contains("permission denied") {
                Status::permission_denied(why)
            } else {
                Status::unavailable(format!("the server ended the watch: {why}"))
            };
            return Err(self.explain(status));
        }
        let place = match response.events.last() {
            // The header's revision may be ahead of events that are still to come; the last event's is not.
            Some(Event { kv: Some(kv), .. }) if !response.fragment => Some(kv.mod_revision),
            // A notice of progress says that all up to the header was sent.
            None if !response.created => response.header.map(|h| h.revision),
            _ => None,
        };
        let mut events: Vec<_> = response
            .events
            .into_iter()
            .filter_map(|e| self.event(e))
            .collect();
        events.extend(place.map(|r| WatchEvent::Bookmark(WatchFrom(r.to_string()))));
        Ok(events)
    }

    fn event(&self, event: Event) -> Option<WatchEvent> {
        let kind = event.r#type();
        let kv = event.kv?;
        let key = keys::parse(self.kind, &kv.key)?;
        Some(match kind {
            EventType::Delete => WatchEvent::Gone(key),
            // A block's change is mostly our own.
            EventType::Put => match self.known(&kv) {
                Some(resource) => WatchEvent::Set(resource),
                None => match from_stored(&key, &kv) {
                    Ok(resource) => WatchEvent::Set(resource.into()),
                    Err(why) => WatchEvent::Malformed(key, why),
                },
            },
        })
    }

    fn known(&self, kv: &KeyValue) -> Option<Arc<Resource>> {
        match self.kind {
            Kind::IpamBlock => self.recent.of(kv),
            _ => None,
        }
    }
}
