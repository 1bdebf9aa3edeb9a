use std::{sync::Arc, time::Duration};

use caracal_api::{Kind, ResourceKey, Unreadable};
use caracal_store::{Backoff, Store, StoreError, WatchEvent, WatchFrom};
use caracal_update::Update;
use futures::StreamExt;
use tokio::{
    sync::{mpsc::Sender, watch},
    time::{Instant, timeout},
};

use crate::{Source, known::Known};

/// What one kind's follower tells the merger.
#[derive(Debug)]
pub(crate) enum Message {
    Updates(Vec<Update>),
    Unreadable(ResourceKey, Unreadable),
    /// The kind's first snapshot is complete.
    Synced(Kind),
    /// The kind has lost its source.
    Down(Kind, String),
    /// The kind has its source again.
    Up(Kind),
}

/// At most this many events of a watch are taken at once.
const CHUNK: usize = 1024;
/// After so many failures at one place the kind is listed again.
const FAILURES: u32 = 5;
/// A watch that lived so long was a good one: the next failure is a first one.
const GOOD: Duration = Duration::from_secs(60);
/// How long to wait before asking again for a kind that the store does not have.
const MISSING: Duration = Duration::from_secs(30 * 60);

/// So long a watch waits until all kinds are read: until then there is more urgent work here and in the datastore.
const ALL_READ: Duration = Duration::from_secs(1);

/// Nobody listens any more.
pub(crate) struct Closed;

/// Why following a kind stopped.
enum Stop {
    Closed,
    Store(StoreError),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// Lists and watches one kind.
pub(crate) struct Follower {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) source: Source,
    pub(crate) out: Sender<Message>,
    pub(crate) backoff: Backoff,
    /// Whether every kind is read for the first time.
    all_read: watch::Receiver<bool>,
    known: Known,
    synced: bool,
    down: bool,
}

