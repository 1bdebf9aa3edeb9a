use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use caracal_api::{
    BlockAffinitySpec, IpReservationSpec, IpamBlockSpec, IpamHandleSpec, Kind, Object, Resource, ResourceKey,
    Spec,
};
use caracal_ipam_plan::{Holder, Observed, cidr_of_block_name};
use caracal_net::{Cidr, Family};
use caracal_store::{ListOptions, Page, Store, StoreError};
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
    Ok(listed(store.list_all(S::KIND, &options).await?))
}

impl<S: Spec> Default for Listed<S> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            malformed: Vec::new(),
        }
    }
}

/// What a datastore listed. Of a reservation that cannot be read the ranges that can be are among the items, too; nothing
/// else that stands in for an object may be planned with.
pub(crate) fn listed<S: Spec>(page: Page) -> Listed<S>
where
    Object<S>: TryFrom<Resource>,
{
    let typed = |r: Resource| Object::<S>::try_from(r).ok();
    let mut items: Vec<_> = page.items.into_iter().filter_map(typed).collect();
    let mut malformed = Vec::new();
    for e in page.malformed {
        let StoreError::Malformed { key, reason } = e else {
            continue;
        };
        if S::KIND == Kind::IpReservation {
            items.extend(reason.stand_in.and_then(|rest| typed(Resource::clone(&rest))));
        }
        malformed.push((key, reason.reason));
    }
    Listed { items, malformed }
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
    /// The ranges of reservations. Host bits do not matter; what cannot be read is told once, and by the check.
    pub(crate) fn reserved(&self, found: &Listed<IpReservationSpec>) -> Vec<Cidr> {
        let whole = found.malformed.iter().map(|(key, why)| {
            format!("{key} cannot be read: {why}; only the ranges in it that can be read stay reserved")
        });
        let mut slips: BTreeSet<String> = whole.collect();
        let mut ranges = Vec::new();
        for r in &found.items {
            for text in &r.spec.reserved_cidrs {
                match text.parse() {
                    Ok(range) => ranges.push(range),
                    Err(e) => drop(slips.insert(format!(
                        "{}: reservedCIDRs: {text:?} reserves nothing: {e}",
                        r.key()
                    ))),
                }
            }
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for slip in slips.difference(&told) {
            tracing::warn!("{slip}; put it right with `calicoctl replace`");
        }
        *told = slips;
        ranges
    }

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
            reserved: self.reserved(&reservations.map_err(doing("reading the IP reservations"))?),
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
