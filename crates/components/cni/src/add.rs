//! ADD: observes, plans, does the steps, and undoes them when one fails.

use std::{path::Path, time::Duration};

use caracal_api::{Object, Resource, WorkloadEndpointSpec};
use caracal_net::IfAddr;
use caracal_store::{Store, StoreError};
use caracal_sys::NetNs;

use crate::{
    addresses::{self, Assigner},
    agent::Attaching,
    call::{Call, insist_for},
    del, delegate, endpoint,
    error::{CniError, Code},
    journal,
    kernel::{self, Kernel},
    on_demand,
    plan::{self, AddressSource, HOST_MAC, Observed, Step, Wanted, plan_addresses, plan_attach},
    policy, readiness,
    result::{AddResult, ResultRoute},
    run::Plugin,
};

/// The MTU when neither configuration nor agent says one.
const DEFAULT_MTU: u32 = 1500;

/// How long undoing may take when the datastore goes away meanwhile; DEL finishes it.
const UNDO_LIMIT: Duration = Duration::from_secs(5);

/// How often writing the endpoint is tried against other writers.
const WRITE_TRIES: usize = 10;

/// What has to be undone when a later step fails, in the order in which it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    Addresses,
    Delegated,
    Link,
    Endpoint,
}

pub(crate) struct Run<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) kernel: Kernel<'a>,
    pub(crate) assigner: Assigner,
    pub(crate) kept: Vec<IfAddr>,
    pub(crate) addresses: Vec<IfAddr>,
    pub(crate) asked_routes: Vec<ResultRoute>,
    pub(crate) dns: Option<serde_json::Value>,
    pub(crate) mtu: u32,
    /// Where the agent that wrote the endpoint says that policy is in force.
    pub(crate) attaching: Option<Attaching>,
    pub(crate) in_force: bool,
    pub(crate) undo: Vec<Undo>,
}

/// Attaches the container, and returns what was made.
pub(crate) async fn add(call: &Call<'_>) -> Result<AddResult, CniError> {
    // First what costs nothing and may be wrong.
    let netns = kernel::open_netns(&call.env.netns)?;
    let own = NetNs::current().map_err(|e| CniError::system("the host's network namespace", &e))?;
    if own.id() == netns.id() {
        return Err(CniError::env(
            "CNI_NETNS",
            "it is the host's own network namespace",
        ));
    }
    let source = addresses::source(call.conf, call.env)?;
    endpoint::check_annotations(call.conf)?;
    let wanted = Wanted {
        id: &call.id,
        conf: call.conf,
        mtu: mtu(call)?,
        wait: policy::wait(call.conf.policy_setup_timeout_seconds),
        addresses: source,
    };
    readiness::wait(&call.conf.readiness_gates).await?;
    journal::forget(call)?;
    let mut kernel = Kernel::open(&netns)?;
    let inner_link = kernel::look_up(&mut kernel.inside, &call.id.ifname)?;
    let host_link = kernel::look_up(&mut kernel.host, &call.id.host_interface())?;

    let unlabelled = Assigner::new(call, Default::default())?;
    let mut run = Run {
        call,
        kernel,
        assigner: unlabelled,
        kept: Vec::new(),
        addresses: Vec::new(),
        asked_routes: Vec::new(),
        dns: None,
        mtu: wanted.mtu,
        attaching: None,
        in_force: false,
        undo: Vec::new(),
    };
    let local = Observed {
        host_link,
        inner_link,
        ..Observed::default()
    };
    // What there is under the container's name after the agent was asked is of this call.
    let mut begun = false;
    if let Some(families) = run.can_ask_agent(&local, &wanted)? {
        begun = true;
        match run.with_agent(&local, &wanted, families).await {
            Ok(true) => return Ok(run.result()),
            Ok(false) => {}
            Err(e) => return Err(run.failed(e, true).await),
        }
    }
    on_demand::runtime().await;
    let held = async {
        match wanted.addresses {
            AddressSource::Calico { .. } => run.assigner.held().await,
            AddressSource::Delegate(_) | AddressSource::Given(_) => Ok(Vec::new()),
        }
    };
    let (ready, endpoint, held, profile) = tokio::join!(
        call.check_ready(),
        stored_endpoint(call),
        held,
        addresses::profile(call.store.as_ref(), &call.id),
    );
    let host_link = kernel::look_up(&mut run.kernel.host, &call.id.host_interface())?;
    let inner_link = kernel::look_up(&mut run.kernel.inside, &call.id.ifname)?;
    let read = || -> Result<Observed, CniError> {
        ready?;
        Ok(Observed {
            endpoint: endpoint?,
            profile: profile.as_ref().is_ok_and(Option::is_some),
            held: held?,
            host_link,
            inner_link,
        })
    };
    let observed = match read().and_then(|o| profile.map(|p| (o, p))) {
        Ok((observed, profile)) => {
            let labels = addresses::namespace_labels(profile.as_ref());
            run.assigner = Assigner::new(call, labels)?;
            observed
        }
        Err(e) => return Err(run.failed(e, begun).await),
    };
    match run.all(&observed, &wanted).await {
        Ok(()) => Ok(run.result()),
        Err(e) => {
            if begun {
                run.kept.clear();
            }
            // What of an attachment that was whole before is kept must not go with a release that is done later.
            let another = |e: Object<WorkloadEndpointSpec>| e.spec.container_id != call.id.container_id;
            let fresh = begun || run.kept.is_empty() && observed.endpoint.is_none_or(another);
            Err(run.failed(e, fresh).await)
        }
    }
}

