use std::collections::BTreeMap;

use caracal_api::{
    BlockAffinitySpec, IpamBlockSpec, IpamConfigurationSpec, Kind, Object, Resource, ResourceKey, Spec,
};
use caracal_ipam_plan::Observed;
use caracal_net::Cidr;
use caracal_store::{ListOptions, Store, StoreError};

use crate::{
    error::{IpamError, doing},
    service::Assign,
};

/// Reads an object of a kind; `None` when there is none.
pub(crate) async fn get<S: Spec>(store: &dyn Store, name: &str) -> Result<Option<Object<S>>, StoreError>
where
    Object<S>: TryFrom<Resource>,
{
    match store.get(&ResourceKey::global(S::KIND, name)).await {
        Ok(r) => Ok(Object::<S>::try_from(r).ok()),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Lists objects of a kind.
pub(crate) async fn list<S: Spec>(
    store: &dyn Store,
    options: &ListOptions,
) -> Result<Vec<Object<S>>, StoreError>
where
    Object<S>: TryFrom<Resource>,
{
    let page = store.list_all(S::KIND, options).await?;
    Ok(page
        .items
        .into_iter()
        .filter_map(|r| Object::<S>::try_from(r).ok())
        .collect())
}

/// What does not change while an operation is tried again and again.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    base: Observed,
}

impl Fixed {
    pub(crate) async fn read(store: &dyn Store, want: &Assign) -> Result<Self, IpamError> {
        let all = ListOptions::default();
        let (pools, config, node_labels) = tokio::join!(
            list(store, &all),
            get::<IpamConfigurationSpec>(store, "default"),
            node_labels(store, want),
        );
        let base = Observed {
            pools: pools.map_err(doing("reading the IP pools"))?,
            config: config
                .map_err(doing("reading the IPAM configuration"))?
                .map(|c| c.spec)
                .unwrap_or_default(),
            node_labels: node_labels.map_err(doing("reading the node"))?,
            namespace_labels: want.namespace_labels.clone(),
            ..Observed::default()
        };
        Ok(Self { base })
    }

    /// What may have changed since the last try. With `all` every block is read.
    pub(crate) async fn observe(
        &self,
        store: &dyn Store,
        want: &Assign,
        all: bool,
    ) -> Result<Observed, IpamError> {
        let node = want.node.as_str();
        let options = ListOptions {
            name_prefix: Some(format!("{node}-")),
            ..ListOptions::default()
        };
        let (affinities, handle) = tokio::join!(
            list::<BlockAffinitySpec>(store, &options),
            get(store, &want.owner.handle),
        );
        let mut affinities = affinities.map_err(doing("reading the node's block affinities"))?;
        // The prefix also finds nodes whose names begin alike.
        affinities.retain(|a| a.spec.node == node && a.spec.affinity_type != "virtual");
        let blocks = if all {
            list(store, &ListOptions::default())
                .await
                .map_err(doing("reading all IPAM blocks"))?
        } else {
            self.own_blocks(store, &affinities, want).await?
        };
        Ok(Observed {
            affinities,
            blocks,
            all_blocks: all,
            handle: handle.map_err(doing("reading the IPAM handle"))?,
            ..self.base.clone()
        })
    }

    async fn own_blocks(
        &self,
        store: &dyn Store,
        affinities: &[Object<BlockAffinitySpec>],
        want: &Assign,
    ) -> Result<Vec<Object<IpamBlockSpec>>, IpamError> {
        let mut blocks = Vec::new();
        for a in affinities {
            let Ok(cidr) = a.spec.cidr.parse::<Cidr>() else {
                continue;
            };
            if cidr.family() != want.family {
                continue;
            }
            let block = get(store, &IpamBlockSpec::object_name(&cidr))
                .await
                .map_err(doing("reading an IPAM block"))?;
            blocks.extend(block);
        }
        Ok(blocks)
    }
}

async fn node_labels(store: &dyn Store, want: &Assign) -> Result<BTreeMap<String, String>, StoreError> {
    match store
        .get(&ResourceKey::global(Kind::Node, want.node.as_str()))
        .await
    {
        Ok(r) => Ok(r.metadata().labels.clone()),
        Err(StoreError::NotFound(_)) => Ok(BTreeMap::new()),
        Err(e) => Err(e),
    }
}
