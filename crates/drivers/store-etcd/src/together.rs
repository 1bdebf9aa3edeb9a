//! Several objects in one transaction of etcd.

use std::sync::Arc;

use caracal_api::{Kind, ObjectMeta, Resource, ResourceKey};
use caracal_store::{
    Found, Page, Preconditions, Reads, Store, StoreError, WatchFrom, Write, check_key, check_preconditions,
    check_together, merge_for_update, stamp,
};
use caracal_wire::{
    Bytes, KeyValue,
    etcdserverpb::{Compare, RequestOp, ResponseOp, TxnRequest, response_op::Response},
};
use futures::future::try_join_all;
use serde_json::Value;

use crate::{
    EtcdStore,
    codec::{identify, to_stored, to_text},
    keys, list,
    part::decode_or_bare,
    recent::Known,
    status::About,
    store::{decode, merged_value, revision},
    transport::Repeat,
    txn,
};

/// Operations in a transaction: etcd takes 128 unless it is told otherwise.
const AT_ONCE: usize = 100;

/// Objects of a list that is read in a transaction. A longer one is read by itself.
const SHORT: i64 = 500;

/// Whose answer an operation brings.
#[derive(Debug, Clone, Copy)]
enum For {
    Object(usize),
    List(usize),
}

/// Reads all of it, in as few requests as can be.
pub(crate) async fn read(store: &EtcdStore, reads: &Reads) -> Result<Found, StoreError> {
    let mut wanted: Vec<(For, RequestOp)> = Vec::new();
    for (i, key) in reads.objects.iter().enumerate() {
        if check_key(key).is_ok() {
            let places = keys::candidates(key).into_iter();
            wanted.extend(places.map(|p| (For::Object(i), txn::get(&p.into()))));
        }
    }
    for (i, (kind, options)) in reads.lists.iter().enumerate() {
        let span = keys::span(*kind, options);
        let (start, end) = (span.start.into(), span.end.into());
        wanted.push((For::List(i), txn::range(&start, &end, SHORT)));
    }
    let parts = wanted.chunks(AT_ONCE).map(|part| async move {
        let request = TxnRequest {
            success: part.iter().map(|(_, op)| op.clone()).collect(),
            ..TxnRequest::default()
        };
        let answer = store.txn(Repeat::Safe, &request, about(reads)).await?;
        let at = answer.header.map_or(0, |h| h.revision);
        let whose = part.iter().map(|(whose, _)| *whose);
        Ok::<_, StoreError>((at, whose.zip(answer.responses).collect::<Vec<_>>()))
    });
    let mut objects: Vec<Option<KeyValue>> = vec![None; reads.objects.len()];
    let mut lists: Vec<Option<Page>> = vec![None; reads.lists.len()];
    for (at, answers) in try_join_all(parts).await? {
        for (whose, response) in answers {
            let Some((kvs, more)) = range_of(response) else {
                continue;
            };
            match whose {
                For::Object(i) => objects[i] = objects[i].take().or_else(|| kvs.into_iter().next()),
                For::List(_) if more => {}
                For::List(i) => {
                    let (kind, options) = &reads.lists[i];
                    let (items, malformed) = list::read_now(*kind, options, &kvs);
                    lists[i] = Some(Page {
                        items,
                        malformed,
                        next: None,
                        watch_from: WatchFrom(at.to_string()),
                    });
                }
            }
        }
    }
    let mut found = Found {
        objects: Vec::with_capacity(objects.len()),
        lists: Vec::with_capacity(lists.len()),
    };
    for (key, kv) in reads.objects.iter().zip(objects) {
        found.objects.push(match kv {
            Some(kv) => understand(store, key, &kv),
            None => Err(check_key(key)
                .err()
                .unwrap_or_else(|| StoreError::NotFound(key.clone()))),
        });
    }
    for ((kind, options), page) in reads.lists.iter().zip(lists) {
        found.lists.push(match page {
            Some(page) => page,
            None => store.list_all(*kind, options).await?,
        });
    }
    Ok(found)
}

/// What a value says. Blocks are read, changed and followed again and again: what each revision says is found out once.
fn understand(store: &EtcdStore, key: &ResourceKey, kv: &KeyValue) -> Result<Resource, StoreError> {
    if key.kind != Kind::IpamBlock {
        return decode(key, kv);
    }
    if let Some(resource) = store.recent().of(kv) {
        return Ok((*resource).clone());
    }
    let read = decode(key, kv);
    match &read {
        Ok(resource) => {
            let known = Known {
                whole: to_text(resource) == kv.value,
                resource: Arc::new(resource.clone()),
            };
            store.recent().put_known(kv, known);
        }
        Err(_) => store.recent().put(kv),
    }
    read
}

fn about(reads: &Reads) -> About<'_> {
    match reads.objects.first() {
        Some(key) => About::Object(key),
        None => reads
            .lists
            .first()
            .map_or(About::Report, |(kind, _)| About::Kind(*kind)),
    }
}

fn range_of(response: ResponseOp) -> Option<(Vec<KeyValue>, bool)> {
    match response.response {
        Some(Response::ResponseRange(r)) => Some((r.kvs, r.more)),
        _ => None,
    }
}

