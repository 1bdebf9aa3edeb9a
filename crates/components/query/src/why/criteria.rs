//! Criteria that failed: near misses, and the reason in words.

use caracal_api::{Action, EntityRule};
use caracal_desired::{Desired, Rule, Side};
use caracal_oracle::{Criterion, Packet, mismatch};

use super::rules;

/// Whether nothing but the criterion stands in the rule's way, though it asks for more, or the rule would have saved
/// the packet (`lost`).
pub(super) fn is_near_miss(
    desired: &Desired,
    rule: &Rule,
    packet: &Packet,
    failed: Criterion,
    lost: bool,
) -> bool {
    let mut relaxed = rule.clone();
    relax(&mut relaxed, failed);
    let plain = Rule {
        origin: relaxed.origin.clone(),
        ..Rule::new(relaxed.action)
    };
    let saves = lost && matches!(rule.action, Action::Allow | Action::Pass);
    let tells = saves || relaxed != plain;
    failed != Criterion::IpVersion && tells && mismatch(desired, &relaxed, packet).is_none()
}

/// The criterion as the rule has it: a selector that only excludes may be enforced as one that selects all others, and
/// a service that packets come from as one that selects its endpoints.
pub(super) fn as_written(failed: Criterion, rule: &caracal_api::Rule) -> Criterion {
    let excludes = |e: &EntityRule| rules::selectors(e).is_empty() && !e.not_selector.is_empty();
    match failed {
        Criterion::SourceSelector if rule.source.services.is_some() => Criterion::SourceServices,
        Criterion::SourceSelector if excludes(&rule.source) => Criterion::SourceNotSelector,
        Criterion::DestinationSelector if excludes(&rule.destination) => Criterion::DestinationNotSelector,
        other => other,
    }
}

fn relax(rule: &mut Rule, failed: Criterion) {
    use Criterion as C;
    match failed {
        C::IpVersion => {}
        C::Protocol => rule.protocol = None,
        C::NotProtocol => rule.not_protocol = None,
        C::Icmp => rule.icmp = None,
        C::NotIcmp => rule.not_icmp = None,
        C::SourceNets => rule.src.nets.clear(),
        C::SourceNotNets => rule.src.not_nets.clear(),
        C::SourceSelector => rule.src.ip_sets.clear(),
        C::SourceNotSelector => rule.src.not_ip_sets.clear(),
        C::SourcePorts => without_ports(&mut rule.src),
        C::SourceNotPorts => without_not_ports(&mut rule.src),
        C::SourceServices => rule.src.ip_port_sets.clear(),
        C::DestinationNets => rule.dst.nets.clear(),
        C::DestinationNotNets => rule.dst.not_nets.clear(),
        C::DestinationSelector => rule.dst.ip_sets.clear(),
        C::DestinationNotSelector => rule.dst.not_ip_sets.clear(),
        C::DestinationPorts => without_ports(&mut rule.dst),
        C::DestinationNotPorts => without_not_ports(&mut rule.dst),
        C::DestinationServices => rule.dst.ip_port_sets.clear(),
    }
}

fn without_ports(side: &mut Side) {
    side.ports.clear();
    side.named_ports.clear();
}

fn without_not_ports(side: &mut Side) {
    side.not_ports.clear();
    side.not_named_ports.clear();
}

/// The two ends by the names that people know.
pub(super) struct Ends<'a> {
    pub(super) source: &'a str,
    pub(super) destination: &'a str,
}

/// Why the criterion failed.
pub(super) fn because(
    rule: &caracal_api::Rule,
    failed: Criterion,
    packet: &Packet,
    ends: &Ends<'_>,
) -> String {
    use Criterion as C;
    let text = |t: Option<String>| t.unwrap_or_default();
    let of = |p: &Option<caracal_api::Protocol>| p.as_ref().map(ToString::to_string).unwrap_or_default();
    let icmp = || {
        packet
            .icmp
            .map_or_else(|| packet.proto.to_string(), |(t, c)| format!("type {t} code {c}"))
    };
    match failed {
        C::IpVersion => format!("the rule is not about {}", packet.family()),
        C::Protocol => format!("{} is not {}", packet.proto, of(&rule.protocol)),
        C::NotProtocol => format!("{} is excluded", packet.proto),
        C::Icmp => format!("{} is not {}", icmp(), text(rule.icmp.map(|i| rules::icmp(&i)))),
        C::NotIcmp => format!("{} is excluded", icmp()),
        C::SourceNets => format!(
            "{} is not in {}",
            packet.src,
            text(rules::list("", &rule.source.nets))
        ),
        C::DestinationNets => format!(
            "{} is not in {}",
            packet.dst,
            text(rules::list("", &rule.destination.nets))
        ),
        C::SourceNotNets => format!(
            "{} is in {}",
            packet.src,
            text(rules::list("", &rule.source.not_nets))
        ),
        C::DestinationNotNets => format!(
            "{} is in {}",
            packet.dst,
            text(rules::list("", &rule.destination.not_nets))
        ),
        C::SourceSelector => unselected(ends.source, &rule.source),
        C::DestinationSelector => unselected(ends.destination, &rule.destination),
        C::SourceNotSelector => excluded(ends.source, &rule.source),
        C::DestinationNotSelector => excluded(ends.destination, &rule.destination),
        C::SourcePorts => ports(packet, packet.sport, &rule.source),
        C::DestinationPorts => ports(packet, packet.dport, &rule.destination),
        C::SourceNotPorts => not_ports(packet, packet.sport, &rule.source),
        C::DestinationNotPorts => not_ports(packet, packet.dport, &rule.destination),
        C::SourceServices => unserved(packet.src, &rule.source),
        C::DestinationServices => unserved(packet.dst, &rule.destination),
    }
}

fn unselected(who: &str, entity: &EntityRule) -> String {
    let selectors = rules::selectors(entity);
    if selectors.is_empty() {
        format!("{who} is not selected")
    } else {
        format!("{who} is not {selectors}")
    }
}

fn excluded(who: &str, entity: &EntityRule) -> String {
    format!(
        "{who} is {}, or that cannot be told",
        rules::enclosed(&entity.not_selector)
    )
}

fn ports(packet: &Packet, port: u16, entity: &EntityRule) -> String {
    let wanted = rules::list("", &entity.ports).unwrap_or_default();
    if packet.proto.has_ports() {
        format!("{port} is not {wanted}")
    } else {
        format!("{} has no ports, and {wanted} is asked for", packet.proto)
    }
}

fn not_ports(packet: &Packet, port: u16, entity: &EntityRule) -> String {
    let excluded = rules::list("", &entity.not_ports).unwrap_or_default();
    if packet.proto.has_ports() {
        format!("{port} is excluded by {excluded}")
    } else {
        format!(
            "{} has no ports, and all but {excluded} are asked for",
            packet.proto
        )
    }
}

fn unserved(address: std::net::IpAddr, entity: &EntityRule) -> String {
    let name = entity.services.as_ref().map(|s| match s.namespace.as_str() {
        // The policy's own.
        "" => s.name.clone(),
        namespace => format!("{namespace}/{}", s.name),
    });
    format!(
        "{address} is no endpoint of the service {}",
        name.unwrap_or_default()
    )
}
