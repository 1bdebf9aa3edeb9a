use caracal_net::{Family, Proto};
use caracal_selector::Selector;

use crate::{
    Action, EntityRule, HttpMatch, Icmp, Port, Protocol, Rule,
    validate::{
        check::{Check, Range},
        meta, text,
    },
};

/// The names that a rule can call a protocol by.
const PROTOCOLS: &str = "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255";
const MAX_NETS: usize = 256;
const MAX_PORTS: usize = 50;
const MAX_HTTP: usize = 20;
const MAX_PATH: usize = 1024;

/// Where a rule stands, as far as that matters.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Whether it is a rule for traffic to the endpoint.
    pub(super) ingress: bool,
    /// Whether a service must be named with its namespace.
    pub(super) global: bool,
}

pub(super) fn rules(c: &mut Check, key: &str, rules: &[Rule], place: Place) {
    c.count(key, rules.len(), 1024);
    c.each(key, rules, |c, r| rule(c, r, place));
}

fn rule(c: &mut Check, r: &Rule, place: Place) {
    if let Some(v) = r.ip_version {
        c.require(v == 4 || v == 6, "ipVersion", v, "is no IP version: 4 or 6");
    }
    protocols(c, r);
    families(c, r);
    c.field("source", |c| {
        entity(c, &r.source);
        service(c, &r.source, place, place.ingress);
    });
    c.field("destination", |c| {
        entity(c, &r.destination);
        service(c, &r.destination, place, !place.ingress);
        if r.destination.services.is_some() {
            for (key, ports) in [
                ("ports", &r.destination.ports),
                ("notPorts", &r.destination.not_ports),
            ] {
                c.require(
                    ports.is_empty(),
                    key,
                    "",
                    "cannot be with services, whose endpoints say the ports",
                );
            }
        }
    });
    if let Some(http) = &r.http {
        let tcp = r.protocol.as_ref().is_none_or(|p| p.proto() == Some(Proto::TCP));
        c.require(
            tcp,
            "protocol",
            show(r.protocol.as_ref()),
            "must be TCP or absent with http",
        );
        c.require(
            r.action == Action::Allow,
            "http",
            "",
            "is only possible with action Allow",
        );
        c.require(place.ingress, "http", "", "is only possible in ingress rules");
        c.field("http", |c| self::http(c, http));
    }
    if let Some(m) = &r.metadata {
        c.field("metadata", |c| meta::annotations(c, &m.annotations));
    }
}

fn show(p: Option<&Protocol>) -> String {
    p.map_or_else(String::new, ToString::to_string)
}

fn protocols(c: &mut Check, r: &Rule) {
    for (key, protocol) in [("protocol", &r.protocol), ("notProtocol", &r.not_protocol)] {
        if let Some(p) = protocol {
            c.field(key, |c| self::protocol(c, p));
        }
    }
    let proto = r.protocol.as_ref().and_then(Protocol::proto);
    let ports_possible = matches!(proto, Some(Proto::TCP | Proto::UDP | Proto::SCTP));
    for (side, e) in [("source", &r.source), ("destination", &r.destination)] {
        c.field(side, |c| {
            for (key, ports) in [("ports", &e.ports), ("notPorts", &e.not_ports)] {
                c.require(
                    ports.is_empty() || ports_possible,
                    key,
                    ports.first().map_or_else(String::new, ToString::to_string),
                    "needs the rule's protocol to be TCP, UDP or SCTP",
                );
            }
        });
    }
    let icmp_possible = matches!(proto, Some(Proto::ICMP | Proto::ICMPV6));
    if let Some(icmp) = &r.icmp {
        c.require(
            icmp_possible,
            "icmp",
            "",
            "needs the rule's protocol to be ICMP or ICMPv6",
        );
        c.field("icmp", |c| self::icmp(c, icmp));
    }
    if let Some(icmp) = &r.not_icmp {
        c.field("notICMP", |c| self::icmp(c, icmp));
    }
    for p in [&r.protocol, &r.not_protocol].into_iter().flatten() {
        let version = match p.proto() {
            Some(Proto::ICMP) => 4,
            Some(Proto::ICMPV6) => 6,
            _ => continue,
        };
        if let Some(v) = r.ip_version.filter(|v| *v != version) {
            c.fail_at(
                "ipVersion",
                v,
                format!("must be {version} or absent with protocol {p}"),
            );
        }
    }
}

/// A protocol that exists.
pub(super) fn protocol(c: &mut Check, p: &Protocol) {
    let good = match p {
        Protocol::Number(n) => *n > 0,
        Protocol::Name(name) => matches!(
            name.as_str(),
            "TCP" | "UDP" | "ICMP" | "ICMPv6" | "SCTP" | "UDPLite"
        ),
    };
    if !good {
        c.fail_allowed(p, "is no protocol", PROTOCOLS);
    }
}

