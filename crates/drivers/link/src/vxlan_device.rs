use std::net::IpAddr;

use caracal_net::{Family, MacAddr};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan};

use crate::{AddressSpec, LinkChange, LinkError, Rtnl, VxlanAttributes};

/// What has the name of a VXLAN device must be.
const WANTED: &str = "a VXLAN device";

/// A VXLAN device as it should be.
///
/// Two devices may share the network identifier and the port if one has an IPv4 and the other an IPv6
/// `local` address: the kernel tells them apart by the family of the outer packet. So Calico's
/// `vxlan.calico` and `vxlan-v6.calico` both have identifier 4096 and port 4789.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSpec {
    /// Its name.
    pub name: String,
    /// The network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// The outer source address. The device is built on the link that has it.
    pub local: IpAddr,
    /// The device's Ethernet address, which the other nodes send to.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: u32,
    /// The device's only address (link-local ones apart), as a single one; none if absent.
    pub address: Option<IpAddr>,
}

impl VxlanSpec {
    /// The family of the outer packets.
    pub fn family(&self) -> Family {
        Family::of(self.local)
    }

    fn attributes(&self, parent: u32) -> VxlanAttributes {
        VxlanAttributes {
            vni: self.vni,
            port: self.port,
            local: Some(self.local),
            parent: Some(parent),
            learning: false,
        }
    }
}

impl Rtnl {
    /// Brings a VXLAN device to what `spec` says, touching only what differs, and up. What cannot be changed
    /// on a living device makes it be deleted and made anew. Tells the device's number, and whether it was
    /// made (so that all its entries are gone).
    pub fn ensure_vxlan(&mut self, spec: &VxlanSpec) -> Result<(u32, bool), LinkError> {
        let parent = self
            .link_with_address(spec.local)?
            .ok_or_else(|| LinkError::NoSuchAddress {
                action: "make VXLAN device",
                object: spec.name.clone(),
                address: spec.local,
            })?;
        let wanted = spec.attributes(parent);
        let mut link = self.link(spec.name.as_str())?;
        if let Some(found) = &link
            && found.vxlan != Some(wanted)
        {
            if found.kind.as_deref() != Some("vxlan") {
                return Err(LinkError::in_the_way(found, WANTED));
            }
            self.delete_link(found)?;
            link = None;
        }
        let made = link.is_none();
        let link = match link {
            Some(link) => link,
            None => {
                self.create_vxlan(spec, parent)?;
                self.require_link(spec.name.as_str())?
            }
        };
        let change = LinkChange {
            mtu: Some(spec.mtu).filter(|mtu| *mtu != link.mtu),
            mac: Some(spec.mac).filter(|mac| Some(*mac) != link.mac),
            up: Some(true).filter(|_| !link.up),
            ..LinkChange::default()
        };
        if change.mtu.is_some() || change.mac.is_some() || change.up.is_some() {
            self.set_link(&link, &change)?;
        }
        let address = spec.address.map(AddressSpec::host);
        for family in Family::BOTH {
            let wanted = address.filter(|address| Family::of(address.addr.addr) == family);
            self.replace_addresses(link.index, family, wanted.as_slice())?;
        }
        Ok((link.index, made))
    }

    fn create_vxlan(&mut self, spec: &VxlanSpec, parent: u32) -> Result<(), LinkError> {
        let start = LinkChange {
            mtu: Some(spec.mtu),
            mac: Some(spec.mac),
            ..LinkChange::default()
        };
        let message = Self::link_message(&spec.name, &start)?;
        let data = vec![
            InfoVxlan::Id(spec.vni),
            InfoVxlan::Port(spec.port),
            match spec.local {
                IpAddr::V4(addr) => InfoVxlan::Local(addr),
                IpAddr::V6(addr) => InfoVxlan::Local6(addr),
            },
            InfoVxlan::Link(parent),
            InfoVxlan::Learning(false),
        ];
        self.create(
            "create VXLAN device",
            &spec.name,
            message,
            InfoKind::Vxlan,
            Some(InfoData::Vxlan(data)),
        )
    }

    /// Deletes a VXLAN device by name; tells whether it was there. A link of another kind stays and is an error.
    pub fn remove_vxlan(&mut self, name: &str) -> Result<bool, LinkError> {
        match self.link(name)? {
            None => Ok(false),
            Some(link) if link.kind.as_deref() == Some("vxlan") => self.delete_link(&link),
            Some(link) => Err(LinkError::in_the_way(&link, WANTED)),
        }
    }
}
