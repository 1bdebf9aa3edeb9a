use std::net::IpAddr;

use caracal_api::{BlockAffinitySpec, Kind, Resource, ResourceKey};
use caracal_store::{ListOptions, StoreError};

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
const BLOCKS: &str = "/calico/ipam/v2/assignment/";
const HANDLES: &str = "/calico/ipam/v2/handle/";
/// Affinities are under `host/` and `virtual/`; nothing of Calico sorts between them.
const AFFINITIES: (&str, &str) = ("/calico/ipam/v2/host/", "/calico/ipam/v2/virtual0");
const IPAM: &str = "/calico/ipam/v2/";
const IPAM_CONFIG: &str = "/calico/ipam/v2/config";
/// The only name that the IPAM configuration has.
pub(crate) const DEFAULT: &str = "default";

/// The keys from `start` up to and without `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Span {
    pub(crate) fn prefix(prefix: String) -> Self {
        let start = prefix.into_bytes();
        let mut end = start.clone();
        // Prefixes here end in ASCII, so the last byte can be counted up.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { start, end }
    }
}

/// A name in which a CIDR's `.`, `:` and `/` are `-`, as the CIDR that it stands for: `10-0-0-0-26` is `10.0.0.0/26`.
fn cidr_of_name(name: &str) -> Option<(IpAddr, u8)> {
    let (addr, len) = name.rsplit_once('-')?;
    let len: u8 = len.parse().ok()?;
    let v4 = addr.replace('-', ".").parse().map(IpAddr::V4);
    let addr = v4
        .or_else(|_| addr.replace('-', ":").parse().map(IpAddr::V6))
        .ok()?;
    let max = if addr.is_ipv4() { 32 } else { 128 };
    (len <= max).then_some((addr, len))
}

fn parse_cidr(text: &str, slash: char) -> Option<(IpAddr, u8)> {
    let (addr, len) = text.rsplit_once(slash)?;
    Some((addr.parse().ok()?, len.parse().ok()?))
}

fn name_of_cidr((addr, len): (IpAddr, u8)) -> String {
    format!("{}-{len}", addr.to_string().replace(['.', ':'], "-"))
}

fn family((addr, _): (IpAddr, u8)) -> char {
    if addr.is_ipv4() { '4' } else { '6' }
}

fn block_key(cidr: (IpAddr, u8)) -> String {
    format!("{BLOCKS}ipv{}/block/{}-{}", family(cidr), cidr.0, cidr.1)
}

fn affinity_key(affinity_type: &str, node: &str, cidr: (IpAddr, u8)) -> String {
    format!(
        "{IPAM}{affinity_type}/{node}/ipv{}/block/{}-{}",
        family(cidr),
        cidr.0,
        cidr.1
    )
}

/// The name of a claim: `<node>-<cidr>`, and `virtual-<owner>-<cidr>` for one that is not a node's.
fn affinity_name(affinity_type: &str, node: &str, cidr: (IpAddr, u8)) -> String {
    let of = if affinity_type == "host" { "" } else { "virtual-" };
    format!("{of}{node}-{}", name_of_cidr(cidr))
}

/// Where an object may be, most likely first. Only a block affinity can have several: its name does not say where the
/// node's name ends and whether the owner is a node.
pub(crate) fn candidates(key: &ResourceKey) -> Vec<String> {
    match key.kind {
        Kind::IpamBlock => cidr_of_name(&key.name).map(block_key).into_iter().collect(),
        Kind::IpamHandle => vec![format!("{HANDLES}{}", key.name)],
        Kind::BlockAffinity => affinity_candidates(&key.name),
        Kind::IpamConfiguration if &*key.name == DEFAULT => vec![IPAM_CONFIG.to_owned()],
        Kind::IpamConfiguration => Vec::new(),
        kind => {
            let namespace = key.namespace().map_or(String::new(), |ns| format!("{ns}/"));
            vec![format!("{RESOURCES}{}/{namespace}{}", kind.plural(), key.name)]
        }
    }
}

fn affinity_candidates(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in name.match_indices('-').rev() {
        let Some(cidr) = cidr_of_name(&name[at + 1..]) else {
            continue;
        };
        let owner = &name[..at];
        found.push(affinity_key("host", owner, cidr));
        if let Some(owner) = owner.strip_prefix("virtual-") {
            found.push(affinity_key("virtual", owner, cidr));
        }
    }
    found
}

