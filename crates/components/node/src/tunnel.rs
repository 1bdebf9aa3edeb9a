use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, bail};
use caracal_api::{EncapMode, IpPoolAllowedUse, IpPoolSpec, Kind, NodeSpec, Object, ResourceKey};
use caracal_ids::NodeName;
use caracal_ipam::{Assign, Ipam};
use caracal_ipam_plan::Owner;
use caracal_net::{Cidr, Family};
use caracal_store::{ListOptions, Store, StoreError};

/// The handle of a node's VXLAN tunnel address (`calico-components.md` §4.6).
fn handle(family: Family, node: &NodeName) -> String {
    match family {
        Family::V4 => format!("vxlan-tunnel-addr-{node}"),
        Family::V6 => format!("vxlan-v6-tunnel-addr-{node}"),
    }
}

/// Gives the node a tunnel address per family in which a pool uses VXLAN, and takes it back where none does.
///
/// # Errors
/// When the datastore fails or no address is free.
pub(crate) async fn ensure_tunnel_addresses(store: &Arc<dyn Store>, node: &NodeName) -> anyhow::Result<()> {
    let pools = store
        .list_all(Kind::IpPool, &ListOptions::default())
        .await
        .context("listing the IP pools")?;
    let pools: Vec<Object<IpPoolSpec>> = pools
        .items
        .into_iter()
        .filter_map(|r| r.try_into().ok())
        .collect();
    let ipam = Ipam::new(store.clone());
    for family in Family::BOTH {
        let vxlan: Vec<Cidr> = pools
            .iter()
            .filter(|p| p.spec.vxlan_mode.unwrap_or_default() != EncapMode::Never && !p.spec.disabled)
            .filter_map(|p| p.spec.cidr.parse::<Cidr>().ok())
            .filter(|c| c.family() == family)
            .collect();
        ensure_one(store.as_ref(), &ipam, node, family, &vxlan)
            .await
            .with_context(|| format!("the {family} VXLAN tunnel address of node {node}"))?;
    }
    Ok(())
}

async fn ensure_one(
    store: &dyn Store,
    ipam: &Ipam,
    node: &NodeName,
    family: Family,
    pools: &[Cidr],
) -> anyhow::Result<()> {
    let handle = handle(family, node);
    let held = ipam.addresses_of(&handle).await?;
    if pools.is_empty() {
        if !held.is_empty() {
            ipam.release_handle(&handle).await?;
        }
        return set(store, node, family, "").await;
    }
    // The stored address stays as long as this node holds it in a pool that still uses VXLAN.
    if let Some(a) = held.iter().find(|a| pools.iter().any(|p| p.contains(a.addr))) {
        return set(store, node, family, &a.addr.to_string()).await;
    }
    ipam.release_handle(&handle).await?;
    let got = ipam
        .assign(&Assign {
            node: node.clone(),
            family,
            count: 1,
            owner: Owner {
                handle: handle.clone(),
                attributes: BTreeMap::from([
                    ("node".to_owned(), node.to_string()),
                    ("type".to_owned(), "vxlanTunnelAddress".to_owned()),
                ]),
            },
            pools: pools.iter().map(ToString::to_string).collect(),
            usage: IpPoolAllowedUse::Tunnel,
            namespace_labels: BTreeMap::new(),
        })
        .await?;
    let Some(addr) = got.first() else {
        bail!("IPAM returned no address")
    };
    set(store, node, family, &addr.addr.to_string()).await
}

async fn set(store: &dyn Store, node: &NodeName, family: Family, addr: &str) -> anyhow::Result<()> {
    let key = ResourceKey::global(Kind::Node, node.as_str());
    for _ in 0..10 {
        let mut object: Object<NodeSpec> = store
            .get(&key)
            .await
            .context("reading the Node object")?
            .try_into()
            .map_err(|_| anyhow::anyhow!("the datastore returned another kind than Node"))?;
        let field = match family {
            Family::V4 => &mut object.spec.ipv4_vxlan_tunnel_addr,
            Family::V6 => &mut object.spec.ipv6_vxlan_tunnel_addr,
        };
        if field == addr {
            return Ok(());
        }
        addr.clone_into(field);
        match store.update(object.into()).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e).context("writing the Node object"),
        }
    }
    bail!("writing the Node object {node}: other writers were always faster")
}
