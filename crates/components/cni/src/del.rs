//! DEL: takes away what belongs to this container, and nothing of another one.

use std::time::Duration;

use caracal_agent_api::{STILL_ATTACHING, v1::DetachRequest};
use caracal_api::{Object, Resource, WorkloadEndpointSpec};
use caracal_store::{Retired, StoreError, retire};
use caracal_sys::NetNs;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    addresses,
    call::{Call, insist_until},
    delegate,
    error::{CniError, Code},
    journal, kernel, lock, on_demand,
    run::Plugin,
};

/// How long DEL tries to reach the datastore before it leaves the rest to a later call.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it tries even where others (the agent, another IPAM plugin) took all of that.
const LEAST: Duration = Duration::from_secs(1);

/// What DEL still has to do itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    link: bool,
    endpoint: bool,
    addresses: bool,
    /// What ADD asked the agent for may still be written after DEL has looked.
    arriving: bool,
}

impl Left {
    const ALL: Self = Self {
        link: true,
        endpoint: true,
        addresses: true,
        arriving: false,
    };
    const NOTHING: Self = Self {
        link: false,
        endpoint: false,
        addresses: false,
        arriving: false,
    };
}

/// Detaches the container. What is gone already is no error.
pub(crate) async fn del(call: &Call<'_>) -> Result<(), CniError> {
    all(call, call.delegate()).await
}

/// What GC does to one that no longer lives. The other IPAM plugin has its own GC.
pub(crate) async fn detach(call: &Call<'_>, plugin: Plugin) -> Result<(), CniError> {
    match plugin {
        Plugin::Ipam => release(call).await,
        Plugin::Calico => all(call, None).await,
    }
}

/// The agent does it together with those of others that end at this moment; what it leaves is done here.
///
/// Here the link is switched off first: that needs no datastore, and no packet flows any more whatever comes. The kernel
/// takes long to answer its deletion, so the datastore is told meanwhile.
async fn all(call: &Call<'_>, delegate: Option<&str>) -> Result<(), CniError> {
    let begun = Instant::now();
    let link = Link::find(call)?;
    let unclear = link.owner == Own::Unclear;
    // Whose the link is tells the endpoint then, in an order that the agent does not know.
    let left = match unclear {
        true => Left::ALL,
        false => ask_agent(call, Plugin::Calico, Some(&link))?,
    };
    if left != Left::NOTHING || delegate.is_some() {
        on_demand::runtime().await;
    }
    let deletion = match left.link {
        true => Some(link.switch_off()?.deletion()),
        false => None,
    };
    // Whatever fails, the rest is done; the runtime calls again for what failed.
    let other = match delegate {
        Some(plugin) => delegate::run(call, plugin, "DEL").await.map(drop),
        None => Ok(()),
    };
    let stored = in_time(call, Plugin::Calico, unclear, left, begun).await;
    let deleted = match deletion {
        Some(deletion) => deletion.await,
        None => Ok(()),
    };
    deleted.and(stored).and(other)
}

/// Lets the agent do it; returns what it did not.
fn ask_agent(call: &Call<'_>, plugin: Plugin, link: Option<&Link>) -> Result<Left, CniError> {
    let mut request = DetachRequest {
        datastore: call.store.describe(),
        node: call.id.node.to_string(),
        container_id: call.id.container_id.clone(),
        ..DetachRequest::default()
    };
    if plugin == Plugin::Calico {
        let key = call.id.endpoint_key();
        request.namespace = key.namespace.to_string();
        request.name = key.name.to_string();
    }
    if call.delegate().is_none() {
        request.handles.push(call.id.handle());
        request.handles.extend(call.id.old_handle());
    }
    let own = link.filter(|l| l.owner == Own::Yes);
    if let Some(link) = own {
        let here = NetNs::current().map_err(|e| CniError::system("the host's network namespace", &e))?;
        request.netns_device = here.id().device;
        request.netns_inode = here.id().inode;
        request.link = link.index;
        request.link_name = link.name.clone();
        request.link_alias = call.id.alias();
    }
    let Some(reply) = call.agent.detach(&request) else {
        return Ok(Left::ALL);
    };
    let is_left = |what: &str, why: &str| {
        if !why.is_empty() {
            tracing::debug!(what, why, "left by the agent");
        }
        !why.is_empty()
    };
    let mut left = Left {
        link: is_left("link", &reply.link_left),
        endpoint: is_left("endpoint", &reply.endpoint_left),
        addresses: is_left("addresses", &reply.addresses_left),
        arriving: [&reply.endpoint_left, &reply.addresses_left].contains(&&STILL_ATTACHING.to_owned()),
    };
    // An agent is believed as to the datastore, which both see; the kernel is looked at.
    if let Some(link) = own.filter(|_| !left.link) {
        left.link = kernel::is_there(&mut kernel::open_here()?, link.index)?;
    }
    Ok(left)
}

