use std::collections::BTreeMap;

use caracal_api::{
    Action, EntityRule, FieldPath, GlobalNetworkPolicySpec, LabelSelector, Object, ObjectMeta, PolicyType,
    Port, Problem, Protocol, Rule, RuleMetadata,
};
use caracal_net::{Cidr, Family, PortRange};
use serde::{Deserialize, Serialize};

use crate::{
    ConvertError, Converted,
    error::problem,
    selector::{namespace_selector, pod_selector},
};

/// What precedes the name of a cluster network policy in Calico's.
pub const CLUSTER_POLICY_PREFIX: &str = "kcnp.";

/// The annotation of a rule that holds its name.
const RULE_NAME: &str = "name";

/// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicy {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: ClusterNetworkPolicySpec,
}

/// Its spec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: String,
    /// Its place in the tier, ascending.
    pub priority: Option<i64>,
    /// The pods that it governs.
    pub subject: ClusterPeer,
    /// Rules for traffic to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<ClusterIngressRule>,
    /// Rules for traffic from them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<ClusterEgressRule>,
}

/// Pods of selected namespaces: all of them, or selected ones. Exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterPeer {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// These pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<ClusterPods>,
    /// These ranges of addresses; only where traffic goes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

/// Pods by their namespaces and their own labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPods {
    /// The namespaces; all when empty.
    pub namespace_selector: LabelSelector,
    /// The pods; all when empty.
    pub pod_selector: LabelSelector,
}

/// A rule for traffic to the policy's pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterIngressRule {
    /// Its name, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Where it comes from, at least one.
    pub from: Vec<ClusterPeer>,
    /// Protocols and ports; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<ClusterProtocol>,
}

/// A rule for traffic from the policy's pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterEgressRule {
    /// Its name, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Where it goes, at least one.
    pub to: Vec<ClusterPeer>,
    /// Protocols and ports; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<ClusterProtocol>,
}

/// A protocol with its ports, or a port by name. Exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterProtocol {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ClusterPorts>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ClusterPorts>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<ClusterPorts>,
    /// A port that pods declare by name, of any protocol.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_named_port: String,
}

/// The ports of a protocol; all when absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterPorts {
    /// A port or a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<ClusterPort>,
}

/// A port or a range. Exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterPort {
    /// A port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// A range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<ClusterPortRange>,
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterPortRange {
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
}

/// A cluster network policy as Calico's. A rule that cannot be converted is reported: where it would have allowed it is
/// left out, else a Deny of everything stands in its place (`calico-components.md` §3.12).
///
/// # Errors
/// When the tier, the priority or the pods that it governs cannot be told.
pub fn cluster_network_policy(
    policy: &ClusterNetworkPolicy,
) -> Result<Converted<Object<GlobalNetworkPolicySpec>>, ConvertError> {
    let (meta, spec) = (&policy.metadata, &policy.spec);
    let at = FieldPath::of("spec");
    let failed = |problems| ConvertError::new("ClusterNetworkPolicy", meta, problems);
    let tier = match spec.tier.as_str() {
        "Admin" => "kube-admin",
        "Baseline" => "kube-baseline",
        other => {
            let why = format!("{other:?} is not a tier: Admin or Baseline is expected");
            return Err(failed(vec![problem(&at.key("tier"), why)]));
        }
    };
    let priority = spec.priority.filter(|p| (0..=1000).contains(p)).ok_or_else(|| {
        let why = "a number from 0 to 1000 is expected";
        failed(vec![problem(&at.key("priority"), why)])
    })?;
    let subject = peer(&spec.subject, &at.key("subject"), false).map_err(failed)?;
    // It governs pods: other endpoints may be in a namespace too.
    let selector = match &spec.subject.pods {
        Some(_) => subject.selector,
        None => pod_selector(&LabelSelector::default(), &at)
            .map_err(failed)?
            .canonical()
            .to_owned(),
    };

    let mut problems = Vec::new();
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let line = Line {
            name: &rule.name,
            action: &rule.action,
            peers: &rule.from,
            protocols: &rule.protocols,
            ingress: true,
        };
        ingress.extend(line.rules_or_closed(&at.key("ingress").index(i), &mut problems));
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let line = Line {
            name: &rule.name,
            action: &rule.action,
            peers: &rule.to,
            protocols: &rule.protocols,
            ingress: false,
        };
        egress.extend(line.rules_or_closed(&at.key("egress").index(i), &mut problems));
    }
    let governed = [(&ingress, PolicyType::Ingress), (&egress, PolicyType::Egress)];
    // Its tiers pass at their end, so only rules make a difference.
    let types = governed
        .into_iter()
        .filter_map(|(rules, t)| (!rules.is_empty()).then_some(t))
        .collect();
    let mut object = Object::new(
        format!("{CLUSTER_POLICY_PREFIX}{}", meta.name),
        GlobalNetworkPolicySpec {
            tier: tier.to_owned(),
            order: Some(priority as f64),
            ingress,
            egress,
            selector,
            namespace_selector: subject.namespace_selector,
            types,
            ..GlobalNetworkPolicySpec::default()
        },
    );
    object.metadata.uid.clone_from(&meta.uid);
    object
        .metadata
        .resource_version
        .clone_from(&meta.resource_version);
    object
        .metadata
        .creation_timestamp
        .clone_from(&meta.creation_timestamp);
    Ok(Converted { object, problems })
}

