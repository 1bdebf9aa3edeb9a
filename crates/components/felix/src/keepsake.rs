//! What a node needs to go back to what was before a trial when it is cut off *and* its agent is started anew.
//!
//! A running agent holds the objects, so that the time alone is enough. One that starts without a datastore has
//! nothing. So before an object on trial comes into force on a node that has a host endpoint, and can thus cut itself
//! off, the agent writes down what the datastore holds. If the datastore is away when an agent starts and the trial's
//! time is up, it works from that until the datastore is back.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use caracal_api::{Resource, ResourceKey, Stamp, Trial};
use caracal_ids::NodeName;
use caracal_store::{ListOptions, Store, StoreError, clock};
use caracal_store_memory::MemoryStore;
use caracal_syncer::Stream;
use caracal_update::Event;
use serde::{Deserialize, Serialize};

/// Where it is; beside the other state of a node that outlives its programs.
const PATH: &str = "/var/lib/calico/trial.json";

/// An object on trial comes into force after this time even if nothing could be written down.
const PATIENCE: Duration = Duration::from_secs(5);

/// A datastore that has not answered a new agent for so long is away.
const AWAY: Duration = Duration::from_secs(5);

/// So long after the end of the last trial nothing needs to be kept, in seconds.
const KEPT_AFTER: i64 = 60;

#[derive(Serialize, Deserialize)]
struct Kept {
    node: String,
    objects: Vec<Resource>,
}

/// Writes down what the datastore holds while something is on trial.
pub(crate) struct Keepsake {
    store: Arc<dyn Store>,
    node: NodeName,
    path: PathBuf,
    /// Host endpoints of this node.
    hosts: BTreeSet<ResourceKey>,
    /// Objects on trial that may still come into or go out of force.
    trials: BTreeSet<ResourceKey>,
    /// The end of the last trial that was seen.
    last_end: Option<Stamp>,
}

impl Keepsake {
    pub(crate) fn new(store: Arc<dyn Store>, node: NodeName) -> Self {
        Self {
            store,
            node,
            path: PATH.into(),
            hosts: BTreeSet::new(),
            trials: BTreeSet::new(),
            // What another agent left goes once this one knows that nothing is on trial.
            last_end: PathBuf::from(PATH).exists().then(clock),
        }
    }

    /// To be called before an event takes effect.
    pub(crate) async fn before(&mut self, event: &Event) {
        let Event::Updates(updates) = event else {
            return;
        };
        let now = clock();
        let mut wanted = false;
        for update in updates {
            let value = update.value.as_deref();
            if let Some(Resource::HostEndpoint(h)) = value
                && h.spec.node == self.node.as_str()
            {
                wanted |= self.hosts.insert(update.key.clone()) && !self.trials.is_empty();
            } else {
                self.hosts.remove(&update.key);
            }
            match value.map(Trial::of) {
                Some(Ok(Some(trial))) if trial.is_open(now) => {
                    self.trials.insert(update.key.clone());
                    self.last_end = self.last_end.max(Some(trial.until));
                    wanted = true;
                }
                _ => {
                    self.trials.remove(&update.key);
                }
            }
        }
        if wanted && !self.hosts.is_empty() {
            self.write().await;
        }
    }

    async fn write(&self) {
        let written = tokio::time::timeout(PATIENCE, self.try_write()).await;
        match written.map_err(anyhow::Error::from).and_then(|w| w) {
            Ok(()) => tracing::info!("an object is on trial; what is needed to go back is written down"),
            Err(e) => tracing::warn!(
                "an object is on trial, but what is needed to go back cannot be written down: {e:#}; \
                 an agent that starts while the datastore is away will not go back before it returns"
            ),
        }
    }

    async fn try_write(&self) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        for source in Stream::Felix.sources(None) {
            match self.store.list_all(source.kind(), &ListOptions::default()).await {
                Ok(page) => objects.extend(page.items),
                Err(StoreError::Unsupported { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let kept = Kept {
            node: self.node.to_string(),
            objects,
        };
        let text = serde_json::to_vec(&kept).context("writing it as JSON")?;
        caracal_sys::write_atomic(&self.path, &text, 0o600)?;
        Ok(())
    }

    /// Whether something was written down that [`Keepsake::tidy`] will have to remove.
    pub(crate) fn is_needed(&self) -> bool {
        self.last_end.is_some()
    }

    /// Forgets what is not needed any more. To be called now and then, once the state is complete.
    pub(crate) fn tidy(&mut self) {
        if self
            .last_end
            .is_some_and(|end| self.trials.is_empty() || clock().since(end) > KEPT_AFTER)
        {
            self.last_end = None;
            self.trials.clear();
            if let Err(e) = remove() {
                tracing::warn!("{e:#}");
            }
        }
    }
}

/// Removes what was written down.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn remove() -> anyhow::Result<()> {
    Ok(caracal_sys::remove_optional(&PathBuf::from(PATH)).map(drop)?)
}

/// Waits until a trial's time is up of which an agent before this one wrote down what was before; for ever if there is
/// none. Yields what it wrote down, as a datastore.
pub(crate) async fn overdue(node: &NodeName) -> Arc<dyn Store> {
    let start = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if start.elapsed() < AWAY {
            continue;
        }
        match read(node).await {
            Ok(Some(store)) => return store,
            Ok(None) => {}
            Err(e) => {
                tracing::warn!("what was written down of a trial cannot be used: {e:#}");
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn read(node: &NodeName) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let Some(text) = caracal_sys::read_optional(&PathBuf::from(PATH))? else {
        return Ok(None);
    };
    let kept: Kept = serde_json::from_slice(text.as_ref()).with_context(|| format!("reading {PATH}"))?;
    let now = clock();
    let over = |o: &Resource| matches!(Trial::of(o), Ok(Some(trial)) if !trial.is_open(now));
    if kept.node != node.as_str() || !kept.objects.iter().any(over) {
        return Ok(None);
    }
    let store = MemoryStore::etcd();
    for mut object in kept.objects {
        object.metadata_mut().resource_version = None;
        store.create(object).await?;
    }
    Ok(Some(Arc::new(store)))
}
