//! Whether a rule matches a packet (§3.6, §3.7, §3.8).

use std::net::IpAddr;

use caracal_api::{EntityRule, Icmp, Port, Rule, ServiceAccountMatch, ServiceMatch};
use caracal_net::{Cidr, Family, PortRange, Proto};
use caracal_oracle::Packet;

use super::{NS, Reference, SA, Thing};
use crate::Mistake;

/// One side of a packet.
#[derive(Clone, Copy)]
struct End {
    addr: IpAddr,
    port: u16,
    proto: Proto,
    is_source: bool,
}

fn parse(texts: &[String]) -> Vec<Cidr> {
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

impl Reference<'_> {
    pub(super) fn matches(&self, rule: &Rule, namespace: &str, packet: &Packet) -> bool {
        let proto = rule.protocol.as_ref().and_then(|p| p.proto());
        let implied = match proto {
            Some(Proto::ICMP) => Some(4),
            Some(Proto::ICMPV6) => Some(6),
            _ => None,
        };
        let version = match packet.family() {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        if rule.ip_version.or(implied).is_some_and(|v| v != version) {
            return false;
        }
        if proto.is_some_and(|p| p != packet.proto) {
            return false;
        }
        let not = rule.not_protocol.as_ref().and_then(|p| p.proto());
        if not == Some(packet.proto) && !self.wrong(Mistake::NotProtocolIgnored) {
            return false;
        }
        let is = |want: &Icmp| {
            let code = |got: u8| {
                let ignored = self.wrong(Mistake::IcmpCodeIgnored);
                want.code.is_none_or(|c| ignored || c == i64::from(got))
            };
            packet
                .icmp
                .is_some_and(|(t, c)| want.icmp_type == Some(i64::from(t)) && code(c))
        };
        if rule.icmp.as_ref().is_some_and(|want| !is(want)) {
            return false;
        }
        let excluded = rule.not_icmp.as_ref().is_some_and(is);
        if excluded && !self.wrong(Mistake::NotIcmpIgnored) {
            return false;
        }
        let end = |addr, port, is_source| End {
            addr,
            port,
            proto: packet.proto,
            is_source,
        };
        [
            (&rule.source, end(packet.src, packet.sport, true)),
            (&rule.destination, end(packet.dst, packet.dport, false)),
        ]
        .into_iter()
        .all(|(entity, end)| self.side(entity, namespace, end))
    }

    fn side(&self, e: &EntityRule, namespace: &str, end: End) -> bool {
        self.nets(e, end.addr) && self.whom(e, namespace, end) && self.ports(e, namespace, end)
    }

    fn nets(&self, e: &EntityRule, addr: IpAddr) -> bool {
        let family = Family::of(addr);
        let vanishes = self.wrong(Mistake::CriterionOfOtherFamilyVanishes);
        let (nets, not_nets) = (parse(&e.nets), parse(&e.not_nets));
        // A list of the other family only switches the rule off, a negated one too.
        for list in [&nets, &not_nets] {
            if !list.is_empty() && list.iter().all(|c| c.family() != family) && !vanishes {
                return false;
            }
        }
        let is_everything = |c: &&Cidr| c.family() == family && c.is_catch_all();
        let mut holes: Vec<&Cidr> = not_nets.iter().filter(|c| c.family() == family).collect();
        if self.wrong(Mistake::NegatedEverythingIgnored) {
            holes.retain(|c| !is_everything(c));
        }
        let inside = nets.iter().any(|c| c.contains(addr));
        let asks = nets.iter().any(|c| c.family() == family);
        let hit = |c: &&Cidr| c.contains(addr);
        let excluded = match self.wrong(Mistake::OneNetIsEnough) {
            true => !holes.is_empty() && holes.iter().all(hit),
            false => holes.iter().any(hit),
        };
        (inside || !asks) && !excluded
    }

    /// Whether one side of a rule says positively whom it is about.
    fn asks_whom(&self, e: &EntityRule, namespace: &str) -> bool {
        let of_accounts = |a: &ServiceAccountMatch| !a.names.is_empty() || !a.selector.is_empty();
        let accounts = e.service_accounts.as_ref();
        let forgotten = self.wrong(Mistake::NotSelectorForgetsAccounts);
        let selects = !e.selector.is_empty()
            || !e.namespace_selector.is_empty()
            || accounts.is_some_and(|a| of_accounts(a) && (e.not_selector.is_empty() || !forgotten));
        // One that names no account says nothing, but that is enough to be about the own namespace.
        let scoped =
            accounts.is_some() || (!e.not_selector.is_empty() && !self.wrong(Mistake::NotSelectorUnscoped));
        let always = self.wrong(Mistake::UnscopedRuleScoped) && e.services.is_none();
        selects || (!namespace.is_empty() && (scoped || always))
    }

    /// Whether an endpoint or network set is one that this side of a rule is about.
    fn is_about(&self, e: &EntityRule, namespace: &str, thing: &Thing) -> bool {
        let namespaces = if !e.namespace_selector.is_empty() {
            self.in_namespaces(&e.namespace_selector, thing)
        } else {
            namespace.is_empty()
                || self.wrong(Mistake::SelectorUnscoped)
                || thing.labels.get(NS).is_some_and(|ns| ns == namespace)
        };
        let accounts = e.service_accounts.as_ref().is_none_or(|a| {
            let named = a.names.is_empty()
                || self.wrong(Mistake::AccountNamesIgnored)
                || thing.labels.get(SA).is_some_and(|sa| a.names.contains(sa));
            let selected = a.selector.is_empty() || self.selects(&a.selector, thing, "pcsa.", &[SA]);
            match self.wrong(Mistake::AccountNamesOrSelector) && !a.names.is_empty() && !a.selector.is_empty()
            {
                true => named || selected,
                false => named && selected,
            }
        });
        let selected = e.selector.is_empty() || self.selects(&e.selector, thing, "", &[]);
        let excluded = !e.not_selector.is_empty() && self.selects(&e.not_selector, thing, "", &[]);
        namespaces && accounts && selected && !excluded
    }

    fn whom(&self, e: &EntityRule, namespace: &str, end: End) -> bool {
        if let Some(service) = &e.services {
            return self.is_of_service(service, namespace, end);
        }
        let at = |t: &&Thing| t.nets.iter().any(|n| n.contains(end.addr));
        if self.asks_whom(e, namespace) {
            let (names, numbers) = split(&e.ports);
            // A named port is one of whom the rule is about; only numbers leave it open.
            let told = !names.is_empty() && numbers.is_empty();
            let forgotten = self.wrong(Mistake::NumberForgetsSelector) && !names.is_empty();
            let mut here = self.things.iter().filter(at);
            return told || forgotten || here.any(|t| self.is_about(e, namespace, t));
        }
        if e.not_selector.is_empty() {
            return true;
        }
        let mut here = self.things.iter().filter(at);
        let excluded = here.any(|t| self.selects(&e.not_selector, t, "", &[]));
        let known = self.things.iter().any(|t| at(&t));
        !excluded && (known || !self.wrong(Mistake::NegatedSetNeedsKnownAddress))
    }

    fn is_of_service(&self, service: &ServiceMatch, namespace: &str, end: End) -> bool {
        let wanted = if service.namespace.is_empty() {
            namespace
        } else {
            &service.namespace
        };
        let anywhere = self.wrong(Mistake::ServiceOfOtherNamespace);
        let any_port = end.is_source || self.wrong(Mistake::ServicePortIgnored);
        self.case.slices.iter().any(|update| {
            let Some(slice) = &update.value else { return false };
            (anywhere || *update.key.namespace == *wanted)
                && *slice.service == *service.name
                && slice.addresses.contains(&end.addr)
                && (any_port
                    || slice
                        .ports
                        .iter()
                        .any(|p| p.proto == end.proto && p.port == end.port))
        })
    }

    fn ports(&self, e: &EntityRule, namespace: &str, end: End) -> bool {
        let in_ranges = |ranges: &[PortRange]| {
            let short = u16::from(self.wrong(Mistake::RangeWithoutItsEnd));
            ranges.iter().any(|r| {
                let last = if r.last > r.first { r.last - short } else { r.last };
                (r.first..=last).contains(&end.port)
            })
        };
        let anyone = self.wrong(Mistake::NamedPortOfAnyone) || !self.asks_whom(e, namespace);
        let in_names = |names: &[&str]| {
            self.things.iter().any(|t| {
                let here = t.nets.iter().any(|n| n.is_host() && n.addr() == end.addr);
                let declares = |(name, proto, port): &(String, Proto, u16)| {
                    names.contains(&name.as_str()) && *proto == end.proto && *port == end.port
                };
                here && t.ports.iter().any(declares) && (anyone || self.is_about(e, namespace, t))
            })
        };
        let (names, numbers) = split(&e.ports);
        if !e.ports.is_empty() {
            let (named, numbered) = (in_names(&names), in_ranges(&numbers));
            let both = self.wrong(Mistake::NamedPortAnded) && !names.is_empty() && !numbers.is_empty();
            let fits = if both {
                named && numbered
            } else {
                named || numbered
            };
            if !end.proto.has_ports() || !fits {
                return false;
            }
        }
        let (names, numbers) = split(&e.not_ports);
        if !e.not_ports.is_empty() && !self.wrong(Mistake::NotPortsIgnored) {
            return end.proto.has_ports() && !in_names(&names) && !in_ranges(&numbers);
        }
        true
    }
}

fn split(ports: &[Port]) -> (Vec<&str>, Vec<PortRange>) {
    let (mut names, mut numbers) = (Vec::new(), Vec::new());
    for port in ports {
        match port {
            Port::Named(name) => names.push(name.as_str()),
            Port::Range(range) => numbers.push(*range),
        }
    }
    (names, numbers)
}
