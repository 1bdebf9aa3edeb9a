//! Writing: the operations of one revision, several revisions to a database transaction.

use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::response_op::Response;
use caracal_wire::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use caracal_wire::{Event, EventType, KeyValue};
use redb::{ReadableTable, Table, WriteTransaction};
use std::ops::ControlFlow;

use crate::db::{
    HISTORY, KEYS, LEASE_KEYS, LEASES, LOG, META, META_COMPACTED, META_REVISION, META_SCRUBBED, Snapshot,
    number,
};
use crate::error::RequestError;
use crate::query;
use crate::recent::Revision;
use crate::record::{Change, Current};
use crate::span::Span;
use crate::txn::{self, Path};
use crate::view::{self, Source};

/// Where a txn's operations run.
pub(crate) trait Target: Source {
    /// Does one put. It was checked before: only the storage can fail.
    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, RequestError>;
    /// Does one delete.
    fn delete(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, RequestError>;
}

/// Runs the chosen branches of a txn.
pub(crate) fn run(
    target: &mut impl Target,
    txn: &TxnRequest,
    path: &Path,
) -> Result<TxnResponse, RequestError> {
    let mut responses = Vec::new();
    let mut nested = path.nested.iter();
    for op in txn::branch(txn, path) {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => {
                let mut response = query::range(target, request, None)?;
                response.header = inner(target);
                Response::ResponseRange(response)
            }
            Some(Request::RequestPut(put)) => Response::ResponsePut(target.put(put)?),
            Some(Request::RequestDeleteRange(delete)) => {
                Response::ResponseDeleteRange(target.delete(delete)?)
            }
            Some(Request::RequestTxn(request)) => match nested.next() {
                // Its header is empty in etcd, too.
                Some(path) => Response::ResponseTxn(run(target, request, path)?),
                None => continue,
            },
            None => continue,
        };
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    Ok(TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: path.succeeded,
        responses,
    })
}

/// The header of an operation inside a txn.
fn inner(source: &impl Source) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision: source.revision(),
        ..Default::default()
    })
}

/// A txn without writes runs on a snapshot, beside the writer.
impl Target for Snapshot {
    fn put(&mut self, _: &PutRequest) -> Result<PutResponse, RequestError> {
        Err(RequestError::Storage("a put on a read-only view".into()))
    }
    fn delete(&mut self, _: &DeleteRangeRequest) -> Result<DeleteRangeResponse, RequestError> {
        Err(RequestError::Storage("a delete on a read-only view".into()))
    }
}

type Keys<'t> = Table<'t, &'static [u8], &'static [u8]>;
type Log<'t> = Table<'t, (i64, u32), &'static [u8]>;
type History<'t> = Table<'t, (&'static [u8], i64, u32), bool>;

/// The tables, open for writing, and what was written to them.
pub(crate) struct Batch<'t> {
    pub(crate) keys: Keys<'t>,
    pub(crate) log: Log<'t>,
    pub(crate) history: History<'t>,
    leases: Table<'t, i64, i64>,
    lease_keys: Table<'t, (i64, &'static [u8]), ()>,
    meta: Table<'t, &'static str, i64>,
    /// Last finished revision.
    revision: i64,
    compacted: i64,
    /// Changes of the revision being written.
    pending: Vec<Event>,
    /// Finished revisions of this batch.
    done: Vec<Revision>,
}

