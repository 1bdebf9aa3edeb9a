//! The nodes, their programs and the datastore; and the end of all that.

use anyhow::Context;
use caracal_net::Family;
use caracal_sys::ProcessId;

use crate::cluster::datastore::{Backend, Datastore};
use crate::cluster::node::Site;
use crate::cluster::temporary::Temporary;
use crate::cluster::{agent, fabric};

/// The nodes. Their order is that of their addresses on the fabric.
pub(super) const NODES: [&str; 2] = ["node-1", "node-2"];

/// Where runs keep what is theirs, each in a directory named after its process.
const BASE: &str = "/run/caracal-policy-check";

/// What the names of network namespaces begin with.
const NETNS: &str = "policy-check";

/// A running network.
pub(super) struct Network {
    run: Temporary,
    /// The nodes, as in [`NODES`].
    pub(super) sites: Vec<Site>,
    /// The datastore.
    pub(super) datastore: Datastore,
    /// The agents, as in [`NODES`].
    pub(super) agents: Vec<ProcessId>,
    /// The datastore's process.
    store: Option<ProcessId>,
}

impl Network {
    /// Makes it, and removes what killed runs left.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let run = Temporary::start(BASE, NETNS)?;
        let dir = run.dir();
        let datastore = Datastore::new(Backend::Embedded, &dir.join("store"));
        let sites = NODES.iter().zip(1..).map(|(name, index)| Site {
            name: (*name).to_owned(),
            index,
            dir: dir.join(name),
            logs: dir.join("logs"),
            netns: run.netns(name),
            endpoints: datastore.node_endpoint(),
        });
        let mut network = Self {
            sites: sites.collect(),
            run,
            datastore,
            agents: Vec::new(),
            store: None,
        };
        network.make().await?;
        Ok(network)
    }

    async fn make(&mut self) -> anyhow::Result<()> {
        let netns = fabric::ensure_netns(&self.run.netns("fabric"))?;
        fabric::ensure(&netns)?;
        let log = self.run.dir().join("logs/store.log");
        let store = self.datastore.start(&netns, &log)?;
        self.store = Some(store);
        self.datastore.wait(store, &log).await?;
        for site in &self.sites {
            let node = fabric::ensure_netns(&site.netns)?;
            fabric::ensure_node(&netns, &node, site.index)?;
            self.agents.push(site.start_agent()?);
        }
        for (site, id) in self.sites.iter().zip(&self.agents) {
            agent::await_in_sync(&site.agent_socket(), *id, &site.agent_log())
                .await
                .with_context(|| format!("the agent of {}", site.name))?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The agents before what they follow.
        let store: Vec<ProcessId> = self.store.into_iter().collect();
        self.run.end(&[&self.agents, &store]);
    }
}

/// A node's own address.
pub(super) fn address(site: &Site, family: Family) -> caracal_net::IfAddr {
    fabric::address(site.index, family)
}

/// The interface of every node on the fabric.
pub(super) const UPLINK: &str = "eth0";
