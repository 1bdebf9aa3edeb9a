//! What the writer, the watchers and the requests share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use caracal_wire::Bytes;
use caracal_wire::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse};
use redb::ReadableTable;
use tokio::sync::watch;

use crate::apply;
use crate::census::Census;
use crate::db::{self, Db, META_SCRUBBED};
use crate::engine::Options;
use crate::error::RequestError;
use crate::figures::Figures;
use crate::leases::Leases;
use crate::query;
use crate::recent::Recent;
use crate::scrub::Scrub;
use crate::txn;
use crate::view::{self, Source};

/// The shared state.
pub(crate) struct Core {
    pub(crate) db: Db,
    pub(crate) options: Options,
    pub(crate) recent: Recent,
    /// Last committed revision.
    pub(crate) revision: watch::Sender<i64>,
    /// Oldest revision that can be read or watched from.
    pub(crate) compacted: AtomicI64,
    pub(crate) leases: Leases,
    /// The disk is nearly full.
    pub(crate) low: AtomicBool,
    pub(crate) cluster: u64,
    pub(crate) counts: Counts,
    pub(crate) census: Census,
    pub(crate) figures: Figures,
}

impl Core {
    /// Takes over the state of the file, at the start and after it was opened again. Returns unfinished compaction.
    pub(crate) fn resume(&self) -> Result<Option<Scrub>, String> {
        let read = || {
            let snapshot = self.db.snapshot()?;
            let scrubbed = db::number(&snapshot.meta, META_SCRUBBED)?;
            let mut leases = HashMap::new();
            for entry in snapshot.leases.iter()? {
                let (id, ttl) = entry?;
                leases.insert(id.value(), ttl.value());
            }
            self.census.take(&snapshot)?;
            Ok((snapshot.revision(), snapshot.compacted(), scrubbed, leases))
        };
        let (revision, compacted, scrubbed, leases) = read().map_err(|e: RequestError| e.to_string())?;
        // A grant of unknown fate may be among them.
        self.leases.adopt(&leases, Instant::now());
        self.recent.reset(revision + 1);
        self.compacted.store(compacted, Ordering::SeqCst);
        self.revision.send_replace(revision);
        Ok((scrubbed < compacted).then(|| Scrub::to(compacted)))
    }

    /// The header of an answer.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster,
            member_id: self.member(),
            revision,
            raft_term: 1,
        }
    }

    /// This server's id: the store's, with a bit turned.
    pub(crate) fn member(&self) -> u64 {
        self.cluster ^ 1
    }

    /// Answers a valid range request.
    pub(crate) fn read_range(&self, request: &RangeRequest) -> Result<RangeResponse, RequestError> {
        let snapshot = self.db.snapshot()?;
        let at = view::resolve(&snapshot, request.revision)?;
        let known = if request.limit > 0 || request.count_only {
            let counted = self.counts.take(&request.key, &request.range_end, at);
            let now = at == snapshot.revision();
            counted.or_else(|| {
                now.then(|| self.census.count(&request.key, &request.range_end, at))
                    .flatten()
            })
        } else {
            None
        };
        let mut response = query::range(&snapshot, request, known)?;
        if let (true, Some(last)) = (response.more, response.kvs.last()) {
            let mut next = last.key.to_vec();
            next.push(0);
            let left = response.count - i64::try_from(response.kvs.len()).unwrap_or(0);
            // Only in the order of keys do the rest of the keys come after the last one shown.
            if request.sort_order == 0 && request.sort_target == 0 {
                self.counts.put(next.into(), request.range_end.clone(), at, left);
            }
        }
        response.header = Some(self.header(snapshot.revision()));
        Ok(response)
    }

    /// Answers a valid txn that only reads.
    pub(crate) fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, RequestError> {
        let mut snapshot = self.db.snapshot()?;
        let path = txn::decide(&snapshot, request)?;
        txn::check(&snapshot, request, &path, &|_| Ok(false))?;
        let mut response = apply::run(&mut snapshot, request, &path)?;
        response.header = Some(self.header(snapshot.revision()));
        Ok(response)
    }
}

/// How many keys are left after the page a client was given: the next page's count, for which the whole rest of the
/// range would otherwise have to be read again.
#[derive(Default)]
pub(crate) struct Counts {
    entries: Mutex<VecDeque<Counted>>,
}

struct Counted {
    key: Bytes,
    range_end: Bytes,
    revision: i64,
    count: i64,
}

impl Counts {
    const MAX: usize = 64;

    fn take(&self, key: &Bytes, range_end: &Bytes, revision: i64) -> Option<i64> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |c: &&Counted| c.revision == revision && c.key == key && c.range_end == range_end;
        entries.iter().find(same).map(|counted| counted.count)
    }

    fn put(&self, key: Bytes, range_end: Bytes, revision: i64, count: i64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push_front(Counted {
            key,
            range_end,
            revision,
            count,
        });
        entries.truncate(Self::MAX);
    }
}
