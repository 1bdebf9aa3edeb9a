//! Service `etcdserverpb.Watch`: many watches on one stream.
//!
//! A stream is driven by the client's reading: while nothing is taken from it, nothing is read for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use caracal_wire::etcdserverpb::watch_request::RequestUnion;
use caracal_wire::etcdserverpb::watch_server::Watch;
use caracal_wire::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Service;
use crate::engine::Engine;
use crate::error::RequestError;
use crate::watcher::{Chunk, Watcher};

/// Stands for "no watch" or "all watches" in a response.
const NO_WATCH: i64 = -1;

#[async_trait]
impl Watch for Service {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let every = self.engine.core.options.progress_interval;
        let mut progress = interval_at(Instant::now() + every, every);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stream = WatchStream {
            revision: self.engine.core.revision.subscribe(),
            engine: self.engine.clone(),
            stopping: self.stopping.clone(),
            requests: request.into_inner(),
            watchers: BTreeMap::new(),
            next_id: 0,
            out: VecDeque::new(),
            progress,
            progress_asked: false,
            over: false,
        };
        let responses = futures::stream::unfold(stream, |mut stream| async move {
            stream.next().await.map(|r| (r, stream))
        });
        Ok(Response::new(responses.boxed()))
    }
}

/// Waits for the server to stop, or to be gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

struct WatchStream {
    engine: Engine,
    revision: watch::Receiver<i64>,
    stopping: watch::Receiver<bool>,
    requests: Streaming<WatchRequest>,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// Responses ready to be taken.
    out: VecDeque<WatchResponse>,
    progress: Interval,
    /// A progress response is owed as soon as every watch is up to date.
    progress_asked: bool,
    over: bool,
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let left = i64::try_from(self.watchers.len()).unwrap_or(0);
        self.engine.core.figures.watches(-left);
    }
}

impl WatchStream {
    async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            if let Some(mut response) = self.out.pop_front() {
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                response.header = Some(self.header(revision));
                return Some(Ok(response));
            }
            if self.over {
                return None;
            }
            // Requests have their turn between the chunks of a long replay, too.
            if let Some(request) = self.requests.next().now_or_never() {
                self.request(request);
                continue;
            }
            let current = *self.revision.borrow_and_update();
            if let Err(error) = self.advance(current).await {
                self.over = true;
                return Some(Err(error.into()));
            }
            let behind = self.watchers.values().any(|watcher| watcher.next <= current);
            if self.progress_asked && !behind {
                self.progress_asked = false;
                self.push(
                    current,
                    WatchResponse {
                        watch_id: NO_WATCH,
                        ..Default::default()
                    },
                );
            }
            if behind || !self.out.is_empty() {
                continue;
            }
            tokio::select! {
                request = self.requests.next() => self.request(request),
                changed = self.revision.changed() => self.over = changed.is_err(),
                () = stopped(&mut self.stopping) => self.over = true,
                _ = self.progress.tick() => self.report(current),
            }
        }
    }

    fn header(&self, revision: i64) -> ResponseHeader {
        self.engine.core.header(revision)
    }

    fn push(&mut self, revision: i64, mut response: WatchResponse) {
        response.header = Some(ResponseHeader {
            revision,
            ..Default::default()
        });
        self.out.push_back(response);
    }

    /// Takes one message of the client, or the end of its side.
    fn request(&mut self, request: Option<Result<WatchRequest, Status>>) {
        let Some(Ok(request)) = request else {
            self.over = true;
            return;
        };
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress_asked = true,
            None => {}
        }
    }

    fn cancel(&mut self, watch_id: i64) {
        if self.watchers.remove(&watch_id).is_some() {
            self.engine.core.figures.watches(-1);
            let current = *self.revision.borrow();
            self.push(
                current,
                WatchResponse {
                    watch_id,
                    canceled: true,
                    ..Default::default()
                },
            );
        }
    }

    fn create(&mut self, request: WatchCreateRequest) {
        let current = *self.revision.borrow();
        let made = match request.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                Ok(self.next_id)
            }
            id if self.watchers.contains_key(&id) => {
                Err("mvcc: duplicate watch ID provided on the WatchStream")
            }
            id => Ok(id),
        }
        .and_then(|id| Watcher::new(id, request, current));
        match made {
            Ok(watcher) => {
                if watcher.id == self.next_id {
                    self.next_id += 1;
                }
                self.push(
                    current,
                    WatchResponse {
                        watch_id: watcher.id,
                        created: true,
                        ..Default::default()
                    },
                );
                self.engine.core.figures.watches(1);
                self.watchers.insert(watcher.id, watcher);
            }
            Err(reason) => self.push(
                current,
                WatchResponse {
                    watch_id: NO_WATCH,
                    created: true,
                    canceled: true,
                    cancel_reason: reason.into(),
                    ..Default::default()
                },
            ),
        }
    }

    /// Lets every watch that is behind do one step.
    async fn advance(&mut self, current: i64) -> Result<(), RequestError> {
        let mut canceled = Vec::new();
        let figures = &self.engine.core.figures;
        let compacted = self.engine.core.compacted.load(Ordering::SeqCst);
        for watcher in self
            .watchers
            .values_mut()
            .filter(|watcher| watcher.next <= current)
        {
            if watcher.next < compacted {
                // What is still in memory would do, but then it would depend on luck whether a watch can start.
                canceled.push((watcher.id, compacted));
                continue;
            }
            if let Some(revisions) = self.engine.core.recent.since(watcher.next) {
                let (responses, oldest) = watcher.follow(&revisions, compacted);
                self.out.extend(responses);
                if let Some(at) = oldest {
                    figures.told(at.elapsed());
                }
                continue;
            }
            figures.read_for_watch();
            let reader = watcher.clone();
            match self.engine.read(move |core| reader.read(core)).await? {
                Chunk::Shown { revisions, next } => {
                    watcher.next = next;
                    self.out.extend(watcher.responses(revisions));
                }
                Chunk::Compacted(compacted) => canceled.push((watcher.id, compacted)),
            }
        }
        for (watch_id, compact_revision) in canceled {
            self.watchers.remove(&watch_id);
            self.engine.core.figures.watches(-1);
            // Clients tell by the revision; etcd gives no reason beside it.
            let response = WatchResponse {
                watch_id,
                canceled: true,
                compact_revision,
                ..Default::default()
            };
            self.push(current, response);
        }
        Ok(())
    }

    /// Tells the watches that asked for it, and were told nothing for an interval, how far they are.
    fn report(&mut self, current: i64) {
        let mut idle = Vec::new();
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.progress) {
            if !std::mem::take(&mut watcher.busy) && watcher.next > current {
                idle.push(watcher.id);
            }
        }
        for watch_id in idle {
            self.push(
                current,
                WatchResponse {
                    watch_id,
                    ..Default::default()
                },
            );
        }
    }
}
