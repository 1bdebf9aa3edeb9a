//! DEL: takes away what belongs to this container, and nothing of another one.

use std::sync::Arc;

use caracal_api::{Object, WorkloadEndpointSpec};
use caracal_store::{Preconditions, StoreError};

use crate::{
    addresses,
    call::{Call, insist},
    delegate,
    error::{CniError, Code},
    kernel,
};

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
pub(crate) async fn del(call: &Call<'_>) -> Result<(), CniError> {
    // The link first: it needs no datastore, and no packet flows any more whatever comes.
    let (host, alias) = (call.id.host_interface(), call.id.alias());
    let (netns, ifname) = (call.env.netns.clone(), call.id.ifname.clone());
    let link = tokio::task::spawn_blocking(move || drop_own_link(&host, &alias, &netns, &ifname));
    let (link, endpoint) = tokio::join!(link, insist(|| forget_endpoint(call)));
    let link = link.map_err(|e| CniError::new(Code::Kernel, "deleting the interface", e))??;
    let endpoint = endpoint?;
    if link == Own::Unclear && endpoint == Endpoint::Deleted {
        // No alias tells whose it is (not made by us), but the endpoint was this container's.
        kernel::drop_link(&mut kernel::open_here()?, &call.id.host_interface())?;
    }
    // Last, so that nobody gets the address while somebody may still use it.
    release(call).await
}

/// Gives back the container's addresses.
pub(crate) async fn release(call: &Call<'_>) -> Result<(), CniError> {
    match call.delegate() {
        Some(plugin) => delegate::run(call.env, plugin, "DEL", &call.given.stdin).map(drop),
        None => insist(|| addresses::release_all(&call.store, &call.id)).await,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// It is gone, or another container's.
    Done,
    /// It may be this container's.
    Unclear,
}

/// Deletes the veth pair if it is surely this container's.
pub(crate) fn drop_own_link(host: &str, alias: &str, netns: &str, ifname: &str) -> Result<Own, CniError> {
    let mut rtnl = kernel::open_here()?;
    let Some(outer) = kernel::look_up(&mut rtnl, host)? else {
        return Ok(Own::Done);
    };
    match outer.alias.as_deref().filter(|a| !a.is_empty()) {
        Some(found) if found != alias => {
            tracing::info!(
                host,
                found,
                "the interface belongs to another container: left alone"
            );
            return Ok(Own::Done);
        }
        Some(_) => {}
        None => {
            // Made, but not named yet when ADD was killed; or Calico's.
            let inner = kernel::open_netns(netns)
                .and_then(|ns| kernel::look_up_in(&ns, ifname))
                .ok()
                .flatten();
            if !inner.is_some_and(|i| i.is_peer_of(&outer)) {
                return Ok(Own::Unclear);
            }
        }
    }
    kernel::drop_link(&mut rtnl, host)?;
    Ok(Own::Done)
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
