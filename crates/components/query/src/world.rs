//! What the nodes of a cluster make of its objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use caracal_analysis::{State, endpoint_name};
use caracal_api::{HostEndpointSpec, Kind, Object, Resource, ResourceKey, WorkloadEndpointSpec};
use caracal_config::{EndpointToHost, FelixConfig, FelixObjects, ProtoPort, ServiceLoopPrevention, Sources};
use caracal_desired::Desired;
use caracal_ids::{NodeName, WorkloadId};
use caracal_net::{Cidr, Family, IfAddr};
use caracal_oracle::{FailsafePort, Host, OpenStack, ToHost};
use caracal_policy::Engine;
use caracal_update::Update;

use crate::failure::Failure;

/// The interface that a host's traffic with others takes, where no object says which.
pub(crate) const UPLINK: &str = "uplink";
/// How made-up names of interfaces begin that belong to a workload which the engine cannot use: they are closed.
pub(crate) const UNKNOWN: &str = "unknown ";

/// The objects, found by key.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) by_key: BTreeMap<ResourceKey, Arc<Resource>>,
}

/// What one node has.
pub(crate) struct Node {
    pub(crate) desired: Desired,
    pub(crate) host: Host,
}

impl World {
    pub(crate) fn new(state: State) -> Self {
        let by_key = state
            .objects()
            .map(|o| (o.key(), Arc::new(nameable(o))))
            .collect();
        Self { state, by_key }
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Resource> {
        self.by_key.values().map(AsRef::as_ref)
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Object<WorkloadEndpointSpec>> {
        self.objects().filter_map(|o| match o {
            Resource::WorkloadEndpoint(w) => Some(&**w),
            _ => None,
        })
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Object<HostEndpointSpec>> {
        self.objects().filter_map(|o| match o {
            Resource::HostEndpoint(h) => Some(&**h),
            _ => None,
        })
    }

    /// The addresses of a node that it says itself.
    pub(crate) fn node_addresses(&self, node: &str) -> Vec<IpAddr> {
        let found = self.by_key.get(&ResourceKey::global(Kind::Node, node));
        let Some(Resource::Node(n)) = found.map(AsRef::as_ref) else {
            return Vec::new();
        };
        let bgp = n.spec.bgp.iter().flat_map(|b| [&b.ipv4_address, &b.ipv6_address]);
        let own = bgp.filter_map(|t| t.parse::<IfAddr>().ok()).map(|a| a.addr);
        let listed = n.spec.addresses.iter().filter_map(|a| a.address.parse().ok());
        own.chain(listed)
            .collect::<BTreeSet<IpAddr>>()
            .into_iter()
            .collect()
    }

    /// The device that puts packets to the address of another node's workload into packets between the nodes, if they are.
    pub(crate) fn tunnel(&self, to: IpAddr) -> Option<&'static str> {
        let on = |m: Option<caracal_api::EncapMode>| m.unwrap_or_default() != caracal_api::EncapMode::Never;
        self.objects().find_map(|o| match o {
            Resource::IpPool(p) if p.spec.cidr.parse::<Cidr>().is_ok_and(|c| c.contains(to)) => {
                match Family::of(to) {
                    Family::V4 if on(p.spec.ipip_mode) => Some("tunl0"),
                    Family::V4 if on(p.spec.vxlan_mode) => Some("vxlan.calico"),
                    Family::V6 if on(p.spec.vxlan_mode) => Some("vxlan-v6.calico"),
                    _ => None,
                }
            }
            _ => None,
        })
    }

    /// Calculates a node as its agent does.
    pub(crate) fn node(&self, name: &str) -> Result<Node, Failure> {
        let bad = |e| Failure::input(format!("node {name:?}: {e}"));
        let mut engine = Engine::new(NodeName::new(name).map_err(bad)?);
        for (key, value) in &self.by_key {
            engine.apply(&Update {
                key: key.clone(),
                value: Some(value.clone()),
            });
        }
        for slice in self.state.slices() {
            engine.apply_slice(&slice);
        }
        let mut desired = Desired::default();
        desired.apply_all(engine.flush());
        let config = self.config(name);
        let ports = |list: &[ProtoPort]| list.iter().map(failsafe).collect();
        let host = Host {
            interfaces: self.interfaces(name),
            // The oracle needs to know workloads from others, not how the agent tells them apart.
            workload_prefixes: desired
                .workloads
                .values()
                .map(|w| w.interface.to_string())
                .chain([UNKNOWN.to_owned()])
                .collect(),
            failsafe_in: ports(&config.failsafe_inbound),
            failsafe_out: ports(&config.failsafe_outbound),
            to_host: match config.default_endpoint_to_host_action {
                EndpointToHost::Drop => ToHost::Drop,
                EndpointToHost::Accept => ToHost::Accept,
                EndpointToHost::Return => ToHost::Return,
            },
            bears_invalid: config.disable_conntrack_invalid_check,
            source_spoofing: config.workload_source_spoofing,
            bears_service_loops: config.service_loop_prevention == ServiceLoopPrevention::Disabled,
            openstack: config.openstack.then_some(OpenStack {
                metadata: config.metadata,
            }),
        };
        Ok(Node { desired, host })
    }

    /// The parameters of a node's agent as the FelixConfigurations have them.
    fn config(&self, node: &str) -> FelixConfig {
        let objects: FelixObjects = self
            .objects()
            .filter_map(|o| match o {
                Resource::FelixConfiguration(o) => Some((**o).clone()),
                _ => None,
            })
            .collect();
        let found = self.by_key.get(&ResourceKey::global(Kind::Node, node));
        let labels = found.map(|n| n.metadata().labels.clone()).unwrap_or_default();
        let mut sources = Sources::default();
        objects.lay(node, &labels, &mut sources);
        let cluster = ResourceKey::global(Kind::ClusterInformation, "default");
        let cluster_type = match self.by_key.get(&cluster).map(AsRef::as_ref) {
            Some(Resource::ClusterInformation(o)) => o.spec.cluster_type.as_str(),
            _ => "",
        };
        FelixConfig::new(&caracal_config::resolve(&sources)).in_cluster(cluster_type)
    }

    /// The interfaces of a node that host endpoints tell of; at least one.
    fn interfaces(&self, node: &str) -> BTreeMap<String, BTreeSet<IpAddr>> {
        let mut all: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for host in self.hosts().filter(|h| h.spec.node == node) {
            let known = host
                .spec
                .expected_ips
                .iter()
                .filter_map(|t| t.parse::<IpAddr>().ok());
            all.entry(interface_of(host)).or_default().extend(known);
        }
        all.entry(UPLINK.to_owned())
            .or_default()
            .extend(self.node_addresses(node));
        all
    }

    /// The interface by which a node reaches what is not on it.
    pub(crate) fn uplink(&self, node: &str) -> String {
        let own = self.node_addresses(node);
        let fits = |h: &&Object<HostEndpointSpec>| {
            let mut expected = h
                .spec
                .expected_ips
                .iter()
                .filter_map(|t| t.parse::<IpAddr>().ok());
            own.is_empty() || h.spec.expected_ips.is_empty() || expected.any(|a| own.contains(&a))
        };
        let mut here = self
            .hosts()
            .filter(|h| h.spec.node == node && h.spec.interface_name != "*");
        here.find(fits).map_or_else(|| UPLINK.to_owned(), interface_of)
    }
}

/// The interface that a host endpoint is about; a made-up name where it is found by address.
pub(crate) fn interface_of(host: &Object<HostEndpointSpec>) -> String {
    match host.spec.interface_name.as_str() {
        "" | "*" => format!("of {}", host.metadata.name),
        name => name.to_owned(),
    }
}

fn failsafe(port: &ProtoPort) -> FailsafePort {
    FailsafePort {
        proto: port.protocol,
        port: port.port,
        net: port.net,
    }
}

/// The object; a workload that has no interface yet gets a name for it, without which it would not be an endpoint.
fn nameable(object: &Resource) -> Resource {
    let mut object = object.clone();
    if let Resource::WorkloadEndpoint(w) = &mut object
        && w.spec.interface_name.is_empty()
    {
        w.spec.interface_name = format!("of {}", endpoint_name(w));
    }
    object
}

/// The identity of a workload.
pub(crate) fn id_of(workload: &Object<WorkloadEndpointSpec>) -> WorkloadId {
    WorkloadId::new(
        workload.metadata.namespace.as_deref().unwrap_or_default(),
        &workload.metadata.name,
    )
}

/// The addresses of a workload.
pub(crate) fn addresses_of(workload: &Object<WorkloadEndpointSpec>) -> impl Iterator<Item = IpAddr> + '_ {
    let nets = workload.spec.ip_networks.iter();
    nets.filter_map(|t| t.parse::<Cidr>().ok()).map(|c| c.addr())
}

/// The first address of a family.
pub(crate) fn first(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|a| Family::of(*a) == family)
}