impl Follower {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        source: Source,
        out: Sender<Message>,
        backoff: Backoff,
        all_read: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store,
            source,
            out,
            backoff,
            all_read,
            known: Known::default(),
            synced: false,
            down: false,
        }
    }

    fn kind(&self) -> Kind {
        self.source.kind
    }

    async fn send(&self, message: Message) -> Result<(), Closed> {
        self.out.send(message).await.map_err(|_| Closed)
    }

    /// Follows the kind until nobody listens.
    pub(crate) async fn run(mut self) {
        loop {
            let stop = match self.list().await {
                Ok(place) => match self.until_all_read().await {
                    Ok(()) => self.watch(place).await,
                    Err(closed) => Err(closed.into()),
                },
                Err(stop) => Err(stop),
            };
            let done = match stop {
                Ok(()) => Ok(()),
                Err(Stop::Closed) => return,
                Err(Stop::Store(error)) => self.failed(error).await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn until_all_read(&mut self) -> Result<(), Closed> {
        tokio::select! {
            // That nobody will say so any more is no reason to wait either.
            _ = timeout(ALL_READ, self.all_read.wait_for(|all| *all)) => Ok(()),
            () = self.out.closed() => Err(Closed),
        }
    }

    /// Tells of the failure and waits.
    async fn failed(&mut self, error: StoreError) -> Result<(), Closed> {
        let kind = self.kind();
        match error {
            StoreError::Expired(_) => tracing::debug!(%kind, "too far behind: listing again"),
            StoreError::Unsupported { .. } => {
                tracing::info!(%kind, %error, "the datastore does not have this kind");
                return self.missing().await;
            }
            error => {
                tracing::debug!(%kind, %error, "cannot follow the kind");
                self.down(error).await?;
            }
        }
        self.pause().await
    }

    async fn pause(&mut self) -> Result<(), Closed> {
        let wait = self.backoff.wait();
        self.sleep(wait).await
    }

    async fn sleep(&self, time: Duration) -> Result<(), Closed> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.out.closed() => Err(Closed),
        }
    }

    async fn down(&mut self, error: StoreError) -> Result<(), Closed> {
        self.down = true;
        self.send(Message::Down(self.kind(), error.to_string())).await
    }

    async fn up(&mut self) -> Result<(), Closed> {
        if std::mem::take(&mut self.down) {
            self.send(Message::Up(self.kind())).await?;
        }
        Ok(())
    }

    /// A kind that the store does not have is empty.
    async fn missing(&mut self) -> Result<(), Closed> {
        self.known.begin();
        self.complete().await?;
        self.sleep(MISSING).await
    }

    /// A listing is complete: passes on what is gone, and that the kind is there.
    async fn complete(&mut self) -> Result<(), Closed> {
        let gone = self.known.end(self.kind());
        self.updates(gone).await?;
        if !std::mem::replace(&mut self.synced, true) {
            self.send(Message::Synced(self.kind())).await?;
        }
        self.up().await
    }

    async fn updates(&self, updates: Vec<Update>) -> Result<(), Closed> {
        if updates.is_empty() {
            return Ok(());
        }
        self.send(Message::Updates(updates)).await
    }

    async fn list(&mut self) -> Result<WatchFrom, Stop> {
        let mut options = self.source.part.clone();
        self.known.begin();
        loop {
            let page = self.store.list(self.kind(), &options).await?;
            let mut updates = Vec::with_capacity(page.items.len());
            for item in page.items {
                updates.extend(self.known.set(&self.source, Arc::new(item)));
            }
            self.updates(updates).await?;
            for bad in page.malformed {
                if let StoreError::Malformed { key, reason } = bad {
                    self.unreadable(key, reason).await?;
                }
            }
            match page.next {
                Some(next) => options.continue_from = Some(next),
                None => {
                    self.complete().await?;
                    return Ok(page.watch_from);
                }
            }
        }
    }

    async fn unreadable(&mut self, key: ResourceKey, reason: Unreadable) -> Result<(), Closed> {
        // What stands in for it takes its place without a moment between.
        let gone = self.known.unreadable(&key).filter(|_| reason.stand_in.is_none());
        self.updates(gone.into_iter().collect()).await?;
        self.send(Message::Unreadable(key, reason)).await
    }

    /// Watches from `place`, and from where it came to after a failure, until the kind must be listed again.
    async fn watch(&mut self, mut place: WatchFrom) -> Result<(), Stop> {
        let mut failures = 0;
        loop {
            let before = (place.clone(), Instant::now());
            let outcome = self.watch_once(&mut place).await;
            if place != before.0 || before.1.elapsed() > GOOD {
                failures = 0;
                self.backoff.reset();
            }
            match outcome {
                Err(Stop::Store(error)) if error.is_transient() && failures < FAILURES => {
                    failures += 1;
                    self.down(error).await?;
                }
                // Servers end watches in order, now and then.
                Ok(()) if failures < FAILURES => failures += 1,
                other => return other,
            }
            self.pause().await?;
        }
    }

    async fn watch_once(&mut self, place: &mut WatchFrom) -> Result<(), Stop> {
        let part = &self.source.part;
        let stream = self.store.watch_part(self.kind(), place, part).await?;
        self.up().await?;
        let mut chunks = stream.ready_chunks(CHUNK);
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = self.out.closed() => return Err(Stop::Closed),
            };
            let Some(chunk) = chunk else {
                return Ok(());
            };
            let mut updates = Vec::with_capacity(chunk.len());
            let mut error = None;
            let mut reached = None;
            for event in chunk {
                match event {
                    Ok(WatchEvent::Set(resource)) => updates.extend(self.known.set(&self.source, resource)),
                    Ok(WatchEvent::Gone(key)) => updates.extend(self.known.gone(&key)),
                    Ok(WatchEvent::Malformed(key, reason)) => {
                        self.updates(std::mem::take(&mut updates)).await?;
                        self.unreadable(key, reason).await?;
                    }
                    Ok(WatchEvent::Bookmark(at)) => reached = Some(at),
                    Err(e) => {
                        error = Some(e);
                        break;
                    }
                }
            }
            self.updates(updates).await?;
            if let Some(at) = reached {
                *place = at;
            }
            if let Some(e) = error {
                return Err(e.into());
            }
        }
    }
}
