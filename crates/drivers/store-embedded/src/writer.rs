//! The one thread that writes: it takes the requests that wait, applies them in one database transaction, syncs, and
//! only then answers them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use caracal_wire::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, TxnRequest, TxnResponse,
};
use tokio::sync::{mpsc, oneshot};

use crate::apply::{Batch, Target};
use crate::error::RequestError;
use crate::recent::Revision;
use crate::scrub::Scrub;
use crate::shared::Core;
use crate::txn;
use crate::view::Source;

/// Most requests that share one sync.
const MAX_BATCH: usize = 256;
/// Most bytes of requests that share one sync.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// How long to believe what is known of the room inside the file.
const SLACK_AGE: Duration = Duration::from_secs(1);

/// A write, valid in itself.
#[derive(Debug)]
pub(crate) enum Write {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact {
        revision: i64,
        /// Answer when the history is gone from the tables.
        physical: bool,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke(i64),
    /// Finish what waits and close the database.
    Stop,
}

/// The answer to a write, with the revision after it.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) revision: i64,
    pub(crate) what: Answer,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Done,
}

pub(crate) type Reply = oneshot::Sender<Result<Written, RequestError>>;

/// A write and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) write: Write,
    pub(crate) bytes: usize,
    pub(crate) reply: Reply,
}

/// How much room there is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    /// Not even for a delete.
    None,
    /// Only for what makes room.
    Low,
    Enough,
}

