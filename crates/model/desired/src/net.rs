use std::net::{IpAddr, Ipv4Addr};

use caracal_api::EncapMode;
use caracal_ids::NodeName;
use caracal_net::{Cidr, MacAddr, PerFamily};
use serde::{Deserialize, Serialize};

/// How a pool's traffic travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EncapType {
    /// The destination is in no pool.
    #[default]
    None,
    /// Unencapsulated.
    NoEncap,
    /// VXLAN.
    Vxlan,
    /// IP-in-IP.
    Ipip,
}

/// What a destination is; several can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteFlags {
    /// A workload (or block of workloads) on another node.
    pub remote_workload: bool,
    /// Another node's own address.
    pub remote_host: bool,
    /// A workload (or block of workloads) on this node.
    pub local_workload: bool,
    /// This node's own address.
    pub local_host: bool,
    /// Another node's tunnel address.
    pub remote_tunnel: bool,
    /// This node's tunnel address.
    pub local_tunnel: bool,
}

/// All that is known about a destination that is relevant for routing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// The destination.
    pub dst: Cidr,
    /// What it is.
    pub flags: RouteFlags,
    /// The kind of pool it is in.
    pub pool: EncapType,
    /// Whether traffic from it to outside all pools is masqueraded.
    pub nat_outgoing: bool,
    /// The node it is on.
    pub node: Option<NodeName>,
    /// That node's address of the same family.
    pub node_ip: Option<IpAddr>,
    /// Whether that node is in this node's subnet.
    pub same_subnet: bool,
    /// Whether the packets must be encapsulated: the pool's mode and `same_subnet` taken together.
    pub encap: bool,
    /// Whether the address was borrowed from another node's block.
    pub borrowed: bool,
    /// Whether the destination is a whole block of this node, whose free addresses must not leave it.
    pub local_block: bool,
}

/// A node's end of the VXLAN tunnels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// The node.
    pub node: NodeName,
    /// MAC address of its device per underlay family.
    pub mac: PerFamily<Option<MacAddr>>,
    /// Address of its device.
    pub tunnel_addr: PerFamily<Option<IpAddr>>,
    /// Its underlay address.
    pub underlay: PerFamily<Option<IpAddr>>,
}

/// A node's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The node.
    pub node: NodeName,
    /// Its addresses with their subnets.
    pub addr: PerFamily<Option<caracal_net::IfAddr>>,
    /// The address of its device for IP-in-IP.
    pub ipip: Option<Ipv4Addr>,
}

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its range.
    pub cidr: Cidr,
    /// Whether traffic to outside all pools is masqueraded.
    pub nat_outgoing: bool,
    /// VXLAN mode.
    pub vxlan: EncapMode,
    /// IP-in-IP mode.
    pub ipip: EncapMode,
}
