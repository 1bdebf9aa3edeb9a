//! Text to value, for each kind.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use caracal_net::{Cidr, PortRange, Proto};
use regex::Regex;

use crate::table::{DSCP_NAMES, Kind};
use crate::value::{ProtoPort, Value};

mod number;

pub(crate) use number::{go_duration, seconds_text};

/// Why a text is not a value of its parameter's kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {allowed} is expected")]
pub struct BadValue {
    /// What is wrong.
    pub why: String,
    /// What the kind allows.
    pub allowed: String,
}

/// The most route tables that all ranges together may hold.
const MOST_TABLES: u64 = 65_535;

/// Reads `raw` as a value of `kind`. Empty text is the kind's zero value.
///
/// # Errors
/// [`BadValue`] says what is wrong and what is allowed.
pub fn parse(kind: Kind, raw: &str) -> Result<Value, BadValue> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Ok(zero(kind));
    }
    value(kind, raw).map_err(|why| BadValue {
        why,
        allowed: kind.to_string(),
    })
}

/// What the literal `none` stands for.
pub(crate) fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::OptionalBool => Value::OptionalBool(None),
        Kind::Int(_) => Value::Int(0),
        Kind::Seconds | Kind::Millis => Value::Nanos(0),
        Kind::OneOf(_)
        | Kind::Text
        | Kind::Matching(_)
        | Kind::Path
        | Kind::ExistingFile
        | Kind::Executable
        | Kind::Region => Value::Text(String::new()),
        Kind::Regex => Value::Regex(None),
        Kind::InterfacePatterns | Kind::Interfaces | Kind::Cidrs | Kind::Endpoints => Value::List(None),
        Kind::ProtoPorts => Value::ProtoPorts(None),
        Kind::PortRange => Value::PortRange(PortRange::single(0)),
        Kind::PortRanges => Value::PortRanges(None),
        Kind::TableRange => Value::TableRange(0, 0),
        Kind::TableRanges => Value::TableRanges(None),
        Kind::Pairs(_) => Value::Pairs(None),
        Kind::NamedDurations => Value::Durations(None),
        Kind::Ipv4 | Kind::Ipv6 => Value::Ip(None),
        Kind::Dscp => Value::Dscp(0),
        Kind::MarkMask => Value::Mask(0),
    }
}

fn value(kind: Kind, raw: &str) -> Result<Value, String> {
    Ok(match kind {
        Kind::Bool => Value::Bool(boolean(raw)?),
        Kind::OptionalBool => Value::OptionalBool(Some(boolean(raw)?)),
        Kind::Int((low, high)) => {
            let n = number::integer(raw)?;
            if n < low || n > high {
                return Err(format!("{n} is out of range"));
            }
            Value::Int(n)
        }
        Kind::Seconds => Value::Nanos(number::nanos(raw, 1e9)?),
        Kind::Millis => Value::Nanos(number::nanos(raw, 1e6)?),
        Kind::OneOf(words) => match words.iter().find(|w| w.eq_ignore_ascii_case(raw)) {
            Some(word) => Value::Text((*word).to_owned()),
            None => return Err(format!("{raw:?} is no such word")),
        },
        Kind::Text | Kind::Path | Kind::ExistingFile | Kind::Executable => Value::Text(raw.to_owned()),
        Kind::Matching(pattern) => {
            if !matches(pattern, raw) {
                return Err(format!("{raw:?} does not match"));
            }
            Value::Text(raw.to_owned())
        }
        Kind::Region => {
            if !matches("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", raw) {
                return Err(format!("{raw:?} is not a DNS label"));
            }
            Value::Text(raw.to_owned())
        }
        Kind::Regex => Value::Regex(Some(regular(raw)?.to_owned())),
        Kind::InterfacePatterns => Value::List(Some(list(raw, interface_pattern)?)),
        Kind::Interfaces => Value::List(Some(list(raw, interface)?)),
        Kind::Cidrs => Value::List(Some(list(raw, |s| {
            Ok(s.parse::<Cidr>().map_err(|e| e.to_string())?.to_string())
        })?)),
        Kind::Endpoints => Value::List(Some(list(raw, endpoint)?)),
        Kind::ProtoPorts => Value::ProtoPorts(Some(list(raw, proto_port)?)),
        Kind::PortRange => Value::PortRange(port_range(raw)?),
        Kind::PortRanges => Value::PortRanges(Some(list(raw, port_range)?)),
        Kind::TableRange => {
            let (min, max) = table_range(raw)?;
            if max > 250 {
                return Err("a table above 250 cannot be in this range (see RouteTableRanges)".to_owned());
            }
            Value::TableRange(min, max)
        }
        Kind::TableRanges => Value::TableRanges(Some(table_ranges(raw)?)),
        Kind::Pairs(_) => Value::Pairs(Some(pairs(raw)?)),
        Kind::NamedDurations => Value::Durations(Some(
            pairs(raw)?
                .into_iter()
                .map(|(k, v)| Ok((k, go_duration(&v)?)))
                .collect::<Result<BTreeMap<_, _>, String>>()?,
        )),
        Kind::Ipv4 => Value::Ip(Some(IpAddr::V4(
            raw.parse::<Ipv4Addr>()
                .map_err(|_| format!("{raw:?} is not an IPv4 address"))?,
        ))),
        Kind::Ipv6 => Value::Ip(Some(IpAddr::V6(
            raw.parse::<Ipv6Addr>()
                .map_err(|_| format!("{raw:?} is not an IPv6 address"))?,
        ))),
        Kind::Dscp => Value::Dscp(dscp(raw)?),
        Kind::MarkMask => Value::Mask(mask(raw)?),
    })
}

