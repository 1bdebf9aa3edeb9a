//! Services as a destination: an address that stands for pods.

use std::net::IpAddr;

use caracal_analysis::{Service, ServicePort};
use caracal_net::{Family, Proto};

use super::party::{Party, is_known};
use super::traffic::Traffic;
use crate::failure::Failure;
use crate::world::World;

/// A service's port with the pods behind it.
#[derive(Debug)]
pub(super) struct Balanced {
    pub(super) service: String,
    pub(super) port: ServicePort,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pods: Vec<(Party, u16)>,
}

impl Balanced {
    /// What was translated into what.
    pub(super) fn remark(&self, to: IpAddr, port: u16) -> String {
        let of = match self.pods.len() {
            1 => "the only pod behind it".to_owned(),
            n => format!("one of {n} pods behind it"),
        };
        let (service, at) = (&self.service, &self.port);
        let to = std::net::SocketAddr::new(to, port);
        match self.original(Family::of(to.ip())) {
            Some((address, _)) => {
                let from = std::net::SocketAddr::new(address, at.port);
                format!(
                    "service {service}: {from} ({}) is translated to {to}, {of}",
                    at.proto
                )
            }
            None => format!("service {service} has no address of its own: {to} is {of}"),
        }
    }

    /// Where the packet is sent before it is translated.
    pub(super) fn original(&self, family: Family) -> Option<(IpAddr, u16)> {
        let mut addresses = self.addresses.iter().copied();
        let address = addresses.find(|a| Family::of(*a) == family)?;
        Some((address, self.port.port))
    }
}

/// The service that is meant, if it is one.
pub(super) fn find(
    world: &World,
    text: &str,
    namespace: &str,
    traffic: &Traffic,
) -> Result<Option<Balanced>, Failure> {
    let services = world.state.services();
    let found = if let Ok(address) = text.parse::<IpAddr>() {
        services.iter().find(|s| s.addresses.contains(&address))
    } else {
        let (asked, name) = match text.strip_prefix("svc:") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let full = if name.contains('/') {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        };
        let named = services.iter().find(|s| title(s) == full);
        match named {
            None if asked => return Err(unknown(&services, &full)),
            // A pod, host endpoint or node of this name is what is meant unless it says `svc:`.
            Some(_) if !asked && is_known(world, name, namespace) => None,
            found => found,
        }
    };
    found.map(|s| balanced(world, s, traffic)).transpose()
}

fn title(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.name)
}

fn unknown(services: &[Service], full: &str) -> Failure {
    let names: Vec<String> = services.iter().map(title).collect();
    let known = if names.is_empty() {
        "neither manifests nor the datastore have one".to_owned()
    } else {
        format!("there is {}", names.join(", "))
    };
    Failure::input(format!("there is no service {full}: {known}"))
}

fn balanced(world: &World, service: &Service, traffic: &Traffic) -> Result<Balanced, Failure> {
    let title = title(service);
    let fits = |p: &&ServicePort| match traffic {
        Traffic::Port(proto, number) => (p.proto, p.port) == (*proto, *number),
        Traffic::Named(proto, name) => p.name == *name && proto.is_none_or(|want: Proto| want == p.proto),
        Traffic::Icmp(_) | Traffic::Other(_) => false,
    };
    let Some(port) = service.ports.iter().find(fits) else {
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|p| format!("{}/{} {}", p.port, p.proto, p.name).trim_end().to_owned())
            .collect();
        return Err(Failure::input(format!(
            "service {title} does not answer to this: its ports are {}",
            ports.join(", ")
        )));
    };
    let behind = world.state.behind(service).into_iter();
    let pods: Vec<(Party, u16)> = behind
        .filter_map(|w| Some((Party::of_workload(w), port.of_pod(w)?)))
        .filter(|(p, _)| !p.addresses.is_empty())
        .collect();
    if pods.is_empty() {
        return Err(Failure::input(format!(
            "service {title} has no pod behind port {}/{}: whoever asks it is refused",
            port.port, port.proto
        )));
    }
    Ok(Balanced {
        service: title,
        port: port.clone(),
        addresses: service.addresses.clone(),
        pods,
    })
}
