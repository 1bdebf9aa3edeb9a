use std::fmt;
use std::net::IpAddr;

use caracal_net::{Cidr, Family};

/// The table that ordinary routing looks at.
pub const MAIN_TABLE: u32 = 254;

/// The protocol number of Calico's routes between nodes.
pub const PROTOCOL_CLUSTER: u8 = 80;

/// `boot`, the default protocol number of Calico's routes to workloads (`DeviceRouteProtocol`).
pub const PROTOCOL_BOOT: u8 = 3;

/// The kernel's metric for an IPv6 route that asks for none.
const V6_DEFAULT_METRIC: u32 = 1024;

/// What makes a route one of a kind in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The routing table.
    pub table: u32,
    /// The destination.
    pub dst: Cidr,
    /// The metric; less is preferred.
    pub metric: u32,
}

impl RouteKey {
    /// A key. For IPv6, metric 0 means the kernel's default of 1024, as it does to the kernel.
    pub fn new(table: u32, dst: Cidr, metric: u32) -> Self {
        let unset = metric == 0 && dst.family() == Family::V6;
        Self {
            table,
            dst,
            metric: if unset { V6_DEFAULT_METRIC } else { metric },
        }
    }

    /// A key in the main table.
    pub fn main(dst: Cidr, metric: u32) -> Self {
        Self::new(MAIN_TABLE, dst, metric)
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (table {}, metric {})", self.dst, self.table, self.metric)
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Straight out of a link.
    Link(String),
    /// To a next hop.
    Via {
        /// The link it is behind.
        link: String,
        /// Its address.
        gateway: IpAddr,
        /// Take the kernel's word for it that the next hop is on the link.
        onlink: bool,
    },
    /// Dropped without a word.
    Blackhole,
    /// Refused with an ICMP message.
    Unreachable,
    /// Refused as forbidden.
    Prohibit,
    /// Ends the lookup in this table; the next rule goes on.
    Throw,
}

impl Target {
    /// The link it needs.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Link(link) | Self::Via { link, .. } => Some(link),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "dev {link}"),
            Self::Via {
                link,
                gateway,
                onlink,
            } => {
                write!(
                    f,
                    "via {gateway} dev {link}{}",
                    if *onlink { " onlink" } else { "" }
                )
            }
            Self::Blackhole => f.write_str("blackhole"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Prohibit => f.write_str("prohibit"),
            Self::Throw => f.write_str("throw"),
        }
    }
}

/// A route that should be there. Its scope follows from its target, as with iproute2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub target: Target,
    /// Who is responsible for it (`/etc/iproute2/rt_protos`).
    pub protocol: u8,
    /// The source address for packets that have none yet.
    pub source: Option<IpAddr>,
    /// The MTU of its path, if it is not the link's.
    pub mtu: Option<u32>,
}

impl Route {
    /// A route with neither source address nor MTU.
    pub fn new(target: Target, protocol: u8) -> Self {
        Self {
            target,
            protocol,
            source: None,
            mtu: None,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}
