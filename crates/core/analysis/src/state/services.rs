//! Services: addresses that stand for pods.

use std::net::IpAddr;

use caracal_api::{
    IntOrString, Kind, KubernetesServicePort, KubernetesServiceSpec, Object, ResourceKey,
    WorkloadEndpointSpec,
};
use caracal_convert::{Behind, LABEL_SERVICE, endpoint_slice, endpoint_slices, selects};
use caracal_net::{Cidr, Proto};
use caracal_update::{SliceKey, SliceUpdate};

use super::{Resource, State};

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is reached; none of a headless one, whose pods are asked themselves.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    object: Object<KubernetesServiceSpec>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub proto: Proto,
    /// The port at the service's address.
    pub port: u16,
    /// The port of the pods.
    pub target: Target,
}

/// A port of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The same of each.
    Number(u16),
    /// The one that each has under this name.
    Name(String),
}

impl ServicePort {
    fn of(port: &KubernetesServicePort) -> Option<Self> {
        let text = if port.protocol.is_empty() {
            "TCP"
        } else {
            &port.protocol
        };
        Some(Self {
            name: port.name.clone(),
            proto: Proto::parse(text).filter(|p| p.has_ports())?,
            port: port.port,
            target: match &port.target_port {
                None | Some(IntOrString::Int(0)) => Target::Number(port.port),
                Some(IntOrString::Int(number)) => Target::Number(u16::try_from(*number).ok()?),
                Some(IntOrString::String(name)) => Target::Name(name.clone()),
            },
        })
    }

    /// The port of one pod, if it has it.
    #[must_use]
    pub fn of_pod(&self, pod: &Object<WorkloadEndpointSpec>) -> Option<u16> {
        match &self.target {
            Target::Number(n) => Some(*n),
            Target::Name(name) => {
                let mut ports = pod.spec.ports.iter();
                ports
                    .find(|p| p.name == *name && p.protocol.proto() == Some(self.proto))
                    .map(|p| p.port)
            }
        }
    }
}

impl Service {
    /// What can be used of it.
    fn of(object: &Object<KubernetesServiceSpec>) -> Self {
        let spec = &object.spec;
        let own = [&spec.cluster_ip].into_iter().chain(&spec.cluster_ips);
        let texts = own.chain(&spec.external_ips);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in texts.filter_map(|t| t.parse().ok()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone(),
            addresses,
            ports: spec.ports.iter().filter_map(ServicePort::of).collect(),
            object: object.clone(),
        }
    }
}

/// The service that a slice is of.
fn of_slice(key: &ResourceKey, object: &Resource) -> Option<ResourceKey> {
    let Resource::KubernetesEndpointSlice(slice) = object else {
        return None;
    };
    let service = slice.metadata.labels.get(LABEL_SERVICE)?;
    Some(ResourceKey::of(Kind::KubernetesService, key.namespace(), service))
}

impl State {
    /// The services, in order of their names.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let all = self.objects().filter_map(|o| match o {
            Resource::KubernetesService(s) => Some(Service::of(s)),
            _ => None,
        });
        all.collect()
    }

    /// The pods behind a service.
    #[must_use]
    pub fn behind(&self, service: &Service) -> Vec<&Object<WorkloadEndpointSpec>> {
        let fits = |w: &Object<WorkloadEndpointSpec>| {
            let namespace = w.metadata.namespace.as_deref().unwrap_or_default();
            selects(&service.object, namespace, &w.metadata.labels)
        };
        self.workloads().filter(|w| fits(w)).collect()
    }

    fn workloads(&self) -> impl Iterator<Item = &Object<WorkloadEndpointSpec>> {
        self.objects().filter_map(|o| match o {
            Resource::WorkloadEndpoint(w) => Some(&**w),
            _ => None,
        })
    }

    /// Slices of services that `other` brings anew are made anew: what a controller wrote was about those of before.
    pub(super) fn forget_slices(&mut self, other: &Self) {
        let replaced = |key: &ResourceKey, object: &Resource| {
            of_slice(key, object).is_some_and(|s| other.origins.contains_key(&s))
        };
        self.objects.retain(|key, object| !replaced(key, object));
    }

    /// The endpoints of services that are known from manifests, as a cluster's controller would tell of them: for rules that
    /// name a service. Those of services in a datastore are objects there.
    #[must_use]
    pub fn slices(&self) -> Vec<SliceUpdate> {
        let written: Vec<ResourceKey> = self
            .objects
            .iter()
            .filter_map(|(key, object)| of_slice(key, object))
            .collect();
        let services = self.objects.iter().filter_map(|(key, object)| match &**object {
            Resource::KubernetesService(s) => Some((key, s)),
            _ => None,
        });
        let mut services = services
            .filter(|(key, _)| self.origins.contains_key(*key) && !written.contains(key))
            .peekable();
        if services.peek().is_none() {
            return Vec::new();
        }
        let pods: Vec<(Vec<IpAddr>, &Object<WorkloadEndpointSpec>)> = self
            .workloads()
            .map(|w| {
                let nets = w.spec.ip_networks.iter().filter_map(|t| t.parse::<Cidr>().ok());
                (nets.map(|c| c.addr()).collect(), w)
            })
            .collect();
        let mut slices = Vec::new();
        for (_, service) in services {
            let pods = pods.iter().map(|(addresses, pod)| Behind {
                namespace: pod.metadata.namespace.as_deref().unwrap_or_default(),
                labels: &pod.metadata.labels,
                node: &pod.spec.node,
                addresses,
                ports: &pod.spec.ports,
            });
            slices.extend(endpoint_slices(service, pods, "manifests").iter().map(|slice| {
                let update = endpoint_slice(slice).object;
                // No object has such a name.
                let name = format!("of {}: {}", service.metadata.name, update.key.name);
                SliceUpdate {
                    key: SliceKey {
                        name: name.into(),
                        ..update.key
                    },
                    ..update
                }
            }));
        }
        slices
    }

    /// The changes of services' endpoints that lead from `self` to `next`.
    pub(crate) fn slice_changes(&self, next: &Self) -> Vec<SliceUpdate> {
        let (old, new) = (self.slices(), next.slices());
        let gone = |s: &&SliceUpdate| !new.iter().any(|n| n.key == s.key);
        let gone = old.iter().filter(gone).map(|s| SliceUpdate {
            key: s.key.clone(),
            value: None,
        });
        gone.chain(new.iter().filter(|s| !old.contains(s)).cloned())
            .collect()
    }
}
