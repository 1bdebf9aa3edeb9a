use std::fmt;

use caracal_net::{PortRange, Proto};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A protocol as a rule writes it: a name (`TCP`, `UDP`, `ICMP`, `ICMPv6`, `SCTP`, `UDPLite`) or a number 1–255.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// By number.
    Number(u8),
    /// By name, as written.
    Name(String),
}

impl Protocol {
    /// The protocol's number; `None` for a name that is not known.
    #[must_use]
    pub fn proto(&self) -> Option<Proto> {
        match self {
            Self::Number(n) => Some(Proto(*n)),
            Self::Name(s) => Proto::parse(s),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Name(s) => f.write_str(s),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => s.serialize_u8(*n),
            Self::Name(t) => s.serialize_str(t),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl de::Visitor<'_> for V {
            type Value = Protocol;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Protocol, E> {
                u8::try_from(n)
                    .map(Protocol::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Protocol, E> {
                u8::try_from(n)
                    .map(Protocol::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Protocol, E> {
                // Digits in quotes mean the number, as Calico's decoder takes them.
                Ok(s.parse::<u8>()
                    .map_or_else(|_| Protocol::Name(s.to_owned()), Protocol::Number))
            }
        }
        d.deserialize_any(V)
    }
}

/// A port in a rule: a number, a range `a:b`, or the name of a workload's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// One port or a range.
    Range(PortRange),
    /// A port that endpoints declare by name.
    Named(String),
}

impl Port {
    /// One port by number.
    #[must_use]
    pub fn number(port: u16) -> Self {
        Self::Range(PortRange::single(port))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(r) => write!(f, "{r}"),
            Self::Named(s) => f.write_str(s),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Range(r) if r.first == r.last => s.serialize_u16(r.first),
            other => s.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl de::Visitor<'_> for V {
            type Value = Port;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port: a number from 0 to 65535, a range \"first:last\", or the name of a port")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Port, E> {
                u16::try_from(n)
                    .map(Port::number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Port, E> {
                u16::try_from(n)
                    .map(Port::number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Port, E> {
                // Digits (and a colon) can only be meant as numbers; anything else is a name.
                if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit() || b == b':') {
                    return s.parse().map(Port::Range).map_err(E::custom);
                }
                Ok(Port::Named(s.to_owned()))
            }
        }
        d.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_protocols_keep_their_form() {
        for text in ["80", "\"80:90\"", "\"http\""] {
            let p: Port = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&p).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Port>("\"80\"").unwrap(), Port::number(80));
        assert!(serde_json::from_str::<Port>("70000").is_err());
        assert!(serde_json::from_str::<Port>("\"90:80\"").is_err());
        assert!(serde_json::from_str::<Port>("-1").is_err());
        assert_eq!(
            serde_json::from_str::<Protocol>("6").unwrap().proto(),
            Some(Proto::TCP)
        );
        assert_eq!(
            serde_json::from_str::<Protocol>("\"UDP\"").unwrap().proto(),
            Some(Proto::UDP)
        );
    }
}
