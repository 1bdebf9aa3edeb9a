use std::net::IpAddr;

use anyhow::Context;
use caracal_api::{
    ClusterInformationSpec, EncapMode, IpPoolSpec, Kind, Object, Resource, ResourceKey, TierDefaultAction,
    TierSpec,
};
use caracal_net::{Family, PerFamily};
use caracal_store::{ListOptions, Store, StoreError};

/// What the first node makes of a new cluster, besides its own objects.
#[derive(Debug, Clone)]
pub(crate) struct ClusterDefaults {
    /// Whether to make pools when there is none.
    pub(crate) make_pools: bool,
    /// CIDR of the default IPv4 pool; `None` makes none.
    pub(crate) pool_v4: Option<String>,
    /// CIDR of the default IPv6 pool; `None` makes none.
    pub(crate) pool_v6: Option<String>,
    /// VXLAN modes of the default pools.
    pub(crate) vxlan: PerFamily<EncapMode>,
    /// IP-in-IP mode of the default IPv4 pool.
    pub(crate) ipip: EncapMode,
    /// Whether the default pools masquerade.
    pub(crate) nat_outgoing: bool,
    /// Comma-separated kinds of cluster, added to what is there.
    pub(crate) cluster_type: String,
}

/// The tiers that every cluster has (`calico-components.md` §3.1).
const TIERS: [(&str, f64, TierDefaultAction); 3] = [
    ("default", 1_000_000.0, TierDefaultAction::Deny),
    ("kube-admin", 1_000.0, TierDefaultAction::Pass),
    ("kube-baseline", 10_000_000.0, TierDefaultAction::Pass),
];

/// Makes what is missing: ClusterInformation, the three tiers, and the default pools if there is no pool at all.
/// Several nodes may do it at once; whoever comes first wins, the others change nothing.
///
/// # Errors
/// When the datastore fails.
pub(crate) async fn ensure_cluster(store: &dyn Store, defaults: &ClusterDefaults) -> anyhow::Result<()> {
    for (name, order, action) in TIERS {
        let spec = TierSpec {
            order: Some(order),
            default_action: Some(action),
        };
        create_if_missing(store, Object::new(name, spec).into())
            .await
            .with_context(|| format!("making tier {name}"))?;
    }
    if defaults.make_pools {
        ensure_pools(store, defaults)
            .await
            .context("making the default IP pools")?;
    }
    ensure_information(store, defaults)
        .await
        .context("making ClusterInformation")
}

async fn create_if_missing(store: &dyn Store, resource: Resource) -> Result<bool, StoreError> {
    match store.get(&resource.key()).await {
        Ok(_) => return Ok(false),
        Err(StoreError::NotFound(_)) => {}
        Err(e) => return Err(e),
    }
    match store.create(resource).await {
        Ok(_) => Ok(true),
        Err(StoreError::AlreadyExists(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

async fn ensure_pools(store: &dyn Store, defaults: &ClusterDefaults) -> Result<(), StoreError> {
    let existing = store
        .list(
            Kind::IpPool,
            &ListOptions {
                limit: 1,
                ..ListOptions::default()
            },
        )
        .await?;
    if !existing.items.is_empty() || !existing.malformed.is_empty() {
        return Ok(());
    }
    let pools = [
        ("default-ipv4-ippool", Family::V4, &defaults.pool_v4, 26),
        ("default-ipv6-ippool", Family::V6, &defaults.pool_v6, 122),
    ];
    for (name, family, cidr, block_size) in pools {
        let Some(cidr) = cidr else { continue };
        let spec = IpPoolSpec {
            cidr: cidr.clone(),
            vxlan_mode: Some(*defaults.vxlan.get(family)),
            ipip_mode: Some(match family {
                Family::V4 => defaults.ipip,
                Family::V6 => EncapMode::Never,
            }),
            nat_outgoing: defaults.nat_outgoing,
            block_size: Some(block_size),
            node_selector: "all()".into(),
            ..IpPoolSpec::default()
        };
        if create_if_missing(store, Object::new(name, spec).into()).await? {
            tracing::info!(pool = name, cidr, "made the default pool");
        }
    }
    Ok(())
}

async fn ensure_information(store: &dyn Store, defaults: &ClusterDefaults) -> Result<(), StoreError> {
    let key = ResourceKey::global(Kind::ClusterInformation, "default");
    // A few tries: other nodes may write it at the same time.
    for _ in 0..10 {
        let stored: Option<Object<ClusterInformationSpec>> = match store.get(&key).await {
            Ok(r) => r.try_into().ok(),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(e),
        };
        let exists = stored.is_some();
        let mut object = stored.unwrap_or_else(|| Object::new("default", ClusterInformationSpec::default()));
        let before = object.clone();
        let spec = &mut object.spec;
        if spec.cluster_guid.is_empty() {
            spec.cluster_guid = uuid::Uuid::new_v4().simple().to_string();
        }
        // Whoever set it to false (a migration, an upgrade) sets it back.
        spec.datastore_ready.get_or_insert(true);
        let mut types: Vec<&str> = spec.cluster_type.split(',').filter(|t| !t.is_empty()).collect();
        for t in defaults.cluster_type.split(',').filter(|t| !t.is_empty()) {
            if !types.contains(&t) {
                types.push(t);
            }
        }
        spec.cluster_type = types.join(",");
        if exists && object == before {
            return Ok(());
        }
        let written = if exists {
            store.update(object.into()).await
        } else {
            store.create(object.into()).await
        };
        match written {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Err(StoreError::Conflict {
        key,
        why: "other writers were always faster".into(),
    })
}

/// The default pool of a family for a cluster whose nodes have these addresses: Calico's ranges, or the next private one
/// when a node is inside it.
#[must_use]
pub(crate) fn default_pool_v4(node_ip: Option<IpAddr>) -> String {
    let first: caracal_net::Cidr = caracal_net::Cidr::new(IpAddr::from([192, 168, 0, 0]), 16);
    let inside = node_ip.is_some_and(|ip| first.contains(ip));
    if inside {
        "172.16.0.0/16".into()
    } else {
        first.to_string()
    }
}
