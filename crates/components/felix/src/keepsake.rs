//! What a node needs to go back to what was before a trial when it is cut off *and* its agent is started anew.
//!
//! A running agent holds the objects, so that the time alone is enough. One that starts without a datastore has
//! nothing. So the agent writes down what the datastore holds, and an object on trial comes into force only when that is
//! done: a node that cannot promise to go back takes no part. If the datastore is away when an agent starts and the
//! trial's time is up, it works from what was written until the datastore is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use caracal_api::{Resource, ResourceKey, Stamp, Trial};
use caracal_ids::NodeName;
use caracal_store::{ListOptions, Store, StoreError, clock};
use caracal_store_memory::MemoryStore;
use caracal_syncer::Stream;
use caracal_update::{Event, Update};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

/// Where it is; beside the other state of a node that outlives its programs.
const PATH: &str = "/var/lib/calico/trial.json";

/// Writing it down may take so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// After a failure it is tried again after this time.
const AGAIN: Duration = Duration::from_secs(2);

/// What changed meanwhile is written down at most so often: it is the whole state, and all nodes read it.
const FRESH: Duration = Duration::from_secs(30);

/// A datastore that has not answered a new agent for so long is away.
const AWAY: Duration = Duration::from_secs(5);

/// So long after the end of the last trial nothing needs to be kept, in seconds.
const KEPT_AFTER: i64 = 60;

#[derive(Serialize, Deserialize)]
struct Kept {
    node: String,
    objects: Vec<Resource>,
}

/// A trial of an object: its beginning and end.
type Term = (Stamp, Stamp);

/// The trials among objects.
fn terms<'a>(objects: impl Iterator<Item = &'a Resource>) -> BTreeMap<ResourceKey, Term> {
    objects.filter_map(|o| Some((o.key(), term(o)?))).collect()
}

fn term(object: &Resource) -> Option<Term> {
    let trial = Trial::of(object).ok()??;
    Some((trial.since, trial.until))
}

/// Writes down what the datastore holds while something is on trial.
pub(crate) struct Keepsake {
    store: Arc<dyn Store>,
    node: NodeName,
    path: PathBuf,
    /// Objects on trial that may still come into or go out of force.
    trials: BTreeMap<ResourceKey, Term>,
    /// What of them is written down.
    written: BTreeMap<ResourceKey, Term>,
    writing: Option<JoinHandle<anyhow::Result<BTreeMap<ResourceKey, Term>>>>,
    /// Whether the datastore holds other objects than were written down.
    stale: bool,
    /// When it may be written again.
    next: Instant,
    /// What failed, told once.
    told: bool,
    /// The end of the last trial that was seen.
    last_end: Option<Stamp>,
}

impl Keepsake {
    pub(crate) fn new(store: Arc<dyn Store>, node: NodeName) -> Self {
        Self::at(PATH.into(), store, node)
    }

    fn at(path: PathBuf, store: Arc<dyn Store>, node: NodeName) -> Self {
        // What an agent before this one wrote down holds, so that nothing goes out of force while this one begins.
        let kept = read(&path, &node).ok().flatten();
        Self {
            trials: BTreeMap::new(),
            written: kept.map(|k| terms(k.objects.iter())).unwrap_or_default(),
            writing: None,
            stale: true,
            next: Instant::now(),
            told: false,
            // It goes once this one knows that nothing is on trial.
            last_end: path.exists().then(clock),
            store,
            node,
            path,
        }
    }

    /// To be called before an event takes effect.
    pub(crate) fn before(&mut self, event: &Event) {
        let Event::Updates(updates) = event else {
            return;
        };
        updates.iter().for_each(|u| self.note(u));
    }

    fn note(&mut self, update: &Update) {
        let value = update.value.as_deref();
        let term = value.and_then(term);
        match term.filter(|_| value.is_some_and(is_open)) {
            Some(term) => {
                let known = self.trials.insert(update.key.clone(), term);
                self.last_end = self.last_end.max(Some(term.1));
                if known != Some(term) && self.held(&update.key) {
                    self.next = Instant::now();
                }
                self.stale = true;
            }
            None => {
                self.trials.remove(&update.key);
                // Of the endpoints of other nodes there are many, and what becomes of their packets they decide.
                let elsewhere =
                    matches!(value, Some(Resource::WorkloadEndpoint(w)) if w.spec.node != self.node.as_str());
                self.stale |= !elsewhere;
            }
        }
    }

