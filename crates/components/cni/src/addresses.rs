//! Addresses from our own IPAM, for the plugin and for `calico-ipam` alike.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use caracal_agent_api::v1::AttachRequest;
use caracal_api::{IpPoolAllowedUse, Kind, Object, ProfileSpec, ResourceKey};
use caracal_convert::{NAMESPACE_LABEL_PREFIX, namespace_profile};
use caracal_ipam::{Assign, Ipam};
use caracal_ipam_plan::Owner;
use caracal_net::{Family, IfAddr, PerFamily};
use caracal_store::{Store, StoreError};

use crate::{
    agent::Agent, annotations::Annotations, call::Call, env::Env, error::CniError, identity::Identity, lock,
    netconf::NetConf, plan::AddressSource,
};

/// The `type` of our own IPAM.
pub(crate) const CALICO_IPAM: &str = "calico-ipam";

/// What an assignment needs beside family or address.
#[derive(Debug)]
pub(crate) struct Assigner {
    ipam: Ipam,
    agent: Arc<Agent>,
    /// The datastore as the agent must see it.
    datastore: String,
    lock_file: String,
    base: Assign,
    pools: PerFamily<Vec<String>>,
}

impl Assigner {
    pub(crate) fn new(call: &Call<'_>, namespace_labels: BTreeMap<String, String>) -> Result<Self, CniError> {
        let (id, conf) = (&call.id, call.conf);
        let annotations = Annotations::of(conf);
        let pools = |family, otherwise: &Vec<String>| -> Result<Vec<String>, CniError> {
            Ok(annotations.pools(family)?.unwrap_or_else(|| otherwise.clone()))
        };
        let pools = PerFamily {
            v4: pools(Family::V4, &conf.ipam.ipv4_pools)?,
            v6: pools(Family::V6, &conf.ipam.ipv6_pools)?,
        };
        let base = Assign {
            node: id.node.clone(),
            family: Family::V4,
            count: 1,
            owner: Owner {
                handle: id.handle(),
                attributes: id.attributes(caracal_store::now()),
            },
            pools: Vec::new(),
            usage: IpPoolAllowedUse::Workload,
            namespace_labels,
        };
        Ok(Self {
            ipam: Ipam::new(Arc::clone(&call.store)),
            agent: Arc::clone(&call.agent),
            datastore: call.store.describe(),
            lock_file: conf.ipam_lock_file.clone(),
            base,
            pools,
        })
    }

    /// What the agent is told of the addresses that are wanted.
    pub(crate) fn fill(&self, request: &mut AttachRequest, families: &PerFamily<bool>) {
        request.handle.clone_from(&self.base.owner.handle);
        request.attributes = self.base.owner.attributes.clone().into_iter().collect();
        (request.ipv4, request.ipv6) = (families.v4, families.v6);
        request.ipv4_pools.clone_from(&self.pools.v4);
        request.ipv6_pools.clone_from(&self.pools.v6);
    }

    fn want(&self, family: Family) -> Assign {
        Assign {
            family,
            pools: self.pools.get(family).clone(),
            ..self.base.clone()
        }
    }

    /// Asks the agent, which serves all who wait at this moment together; where there is none, the datastore.
    pub(crate) async fn assign(&self, family: Family) -> Result<Vec<IfAddr>, CniError> {
        if let Some(got) = self.agent.assign(&self.datastore, &self.want(family)) {
            return Ok(vec![got]);
        }
        let _lock = lock::take(&self.lock_file).await;
        self.ipam
            .assign(&self.want(family))
            .await
            .map_err(|e| CniError::ipam(&e))
    }

    pub(crate) async fn assign_address(&self, addr: IpAddr) -> Result<IfAddr, CniError> {
        let _lock = lock::take(&self.lock_file).await;
        self.ipam
            .assign_address(&self.want(Family::of(addr)), addr)
            .await
            .map_err(|e| CniError::ipam(&e))
    }

    pub(crate) async fn held(&self) -> Result<Vec<IfAddr>, CniError> {
        self.ipam
            .addresses_of(&self.base.owner.handle)
            .await
            .map_err(|e| CniError::ipam(&e))
    }