pub(crate) struct Writer {
    core: Arc<Core>,
    jobs: mpsc::Receiver<Job>,
    scrub: Option<Scrub>,
    /// Who waits for the end of a physical compaction.
    waiting: Vec<(i64, Reply)>,
    stopped: Option<Reply>,
    /// Room inside the file, and when that was found out.
    slack: Option<(Instant, u64)>,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, jobs: mpsc::Receiver<Job>, scrub: Option<Scrub>) -> Self {
        Self {
            core,
            jobs,
            scrub,
            waiting: Vec::new(),
            stopped: None,
            slack: None,
        }
    }

    /// Works until told to stop or nobody is left to ask for anything.
    pub(crate) fn run(mut self) {
        let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
        if worked.is_err() {
            tracing::error!("the writer failed; the store is closed");
        }
        self.jobs.close();
        self.core.db.close();
        if let Some(reply) = self.stopped.take() {
            let revision = *self.core.revision.borrow();
            let _ = reply.send(Ok(Written {
                revision,
                what: Answer::Done,
            }));
        }
        // A request may have been let into the queue but not be in it yet. Nobody would ever drop it there: who waits
        // for its answer keeps the queue.
        while let Some(job) = self.jobs.blocking_recv() {
            let _ = job.reply.send(Err(RequestError::Stopped));
        }
    }

    fn work(&mut self) {
        while self.stopped.is_none() {
            let Some(jobs) = self.collect() else { break };
            self.batch(jobs);
        }
    }

    /// Waits for work; an empty list means that only the scrub has to go on.
    fn collect(&mut self) -> Option<Vec<Job>> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        if self.scrub.is_none() || self.room() == Room::None || self.core.db.is_read_only() {
            let job = self.jobs.blocking_recv()?;
            bytes += job.bytes;
            jobs.push(job);
        }
        while jobs.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            match self.jobs.try_recv() {
                Ok(job) => {
                    bytes += job.bytes;
                    jobs.push(job);
                }
                Err(_) => break,
            }
        }
        Some(jobs)
    }

    fn room(&mut self) -> Room {
        let reserve = self.core.options.reserve_bytes;
        let free = nix::sys::statvfs::statvfs(self.core.db.path()).map_or(u64::MAX, |vfs| {
            vfs.blocks_available().saturating_mul(vfs.fragment_size())
        });
        let free = if free < reserve {
            free.saturating_add(self.slack())
        } else {
            free
        };
        let room = match free {
            free if free >= reserve => Room::Enough,
            free if free >= reserve / 4 => Room::Low,
            _ => Room::None,
        };
        let low = room != Room::Enough;
        let was = self.core.low.swap(low, Ordering::Relaxed);
        if low && !was {
            tracing::error!(
                reserve,
                "the disk is nearly full: puts are refused until there is room again"
            );
        } else if was && !low {
            tracing::info!("there is room on the disk again: puts are taken");
        }
        room
    }

    /// Room inside the file, which does not shrink when keys go. Finding out means walking the whole file, so the
    /// answer is used for a while; what is written meanwhile comes out of the reserve.
    fn slack(&mut self) -> u64 {
        let now = Instant::now();
        match self.slack {
            Some((at, slack)) if now.duration_since(at) < SLACK_AGE => slack,
            _ => {
                let slack = self.core.db.slack().unwrap_or(0);
                self.slack = Some((now, slack));
                slack
            }
        }
    }

    /// One database transaction, from first write to last answer.
    fn batch(&mut self, jobs: Vec<Job>) {
        let room = self.room();
        let mut writes = Vec::with_capacity(jobs.len());
        let mut replies = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job.write {
                Write::Stop => self.stopped = Some(job.reply),
                write if room < needs(&write) => {
                    self.core.figures.no_space();
                    let _ = job.reply.send(Err(RequestError::NoSpace));
                }
                write => {
                    writes.push(write);
                    replies.push(job.reply);
                }
            }
        }
        let scrub = self.scrub.filter(|_| room > Room::None);
        if writes.is_empty() && scrub.is_none() {
            return;
        }
        if self.core.db.is_read_only() && !self.core.db.writable() {
            for reply in replies {
                let _ = reply.send(Err(RequestError::ReadOnly));
            }
            return;
        }
        let core = self.core.clone();
        let begun = Instant::now();
        let applied = catch_unwind(AssertUnwindSafe(|| commit(&core, &writes, scrub)))
            .unwrap_or_else(|_| Err(RequestError::Storage("the database library failed".into())));
        match applied {
            Ok(applied) => {
                self.core.figures.committed(writes.len(), begun.elapsed());
                self.publish(&writes, replies, applied);
            }
            Err(error) => self.fail(&error, replies),
        }
    }

    /// After the commit: watchers first, so that who reads its own answer finds the event already there.
    fn publish(&mut self, writes: &[Write], replies: Vec<Reply>, applied: Applied) {
        self.core.census.follow(&applied.revisions, applied.revision);
        self.core.recent.push(applied.revisions);
        self.core.compacted.store(applied.compacted, Ordering::SeqCst);
        self.core.revision.send_replace(applied.revision);
        self.scrub = applied.scrub;
        let now = Instant::now();
        for ((write, reply), result) in writes.iter().zip(replies).zip(applied.answers) {
            match (write, &result) {
                (Write::Grant { id, ttl }, Ok(_)) => self.core.leases.start(*id, *ttl, now),
                (Write::Revoke(id), Ok(_) | Err(RequestError::LeaseNotFound)) => self.core.leases.end(*id),
                (
                    Write::Compact {
                        revision,
                        physical: true,
                    },
                    Ok(_),
                ) => {
                    self.waiting.push((*revision, reply));
                    continue;
                }
                _ => {}
            }
            let _ = reply.send(result);
        }
        if self.scrub.is_none() {
            for (_, reply) in self.waiting.drain(..) {
                let _ = reply.send(Ok(Written {
                    revision: applied.revision,
                    what: Answer::Done,
                }));
            }
        }
    }

    /// What is on disk is read again. Who is told that a write was refused for want of space can rely on it: so that is
    /// said only when the file shows it.
    fn fail(&mut self, error: &RequestError, replies: Vec<Reply>) {
        tracing::error!(%error, "a write failed; opening the database again");
        self.core.figures.failed();
        let before = *self.core.revision.borrow();
        let opened = self.core.db.reopen().map_err(|e| e.to_string());
        let answer = match opened.and_then(|()| self.core.resume()) {
            Ok(scrub) => {
                self.scrub = scrub;
                if self.core.db.is_read_only() {
                    tracing::error!(
                        "the disk is read-only: reads go on, nothing is written until it can be again"
                    );
                }
                let happened = *self.core.revision.borrow() != before;
                match error {
                    RequestError::NoSpace if happened => {
                        RequestError::Storage("the disk is full; the write may have happened".into())
                    }
                    other => other.clone(),
                }
            }
            Err(why) => {
                tracing::error!(
                    error = why,
                    "the database cannot be opened; the next write tries again"
                );
                self.scrub = None;
                RequestError::Storage(why)
            }
        };
        for reply in replies
            .into_iter()
            .chain(self.waiting.drain(..).map(|(_, reply)| reply))
        {
            let _ = reply.send(Err(answer.clone()));
        }
    }
}

