//! DEL: takes away what belongs to this container, and nothing of another one.

use std::{sync::Arc, time::Duration};

use caracal_api::{Object, WorkloadEndpointSpec};
use caracal_store::{Preconditions, StoreError};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    addresses,
    call::{Call, insist_until},
    delegate,
    error::{CniError, Code},
    journal, kernel, lock,
    run::Plugin,
};

/// How long DEL tries to reach the datastore before it leaves the rest to a later call.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it tries when it cannot leave anything to a later call.
const LAST_RESORT: Duration = Duration::from_secs(15);

/// How the endpoint of the container's name was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// It was this container's and is deleted now.
    Deleted,
    /// There was none.
    Absent,
    /// It belongs to another container.
    Others,
}

/// How many times a delete is tried against other writers.
const TRIES: usize = 10;

/// Detaches the container. What is gone already is no error.
///
/// First the link is switched off: that needs no datastore, and no packet flows any more whatever comes. The kernel
/// takes long to delete it, so the datastore is told meanwhile.
pub(crate) async fn del(call: &Call<'_>) -> Result<(), CniError> {
    let link = switch_off(call)?;
    let unclear = link.owner == Own::Unclear;
    let deletion = link.deletion();
    // Whatever fails, the rest is done; the runtime calls again for what failed.
    let other = match call.delegate() {
        Some(plugin) => delegate::run(call, plugin, "DEL").await.map(drop),
        None => Ok(()),
    };
    let stored = in_time(call, Plugin::Calico, unclear).await;
    deletion.await.and(stored).and(other)
}

/// What GC does to one that no longer lives. The other IPAM plugin has its own GC.
pub(crate) async fn detach(call: &Call<'_>, plugin: Plugin) -> Result<(), CniError> {
    if plugin == Plugin::Ipam {
        return release(call).await;
    }
    let link = switch_off(call)?;
    let unclear = link.owner == Own::Unclear;
    let deletion = link.deletion();
    let stored = in_time(call, plugin, unclear).await;
    deletion.await.and(stored)
}

/// DEL of the IPAM plugin alone.
pub(crate) async fn release(call: &Call<'_>) -> Result<(), CniError> {
    in_time(call, Plugin::Ipam, false).await
}

/// What the datastore has to be told, now or by a later call.
async fn in_time(call: &Call<'_>, plugin: Plugin, unclear: bool) -> Result<(), CniError> {
    let begun = Instant::now();
    let error = match forget(call, plugin, unclear, begun + PATIENCE).await {
        Err(e) if e.is(Code::TryAgain) => e,
        done => return done,
    };
    match journal::record(call, plugin) {
        Ok(()) => Ok(()),
        Err(unkept) => {
            tracing::error!(%error, %unkept, "cannot be left to a later call");
            forget(call, plugin, unclear, begun + LAST_RESORT).await
        }
    }
}

/// Does what an earlier DEL left.
pub(crate) async fn finish(call: &Call<'_>, plugin: Plugin, limit: Duration) -> Result<(), CniError> {
    let mut unclear = false;
    if plugin == Plugin::Calico {
        let link = switch_off(call)?;
        unclear = link.owner == Own::Unclear;
        link.deletion().await?;
    }
    forget(call, plugin, unclear, Instant::now() + limit).await
}

/// Deletes the endpoint and gives the addresses back.
async fn forget(call: &Call<'_>, plugin: Plugin, unclear: bool, deadline: Instant) -> Result<(), CniError> {
    let endpoint = async {
        match plugin {
            Plugin::Calico => insist_until(deadline, || forget_endpoint(call)).await,
            Plugin::Ipam => Ok(Endpoint::Absent),
        }
    };
    let addresses = async {
        match call.delegate() {
            Some(_) => Ok(()),
            None => insist_until(deadline, || release_locked(call)).await,
        }
    };
    if !unclear {
        // The link is off: nobody uses the addresses.
        let (endpoint, addresses) = tokio::join!(endpoint, addresses);
        return endpoint.and(addresses);
    }
    if endpoint.await? == Endpoint::Deleted {
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

/// The host's side after it was switched off.
struct Link {
    name: String,
    owner: Own,
}

fn switch_off(call: &Call<'_>) -> Result<Link, CniError> {
    let name = call.id.host_interface();
    let mut rtnl = kernel::open_here()?;
    let owner = whose(
        &mut rtnl,
        &name,
        &call.id.alias(),
        &call.env.netns,
        &call.id.ifname,
    )?;
    if owner == Own::Yes {
        kernel::switch_off(&mut rtnl, &name)?;
    }
    Ok(Link { name, owner })
}

impl Link {
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
    if whose(&mut rtnl, host, alias, netns, ifname)? == Own::Yes {
        kernel::drop_link(&mut rtnl, host)?;
    }
    Ok(())
}

fn whose(
    rtnl: &mut caracal_link::Rtnl,
    host: &str,
    alias: &str,
    netns: &str,
    ifname: &str,
) -> Result<Own, CniError> {
    let Some(outer) = kernel::look_up(rtnl, host)? else {
        return Ok(Own::No);
    };
    if let Some(found) = outer.alias.as_deref().filter(|a| !a.is_empty()) {
        if found == alias {
            return Ok(Own::Yes);
        }
        tracing::info!(
            host,
            found,
            "the interface belongs to another container: left alone"
        );
        return Ok(Own::No);
    }
    // Made, but not named yet when ADD was killed; or Calico's.
    let inner = kernel::open_netns(netns)
        .and_then(|ns| kernel::look_up_in(&ns, ifname))
        .ok()
        .flatten();
    Ok(if inner.is_some_and(|i| i.is_peer_of(&outer)) {
        Own::Yes
    } else {
        Own::Unclear
    })
}

/// Deletes the endpoint if it is this container's.
pub(crate) async fn forget_endpoint(call: &Call<'_>) -> Result<Endpoint, CniError> {
    let store = Arc::clone(&call.store);
    let key = call.id.endpoint_key();
    let mut seen_deleting = Endpoint::Absent;
    for _ in 0..TRIES {
        let found = match store.get(&key).await {
            Ok(found) => found,
            Err(StoreError::NotFound(_)) => return Ok(seen_deleting),
            Err(e) => return Err(CniError::store("reading the endpoint", &e)),
        };
        let expect = Preconditions::of(&found);
        let owner = Object::<WorkloadEndpointSpec>::try_from(found)
            .map(|e| e.spec.container_id)
            .unwrap_or_default();
        // An endpoint that names no container was not made by a CNI plugin of today: the pod's is the only claim.
        if !owner.is_empty() && owner != call.id.container_id {
            tracing::info!(%key, owner, "the endpoint belongs to another container: left alone");
            return Ok(Endpoint::Others);
        }
        seen_deleting = Endpoint::Deleted;
        match store.delete(&key, &expect).await {
            Ok(_) | Err(StoreError::NotFound(_)) => return Ok(Endpoint::Deleted),
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(CniError::store("deleting the endpoint", &e)),
        }
    }
    Err(CniError::new(Code::TryAgain, "the endpoint keeps changing", key))
}