/// How many writes a transaction takes.
pub(crate) const WRITES: usize = AT_ONCE;

/// A write as etcd is asked for it, and what is stored afterwards.
type Made = (Compare, RequestOp, Option<Stored>);

/// What is stored once a transaction is done, with the revision at which it was created if that was before.
struct Stored {
    key: ResourceKey,
    kv: KeyValue,
    /// What it says, of a block.
    known: Option<Known>,
}

impl Stored {
    /// A value that says what the object does and, if `whole`, nothing else.
    fn new(key: ResourceKey, kv: KeyValue, resource: Resource, whole: bool) -> Self {
        let known = (key.kind == Kind::IpamBlock).then(|| Known {
            resource: Arc::new(resource),
            whole,
        });
        Self { key, kv, known }
    }

    /// Blocks are changed soon after they are written; other objects would only push them out.
    fn remember(mut self, store: &EtcdStore, at: i64) {
        let Some(mut known) = self.known else { return };
        self.kv.mod_revision = at;
        if self.kv.create_revision == 0 {
            self.kv.create_revision = at;
        }
        let resource = Arc::make_mut(&mut known.resource);
        *resource.metadata_mut() = ObjectMeta::default();
        identify(resource, &self.key, &self.kv);
        store.recent().put_known(&self.kv, known);
    }
}

/// Does all of the writes or none.
pub(crate) async fn write(store: &EtcdStore, writes: Vec<Write>) -> Result<bool, StoreError> {
    let Some(first) = writes.first().map(Write::key) else {
        return Ok(true);
    };
    check_together(&writes, WRITES)?;
    let mut request = TxnRequest::default();
    let mut stored = Vec::new();
    for write in writes {
        let made = match write {
            Write::Create(resource) => created(resource),
            Write::Update(resource) => updated(store, resource).await,
            Write::Delete(key, at) => deleted(store, &key, &at).await,
        };
        let (compare, op, after) = match made {
            Ok(made) => made,
            // One that is not as expected is enough, and needs no transaction to be known.
            Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => return Ok(false),
            Err(e) => return Err(e),
        };
        request.compare.push(compare);
        request.success.push(op);
        stored.extend(after);
    }
    let answer = store
        .txn(Repeat::IfNotSent, &request, About::Object(&first))
        .await?;
    let at = answer.header.as_ref().map_or(0, |h| h.revision);
    for after in stored {
        match answer.succeeded {
            true => after.remember(store, at),
            false => store.recent().forget(&after.kv.key),
        }
    }
    Ok(answer.succeeded)
}

fn created(mut resource: Resource) -> Result<Made, StoreError> {
    let key = resource.key();
    check_key(&key)?;
    let place: Bytes = keys::key_of(&resource)?.into();
    stamp(&mut resource);
    let value = to_text(&resource);
    let kv = KeyValue {
        key: place.clone(),
        value: value.clone(),
        ..KeyValue::default()
    };
    Ok((
        txn::absent(&place),
        txn::put(&place, value),
        Some(Stored::new(key, kv, resource, true)),
    ))
}

async fn updated(store: &EtcdStore, resource: Resource) -> Result<Made, StoreError> {
    let key = resource.key();
    check_key(&key)?;
    let place: Bytes = keys::key_of(&resource)?.into();
    let expect = Preconditions::of(&resource);
    let Some(text) = &expect.resource_version else {
        return Err(StoreError::Invalid {
            key,
            reason: "a write together with others needs metadata.resourceVersion".to_owned(),
        });
    };
    let at = revision(&key, text)?;
    let known = store.recent().known(&place, at).filter(|(_, k)| k.whole);
    let (stored, value, whole) = if let Some((kv, known)) = known {
        check_preconditions(&key, known.resource.metadata(), &expect)?;
        (kv, to_text(&resource), true)
    } else {
        let stored = match store.recent().get(&place, at) {
            Some(kv) => kv,
            None => store.read(&key, &place).await?,
        };
        let merge = |old: &Resource| merge_for_update(resource.clone(), old);
        let value = merged_value(&key, decode_or_bare(&key, &stored)?, &stored, &expect, &merge)?;
        // Where nothing had to be carried over, nothing will have to be.
        let whole = key.kind == Kind::IpamBlock
            && serde_json::from_slice::<Value>(&value).is_ok_and(|v| v == to_stored(&resource));
        (stored, value, whole)
    };
    let kv = KeyValue {
        value: value.clone(),
        ..stored.clone()
    };
    Ok((
        txn::unchanged(&place, stored.mod_revision),
        txn::put(&place, value),
        Some(Stored::new(key, kv, resource, whole)),
    ))
}

async fn deleted(store: &EtcdStore, key: &ResourceKey, at: &str) -> Result<Made, StoreError> {
    check_key(key)?;
    let mut places = keys::candidates(key);
    let place: Bytes = match places.len() {
        1 => places.remove(0).into(),
        // Only a claim's name leaves a doubt.
        _ => store.find(key).await?.key,
    };
    store.recent().forget(&place);
    Ok((
        txn::unchanged(&place, revision(key, at)?),
        txn::remove(&place),
        None,
    ))
}
