//! The programs of a node.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use caracal_link::{IpipSpec, LinkError, Rtnl};
use caracal_net::Family;
use caracal_sys::{NetNs, ProcessId};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{fabric, mountpoints, process};

/// How long `node startup` may take.
const STARTUP: Duration = Duration::from_secs(30);

/// The addresses of pods, by family.
pub(crate) const POOL_V4: &str = "10.65.0.0/16";
/// See [`POOL_V4`].
pub(crate) const POOL_V6: &str = "fd65::/64";

/// A node: where it is, and what it knows.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Its name in the cluster.
    pub(crate) name: String,
    /// From 1: the last part of its addresses.
    pub(crate) index: u16,
    /// What is behind the directories of its own.
    pub(crate) dir: PathBuf,
    /// The directory of its logs.
    pub(crate) logs: PathBuf,
    /// Its network namespace.
    pub(crate) netns: String,
    /// `ETCD_ENDPOINTS`.
    pub(crate) endpoints: String,
}

/// How packets travel between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encap {
    /// In VXLAN.
    Vxlan,
    /// IPv4 in IP-in-IP (the kernel must know it), IPv6 in VXLAN.
    Ipip,
    /// As they are.
    None,
}

impl Encap {
    /// Whether this machine can do it.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        if self != Self::Ipip {
            return Ok(());
        }
        // In a namespace that ends with this function.
        let netns = NetNs::anonymous()?;
        let probe = IpipSpec {
            name: "tunl0".to_owned(),
            mtu: 1480,
            address: Ipv4Addr::LOCALHOST,
        };
        match Rtnl::open_in(&netns)?.ensure_ipip(&probe) {
            Err(e @ LinkError::Unsupported { .. }) => {
                bail!("--encap ipip: {e}; or use --encap vxlan")
            }
            other => other
                .map(drop)
                .context("--encap ipip: trying whether the kernel can"),
        }
    }
}

/// The default pools that the first node makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pools {
    /// How packets between nodes travel.
    pub(crate) encap: Encap,
    /// Whether there is one for IPv6.
    pub(crate) dual_stack: bool,
}

impl Site {
    /// Its network namespace.
    pub(crate) fn open(&self) -> anyhow::Result<NetNs> {
        Ok(NetNs::named(&self.netns)?)
    }

    /// Where its agent answers, as this machine sees it.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.dir.join("run/agent.sock")
    }

    /// Where its agent writes.
    pub(crate) fn agent_log(&self) -> PathBuf {
        self.log("felix")
    }

    /// Where one of its programs writes.
    pub(crate) fn log(&self, program: &str) -> PathBuf {
        self.logs.join(format!("{}.{program}.log", self.name))
    }

    /// What its programs find in their environment.
    pub(crate) fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("NODENAME", &self.name)
            .env("ETCD_ENDPOINTS", &self.endpoints)
            .env("DATASTORE_TYPE", "etcdv3")
    }

    /// Runs `node startup`: its object, the cluster's defaults, its tunnel addresses.
    pub(crate) fn prepare(&self, pools: Pools) -> anyhow::Result<()> {
        let mut command = process::caracal();
        self.environment(command.args(["node", "startup"]));
        command.env("IP", fabric::address(self.index, Family::V4).to_string());
        command.env("CALICO_IPV4POOL_CIDR", POOL_V4);
        let (vxlan, vxlan_v6, ipip) = match pools.encap {
            Encap::Vxlan => ("Always", "Always", "Never"),
            Encap::Ipip => ("Never", "Always", "Always"),
            Encap::None => ("Never", "Never", "Never"),
        };
        command.env("CALICO_IPV4POOL_VXLAN", vxlan);
        command.env("CALICO_IPV6POOL_VXLAN", vxlan_v6);
        command.env("CALICO_IPV4POOL_IPIP", ipip);
        command.env("CLUSTER_TYPE", "lab");
        if pools.dual_stack {
            command.env("IP6", fabric::address(self.index, Family::V6).to_string());
            command.env("CALICO_IPV6POOL_CIDR", POOL_V6);
        }
        let plan = mountpoints::plan(&self.dir);
        let output = process::finish(&mut command, &self.open()?, Some(&plan), &[], STARTUP)
            .with_context(|| format!("preparing {}", self.name))?;
        if !output.status.success() {
            bail!("preparing {}: {}", self.name, process::said(&output));
        }
        Ok(())
    }

    /// Starts its agent, in place of one that may run.
    pub(crate) fn start_agent(&self) -> anyhow::Result<ProcessId> {
        let netns = self.open()?;
        process::end(&process::running(&netns, &["caracal", "felix"])?, false)?;
        // So that whoever looks for the new one does not meet what a killed one left.
        caracal_sys::remove_optional(&self.agent_socket())?;
        let mut command = process::caracal();
        self.environment(command.arg("felix"));
        command.env("FELIX_HEALTHENABLED", "true");
        let plan = mountpoints::plan(&self.dir);
        process::start(&mut command, &netns, Some(&plan), &self.agent_log(), false)
            .with_context(|| format!("starting the agent of {}", self.name))
    }

    /// Runs a command on the node with this terminal; its exit code.
    pub(crate) fn run(&self, command: &mut Command) -> anyhow::Result<i32> {
        self.environment(command);
        let plan = mountpoints::plan(&self.dir);
        process::attend(command, &self.open()?, Some(&plan))
    }
}