/// DEL of the IPAM plugin alone.
pub(crate) async fn release(call: &Call<'_>) -> Result<(), CniError> {
    let begun = Instant::now();
    let left = ask_agent(call, Plugin::Ipam, None)?;
    in_time(call, Plugin::Ipam, false, left, begun).await
}

/// What the datastore has to be told, now or by a later call.
async fn in_time(
    call: &Call<'_>,
    plugin: Plugin,
    unclear: bool,
    left: Left,
    begun: Instant,
) -> Result<(), CniError> {
    let deadline = (begun + PATIENCE).max(Instant::now() + LEAST);
    let away = match forget(call, plugin, unclear, left, deadline).await {
        Ok(()) if left.arriving => CniError::new(Code::TryAgain, "nothing is left now", STILL_ATTACHING),
        Err(e) if e.is(Code::TryAgain) => e,
        done => return done,
    };
    // Nothing is won by waiting on where nothing can be kept: the runtime calls again.
    journal::record(call, plugin, left.arriving).map_err(|unkept| {
        let store = call.store.describe();
        let details = format!(
            "datastore ({store}): {away}; journal: {unkept}; call DEL again when one of them is there"
        );
        CniError::new(
            Code::TryAgain,
            "DEL can neither be finished nor left to a later call",
            details,
        )
    })
}

/// Does what an earlier DEL left.
pub(crate) async fn finish(call: &Call<'_>, plugin: Plugin, limit: Duration) -> Result<(), CniError> {
    let mut unclear = false;
    if plugin == Plugin::Calico {
        let link = Link::find(call)?.switch_off()?;
        unclear = link.owner == Own::Unclear;
        link.deletion().await?;
    }
    forget(call, plugin, unclear, Left::ALL, Instant::now() + limit).await
}

/// Deletes the endpoint and gives the addresses back.
async fn forget(
    call: &Call<'_>,
    plugin: Plugin,
    unclear: bool,
    left: Left,
    deadline: Instant,
) -> Result<(), CniError> {
    let endpoint = async {
        match plugin {
            Plugin::Calico if left.endpoint => insist_until(deadline, || forget_endpoint(call)).await,
            _ => Ok(Retired::Absent),
        }
    };
    let addresses = async {
        match call.delegate() {
            None if left.addresses => insist_until(deadline, || release_locked(call)).await,
            _ => Ok(()),
        }
    };
    if !unclear {
        // The link is off: nobody uses the addresses.
        let (endpoint, addresses) = tokio::join!(endpoint, addresses);
        return endpoint.and(addresses);
    }
    if endpoint.await? == Retired::Deleted {
        // No alias tells whose the link is (it was not made by us), but the endpoint was this container's.
        kernel::drop_link(&mut kernel::open_here()?, &call.id.host_interface())?;
    }
    addresses.await
}

/// Gives back what the container holds, while no other plugin of this node changes blocks.
pub(crate) async fn release_locked(call: &Call<'_>) -> Result<(), CniError> {
    let _lock = lock::take(&call.conf.ipam_lock_file).await;
    addresses::release_all(&call.store, &call.id).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// It is surely this container's.
    Yes,
    /// It is gone, or another container's.
    No,
    /// It may be this container's.
    Unclear,
}

/// The host's side.
struct Link {
    name: String,
    index: u32,
    owner: Own,
}

