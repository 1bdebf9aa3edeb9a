use std::net::{IpAddr, Ipv4Addr};

use caracal_net::Family;
use caracal_update::InSync;
use netlink_packet_route::link::InfoKind;

use crate::{Address, AddressSpec, Event, Link, LinkChange, LinkError, Rtnl};

/// The kind of link that the kernel calls it.
const KIND: &str = "ipip";

/// The alias of a device that is in our use. A namespace has `tunl0` as soon as the kernel's module is loaded, and others
/// may keep addresses there (IPVS does): what does not bear this is not taken from anybody.
const MARK: &str = "caracal: IP-in-IP between nodes";

/// A device for IP-in-IP as it should be: of no address of its own in the outer header and with no fixed far end, so that
/// routes say where packets go and the kernel where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpipSpec {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// The device's only IPv4 address, as a single one.
    pub address: Ipv4Addr,
}

/// Keeps the device for IP-in-IP as desired.
#[derive(Debug)]
pub struct Ipip {
    name: String,
    spec: Option<IpipSpec>,
    /// The device's number, as far as known.
    device: Option<u32>,
    /// The device has to be looked at.
    unchecked: bool,
}

impl Ipip {
    /// A driver for the device of that name. Until a specification is set it wants no use of it.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            spec: None,
            device: None,
            unchecked: true,
        }
    }

    /// What the device should be; `None` when it is not needed. The specification's name is the driver's.
    pub fn set_device(&mut self, spec: Option<IpipSpec>) {
        let spec = spec.map(|spec| IpipSpec {
            name: self.name.clone(),
            ..spec
        });
        if spec != self.spec {
            self.spec = spec;
            self.unchecked = true;
        }
    }

    /// Whether an apply has anything to do.
    pub fn is_pending(&self) -> bool {
        self.unchecked
    }

    /// Follows the kernel. Tells whether an apply has something to do now.
    pub fn on_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Overrun => self.unchecked = true,
            Event::Link(link) if link.name == self.name => self.unchecked |= !self.is_as_wanted(link),
            Event::LinkGone(link) if link.name == self.name => {
                self.device = None;
                self.unchecked |= self.spec.is_some();
            }
            Event::Address(address) => self.unchecked |= self.owns(address) && !self.wants(address),
            Event::AddressGone(address) => self.unchecked |= self.owns(address) && self.wants(address),
            _ => {}
        }
        self.unchecked
    }

    fn is_as_wanted(&self, link: &Link) -> bool {
        let marked = link.alias.as_deref() == Some(MARK);
        match &self.spec {
            Some(spec) => self.device == Some(link.index) && link.up && link.mtu == spec.mtu && marked,
            None => !marked,
        }
    }

    fn owns(&self, address: &Address) -> bool {
        self.device == Some(address.link) && address.addr.addr.is_ipv4()
    }

    fn wants(&self, address: &Address) -> bool {
        let wanted = self.spec.as_ref().map(|spec| IpAddr::V4(spec.address));
        wanted == Some(address.addr.addr)
    }

    /// Brings the device to what is desired, if it may differ. What failed is tried again at the next apply, but for a
    /// kernel that does not know such devices ([`LinkError::Unsupported`]): it makes one when its module comes, which is
    /// an event. The token says that what is desired is complete.
    pub fn apply(&mut self, rtnl: &mut Rtnl, _complete: &InSync) -> Result<(), LinkError> {
        if !self.unchecked {
            return Ok(());
        }
        match &self.spec {
            Some(spec) => {
                let made = rtnl.ensure_ipip(spec);
                self.unchecked = !matches!(made, Err(LinkError::Unsupported { .. }));
                self.device = Some(made?);
            }
            None => {
                rtnl.release_ipip(&self.name)?;
                self.device = None;
            }
        }
        self.unchecked = false;
        Ok(())
    }
}

impl Rtnl {
    /// Brings a device for IP-in-IP to what `spec` says, touching only what differs, and up. Tells its number.
    pub fn ensure_ipip(&mut self, spec: &IpipSpec) -> Result<u32, LinkError> {
        let link = match self.link(spec.name.as_str())? {
            Some(link) => link,
            None => {
                self.create_ipip(&spec.name)?;
                self.require_link(spec.name.as_str())?
            }
        };
        if link.kind.as_deref() != Some(KIND) {
            return Err(LinkError::in_the_way(&link, "a device for IP-in-IP"));
        }
        let change = LinkChange {
            mtu: Some(spec.mtu).filter(|mtu| *mtu != link.mtu),
            alias: Some(MARK).filter(|mark| Some(*mark) != link.alias.as_deref()),
            up: Some(true).filter(|_| !link.up),
            ..LinkChange::default()
        };
        if change.mtu.is_some() || change.alias.is_some() || change.up.is_some() {
            self.set_link(&link, &change)?;
        }
        let address = AddressSpec::host(spec.address.into());
        self.replace_addresses(link.index, Family::V4, &[address])?;
        Ok(link.index)
    }

    fn create_ipip(&mut self, name: &str) -> Result<(), LinkError> {
        let message = Self::link_message(name, &LinkChange::default())?;
        match self.create("create IP-in-IP device", name, message, InfoKind::IpIp, None) {
            Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => Err(LinkError::Unsupported {
                object: name.to_owned(),
                what: "IP-in-IP",
                fix: "load its module (modprobe ipip), or give pools a vxlanMode in place of their ipipMode",
            }),
            // The first request may load the module, which makes its device by itself.
            Err(e) if e.errno() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Gives a device that [`Rtnl::ensure_ipip`] took into use back as it was: without addresses, down, gone if the kernel
    /// lets it go. One that it never took is left alone. Tells whether there was anything to do.
    pub fn release_ipip(&mut self, name: &str) -> Result<bool, LinkError> {
        let ours = |link: &Link| link.kind.as_deref() == Some(KIND) && link.alias.as_deref() == Some(MARK);
        let Some(link) = self.link(name)?.filter(ours) else {
            return Ok(false);
        };
        self.replace_addresses(link.index, Family::V4, &[])?;
        let idle = LinkChange {
            alias: Some(""),
            ..LinkChange::down()
        };
        self.set_link(&link, &idle)?;
        // The module's own device stays whatever is asked; the kernel does not call that an error.
        self.delete_link(&link)?;
        Ok(true)
    }
}