/// The key under which an object is created: unlike a name, its content leaves no doubt.
pub(crate) fn key_of(resource: &Resource) -> Result<String, StoreError> {
    let key = resource.key();
    let invalid = |reason: String| StoreError::Invalid {
        key: key.clone(),
        reason,
    };
    match resource {
        Resource::IpamBlock(o) => {
            let cidr = parse_cidr(&o.spec.cidr, '/')
                .ok_or_else(|| invalid(format!("spec.cidr {:?} is not a CIDR", o.spec.cidr)))?;
            named(&key, name_of_cidr(cidr)).map_err(invalid)?;
            Ok(block_key(cidr))
        }
        Resource::BlockAffinity(o) => {
            let BlockAffinitySpec {
                node,
                affinity_type,
                cidr,
                ..
            } = &o.spec;
            let owner = match affinity_type.as_str() {
                "" | "host" => "host",
                "virtual" => "virtual",
                other => {
                    return Err(invalid(format!(
                        "spec.type {other:?} is not valid: it is host or virtual"
                    )));
                }
            };
            let cidr =
                parse_cidr(cidr, '/').ok_or_else(|| invalid(format!("spec.cidr {cidr:?} is not a CIDR")))?;
            if node.is_empty() || node.contains('/') {
                return Err(invalid(format!("spec.node {node:?} is not a node's name")));
            }
            named(&key, affinity_name(owner, node, cidr)).map_err(invalid)?;
            Ok(affinity_key(owner, node, cidr))
        }
        _ => candidates(&key)
            .pop()
            .ok_or_else(|| invalid(format!("metadata.name must be {DEFAULT:?}"))),
    }
}

fn named(key: &ResourceKey, want: String) -> Result<(), String> {
    if *key.name == want {
        return Ok(());
    }
    Err(format!(
        "metadata.name must be {want:?}, which follows from its spec"
    ))
}

/// The keys of a kind that a list must read; they may be more than what was asked for.
pub(crate) fn span(kind: Kind, options: &ListOptions) -> Span {
    let name = options.name_prefix.as_deref().unwrap_or_default();
    match kind {
        Kind::IpamBlock => Span::prefix(BLOCKS.to_owned()),
        Kind::IpamHandle => Span::prefix(format!("{HANDLES}{name}")),
        Kind::IpamConfiguration => Span {
            start: IPAM_CONFIG.into(),
            end: format!("{IPAM_CONFIG}\0").into(),
        },
        Kind::BlockAffinity => affinity_span(name),
        kind => {
            let root = format!("{RESOURCES}{}/", kind.plural());
            match options.namespace.as_deref().filter(|_| kind.namespaced()) {
                Some(ns) => Span::prefix(format!("{root}{ns}/{name}")),
                None if kind.namespaced() => Span::prefix(root),
                None => Span::prefix(format!("{root}{name}")),
            }
        }
    }
}

/// Narrows to one node's affinities where the prefix surely starts with the node's name.
fn affinity_span(prefix: &str) -> Span {
    // Groups that could be of a CIDR are cut off the end: the node's name is at least the rest.
    let mut node = prefix;
    while let Some((rest, group)) = node.rsplit_once('-')
        && group.chars().all(|c| c.is_ascii_hexdigit())
    {
        node = rest;
    }
    if "virtual".starts_with(node) || node.starts_with("virtual") {
        return Span {
            start: AFFINITIES.0.into(),
            end: AFFINITIES.1.into(),
        };
    }
    Span::prefix(format!("{}{node}", AFFINITIES.0))
}

/// Which object of `kind` a key is; `None` for keys that are no such object.
pub(crate) fn parse(kind: Kind, key: &[u8]) -> Option<ResourceKey> {
    let text = std::str::from_utf8(key).ok()?;
    let one = |name: &str| (!name.is_empty() && !name.contains('/')).then(|| ResourceKey::global(kind, name));
    match kind {
        Kind::IpamBlock => {
            let (_, cidr) = text.strip_prefix(BLOCKS)?.split_once("/block/")?;
            one(&name_of_cidr(parse_cidr(cidr, '-')?))
        }
        Kind::IpamHandle => one(text.strip_prefix(HANDLES)?),
        Kind::BlockAffinity => {
            let (owner, node, cidr) = affinity_parts(text)?;
            one(&affinity_name(owner, node, cidr))
        }
        Kind::IpamConfiguration => (text == IPAM_CONFIG).then(|| ResourceKey::global(kind, DEFAULT)),
        kind => {
            let rest = text.strip_prefix(RESOURCES)?.strip_prefix(kind.plural())?;
            let rest = rest.strip_prefix('/')?;
            if !kind.namespaced() {
                return one(rest);
            }
            let (ns, name) = rest.split_once('/')?;
            (!ns.is_empty() && !name.is_empty() && !name.contains('/'))
                .then(|| ResourceKey::namespaced(kind, ns, name))
        }
    }
}

/// Type, owner and range of a block affinity's key.
pub(crate) fn affinity_parts(key: &str) -> Option<(&str, &str, (IpAddr, u8))> {
    let (owner, rest) = key.strip_prefix(IPAM)?.split_once('/')?;
    let (node, rest) = rest.split_once('/')?;
    let (_, cidr) = rest.split_once("/block/")?;
    if !matches!(owner, "host" | "virtual") || node.is_empty() {
        return None;
    }
    Some((owner, node, parse_cidr(cidr, '-')?))
}

