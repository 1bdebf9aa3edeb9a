use std::{collections::BTreeMap, fmt, sync::Arc};

use anyhow::{Context, bail};
use caracal_api::{
    EncapMode, IpPoolAllowedUse, IpPoolSpec, Kind, NodeBgpSpec, NodeSpec, Object, ResourceKey,
};
use caracal_ids::NodeName;
use caracal_ipam::{Assign, Ipam};
use caracal_ipam_plan::{Owner, PoolQuery, select_pools};
use caracal_net::{Cidr, Family};
use caracal_store::{ListOptions, Store, StoreError};

/// A kind of tunnel for which each node has an address from the pools that use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tunnel {
    Vxlan(Family),
    /// IPv4 only.
    Ipip,
}

impl Tunnel {
    const ALL: [Self; 3] = [Self::Vxlan(Family::V4), Self::Vxlan(Family::V6), Self::Ipip];

    fn family(self) -> Family {
        match self {
            Self::Vxlan(family) => family,
            Self::Ipip => Family::V4,
        }
    }

    /// The handle of a node's address, and the `type` among its attributes (`calico-components.md` §4.6).
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Vxlan(Family::V4) => ("vxlan-tunnel-addr", "vxlanTunnelAddress"),
            Self::Vxlan(Family::V6) => ("vxlan-v6-tunnel-addr", "vxlanV6TunnelAddress"),
            Self::Ipip => ("ipip-tunnel-addr", "ipipTunnelAddress"),
        }
    }

    fn owner(self, node: &NodeName) -> Owner {
        let (handle, kind) = self.names();
        Owner {
            handle: format!("{handle}-{node}"),
            attributes: BTreeMap::from([
                ("node".to_owned(), node.to_string()),
                ("type".to_owned(), kind.to_owned()),
            ]),
        }
    }

    fn is_used_by(self, pool: &IpPoolSpec) -> bool {
        let mode = match self {
            Self::Vxlan(_) => pool.vxlan_mode,
            Self::Ipip => pool.ipip_mode,
        };
        let of_family = pool.cidr.parse().is_ok_and(|c: Cidr| c.family() == self.family());
        of_family && mode.unwrap_or_default() != EncapMode::Never
    }

    fn write(self, spec: &mut NodeSpec, addr: &str) {
        match self {
            Self::Vxlan(Family::V4) => addr.clone_into(&mut spec.ipv4_vxlan_tunnel_addr),
            Self::Vxlan(Family::V6) => addr.clone_into(&mut spec.ipv6_vxlan_tunnel_addr),
            Self::Ipip => {
                let bgp = spec.bgp.get_or_insert_default();
                addr.clone_into(&mut bgp.ipv4_ipip_tunnel_addr);
                // A part that says nothing is not there; validation refuses an empty one.
                spec.bgp.take_if(|bgp| *bgp == NodeBgpSpec::default());
            }
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(family) => write!(f, "{family} VXLAN"),
            Self::Ipip => f.write_str("IP-in-IP"),
        }
    }
}

/// Gives the node an address for each kind of tunnel that a pool for it uses, and takes it back where none does. One that
/// fails does not keep the others.
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
    let labels = read(store.as_ref(), node).await?.metadata.labels;
    let ipam = Ipam::new(store.clone());
    let mut outcome = Ok(());
    for tunnel in Tunnel::ALL {
        let pools = pools_for(tunnel, &pools, &labels);
        let done = ensure_one(store.as_ref(), &ipam, node, tunnel, &pools)
            .await
            .with_context(|| format!("the {tunnel} tunnel address of node {node}"));
        outcome = outcome.and(done);
    }
    outcome
}

/// The pools from which a node with these labels may have its address.
fn pools_for(tunnel: Tunnel, pools: &[Object<IpPoolSpec>], labels: &BTreeMap<String, String>) -> Vec<Cidr> {
    let using = pools.iter().filter(|p| tunnel.is_used_by(&p.spec));
    let requested: Vec<String> = using.map(|p| p.spec.cidr.clone()).collect();
    if requested.is_empty() {
        return Vec::new();
    }
    let query = PoolQuery {
        family: tunnel.family(),
        usage: IpPoolAllowedUse::Tunnel,
        requested: &requested,
        node_labels: labels,
        namespace_labels: &BTreeMap::new(),
    };
    match select_pools(pools, &query) {
        Ok(found) => found.into_iter().map(|c| c.cidr).collect(),
        Err(why) => {
            tracing::info!("no {tunnel} tunnel address for this node: {why}");
            Vec::new()
        }
    }
}

async fn ensure_one(
    store: &dyn Store,
    ipam: &Ipam,
    node: &NodeName,
    tunnel: Tunnel,
    pools: &[Cidr],
) -> anyhow::Result<()> {
    let owner = tunnel.owner(node);
    let held = ipam.addresses_of(&owner.handle).await?;
    if pools.is_empty() {
        // First nobody routes to it any more, then it is free for others.
        set(store, node, tunnel, "").await?;
        if !held.is_empty() {
            ipam.release_handle(&owner.handle).await?;
        }
        return Ok(());
    }
    // The stored address stays as long as this node holds it in a pool that still uses the tunnel.
    if let Some(a) = held.iter().find(|a| pools.iter().any(|p| p.contains(a.addr))) {
        return set(store, node, tunnel, &a.addr.to_string()).await;
    }
    ipam.release_handle(&owner.handle).await?;
    let got = ipam
        .assign(&Assign {
            node: node.clone(),
            family: tunnel.family(),
            count: 1,
            owner,
            pools: pools.iter().map(ToString::to_string).collect(),
            usage: IpPoolAllowedUse::Tunnel,
            namespace_labels: BTreeMap::new(),
        })
        .await?;
    let Some(addr) = got.first() else {
        bail!("IPAM returned no address")
    };
    set(store, node, tunnel, &addr.addr.to_string()).await
}

async fn read(store: &dyn Store, node: &NodeName) -> anyhow::Result<Object<NodeSpec>> {
    let found = store.get(&ResourceKey::global(Kind::Node, node.as_str())).await;
    found
        .context("reading the Node object")?
        .try_into()
        .map_err(|_| anyhow::anyhow!("the datastore returned another kind than Node"))
}

async fn set(store: &dyn Store, node: &NodeName, tunnel: Tunnel, addr: &str) -> anyhow::Result<()> {
    for _ in 0..10 {
        let mut object = read(store, node).await?;
        let before = object.spec.clone();
        tunnel.write(&mut object.spec, addr);
        if object.spec == before {
            return Ok(());
        }
        match store.update(object.into()).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e).context("writing the Node object"),
        }
    }
    bail!("writing the Node object {node}: other writers were always faster")
}
