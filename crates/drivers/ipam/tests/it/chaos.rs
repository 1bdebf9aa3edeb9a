//! A store as one process sees it: slow, cut off, losing replies, or dead from some call on.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{
    Found, ListOptions, Page, Preconditions, Reads, Store, StoreError, WatchFrom, WatchStream, Write,
};

/// Small numbers from a seed, the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut z = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(z);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What befalls a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fate {
    /// It dies at this call.
    pub(crate) dies_at: Option<u32>,
    /// The reply to this call is lost.
    pub(crate) loses: Option<u32>,
    /// From this call on it is cut off for this many calls.
    pub(crate) cut_off: Option<(u32, u32)>,
    /// Whether the call at which it dies is still done.
    pub(crate) last_is_done: bool,
}

#[derive(Debug)]
struct Life {
    calls: u32,
    dice: Dice,
}

#[derive(Debug, Clone)]
pub(crate) struct Process {
    inner: Arc<dyn Store>,
    fate: Fate,
    life: Arc<Mutex<Life>>,
}

impl Process {
    pub(crate) fn new(inner: Arc<dyn Store>, fate: Fate, seed: u64) -> Self {
        let life = Life {
            calls: 0,
            dice: Dice::new(seed),
        };
        Self {
            inner,
            fate,
            life: Arc::new(Mutex::new(life)),
        }
    }

    pub(crate) fn calls(&self) -> u32 {
        self.life.lock().unwrap().calls
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.fate.dies_at.is_some_and(|at| self.calls() > at)
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let (number, turns) = {
            let mut life = self.life.lock().unwrap();
            life.calls += 1;
            (life.calls - 1, life.dice.below(4))
        };
        // Others come first, as they would on a network.
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        let gone = |why: &str| Err(StoreError::Unavailable(why.to_owned()));
        match self.fate.dies_at {
            Some(at) if number > at || number == at && !self.fate.last_is_done => return gone("dead"),
            Some(at) if number == at => return work.await.and(gone("dead")),
            _ => {}
        }
        if self
            .fate
            .cut_off
            .is_some_and(|(from, n)| (from..from + n).contains(&number))
        {
            return gone("cut off");
        }
        let result = work.await;
        if self.fate.loses == Some(number) {
            return gone("the reply was lost");
        }
        result
    }
}

#[async_trait]
impl Store for Process {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn get(&self, key: &ResourceKey) -> Result<Resource, StoreError> {
        self.call(self.inner.get(key)).await
    }

    async fn list(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
        self.call(self.inner.list(kind, options)).await
    }

    async fn create(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.call(self.inner.create(resource)).await
    }

    async fn update(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.call(self.inner.update(resource)).await
    }

    async fn update_status(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.call(self.inner.update_status(resource)).await
    }

    async fn delete(&self, key: &ResourceKey, expect: &Preconditions) -> Result<Resource, StoreError> {
        self.call(self.inner.delete(key, expect)).await
    }

    async fn watch(&self, kind: Kind, from: &WatchFrom) -> Result<WatchStream, StoreError> {
        self.call(self.inner.watch(kind, from)).await
    }

    async fn read_together(&self, reads: &Reads) -> Result<Found, StoreError> {
        self.call(self.inner.read_together(reads)).await
    }

    fn writes_together(&self) -> usize {
        self.inner.writes_together()
    }

    async fn write_together(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        self.call(self.inner.write_together(writes)).await
    }
}
