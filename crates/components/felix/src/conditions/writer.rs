use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use caracal_api::{Resource, ResourceKey};
use caracal_runtime::Shutdown;
use caracal_store::{Backoff, Store, StoreError, now};
use tokio::sync::Notify;

use super::{has_conditions, ledger::Ledger};

/// After a failure nothing is written for so long, and up to so long.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Writes the conditions of objects that are refused, and takes them away.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    ledger: Mutex<Ledger>,
    news: Notify,
}

impl Conditions {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Plain data: a panic elsewhere leaves nothing half done that matters.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an object as the datastore has it, and what is wrong with it. None is gone, or nothing can be said of it.
    pub(crate) fn note(&self, key: &ResourceKey, object: Option<&Arc<Resource>>, fault: Option<&str>) {
        if !has_conditions(key.kind) {
            return;
        }
        match object {
            Some(object) => self.ledger().note(Instant::now(), chance(), object, fault),
            None => self.ledger().gone(key),
        }
        self.news.notify_one();
    }

    /// Writes until the shutdown.
    pub(crate) async fn run(&self, store: Arc<dyn Store>, shutdown: Shutdown) -> Result<(), String> {
        tokio::select! {
            () = shutdown.wait() => {}
            () = self.write(store.as_ref()) => shutdown.wait().await,
        }
        Ok(())
    }

    /// Writes until the datastore says that this agent may not.
    async fn write(&self, store: &dyn Store) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut not_before = Instant::now();
        let mut told = false;
        loop {
            let next = self.ledger().next().map(|due| due.max(not_before));
            tokio::select! {
                () = self.news.notified() => continue,
                () = until(next) => {}
            }
            let Some(object) = self.ledger().take_due(Instant::now(), &now()) else {
                continue;
            };
            let key = object.key();
            match store.update_status(object).await {
                Ok(_) => {
                    tracing::info!(object = %key, "wrote into its status whether it is refused");
                    backoff.reset();
                    told = false;
                }
                // Another one was faster; what is stored now will be noted.
                Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => {
                    tracing::debug!(object = %key, "it changed while its status was to be written");
                }
                Err(e @ (StoreError::Unauthorised(_) | StoreError::Unsupported { .. })) => {
                    tracing::info!(object = %key, "this agent does not write what it refuses into statuses: {e}");
                    return;
                }
                Err(e) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(object = %key, "cannot write into its status whether it is refused: {e}; trying again");
                    }
                    not_before = Instant::now() + backoff.wait();
                    self.ledger().again(&key, not_before);
                }
            }
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => tokio::time::sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

/// A number between 0 and 1: a hash under a key that is another each time.
fn chance() -> f64 {
    f64::from(RandomState::new().hash_one(()) as u32) / f64::from(u32::MAX)
}