impl Link {
    fn find(call: &Call<'_>) -> Result<Self, CniError> {
        let name = call.id.host_interface();
        let mut rtnl = kernel::open_here()?;
        let (owner, index) = whose(
            &mut rtnl,
            &name,
            &call.id.alias(),
            &call.env.netns,
            &call.id.ifname,
        )?;
        Ok(Self { name, index, owner })
    }

    /// Switches it off, if it is surely this container's.
    fn switch_off(self) -> Result<Self, CniError> {
        if self.owner == Own::Yes {
            kernel::switch_off(&mut kernel::open_here()?, &self.name)?;
        }
        Ok(self)
    }

    /// Deletes the pair, on a thread because the kernel makes one wait.
    fn deletion(self) -> impl Future<Output = Result<(), CniError>> {
        let (send, receive) = oneshot::channel();
        let started = (self.owner == Own::Yes).then(|| {
            std::thread::Builder::new()
                .name("delete-link".into())
                .spawn(move || {
                    let done =
                        kernel::open_here().and_then(|mut rtnl| kernel::drop_link(&mut rtnl, &self.name));
                    // Nobody listens any more when the call has failed meanwhile.
                    let _ = send.send(done.map(drop));
                })
        });
        let failed = |e: &dyn std::fmt::Display| CniError::new(Code::Kernel, "deleting the interface", e);
        async move {
            match started {
                None => Ok(()),
                Some(Err(e)) => Err(failed(&e)),
                Some(Ok(_)) => receive.await.map_err(|e| failed(&e))?,
            }
        }
    }
}

/// Deletes the veth pair if it is surely this container's.
pub(crate) fn drop_own_link(host: &str, alias: &str, netns: &str, ifname: &str) -> Result<(), CniError> {
    let mut rtnl = kernel::open_here()?;
    if whose(&mut rtnl, host, alias, netns, ifname)?.0 == Own::Yes {
        kernel::drop_link(&mut rtnl, host)?;
    }
    Ok(())
}

/// Whose the link of that name is, and its number.
fn whose(
    rtnl: &mut caracal_link::Rtnl,
    host: &str,
    alias: &str,
    netns: &str,
    ifname: &str,
) -> Result<(Own, u32), CniError> {
    let Some(outer) = kernel::look_up(rtnl, host)? else {
        return Ok((Own::No, 0));
    };
    let is = |owner| Ok((owner, outer.index));
    if let Some(found) = outer.alias.as_deref().filter(|a| !a.is_empty()) {
        if found == alias {
            return is(Own::Yes);
        }
        tracing::info!(
            host,
            found,
            "the interface belongs to another container: left alone"
        );
        return is(Own::No);
    }
    // Made, but not named yet when ADD was killed; or Calico's.
    let inner = kernel::open_netns(netns)
        .and_then(|ns| kernel::look_up_in(&ns, ifname))
        .ok()
        .flatten();
    is(if inner.is_some_and(|i| i.is_peer_of(&outer)) {
        Own::Yes
    } else {
        Own::Unclear
    })
}

/// Deletes the endpoint if it is this container's.
pub(crate) async fn forget_endpoint(call: &Call<'_>) -> Result<Retired, CniError> {
    let key = call.id.endpoint_key();
    let container = call.id.container_id.as_str();
    let own = |found: &Resource| {
        let owner = Object::<WorkloadEndpointSpec>::try_from(found.clone())
            .map(|e| e.spec.container_id)
            .unwrap_or_default();
        // An endpoint that names no container was not made by a CNI plugin of today: the pod's is the only claim.
        let own = owner.is_empty() || owner == container;
        if !own {
            tracing::info!(%key, owner, "the endpoint belongs to another container: left alone");
        }
        own
    };
    match retire(call.store.as_ref(), &key, own).await {
        Ok(done) => Ok(done),
        Err(StoreError::Conflict { .. }) => {
            Err(CniError::new(Code::TryAgain, "the endpoint keeps changing", &key))
        }
        Err(e) => Err(CniError::store("deleting the endpoint", &e)),
    }
}
