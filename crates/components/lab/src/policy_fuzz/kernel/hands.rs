//! What brings a case into force: an agent that follows a datastore; or the agent's engine, compiler and driver alone.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use caracal_api::{
    FelixConfigurationSpec, KubernetesEndpoint, KubernetesEndpointPort, KubernetesEndpointSliceSpec, Object,
    Resource,
};
use caracal_net::Family;
use caracal_nft::{Config, Nft};
use caracal_oracle::{FailsafePort, Host, ToHost};
use caracal_policy_fuzz::{Case, NODE, desired, rules_config};
use caracal_rules::Compiler;
use caracal_sys::{NetNs, ProcessId};
use caracal_update::{InSync, SlicePort, SliceUpdate};
use serde_json::{Value, json};

use crate::cluster::agent;
use crate::cluster::datastore::{Backend, Datastore};
use crate::cluster::fabric::ensure_netns;
use crate::cluster::follow::{Endpoints, Followed, Objects};
use crate::cluster::node::Site;
use crate::cluster::process;
use crate::cluster::temporary::Temporary;

/// Brings cases into force.
pub(super) enum Hands {
    /// A datastore and an agent.
    Agent(Box<Following>),
    /// The driver of the kernel's tables.
    Driver(Box<Nft>),
}

/// A datastore, and the agent that follows it.
pub(super) struct Following {
    runtime: tokio::runtime::Runtime,
    site: Site,
    followed: Followed,
    agent: ProcessId,
    store: ProcessId,
    datastore: Datastore,
    /// Where the datastore runs, and its log.
    store_at: (String, PathBuf),
}

/// What is killed in the middle of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// The agent.
    Agent,
    /// The datastore.
    Store,
}

impl Following {
    /// Starts both.
    pub(super) fn start(run: &Temporary, name: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let dir = run.dir();
        let datastore = Datastore::new(Backend::Embedded, &dir.join("store"));
        let site = Site {
            name: NODE.to_owned(),
            index: 1,
            dir: dir.join(name),
            logs: dir.join("logs"),
            netns: run.netns(name),
            endpoints: datastore.node_endpoint(),
        };
        let log = dir.join("logs/store.log");
        let store_at = (run.netns("store"), log.clone());
        let store = datastore.start(&ensure_netns(&store_at.0)?, &log)?;
        let (agent, followed) = runtime.block_on(async {
            datastore.wait(store, &log).await?;
            let agent = site.start_agent()?;
            agent::await_in_sync(&site.agent_socket(), agent, &site.agent_log()).await?;
            let followed = Followed::new(&datastore, &[(site.clone(), agent)]).await?;
            anyhow::Ok((agent, followed))
        })?;
        Ok(Self {
            runtime,
            site,
            followed,
            agent,
            store,
            datastore,
            store_at,
        })
    }

    /// Kills the datastore, starts it again and waits until it answers.
    fn restart_store(&mut self) -> anyhow::Result<()> {
        process::end(&[self.store], false)?;
        let (netns, log) = &self.store_at;
        self.store = self.datastore.start(&ensure_netns(netns)?, log)?;
        let answers = self.datastore.wait(self.store, log);
        self.runtime.block_on(answers).map(drop)
    }

    /// The programs: the agent before what it follows.
    pub(super) fn programs(&self) -> [ProcessId; 2] {
        [self.agent, self.store]
    }

    /// Kills the agent, does what may be done while there is none, starts another one and waits until it is ready.
    pub(super) fn restart(&mut self, meanwhile: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        process::end(&[self.agent], false)?;
        meanwhile()?;
        self.agent = self.site.start_agent()?;
        let (socket, log) = (self.site.agent_socket(), self.site.agent_log());
        let ready = agent::await_in_sync(&socket, self.agent, &log);
        self.runtime.block_on(ready)?;
        self.runtime.block_on(self.followed.replace(0, self.agent))
    }

    /// Writes a case and waits for nothing.
    fn write(&mut self, case: &Case) -> anyhow::Result<()> {
        let objects = objects(case)?;
        self.runtime.block_on(self.followed.write(objects))
    }

    fn apply(&mut self, case: &Case) -> anyhow::Result<()> {
        self.write(case)?;
        let here = case.objects.iter().filter_map(|o| match o {
            Resource::WorkloadEndpoint(w) if w.spec.node == NODE => {
                let key = o.key();
                Some((key.namespace.to_string(), key.name.to_string()))
            }
            _ => None,
        });
        let endpoints = Endpoints::from([(NODE.to_owned(), here.collect())]);
        self.runtime.block_on(self.followed.wait(endpoints))
    }
}

impl Hands {
    /// The driver in a namespace.
    pub(super) fn driver(host: &NetNs) -> anyhow::Result<Self> {
        Ok(Self::Driver(Box::new(
            host.run(|| Nft::open(Config::default()))??,
        )))
    }

