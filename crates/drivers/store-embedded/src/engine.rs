//! The store as a library: requests in, answers out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use caracal_wire::Bytes;
use caracal_wire::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use prost::Message;
use redb::{ReadableTable, ReadableTableMetadata};
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::{Files, Medium};
use crate::census::Census;
use crate::db::{self, Db, META_CLUSTER, Snapshot};
use crate::error::{OpenError, RequestError};
use crate::figures::Figures;
use crate::leases::{self, Leases};
use crate::query;
use crate::recent::Recent;
use crate::shared::{Core, Counts};
use crate::txn;
use crate::view::Source;
use crate::writer::{Answer, Job, Write, Writer, Written};

/// Largest request: etcd's limit.
pub(crate) const MAX_REQUEST_BYTES: usize = 3 << 19;
/// Requests that may wait for the writer before clients have to.
const QUEUE: usize = 1024;
/// Memory for the latest revisions.
const RECENT_BYTES: usize = 8 << 20;

/// How the store works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for pages of the database.
    pub cache_bytes: usize,
    /// Below this much free disk space nothing is written but what makes room.
    pub reserve_bytes: u64,
    /// History kept when the store compacts itself (it does so at twice as much); 0 is never.
    pub keep_revisions: i64,
    /// How often a watcher that asked for it is told that nothing happened.
    pub progress_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            reserve_bytes: 16 << 20,
            keep_revisions: 10_000,
            progress_interval: Duration::from_secs(600),
        }
    }
}

/// Numbers about an open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Last revision.
    pub revision: i64,
    /// Oldest revision that can be read.
    pub compacted: i64,
    /// Keys there are.
    pub keys: u64,
    /// Entries of history.
    pub history: u64,
    /// Leases there are.
    pub leases: u64,
    /// Size of the file.
    pub file_bytes: u64,
}

/// An open store. Cheap to clone; close it once with [`Engine::close`].
#[derive(Clone)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
    queue: mpsc::Sender<Job>,
}

