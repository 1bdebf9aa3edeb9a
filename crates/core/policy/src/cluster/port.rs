//! Named ports, and the content of members, which they are part of.

use caracal_desired::IpSetMember;
use caracal_net::{Cidr, Proto};
use caracal_selector::{LabelSet, Symbol};

use crate::index::{Content, Frame};

/// A named port of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Port {
    pub(crate) name: Symbol,
    pub(crate) proto: Proto,
    pub(crate) port: u16,
}

/// Sorted, each once.
pub(crate) type Ports = Box<[Port]>;

/// The ports of that name and protocol at an address. Ports belong to endpoints, which have single addresses.
pub(crate) fn port_members(
    net: &Cidr,
    ports: &[Port],
    (proto, name): (Option<Proto>, Symbol),
) -> impl Iterator<Item = IpSetMember> {
    let addr = net.is_host().then(|| net.addr());
    let of_name = ports.iter().filter(move |p| p.name == name);
    let fitting = of_name.filter(move |p| proto.is_none_or(|wanted| wanted == p.proto));
    fitting.filter_map(move |p| Some(IpSetMember::IpPort(addr?, p.proto, p.port)))
}

/// What the index needs to know of a member.
pub(crate) fn content(
    own: LabelSet,
    forced: LabelSet,
    profiles: Box<[Symbol]>,
    mut ports: Vec<Port>,
) -> Content<Ports> {
    ports.sort_unstable();
    ports.dedup();
    let frame = Frame {
        forced,
        profiles,
        extra: ports.into_boxed_slice(),
    };
    Content { own, frame }
}
