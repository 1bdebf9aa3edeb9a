use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is no port or range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a port: {why}")]
pub struct BadPort {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Ports from `first` to `last`, both inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether `port` is inside.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PortRange {
    type Err = BadPort;
    /// `80` or `80:90`.
    fn from_str(s: &str) -> Result<Self, BadPort> {
        let bad = |why| BadPort {
            text: s.chars().take(40).collect(),
            why,
        };
        let one = |t: &str| {
            if t.is_empty() || !t.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad("a number from 0 to 65535, or two joined by ':', is expected"));
            }
            t.parse::<u16>().map_err(|_| bad("a port is at most 65535"))
        };
        let (first, last) = match s.split_once(':') {
            Some((a, b)) => (one(a)?, one(b)?),
            None => (one(s)?, one(s)?),
        };
        if first > last {
            return Err(bad("the first port of a range must not be above the last"));
        }
        Ok(Self { first, last })
    }
}

/// A transport protocol by its number, with the names that policies use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Proto(pub u8);

impl Proto {
    /// ICMP (1).
    pub const ICMP: Proto = Proto(1);
    /// TCP (6).
    pub const TCP: Proto = Proto(6);
    /// UDP (17).
    pub const UDP: Proto = Proto(17);
    /// ICMPv6 (58).
    pub const ICMPV6: Proto = Proto(58);
    /// SCTP (132).
    pub const SCTP: Proto = Proto(132);
    /// UDP-Lite (136).
    pub const UDPLITE: Proto = Proto(136);

    /// The protocol of a name as policies write it (any case), or of a number from 1 to 255 in digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "tcp" => Self::TCP,
            "udp" => Self::UDP,
            "icmp" => Self::ICMP,
            "icmpv6" => Self::ICMPV6,
            "sctp" => Self::SCTP,
            "udplite" => Self::UDPLITE,
            t if t.bytes().all(|b| b.is_ascii_digit()) => Self(t.parse().ok().filter(|n| *n > 0)?),
            _ => return None,
        })
    }

    /// Whether the protocol has ports that a policy can name: TCP, UDP, SCTP.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::ICMP => f.write_str("ICMP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::SCTP => f.write_str("SCTP"),
            Self::UDPLITE => f.write_str("UDPLite"),
            Self(n) => write!(f, "{n}"),
        }
    }
}

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_protocols() {
        assert_eq!(
            "80:90".parse::<PortRange>().unwrap(),
            PortRange { first: 80, last: 90 }
        );
        assert_eq!("0".parse::<PortRange>().unwrap(), PortRange::single(0));
        for bad in ["", "90:80", "65536", "http", "1:2:3", "+1", ":"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
        assert_eq!(Proto::parse("tCp"), Some(Proto::TCP));
        assert_eq!(Proto::parse("17"), Some(Proto::UDP));
        assert_eq!(Proto::parse("0"), None);
        assert_eq!(Proto::parse("256"), None);
    }
}
