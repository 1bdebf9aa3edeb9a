use std::{fmt, net::IpAddr};

use caracal_net::{Family, Proto};
use serde::{Deserialize, Serialize};

/// A direction, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes through.
    Allowed,
    /// It is dropped.
    Blocked,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
        })
    }
}

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, after destination NAT.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: Proto,
    /// Source port; 0 for protocols without ports.
    pub sport: u16,
    /// Destination port; 0 for protocols without ports.
    pub dport: u16,
    /// ICMP type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

impl Packet {
    /// A packet of a protocol with ports.
    #[must_use]
    pub fn with_ports(src: IpAddr, dst: IpAddr, proto: Proto, sport: u16, dport: u16) -> Self {
        Self {
            src,
            dst,
            proto,
            sport,
            dport,
            icmp: None,
        }
    }

    /// The packet's family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.dst)
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proto.has_ports() {
            write!(
                f,
                "{} {} port {} -> {} port {}",
                self.proto, self.src, self.sport, self.dst, self.dport
            )
        } else if let Some((t, c)) = self.icmp {
            write!(f, "{} type {t} code {c} {} -> {}", self.proto, self.src, self.dst)
        } else {
            write!(f, "{} {} -> {}", self.proto, self.src, self.dst)
        }
    }
}