/// The elements of a comma-separated list; blanks around them and empty ones are dropped.
fn elements(raw: &str) -> impl Iterator<Item = &str> {
    raw.split(',').map(str::trim).filter(|s| !s.is_empty())
}

fn list<T>(raw: &str, one: impl FnMut(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    elements(raw).map(one).collect()
}

fn boolean(raw: &str) -> Result<bool, String> {
    match raw.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "f" => Ok(false),
        _ => Err(format!("{raw:?} is neither true nor false")),
    }
}

/// Whether a pattern of the table matches; the tests compile every pattern there is. Each is compiled once, when it is first
/// needed: all of them together would cost a short command more than the rest of its work.
pub(crate) fn matches(pattern: &'static str, text: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<&'static str, Option<Regex>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = compiled
        .entry(pattern)
        .or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_some_and(|r| r.is_match(text))
}

fn regular(raw: &str) -> Result<&str, String> {
    Regex::new(raw).map(|_| raw).map_err(|e| {
        let last = e
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        format!("{raw:?} is not a regular expression: {last}")
    })
}

fn interface(raw: &str) -> Result<String, String> {
    if matches("^[a-zA-Z0-9:._+-]{1,15}$", raw) {
        Ok(raw.to_owned())
    } else {
        Err(format!("{raw:?} is not an interface name"))
    }
}

/// `/expression/` as it is, a name as the expression that matches just it.
fn interface_pattern(raw: &str) -> Result<String, String> {
    if let Some(inner) = raw.strip_prefix('/').and_then(|r| r.strip_suffix('/')) {
        if inner.is_empty() {
            return Err("an empty expression would match every interface".to_owned());
        }
        return regular(inner).map(str::to_owned);
    }
    Ok(format!(
        "^{}$",
        regex::escape(&interface(raw)?).replace("\\-", "-")
    ))
}

fn endpoint(raw: &str) -> Result<String, String> {
    let host_port = raw
        .strip_prefix("http://")
        .or_else(|| raw.strip_prefix("https://"))
        .ok_or_else(|| format!("{raw:?} begins neither with http:// nor https://"))?;
    let (host, port) = host_port
        .trim_end_matches('/')
        .rsplit_once(':')
        .ok_or_else(|| format!("{raw:?} has no port (as in http://127.0.0.1:2379)"))?;
    if host.is_empty() || host.contains('/') {
        return Err(format!("{raw:?} has no host"));
    }
    port.parse::<u16>()
        .map_err(|_| format!("{raw:?} has a bad port {port:?}"))?;
    Ok(raw.trim_end_matches('/').to_owned())
}

fn port_range(raw: &str) -> Result<PortRange, String> {
    raw.parse::<PortRange>().map_err(|e| e.to_string())
}

/// `port`, `protocol:port` or `protocol:cidr:port`; an IPv6 CIDR stands in brackets.
fn proto_port(raw: &str) -> Result<ProtoPort, String> {
    let bad_port = |p: &str| format!("{p:?} in {raw:?} is not a port from 0 to 65535");
    let Some((protocol, rest)) = raw.split_once(':') else {
        let port = raw.parse().map_err(|_| bad_port(raw))?;
        return Ok(ProtoPort {
            protocol: Proto::TCP,
            port,
            net: None,
        });
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Proto::TCP,
        "udp" => Proto::UDP,
        _ => return Err(format!("{protocol:?} in {raw:?} is neither tcp nor udp")),
    };
    let (net, port) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((net, port)) => {
            let inner = net.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
            if inner.is_none() && net.contains(':') {
                return Err(format!("{raw:?}: an IPv6 CIDR must stand in square brackets"));
            }
            let cidr = inner.unwrap_or(net).parse::<Cidr>().map_err(|e| e.to_string())?;
            (Some(cidr), port)
        }
    };
    Ok(ProtoPort {
        protocol,
        port: port.parse().map_err(|_| bad_port(port))?,
        net,
    })
}

