//! Who sends and who receives.

use std::net::IpAddr;

use caracal_analysis::endpoint_name;
use caracal_api::{HostEndpointSpec, Kind, Object, WorkloadEndpointSpec, nearest};
use caracal_ids::WorkloadId;
use caracal_net::{Cidr, Proto};

use crate::failure::Failure;
use crate::world::{World, addresses_of, id_of, interface_of};

/// One end of the packet's way.
#[derive(Debug, Clone)]
pub(super) struct Party {
    /// What people call it.
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) addresses: Vec<IpAddr>,
    /// Named ports.
    ports: Vec<(String, Proto, u16)>,
}

/// What it is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A workload on a node.
    Workload(WorkloadId, String),
    /// A node, by the interface that a host endpoint is about if there is one.
    Host { node: String, interface: Option<String> },
    /// Somebody that no object tells of.
    Outside,
}

impl Place {
    /// The node, for those on one.
    pub(super) fn node(&self) -> Option<&str> {
        match self {
            Self::Workload(_, node) | Self::Host { node, .. } => Some(node),
            Self::Outside => None,
        }
    }
}

impl Party {
    pub(super) fn kind(&self) -> &'static str {
        match self.place {
            Place::Workload(..) => "pod",
            Place::Host { .. } => "host",
            Place::Outside => "outside",
        }
    }

    /// The number of a port that it has under a name.
    pub(super) fn named_port(&self, proto: Option<Proto>, name: &str) -> Result<(Proto, u16), Failure> {
        let fits = |p: &&(String, Proto, u16)| p.0 == name && proto.is_none_or(|want| want == p.1);
        let mut found = self.ports.iter().filter(fits);
        if let (Some(port), None) = (found.next(), found.next()) {
            return Ok((port.1, port.2));
        }
        let known: Vec<String> = self
            .ports
            .iter()
            .map(|(n, proto, port)| format!("{n} ({port}/{proto})"))
            .collect();
        let known = if known.is_empty() {
            "no named ports".to_owned()
        } else {
            known.join(", ")
        };
        Err(Failure::input(format!(
            "{} has not one port {name:?}: it has {known}; a number with a protocol is 8080/tcp",
            self.name
        )))
    }

    pub(super) fn of_workload(w: &Object<WorkloadEndpointSpec>) -> Self {
        let port = |p: &caracal_api::WorkloadPort| Some((p.name.clone(), p.protocol.proto()?, p.port));
        Self {
            name: endpoint_name(w),
            place: Place::Workload(id_of(w), w.spec.node.clone()),
            addresses: addresses_of(w).collect(),
            ports: w.spec.ports.iter().filter_map(port).collect(),
        }
    }

    fn of_host(world: &World, h: &Object<HostEndpointSpec>) -> Self {
        let mut addresses: Vec<IpAddr> = h
            .spec
            .expected_ips
            .iter()
            .filter_map(|t| t.parse().ok())
            .collect();
        if addresses.is_empty() {
            addresses = world.node_addresses(&h.spec.node);
        }
        let port = |p: &caracal_api::EndpointPort| Some((p.name.clone(), p.protocol.proto()?, p.port));
        Self {
            name: h.metadata.name.clone(),
            place: Place::Host {
                node: h.spec.node.clone(),
                interface: Some(interface_of(h)),
            },
            addresses,
            ports: h.spec.ports.iter().filter_map(port).collect(),
        }
    }

    fn of_node(world: &World, node: &str) -> Self {
        Self {
            name: format!("node {node}"),
            place: Place::Host {
                node: node.to_owned(),
                interface: None,
            },
            addresses: world.node_addresses(node),
            ports: Vec::new(),
        }
    }
}

/// Whether a pod, host endpoint or node has the name.
pub(super) fn is_known(world: &World, name: &str, namespace: &str) -> bool {
    find(world, name, namespace).is_ok()
}

