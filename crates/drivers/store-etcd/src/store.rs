use std::sync::Arc;

use async_trait::async_trait;
use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{
    Found, ListOptions, Page, Preconditions, Reads, Reports, Store, StoreError, WatchFrom, WatchStream,
    Write, check_key, check_preconditions, has_status, merge_for_status, merge_for_update, only_part, stamp,
};
use caracal_wire::{
    Bytes, KeyValue,
    etcdserverpb::{
        DeleteRangeRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_client::KvClient,
    },
};

use crate::{
    BadEndpoint, EtcdSettings,
    ahead::Ahead,
    codec::{from_stored, to_stored},
    keys, list,
    login::Wire,
    merge::keep_unknown,
    part::{Part, decode_or_bare},
    recent::Recent,
    status::{About, explain},
    together,
    transport::{Failed, Repeat, Transport},
    txn, watch,
};

/// The largest answer we read; etcd itself has no limit there.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;
/// How often an unconditional write starts again because another writer was faster.
const ATTEMPTS: usize = 32;

/// A datastore in etcd, or in the embedded server that speaks its API. Clones share connections.
#[derive(Debug, Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transport: Transport,
    recent: Arc<Recent>,
    ahead: Ahead,
}

impl EtcdStore {
    /// Makes the store; nothing is sent before the first request.
    ///
    /// # Errors
    /// [`BadEndpoint`] when an endpoint cannot be used.
    pub fn new(settings: &EtcdSettings) -> Result<Self, BadEndpoint> {
        Ok(Self {
            inner: Arc::new(Inner {
                transport: Transport::new(settings)?,
                recent: Arc::default(),
                ahead: Ahead::default(),
            }),
        })
    }