#[cfg(test)]
mod tests {
    use caracal_api::{IpamBlockSpec, Object};

    use super::*;

    #[test]
    fn keys_are_calicos_and_come_back() {
        for (key, text) in [
            (
                ResourceKey::namespaced(Kind::NetworkPolicy, "ns", "a.b"),
                "/calico/resources/v3/projectcalico.org/networkpolicies/ns/a.b",
            ),
            (
                ResourceKey::global(Kind::Tier, "default"),
                "/calico/resources/v3/projectcalico.org/tiers/default",
            ),
            (
                ResourceKey::namespaced(Kind::KubernetesService, "ns", "db"),
                "/calico/resources/v3/projectcalico.org/kubernetesservice/ns/db",
            ),
            (
                ResourceKey::namespaced(Kind::KubernetesEndpointSlice, "ns", "db-x"),
                "/calico/resources/v3/projectcalico.org/kubernetesendpointslices/ns/db-x",
            ),
            (
                ResourceKey::namespaced(Kind::LiveMigration, "ns", "vm"),
                "/calico/resources/v3/projectcalico.org/livemigrations/ns/vm",
            ),
            (
                ResourceKey::global(Kind::IpamBlock, "10-0-1-0-26"),
                "/calico/ipam/v2/assignment/ipv4/block/10.0.1.0-26",
            ),
            (
                ResourceKey::global(Kind::IpamBlock, "fd00-1---122"),
                "/calico/ipam/v2/assignment/ipv6/block/fd00:1::-122",
            ),
            (
                ResourceKey::global(Kind::IpamHandle, "k8s-pod-network.x"),
                "/calico/ipam/v2/handle/k8s-pod-network.x",
            ),
            (
                ResourceKey::global(Kind::BlockAffinity, "node-1-10-0-1-0-26"),
                "/calico/ipam/v2/host/node-1/ipv4/block/10.0.1.0-26",
            ),
            (
                ResourceKey::global(Kind::BlockAffinity, "virtual-lb-fd00---122"),
                "/calico/ipam/v2/virtual/lb/ipv6/block/fd00::-122",
            ),
            (
                ResourceKey::global(Kind::IpamConfiguration, "default"),
                "/calico/ipam/v2/config",
            ),
        ] {
            assert!(
                candidates(&key).contains(&text.to_owned()),
                "{key}: {:?}",
                candidates(&key)
            );
            assert_eq!(parse(key.kind, text.as_bytes()), Some(key.clone()));
            let span = span(key.kind, &ListOptions::default());
            assert!(span.start.as_slice() <= text.as_bytes() && text.as_bytes() < span.end.as_slice());
        }
    }

    #[test]
    fn an_affinity_name_has_every_meaning_it_may_have() {
        let found = candidates(&ResourceKey::global(Kind::BlockAffinity, "node-abc-fd00---122"));
        assert_eq!(
            found,
            [
                "/calico/ipam/v2/host/node-abc/ipv6/block/fd00::-122",
                "/calico/ipam/v2/host/node/ipv6/block/abc:fd00::-122"
            ]
        );
    }

    #[test]
    fn spans_narrow_only_where_it_is_sure() {
        let of = |kind, prefix: &str| {
            let options = ListOptions {
                name_prefix: Some(prefix.into()),
                ..ListOptions::default()
            };
            String::from_utf8(span(kind, &options).start).unwrap()
        };
        assert_eq!(of(Kind::BlockAffinity, "node1-"), "/calico/ipam/v2/host/node1");
        assert_eq!(of(Kind::BlockAffinity, "vir"), "/calico/ipam/v2/host/");
        assert_eq!(of(Kind::BlockAffinity, "abc-10-"), "/calico/ipam/v2/host/abc");
        assert_eq!(of(Kind::IpamHandle, "net."), "/calico/ipam/v2/handle/net.");
    }

    #[test]
    fn foreign_keys_are_no_objects() {
        for bad in [
            "/calico/resources/v3/projectcalico.org/networkpolicies/only-one",
            "/calico/resources/v3/projectcalico.org/networkpolicies/a/b/c",
            "/calico/resources/v3/projectcalico.org/networkpolicies//b",
        ] {
            assert_eq!(parse(Kind::NetworkPolicy, bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(
            parse(Kind::BlockAffinity, b"/calico/ipam/v2/host/n/ipv4/block/x"),
            None
        );
        assert_eq!(parse(Kind::Tier, &[0xff, 0xfe]), None);
    }

    #[test]
    fn a_name_that_contradicts_the_spec_is_refused() {
        let spec = IpamBlockSpec {
            cidr: "10.0.0.0/26".into(),
            ..IpamBlockSpec::default()
        };
        let e = key_of(&Object::new("other", spec).into()).unwrap_err();
        assert!(e.to_string().contains("10-0-0-0-26"), "{e}");
    }
}
