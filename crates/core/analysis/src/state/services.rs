//! Services of manifests: addresses that stand for pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use caracal_api::{Foreign, IntOrString, Object, WorkloadEndpointSpec};
use caracal_net::{Cidr, Proto};
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};

use super::{DEFAULT, Resource, State};

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
    /// The labels of the pods behind it; nobody is behind a service without.
    pub selector: BTreeMap<String, String>,
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

impl State {
    pub(super) fn take_service(&mut self, foreign: &Foreign, origin: &str) -> Result<(), String> {
        let namespace = foreign.metadata.namespace.as_deref().unwrap_or(DEFAULT);
        let what = format!("Service {namespace}/{}", foreign.metadata.name);
        let service: caracal_convert::Service =
            caracal_convert::read_loosely(foreign).map_err(|e| format!("{what}: {e}"))?;
        let spec = service.spec;
        let known = |s: &&Service| s.namespace == namespace && s.name == foreign.metadata.name;
        if self.services.iter().any(|s| known(&s)) {
            return Err(format!("{what}: it is given twice ({origin})"));
        }
        let mut addresses = Vec::new();
        let texts = [spec.cluster_ip]
            .into_iter()
            .chain(spec.cluster_ips)
            .chain(spec.external_ips);
        for text in texts.filter(|t| !t.is_empty() && t != "None") {
            let address: IpAddr = text
                .parse()
                .map_err(|_| format!("{what}: {text:?} is not an address"))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut ports = Vec::new();
        for (n, p) in spec.ports.into_iter().enumerate() {
            let text = if p.protocol.is_empty() { "TCP" } else { &p.protocol };
            let proto = Proto::parse(text).filter(|p| p.has_ports());
            let target = match p.target_port {
                None | Some(IntOrString::Int(0)) => Some(Target::Number(p.port)),
                Some(IntOrString::Int(number)) => u16::try_from(number).ok().map(Target::Number),
                Some(IntOrString::String(name)) => Some(Target::Name(name)),
            };
            let (Some(proto), Some(target)) = (proto, target) else {
                return Err(format!(
                    "{what}: spec.ports[{n}]: TCP, UDP and SCTP are allowed, and ports from 1 to 65535"
                ));
            };
            ports.push(ServicePort {
                name: p.name,
                proto,
                port: p.port,
                target,
            });
        }
        self.services.push(Service {
            namespace: namespace.to_owned(),
            name: foreign.metadata.name.clone(),
            addresses,
            ports,
            selector: spec.selector,
        });
        Ok(())
    }

    /// The services, as they were read.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The pods behind a service.
    #[must_use]
    pub fn behind(&self, service: &Service) -> Vec<&Object<WorkloadEndpointSpec>> {
        let fits = |w: &Object<WorkloadEndpointSpec>| {
            let labels = &w.metadata.labels;
            w.metadata.namespace.as_deref() == Some(&service.namespace)
                && !service.selector.is_empty()
                && service.selector.iter().all(|(k, v)| labels.get(k) == Some(v))
        };
        let all = self.objects().filter_map(|o| match o {
            Resource::WorkloadEndpoint(w) => Some(&**w),
            _ => None,
        });
        all.filter(|w| fits(w)).collect()
    }

    /// The endpoints of services, as a cluster would tell the engine of them: for rules that name a service.
    #[must_use]
    pub fn slices(&self) -> Vec<SliceUpdate> {
        let mut slices = Vec::new();
        for service in &self.services {
            for pod in self.behind(service) {
                let ports = service.ports.iter().filter_map(|p| {
                    Some(SlicePort {
                        proto: p.proto,
                        port: p.of_pod(pod)?,
                    })
                });
                let nets = pod.spec.ip_networks.iter().filter_map(|t| t.parse::<Cidr>().ok());
                slices.push(SliceUpdate {
                    key: SliceKey {
                        namespace: service.namespace.as_str().into(),
                        name: format!("{} of {}", pod.metadata.name, service.name).into(),
                    },
                    value: Some(Arc::new(EndpointSlice {
                        service: service.name.as_str().into(),
                        addresses: nets.map(|c| c.addr()).collect(),
                        ports: ports.collect(),
                    })),
                });
            }
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