    /// Pages that are asked for before their caller does.
    pub(crate) fn ahead(&self) -> &Ahead {
        &self.inner.ahead
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    /// Values that were read or written last.
    pub(crate) fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    pub(crate) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Failed> {
        self.inner
            .transport
            .call(Repeat::Safe, |c| {
                let request = request.clone();
                async move { kv(c).range(request).await }
            })
            .await
    }

    pub(crate) async fn txn(
        &self,
        repeat: Repeat,
        request: &TxnRequest,
        about: About<'_>,
    ) -> Result<TxnResponse, StoreError> {
        let answer = self.inner.transport.call(repeat, |c| {
            let request = request.clone();
            async move { kv(c).txn(request).await }
        });
        answer.await.map_err(|f| explain(&f, about))
    }

    /// Reads the pair of an object, wherever it may be.
    pub(crate) async fn find(&self, key: &ResourceKey) -> Result<KeyValue, StoreError> {
        let about = About::Object(key);
        let mut places = keys::candidates(key);
        let found = if places.len() <= 1 {
            let Some(place) = places.pop() else {
                return Err(StoreError::NotFound(key.clone()));
            };
            let request = RangeRequest {
                key: place.into(),
                ..RangeRequest::default()
            };
            let answer = self.range(&request).await.map_err(|f| explain(&f, about))?;
            answer.kvs.into_iter().next()
        } else {
            let request = TxnRequest {
                success: places.into_iter().map(|p| txn::get(&p.into())).collect(),
                ..TxnRequest::default()
            };
            let answer = self.txn(Repeat::Safe, &request, about).await?;
            txn::pairs(answer.responses).next()
        };
        let kv = found.ok_or_else(|| StoreError::NotFound(key.clone()))?;
        self.inner.recent.put(&kv);
        Ok(kv)
    }

    /// Stores what `merge` makes of the stored object, unless it changes meanwhile.
    async fn replace(
        &self,
        resource: &Resource,
        part: Part,
        merge: impl Fn(&Resource) -> Resource + Send + Sync,
    ) -> Result<Resource, StoreError> {
        let key = resource.key();
        check_key(&key)?;
        let place: Bytes = keys::key_of(resource)?.into();
        let expect = Preconditions::of(resource);
        let known = match &expect.resource_version {
            Some(text) => self.inner.recent.get(&place, revision(&key, text)?),
            None => None,
        };
        let mut stored = match known {
            Some(kv) => kv,
            None => self.read(&key, &place).await?,
        };
        for _ in 0..ATTEMPTS {
            let value = merged_value(&key, part.of(&key, &stored)?, &stored, &expect, &merge)?;
            let request = txn::when(
                txn::unchanged(&place, stored.mod_revision),
                txn::put(&place, value.clone()),
                &place,
            );
            let answer = self.txn(Repeat::IfNotSent, &request, About::Object(&key)).await?;
            if answer.succeeded {
                let at = answer.header.map_or(0, |h| h.revision);
                let kv = self.written(&place, value, stored.create_revision, at);
                return part.written(&key, &kv);
            }
            self.inner.recent.forget(&place);
            let now = txn::pairs(answer.responses).next();
            stored = now.ok_or_else(|| StoreError::NotFound(key.clone()))?;
        }
        Err(busy(&key))
    }

    pub(crate) async fn read(&self, key: &ResourceKey, place: &Bytes) -> Result<KeyValue, StoreError> {
        let request = RangeRequest {
            key: place.clone(),
            ..RangeRequest::default()
        };
        let answer = self
            .range(&request)
            .await
            .map_err(|f| explain(&f, About::Object(key)))?;
        answer
            .kvs
            .into_iter()
            .next()
            .ok_or_else(|| StoreError::NotFound(key.clone()))
    }

    /// What was written, as it is stored.
    fn written(&self, place: &Bytes, value: Bytes, created: i64, revision: i64) -> KeyValue {
        let kv = KeyValue {
            key: place.clone(),
            value,
            create_revision: created,
            mod_revision: revision,
            ..KeyValue::default()
        };
        self.inner.recent.put(&kv);
        kv
    }
}

pub(crate) fn kv(wire: Wire) -> KvClient<Wire> {
    KvClient::new(wire).max_decoding_message_size(MAX_MESSAGE)
}

fn busy(key: &ResourceKey) -> StoreError {
    StoreError::Conflict {
        key: key.clone(),
        why: format!("other writers were faster {ATTEMPTS} times in a row"),
    }
}

pub(crate) fn decode(key: &ResourceKey, kv: &KeyValue) -> Result<Resource, StoreError> {
    from_stored(key, kv).map_err(|reason| StoreError::Malformed {
        key: key.clone(),
        reason,
    })
}

pub(crate) fn revision(key: &ResourceKey, text: &str) -> Result<i64, StoreError> {
    text.parse().map_err(|_| StoreError::Conflict {
        key: key.clone(),
        why: format!("resourceVersion {text:?} is not one of this datastore"),
    })
}

pub(crate) fn merged_value(
    key: &ResourceKey,
    stored: Resource,
    kv: &KeyValue,
    expect: &Preconditions,
    merge: &(impl Fn(&Resource) -> Resource + Send + Sync),
) -> Result<Bytes, StoreError> {
    check_preconditions(key, stored.metadata(), expect)?;
    let mut merged = merge(&stored);
    if merged.metadata().uid.is_none() {
        stamp(&mut merged);
    }
    let new = to_stored(&merged);
    let value = match serde_json::from_slice(&kv.value) {
        Ok(raw) => keep_unknown(raw, &to_stored(&stored), new),
        Err(_) => new,
    };
    Ok(value.to_string().into())
}

#[async_trait]
impl Store for EtcdStore {
    fn describe(&self) -> String {
        let text = self.inner.transport.describe();
        match text.strip_prefix("unix://") {
            Some(path) => format!("embedded store at {path}"),
            None => format!("etcd at {text}"),
        }
    }

    async fn get(&self, key: &ResourceKey) -> Result<Resource, StoreError> {
        check_key(key)?;
        decode(key, &self.find(key).await?)
    }

    async fn list(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
        list::page(self, kind, options).await
    }

    fn prefetch(&self, kind: Kind, options: &ListOptions) {
        list::prefetch(self, kind, options);
    }

