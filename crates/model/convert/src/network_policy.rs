use std::collections::BTreeMap;

use caracal_api::{
    Action, EntityRule, FieldPath, IntOrString, KubeIpBlock, KubeNetworkPolicySpec, KubePeer, KubePolicyPort,
    NetworkPolicySpec, Object, PolicyType, Port, Problem, Protocol, Rule, StagedKubernetesNetworkPolicySpec,
};
use caracal_net::{Cidr, PortRange};

use crate::{
    ConvertError, Converted, KubeNetworkPolicy,
    error::problem,
    selector::{namespace_selector, pod_selector},
};

/// What precedes the name of a Kubernetes policy in Calico's.
pub const POLICY_PREFIX: &str = "knp.default.";

/// The most ports that Calico's schema admits in one rule.
const MAX_PORTS: usize = 50;

/// Kubernetes' policies come after those of an order below and before those above.
const ORDER: f64 = 1000.0;

/// A Kubernetes policy as Calico's. A rule that is wrong is left out and reported; it would have allowed something.
///
/// # Errors
/// When the pods it governs cannot be told.
pub fn network_policy(
    policy: &KubeNetworkPolicy,
) -> Result<Converted<Object<NetworkPolicySpec>>, ConvertError> {
    let meta = &policy.metadata;
    let spec = &policy.spec;
    let at = FieldPath::of("spec");
    let selector = pod_selector(&spec.pod_selector, &at.key("podSelector"))
        .map_err(|p| ConvertError::new("NetworkPolicy", meta, p))?;

    let mut problems = Vec::new();
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let at = at.key("ingress").index(i);
        let side = Side {
            at: &at,
            peers: "from",
        };
        ingress.extend(
            rules(&rule.from, &rule.ports, &side, &mut problems)
                .into_iter()
                .map(|(protocol, peer, ports)| Rule {
                    protocol,
                    source: peer,
                    destination: EntityRule {
                        ports,
                        ..EntityRule::default()
                    },
                    ..Rule::new(Action::Allow)
                }),
        );
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let at = at.key("egress").index(i);
        let side = Side { at: &at, peers: "to" };
        egress.extend(
            rules(&rule.to, &rule.ports, &side, &mut problems)
                .into_iter()
                .map(|(protocol, peer, ports)| Rule {
                    protocol,
                    destination: EntityRule { ports, ..peer },
                    ..Rule::new(Action::Allow)
                }),
        );
    }

    let mut object = Object::namespaced(
        meta.namespace.as_deref().unwrap_or("default"),
        format!("{POLICY_PREFIX}{}", meta.name),
        NetworkPolicySpec {
            tier: "default".to_owned(),
            order: Some(ORDER),
            ingress,
            egress,
            selector: selector.canonical().to_owned(),
            types: types(policy),
            ..NetworkPolicySpec::default()
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

/// What a staged Kubernetes policy would do, as Calico's; staged or not is in the name of its kind alone.
///
/// # Errors
/// As [`network_policy`].
pub fn staged_network_policy(
    policy: &Object<StagedKubernetesNetworkPolicySpec>,
) -> Result<Converted<NetworkPolicySpec>, ConvertError> {
    let spec = policy.spec.clone();
    let converted = network_policy(&KubeNetworkPolicy {
        metadata: policy.metadata.clone(),
        spec: KubeNetworkPolicySpec {
            pod_selector: spec.pod_selector.unwrap_or_default(),
            ingress: spec.ingress,
            egress: spec.egress,
            policy_types: spec.policy_types,
        },
    })?;
    Ok(Converted {
        object: converted.object.spec,
        problems: converted.problems,
    })
}

/// The directions: as listed; else Ingress, and Egress if there are rules for it, which is how the API server fills
/// the field in.
fn types(policy: &KubeNetworkPolicy) -> Vec<PolicyType> {
    let listed = &policy.spec.policy_types;
    let egress = if listed.is_empty() {
        !policy.spec.egress.is_empty()
    } else {
        listed.contains(&PolicyType::Egress)
    };
    let ingress = listed.is_empty() || listed.contains(&PolicyType::Ingress);
    [(ingress, PolicyType::Ingress), (egress, PolicyType::Egress)]
        .into_iter()
        .filter_map(|(is, t)| is.then_some(t))
        .collect()
}

struct Side<'a> {
    at: &'a FieldPath,
    peers: &'static str,
}

/// One entry per peer and protocol: protocol, peer, ports.
fn rules(
    peers: &[KubePeer],
    ports: &[KubePolicyPort],
    side: &Side<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<(Option<Protocol>, EntityRule, Vec<Port>)> {
    let peers: Vec<EntityRule> = if peers.is_empty() {
        vec![EntityRule::default()]
    } else {
        let at = side.at.key(side.peers);
        let peers = peers.iter().enumerate().map(|(i, p)| peer(p, &at.index(i)));
        keep_good(peers, problems)
    };
    let by_protocol: Vec<(Option<Protocol>, Vec<Port>)> = if ports.is_empty() {
        vec![(None, Vec::new())]
    } else {
        let at = side.at.key("ports");
        let ports = ports.iter().enumerate().map(|(i, p)| port(p, &at.index(i)));
        grouped(keep_good(ports, problems))
    };
    let mut out = Vec::with_capacity(peers.len() * by_protocol.len());
    for peer in &peers {
        for (protocol, ports) in &by_protocol {
            out.push((protocol.clone(), peer.clone(), ports.clone()));
        }
    }
    out
}

fn keep_good<T>(all: impl Iterator<Item = Result<T, Vec<Problem>>>, problems: &mut Vec<Problem>) -> Vec<T> {
    let mut good = Vec::new();
    for one in all {
        match one {
            Ok(t) => good.push(t),
            Err(p) => problems.extend(p),
        }
    }
    good
}

/// Ports by protocol, in the order of their names and in portions that fit a rule; an entry without a port stands for all ports of its protocol.
fn grouped(ports: Vec<(String, Option<Port>)>) -> Vec<(Option<Protocol>, Vec<Port>)> {
    let mut by_protocol: BTreeMap<String, Option<Vec<Port>>> = BTreeMap::new();
    for (protocol, port) in ports {
        let list = by_protocol.entry(protocol).or_insert_with(|| Some(Vec::new()));
        match (port, &mut *list) {
            (Some(port), Some(ports)) if !ports.contains(&port) => ports.push(port),
            (None, _) => *list = None,
            _ => {}
        }
    }
    let mut out = Vec::new();
    for (protocol, ports) in by_protocol {
        let protocol = Some(Protocol::Name(protocol));
        match ports {
            Some(ports) => out.extend(ports.chunks(MAX_PORTS).map(|p| (protocol.clone(), p.to_vec()))),
            None => out.push((protocol, Vec::new())),
        }
    }
    out
}

fn peer(peer: &KubePeer, at: &FieldPath) -> Result<EntityRule, Vec<Problem>> {
    if let Some(block) = &peer.ip_block {
        if peer.pod_selector.is_some() || peer.namespace_selector.is_some() {
            return Err(vec![problem(
                at,
                "ipBlock cannot be together with podSelector or namespaceSelector: make it a peer of its own",
            )]);
        }
        return ip_block(block, &at.key("ipBlock"));
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return Err(vec![problem(
            at,
            "a peer needs podSelector, namespaceSelector or ipBlock",
        )]);
    }
    let mut rule = EntityRule::default();
    if let Some(pods) = &peer.pod_selector {
        pod_selector(pods, &at.key("podSelector"))?
            .canonical()
            .clone_into(&mut rule.selector);
    }
    if let Some(namespaces) = &peer.namespace_selector {
        let namespaces = namespace_selector(namespaces, &at.key("namespaceSelector"))?;
        namespaces.canonical().clone_into(&mut rule.namespace_selector);
    }
    Ok(rule)
}

fn ip_block(block: &KubeIpBlock, at: &FieldPath) -> Result<EntityRule, Vec<Problem>> {
    let cidr = cidr(&block.cidr, &at.key("cidr"))?;
    let mut not_nets = Vec::with_capacity(block.except.len());
    for (i, text) in block.except.iter().enumerate() {
        let at = at.key("except").index(i);
        let hole = self::cidr(text, &at)?;
        if !cidr.covers(&hole) {
            return Err(vec![problem(&at, format!("{hole} is not inside {cidr}"))]);
        }
        not_nets.push(hole.to_string());
    }
    Ok(EntityRule {
        nets: vec![cidr.to_string()],
        not_nets,
        ..EntityRule::default()
    })
}

fn cidr(text: &str, at: &FieldPath) -> Result<Cidr, Vec<Problem>> {
    // Without a length it would mean one address, which Kubernetes does not accept here.
    if !text.contains('/') {
        return Err(vec![problem(
            at,
            format!("{text:?} has no prefix length, for example 10.0.0.0/8"),
        )]);
    }
    text.parse().map_err(|e| vec![problem(at, format!("{e}"))])
}

/// A port with its protocol; none means all ports.
fn port(port: &KubePolicyPort, at: &FieldPath) -> Result<(String, Option<Port>), Vec<Problem>> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        return Err(vec![problem(
            &at.key("protocol"),
            format!("{protocol:?} is not allowed here; allowed are TCP, UDP, SCTP"),
        )]);
    }
    let number = |n: i64, field: &str| {
        u16::try_from(n)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| vec![problem(&at.key(field), format!("{n} is not a port: 1 to 65535"))])
    };
    let ports = match (&port.port, port.end_port) {
        (None, None) => None,
        (Some(IntOrString::Int(first)), None) => Some(Port::number(number(*first, "port")?)),
        (Some(IntOrString::Int(first)), Some(last)) => {
            let (first, last) = (number(*first, "port")?, number(last, "endPort")?);
            if last < first {
                let message = format!("{last} is below port, which is {first}");
                return Err(vec![problem(&at.key("endPort"), message)]);
            }
            Some(Port::Range(PortRange { first, last }))
        }
        (Some(IntOrString::String(name)), None) => {
            if !is_port_name(name) {
                return Err(vec![problem(
                    &at.key("port"),
                    format!("{name:?} is no port name: 1 to 15 of a-z, 0-9, '-', with a letter"),
                )]);
            }
            Some(Port::Named(name.clone()))
        }
        (None | Some(IntOrString::String(_)), Some(_)) => {
            return Err(vec![problem(&at.key("endPort"), "needs port to be a number")]);
        }
    };
    Ok((protocol.to_owned(), ports))
}

/// As IANA names services, which is what Kubernetes asks of a port's name.
fn is_port_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}
