//! From a rule as written to a rule with everything resolved that does not depend on a packet
//! (`calico-components.md` §3.3, §3.6, §3.7).
//!
//! **Invariant:** a rule that cannot be understood becomes a Deny of everything in its place: what comes after it may
//! count on what it would have denied.

use std::sync::Arc;

use caracal_api::{Action, EntityRule, Icmp, Port, Protocol, ServiceMatch};
use caracal_desired::{IcmpMatch, List, Rule, RuleOrigin, Side};
use caracal_ids::IpSetId;
use caracal_net::{Cidr, Family, PortRange, Proto};
use caracal_selector::Selector;

use crate::{
    faults::{Fault, Faults},
    scope,
    sets::{NamedPort, SetKey, SetTable},
};

/// Turns the rules of one policy or profile.
pub(crate) struct Compiler<'a> {
    namespace: &'a str,
    table: &'a mut SetTable,
    /// Sets that the rules name, one entry for each mention.
    sets: Vec<u32>,
    faults: &'a mut Faults,
}

impl<'a> Compiler<'a> {
    /// `namespace` is the policy's; empty for global policies and profiles.
    pub(crate) fn new(namespace: &'a str, table: &'a mut SetTable, faults: &'a mut Faults) -> Self {
        Self {
            namespace,
            table,
            sets: Vec::new(),
            faults,
        }
    }

    /// The sets that the rules named, each as often as they did.
    pub(crate) fn into_sets(self) -> Box<[u32]> {
        self.sets.into_boxed_slice()
    }

    /// `field` is where the rules are, for example `spec.ingress`.
    pub(crate) fn rules(&mut self, rules: &[caracal_api::Rule], field: &str) -> Vec<Rule> {
        let numbered = rules.iter().enumerate();
        numbered
            .map(|(n, rule)| {
                let named = self.sets.len();
                self.rule(rule).unwrap_or_else(|fault| {
                    self.faults.add(fault.within(&format!("{field}[{n}]")));
                    self.sets.drain(named..).for_each(|set| self.table.forget(set));
                    Rule::new(Action::Deny)
                })
            })
            .collect()
    }

    /// The fields of faults here and below begin at the rule: nearly no rule has one.
    fn rule(&mut self, rule: &caracal_api::Rule) -> Result<Rule, Fault> {
        let protocol = protocol(rule.protocol.as_ref(), "protocol")?;
        let not_protocol = self::protocol(rule.not_protocol.as_ref(), "notProtocol")?;
        let icmp = icmp(rule.icmp.as_ref(), protocol, "icmp")?;
        let not_icmp = self::icmp(rule.not_icmp.as_ref(), protocol, "notICMP")?;
        let family = family(rule.ip_version, protocol, "ipVersion")?;
        Ok(Rule {
            action: rule.action,
            family,
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            src: self
                .side(&rule.source, protocol, true)
                .map_err(|f| f.within("source"))?,
            dst: self
                .side(&rule.destination, protocol, false)
                .map_err(|f| f.within("destination"))?,
            origin: origin(rule),
        })
    }

    fn side(&mut self, entity: &EntityRule, proto: Option<Proto>, is_source: bool) -> Result<Side, Fault> {
        let service = match &entity.services {
            Some(service) => Some(self.service(service, entity, is_source)?),
            None => None,
        };
        let mut side = Side {
            nets: nets(&entity.nets, "nets")?.into(),
            not_nets: nets(&entity.not_nets, "notNets")?.into(),
            ..Side::default()
        };
        let scope = scope::of_entity(entity, self.namespace)?;
        let (ports, named) = ports(&entity.ports, proto, "ports")?;
        let (not_ports, not_named) = self::ports(&entity.not_ports, proto, "notPorts")?;
        // Named ports are those of what the positive selector selects, even when they are negated.
        let owners = scope.positive.clone().unwrap_or_else(Selector::all);
        side.named_ports = self.named_ports(&owners, proto, &named);
        side.not_named_ports = self.named_ports(&owners, proto, &not_named);
        // A packet to a port of such a set is a packet to something selected. A number says nothing of the address.
        let told_by_ports = !named.is_empty() && ports.is_empty();
        if let Some(positive) = scope.positive.filter(|_| !told_by_ports) {
            side.ip_sets.push(self.set(positive, None));
        }
        match service {
            Some(id) if is_source => side.ip_sets.push(id),
            Some(id) => side.ip_port_sets.push(id),
            None => {}
        }
        if let Some(negative) = scope.negative {
            side.not_ip_sets.push(self.set(negative, None));
        }
        side.ports = ports.into();
        side.not_ports = not_ports.into();
        Ok(side)
    }

    /// The endpoints of a service: as a destination with their ports, as a source with any (§3.8).
    fn service(
        &mut self,
        service: &ServiceMatch,
        entity: &EntityRule,
        is_source: bool,
    ) -> Result<IpSetId, Fault> {
        let (ports, not_ports) = if is_source {
            (entity.ports.clone(), entity.not_ports.clone())
        } else {
            Default::default()
        };
        let alone = EntityRule {
            services: entity.services.clone(),
            ports,
            not_ports,
            ..EntityRule::default()
        };
        if *entity != alone {
            let why = "cannot be with any other criterion: the service says the endpoints already";
            return Err(Fault::new("services", why));
        }
        if service.name.is_empty() {
            return Err(Fault::new("services.name", "a service needs a name"));
        }
        let namespace = match (service.namespace.as_str(), self.namespace) {
            ("", "") => {
                let why = "a policy without namespace must say the service's";
                return Err(Fault::new("services.namespace", why));
            }
            ("", own) => own,
            (given, _) => given,
        };
        Ok(self.name(SetKey::Service {
            namespace: namespace.into(),
            name: service.name.as_str().into(),
            ports: !is_source,
        }))
    }