/// The room a write needs to be let in.
fn needs(write: &Write) -> Room {
    match write {
        Write::Put(_) | Write::Grant { .. } => Room::Enough,
        Write::Txn(request) if txn::may_put(request) => Room::Enough,
        Write::Txn(_) | Write::Delete(_) | Write::Compact { .. } | Write::Revoke(_) => Room::Low,
        Write::Stop => Room::None,
    }
}

/// A committed batch.
struct Applied {
    answers: Vec<Result<Written, RequestError>>,
    revisions: Vec<Revision>,
    revision: i64,
    compacted: i64,
    scrub: Option<Scrub>,
}

fn commit(core: &Core, writes: &[Write], mut scrub: Option<Scrub>) -> Result<Applied, RequestError> {
    let transaction = core.db.begin_write()?;
    let mut batch = Batch::new(&transaction)?;
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        let answer = apply(&mut batch, write);
        // A refused request wrote nothing; a failed storage takes the whole batch with it.
        if let Err(error @ (RequestError::Storage(_) | RequestError::NoSpace | RequestError::ReadOnly)) =
            answer
        {
            return Err(error);
        }
        batch.finish();
        let revision = batch.revision();
        if let (Write::Compact { revision, .. }, Ok(_)) = (write, &answer) {
            scrub = Some(Scrub::to(*revision));
        }
        answers.push(answer.map(|what| Written { revision, what }));
    }
    if let Some(due) = due(core, &batch) {
        batch.compact(due)?;
        scrub = Some(Scrub::to(due));
    }
    let scrub = match scrub {
        Some(scrub) => scrub.step(&mut batch)?,
        None => None,
    };
    let (revision, compacted) = (batch.revision(), batch.compacted());
    let revisions = batch.close()?;
    transaction.commit()?;
    Ok(Applied {
        answers,
        revisions,
        revision,
        compacted,
        scrub,
    })
}

/// The revision to compact to by itself, when there is too much history.
fn due(core: &Core, batch: &Batch<'_>) -> Option<i64> {
    let keep = core.options.keep_revisions;
    let history = batch.revision() - batch.compacted();
    (keep > 0 && history > keep.saturating_mul(2)).then(|| batch.revision() - keep)
}

fn apply(batch: &mut Batch<'_>, write: &Write) -> Result<Answer, RequestError> {
    match write {
        Write::Put(put) => batch.single_put(put).map(Answer::Put),
        Write::Delete(delete) => batch.delete(delete).map(Answer::Delete),
        Write::Txn(txn) => batch.txn(txn).map(Answer::Txn),
        Write::Compact { revision, .. } => batch.compact(*revision).map(|()| Answer::Done),
        Write::Grant { id, ttl } => batch.grant(*id, *ttl).map(|()| Answer::Done),
        Write::Revoke(id) => batch.revoke(*id).map(|()| Answer::Done),
        Write::Stop => Ok(Answer::Done),
    }
}
