//! A datastore that is brought from one set of objects to the next, and the agents that follow it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caracal_api::{
    BgpConfigurationSpec, ClusterInformationSpec, GlobalNetworkPolicySpec, GlobalNetworkSetSpec,
    HostEndpointSpec, Kind, KubernetesEndpointSliceSpec, NetworkPolicySpec, NetworkSetSpec, NodeBgpSpec,
    NodeSpec, Object, PolicyType, ProfileSpec, Resource, ResourceKey, TierDefaultAction, TierSpec,
    WorkloadEndpointSpec, default_resource,
};
use caracal_convert::WepName;
use caracal_net::Family;
use caracal_store::{Preconditions, Store, StoreError, apply};
use caracal_sys::ProcessId;
use caracal_update::Update;

use super::agent::Agent;
use super::datastore::Datastore;
use super::fabric;
use super::node::Site;
use super::process;

/// All objects of a state.
pub(crate) type Objects = BTreeMap<ResourceKey, Arc<Resource>>;

/// The changes that lead from one state to another: first what goes, then what comes or is different.
pub(crate) fn changes(old: &Objects, new: &Objects) -> Vec<Update> {
    let gone = old.keys().filter(|k| !new.contains_key(*k));
    let set = new.iter().filter(|(k, r)| old.get(*k) != Some(*r));
    gone.map(|k| Update::gone(k.clone()))
        .chain(set.map(|(k, r)| Update {
            key: k.clone(),
            value: Some(r.clone()),
        }))
        .collect()
}

/// The endpoints that each node is to have, by namespace and name.
pub(crate) type Endpoints = BTreeMap<String, BTreeSet<(String, String)>>;

/// How long agents may take to have a state in force.
const PATIENCE: Duration = Duration::from_secs(60);

/// The interface in a pod.
const INTERFACE: &str = "eth0";

/// Between two questions to an agent.
const PAUSE: Duration = Duration::from_millis(2);

/// The name of the objects that only mark a revision.
const MARKER: &str = "lab.marker";

/// A selector of nothing.
const NOTHING: &str = "!all()";

/// The annotation by which a marker differs from what it was.
const ROUND: &str = "lab/round";

/// An agent that follows the datastore.
struct Follower {
    site: Site,
    process: ProcessId,
    agent: Agent,
}

/// The datastore's state, and the agents that follow it.
pub(crate) struct Followed {
    store: Arc<dyn Store>,
    told: Objects,
    agents: Vec<Follower>,
    /// Each agent must have applied this revision of a kind.
    revisions: BTreeMap<Kind, u64>,
    round: u64,
    /// Writes come in another order each time, and one of them twice.
    disorder: bool,
}

impl Followed {
    /// A datastore with nothing but the nodes.
    pub(crate) async fn new(datastore: &Datastore, nodes: &[(Site, ProcessId)]) -> anyhow::Result<Self> {
        let store = datastore.connect()?;
        let ready = ClusterInformationSpec {
            datastore_ready: Some(true),
            ..ClusterInformationSpec::default()
        };
        apply(store.as_ref(), Object::new("default", ready).into()).await?;
        let mut agents = Vec::new();
        for (site, process) in nodes {
            let bgp = NodeBgpSpec {
                ipv4_address: fabric::address(site.index, Family::V4).to_string(),
                ipv6_address: fabric::address(site.index, Family::V6).to_string(),
                ..NodeBgpSpec::default()
            };
            let node = NodeSpec {
                bgp: Some(bgp),
                ..NodeSpec::default()
            };
            apply(store.as_ref(), Object::new(&site.name, node).into()).await?;
            agents.push(Follower {
                site: site.clone(),
                process: *process,
                agent: Agent::connect(&site.agent_socket()).await?,
            });
        }
        Ok(Self {
            store,
            told: Objects::new(),
            agents,
            revisions: BTreeMap::new(),
            round: 0,
            disorder: false,
        })
    }

    /// From now on writes come in another order each time, and one of them twice.
    pub(crate) fn disorder(&mut self) {
        self.disorder = true;
    }

    /// Makes the datastore hold these objects.
    pub(crate) async fn write(&mut self, new: Objects) -> anyhow::Result<()> {
        // Kinds whose last change was a deletion: agents report no revision of those.
        let mut unmarked = BTreeSet::new();
        let mut changes = changes(&self.told, &new);
        if self.disorder && !changes.is_empty() {
            let turn = usize::try_from(self.round).unwrap_or_default() % changes.len();
            changes.rotate_left(turn);
            changes.extend(changes.first().cloned());
        }
        for change in changes {
            let key = change.key;
            match change.value {
                None => {
                    self.delete(&key).await?;
                    unmarked.insert(key.kind);
                }
                Some(resource) => {
                    self.put((*resource).clone()).await?;
                    unmarked.remove(&key.kind);
                }
            }
        }
        self.told = new;
        self.round += 1;
        for kind in unmarked {
            if let Some(marker) = marker(kind, self.round) {
                self.put(marker).await?;
            }
        }
        Ok(())
    }

    /// Waits until what was written is in force on every node, and these endpoints are up.
    pub(crate) async fn wait(&mut self, mut endpoints: Endpoints) -> anyhow::Result<()> {
        for follower in &mut self.agents {
            let wanted = endpoints.remove(&follower.site.name).unwrap_or_default();
            follower.wait(&self.revisions, &wanted).await?;
        }
        Ok(())
    }

