use std::{fmt, net::IpAddr};

use caracal_desired::{Desired, IcmpMatch, IpSetMember, Rule, Side};
use caracal_ids::IpSetId;
use caracal_net::{PortRange, Proto};
use serde::{Deserialize, Serialize};

use crate::Packet;

/// A criterion of a rule; the first that fails tells why a rule did not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "each variant is named after the field of the rule")]
pub enum Criterion {
    IpVersion,
    Protocol,
    NotProtocol,
    Icmp,
    NotIcmp,
    SourceNets,
    SourceNotNets,
    SourceSelector,
    SourceNotSelector,
    SourcePorts,
    SourceNotPorts,
    SourceServices,
    DestinationNets,
    DestinationNotNets,
    DestinationSelector,
    DestinationNotSelector,
    DestinationPorts,
    DestinationNotPorts,
    DestinationServices,
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IpVersion => "IP version",
            Self::Protocol => "protocol",
            Self::NotProtocol => "notProtocol",
            Self::Icmp => "icmp",
            Self::NotIcmp => "notICMP",
            Self::SourceNets => "source.nets",
            Self::SourceNotNets => "source.notNets",
            Self::SourceSelector => "source.selector",
            Self::SourceNotSelector => "source.notSelector",
            Self::SourcePorts => "source.ports",
            Self::SourceNotPorts => "source.notPorts",
            Self::SourceServices => "source.services",
            Self::DestinationNets => "destination.nets",
            Self::DestinationNotNets => "destination.notNets",
            Self::DestinationSelector => "destination.selector",
            Self::DestinationNotSelector => "destination.notSelector",
            Self::DestinationPorts => "destination.ports",
            Self::DestinationNotPorts => "destination.notPorts",
            Self::DestinationServices => "destination.services",
        })
    }
}

/// The names of one side's criteria.
struct SideNames {
    nets: Criterion,
    not_nets: Criterion,
    selector: Criterion,
    not_selector: Criterion,
    ports: Criterion,
    not_ports: Criterion,
    services: Criterion,
}

const SOURCE: SideNames = SideNames {
    nets: Criterion::SourceNets,
    not_nets: Criterion::SourceNotNets,
    selector: Criterion::SourceSelector,
    not_selector: Criterion::SourceNotSelector,
    ports: Criterion::SourcePorts,
    not_ports: Criterion::SourceNotPorts,
    services: Criterion::SourceServices,
};

const DESTINATION: SideNames = SideNames {
    nets: Criterion::DestinationNets,
    not_nets: Criterion::DestinationNotNets,
    selector: Criterion::DestinationSelector,
    not_selector: Criterion::DestinationNotSelector,
    ports: Criterion::DestinationPorts,
    not_ports: Criterion::DestinationNotPorts,
    services: Criterion::DestinationServices,
};

/// The first criterion of `rule` that `packet` fails; `None` when the rule matches.
#[must_use]
pub fn mismatch(desired: &Desired, rule: &Rule, packet: &Packet) -> Option<Criterion> {
    // A rule with nets of the other family only never matches, not even by its other criteria (§3.7).
    if !rule.applies_to(packet.family()) {
        return Some(Criterion::IpVersion);
    }
    if rule.protocol.is_some_and(|p| p != packet.proto) {
        return Some(Criterion::Protocol);
    }
    if rule.not_protocol == Some(packet.proto) {
        return Some(Criterion::NotProtocol);
    }
    if rule.icmp.is_some_and(|m| !icmp_matches(m, packet)) {
        return Some(Criterion::Icmp);
    }
    if rule
        .not_icmp
        .is_some_and(|m| packet.icmp.is_none() || icmp_matches(m, packet))
    {
        return Some(Criterion::NotIcmp);
    }
    side_mismatch(desired, &rule.src, &SOURCE, packet, packet.src, packet.sport)
        .or_else(|| side_mismatch(desired, &rule.dst, &DESTINATION, packet, packet.dst, packet.dport))
}

fn icmp_matches(m: IcmpMatch, packet: &Packet) -> bool {
    packet
        .icmp
        .is_some_and(|(t, c)| t == m.icmp_type && m.code.is_none_or(|want| want == c))
}

fn side_mismatch(
    desired: &Desired,
    side: &Side,
    names: &SideNames,
    packet: &Packet,
    addr: IpAddr,
    port: u16,
) -> Option<Criterion> {
    if !side.nets.is_empty() && !side.nets.iter().any(|c| c.contains(addr)) {
        return Some(names.nets);
    }
    if side.not_nets.iter().any(|c| c.contains(addr)) {
        return Some(names.not_nets);
    }
    if !side
        .ip_sets
        .iter()
        .all(|id| in_set(desired, id, addr, packet.proto, port) == Some(true))
    {
        return Some(names.selector);
    }
    // A negated set that does not exist must not widen the rule: treat it as a mismatch.
    if !side
        .not_ip_sets
        .iter()
        .all(|id| in_set(desired, id, addr, packet.proto, port) == Some(false))
    {
        return Some(names.not_selector);
    }
    let in_ports = |ranges: &[PortRange], sets: &[IpSetId]| {
        ranges.iter().any(|r| r.contains(port))
            || sets
                .iter()
                .any(|id| in_set(desired, id, addr, packet.proto, port) == Some(true))
    };
    let asks = |ranges: &[PortRange], sets: &[IpSetId]| !ranges.is_empty() || !sets.is_empty();
    if asks(&side.ports, &side.named_ports)
        && !(packet.proto.has_ports() && in_ports(&side.ports, &side.named_ports))
    {
        return Some(names.ports);
    }
    if asks(&side.not_ports, &side.not_named_ports)
        && (!packet.proto.has_ports() || in_ports(&side.not_ports, &side.not_named_ports))
    {
        return Some(names.not_ports);
    }
    if !side.ip_port_sets.is_empty() && !in_ports(&[], &side.ip_port_sets) {
        return Some(names.services);
    }
    None
}

/// Whether the set holds the address (or address and port); `None` when there is no such set.
fn in_set(desired: &Desired, id: &IpSetId, addr: IpAddr, proto: Proto, port: u16) -> Option<bool> {
    let set = desired.ip_sets.get(id)?;
    Some(set.members.iter().any(|m| match m {
        IpSetMember::Net(c) => c.contains(addr),
        IpSetMember::IpPort(a, p, n) => *a == addr && *p == proto && *n == port,
    }))
}