    fn set(&mut self, selector: Selector, port: Option<NamedPort>) -> IpSetId {
        self.name(SetKey::Selected { selector, port })
    }

    fn name(&mut self, key: SetKey) -> IpSetId {
        let (set, id) = self.table.name(key);
        self.sets.push(set);
        id
    }

    fn named_ports(&mut self, owners: &Selector, proto: Option<Proto>, names: &[&str]) -> List<IpSetId> {
        let ids = names.iter().map(|name| {
            let port = NamedPort {
                proto,
                name: Arc::from(*name),
            };
            self.set(owners.clone(), Some(port))
        });
        ids.collect()
    }
}

fn protocol(protocol: Option<&Protocol>, field: &str) -> Result<Option<Proto>, Fault> {
    let Some(written) = protocol else {
        return Ok(None);
    };
    // A number of 0 is a protocol to the kernel, but none that policy may name.
    let known = written.proto().filter(|p| p.0 > 0);
    known.map(Some).ok_or_else(|| {
        let why = format!(
            "{written} is not a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255 is expected"
        );
        Fault::new(field, why)
    })
}

fn family(ip_version: Option<u8>, proto: Option<Proto>, field: &str) -> Result<Option<Family>, Fault> {
    let stated = match ip_version {
        None => None,
        Some(4) => Some(Family::V4),
        Some(6) => Some(Family::V6),
        Some(n) => {
            return Err(Fault::new(
                field,
                format!("{n} is not an IP version: 4 or 6 is expected"),
            ));
        }
    };
    let implied = match proto {
        Some(Proto::ICMP) => Some(Family::V4),
        Some(Proto::ICMPV6) => Some(Family::V6),
        _ => None,
    };
    match (stated, implied) {
        (Some(s), Some(i)) if s != i => Err(Fault::new(
            field,
            format!("{} contradicts the protocol, which is of {i}", s.number()),
        )),
        _ => Ok(stated.or(implied)),
    }
}

fn icmp(icmp: Option<&Icmp>, proto: Option<Proto>, field: &str) -> Result<Option<IcmpMatch>, Fault> {
    let Some(icmp) = icmp else {
        return Ok(None);
    };
    let (icmp_type, code) = match (icmp.icmp_type, icmp.code) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(Fault::new(field, "a code needs a type")),
        (Some(icmp_type), code) => (icmp_type, code),
    };
    if !matches!(proto, Some(Proto::ICMP | Proto::ICMPV6)) {
        return Err(Fault::new(field, "the rule's protocol must be ICMP or ICMPv6"));
    }
    let in_range = |name: &str, n: i64, max: u8| {
        let small = u8::try_from(n).ok().filter(|n| *n <= max);
        small.ok_or_else(|| Fault::new(format!("{field}.{name}"), format!("{n} is not from 0 to {max}")))
    };
    Ok(Some(IcmpMatch {
        icmp_type: in_range("type", icmp_type, 254)?,
        code: code.map(|code| in_range("code", code, 255)).transpose()?,
    }))
}

fn nets(texts: &[String], field: &str) -> Result<Vec<Cidr>, Fault> {
    let numbered = texts.iter().enumerate();
    numbered
        .map(|(n, text)| {
            text.parse()
                .map_err(|e| Fault::new(format!("{field}[{n}]"), format!("{e}")))
        })
        .collect()
}

/// Ports by number and by name.
fn ports<'a>(
    ports: &'a [Port],
    proto: Option<Proto>,
    field: &str,
) -> Result<(Vec<PortRange>, Vec<&'a str>), Fault> {
    let (mut numbers, mut names) = (Vec::new(), Vec::new());
    for port in ports {
        match port {
            Port::Range(range) => numbers.push(*range),
            Port::Named(name) if names.contains(&name.as_str()) => {}
            Port::Named(name) => names.push(name.as_str()),
        }
    }
    match proto {
        Some(p) if !p.has_ports() && !ports.is_empty() => {
            let why = format!("{p} has no ports that a rule can name: TCP, UDP or SCTP is expected");
            Err(Fault::new(field, why))
        }
        None if !numbers.is_empty() => Err(Fault::new(
            field,
            "ports need a protocol: set the rule's protocol to TCP, UDP or SCTP",
        )),
        _ => Ok((numbers, names)),
    }
}

fn origin(rule: &caracal_api::Rule) -> Option<Arc<RuleOrigin>> {
    let (src, dst) = (&rule.source, &rule.destination);
    let annotations = rule.metadata.iter().flat_map(|m| &m.annotations);
    let origin = RuleOrigin {
        src_service_accounts: src.service_accounts.clone(),
        dst_service_accounts: dst.service_accounts.clone(),
        http: rule.http.clone(),
        annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
    };
    (origin != RuleOrigin::default()).then(|| Arc::new(origin))
}
