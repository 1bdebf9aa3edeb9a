//! From netlink messages to our types. What does not concern us, or is malformed, is `None`.

use std::net::IpAddr;

use caracal_net::{IfAddr, MacAddr};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{self, AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::{Address, AddressScope, FdbEntry, Link, Neighbour, OperState, VxlanAttributes};

pub(crate) fn mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

pub(crate) fn link(message: &LinkMessage) -> Option<Link> {
    // Bridges announce their ports' state in messages of this family; they lack most attributes.
    if message.header.interface_family == AddressFamily::Bridge {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        oper_state: OperState::Unknown,
        alias: None,
        parent: None,
        netnsid: None,
        controller: None,
        vxlan: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::OperState(state) => link.oper_state = oper_state(*state),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Link(index) => link.parent = Some(*index),
            LinkAttribute::LinkNetNsId(id) => link.netnsid = Some(*id),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => link_info(infos, &mut link),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn oper_state(state: State) -> OperState {
    match state {
        State::Up => OperState::Up,
        State::Dormant | State::Testing => OperState::Dormant,
        State::Down | State::LowerLayerDown | State::NotPresent => OperState::Down,
        _ => OperState::Unknown,
    }
}

fn link_info(infos: &[LinkInfo], link: &mut Link) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(vxlan(data)),
            _ => {}
        }
    }
}

fn vxlan(data: &[InfoVxlan]) -> VxlanAttributes {
    let mut found = VxlanAttributes {
        vni: 0,
        port: 0,
        local: None,
        parent: None,
        learning: false,
    };
    for attribute in data {
        match attribute {
            InfoVxlan::Id(vni) => found.vni = *vni,
            InfoVxlan::Port(port) => found.port = *port,
            InfoVxlan::Local(addr) => found.local = Some(IpAddr::V4(*addr)),
            InfoVxlan::Local6(addr) => found.local = Some(IpAddr::V6(*addr)),
            InfoVxlan::Link(index) => found.parent = Some(*index).filter(|index| *index != 0),
            InfoVxlan::Learning(on) => found.learning = *on,
            _ => {}
        }
    }
    found
}

pub(crate) fn address(message: &AddressMessage) -> Option<Address> {
    let mut given = None;
    let mut local = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(addr) => given = Some(*addr),
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point link the first is the far end's, and ours is the second.
    let addr = local.or(given)?;
    Some(Address {
        link: message.header.index,
        addr: IfAddr {
            addr,
            len: message.header.prefix_len,
        },
        scope: match message.header.scope {
            address::AddressScope::Link => AddressScope::Link,
            address::AddressScope::Host => AddressScope::Host,
            _ => AddressScope::Global,
        },
        nodad: flags.contains(AddressFlags::Nodad),
        noprefixroute: flags.contains(AddressFlags::Noprefixroute),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}

pub(crate) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let mut found = None;
    let mut ether = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => found = Some(IpAddr::V4(*addr)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => found = Some(IpAddr::V6(*addr)),
            NeighbourAttribute::LinkLayerAddress(bytes) => ether = mac(bytes),
            _ => {}
        }
    }
    Some(Neighbour {
        link: message.header.ifindex,
        addr: found?,
        mac: ether,
        permanent: permanent(message),
        proxy: message.header.flags.contains(NeighbourFlags::Proxy),
    })
}

pub(crate) fn fdb(message: &NeighbourMessage) -> Option<FdbEntry> {
    if message.header.family != AddressFamily::Bridge {
        return None;
    }
    let mut remote = None;
    let mut ether = None;
    for attribute in &message.attributes {
        match attribute {
            // The family is the bridge's, so the address comes undecoded.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => remote = ip(bytes),
            NeighbourAttribute::LinkLayerAddress(bytes) => ether = mac(bytes),
            _ => {}
        }
    }
    Some(FdbEntry {
        link: message.header.ifindex,
        mac: ether?,
        remote,
        permanent: permanent(message),
        own: message.header.flags.contains(NeighbourFlags::Own),
    })
}

fn permanent(message: &NeighbourMessage) -> bool {
    let state = u16::from(message.header.state);
    state & u16::from(NeighbourState::Permanent) != 0
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
