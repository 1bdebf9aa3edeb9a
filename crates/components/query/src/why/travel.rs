//! A packet's way past every endpoint: out of the sender's node, into the receiver's.

use std::net::IpAddr;

use caracal_desired::Desired;
use caracal_net::Family;
use caracal_oracle::{Host, Packet, Trip, Way};

use super::party::{Party, Place};
use super::service::Balanced;
use super::traffic::Traffic;
use crate::failure::Failure;
use crate::world::{Node, UNKNOWN, World, first};

/// A device of packets that are put into others; no host endpoint but `*` is about it.
pub(super) const TUNNEL: &str = "vxlan.calico";

/// A packet with the nodes it passes.
pub(super) struct Passage {
    pub(super) packet: Packet,
    pub(super) source: Party,
    pub(super) destination: Party,
    /// Node, what it has, and the packet's way through it.
    pub(super) nodes: Vec<(String, Node, Trip)>,
}

/// One passage per family that both sides have an address of.
pub(super) fn trips(
    world: &World,
    source: &Party,
    destination: &Party,
    traffic: &Traffic,
    families: &[Family],
    sport: u16,
    service: Option<&Balanced>,
) -> Result<Vec<Passage>, Failure> {
    let mut all = Vec::new();
    for family in families {
        let addresses = [source, destination].map(|p| first(&p.addresses, *family));
        if let [Some(src), Some(dst)] = addresses {
            let packet = traffic.packet(src, dst, sport, destination)?;
            let original = service.and_then(|s| s.original(*family));
            // A service without address of the family is not reached by it; a headless one has none at all.
            if service.is_some_and(|s| !s.addresses.is_empty()) && original.is_none() {
                continue;
            }
            all.push(passage(world, source, destination, packet, original)?);
        }
    }
    if all.is_empty() {
        let have = |p: &Party| {
            p.addresses
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        return Err(Failure::input(format!(
            "{} ({}) and {} ({}) have no addresses of one family{}",
            source.name,
            have(source),
            destination.name,
            have(destination),
            if families.len() == 1 {
                " that was asked for"
            } else {
                ""
            }
        )));
    }
    if source.place == Place::Outside && destination.place == Place::Outside {
        return Err(Failure::input(format!(
            "neither {} nor {} belongs to an endpoint: no policy is about them",
            source.name, destination.name
        )));
    }
    Ok(all)
}

fn passage(
    world: &World,
    source: &Party,
    destination: &Party,
    packet: Packet,
    original: Option<(IpAddr, u16)>,
) -> Result<Passage, Failure> {
    let (from, to) = (source.place.node(), destination.place.node());
    let mut nodes = Vec::new();
    if let Some(name) = from {
        let node = world.node(name)?;
        let out = if to == Some(name) {
            None
        } else {
            Some(outer(world, name, destination, packet.dst))
        };
        if let Some(way) = way(&node, source, destination, (None, out)) {
            // The first node on the way translates.
            nodes.push((name.to_owned(), node, trip(packet, original, way)));
        }
    }
    if let Some(name) = to.filter(|_| to != from) {
        let node = world.node(name)?;
        let inward = Some(outer(world, name, source, packet.dst));
        if let Some(way) = way(&node, source, destination, (inward, None)) {
            let original = original.filter(|_| from.is_none());
            nodes.push((name.to_owned(), node, trip(packet, original, way)));
        }
    }
    Ok(Passage {
        packet,
        source: source.clone(),
        destination: destination.clone(),
        nodes,
    })
}

fn trip(packet: Packet, original: Option<(IpAddr, u16)>, way: Way) -> Trip {
    Trip {
        packet,
        original,
        way,
        spoofed: false,
    }
}

/// The interface between a node and a peer that is not on it.
fn outer(world: &World, node: &str, peer: &Party, dst: IpAddr) -> String {
    let tunnel = world
        .tunnel(dst)
        .filter(|_| matches!(peer.place, Place::Workload(..)));
    tunnel.map_or_else(|| world.uplink(node), str::to_owned)
}

/// The way through one node; `outer` are the interfaces by which the packet comes from or goes to another.
fn way(
    node: &Node,
    source: &Party,
    destination: &Party,
    outer: (Option<String>, Option<String>),
) -> Option<Way> {
    let (comes, goes) = outer;
    let interface = |p: &Party| interface_of(&node.desired, &node.host, p);
    let from = comes.clone().or_else(|| interface(source));
    let to = goes.clone().or_else(|| interface(destination));
    let is_host = |p: &Party| matches!(p.place, Place::Host { .. });
    let sends = comes.is_none() && is_host(source);
    let receives = goes.is_none() && is_host(destination);
    match (sends, receives) {
        // A host talks to itself by the loopback, where nobody is asked.
        (true, true) => None,
        (true, false) => Some(Way::Out { to: to? }),
        (false, true) => {
            // The host endpoint that was asked about is where the packet comes in, unless it comes from a workload here.
            let named = match &destination.place {
                Place::Host { interface, .. } if comes.is_some() => interface.clone(),
                _ => None,
            };
            Some(Way::In {
                from: named.or(from)?,
            })
        }
        (false, false) => Some(Way::Forward { from: from?, to: to? }),
    }
    .map(|way| match (way, &source.place) {
        (
            Way::Out { .. },
            Place::Host {
                interface: Some(own), ..
            },
        ) if goes.is_some() => Way::Out { to: own.clone() },
        (way, _) => way,
    })
}

fn interface_of(desired: &Desired, host: &Host, party: &Party) -> Option<String> {
    match &party.place {
        // What the engine cannot use has an interface that nobody knows.
        Place::Workload(id, _) => Some(
            desired
                .workloads
                .get(id)
                .map_or_else(|| format!("{UNKNOWN}{}", party.name), |w| w.interface.to_string()),
        ),
        Place::Host { interface, .. } => interface
            .clone()
            .or_else(|| host.interfaces.keys().next().cloned()),
        Place::Outside => None,
    }
}
