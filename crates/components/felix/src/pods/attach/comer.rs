//! What the plugin says of a new container.

use std::{collections::BTreeMap, sync::Arc};

use caracal_agent_api::v1::AttachRequest;
use caracal_api::{IpPoolAllowedUse, Kind, Object, Resource, ResourceKey, WorkloadEndpointSpec};
use caracal_ids::{NodeName, WorkloadId};
use caracal_ipam::Assign;
use caracal_ipam_plan::Owner;
use caracal_net::{Cidr, Family, IfAddr};
use caracal_store::Write;

use super::super::arrivals::{Arrival, Arrivals};

/// A new container.
#[derive(Debug)]
pub(in super::super) struct Comer {
    pub(in super::super) arrival: Arrival,
    pub(in super::super) id: WorkloadId,
    pub(in super::super) container: String,
    pub(super) key: ResourceKey,
    endpoint: Object<WorkloadEndpointSpec>,
    pub(super) handle: String,
    pub(super) wants: Vec<Assign>,
    pub(super) profile: Option<ResourceKey>,
    pub(super) new_profile: Option<Resource>,
}

impl Comer {
    /// Reads what the plugin says.
    pub(in super::super) fn read(
        r: AttachRequest,
        node: &NodeName,
        arrivals: &Arc<Arrivals>,
    ) -> Result<Self, String> {
        let wrong = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
        let parse = |kind: Kind, text: &[u8], what: &str| -> Result<Resource, String> {
            let value = serde_json::from_slice(text).map_err(|e| wrong(what, &e))?;
            Resource::from_value(kind, value).map_err(|e| wrong(what, &e))
        };
        let resource = parse(Kind::WorkloadEndpoint, &r.endpoint, "endpoint")?;
        let key = resource.key();
        let endpoint: Object<WorkloadEndpointSpec> = resource
            .try_into()
            .map_err(|_| "endpoint: it is none".to_owned())?;
        if endpoint.spec.node != node.as_str() || endpoint.spec.container_id.is_empty() {
            return Err("endpoint: it is not of this node or names no container".to_owned());
        }
        let new_profile = match r.new_profile.is_empty() {
            true => None,
            false => Some(parse(Kind::Profile, &r.new_profile, "new_profile")?),
        };
        let families = [
            (Family::V4, r.ipv4, r.ipv4_pools),
            (Family::V6, r.ipv6, r.ipv6_pools),
        ];
        let owner = Owner {
            handle: r.handle.clone(),
            attributes: r.attributes.into_iter().collect(),
        };
        let wants = families.into_iter().filter(|(_, wanted, _)| *wanted);
        let wants: Vec<Assign> = wants
            .map(|(family, _, pools)| Assign {
                node: node.clone(),
                family,
                count: 1,
                owner: owner.clone(),
                pools,
                usage: IpPoolAllowedUse::Workload,
                namespace_labels: BTreeMap::new(),
            })
            .collect();
        if wants.is_empty() == endpoint.spec.ip_networks.is_empty() {
            return Err("endpoint: it has addresses, or some are to be assigned".to_owned());
        }
        Ok(Self {
            arrival: arrivals.enter(&endpoint.spec.container_id),
            id: WorkloadId::new(&key.namespace, &key.name),
            container: endpoint.spec.container_id.clone(),
            key,
            endpoint,
            handle: r.handle,
            wants,
            profile: Some(r.profile)
                .filter(|p| !p.is_empty())
                .map(|p| ResourceKey::global(Kind::Profile, &p)),
            new_profile,
        })
    }

    pub(super) fn endpoint(&self, addresses: &[IfAddr], revision: Option<String>) -> Write {
        let mut object = self.endpoint.clone();
        if !self.wants.is_empty() {
            let mut own = addresses.to_vec();
            own.sort_by_key(|a| a.addr.is_ipv6());
            object.spec.ip_networks = own.iter().map(|a| Cidr::host(a.addr).to_string()).collect();
        }
        object.metadata.resource_version = revision;
        Write::put(object.into())
    }
}
