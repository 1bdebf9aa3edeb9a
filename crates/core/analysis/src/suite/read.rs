//! Assertions from a file.

use caracal_net::Proto;
use caracal_oracle::Verdict;
use caracal_selector::Selector;
use serde::Deserialize;
use serde_json::Value;

use super::{Assertion, Peer, SOURCE_PORT, Wanted};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tests: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    name: String,
    from: Value,
    to: Value,
    port: Value,
    #[serde(default)]
    source_port: Option<u16>,
    expect: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entity {
    pod: Option<String>,
    host: Option<String>,
    selector: Option<String>,
    namespace: Option<String>,
    address: Option<String>,
}

pub(super) fn read(source: &str, value: &Value, out: &mut Vec<Assertion>, problems: &mut Vec<String>) {
    let file = match serde_json::from_value::<File>(value.clone()) {
        Ok(file) => file,
        Err(e) => {
            problems.push(format!("{source}: a map with the list `tests` is expected: {e}"));
            return;
        }
    };
    for (n, value) in file.tests.into_iter().enumerate() {
        let place = format!("{source}, tests[{n}]");
        match line(value, &place) {
            Ok(assertion) => out.push(assertion),
            Err(e) => problems.push(format!("{place}: {e}")),
        }
    }
}

fn line(value: Value, place: &str) -> Result<Assertion, String> {
    let line: Line = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let from = peer(&line.from).map_err(|e| format!("from: {e}"))?;
    let to = peer(&line.to).map_err(|e| format!("to: {e}"))?;
    let port_text = match &line.port {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let wanted = wanted(&port_text).map_err(|e| format!("port: {e}"))?;
    let expect = match line.expect.to_ascii_lowercase().as_str() {
        "allow" => Verdict::Allowed,
        "deny" => Verdict::Blocked,
        other => return Err(format!("expect: {other:?} is not known: allow or deny")),
    };
    let name = if line.name.is_empty() {
        format!("{from} -> {to} {port_text}")
    } else {
        line.name
    };
    Ok(Assertion {
        name,
        place: place.to_owned(),
        from,
        to,
        wanted,
        port_text,
        source_port: line.source_port.unwrap_or(SOURCE_PORT),
        expect,
    })
}

fn peer(value: &Value) -> Result<Peer, String> {
    const FORMS: &str =
        "namespace/pod, an address, or a map with one of pod, host, address, selector (and namespace)";
    if let Value::String(text) = value {
        return match text.parse() {
            Ok(address) => Ok(Peer::Address(address)),
            Err(_) => pod(text).map_err(|e| format!("{e}; {FORMS} is expected")),
        };
    }
    let entity: Entity =
        serde_json::from_value(value.clone()).map_err(|e| format!("{e}; {FORMS} is expected"))?;
    match entity {
        Entity {
            pod: Some(name),
            host: None,
            selector: None,
            namespace: None,
            address: None,
        } => pod(&name),
        Entity {
            host: Some(name),
            pod: None,
            selector: None,
            namespace: None,
            address: None,
        } => Ok(Peer::Host(name)),
        Entity {
            address: Some(text),
            pod: None,
            host: None,
            selector: None,
            namespace: None,
        } => text
            .parse()
            .map(Peer::Address)
            .map_err(|_| format!("{text:?} is not an address")),
        Entity {
            selector,
            namespace,
            pod: None,
            host: None,
            address: None,
        } if selector.is_some() || namespace.is_some() => {
            let selector = selector.unwrap_or_else(|| "all()".to_owned());
            Selector::parse(&selector).map_err(|e| format!("selector: {}", e.summary()))?;
            Ok(Peer::Labels { selector, namespace })
        }
        _ => Err(format!("{FORMS} is expected")),
    }
}

fn pod(text: &str) -> Result<Peer, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Peer::Pod(text.to_owned()))
        }
        _ => Err(format!("{text:?} is neither namespace/pod nor an address")),
    }
}

fn wanted(text: &str) -> Result<Wanted, String> {
    const FORMS: &str =
        "80, http, TCP/80, UDP/53, SCTP/9, ICMP, ICMP/8, ICMP/3/4 or a protocol without ports";
    let error = || format!("{text:?} is not known: {FORMS}");
    let mut parts = text.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(error());
    }
    let lower = first.to_ascii_lowercase();
    if lower == "icmp" || lower == "icmpv6" {
        let number = |t: Option<&str>, default: u8| t.map_or(Some(default), |t| t.parse().ok());
        // An echo request, unless another type is asked for.
        let kind = number(second, if lower == "icmp" { 8 } else { 128 });
        return kind
            .zip(number(third, 0))
            .map(|(t, c)| Wanted::Icmp(t, c))
            .ok_or_else(error);
    }
    if third.is_some() {
        return Err(error());
    }
    let Some(port) = second else {
        if let Ok(port) = first.parse() {
            return Ok(Wanted::Port(Proto::TCP, port));
        }
        return match Proto::parse(first) {
            Some(proto) if proto.has_ports() => Err(format!("{text:?} needs a port, for example {first}/80")),
            Some(proto) => Ok(Wanted::Proto(proto)),
            None if first.is_empty() => Err(error()),
            None => Ok(Wanted::Named(first.to_owned())),
        };
    };
    let proto = Proto::parse(first).filter(|p| p.has_ports()).ok_or_else(error)?;
    let port = port.parse().map_err(|_| error())?;
    Ok(Wanted::Port(proto, port))
}
