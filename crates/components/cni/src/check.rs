//! CHECK and STATUS.

use std::net::IpAddr;

use caracal_api::{Object, WorkloadEndpointSpec};
use caracal_ipam::Ipam;
use caracal_store::StoreError;

use crate::{
    addresses,
    call::Call,
    delegate,
    error::{CniError, Code},
    kernel,
    plan::{AddressSource, inner_routes},
    result::{AddResult, read_previous},
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
    read_previous(value, &call.id.ifname).map_err(|e| CniError::config("prevResult", e))
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
    match addresses::source(call.conf, call.env)? {
        AddressSource::Delegate(plugin) => {
            return delegate::run(call, &plugin, "CHECK").await.map(drop);
        }
        AddressSource::Given(_) => return Ok(()),
        AddressSource::Calico { .. } => {}
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
    let unavailable = |e: CniError| CniError {
        code: Code::NotAvailable as u32,
        ..e
    };
    call.check_ready().await.map_err(unavailable)?;
    crate::add::mtu(call).map_err(unavailable)?;
    match call.delegate() {
        Some(plugin) => delegate::run(call, plugin, "STATUS").await.map(drop),
        None => Ok(()),
    }
}