async fn stored_endpoint(call: &Call<'_>) -> Result<Option<Object<WorkloadEndpointSpec>>, CniError> {
    match call.store.get(&call.id.endpoint_key()).await {
        Ok(r) => Ok(Object::try_from(r).ok()),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(CniError::store("reading the endpoint", &e)),
    }
}

pub(crate) fn mtu(call: &Call<'_>) -> Result<u32, CniError> {
    if call.conf.mtu > 0 {
        return Ok(call.conf.mtu);
    }
    let path = Path::new(caracal_sys::DEFAULT_MTU_FILE);
    let found = caracal_sys::read_mtu_file(path).map_err(|e| CniError::system("reading the MTU file", &e))?;
    match found {
        None if call.conf.require_mtu_file => Err(CniError::new(
            Code::TryAgain,
            "the MTU is not known",
            format!(
                "require_mtu_file is true and {} does not exist: start the node agent, which writes it",
                path.display()
            ),
        )),
        found => Ok(found.unwrap_or(DEFAULT_MTU)),
    }
}

impl Run<'_> {
    /// Undoes what was done, and passes on why.
    async fn failed(&mut self, e: CniError, fresh: bool) -> CniError {
        tracing::error!(error = %e, "ADD failed; undoing it");
        self.undo(fresh).await;
        e
    }

    async fn all(&mut self, observed: &Observed, wanted: &Wanted<'_>) -> Result<(), CniError> {
        let (kept, steps) = plan_addresses(observed, wanted);
        self.addresses.clone_from(&kept);
        self.kept = kept;
        self.steps(&steps).await?;
        // IPv4 first, whatever was kept and what is new.
        self.addresses.sort_by_key(|a| a.addr.is_ipv6());
        let steps = plan_attach(observed, wanted, &self.addresses, &self.asked_routes)?;
        self.steps(&steps).await
    }

    pub(crate) async fn steps(&mut self, steps: &[Step]) -> Result<(), CniError> {
        for step in steps {
            self.step(step).await?;
            self.call.given.after(step)?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), CniError> {
        match step {
            // A write whose answer is lost may have been done: what undoes it is noted before.
            Step::Assign(family) => {
                self.undo.push(Undo::Addresses);
                self.addresses.extend(self.assigner.assign(*family).await?);
            }
            Step::AssignAddress(addr) => {
                self.undo.push(Undo::Addresses);
                self.addresses.push(self.assigner.assign_address(*addr).await?);
            }
            Step::Delegate(plugin) => {
                self.undo.push(Undo::Delegated);
                let got = delegate::run(self.call, plugin, "ADD").await?;
                self.addresses = got.addresses;
                self.asked_routes = got.routes;
                self.dns = got.dns;
            }
            Step::WriteProfile(profile) => match self.call.store.create((**profile).clone().into()).await {
                Ok(_) | Err(StoreError::AlreadyExists(_)) => {}
                Err(e) => return Err(CniError::store("writing the profile", &e)),
            },
            Step::WriteEndpoint(endpoint) => {
                self.undo.push(Undo::Endpoint);
                write_endpoint(self.call.store.as_ref(), endpoint).await?;
            }
            Step::AwaitPolicy(wait) => {
                self.in_force = match self.told(*wait) {
                    Some(told) => policy::settle(told, &self.call.agent, &self.call.id, *wait)?,
                    None => policy::await_policy(&self.call.agent, &self.call.id, *wait).await?,
                };
            }
            // The agent has made the routes then, and may be told to make them otherwise.
            Step::HostRoutes { .. } if self.in_force => {}
            Step::CreateVeth { .. } => {
                self.kernel.execute(step)?;
                self.undo.push(Undo::Link);
            }
            Step::DropHostLink { .. }
            | Step::ConfigureHost { .. }
            | Step::ConfigureInner(_)
            | Step::HostRoutes { .. } => self.kernel.execute(step)?,
            // It is not one step of a plan that is done one after another.
            Step::Attach => {}
        }
        Ok(())
    }

    /// Undoes what was done, last first. What cannot be undone now is left to DEL, which the runtime calls.
    async fn undo(&mut self, fresh: bool) {
        let mut todo = std::mem::take(&mut self.undo);
        todo.dedup();
        on_demand::runtime().await;
        let mut later = false;
        for undo in todo.into_iter().rev() {
            let call = self.call;
            let done = match undo {
                Undo::Link => {
                    let (host, alias) = (call.id.host_interface(), call.id.alias());
                    del::drop_own_link(&host, &alias, &call.env.netns, &call.id.ifname).map(drop)
                }
                Undo::Delegated => {
                    let plugin = call.conf.ipam.plugin_type.as_str();
                    delegate::run(call, plugin, "DEL").await.map(drop)
                }
                Undo::Endpoint => insist_for(UNDO_LIMIT, || del::forget_endpoint(call))
                    .await
                    .map(drop),
                Undo::Addresses => insist_for(UNDO_LIMIT, || self.assigner.release_but(&self.kept)).await,
            };
            if let Err(error) = done {
                tracing::error!(?undo, %error, "cannot undo; DEL will");
                let stored = matches!(undo, Undo::Endpoint | Undo::Addresses);
                later |= fresh && stored && error.is(Code::TryAgain);
            }
        }
        if later && let Err(error) = journal::record(self.call, Plugin::Calico, false) {
            tracing::error!(%error, "only DEL can undo it");
        }
    }

    fn result(self) -> AddResult {
        let id = &self.call.id;
        let routes = plan::inner_routes(self.call.conf, &self.addresses, &self.asked_routes);
        let single = |a: &IfAddr| IfAddr {
            addr: a.addr,
            len: caracal_net::Family::of(a.addr).bits(),
        };
        AddResult {
            host: Some((id.host_interface(), HOST_MAC)),
            container: Some((id.ifname.clone(), id.mac(), self.call.env.netns.clone())),
            mtu: self.mtu,
            before: self.call.conf.prev_result.clone(),
            addresses: self.addresses.iter().map(single).collect(),
            routes,
            dns: self
                .call
                .conf
                .runtime_config
                .dns
                .clone()
                .or(self.dns)
                .or_else(|| self.call.conf.dns.clone()),
        }
    }
}

