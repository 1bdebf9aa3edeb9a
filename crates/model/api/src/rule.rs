use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Port, Protocol, meta::null_is_default};

/// What a rule does with a packet that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Accept; no later rule of this direction is asked.
    Allow,
    /// Drop.
    Deny,
    /// Log and go on with the next rule.
    Log,
    /// Skip the rest of the tier.
    #[serde(alias = "next-tier")]
    Pass,
}

/// A rule of a policy or profile. All criteria must match; inside a list one is enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// 4 or 6: only packets of this IP version.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ipVersion")]
    pub ip_version: Option<u8>,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Only this ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Any protocol but this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    /// Any ICMP type and code but this.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "notICMP")]
    pub not_icmp: Option<Icmp>,
    /// Criteria on the packet's source.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Criteria on the packet's destination.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// HTTP criteria, enforced by Dikastes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Annotations of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

impl Rule {
    /// A rule with an action and no criteria.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            ip_version: None,
            protocol: None,
            icmp: None,
            not_protocol: None,
            not_icmp: None,
            source: EntityRule::default(),
            destination: EntityRule::default(),
            http: None,
            metadata: None,
        }
    }
}

/// Annotations of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMetadata {
    /// Free text by key.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// An ICMP type and, with it, optionally a code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Icmp {
    /// The type, 0–254.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<i64>,
    /// The code, 0–255; only with a type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
}

/// Criteria on one side of a packet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    /// The address is in one of these CIDRs.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub nets: Vec<String>,
    /// The endpoint or network set is selected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The endpoint's namespace is selected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// The endpoint backs this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// The port is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ports: Vec<Port>,
    /// The address is in none of these CIDRs.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub not_nets: Vec<String>,
    /// The endpoint or network set is not selected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_selector: String,
    /// The port is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub not_ports: Vec<Port>,
    /// The endpoint runs as one of these service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
}

impl EntityRule {
    /// Whether there are no criteria.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Field by field: two empty strings are compared at the dangling addresses they have, which is slow on some
        // processors, and each rule that is written asks this twice.
        let Self {
            nets,
            selector,
            namespace_selector,
            services,
            ports,
            not_nets,
            not_selector,
            not_ports,
            service_accounts,
        } = self;
        nets.is_empty()
            && selector.is_empty()
            && namespace_selector.is_empty()
            && services.is_none()
            && ports.is_empty()
            && not_nets.is_empty()
            && not_selector.is_empty()
            && not_ports.is_empty()
            && service_accounts.is_none()
    }
}

/// A match on the endpoints of a Kubernetes service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMatch {
    /// The service's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace; a namespaced policy's own by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// A match on service accounts: names are ORed; names and selector are ANDed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountMatch {
    /// Names of service accounts.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// A selector on service account labels.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
}

/// Criteria on an HTTP request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpMatch {
    /// Methods, ORed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub methods: Vec<String>,
    /// Paths, ORed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub paths: Vec<HttpPath>,
}

/// A path criterion: exactly one of the two is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpPath {
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// The start of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}
