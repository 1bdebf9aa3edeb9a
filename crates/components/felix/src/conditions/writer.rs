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
#[derive(Debug)]
pub(crate) struct Conditions {
    ledger: Mutex<Ledger>,
    news: Notify,
    chance: fn() -> f64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            ledger: Mutex::default(),
            news: Notify::new(),
            chance,
        }
    }
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
            Some(object) => self.ledger().note(Instant::now(), (self.chance)(), object, fault),
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

#[cfg(test)]
mod tests {
    use caracal_api::{Kind, Resource};
    use caracal_store_memory::{MemoryStore, Op};
    use serde_json::json;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn hasty() -> Conditions {
        Conditions {
            chance: || 0.0,
            ..Conditions::default()
        }
    }

    fn lawless(store: &MemoryStore) -> Arc<Resource> {
        let tier = json!({"metadata": {"name": "default"}, "spec": {"order": 5}});
        Arc::new(store.derive(Resource::from_value(Kind::Tier, tier).unwrap()))
    }

    /// Writes for as long as it takes until the store was asked so often and has the condition.
    async fn writes(conditions: &Conditions, store: &MemoryStore, key: &ResourceKey, asked: usize) {
        let said = async {
            loop {
                let now = store.get(key).await.unwrap().to_value();
                if now["status"]["conditions"][0]["type"] == "Accepted" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = conditions.write(store) => panic!("it gave up"),
            said = tokio::time::timeout(LONG, said) => said.unwrap(),
        }
        assert_eq!(store.calls(Op::UpdateStatus), asked);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_written_later() {
        let store = MemoryStore::etcd();
        let tier = lawless(&store);
        let conditions = hasty();
        conditions.note(&tier.key(), Some(&tier), Some("f"));
        store.fail_next_on(Op::UpdateStatus, 2, &StoreError::Unavailable("away".to_owned()));
        writes(&conditions, &store, &tier.key(), 3).await;
    }

    #[tokio::test]
    async fn an_object_that_changed_is_written_as_it_is_now() {
        let store = MemoryStore::etcd();
        let old = lawless(&store);
        let new = lawless(&store);
        let conditions = hasty();
        conditions.note(&old.key(), Some(&old), Some("f"));
        // The conflict: what was noted is older than what is stored.
        let conflict = async {
            while store.calls(Op::UpdateStatus) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = conditions.write(&store) => panic!("it gave up"),
            done = tokio::time::timeout(LONG, conflict) => done.unwrap(),
        }
        assert_eq!(*store.get(&old.key()).await.unwrap().metadata(), *new.metadata());
        conditions.note(&new.key(), Some(&new), Some("f"));
        writes(&conditions, &store, &new.key(), 2).await;
    }

    #[tokio::test]
    async fn who_may_not_write_gives_up() {
        let store = MemoryStore::etcd();
        let tier = lawless(&store);
        let conditions = hasty();
        conditions.note(&tier.key(), Some(&tier), Some("f"));
        store.fail_next_on(
            Op::UpdateStatus,
            1,
            &StoreError::Unauthorised("read only".to_owned()),
        );
        let end = tokio::time::timeout(LONG, conditions.write(&store)).await;
        assert!(end.is_ok());
        assert_eq!(store.calls(Op::UpdateStatus), 1);
    }
}