    /// Takes another agent for that of a node: it was started again.
    pub(crate) async fn replace(&mut self, node: usize, process: ProcessId) -> anyhow::Result<()> {
        let follower = &mut self.agents[node];
        follower.process = process;
        follower.agent = Agent::connect(&follower.site.agent_socket()).await?;
        Ok(())
    }

    /// Writes an object as it is: nothing is filled in.
    async fn put(&mut self, resource: Resource) -> anyhow::Result<()> {
        let key = resource.key();
        let written = match self.store.update(resource.clone()).await {
            Err(StoreError::NotFound(_)) => self.store.create(resource).await,
            outcome => outcome,
        };
        let written = written.with_context(|| format!("writing {key}"))?;
        let revision = written.metadata().resource_version.as_deref();
        let revision: u64 = revision
            .and_then(|r| r.parse().ok())
            .with_context(|| format!("the datastore gave {key} no revision that is a number"))?;
        if is_followed(key.kind) {
            self.revisions.insert(key.kind, revision);
        }
        Ok(())
    }

    async fn delete(&self, key: &ResourceKey) -> anyhow::Result<()> {
        match self.store.delete(key, &Preconditions::default()).await {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("deleting {key}")),
        }
    }
}

/// Whether agents follow a kind: staged policies are not for them.
fn is_followed(kind: Kind) -> bool {
    kind == Kind::FelixConfiguration || marker(kind, 0).is_some()
}

/// An object that means nothing, of a kind that agents follow. What they have applied once they have applied it is
/// everything of the kind that was done before it.
fn marker(kind: Kind, round: u64) -> Option<Resource> {
    let types = vec![PolicyType::Ingress];
    let mut marker: Resource = match kind {
        Kind::Tier => {
            let spec = TierSpec {
                order: Some(1e9),
                default_action: Some(TierDefaultAction::Pass),
            };
            Object::new(MARKER, spec).into()
        }
        Kind::NetworkPolicy => {
            let spec = NetworkPolicySpec {
                selector: NOTHING.to_owned(),
                types,
                ..NetworkPolicySpec::default()
            };
            Object::namespaced("default", MARKER, spec).into()
        }
        Kind::GlobalNetworkPolicy => {
            let spec = GlobalNetworkPolicySpec {
                selector: NOTHING.to_owned(),
                types,
                ..GlobalNetworkPolicySpec::default()
            };
            Object::new(MARKER, spec).into()
        }
        Kind::NetworkSet => Object::namespaced("default", MARKER, NetworkSetSpec::default()).into(),
        Kind::GlobalNetworkSet => Object::new(MARKER, GlobalNetworkSetSpec::default()).into(),
        Kind::Profile => Object::new(MARKER, ProfileSpec::default()).into(),
        Kind::HostEndpoint => {
            let spec = HostEndpointSpec {
                node: MARKER.to_owned(),
                interface_name: INTERFACE.to_owned(),
                ..HostEndpointSpec::default()
            };
            Object::new(MARKER, spec).into()
        }
        Kind::WorkloadEndpoint => {
            // On no node, with no address.
            let name = WepName::kubernetes(MARKER, MARKER, INTERFACE).to_string();
            let spec = WorkloadEndpointSpec {
                orchestrator: caracal_convert::ORCHESTRATOR_KUBERNETES.to_owned(),
                node: MARKER.to_owned(),
                pod: MARKER.to_owned(),
                endpoint: INTERFACE.to_owned(),
                ..WorkloadEndpointSpec::default()
            };
            Object::namespaced("default", name, spec).into()
        }
        // Neither that of all nodes nor that of one.
        Kind::BgpConfiguration => Object::new(MARKER, BgpConfigurationSpec::default()).into(),
        Kind::KubernetesEndpointSlice => {
            Object::namespaced("default", MARKER, KubernetesEndpointSliceSpec::default()).into()
        }
        _ => return None,
    };
    default_resource(&mut marker);
    marker
        .metadata_mut()
        .annotations
        .insert(ROUND.to_owned(), round.to_string());
    Some(marker)
}

impl Follower {
    /// Waits until the agent has these revisions in force, and its endpoints are these and up.
    async fn wait(
        &mut self,
        revisions: &BTreeMap<Kind, u64>,
        endpoints: &BTreeSet<(String, String)>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lacking = match lacking(&mut self.agent, revisions, endpoints).await {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => why,
                Err(e) => format!("{e:#}"),
            };
            let (name, log) = (&self.site.name, self.site.agent_log());
            if !self.process.is_alive() {
                bail!("the agent of {name} ended:\n{}", process::tail(&log));
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent of {name} does not have the state in force after {PATIENCE:?}: {lacking}\n{}",
                    process::tail(&log)
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn lacking(
    agent: &mut Agent,
    revisions: &BTreeMap<Kind, u64>,
    endpoints: &BTreeSet<(String, String)>,
) -> anyhow::Result<Option<String>> {
    let applied = agent.revisions().await?;
    for (kind, wanted) in revisions {
        let has = applied.get(kind.as_str()).copied().unwrap_or_default();
        if has < *wanted {
            return Ok(Some(format!("{kind} is at revision {has}, not at {wanted}")));
        }
    }
    let found = agent.endpoints().await?;
    if let Some(e) = found.iter().find(|e| e.state != "up") {
        return Ok(Some(format!(
            "endpoint {}/{} is {}: {}",
            e.namespace, e.name, e.state, e.reason
        )));
    }
    let found: BTreeSet<(String, String)> = found.into_iter().map(|e| (e.namespace, e.name)).collect();
    let differ = || found.symmetric_difference(endpoints).next();
    Ok(differ().map(|(namespace, name)| format!("endpoint {namespace}/{name} is not as in the datastore")))
}