impl Engine {
    /// Opens the store of a data directory, making both if they do not exist.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_dir(dir, options, true, Arc::new(Files))
    }

    /// Opens the store of a data directory that must exist.
    pub fn open_existing(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_dir(dir, options, false, Arc::new(Files))
    }

    /// Opens the store of a data directory with its file on another medium than the directory's.
    pub fn open_on(dir: &Path, options: Options, medium: Arc<dyn Medium>) -> Result<Self, OpenError> {
        Self::open_dir(dir, options, true, medium)
    }

    fn open_dir(
        dir: &Path,
        options: Options,
        create: bool,
        medium: Arc<dyn Medium>,
    ) -> Result<Self, OpenError> {
        let db = Db::open_on(dir, options.cache_bytes, create, medium)?;
        let path = db.path().to_path_buf();
        let corrupt = move |reason: String| OpenError::Corrupt {
            path: path.clone(),
            reason,
        };
        let cluster = db
            .snapshot()
            .and_then(|snapshot| db::number(&snapshot.meta, META_CLUSTER))
            .map_err(|e: RequestError| corrupt(e.to_string()))?
            .unsigned_abs();
        let core = Arc::new(Core {
            db,
            options,
            recent: Recent::new(0, RECENT_BYTES),
            revision: watch::Sender::new(0),
            compacted: AtomicI64::new(0),
            leases: Leases::default(),
            low: AtomicBool::new(false),
            cluster,
            counts: Counts::default(),
            census: Census::default(),
            figures: Figures::default(),
        });
        let scrub = core.resume().map_err(&corrupt)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = Writer::new(core.clone(), jobs, scrub);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io {
                what: "starting the writer of",
                path: dir.into(),
                source,
            })?;
        Ok(Self { core, queue })
    }

    /// Finishes what waits, closes the file. Later requests are refused.
    pub async fn close(&self) {
        // An error says that it is closed already.
        let _ = self.write(Write::Stop, 0).await;
    }

    async fn write(&self, write: Write, bytes: usize) -> Result<Written, RequestError> {
        if bytes > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Job { write, bytes, reply })
            .await
            .map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }

    /// Runs something that reads the disk, off the threads that serve.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Core) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let core = self.core.clone();
        let done = tokio::task::spawn_blocking(move || read(&core)).await;
        done.unwrap_or_else(|_| Err(RequestError::Storage("the database library failed".into())))
    }

    /// Reads keys.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, RequestError> {
        query::validate(&request)?;
        self.read(move |core| core.read_range(&request)).await
    }

    /// Writes a key.
    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, RequestError> {
        txn::validate_put(&request)?;
        let bytes = request.encoded_len();
        let written = self.write(Write::Put(request), bytes).await?;
        let mut response = if let Answer::Put(response) = written.what {
            response
        } else {
            Default::default()
        };
        response.header = Some(self.core.header(written.revision));
        Ok(response)
    }

    /// Deletes keys.
    pub async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, RequestError> {
        txn::validate_delete(&request)?;
        let bytes = request.encoded_len();
        let written = self.write(Write::Delete(request), bytes).await?;
        let mut response = if let Answer::Delete(response) = written.what {
            response
        } else {
            Default::default()
        };
        response.header = Some(self.core.header(written.revision));
        Ok(response)
    }

    /// Runs a transaction.
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, RequestError> {
        txn::validate(&request)?;
        if !txn::may_write(&request) {
            return self.read(move |core| core.read_txn(&request)).await;
        }
        let bytes = request.encoded_len();
        let written = self.write(Write::Txn(request), bytes).await?;
        let mut response = if let Answer::Txn(response) = written.what {
            response
        } else {
            Default::default()
        };
        response.header = Some(self.core.header(written.revision));
        Ok(response)
    }

    /// Gives up history.
    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, RequestError> {
        let write = Write::Compact {
            revision: request.revision,
            physical: request.physical,
        };
        let written = self.write(write, 0).await?;
        Ok(CompactionResponse {
            header: Some(self.core.header(written.revision)),
        })
    }

    /// Grants a lease.
    pub async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, RequestError> {
        let ttl = leases::ttl(request.ttl)?;
        let id = if request.id == 0 { db::random() } else { request.id };
        let written = self.write(Write::Grant { id, ttl }, 0).await?;
        Ok(LeaseGrantResponse {
            header: Some(self.core.header(written.revision)),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse, RequestError> {
        let written = self.write(Write::Revoke(id), 0).await?;
        Ok(LeaseRevokeResponse {
            header: Some(self.core.header(written.revision)),
        })
    }

    /// Starts a lease's time anew: its TTL, or 0 when there is no such lease.
    pub fn lease_keep_alive(&self, id: i64) -> i64 {
        self.core.leases.renew(id, Instant::now()).unwrap_or(0)
    }

    /// What a lease has left, and its keys when asked for.
    pub async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, RequestError> {
        let mut response = LeaseTimeToLiveResponse {
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(left) = self.core.leases.left(request.id, Instant::now()) {
            response.ttl = left.left;
            response.granted_ttl = left.granted;
        }
        let keys = request.keys;
        let (revision, keys) = self
            .read(move |core| {
                let snapshot = core.db.snapshot()?;
                let keys = if keys {
                    keys_of(&snapshot, request.id)?
                } else {
                    Vec::new()
                };
                Ok((snapshot.revision(), keys))
            })
            .await?;
        response.header = Some(self.core.header(revision));
        response.keys = keys;
        Ok(response)
    }

    /// All leases.
    pub async fn lease_list(&self) -> Result<LeaseLeasesResponse, RequestError> {
        self.read(|core| {
            let snapshot = core.db.snapshot()?;
            let mut leases = Vec::new();
            for entry in snapshot.leases.iter()? {
                leases.push(LeaseStatus { id: entry?.0.value() });
            }
            Ok(LeaseLeasesResponse {
                header: Some(core.header(snapshot.revision())),
                leases,
            })
        })
        .await
    }

    /// Ends leases whose time is over, until the engine is closed. Beside it gives signs of life: waiting for a slow disk
    /// is not standing still.
    pub(crate) async fn expire(self) {
        let core = self.core.clone();
        let beat = async {
            let mut tick = tokio::time::interval(leases::BEAT);
            loop {
                tick.tick().await;
                core.leases.beat(Instant::now());
            }
        };
        tokio::select! {
            () = beat => {}
            () = self.end_leases() => {}
        }
    }

    async fn end_leases(self) {
        let mut tick = tokio::time::interval(leases::BEAT);
        loop {
            tick.tick().await;
            for id in self.core.leases.over(Instant::now()) {
                match self.lease_revoke(id).await {
                    Ok(_) | Err(RequestError::LeaseNotFound) => {}
                    Err(RequestError::Stopped) => return,
                    Err(error) => tracing::debug!(lease = id, %error, "an expired lease cannot be ended yet"),
                }
            }
        }
    }

    /// Numbers about the store.
    pub async fn stats(&self) -> Result<Stats, RequestError> {
        self.read(|core| {
            let snapshot = core.db.snapshot()?;
            Ok(Stats {
                revision: snapshot.revision(),
                compacted: snapshot.compacted(),
                keys: snapshot.keys().len()?,
                history: snapshot.history().len()?,
                leases: snapshot.leases.len()?,
                file_bytes: std::fs::metadata(core.db.path()).map_or(0, |meta| meta.len()),
            })
        })
        .await
    }

    /// What is wrong with the store's tables, a line each; empty when all is well.
    pub async fn verify(&self) -> Result<Vec<String>, RequestError> {
        self.read(|core| {
            let snapshot = core.db.snapshot()?;
            let mut problems = crate::verify::problems(&snapshot)?;
            let fresh = Census::default();
            fresh.take(&snapshot)?;
            if core.census.contradicts(&fresh) {
                problems.push("the numbers of keys in memory are not those of the file".into());
            }
            Ok(problems)
        })
        .await
    }

    /// Counts and times of what this process has done, as Prometheus' text.
    pub fn figures(&self) -> String {
        self.core.figures.text()
    }

    /// Whether writes are refused for want of disk space.
    pub fn is_low_on_space(&self) -> bool {
        self.core.low.load(Ordering::Relaxed)
    }
}

fn keys_of(snapshot: &Snapshot, lease: i64) -> Result<Vec<Bytes>, RequestError> {
    let mut keys = Vec::new();
    for entry in snapshot.lease_keys.range((lease, [].as_slice())..)? {
        let (place, _) = entry?;
        let (id, key) = place.value();
        if id != lease {
            break;
        }
        keys.push(Bytes::copy_from_slice(key));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: String, bytes: usize) -> PutRequest {
        PutRequest {
            key: key.into(),
            value: vec![b'v'; bytes].into(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn what_was_deleted_and_compacted_counts_as_room() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), Options::default()).unwrap();
        for n in 0..40 {
            engine.put(put(format!("/{n}"), 200_000)).await.unwrap();
        }
        let all = Bytes::from_static(&[0]);
        let delete = DeleteRangeRequest {
            key: all.clone(),
            range_end: all,
            prev_kv: false,
        };
        let revision = engine
            .delete_range(delete)
            .await
            .unwrap()
            .header
            .unwrap()
            .revision;
        engine
            .compact(CompactionRequest {
                revision,
                physical: true,
            })
            .await
            .unwrap();
        // The library gives pages back a commit or two after they are free.
        for n in 0..3 {
            engine.put(put(format!("/{n}"), 1)).await.unwrap();
        }
        let used = engine.stats().await.unwrap().file_bytes - engine.core.db.slack().unwrap();
        assert!(used < 2_000_000, "{used} bytes");
        engine.close().await;
    }

    #[tokio::test]
    async fn a_request_that_comes_into_the_queue_while_it_is_closed_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), Options::default()).unwrap();
        // A thread that stands still here has its place in the queue, and uses it only when all is over.
        let place = engine.queue.reserve().await.unwrap();
        engine.close().await;
        let (reply, answer) = oneshot::channel();
        place.send(Job {
            write: Write::Revoke(1),
            bytes: 0,
            reply,
        });
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
        assert_eq!(
            answer.expect("it is answered").unwrap().unwrap_err(),
            RequestError::Stopped
        );
    }
}