impl<'t> Batch<'t> {
    pub(crate) fn new(write: &'t WriteTransaction) -> Result<Self, RequestError> {
        let meta = write.open_table(META)?;
        Ok(Self {
            keys: write.open_table(KEYS)?,
            log: write.open_table(LOG)?,
            history: write.open_table(HISTORY)?,
            leases: write.open_table(LEASES)?,
            lease_keys: write.open_table(LEASE_KEYS)?,
            revision: number(&meta, META_REVISION)?,
            compacted: number(&meta, META_COMPACTED)?,
            meta,
            pending: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Ends the request being applied: what it changed becomes one revision.
    pub(crate) fn finish(&mut self) {
        if !self.pending.is_empty() {
            self.revision += 1;
            self.done
                .push(Revision::new(self.revision, std::mem::take(&mut self.pending)));
        }
    }

    /// Ends the batch: the revisions to be shown to watchers once it is committed.
    pub(crate) fn close(mut self) -> Result<Vec<Revision>, RequestError> {
        if !self.done.is_empty() {
            self.meta.insert(META_REVISION, self.revision)?;
        }
        Ok(self.done)
    }

    /// Checks and does a put as a request of its own.
    pub(crate) fn single_put(&mut self, put: &PutRequest) -> Result<PutResponse, RequestError> {
        txn::check_single_put(self, put, &|lease| self.has_lease(lease))?;
        self.put(put)
    }

    /// Checks and runs a txn.
    pub(crate) fn txn(&mut self, txn: &TxnRequest) -> Result<TxnResponse, RequestError> {
        let path = txn::decide(self, txn)?;
        txn::check(self, txn, &path, &|lease| self.has_lease(lease))?;
        run(self, txn, &path)
    }

    /// Forbids reading before `revision`; `scrub` then removes what nobody can ask for.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), RequestError> {
        if revision <= self.compacted {
            return Err(RequestError::Compacted);
        }
        if revision > self.revision {
            return Err(RequestError::FutureRevision);
        }
        self.meta.insert(META_COMPACTED, revision)?;
        self.compacted = revision;
        Ok(())
    }

    /// Notes that nothing before `revision` is left to remove.
    pub(crate) fn scrubbed(&mut self, revision: i64) -> Result<(), RequestError> {
        self.meta.insert(META_SCRUBBED, revision)?;
        Ok(())
    }

    pub(crate) fn has_lease(&self, lease: i64) -> Result<bool, RequestError> {
        Ok(self.leases.get(lease)?.is_some())
    }

    /// Records a lease; an error when the id is taken.
    pub(crate) fn grant(&mut self, lease: i64, ttl: i64) -> Result<(), RequestError> {
        if self.has_lease(lease)? {
            return Err(RequestError::LeaseExists);
        }
        self.leases.insert(lease, ttl)?;
        Ok(())
    }

    /// Ends a lease and deletes its keys, all in one revision.
    pub(crate) fn revoke(&mut self, lease: i64) -> Result<(), RequestError> {
        if self.leases.remove(lease)?.is_none() {
            return Err(RequestError::LeaseNotFound);
        }
        let mut keys = Vec::new();
        for entry in self.lease_keys.range((lease, [].as_slice())..)? {
            let (place, ()) = entry.map(|(place, _)| (place, ()))?;
            let (id, key) = place.value();
            if id != lease {
                break;
            }
            keys.push(key.to_vec());
        }
        for key in keys {
            if let Some(previous) = view::current(self, &key)? {
                self.remove(previous)?;
            }
            self.lease_keys.remove((lease, key.as_slice()))?;
        }
        Ok(())
    }

    fn sub(&self) -> u32 {
        // A request is at most 1.5 MiB, a range delete is bounded by the number of keys.
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    /// Keeps a version that is about to be replaced readable: a compaction leaves what is current in `keys` only.
    fn preserve(&mut self, previous: &Current) -> Result<(), RequestError> {
        let kv = &previous.kv;
        if kv.mod_revision <= self.compacted {
            let change = Change {
                put: true,
                kv: kv.clone(),
            };
            self.log
                .insert((kv.mod_revision, previous.sub), change.encode().as_slice())?;
            self.history
                .insert((kv.key.as_ref(), kv.mod_revision, previous.sub), true)?;
        }
        Ok(())
    }

    fn record(&mut self, change: Change, previous: Option<KeyValue>) -> Result<(), RequestError> {
        let (revision, sub) = (self.revision + 1, self.sub());
        self.log.insert((revision, sub), change.encode().as_slice())?;
        self.history
            .insert((change.kv.key.as_ref(), revision, sub), change.put)?;
        self.pending.push(change.into_event(previous));
        Ok(())
    }

    fn remove(&mut self, previous: Current) -> Result<(), RequestError> {
        self.preserve(&previous)?;
        let kv = previous.kv;
        self.keys.remove(kv.key.as_ref())?;
        if kv.lease != 0 {
            self.lease_keys.remove((kv.lease, kv.key.as_ref()))?;
        }
        let gone = KeyValue {
            key: kv.key.clone(),
            mod_revision: self.revision + 1,
            ..Default::default()
        };
        self.record(Change { put: false, kv: gone }, Some(kv))
    }
}

impl Target for Batch<'_> {
    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, RequestError> {
        let previous = view::current(self, &put.key)?;
        let (revision, sub) = (self.revision + 1, self.sub());
        let old = previous.as_ref().map(|p| &p.kv);
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(0, |old| old.version) + 1,
            value: old
                .filter(|_| put.ignore_value)
                .map_or_else(|| put.value.clone(), |old| old.value.clone()),
            lease: old
                .filter(|_| put.ignore_lease)
                .map_or(put.lease, |old| old.lease),
        };
        let old_lease = old.map_or(0, |old| old.lease);
        if let Some(previous) = &previous {
            self.preserve(previous)?;
        }
        if old_lease != kv.lease {
            if old_lease != 0 {
                self.lease_keys.remove((old_lease, kv.key.as_ref()))?;
            }
            if kv.lease != 0 {
                self.lease_keys.insert((kv.lease, kv.key.as_ref()), ())?;
            }
        }
        let current = Current { kv, sub };
        self.keys.insert(put.key.as_ref(), current.encode().as_slice())?;
        let old = previous.map(|p| p.kv);
        let prev_kv = old.clone().filter(|_| put.prev_kv);
        self.record(
            Change {
                put: true,
                kv: current.kv,
            },
            old,
        )?;
        Ok(PutResponse {
            header: inner(self),
            prev_kv,
        })
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, RequestError> {
        let span = Span::new(delete.key.clone(), &delete.range_end);
        let mut found = Vec::new();
        view::scan(self, &span, self.revision(), &mut |key| {
            if let view::Found::Present { key, record } = key {
                found.push(Current::decode(key, record)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let prev_kvs = if delete.prev_kv {
            found.iter().map(|c| c.kv.clone()).collect()
        } else {
            Vec::new()
        };
        for current in found {
            self.remove(current)?;
        }
        Ok(DeleteRangeResponse {
            header: inner(self),
            deleted,
            prev_kvs,
        })
    }
}

impl<'t> Source for Batch<'t> {
    type Keys = Keys<'t>;
    type Log = Log<'t>;
    type History = History<'t>;

    fn keys(&self) -> &Self::Keys {
        &self.keys
    }
    fn log(&self) -> &Self::Log {
        &self.log
    }
    fn history(&self) -> &Self::History {
        &self.history
    }
    fn revision(&self) -> i64 {
        self.revision + i64::from(!self.pending.is_empty())
    }
    fn compacted(&self) -> i64 {
        self.compacted
    }
}

/// Whether an event is a put.
pub(crate) fn is_put(event: &Event) -> bool {
    event.r#type == i32::from(EventType::Put)
}