    async fn create(&self, mut resource: Resource) -> Result<Resource, StoreError> {
        let key = resource.key();
        check_key(&key)?;
        let place: Bytes = keys::key_of(&resource)?.into();
        stamp(&mut resource);
        let value: Bytes = to_stored(&resource).to_string().into();
        let request = TxnRequest {
            compare: vec![txn::absent(&place)],
            success: vec![txn::put(&place, value.clone())],
            ..TxnRequest::default()
        };
        let answer = self.txn(Repeat::IfNotSent, &request, About::Object(&key)).await?;
        if !answer.succeeded {
            return Err(StoreError::AlreadyExists(key));
        }
        let at = answer.header.map_or(0, |h| h.revision);
        decode(&key, &self.written(&place, value, at, at))
    }

    async fn update(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.replace(&resource, Part::Spec, |stored| {
            merge_for_update(resource.clone(), stored)
        })
        .await
    }

    async fn update_status(&self, resource: Resource) -> Result<Resource, StoreError> {
        if !has_status(resource.kind()) {
            return Err(StoreError::Unsupported {
                operation: "update of the status",
                kind: resource.kind(),
                why: "the kind has no status".into(),
            });
        }
        self.replace(&resource, Part::Status, |stored| {
            merge_for_status(&resource, stored)
        })
        .await
    }

    async fn delete(&self, key: &ResourceKey, expect: &Preconditions) -> Result<Resource, StoreError> {
        check_key(key)?;
        let about = About::Object(key);
        let places = keys::candidates(key);
        if *expect == Preconditions::default()
            && let [place] = places.as_slice()
        {
            let request = DeleteRangeRequest {
                key: Bytes::copy_from_slice(place.as_bytes()),
                prev_kv: true,
                ..DeleteRangeRequest::default()
            };
            let answer = self.inner.transport.call(Repeat::IfNotSent, |c| {
                let request = request.clone();
                async move { kv(c).delete_range(request).await }
            });
            let answer = answer.await.map_err(|f| explain(&f, about))?;
            self.inner.recent.forget(&request.key);
            let gone = answer.prev_kvs.first();
            return decode_or_bare(key, gone.ok_or_else(|| StoreError::NotFound(key.clone()))?);
        }
        let mut stored = match (places.as_slice(), &expect.resource_version, &expect.uid) {
            // The revision says all: no need to read first.
            ([place], Some(text), None) => KeyValue {
                key: Bytes::copy_from_slice(place.as_bytes()),
                mod_revision: revision(key, text)?,
                ..KeyValue::default()
            },
            _ => {
                let kv = self.find(key).await?;
                check_preconditions(key, decode_or_bare(key, &kv)?.metadata(), expect)?;
                kv
            }
        };
        for _ in 0..ATTEMPTS {
            let place = stored.key.clone();
            let request = txn::when(
                txn::unchanged(&place, stored.mod_revision),
                txn::delete(&place),
                &place,
            );
            let answer = self.txn(Repeat::IfNotSent, &request, about).await?;
            self.inner.recent.forget(&place);
            let pair = txn::pairs(answer.responses).next();
            let pair = pair.ok_or_else(|| StoreError::NotFound(key.clone()))?;
            if answer.succeeded {
                return decode_or_bare(key, &pair);
            }
            check_preconditions(key, decode_or_bare(key, &pair)?.metadata(), expect)?;
            stored = pair;
        }
        Err(busy(key))
    }

    async fn watch(&self, kind: Kind, from: &WatchFrom) -> Result<WatchStream, StoreError> {
        self.watch_part(kind, from, &ListOptions::default()).await
    }

    async fn watch_part(
        &self,
        kind: Kind,
        from: &WatchFrom,
        part: &ListOptions,
    ) -> Result<WatchStream, StoreError> {
        let from = from.0.parse().ok().filter(|revision: &i64| *revision >= 0);
        let from = from.ok_or(StoreError::Expired(kind))?;
        let events = watch::open(&self.inner.transport, &self.inner.recent, kind, from, part).await?;
        if part.wants_all() {
            return Ok(events);
        }
        Ok(only_part(events, part))
    }

    fn reports(&self) -> Option<&dyn Reports> {
        Some(self)
    }

    async fn read_together(&self, reads: &Reads) -> Result<Found, StoreError> {
        together::read(self, reads).await
    }

    fn writes_together(&self) -> usize {
        together::WRITES
    }

    async fn write_together(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        together::write(self, writes).await
    }
}
