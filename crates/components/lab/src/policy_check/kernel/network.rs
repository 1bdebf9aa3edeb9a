//! The nodes, their programs and the datastore; and the end of all that.

use std::fs;
use std::path::Path;

use anyhow::Context;
use caracal_net::Family;
use caracal_sys::{NetNs, ProcessId, processes_in};

use crate::cluster::datastore::{Backend, Datastore};
use crate::cluster::node::Site;
use crate::cluster::{agent, fabric, mountpoints, process};

/// The nodes. Their order is that of their addresses on the fabric.
pub(super) const NODES: [&str; 2] = ["node-1", "node-2"];

/// Where runs keep what is theirs, each in a directory named after its process.
const BASE: &str = "/run/caracal-policy-check";

/// What the names of network namespaces begin with.
const NETNS: &str = "policy-check";

/// A running network.
pub(super) struct Network {
    /// Names the run: process number and start time.
    run: String,
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
        fs::create_dir_all(BASE).with_context(|| format!("making {BASE}"))?;
        sweep().context("removing what an earlier run left")?;
        let own = ProcessId::own()?;
        let run = format!("{}-{}", own.pid, own.start_time);
        let dir = Path::new(BASE).join(&run);
        let datastore = Datastore::new(Backend::Embedded, &dir.join("store"));
        let sites = NODES.iter().zip(1..).map(|(name, index)| Site {
            name: (*name).to_owned(),
            index,
            dir: dir.join(name),
            logs: dir.join("logs"),
            netns: netns_name(&run, name),
            endpoints: datastore.node_endpoint(),
        });
        let mut network = Self {
            sites: sites.collect(),
            run,
            datastore,
            agents: Vec::new(),
            store: None,
        };
        network.make(&dir).await?;
        Ok(network)
    }

    async fn make(&mut self, dir: &Path) -> anyhow::Result<()> {
        fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
        mountpoints::prepare(Path::new(BASE))?;
        let netns = fabric::ensure_netns(&netns_name(&self.run, "fabric"))?;
        fabric::ensure(&netns)?;
        let log = dir.join("logs/store.log");
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
        let outcome = process::end(&self.agents, true)
            .and_then(|()| process::end(&store, true))
            .context("ending the programs")
            .and_then(|()| remove(&self.run))
            .and_then(|()| mountpoints::tidy(Path::new(BASE)));
        if let Err(e) = outcome {
            eprintln!("warning: the network could not be removed: {e:#}; the next run tries again");
        }
        // Another run may still be there.
        let _ = fs::remove_dir(BASE);
    }
}

/// A name for a network namespace of a run.
fn netns_name(run: &str, of: &str) -> String {
    format!("{NETNS}-{run}-{of}")
}

/// Removes the namespaces and files of a run.
fn remove(run: &str) -> anyhow::Result<()> {
    let prefix = netns_name(run, "");
    for name in NetNs::list()?.iter().filter(|n| n.starts_with(&prefix)) {
        if let Ok(netns) = NetNs::named(name) {
            process::end(&processes_in(netns.id())?, false)?;
        }
        NetNs::delete(name)?;
    }
    let dir = Path::new(BASE).join(run);
    match fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what runs left whose process is gone.
fn sweep() -> anyhow::Result<()> {
    for entry in fs::read_dir(BASE)
        .with_context(|| format!("reading {BASE}"))?
        .flatten()
    {
        let Ok(run) = entry.file_name().into_string() else {
            continue;
        };
        let Some((Ok(pid), Ok(start_time))) = run.split_once('-').map(|(p, s)| (p.parse(), s.parse())) else {
            continue;
        };
        if !(ProcessId { pid, start_time }).is_alive() {
            remove(&run)?;
        }
    }
    Ok(())
}

/// A node's own address.
pub(super) fn address(site: &Site, family: Family) -> caracal_net::IfAddr {
    fabric::address(site.index, family)
}

/// The interface of every node on the fabric.
pub(super) const UPLINK: &str = "eth0";
