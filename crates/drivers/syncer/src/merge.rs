use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use caracal_api::Kind;
use caracal_store::{Backoff, Store};
use caracal_update::{Event, InSync, Update};
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender},
        watch,
    },
    task::JoinSet,
};

use crate::{
    Source,
    follow::{Follower, Message},
};

/// Updates of several kinds share an event up to this many.
const BATCH: usize = 4096;

/// How a syncer works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events that may wait for the receiver; after that the stores' watches wait.
    pub capacity: usize,
    /// Waits between attempts after a failure.
    pub backoff: Backoff,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Pages of a first snapshot wait here, thousands of objects each.
            capacity: 2,
            backoff: Backoff::default(),
        }
    }
}

/// Follows kinds of a store. [`Syncer::run`] does the work, as one supervised task; it ends when the receiver is dropped.
#[derive(Debug)]
pub struct Syncer {
    store: Arc<dyn Store>,
    sources: Vec<Source>,
    options: Options,
    out: Sender<Event>,
}

impl Syncer {
    /// A syncer and what it delivers.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, sources: Vec<Source>) -> (Self, Receiver<Event>) {
        Self::with_options(store, sources, Options::default())
    }

    /// As [`Syncer::new`], with options.
    #[must_use]
    pub fn with_options(
        store: Arc<dyn Store>,
        sources: Vec<Source>,
        options: Options,
    ) -> (Self, Receiver<Event>) {
        let (out, events) = mpsc::channel(options.capacity.max(1));
        let syncer = Self {
            store,
            sources,
            options,
            out,
        };
        (syncer, events)
    }

    /// Works until the receiver is dropped.
    ///
    /// # Panics
    /// When a follower of a kind panics: a feed that lacks a kind must not look alive.
    pub async fn run(self) {
        let (messages, inbox) = mpsc::channel(self.options.capacity.max(1));
        let (say_all_read, all_read) = watch::channel(false);
        let mut followers = JoinSet::new();
        let waiting = self.sources.iter().map(|s| s.kind).collect();
        for source in self.sources {
            let follower = Follower::new(
                self.store.clone(),
                source,
                messages.clone(),
                self.options.backoff.clone(),
                all_read.clone(),
            );
            followers.spawn(follower.run());
        }
        drop(messages);
        let merger = Merger {
            inbox,
            later: VecDeque::new(),
            out: self.out.clone(),
            all_read: say_all_read,
            waiting,
            down: BTreeSet::new(),
        };
        tokio::select! {
            _ = merger.run() => {}
            () = self.out.closed() => {}
            () = panicked(&mut followers) => {}
        }
    }
}

/// Waits for a follower that panics, and passes the panic on.
async fn panicked(followers: &mut JoinSet<()>) {
    while let Some(outcome) = followers.join_next().await {
        if let Err(e) = outcome
            && e.is_panic()
        {
            std::panic::resume_unwind(e.into_panic());
        }
    }
    // All ended in order, because nobody listens; the merger ends too.
    std::future::pending().await
}

/// Makes one stream of the followers' messages.
struct Merger {
    inbox: Receiver<Message>,
    /// Messages taken while looking for more updates.
    later: VecDeque<Message>,
    out: Sender<Event>,
    all_read: watch::Sender<bool>,
    /// Kinds without a complete snapshot. Empty once the token is issued, and from then on.
    waiting: BTreeSet<Kind>,
    down: BTreeSet<Kind>,
}

impl Merger {
    async fn run(mut self) -> Option<()> {
        if self.waiting.is_empty() {
            self.in_sync().await?;
        }
        loop {
            let message = match self.later.pop_front() {
                Some(message) => message,
                None => self.inbox.recv().await?,
            };
            match message {
                Message::Updates(updates) => {
                    let updates = self.gather(updates);
                    self.send(Event::Updates(updates)).await?;
                }
                Message::Unreadable(key, reason) => self.send(Event::Unreadable { key, reason }).await?,
                Message::Synced(kind) => {
                    if self.waiting.remove(&kind) && self.waiting.is_empty() {
                        self.in_sync().await?;
                    }
                }
                Message::Down(kind, why) => {
                    let first = self.down.is_empty();
                    self.down.insert(kind);
                    if first {
                        self.send(Event::Disconnected(why)).await?;
                    }
                }
                Message::Up(kind) => {
                    if self.down.remove(&kind) && self.down.is_empty() {
                        self.send(Event::Reconnected).await?;
                    }
                }
            }
        }
    }

    /// Adds updates that are there already. Nothing is waited for, and no message overtakes another.
    fn gather(&mut self, mut updates: Vec<Update>) -> Vec<Update> {
        while updates.len() < BATCH {
            match self.inbox.try_recv() {
                Ok(Message::Updates(more)) => updates.extend(more),
                Ok(other) => {
                    self.later.push_back(other);
                    break;
                }
                Err(_) => break,
            }
        }
        updates
    }

    /// Everything is read for the first time: whoever listens hears of it before the watches begin.
    async fn in_sync(&self) -> Option<()> {
        self.send(Event::InSync(InSync::after_complete_snapshot()))
            .await?;
        self.all_read.send_replace(true);
        Some(())
    }

    async fn send(&self, event: Event) -> Option<()> {
        self.out.send(event).await.ok()
    }
}