    /// Whether an object on trial may not come into force, because the way back is not written down.
    pub(crate) fn held(&self, key: &ResourceKey) -> bool {
        self.trials
            .get(key)
            .is_some_and(|term| self.written.get(key) != Some(term))
    }

    /// Writes when there is something to write; for ever when there is not. When it returns, objects may not be held any
    /// more. To be called again and again, and not to its end each time.
    pub(crate) async fn progress(&mut self) {
        let now = clock();
        if self.writing.is_none() {
            if !self.stale || !self.trials.values().any(|(_, until)| *until >= now) {
                pending::<()>().await;
            }
            tokio::time::sleep_until(self.next.into()).await;
            self.stale = false;
            self.next = Instant::now() + FRESH;
            let write = write(self.store.clone(), self.node.clone(), self.path.clone());
            self.writing = Some(tokio::spawn(async move {
                tokio::time::timeout(PATIENCE, write)
                    .await
                    .context("it took too long")?
            }));
        }
        let Some(writing) = &mut self.writing else { return };
        let outcome = writing.await;
        self.writing = None;
        match outcome.map_err(anyhow::Error::from).and_then(|w| w) {
            Ok(written) => {
                tracing::info!("an object is on trial; what is needed to go back is written down");
                self.written = written;
                self.told = false;
            }
            Err(e) => {
                self.stale = true;
                let held: BTreeSet<String> = self
                    .trials
                    .keys()
                    .filter(|k| self.held(k))
                    .map(ToString::to_string)
                    .collect();
                self.next = Instant::now() + if held.is_empty() { FRESH } else { AGAIN };
                if !std::mem::replace(&mut self.told, true) {
                    let held = held.into_iter().collect::<Vec<_>>().join(", ");
                    tracing::warn!(
                        held,
                        "an object is on trial, but what is needed to go back cannot be written down: {e:#}; what is held \
                         back comes into force once it is, or is confirmed"
                    );
                }
            }
        }
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
            self.written.clear();
            if let Some(writing) = self.writing.take() {
                writing.abort();
            }
            if let Err(e) = remove_at(&self.path) {
                tracing::warn!("{e:#}");
            }
        }
    }
}

fn is_open(object: &Resource) -> bool {
    matches!(Trial::of(object), Ok(Some(trial)) if trial.is_open(clock()))
}

