use std::net::IpAddr;

use caracal_net::{Family, MacAddr};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family_of;
use crate::rtnl::Request;
use crate::{FdbEntry, LinkError, Neighbour, Rtnl, decode};

const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;

fn message(link: u32, addr: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family_of(Family::of(addr));
    message.header.ifindex = link;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::from(addr)));
    message
}

fn fdb_message(link: u32, mac: MacAddr, remote: Option<IpAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.flags = NeighbourFlags::Own;
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
        .attributes
        .extend(remote.map(|remote| NeighbourAttribute::Destination(remote.into())));
    message
}

/// The request that makes a permanent entry.
pub(crate) fn set_neighbour(link: u32, addr: IpAddr, mac: MacAddr) -> Request {
    let mut message = message(link, addr);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: SET,
    }
}

/// The request that deletes an entry.
pub(crate) fn delete_neighbour(link: u32, addr: IpAddr) -> Request {
    Request {
        message: RouteNetlinkMessage::DelNeighbour(message(link, addr)),
        flags: NLM_F_ACK,
    }
}

/// The request that forwards `mac` to `remote`, in place of where it was forwarded to.
pub(crate) fn set_fdb(link: u32, mac: MacAddr, remote: IpAddr) -> Request {
    let message = fdb_message(link, mac, Some(remote));
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: SET,
    }
}

/// The request that deletes a forwarding entry.
pub(crate) fn delete_fdb(link: u32, mac: MacAddr, remote: Option<IpAddr>) -> Request {
    let message = fdb_message(link, mac, remote);
    Request {
        message: RouteNetlinkMessage::DelNeighbour(message),
        flags: NLM_F_ACK,
    }
}

/// Whether a refusal to delete means that there was nothing to delete.
pub(crate) fn is_absent(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::ENOENT | libc::ENODEV | libc::EADDRNOTAVAIL))
}

fn deleted(result: Result<(), LinkError>) -> Result<bool, LinkError> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if is_absent(e.errno()) => Ok(false),
        Err(e) => Err(e),
    }
}

impl Rtnl {
    /// The ARP or neighbour discovery entries of one link, without those we only answer for (proxy).
    pub fn neighbours(&mut self, link: u32, family: Family) -> Result<Vec<Neighbour>, LinkError> {
        self.dump_neighbours(link, family, NeighbourFlags::empty())
    }

    /// The addresses we answer for on a link.
    pub fn proxy_neighbours(&mut self, link: u32, family: Family) -> Result<Vec<Neighbour>, LinkError> {
        self.dump_neighbours(link, family, NeighbourFlags::Proxy)
    }

    fn dump_neighbours(
        &mut self,
        link: u32,
        family: Family,
        flags: NeighbourFlags,
    ) -> Result<Vec<Neighbour>, LinkError> {
        let mut request = NeighbourMessage::default();
        request.header.family = family_of(family);
        request.header.flags = flags;
        request.attributes.push(NeighbourAttribute::IfIndex(link));
        self.dump(
            "list neighbours",
            RouteNetlinkMessage::GetNeighbour(request),
            |message| match message {
                RouteNetlinkMessage::NewNeighbour(message) => {
                    decode::neighbour(&message).filter(|neighbour| neighbour.link == link)
                }
                _ => None,
            },
        )
    }

    /// Makes a permanent neighbour entry, in place of any other for the address.
    pub fn set_neighbour(&mut self, link: u32, addr: IpAddr, mac: MacAddr) -> Result<(), LinkError> {
        let object = || format!("{addr} at {mac} on link number {link}");
        self.request("set neighbour", object, set_neighbour(link, addr, mac))
    }

    /// Deletes a neighbour entry; tells whether it was there.
    pub fn delete_neighbour(&mut self, link: u32, addr: IpAddr) -> Result<bool, LinkError> {
        let object = || format!("{addr} on link number {link}");
        deleted(self.request("delete neighbour", object, delete_neighbour(link, addr)))
    }

    /// Answers for an address on a link (proxy ARP or NDP for this address alone).
    pub fn set_proxy_neighbour(&mut self, link: u32, addr: IpAddr) -> Result<(), LinkError> {
        let mut message = message(link, addr);
        message.header.flags = NeighbourFlags::Proxy;
        let request = Request {
            message: RouteNetlinkMessage::NewNeighbour(message),
            flags: SET,
        };
        self.request(
            "answer for neighbour",
            || format!("{addr} on link number {link}"),
            request,
        )
    }

    /// No longer answers for an address; tells whether it did.
    pub fn delete_proxy_neighbour(&mut self, link: u32, addr: IpAddr) -> Result<bool, LinkError> {
        let mut message = message(link, addr);
        message.header.flags = NeighbourFlags::Proxy;
        let request = Request {
            message: RouteNetlinkMessage::DelNeighbour(message),
            flags: NLM_F_ACK,
        };
        deleted(self.request(
            "stop answering for neighbour",
            || format!("{addr} on link number {link}"),
            request,
        ))
    }

    /// The forwarding entries of a VXLAN device.
    pub fn fdb(&mut self, link: u32) -> Result<Vec<FdbEntry>, LinkError> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Bridge;
        self.dump(
            "list forwarding entries",
            RouteNetlinkMessage::GetNeighbour(request),
            |message| match message {
                RouteNetlinkMessage::NewNeighbour(message) => {
                    decode::fdb(&message).filter(|entry| entry.link == link)
                }
                _ => None,
            },
        )
    }

    /// Forwards an Ethernet address to one tunnel end, in place of any other.
    pub fn set_fdb(&mut self, link: u32, mac: MacAddr, remote: IpAddr) -> Result<(), LinkError> {
        let object = || format!("{mac} to {remote} on link number {link}");
        self.request("forward", object, set_fdb(link, mac, remote))
    }

    /// Deletes a forwarding entry; tells whether it was there.
    pub fn delete_fdb(&mut self, link: u32, mac: MacAddr, remote: Option<IpAddr>) -> Result<bool, LinkError> {
        let object = || format!("{mac} on link number {link}");
        deleted(self.request("delete forwarding of", object, delete_fdb(link, mac, remote)))
    }
}
