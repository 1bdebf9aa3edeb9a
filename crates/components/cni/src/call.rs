//! One call of a plugin: what it was given, read and checked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use caracal_api::{ClusterInformationSpec, Kind, Object, ResourceKey};
use caracal_store::{Store, StoreError};
use tokio::time::{Instant, sleep};

use crate::{
    agent::Agent,
    datastore, endpoint,
    env::{Env, Needs},
    error::{CniError, Code},
    identity::{Identity, node_name},
    journal,
    netconf::NetConf,
    version::Version,
};

/// What a plugin is given.
#[derive(Debug, Default)]
pub(crate) struct Invocation {
    /// The environment.
    pub(crate) env: BTreeMap<String, String>,
    /// What comes on stdin.
    pub(crate) stdin: Vec<u8>,
    /// A datastore other than the configuration says, for tests.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Where releases that could not be done are kept, if not in the usual place.
    pub(crate) journal: Option<PathBuf>,
    /// Called after each step of ADD, for tests that let a step fail.
    #[cfg(test)]
    pub(crate) after_step: Option<AfterStep>,
}

#[cfg(test)]
type Judge = dyn Fn(&crate::plan::Step) -> Result<(), CniError>;

#[cfg(test)]
pub(crate) struct AfterStep(pub(crate) Box<Judge>);

#[cfg(test)]
impl std::fmt::Debug for AfterStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AfterStep")
    }
}

impl Invocation {
    pub(crate) fn journal(&self) -> &Path {
        self.journal.as_deref().unwrap_or(Path::new(journal::DEFAULT_DIR))
    }

    /// Fails where a test wants it.
    pub(crate) fn after(&self, step: &crate::plan::Step) -> Result<(), CniError> {
        tracing::debug!(%step, "done");
        #[cfg(test)]
        if let Some(hook) = &self.after_step {
            return hook.0(step);
        }
        Ok(())
    }
}

/// A call that was read and checked, with its datastore.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) given: &'a Invocation,
    pub(crate) env: &'a Env,
    pub(crate) conf: &'a NetConf,
    pub(crate) version: Version,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) id: Identity,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        given: &'a Invocation,
        env: &'a Env,
        conf: &'a NetConf,
        version: Version,
        needs: Needs,
    ) -> Result<Self, CniError> {
        env.check(needs)?;
        conf.check()?;
        endpoint::check_args(conf)?;
        let node = node_name(conf, read_file, host_name)?;
        let id = Identity::new(env, conf, node)?;
        let store = match &given.store {
            Some(store) => Arc::clone(store),
            None => match datastore::connect(conf, &env.all) {
                // A container goes even where no datastore is: the rest is done when there is one.
                Err(e) if needs == Needs::Container && e.is(Code::TryAgain) => Arc::new(datastore::Absent(e)),
                made => made?,
            },
        };
        Ok(Self {
            given,
            env,
            conf,
            version,
            store,
            agent: Arc::new(Agent::new(env)),
            id,
        })
    }

    /// Fails while the cluster says that its datastore must not be used. A cluster that says nothing is ready.
    pub(crate) async fn check_ready(&self) -> Result<(), CniError> {
        let key = ResourceKey::global(Kind::ClusterInformation, "default");
        let found = match self.store.get(&key).await {
            Ok(r) => Object::<ClusterInformationSpec>::try_from(r).ok(),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(CniError::store("reading ClusterInformation", &e)),
        };
        if found.and_then(|c| c.spec.datastore_ready) == Some(false) {
            return Err(CniError::new(
                Code::TryAgain,
                "the datastore is not ready",
                "ClusterInformation default has datastoreReady false: an upgrade or migration is going on",
            ));
        }
        Ok(())
    }

    /// The other IPAM plugin that the configuration names, if it does.
    pub(crate) fn delegate(&self) -> Option<&'a str> {
        let name = self.conf.ipam.plugin_type.as_str();
        (!matches!(name, "" | crate::addresses::CALICO_IPAM) && !name.contains('/')).then_some(name)
    }
}

/// Repeats what can be repeated while the datastore is away, for a bounded time.
pub(crate) async fn insist_for<T, F>(limit: Duration, attempt: impl Fn() -> F) -> Result<T, CniError>
where
    F: Future<Output = Result<T, CniError>>,
{
    insist_until(Instant::now() + limit, attempt).await
}

pub(crate) async fn insist_until<T, F>(deadline: Instant, attempt: impl Fn() -> F) -> Result<T, CniError>
where
    F: Future<Output = Result<T, CniError>>,
{
    let mut backoff = caracal_store::Backoff::new(Duration::from_millis(50), Duration::from_millis(500));
    let mut last = CniError::new(Code::TryAgain, "the datastore did not answer", "given up");
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Err(_) => return Err(last),
            Ok(Err(e)) if e.is(Code::TryAgain) => last = e,
            Ok(other) => return other,
        }
        let pause = backoff.wait();
        if Instant::now() + pause >= deadline {
            return Err(last);
        }
        tracing::warn!(error = %last, "trying again");
        sleep(pause).await;
    }
}

fn read_file(path: &str) -> Result<Option<String>, CniError> {
    let content = caracal_sys::read_optional(Path::new(path))
        .map_err(|e| CniError::system("reading the node's name", &e))?;
    Ok(content.map(|c| String::from_utf8_lossy(&c).into_owned()))
}

fn host_name() -> Result<String, CniError> {
    caracal_sys::Sysctl::new(&["kernel", "hostname"])
        .and_then(|s| s.read())
        .map_err(|e| CniError::system("reading the host's name", &e))
}