    /// From now on objects are written in another order each time, and one of them twice.
    pub(super) fn disorder(&mut self) {
        if let Self::Agent(following) = self {
            following.followed.disorder();
        }
    }

    /// Goes on to another case of the same host; something is killed in the middle of that, and started again.
    pub(super) fn change(&mut self, case: &Case, kill: Option<Kill>) -> anyhow::Result<()> {
        if let Self::Agent(following) = self {
            match kill {
                Some(Kill::Agent) => {
                    following.write(case)?;
                    following.restart(|| Ok(()))?;
                }
                Some(Kill::Store) => {
                    following.write(case)?;
                    following.restart_store()?;
                }
                None => {}
            }
        }
        self.apply(case)
    }

    /// Brings a case into force.
    pub(super) fn apply(&mut self, case: &Case) -> anyhow::Result<()> {
        let nft = match self {
            Self::Agent(following) => return following.apply(case),
            Self::Driver(nft) => nft,
        };
        let mut compiler = Compiler::new(rules_config(&case.host));
        for (name, addresses) in &case.host.interfaces {
            compiler.set_interface(name, Some(addresses.clone()));
        }
        compiler.apply_all(&desired(&case.in_force()).1);
        // A case is all there is.
        let report = nft.start(compiler.full_state(), &InSync::after_complete_snapshot())?;
        if let Some(problem) = report.problems.first() {
            bail!("the kernel refused {:?}: {}", problem.object, problem.why);
        }
        Ok(())
    }
}

/// The objects of a case, with the settings of its host.
fn objects(case: &Case) -> anyhow::Result<Objects> {
    let own = case.objects.iter().cloned();
    let all = own
        .chain(case.slices.iter().flat_map(slices))
        .chain([settings(&case.host)?]);
    Ok(all.map(|o| (o.key(), Arc::new(o))).collect())
}

/// Endpoints of a service as a cluster has them: a slice has addresses of one family.
fn slices(update: &SliceUpdate) -> Vec<Resource> {
    let Some(value) = &update.value else {
        return Vec::new();
    };
    let of = |family: Family| {
        let own = value.addresses.iter().filter(|a| Family::of(**a) == family);
        let endpoint = |address: &IpAddr| KubernetesEndpoint {
            addresses: vec![address.to_string()],
            ..KubernetesEndpoint::default()
        };
        let port = |port: &SlicePort| KubernetesEndpointPort {
            protocol: Some(port.proto.to_string()),
            port: Some(i64::from(port.port)),
            ..KubernetesEndpointPort::default()
        };
        let (suffix, address_type) = match family {
            Family::V4 => ("4", "IPv4"),
            Family::V6 => ("6", "IPv6"),
        };
        let spec = KubernetesEndpointSliceSpec {
            address_type: address_type.to_owned(),
            endpoints: own.map(endpoint).collect(),
            ports: value.ports.iter().map(port).collect(),
        };
        let name = format!("{}-{suffix}", update.key.name);
        let mut slice = Object::namespaced(&*update.key.namespace, name, spec);
        let label = caracal_convert::LABEL_SERVICE.to_owned();
        slice.metadata.labels.insert(label, value.service.to_string());
        Resource::from(slice)
    };
    Family::BOTH.map(of).into()
}

/// The agent's parameters that make a host what it is in the case.
pub(super) fn settings(host: &Host) -> anyhow::Result<Resource> {
    let ports = |of: &[FailsafePort]| -> Vec<Value> {
        let one = |f: &FailsafePort| {
            let mut value = json!({"protocol": f.proto.to_string().to_lowercase(), "port": f.port});
            if let Some(net) = f.net {
                value["net"] = net.to_string().into();
            }
            value
        };
        of.iter().map(one).collect()
    };
    let mut spec = json!({
        "defaultEndpointToHostAction": match host.to_host {
            ToHost::Drop => "Drop",
            ToHost::Accept => "Accept",
            ToHost::Return => "Return",
        },
        "failsafeInboundHostPorts": ports(&host.failsafe_in),
        "failsafeOutboundHostPorts": ports(&host.failsafe_out),
        "allowVXLANPacketsFromWorkloads": true,
        "allowIPIPPacketsFromWorkloads": true,
        "disableConntrackInvalidCheck": host.bears_invalid,
        "workloadSourceSpoofing": if host.source_spoofing { "Any" } else { "Disabled" },
        "serviceLoopPrevention": if host.bears_service_loops { "Disabled" } else { "Drop" },
    });
    if let Some(openstack) = host.openstack {
        // What is not the default says that there is one; no address is no metadata service.
        let (address, port) = match openstack.metadata {
            Some((address, port)) => (address.to_string(), port),
            None => ("none".to_owned(), 8776),
        };
        spec["metadataAddr"] = address.into();
        spec["metadataPort"] = port.into();
    }
    let spec: FelixConfigurationSpec = serde_json::from_value(spec).context("the host's settings")?;
    Ok(Object::new("default", spec).into())
}
