use std::net::IpAddr;

use caracal_net::{Family, IfAddr, MacAddr};

/// A network device as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind (`veth`, `vxlan`, `bridge`, …); hardware and loopback have none.
    pub kind: Option<String>,
    /// Its Ethernet address, if it has one of six bytes.
    pub mac: Option<MacAddr>,
    /// Bytes of payload per packet.
    pub mtu: u32,
    /// Switched on by the administrator.
    pub up: bool,
    /// Able to carry packets (up, and with a carrier).
    pub running: bool,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// RFC 2863's state.
    pub oper_state: OperState,
    /// Free text set by the administrator.
    pub alias: Option<String>,
    /// The link below, or a veth's other end; a number in the namespace `netnsid` if that is given.
    pub parent: Option<u32>,
    /// The namespace that `parent` counts in, if it is not this one.
    pub netnsid: Option<i32>,
    /// The bridge or other device it is a port of.
    pub controller: Option<u32>,
    /// What a VXLAN device was made with.
    pub vxlan: Option<VxlanAttributes>,
}

/// RFC 2863's state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not say (tunnels and loopback never do).
    Unknown,
    /// Down, or the link below is.
    Down,
    /// Waiting for something.
    Dormant,
    /// Ready.
    Up,
}

/// What a VXLAN device was made with and cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanAttributes {
    /// The network identifier.
    pub vni: u32,
    /// The UDP port it sends to and listens on.
    pub port: u16,
    /// The outer source address.
    pub local: Option<IpAddr>,
    /// The link the outer packets leave by.
    pub parent: Option<u32>,
    /// Whether it learns forwarding entries from packets.
    pub learning: bool,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressScope {
    /// Everywhere.
    #[default]
    Global,
    /// On the link.
    Link,
    /// In this host.
    Host,
}

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address with its prefix length.
    pub addr: IfAddr,
    /// How far it reaches.
    pub scope: AddressScope,
    /// No duplicate address detection.
    pub nodad: bool,
    /// No route for its prefix.
    pub noprefixroute: bool,
    /// Not usable yet (detection runs) or not at all (a duplicate was found).
    pub tentative: bool,
}

/// An ARP or neighbour discovery entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's number.
    pub link: u32,
    /// The neighbour's address.
    pub addr: IpAddr,
    /// Its Ethernet address, if known.
    pub mac: Option<MacAddr>,
    /// Set by an administrator for good.
    pub permanent: bool,
    /// We answer for this address; there is no such neighbour.
    pub proxy: bool,
}

/// A forwarding entry of a VXLAN device (or bridge port).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The link's number.
    pub link: u32,
    /// The Ethernet address that is forwarded.
    pub mac: MacAddr,
    /// The far tunnel end it is forwarded to.
    pub remote: Option<IpAddr>,
    /// Set by an administrator for good.
    pub permanent: bool,
    /// The entry is the device's own (`self`), not the bridge's that it is a port of.
    pub own: bool,
}

impl Neighbour {
    /// The address family.
    pub fn family(&self) -> Family {
        Family::of(self.addr)
    }
}
