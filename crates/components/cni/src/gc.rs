//! GC: detaches what no longer lives, of this network and this node alone.

use std::collections::BTreeSet;

use caracal_api::{IpamBlockSpec, Kind, Object, WorkloadEndpointSpec};
use caracal_store::ListOptions;

use crate::{
    call::Call,
    del, delegate, endpoint,
    error::CniError,
    identity::{FIRST_INTERFACE, INTERFACE_ATTRIBUTE, Identity},
    kernel,
    run::Plugin,
};

/// Detaches every container of this network and node that is not among the living.
pub(crate) async fn gc(call: &Call<'_>, plugin: Plugin) -> Result<(), CniError> {
    let Some(valid) = &call.conf.valid_attachments else {
        return Err(CniError::config(
            "cni.dev/valid-attachments",
            "it is missing, and GC needs it",
        ));
    };
    let living: BTreeSet<(&str, &str)> = valid
        .iter()
        .map(|a| (a.container_id.as_str(), a.ifname.as_str()))
        .collect();
    let endpoints = match plugin {
        Plugin::Calico => endpoints(call).await?,
        Plugin::Ipam => Vec::new(),
    };
    let mut failed = None;
    for id in attached(call, &endpoints).await? {
        if living.contains(&(id.container_id.as_str(), id.ifname.as_str())) {
            continue;
        }
        tracing::info!(container = id.container_id, ifname = id.ifname, "GC: detaching");
        let mut env = call.env.clone();
        env.container_id.clone_from(&id.container_id);
        env.ifname.clone_from(&id.ifname);
        env.netns = String::new();
        let one = Call {
            given: call.given,
            env: &env,
            conf: call.conf,
            version: call.version,
            store: call.store.clone(),
            agent: call.agent.clone(),
            id,
        };
        // One that cannot be detached does not keep the others.
        failed = failed.or(del::detach(&one, plugin).await.err());
    }
    if plugin == Plugin::Calico {
        failed = failed.or(drop_links(call, &living, &endpoints).err());
    }
    if let Some(other) = call.delegate() {
        failed = failed.or(delegate::run(call, other, "GC").await.err());
    }
    failed.map_or(Ok(()), Err)
}

type Endpoint = Object<WorkloadEndpointSpec>;

/// The interfaces of this network on this node, by their addresses or endpoints.
async fn attached(call: &Call<'_>, endpoints: &[Endpoint]) -> Result<Vec<Identity>, CniError> {
    let mut found = holders(call).await?;
    for e in endpoints.iter().filter(|e| is_ours(call, e)) {
        let (container, ifname) = (&e.spec.container_id, &e.spec.endpoint);
        // Two traces of one interface are one attachment; the first one knows the pod.
        let same = |f: &Identity| f.container_id == *container && f.ifname == *ifname;
        if !found.iter().any(same) {
            let pod = Some(e.spec.pod.clone()).filter(|p| !p.is_empty());
            found.push(Identity {
                container_id: container.clone(),
                ifname: ifname.clone(),
                pod: e.metadata.namespace.clone().zip(pod),
                ..call.id.clone()
            });
        }
    }
    found.sort_by(|a, b| (&a.container_id, &a.ifname).cmp(&(&b.container_id, &b.ifname)));
    found.dedup_by(|a, b| a.container_id == b.container_id && a.ifname == b.ifname);
    Ok(found)
}

fn is_ours(call: &Call<'_>, endpoint: &Endpoint) -> bool {
    let network = endpoint.metadata.annotations.get(endpoint::NETWORK);
    endpoint.spec.node == call.id.node.as_str() && network == Some(&call.id.network)
}

/// Who holds addresses.
async fn holders(call: &Call<'_>) -> Result<Vec<Identity>, CniError> {
    let blocks = call
        .store
        .list_all(Kind::IpamBlock, &ListOptions::default())
        .await;
    let blocks = blocks
        .map_err(|e| CniError::store("reading the IPAM blocks", &e))?
        .items;
    let blocks = blocks
        .into_iter()
        .filter_map(|b| Object::<IpamBlockSpec>::try_from(b).ok());
    let prefix = format!("{}.", call.id.network);
    let mut found = Vec::new();
    for attribute in blocks.flat_map(|b| b.spec.attributes) {
        let get = |name: &str| attribute.secondary.get(name).cloned();
        let handle = attribute.handle_id.as_deref();
        let Some(container) = handle.and_then(|h| h.strip_prefix(&prefix)) else {
            continue;
        };
        if get("node").as_deref() != Some(call.id.node.as_str()) {
            continue;
        }
        let ifname = get(INTERFACE_ATTRIBUTE).unwrap_or_else(|| FIRST_INTERFACE.to_owned());
        let container = match container.strip_suffix(&format!(".{ifname}")) {
            Some(shorter) if ifname != FIRST_INTERFACE => shorter,
            _ => container,
        };
        found.push(Identity {
            container_id: container.to_owned(),
            ifname,
            pod: get("namespace").zip(get("pod")),
            ..call.id.clone()
        });
    }
    Ok(found)
}

async fn endpoints(call: &Call<'_>) -> Result<Vec<Endpoint>, CniError> {
    let all = ListOptions::default();
    let all = call.store.list_all(Kind::WorkloadEndpoint, &all).await;
    let all = all.map_err(|e| CniError::store("reading the endpoints", &e))?;
    Ok(all
        .items
        .into_iter()
        .filter_map(|r| Endpoint::try_from(r).ok())
        .collect())
}

/// Deletes links of this network, which their aliases tell, whose containers do not live: ADD made them and was killed
/// before it wrote anything that leads to them.
fn drop_links(
    call: &Call<'_>,
    living: &BTreeSet<(&str, &str)>,
    endpoints: &[Endpoint],
) -> Result<(), CniError> {
    let mut rtnl = kernel::open_here()?;
    for (name, alias) in kernel::aliases(&mut rtnl)? {
        let mut parts = alias.splitn(3, '/');
        let (Some(container), Some(ifname), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let id = Identity {
            container_id: container.to_owned(),
            ifname: ifname.to_owned(),
            ..call.id.clone()
        };
        // Several nodes may share a namespace in a test bed: what another node has stored is not ours.
        let others =
            |e: &Endpoint| e.spec.container_id == container && e.spec.endpoint == ifname && !is_ours(call, e);
        if id.alias() == alias && !living.contains(&(container, ifname)) && !endpoints.iter().any(others) {
            kernel::drop_link(&mut rtnl, &name)?;
        }
    }
    Ok(())
}
