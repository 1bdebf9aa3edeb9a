//! Values as types.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_net::{Cidr, PortRange, Proto};
use serde_json::{Value as Json, json};

/// A port that stays open whatever policy says, for one protocol and, if given, one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtoPort {
    /// TCP or UDP.
    pub protocol: Proto,
    /// The port.
    pub port: u16,
    /// The only peers it is open for.
    pub net: Option<Cidr>,
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// True, false or unset.
    OptionalBool(Option<bool>),
    /// A number.
    Int(i64),
    /// A time in nanoseconds; zero or less commonly means "off".
    Nanos(i64),
    /// Text, a path or a word.
    Text(String),
    /// The source of a regular expression, if set.
    Regex(Option<String>),
    /// Words, URLs, CIDRs or regular expressions; `None` if never set.
    List(Option<Vec<String>>),
    /// Ports that stay open; `None` if never set.
    ProtoPorts(Option<Vec<ProtoPort>>),
    /// A port or range; 0 means unset.
    PortRange(PortRange),
    /// Ports and ranges; `None` if never set.
    PortRanges(Option<Vec<PortRange>>),
    /// A range of route tables; 0-0 means unset.
    TableRange(u32, u32),
    /// Ranges of route tables; `None` if never set.
    TableRanges(Option<Vec<(u32, u32)>>),
    /// Key and value; `None` if never set.
    Pairs(Option<BTreeMap<String, String>>),
    /// Name and time in nanoseconds; `None` if never set.
    Durations(Option<BTreeMap<String, i64>>),
    /// An address, if set.
    Ip(Option<IpAddr>),
    /// A DSCP value.
    Dscp(u8),
    /// A bit mask.
    Mask(u32),
}

impl Value {
    /// The value as JSON, in the shape of Calico's parameter reference: times in nanoseconds, unset lists `null`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Value::Bool(b) => json!(b),
            Value::OptionalBool(b) => json!(b),
            Value::Int(n) | Value::Nanos(n) => json!(n),
            Value::Text(s) => json!(s),
            Value::Regex(r) => json!(r),
            Value::List(l) => json!(l),
            Value::ProtoPorts(l) => json!(l.as_ref().map(|l| l.iter().map(proto_port).collect::<Vec<_>>())),
            Value::PortRange(r) => port_range(*r),
            Value::PortRanges(l) => json!(
                l.as_ref()
                    .map(|l| l.iter().map(|r| port_range(*r)).collect::<Vec<_>>())
            ),
            Value::TableRange(min, max) => table_range(*min, *max),
            Value::TableRanges(l) => {
                json!(
                    l.as_ref()
                        .map(|l| l.iter().map(|(a, b)| table_range(*a, *b)).collect::<Vec<_>>())
                )
            }
            Value::Pairs(m) => json!(m),
            Value::Durations(m) => json!(m),
            Value::Ip(ip) => json!(ip.map_or_else(String::new, |ip| ip.to_string())),
            Value::Dscp(n) => json!(n),
            Value::Mask(n) => json!(n),
        }
    }
}

fn proto_port(p: &ProtoPort) -> Json {
    let mut o = json!({"protocol": p.protocol.to_string().to_lowercase(), "port": p.port});
    if let Some(net) = p.net {
        o["net"] = json!(net.to_string());
    }
    o
}

fn port_range(r: PortRange) -> Json {
    if r.first == r.last {
        json!(r.first)
    } else {
        json!(r.to_string())
    }
}

fn table_range(min: u32, max: u32) -> Json {
    json!({"Min": min, "Max": max})
}