/// Writes down all that the datastore holds for a node; tells which trials are in it.
async fn write(
    store: Arc<dyn Store>,
    node: NodeName,
    path: PathBuf,
) -> anyhow::Result<BTreeMap<ResourceKey, Term>> {
    let mut objects = Vec::new();
    for source in Stream::Felix.sources(None) {
        match store.list_all(source.kind(), &ListOptions::default()).await {
            Ok(page) => objects.extend(page.items),
            Err(StoreError::Unsupported { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let kept = Kept {
        node: node.to_string(),
        objects,
    };
    let text = serde_json::to_vec(&kept).context("writing it as JSON")?;
    caracal_sys::write_atomic(&path, &text, 0o600)?;
    Ok(terms(kept.objects.iter()))
}

/// Removes what was written down.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn remove() -> anyhow::Result<()> {
    remove_at(Path::new(PATH))
}

fn remove_at(path: &Path) -> anyhow::Result<()> {
    Ok(caracal_sys::remove_optional(path).map(drop)?)
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
        match overdue_at(Path::new(PATH), node).await {
            Ok(Some(store)) => return store,
            Ok(None) => {}
            Err(e) => {
                tracing::warn!("what was written down of a trial cannot be used: {e:#}");
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn overdue_at(path: &Path, node: &NodeName) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let Some(kept) = read(path, node)? else {
        return Ok(None);
    };
    let over = |o: &Resource| term(o).is_some() && !is_open(o);
    if !kept.objects.iter().any(over) {
        return Ok(None);
    }
    let store = MemoryStore::etcd();
    for mut object in kept.objects {
        object.metadata_mut().resource_version = None;
        store.create(object).await?;
    }
    Ok(Some(Arc::new(store)))
}

/// What was written down for this node.
fn read(path: &Path, node: &NodeName) -> anyhow::Result<Option<Kept>> {
    let Some(text) = caracal_sys::read_optional(path)? else {
        return Ok(None);
    };
    let kept: Kept =
        serde_json::from_slice(text.as_ref()).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(kept).filter(|k| k.node == node.as_str()))
}

#[cfg(test)]
mod tests {
    use caracal_api::{GlobalNetworkPolicySpec, Object, begin_trial};

    use super::*;

    fn policy(seconds: i64) -> Resource {
        let spec = GlobalNetworkPolicySpec {
            selector: "all()".into(),
            ..GlobalNetworkPolicySpec::default()
        };
        let mut policy = Resource::from(Object::new("default.p", spec));
        begin_trial(&mut policy, None, clock(), seconds).unwrap();
        policy
    }

    struct Rig {
        dir: tempfile::TempDir,
        store: Arc<dyn Store>,
    }

    impl Rig {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                store: Arc::new(MemoryStore::etcd()),
            }
        }

        fn node() -> NodeName {
            NodeName::new("n1").unwrap()
        }

        fn keepsake(&self) -> Keepsake {
            Keepsake::at(
                self.dir.path().join("lib/trial.json"),
                self.store.clone(),
                Self::node(),
            )
        }

        async fn put(&self, object: Resource) -> Event {
            let stored = caracal_store::apply(self.store.as_ref(), object).await.unwrap();
            Event::Updates(vec![Update::set(stored.into_resource())])
        }
    }

    async fn bounded(task: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_secs(30), task).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_on_trial_waits_until_the_way_back_is_written_down() {
        let rig = Rig::new();
        let mut keepsake = rig.keepsake();
        let event = rig.put(policy(600)).await;
        let key = policy(600).key();
        assert!(!keepsake.held(&key), "it is not known yet");
        keepsake.before(&event);
        assert!(keepsake.held(&key));
        // There is no place to write to.
        std::fs::write(rig.dir.path().join("lib"), "in the way").unwrap();
        assert!(bounded(keepsake.progress()).await && keepsake.held(&key));
        std::fs::remove_file(rig.dir.path().join("lib")).unwrap();
        std::fs::create_dir(rig.dir.path().join("lib")).unwrap();
        assert!(bounded(keepsake.progress()).await && !keepsake.held(&key));
        // An agent that starts later finds it written.
        let mut next = rig.keepsake();
        next.before(&event);
        assert!(!next.held(&key));
        // A trial of the same object that begins later is another one.
        let mut again = policy(900);
        again.metadata_mut().resource_version = None;
        next.before(&rig.put(again).await);
        assert!(next.held(&key));
        // Confirmed it is none.
        let mut confirmed = policy(0);
        caracal_api::end_trial(&mut confirmed);
        next.before(&rig.put(confirmed).await);
        assert!(!next.held(&key));
        next.tidy();
        assert!(!rig.dir.path().join("lib/trial.json").exists());
    }

    #[tokio::test]
    async fn what_was_written_down_is_a_datastore_once_a_trial_is_over() {
        let rig = Rig::new();
        std::fs::create_dir(rig.dir.path().join("lib")).unwrap();
        let path = rig.dir.path().join("lib/trial.json");
        let mut keepsake = rig.keepsake();
        keepsake.before(&rig.put(policy(600)).await);
        assert!(bounded(keepsake.progress()).await);
        assert!(
            overdue_at(&path, &Rig::node()).await.unwrap().is_none(),
            "it is not over"
        );
        let mut over = policy(600);
        let annotations = &mut over.metadata_mut().annotations;
        for name in [caracal_api::TRIAL_SINCE, caracal_api::TRIAL_UNTIL] {
            annotations.insert(name.into(), "2026-01-02T03:04:05Z".into());
        }
        let kept = Kept {
            node: "n1".into(),
            objects: vec![over.clone()],
        };
        std::fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
        let store = overdue_at(&path, &Rig::node()).await.unwrap().unwrap();
        assert!(store.get(&over.key()).await.is_ok());
        let other = NodeName::new("n2").unwrap();
        assert!(
            overdue_at(&path, &other).await.unwrap().is_none(),
            "of another node"
        );
        std::fs::write(&path, "{").unwrap();
        assert!(overdue_at(&path, &Rig::node()).await.is_err());
    }
}
