//! Links, addresses, neighbours and forwarding entries of the kernel, by rtnetlink, without any program
//! started: [`Rtnl`] for requests, [`Monitor`] for events, [`Vxlan`] for a whole VXLAN device with its peers, [`Ipip`]
//! for the device of IP-in-IP.
//!
//! - An operation is idempotent: what is there already as asked is success; deleting what is not there tells so.
//! - [`Departure`] deletes many links at once and tells when they are gone, which is long before the kernel answers.
//! - An error names the object and what was being done to it.
//! - **Invariant**: requests go to the network namespace in which the socket was opened, whatever thread uses it later.
//! - **Invariant**: a veth is never created up; the kernel refuses half of such pairs (`ENOTCONN`).

mod address;
mod claims;
mod decode;
mod departure;
mod error;
mod ipip;
mod links;
mod model;
mod monitor;
mod mtu;
mod neighbour;
mod rtnl;
mod settings;
mod shape;
mod vxlan;
mod vxlan_device;

pub use address::AddressSpec;
pub use caracal_netlink::Refusal;
pub use departure::Departure;
pub use error::LinkError;
pub use ipip::{Ipip, IpipSpec};
pub use links::{LinkChange, LinkRef, VethSpec, check_name};
pub use model::{Address, AddressScope, FdbEntry, Link, Neighbour, OperState, VxlanAttributes};
pub use monitor::{Event, Groups, Monitor};
pub use mtu::{Encapsulation, host_mtu, overhead};
pub use rtnl::{Request, Rtnl};
pub use settings::InetSetting;
pub use shape::Rate;
pub use vxlan::{Vxlan, VxlanPeer, VxlanReport};
pub use vxlan_device::VxlanSpec;