/// Writes the endpoint over whatever stands there: the container that is added now is the one that counts.
async fn write_endpoint(store: &dyn Store, endpoint: &Object<WorkloadEndpointSpec>) -> Result<(), CniError> {
    let mut object = endpoint.clone();
    let mut last = None;
    for _ in 0..WRITE_TRIES {
        let resource = Resource::from(object.clone());
        let written = if object.metadata.resource_version.is_some() {
            store.update(resource).await
        } else {
            store.create(resource).await
        };
        match written {
            Ok(_) => return Ok(()),
            Err(
                e @ (StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)),
            ) => {
                last = Some(e);
            }
            Err(e) => return Err(CniError::store("writing the endpoint", &e)),
        }
        object.metadata.resource_version = match store.get(&object.key()).await {
            Ok(found) => found.metadata().resource_version.clone(),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(CniError::store("reading the endpoint", &e)),
        };
    }
    let why = last.map(|e| e.to_string()).unwrap_or_default();
    Err(CniError::new(Code::TryAgain, "the endpoint keeps changing", why))
}

/// ADD of the IPAM plugin alone: only addresses.
pub(crate) async fn add_addresses(call: &Call<'_>) -> Result<AddResult, CniError> {
    let source = match addresses::source(call.conf, call.env)? {
        AddressSource::Delegate(other) => {
            return Err(CniError::config(
                "ipam.type",
                format!("{other:?} is not this plugin"),
            ));
        }
        AddressSource::Given(_) => {
            let why = "the addresses are given without IPAM, and this is the IPAM plugin";
            return Err(CniError::config("args.cni.annotations", why));
        }
        own => own,
    };
    let wanted = Wanted {
        id: &call.id,
        conf: call.conf,
        addresses: source,
        mtu: 0,
        wait: plan::Wait::No,
    };
    let profile = async {
        match call.id.pod {
            Some(_) => addresses::profile(call.store.as_ref(), &call.id).await,
            None => Ok(None),
        }
    };
    journal::forget(call)?;
    let unlabelled = Assigner::new(call, Default::default())?;
    let (ready, held, profile) = tokio::join!(call.check_ready(), unlabelled.held(), profile);
    ready?;
    let labels = addresses::namespace_labels(profile?.as_ref());
    let observed = Observed {
        held: held?,
        ..Observed::default()
    };
    let assigner = Assigner::new(call, labels)?;
    let (kept, steps) = plan_addresses(&observed, &wanted);
    let mut all = kept.clone();
    for step in &steps {
        let got = match step {
            Step::AssignAddress(addr) => assigner.assign_address(*addr).await.map(|a| vec![a]),
            Step::Assign(family) => assigner.assign(*family).await,
            _ => Ok(Vec::new()),
        };
        match got {
            Ok(got) => all.extend(got),
            Err(e) => {
                if let Err(error) = insist_for(UNDO_LIMIT, || assigner.release_but(&kept)).await {
                    tracing::error!(%error, "cannot give back; DEL will");
                }
                return Err(e);
            }
        }
    }
    all.sort_by_key(|a| a.addr.is_ipv6());
    Ok(AddResult {
        addresses: all,
        ..AddResult::default()
    })
}