fn table_range(raw: &str) -> Result<(u32, u32), String> {
    let bad = || format!("{raw:?} is not a range of route tables (as in 1-250)");
    let (min, max) = raw.split_once('-').ok_or_else(bad)?;
    let (min, max) = (min.trim().parse::<u32>(), max.trim().parse::<u32>());
    match (min, max) {
        (Ok(min), Ok(max)) if min <= max => Ok((min, max)),
        (Ok(_), Ok(_)) => Err(format!("{raw:?} ends before it begins")),
        _ => Err(bad()),
    }
}

fn table_ranges(raw: &str) -> Result<Vec<(u32, u32)>, String> {
    let ranges = raw
        .split([',', ' ', '\t'])
        .filter(|s| !s.is_empty())
        .map(table_range)
        .collect::<Result<Vec<_>, _>>()?;
    let total: u64 = ranges.iter().map(|(a, b)| u64::from(b - a) + 1).sum();
    if total > MOST_TABLES {
        return Err(format!("{total} tables are too many"));
    }
    Ok(ranges)
}

fn pairs(raw: &str) -> Result<BTreeMap<String, String>, String> {
    elements(raw)
        .map(|e| match e.split_once('=') {
            Some((k, v)) if !k.trim().is_empty() => Ok((k.trim().to_owned(), v.trim().to_owned())),
            _ => Err(format!("{e:?} is not key=value")),
        })
        .collect()
}

fn dscp(raw: &str) -> Result<u8, String> {
    if let Some((_, n)) = DSCP_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(raw)) {
        return Ok(*n);
    }
    match raw.parse::<u8>() {
        Ok(n) if n < 64 => Ok(n),
        _ => Err(format!("{raw:?} is no DSCP value")),
    }
}

fn mask(raw: &str) -> Result<u32, String> {
    let n = u32::try_from(number::integer(raw)?).map_err(|_| format!("{raw:?} does not fit 32 bits"))?;
    if n.count_ones() < 2 {
        return Err(format!("{raw:?} has fewer than two bits set"));
    }
    Ok(n)
}

impl fmt::Display for Kind {
    /// What the kind allows, as the object of "… is expected".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Bool | Kind::OptionalBool => f.write_str("true, 1, yes, y, t, false, 0, no, n or f"),
            Kind::Int((i64::MIN, i64::MAX)) => f.write_str("a whole number"),
            Kind::Int((low, i64::MAX)) => write!(f, "a whole number from {low}"),
            Kind::Int((low, high)) => write!(f, "a whole number from {low} to {high}"),
            Kind::Seconds => f.write_str("a number of seconds, as in 90 or 0.5,"),
            Kind::Millis => f.write_str("a number of milliseconds, as in 50 or 0.5,"),
            Kind::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Kind::Text => f.write_str("a text"),
            Kind::Matching(pattern) => write!(f, "a text that matches {pattern}"),
            Kind::Path | Kind::ExistingFile => f.write_str("the path of a file"),
            Kind::Executable => f.write_str("the path of a program"),
            Kind::Regex => f.write_str("a regular expression"),
            Kind::InterfacePatterns => {
                f.write_str("a list of interface names or /regular expressions/, separated by commas,")
            }
            Kind::Interfaces => f.write_str("a list of interface names, separated by commas,"),
            Kind::Cidrs => f.write_str("a list of CIDRs, separated by commas,"),
            Kind::Endpoints => f.write_str("a list of URLs http(s)://host:port, separated by commas,"),
            Kind::ProtoPorts => {
                f.write_str("a list of port, tcp:port, udp:port or tcp:cidr:port, separated by commas,")
            }
            Kind::PortRange => f.write_str("a port or a range n:m within 0 to 65535"),
            Kind::PortRanges => f.write_str("a list of ports and ranges n:m, separated by commas,"),
            Kind::TableRange => f.write_str("a range n-m of route tables within 0 to 250"),
            Kind::TableRanges => write!(
                f,
                "a list of ranges n-m of at most {MOST_TABLES} route tables together"
            ),
            Kind::Pairs(_) => f.write_str("a list of key=value, separated by commas,"),
            Kind::NamedDurations => {
                f.write_str("a list of name=duration (as in 1m30s), separated by commas,")
            }
            Kind::Ipv4 => f.write_str("an IPv4 address"),
            Kind::Ipv6 => f.write_str("an IPv6 address"),
            Kind::Dscp => f.write_str("a number from 0 to 63 or a DSCP name such as EF or AF11"),
            Kind::MarkMask => f.write_str("a 32-bit mask with at least two bits set, as in 0xffff0000,"),
            Kind::Region => f.write_str("a DNS label"),
        }
    }
}

#[cfg(test)]
mod tests;