/// A rule of either direction.
struct Line<'a> {
    name: &'a str,
    action: &'a str,
    peers: &'a [ClusterPeer],
    protocols: &'a [ClusterProtocol],
    ingress: bool,
}

impl Line<'_> {
    fn rules_or_closed(&self, at: &FieldPath, problems: &mut Vec<Problem>) -> Vec<Rule> {
        self.rules(at).unwrap_or_else(|found| {
            problems.extend(found);
            match self.action {
                "Deny" | "Pass" => vec![Rule::new(Action::Deny)],
                _ => Vec::new(),
            }
        })
    }

    /// One rule per protocol, peer and family of nets.
    fn rules(&self, at: &FieldPath) -> Result<Vec<Rule>, Vec<Problem>> {
        let action = match self.action {
            "Accept" => Action::Allow,
            "Deny" => Action::Deny,
            "Pass" => Action::Pass,
            other => {
                let why = format!("{other:?} is not an action: Accept, Deny or Pass is expected");
                return Err(vec![problem(&at.key("action"), why)]);
            }
        };
        let metadata = (!self.name.is_empty()).then(|| RuleMetadata {
            annotations: BTreeMap::from([(RULE_NAME.to_owned(), self.name.to_owned())]),
        });
        let peers_at = at.key(if self.ingress { "from" } else { "to" });
        if self.peers.is_empty() {
            return Err(vec![problem(&peers_at, "at least one peer is expected")]);
        }
        let mut peers = Vec::new();
        for (i, p) in self.peers.iter().enumerate() {
            let entity = peer(p, &peers_at.index(i), !self.ingress)?;
            peers.extend(by_family(entity));
        }
        let mut out = Vec::new();
        for (protocol, ports) in protocols(self.protocols, &at.key("protocols"))? {
            for entity in &peers {
                let (source, mut destination) = if self.ingress {
                    (entity.clone(), EntityRule::default())
                } else {
                    (EntityRule::default(), entity.clone())
                };
                destination.ports.clone_from(&ports);
                out.push(Rule {
                    protocol: protocol.clone(),
                    source,
                    destination,
                    metadata: metadata.clone(),
                    ..Rule::new(action)
                });
            }
        }
        Ok(out)
    }
}

/// Calico's rules hold nets of one family.
fn by_family(entity: EntityRule) -> Vec<EntityRule> {
    let of = |family: Family| -> Vec<String> {
        let is = |t: &&String| t.parse::<Cidr>().is_ok_and(|c| c.family() == family);
        entity.nets.iter().filter(is).cloned().collect()
    };
    let families = Family::BOTH.map(of);
    if families.iter().any(Vec::is_empty) {
        return vec![entity];
    }
    let with = |nets| EntityRule {
        nets,
        ..entity.clone()
    };
    families.into_iter().map(with).collect()
}

