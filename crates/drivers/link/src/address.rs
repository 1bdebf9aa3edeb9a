use std::net::{IpAddr, Ipv6Addr};

use caracal_net::{Family, IfAddr};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{self, AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::rtnl::Request;
use crate::{Address, AddressScope, LinkError, Rtnl, decode};

/// An address that a link should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpec {
    /// The address with its prefix length.
    pub addr: IfAddr,
    /// How far it reaches.
    pub scope: AddressScope,
    /// Skip duplicate address detection (IPv6): the address works at once.
    pub nodad: bool,
    /// Make no route for its prefix.
    pub noprefixroute: bool,
}

impl AddressSpec {
    /// A global address without duplicate detection, with the kernel's route for its prefix.
    pub fn new(addr: IfAddr) -> Self {
        Self {
            addr,
            scope: AddressScope::Global,
            nodad: true,
            noprefixroute: false,
        }
    }

    /// A single global address: full prefix length.
    pub fn host(addr: IpAddr) -> Self {
        Self::new(IfAddr {
            addr,
            len: Family::of(addr).bits(),
        })
    }

    fn describes(&self, found: &Address) -> bool {
        // The kernel does not keep `nodad` on IPv4, and gives IPv6 addresses their scope itself.
        let scope = self.addr.addr.is_ipv6() || self.scope == found.scope;
        self.addr == found.addr && scope && self.noprefixroute == found.noprefixroute
    }
}

pub(crate) fn family_of(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn message(link: u32, addr: IfAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(Family::of(addr.addr));
    message.header.prefix_len = addr.len;
    message.header.index = link;
    message.attributes = vec![
        AddressAttribute::Local(addr.addr),
        AddressAttribute::Address(addr.addr),
    ];
    message
}

impl Rtnl {
    /// The addresses of all links.
    pub fn addresses(&mut self) -> Result<Vec<Address>, LinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump("list addresses", request, |message| match message {
            RouteNetlinkMessage::NewAddress(message) => decode::address(&message),
            _ => None,
        })
    }

    /// The addresses of one link.
    pub fn addresses_of(&mut self, link: u32) -> Result<Vec<Address>, LinkError> {
        let mut found = self.addresses()?;
        found.retain(|address| address.link == link);
        Ok(found)
    }

    /// The number of the link that has an address.
    pub fn link_with_address(&mut self, addr: IpAddr) -> Result<Option<u32>, LinkError> {
        Ok(self
            .addresses()?
            .into_iter()
            .find(|found| found.addr.addr == addr)
            .map(|found| found.link))
    }

    /// Gives a link an address, or changes the flags of one it has.
    pub fn set_address(&mut self, link: u32, spec: &AddressSpec) -> Result<(), LinkError> {
        let mut message = message(link, spec.addr);
        message.header.scope = match spec.scope {
            AddressScope::Global => address::AddressScope::Universe,
            AddressScope::Link => address::AddressScope::Link,
            AddressScope::Host => address::AddressScope::Host,
        };
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, spec.nodad && spec.addr.addr.is_ipv6());
        flags.set(AddressFlags::Noprefixroute, spec.noprefixroute);
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        let request = Request {
            message: RouteNetlinkMessage::NewAddress(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK,
        };
        self.request(
            "add address",
            || format!("{} to link number {link}", spec.addr),
            request,
        )
    }

    /// Takes an address from a link; tells whether it was there.
    pub fn delete_address(&mut self, link: u32, addr: IfAddr) -> Result<bool, LinkError> {
        let request = Request {
            message: RouteNetlinkMessage::DelAddress(message(link, addr)),
            flags: NLM_F_ACK,
        };
        match self.request(
            "delete address",
            || format!("{addr} of link number {link}"),
            request,
        ) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.errno(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes `wanted` the link's only addresses of that family; IPv6 link-local ones stay. Tells whether
    /// anything had to change.
    pub fn replace_addresses(
        &mut self,
        link: u32,
        family: Family,
        wanted: &[AddressSpec],
    ) -> Result<bool, LinkError> {
        let mut found = self.addresses_of(link)?;
        found.retain(|have| Family::of(have.addr.addr) == family && !is_v6_link_local(have.addr.addr));
        let mut changed = false;
        // First what goes: a secondary IPv4 address would vanish with its primary.
        for have in found
            .iter()
            .filter(|have| !wanted.iter().any(|want| want.describes(have)))
        {
            changed |= self.delete_address(link, have.addr)?;
        }
        for want in wanted
            .iter()
            .filter(|want| !found.iter().any(|have| want.describes(have)))
        {
            self.set_address(link, want)?;
            changed = true;
        }
        Ok(changed)
    }

    /// A link's IPv6 link-local address, once it may be used.
    pub fn link_local(&mut self, link: u32) -> Result<Option<Ipv6Addr>, LinkError> {
        let found = self
            .addresses_of(link)?
            .into_iter()
            .filter(|address| !address.tentative);
        Ok(found
            .filter(|a| is_v6_link_local(a.addr.addr))
            .find_map(|address| match address.addr.addr {
                IpAddr::V6(addr) => Some(addr),
                IpAddr::V4(_) => None,
            }))
    }
}

fn is_v6_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}
