//! CHECK, STATUS and GC.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_api::{IpamBlockSpec, Kind, Object, WorkloadEndpointSpec};
use caracal_ipam::Ipam;
use caracal_store::{ListOptions, StoreError};

use crate::{
    addresses,
    call::Call,
    del,
    error::{CniError, Code},
    identity::Identity,
    kernel,
    plan::inner_routes,
    result::{AddResult, read_result},
};

fn wrong(what: impl ToString) -> CniError {
    CniError::new(Code::CheckFailed, "the attachment is not as ADD made it", what)
}

/// The result of ADD, which CHECK must be given.
fn previous(call: &Call<'_>) -> Result<AddResult, CniError> {
    let Some(value) = &call.conf.prev_result else {
        return Err(CniError::config(
            "prevResult",
            "it is missing, and CHECK needs it",
        ));
    };
    read_result(value).map_err(|e| CniError::config("prevResult", e))
}

/// Checks that everything is as ADD made it: both interfaces, addresses, routes, endpoint, allocation.
pub(crate) async fn check(call: &Call<'_>) -> Result<(), CniError> {
    let previous = previous(call)?;
    let addresses: Vec<IpAddr> = previous.addresses.iter().map(|a| a.addr).collect();
    let netns = kernel::open_netns(&call.env.netns)?;
    let mut rtnl = kernel::open_here()?;
    let (host, ifname) = (call.id.host_interface(), &call.id.ifname);
    let outer =
        kernel::look_up(&mut rtnl, &host)?.ok_or_else(|| wrong(format!("the host has no link {host}")))?;
    // Routes of another plugin's result come back in prevResult; the gateways are always ours.
    let routes = inner_routes(call.conf, &previous.addresses, &[]);
    let inside = kernel::inspect(&netns, ifname, &routes)?;
    let inner = inside
        .link
        .ok_or_else(|| wrong(format!("there is no interface {ifname} inside")))?;
    if !inner.is_peer_of(&outer) {
        return Err(wrong(format!(
            "{ifname} inside and {host} are not ends of one pair"
        )));
    }
    if !inside.up {
        return Err(wrong(format!("{ifname} inside is down")));
    }
    if let Some(route) = inside.missing_routes.first() {
        return Err(wrong(format!("the route to {} is missing inside", route.dst)));
    }
    for addr in &addresses {
        if !inside.addresses.contains(addr) {
            return Err(wrong(format!("{ifname} inside has not the address {addr}")));
        }
        if !kernel::has_host_route(&mut rtnl, *addr, outer.index)? {
            return Err(wrong(format!("the host has no route to {addr} by {host}")));
        }
    }
    let (endpoint, allocation) = tokio::join!(
        check_endpoint(call, &addresses),
        check_allocation(call, &addresses)
    );
    endpoint.and(allocation)
}

async fn check_endpoint(call: &Call<'_>, addresses: &[IpAddr]) -> Result<(), CniError> {
    let key = call.id.endpoint_key();
    let found = match call.store.get(&key).await {
        Ok(found) => found,
        Err(StoreError::NotFound(_)) => return Err(wrong(format!("{key} is not in the datastore"))),
        Err(e) => return Err(CniError::store("reading the endpoint", &e)),
    };
    let Ok(endpoint) = Object::<WorkloadEndpointSpec>::try_from(found) else {
        return Err(wrong(format!("{key} cannot be read")));
    };
    let spec = endpoint.spec;
    if spec.container_id != call.id.container_id {
        return Err(wrong(format!("{key} belongs to container {}", spec.container_id)));
    }
    for addr in addresses {
        let network = caracal_net::Cidr::host(*addr).to_string();
        if !spec.ip_networks.contains(&network) {
            return Err(wrong(format!("{key} has not the address {addr}")));
        }
    }
    Ok(())
}