fn icmp(c: &mut Check, icmp: &Icmp) {
    if let Some(t) = icmp.icmp_type {
        c.bounds("type", t, 0, 254);
    }
    if let Some(code) = icmp.code {
        c.bounds("code", code, 0, 255);
        c.require(icmp.icmp_type.is_some(), "code", code, "needs a type");
    }
}

/// All nets of a rule are of one family: a rule with both would match nothing.
fn families(c: &mut Check, r: &Rule) {
    let mut seen: Option<Family> = None;
    for (side, e) in [("source", &r.source), ("destination", &r.destination)] {
        c.field(side, |c| {
            for (key, nets) in [("nets", &e.nets), ("notNets", &e.not_nets)] {
                c.count(key, nets.len(), MAX_NETS);
                c.unique(key, nets);
                c.each(key, nets, |c, net| {
                    let Some(cidr) = c.cidr(net, Range::Strict) else {
                        return;
                    };
                    let family = cidr.family();
                    if let Some(v) = r.ip_version.filter(|v| *v != family.number()) {
                        c.fail(net, format!("is not of the rule's ipVersion {v}"));
                    } else if *seen.get_or_insert(family) != family {
                        c.fail(
                            net,
                            "is not of the family of the rule's other nets: make it a rule of its own",
                        );
                    }
                });
            }
        });
    }
}

fn entity(c: &mut Check, e: &EntityRule) {
    for (key, text) in [("selector", &e.selector), ("notSelector", &e.not_selector)] {
        if !text.is_empty() {
            c.plain_selector(key, text);
        }
    }
    if !e.namespace_selector.is_empty() {
        let text = &e.namespace_selector;
        let mixed = |s: Selector| s.contains_global() && !s.is_global();
        if c.selector("namespaceSelector", text).is_some_and(mixed) {
            c.fail_at(
                "namespaceSelector",
                text,
                "uses global() with something else: it can only stand alone",
            );
        }
    }
    for (key, ports) in [("ports", &e.ports), ("notPorts", &e.not_ports)] {
        c.count(key, ports.len(), MAX_PORTS);
        c.each(key, ports, port);
    }
    if let Some(accounts) = &e.service_accounts {
        c.field("serviceAccounts", |c| {
            c.unique("names", &accounts.names);
            c.each("names", &accounts.names, |c, n| c.name(n));
            if !accounts.selector.is_empty() {
                c.plain_selector("selector", &accounts.selector);
            }
        });
    }
}

fn port(c: &mut Check, p: &Port) {
    match p {
        Port::Range(r) if r.first == 0 => c.fail_allowed(p, "is no port", "1 to 65535"),
        Port::Named(name) if !text::is_made_of(name, "_.-", 128) => {
            c.fail_allowed(
                name,
                "is no port",
                "a number, a range as 80:90, or a name of letters, digits, '_', '.', '-'",
            );
        }
        Port::Range(_) | Port::Named(_) => {}
    }
}

fn service(c: &mut Check, e: &EntityRule, place: Place, possible: bool) {
    let Some(service) = &e.services else { return };
    if !possible {
        let side = if place.ingress { "source" } else { "destination" };
        c.fail_at(
            "services",
            &service.name,
            format!("is only possible in the {side} of this rule"),
        );
    }
    c.field("services", |c| {
        if service.name.is_empty() {
            c.fail_at("name", "", "a service needs a name");
        } else {
            c.field("name", |c| c.name(&service.name));
        }
        c.optional_name("namespace", &service.namespace);
        let known = !place.global || !service.namespace.is_empty();
        c.require(known, "namespace", "", "must be given where the policy has none");
    });
    for (key, absent) in [
        ("namespaceSelector", e.namespace_selector.is_empty()),
        ("selector", e.selector.is_empty()),
        ("notSelector", e.not_selector.is_empty()),
        ("serviceAccounts", e.service_accounts.is_none()),
        ("nets", e.nets.is_empty()),
        ("notNets", e.not_nets.is_empty()),
    ] {
        c.require(
            absent,
            key,
            "",
            "cannot be with services, which says the endpoints already",
        );
    }
}

fn http(c: &mut Check, http: &HttpMatch) {
    c.count("methods", http.methods.len(), MAX_HTTP);
    c.unique("methods", &http.methods);
    c.count("paths", http.paths.len(), MAX_HTTP);
    c.each("paths", &http.paths, |c, path| {
        let (exact, prefix) = (
            path.exact.as_deref().filter(|p| !p.is_empty()),
            path.prefix.as_deref().filter(|p| !p.is_empty()),
        );
        let (key, text) = match (exact, prefix) {
            (Some(text), None) => ("exact", text),
            (None, Some(text)) => ("prefix", text),
            _ => return c.fail("", "needs exactly one of exact and prefix"),
        };
        c.field(key, |c| {
            if !text.starts_with('/') || text.contains(['?', ' ', '#']) {
                c.fail(text, "must start with '/' and have no '?', '#' or space in it");
            }
            if text.len() > MAX_PATH {
                c.fail_allowed(
                    text,
                    format!("has {} characters", text.len()),
                    format!("{MAX_PATH} at most"),
                );
            }
        });
    });
}