fn peer(peer: &ClusterPeer, at: &FieldPath, networks: bool) -> Result<EntityRule, Vec<Problem>> {
    let mut entity = EntityRule::default();
    match (&peer.namespaces, &peer.pods, peer.networks.as_slice()) {
        (Some(namespaces), None, []) => {
            let selector = namespace_selector(namespaces, &at.key("namespaces"))?;
            selector.canonical().clone_into(&mut entity.namespace_selector);
        }
        (None, Some(pods), []) => {
            let at = at.key("pods");
            let namespaces = namespace_selector(&pods.namespace_selector, &at.key("namespaceSelector"))?;
            let pods = pod_selector(&pods.pod_selector, &at.key("podSelector"))?;
            namespaces.canonical().clone_into(&mut entity.namespace_selector);
            pods.canonical().clone_into(&mut entity.selector);
        }
        (None, None, [_, ..]) if networks => {
            for (i, text) in peer.networks.iter().enumerate() {
                let net = text.parse::<Cidr>().ok().filter(|_| text.contains('/'));
                let why = || {
                    vec![problem(
                        &at.key("networks").index(i),
                        format!("{text:?} is not a CIDR"),
                    )]
                };
                entity.nets.push(net.ok_or_else(why)?.to_string());
            }
        }
        _ => {
            let known = if networks {
                "namespaces, pods or networks"
            } else {
                "namespaces or pods"
            };
            return Err(vec![problem(at, format!("exactly one of {known} is expected"))]);
        }
    }
    Ok(entity)
}

/// A protocol and its ports; all of them when the list is empty.
type Ports = (Option<Protocol>, Vec<Port>);

/// Ports by protocol, in the order of their names; ports by name are of no protocol, and no entry means everything.
fn protocols(list: &[ClusterProtocol], at: &FieldPath) -> Result<Vec<Ports>, Vec<Problem>> {
    if list.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    // Nothing in place of the list means all ports.
    let mut by_name: BTreeMap<&str, Option<Vec<Port>>> = BTreeMap::new();
    let mut named: Vec<Port> = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        let at = at.index(i);
        let given = [("TCP", &entry.tcp), ("UDP", &entry.udp), ("SCTP", &entry.sctp)];
        let mut given = given
            .into_iter()
            .filter_map(|(name, p)| Some((name, p.as_ref()?)));
        match (given.next(), given.next(), entry.destination_named_port.as_str()) {
            (Some((name, ports)), None, "") => {
                let port = match &ports.destination_port {
                    None => None,
                    Some(p) => Some(port(p, &at.key(&name.to_lowercase()).key("destinationPort"))?),
                };
                let list = by_name.entry(name).or_insert_with(|| Some(Vec::new()));
                match (port, &mut *list) {
                    (Some(port), Some(ports)) if !ports.contains(&port) => ports.push(port),
                    (None, _) => *list = None,
                    _ => {}
                }
            }
            (None, None, name) if !name.is_empty() => {
                let port = Port::Named(name.to_owned());
                if !named.contains(&port) {
                    named.push(port);
                }
            }
            _ => {
                let why = "exactly one of tcp, udp, sctp or destinationNamedPort is expected";
                return Err(vec![problem(&at, why)]);
            }
        }
    }
    let numbered = by_name
        .into_iter()
        .map(|(name, ports)| (Some(Protocol::Name(name.to_owned())), ports.unwrap_or_default()));
    let mut out: Vec<_> = numbered.collect();
    // A name alone does not say the protocol: it may be a port of any.
    for protocol in ["TCP", "UDP", "SCTP"] {
        if !named.is_empty() {
            out.push((Some(Protocol::Name(protocol.to_owned())), named.clone()));
        }
    }
    Ok(out)
}

fn port(port: &ClusterPort, at: &FieldPath) -> Result<Port, Vec<Problem>> {
    let number = |n: i64, at: &FieldPath| {
        let small = u16::try_from(n).ok().filter(|n| *n > 0);
        small.ok_or_else(|| vec![problem(at, format!("{n} is not a port: 1 to 65535"))])
    };
    match (port.number, port.range) {
        (Some(n), None) => Ok(Port::number(number(n, &at.key("number"))?)),
        (None, Some(range)) => {
            let at = at.key("range");
            let (first, last) = (
                number(range.start, &at.key("start"))?,
                number(range.end, &at.key("end"))?,
            );
            if last < first {
                let why = format!("{last} is below start, which is {first}");
                return Err(vec![problem(&at.key("end"), why)]);
            }
            Ok(Port::Range(PortRange { first, last }))
        }
        _ => Err(vec![problem(at, "exactly one of number or range is expected")]),
    }
}
