use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{
    BlockAffinitySpec, IpReservationSpec, IpamBlockSpec, IpamHandleSpec, Kind, Object, Resource, ResourceKey,
    Spec,
};
use caracal_ipam_plan::{Holder, Observed, cidr_of_block_name};
use caracal_net::{Cidr, Family};
use caracal_store::{ListOptions, Store, StoreError};
use futures::future::join_all;

use crate::{
    error::{IpamError, doing},
    ipam::Ipam,
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

/// Objects of a kind, and the keys of those that cannot be read with the reason.
pub(crate) struct Listed<S: Spec> {
    pub(crate) items: Vec<Object<S>>,
    pub(crate) malformed: Vec<(ResourceKey, String)>,
}

/// Lists objects of a kind.
pub(crate) async fn list<S: Spec>(store: &dyn Store, prefix: Option<String>) -> Result<Listed<S>, StoreError>
where
    Object<S>: TryFrom<Resource>,
{
    let options = ListOptions {
        name_prefix: prefix,
        ..ListOptions::default()
    };
    let page = store.list_all(S::KIND, &options).await?;
    let named = |e: StoreError| match e {
        StoreError::Malformed { key, reason } => Some((key, reason.reason)),
        _ => None,
    };
    Ok(Listed {
        items: page
            .items
            .into_iter()
            .filter_map(|r| Object::<S>::try_from(r).ok())
            .collect(),
        malformed: page.malformed.into_iter().filter_map(named).collect(),
    })
}

/// The ranges of reservations. Host bits do not matter; what cannot be read is left to the check to name.
pub(crate) fn reserved(reservations: &[Object<IpReservationSpec>]) -> Vec<Cidr> {
    reservations
        .iter()
        .flat_map(|r| &r.spec.reserved_cidrs)
        .filter_map(|c| c.parse().ok())
        .collect()
}

/// Reads a block by its range.
pub(crate) async fn block(
    store: &dyn Store,
    cidr: &Cidr,
) -> Result<Option<Object<IpamBlockSpec>>, IpamError> {
    get(store, &IpamBlockSpec::object_name(cidr))
        .await
        .map_err(doing("reading an IPAM block"))
}

/// Reads the handles that exist.
pub(crate) async fn handles(
    store: &dyn Store,
    names: impl IntoIterator<Item = &String>,
) -> Result<BTreeMap<String, Object<IpamHandleSpec>>, IpamError> {
    let read = |name: &String| {
        let name = name.clone();
        async move {
            get::<IpamHandleSpec>(store, &name)
                .await
                .map(|h| h.map(|h| (name, h)))
        }
    };
    join_all(names.into_iter().map(read))
        .await
        .into_iter()
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()
        .map_err(doing("reading an IPAM handle"))
}

impl Ipam {
    /// What does not change often: pools, reservations, configuration and the node's labels.
    pub(crate) async fn observe_settings(&self, holder: &Holder) -> Result<Observed, IpamError> {
        let store = self.store();
        let (pools, reservations, config, labels) = tokio::join!(
            list(store, None),
            list::<IpReservationSpec>(store, None),
            self.config(),
            node_labels(store, holder),
        );
        Ok(Observed {
            pools: pools.map_err(doing("reading the IP pools"))?.items,
            reserved: reserved(&reservations.map_err(doing("reading the IP reservations"))?.items),
            config: config?,
            node_labels: labels.map_err(doing("reading the node"))?,
            ..Observed::default()
        })
    }

    /// What is there at this moment: settings (those in `settings`, if they were read already), claims, blocks and handles.
    /// With `all` the claims and blocks of everybody.
    pub(crate) async fn observe(
        &self,
        holder: &Holder,
        settings: Option<Observed>,
        (families, names): (&BTreeSet<Family>, &BTreeSet<String>),
        all: bool,
    ) -> Result<Observed, IpamError> {
        let store = self.store();
        let prefix = (!all).then(|| holder.affinity_prefix());
        let settings = async {
            match settings {
                Some(s) => Ok(s),
                None => self.observe_settings(holder).await,
            }
        };
        let (seen, affinities, found) = tokio::join!(
            settings,
            list::<BlockAffinitySpec>(store, prefix),
            handles(store, names)
        );
        let mut seen = seen?;
        seen.affinities = affinities.map_err(doing("reading the block affinities"))?.items;
        seen.handles = found?;
        seen.all = all;
        seen.unreadable.clear();
        if all {
            let listed = list::<IpamBlockSpec>(store, None)
                .await
                .map_err(doing("reading all IPAM blocks"))?;
            let bad = listed
                .malformed
                .iter()
                .filter_map(|(k, _)| cidr_of_block_name(&k.name));
            seen.unreadable.extend(bad);
            seen.blocks = listed.items;
            return Ok(seen);
        }
        // The prefix also finds owners whose names begin alike.
        seen.affinities
            .retain(|a| Holder::of_affinity(&a.spec) == *holder);
        self.observe_own_blocks(&mut seen, families).await?;
        Ok(seen)
    }

    async fn observe_own_blocks(
        &self,
        seen: &mut Observed,
        families: &BTreeSet<Family>,
    ) -> Result<(), IpamError> {
        let cidrs = seen
            .affinities
            .iter()
            .filter_map(|a| a.spec.cidr.parse::<Cidr>().ok());
        let cidrs: BTreeSet<Cidr> = cidrs.filter(|c| families.contains(&c.family())).collect();
        let read = |c: Cidr| async move { (c, block(self.store(), &c).await) };
        seen.blocks.clear();
        for (cidr, result) in join_all(cidrs.into_iter().map(read)).await {
            match result {
                Ok(found) => seen.blocks.extend(found),
                Err(IpamError::Store {
                    source: StoreError::Malformed { reason, .. },
                    ..
                }) => {
                    tracing::warn!(block = %cidr, %reason, "an IPAM block cannot be read; it is left alone");
                    seen.unreadable.insert(cidr);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

async fn node_labels(store: &dyn Store, holder: &Holder) -> Result<BTreeMap<String, String>, StoreError> {
    let Holder::Host(node) = holder else {
        return Ok(BTreeMap::new());
    };
    match store.get(&ResourceKey::global(Kind::Node, node)).await {
        Ok(r) => Ok(r.metadata().labels.clone()),
        Err(StoreError::NotFound(_)) => Ok(BTreeMap::new()),
        Err(e) => Err(e),
    }
}