/// Finds who is meant.
pub(super) fn find(world: &World, text: &str, namespace: &str) -> Result<Party, Failure> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(by_address(world, address));
    }
    if text.parse::<Cidr>().is_ok() && text.contains('/') {
        return Err(Failure::input(format!(
            "{text} is a range: ask about one address of it"
        )));
    }
    let (only, name) = match text.split_once(':') {
        Some((kind @ ("pod" | "hep" | "node"), name)) => (Some(kind), name),
        _ => (None, text),
    };
    let wanted = |kind: &str| only.is_none_or(|o| o == kind);
    let mut found: Vec<(&str, Party)> = Vec::new();
    if wanted("pod") {
        let full = if name.contains('/') {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        };
        let named = world.workloads().filter(|w| {
            let object = format!(
                "{}/{}",
                w.metadata.namespace.as_deref().unwrap_or_default(),
                w.metadata.name
            );
            endpoint_name(w) == full || object == full
        });
        found.extend(named.map(|w| ("pod", Party::of_workload(w))));
    }
    if wanted("hep") {
        let named = world.hosts().filter(|h| h.metadata.name == name);
        found.extend(named.map(|h| ("hep", Party::of_host(world, h))));
    }
    // A node is asked for only if no endpoint has the name: mostly its host endpoint is what is meant.
    if wanted("node") && found.is_empty() {
        let is_node = world
            .objects()
            .any(|o| o.kind() == Kind::Node && o.metadata().name == name);
        found.extend(is_node.then(|| ("node", Party::of_node(world, name))));
    }
    match found.len() {
        1 => {}
        0 => return Err(unknown(world, name, namespace)),
        _ => {
            let all: Vec<String> = found
                .iter()
                .map(|(kind, p)| format!("{kind}:{}", p.name))
                .collect();
            return Err(Failure::input(format!(
                "{text:?} can be {}: say which, or give its address",
                all.join(" or ")
            )));
        }
    }
    let (_, party) = found.remove(0);
    if party.addresses.is_empty() {
        return Err(Failure::input(format!(
            "{} has no address yet; a host endpoint says it in spec.expectedIPs, a node in spec.bgp",
            party.name
        )));
    }
    Ok(party)
}

fn by_address(world: &World, address: IpAddr) -> Party {
    if let Some(w) = world.workloads().find(|w| addresses_of(w).any(|a| a == address)) {
        return Party {
            addresses: vec![address],
            ..Party::of_workload(w)
        };
    }
    let of_host = world
        .hosts()
        .map(|h| Party::of_host(world, h))
        .find(|p| p.addresses.contains(&address));
    if let Some(party) = of_host {
        return Party {
            addresses: vec![address],
            ..party
        };
    }
    let mut nodes = world
        .objects()
        .filter(|o| o.kind() == Kind::Node)
        .map(|o| &o.metadata().name);
    if let Some(node) = nodes.find(|n| world.node_addresses(n).contains(&address)) {
        return Party {
            addresses: vec![address],
            ..Party::of_node(world, node)
        };
    }
    Party {
        name: address.to_string(),
        place: Place::Outside,
        addresses: vec![address],
        ports: Vec::new(),
    }
}

fn unknown(world: &World, name: &str, namespace: &str) -> Failure {
    let full = if name.contains('/') {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    };
    let pods: Vec<String> = world.workloads().map(endpoint_name).collect();
    let hosts = world.hosts().map(|h| h.metadata.name.as_str());
    let all = pods.iter().map(String::as_str).chain(hosts);
    let elsewhere = pods
        .iter()
        .find(|p| !name.contains('/') && p.ends_with(&format!("/{name}")));
    let near = elsewhere.map(String::as_str).or_else(|| nearest(&full, all));
    let near = near.map(|n| format!("; there is {n}")).unwrap_or_default();
    Failure::input(format!(
        "there is no pod {full}, and no host endpoint or node {name:?}{near}"
    ))
}