async fn check_allocation(call: &Call<'_>, addresses: &[IpAddr]) -> Result<(), CniError> {
    if call.delegate().is_some() {
        return crate::delegate::run(call.env, &call.conf.ipam.plugin_type, "CHECK", &call.given.stdin)
            .map(drop);
    }
    let handle = call.id.handle();
    let held = Ipam::new(call.store.clone())
        .addresses_of(&handle)
        .await
        .map_err(|e| CniError::ipam(&e))?;
    for addr in addresses {
        if !held.iter().any(|h| h.addr == *addr) {
            return Err(wrong(format!(
                "address {addr} is not assigned to handle {handle}"
            )));
        }
    }
    Ok(())
}

/// CHECK of the IPAM plugin alone.
pub(crate) async fn check_addresses(call: &Call<'_>) -> Result<(), CniError> {
    let addresses: Vec<IpAddr> = previous(call)?.addresses.iter().map(|a| a.addr).collect();
    check_allocation(call, &addresses).await
}

/// STATUS: whether ADD could be served.
pub(crate) async fn status(call: &Call<'_>) -> Result<(), CniError> {
    call.check_ready().await.map_err(|e| CniError {
        code: Code::NotAvailable as u32,
        ..e
    })
}

/// GC: detaches every container of this network and node that is not among the living.
pub(crate) async fn gc(call: &Call<'_>, links: bool) -> Result<(), CniError> {
    let Some(valid) = &call.conf.valid_attachments else {
        return Err(CniError::config(
            "cni.dev/valid-attachments",
            "it is missing, and GC needs it",
        ));
    };
    let living: BTreeSet<&str> = valid.iter().map(|a| a.container_id.as_str()).collect();
    let mut failed = None;
    for id in attached(call).await? {
        if living.contains(id.container_id.as_str()) {
            continue;
        }
        tracing::info!(container = id.container_id, "GC: detaching");
        let mut env = call.env.clone();
        env.container_id.clone_from(&id.container_id);
        env.netns = String::new();
        let one = Call {
            given: call.given,
            env: &env,
            conf: call.conf,
            version: call.version,
            store: call.store.clone(),
            id,
        };
        let done = if links {
            del::del(&one).await
        } else {
            addresses::release_all(&one.store, &one.id).await
        };
        // One that cannot be detached does not keep the others.
        failed = failed.or(done.err());
    }
    failed.map_or(Ok(()), Err)
}

/// The containers of this network that hold addresses on this node.
async fn attached(call: &Call<'_>) -> Result<Vec<Identity>, CniError> {
    let all = ListOptions::default();
    let (blocks, endpoints) = tokio::join!(
        call.store.list_all(Kind::IpamBlock, &all),
        call.store.list_all(Kind::WorkloadEndpoint, &all),
    );
    let blocks = blocks
        .map_err(|e| CniError::store("reading the IPAM blocks", &e))?
        .items;
    let endpoints = endpoints
        .map_err(|e| CniError::store("reading the endpoints", &e))?
        .items;
    let endpoints = endpoints
        .into_iter()
        .filter_map(|r| Object::<WorkloadEndpointSpec>::try_from(r).ok());
    let interfaces: BTreeMap<String, String> = endpoints
        .map(|e| (e.spec.container_id, e.spec.endpoint))
        .collect();
    let prefix = format!("{}.", call.id.network);
    let blocks = blocks
        .into_iter()
        .filter_map(|b| Object::<IpamBlockSpec>::try_from(b).ok());
    let mut found = Vec::new();
    for attribute in blocks.flat_map(|b| b.spec.attributes) {
        let handle = attribute.handle_id.as_deref();
        let get = |name: &str| attribute.secondary.get(name).cloned();
        let Some(container) = handle.and_then(|h| h.strip_prefix(&prefix)) else {
            continue;
        };
        if get("node").as_deref() != Some(call.id.node.as_str()) {
            continue;
        }
        let ifname = interfaces.get(container).filter(|name| !name.is_empty());
        found.push(Identity {
            container_id: container.to_owned(),
            ifname: ifname.cloned().unwrap_or_else(|| "eth0".to_owned()),
            pod: get("namespace").zip(get("pod")),
            ..call.id.clone()
        });
    }
    found.sort_by(|a, b| a.container_id.cmp(&b.container_id));
    found.dedup();
    Ok(found)
}