    /// Gives back what the handle holds beside `kept`.
    pub(crate) async fn release_but(&self, kept: &[IfAddr]) -> Result<(), CniError> {
        let handle = &self.base.owner.handle;
        if kept.is_empty() {
            return release(&self.ipam, handle).await;
        }
        let held = self.held().await?;
        for a in held.iter().filter(|h| !kept.contains(h)) {
            self.ipam
                .release_address(a.addr, Some(handle), None)
                .await
                .map_err(|e| CniError::ipam(&e))?;
        }
        Ok(())
    }
}

/// Gives back what a handle holds.
pub(crate) async fn release(ipam: &Ipam, handle: &str) -> Result<(), CniError> {
    let released = ipam
        .release_handle(handle)
        .await
        .map_err(|e| CniError::ipam(&e))?;
    if !released.is_empty() {
        tracing::info!(handle, ?released, "addresses given back");
    }
    Ok(())
}

/// What the interface may hold: by its own handle, and by the one of very old versions.
pub(crate) async fn release_all(store: &Arc<dyn Store>, id: &Identity) -> Result<(), CniError> {
    let ipam = Ipam::new(Arc::clone(store));
    let old = async {
        match id.old_handle() {
            Some(old) => release(&ipam, &old).await,
            None => Ok(()),
        }
    };
    let handle = id.handle();
    let (new, old) = tokio::join!(release(&ipam, &handle), old);
    new.and(old)
}

/// Where the configuration wants addresses from.
pub(crate) fn source(conf: &NetConf, env: &Env) -> Result<AddressSource, CniError> {
    let ipam = &conf.ipam;
    let annotations = Annotations::of(conf);
    if let Some(given) = annotations.ip_addrs_no_ipam(conf)? {
        return Ok(AddressSource::Given(given));
    }
    let asked = annotations.ip_addrs()?;
    match ipam.plugin_type.as_str() {
        CALICO_IPAM => {}
        "" => {
            return Err(CniError::config(
                "ipam.type",
                "it is missing: \"calico-ipam\", or the name of another IPAM plugin",
            ));
        }
        other if other.contains('/') => {
            return Err(CniError::config(
                "ipam.type",
                format!("{other:?} is a path, not a plugin's name"),
            ));
        }
        other if asked.is_some() => {
            let why = format!(
                "addresses are asked for by ipAddrs, and IPAM plugin {other:?} does not assign those"
            );
            return Err(CniError::config("args.cni.annotations", why));
        }
        other => return Ok(AddressSource::Delegate(other.to_owned())),
    }
    let mut requested = asked.unwrap_or_default();
    if requested.is_empty() {
        requested = env.requested_ips()?;
    }
    if requested.is_empty() {
        requested = conf.requested_ips()?;
    }
    let families = PerFamily {
        v4: ipam.assign_ipv4.unwrap_or(true),
        v6: ipam.assign_ipv6.unwrap_or(false),
    };
    if !families.v4 && !families.v6 && requested.is_empty() {
        return Err(CniError::config(
            "ipam.assign_ipv4",
            "neither assign_ipv4 nor assign_ipv6 is true: the pod would have no address",
        ));
    }
    Ok(AddressSource::Calico { families, requested })
}

/// The name of the workload's first profile.
pub(crate) fn profile_name(id: &Identity) -> String {
    match &id.pod {
        Some((namespace, _)) => namespace_profile(namespace),
        None => id.network.clone(),
    }
}

/// The workload's first profile: the namespace's, or the network's.
pub(crate) async fn profile(
    store: &dyn Store,
    id: &Identity,
) -> Result<Option<Object<ProfileSpec>>, CniError> {
    match store
        .get(&ResourceKey::global(Kind::Profile, &profile_name(id)))
        .await
    {
        Ok(r) => Ok(Object::try_from(r).ok()),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(CniError::store("reading the profile", &e)),
    }
}

/// The labels of the namespace, which its profile passes on.
pub(crate) fn namespace_labels(profile: Option<&Object<ProfileSpec>>) -> BTreeMap<String, String> {
    let labels = profile.into_iter().flat_map(|p| &p.spec.labels_to_apply);
    labels
        .filter_map(|(k, v)| Some((k.strip_prefix(NAMESPACE_LABEL_PREFIX)?.to_owned(), v.clone())))
        .collect()
}
