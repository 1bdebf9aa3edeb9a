use std::sync::Arc;

use caracal_api::{Action, HttpMatch, ServiceAccountMatch};
use caracal_ids::{IpSetId, PolicyId, ProfileName, TierName};
use caracal_net::{Cidr, Family, PortRange, Proto};
use serde::{Deserialize, Serialize};

use crate::List;

/// An ICMP type and optionally a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IcmpMatch {
    /// The type.
    pub icmp_type: u8,
    /// The code; any when absent.
    pub code: Option<u8>,
}

/// Criteria on one side of a packet. Different fields are ANDed, except that `ports` and `named_ports` (and their
/// negations) are one criterion. Inside a positive list one entry is enough; a negative list excludes all its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Side {
    /// The address is in one of these.
    pub nets: List<Cidr>,
    /// The address is in none of these.
    pub not_nets: List<Cidr>,
    /// The address is in **every** one of these sets (a positive selector, possibly merged with a negative one).
    pub ip_sets: List<IpSetId>,
    /// The address is in none of these sets; addresses that no set knows match.
    pub not_ip_sets: List<IpSetId>,
    /// The port is one of these …
    pub ports: List<PortRange>,
    /// … or (address, protocol, port) is in one of these sets.
    pub named_ports: List<IpSetId>,
    /// The port is none of these …
    pub not_ports: List<PortRange>,
    /// … and (address, protocol, port) is in none of these sets.
    pub not_named_ports: List<IpSetId>,
    /// (address, protocol, port) is in one of these sets: the endpoints of a service.
    pub ip_port_sets: List<IpSetId>,
}

impl Side {
    /// Whether there are no criteria.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

/// What the user wrote and the kernel does not judge by, for people and for Dikastes. Selectors are in the objects, and their
/// meaning is in the sets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleOrigin {
    /// Source service accounts.
    pub src_service_accounts: Option<ServiceAccountMatch>,
    /// Destination service accounts.
    pub dst_service_accounts: Option<ServiceAccountMatch>,
    /// HTTP criteria.
    pub http: Option<HttpMatch>,
    /// Annotations of the rule.
    pub annotations: Vec<(String, String)>,
}

/// A rule with everything resolved that does not depend on a packet. The rule's number is its place in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// Only packets of this family. ICMP implies IPv4, ICMPv6 implies IPv6 (already filled in).
    pub family: Option<Family>,
    /// Only this protocol.
    pub protocol: Option<Proto>,
    /// Any protocol but this.
    pub not_protocol: Option<Proto>,
    /// Only this ICMP type and code.
    pub icmp: Option<IcmpMatch>,
    /// Any ICMP type and code but this.
    pub not_icmp: Option<IcmpMatch>,
    /// Criteria on the source.
    pub src: Side,
    /// Criteria on the destination.
    pub dst: Side,
    /// What else the user wrote, if anything.
    pub origin: Option<Arc<RuleOrigin>>,
}

impl Rule {
    /// A rule with an action and no criteria.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            family: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            src: Side::default(),
            dst: Side::default(),
            origin: None,
        }
    }

    /// Whether the rule can match packets of `family` at all (`calico-components.md` §3.7): a rule with an IP version
    /// of the other family cannot; nor can one where any list of nets, positive or negated, is not empty but has no
    /// CIDR of this family, or where a negated list holds the whole family.
    #[must_use]
    pub fn applies_to(&self, family: Family) -> bool {
        if self.family.is_some_and(|f| f != family) {
            return false;
        }
        let has = |nets: &[Cidr]| nets.is_empty() || nets.iter().any(|c| c.family() == family);
        let all = |nets: &[Cidr]| nets.iter().any(|c| c.family() == family && c.is_catch_all());
        [&self.src, &self.dst]
            .iter()
            .all(|s| has(&s.nets) && has(&s.not_nets) && !all(&s.not_nets))
    }
}

/// A policy that at least one local endpoint needs; or, then without rules, a staged one that would replace or delete one
/// that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Identity.
    pub id: PolicyId,
    /// The tier it is in.
    pub tier: TierName,
    /// Rules for traffic to the endpoint.
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint.
    pub egress: Vec<Rule>,
    /// Whether it is a doNotTrack policy.
    pub untracked: bool,
    /// Whether it is a preDNAT policy.
    pub pre_dnat: bool,
}

/// A profile that at least one local endpoint names. A profile that does not exist is here with one Deny rule in each
/// direction: a missing referent is a deny.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Identity.
    pub name: ProfileName,
    /// Rules for traffic to the endpoint.
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint.
    pub egress: Vec<Rule>,
}
