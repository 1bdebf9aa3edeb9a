//! A route as the kernel has it, to and from netlink messages.

use std::net::IpAddr;

use caracal_link::Request;
use caracal_net::{Cidr, Family};
use caracal_netlink::flags;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::model::{Route, RouteKey, Target};

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unicast,
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
    /// Something we never make: several next hops, a local or multicast route, encapsulation.
    Other,
}

/// A route in the kernel's terms: links are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) kind: Kind,
    pub(crate) link: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) onlink: bool,
    pub(crate) source: Option<IpAddr>,
    pub(crate) protocol: u8,
    pub(crate) mtu: Option<u32>,
}

impl Installed {
    /// A desired route, once the number of its link is known.
    pub(crate) fn from_route(route: &Route, link: Option<u32>) -> Self {
        let (kind, gateway, onlink) = match &route.target {
            Target::Link(_) => (Kind::Unicast, None, false),
            Target::Via { gateway, onlink, .. } => (Kind::Unicast, Some(*gateway), *onlink),
            Target::Blackhole => (Kind::Blackhole, None, false),
            Target::Unreachable => (Kind::Unreachable, None, false),
            Target::Prohibit => (Kind::Prohibit, None, false),
            Target::Throw => (Kind::Throw, None, false),
        };
        Self {
            kind,
            link,
            gateway,
            onlink,
            source: route.source,
            protocol: route.protocol,
            mtu: route.mtu,
        }
    }
}

fn families(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// The dump request for all routes of a family.
pub(crate) fn list(family: Family) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = families(family);
    RouteNetlinkMessage::GetRoute(message)
}

fn message(key: &RouteKey, route: &Installed) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = families(key.dst.family());
    header.destination_prefix_length = key.dst.len();
    // Numbers that do not fit go into the attribute alone.
    header.table = u8::try_from(key.table).unwrap_or(0);
    header.protocol = route.protocol.into();
    header.scope = if route.kind == Kind::Unicast && route.gateway.is_none() && key.dst.family() == Family::V4
    {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    header.kind = match route.kind {
        Kind::Unicast => RouteType::Unicast,
        Kind::Blackhole => RouteType::BlackHole,
        Kind::Unreachable => RouteType::Unreachable,
        Kind::Prohibit => RouteType::Prohibit,
        Kind::Throw => RouteType::Throw,
        // Matches any in a delete; never written.
        Kind::Other => RouteType::Unspec,
    };
    header.flags.set(RouteFlags::Onlink, route.onlink);
    let attributes = [
        Some(RouteAttribute::Table(key.table)),
        Some(RouteAttribute::Destination(key.dst.addr().into())),
        Some(RouteAttribute::Priority(key.metric)),
        route.link.map(RouteAttribute::Oif),
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(gateway.into())),
        route
            .source
            .map(|source| RouteAttribute::PrefSource(source.into())),
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    ];
    message.attributes = attributes.into_iter().flatten().collect();
    message
}

/// The request that writes a route, in place of any other with its key.
pub(crate) fn write(key: &RouteKey, route: &Installed) -> Request {
    Request {
        message: RouteNetlinkMessage::NewRoute(message(key, route)),
        flags: flags::CREATE | flags::REPLACE,
    }
}

/// The request that deletes a route, and none but this one.
pub(crate) fn delete(key: &RouteKey, route: &Installed) -> Request {
    let mut message = message(key, route);
    // "Nowhere" matches any scope; a foreign hand may have chosen another than we.
    message.header.scope = RouteScope::NoWhere;
    message
        .attributes
        .retain(|attribute| !matches!(attribute, RouteAttribute::Metrics(_)));
    Request {
        message: RouteNetlinkMessage::DelRoute(message),
        flags: 0,
    }
}

/// Whether the request that deletes `old` can never delete `new`. The kernel compares only what a request
/// names, not the metrics, and for IPv6 not the type.
pub(crate) fn delete_spares(key: &RouteKey, old: &Installed, new: &Installed) -> bool {
    let kind = key.dst.family() == Family::V4 && old.kind != new.kind;
    old.kind != Kind::Other
        && (kind
            || old.protocol != new.protocol
            || (old.link.is_some() && old.link != new.link)
            || (old.gateway.is_some() && old.gateway != new.gateway))
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(addr) => Some(IpAddr::V4(*addr)),
        RouteAddress::Inet6(addr) => Some(IpAddr::V6(*addr)),
        _ => None,
    }
}

/// Reads a route. `None` for what can never share a key with one of ours: other families, routes by type of
/// service or source prefix, cached entries.
pub(crate) fn read(message: &RouteMessage) -> Option<(RouteKey, Installed)> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut route = Installed {
        kind: match header.kind {
            RouteType::Unicast => Kind::Unicast,
            RouteType::BlackHole => Kind::Blackhole,
            RouteType::Unreachable => Kind::Unreachable,
            RouteType::Prohibit => Kind::Prohibit,
            RouteType::Throw => Kind::Throw,
            _ => Kind::Other,
        },
        link: None,
        gateway: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        source: None,
        protocol: header.protocol.into(),
        mtu: None,
    };
    let (mut dst, mut table, mut metric) = (unspecified, u32::from(header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(addr) => dst = address(addr)?,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(link) => route.link = Some(*link),
            RouteAttribute::Gateway(addr) => route.gateway = address(addr),
            RouteAttribute::PrefSource(addr) => route.source = address(addr),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::Encap(_) => {
                route.kind = Kind::Other;
            }
            _ => {}
        }
    }
    if !matches!(route.kind, Kind::Unicast | Kind::Other) {
        // IPv6 shows the loopback device as the link of routes that lead nowhere.
        (route.link, route.onlink) = (None, false);
    }
    let dst = Cidr::new(dst, header.destination_prefix_length);
    Some((RouteKey::new(table, dst, metric), route))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let target = |gateway: &str| Target::Via {
            link: "eth0".into(),
            gateway: gateway.parse().unwrap(),
            onlink: true,
        };
        let cases = [
            ("10.0.0.0/26", Target::Blackhole, None),
            ("10.0.0.1/32", Target::Link("eth0".into()), Some(3)),
            ("0.0.0.0/0", target("10.9.9.9"), Some(3)),
            ("::/0", target("fd00::9"), Some(3)),
            ("fd00::/122", Target::Throw, None),
        ];
        for (dst, target, link) in cases {
            for table in [254, 255, 256, 70_000] {
                let key = RouteKey::new(table, dst.parse().unwrap(), 0);
                let route = Route {
                    source: Some(key.dst.addr()),
                    mtu: Some(1400),
                    ..Route::new(target.clone(), 80)
                };
                let installed = Installed::from_route(&route, link);
                assert_eq!(read(&message(&key, &installed)), Some((key, installed)), "{key}");
            }
        }
    }
}
