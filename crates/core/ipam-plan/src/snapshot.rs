use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::OnceLock,
};

use caracal_api::{
    AllocationAttribute, BlockAffinitySpec, IpPoolSpec, IpReservationSpec, IpamBlockSpec,
    IpamConfigurationSpec, IpamHandleSpec, Kind, NodeSpec, Object, ResourceKey, WorkloadEndpointSpec,
};
use caracal_net::{Cidr, Family, IfAddr};

use crate::{Allocation, Block, PlanError, RESERVED_HANDLE, Stamp};

/// Everything that says whether the IPAM database is right.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The pools.
    pub pools: Vec<Object<IpPoolSpec>>,
    /// The reservations.
    pub reservations: Vec<Object<IpReservationSpec>>,
    /// The configuration.
    pub config: IpamConfigurationSpec,
    /// The blocks.
    pub blocks: Vec<Object<IpamBlockSpec>>,
    /// The handles.
    pub handles: Vec<Object<IpamHandleSpec>>,
    /// The affinities.
    pub affinities: Vec<Object<BlockAffinitySpec>>,
    /// The nodes.
    pub nodes: Vec<Object<NodeSpec>>,
    /// The workloads' endpoints.
    pub endpoints: Vec<Object<WorkloadEndpointSpec>>,
    /// Objects of these kinds that cannot be read, with the reason.
    pub malformed: Vec<(ResourceKey, String)>,
    /// Whether only pods have endpoints, as on Kubernetes: then nothing is known about other containers.
    pub pods_only: bool,
}

/// Who uses an address, whatever IPAM says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A workload's endpoint.
    Endpoint {
        /// Its namespace.
        namespace: String,
        /// The endpoint's name.
        name: String,
        /// The pod's name; empty for other workloads.
        pod: String,
        /// The container's id.
        container: String,
        /// The node it runs on.
        node: String,
    },
    /// A node's tunnel.
    Node {
        /// The node.
        name: String,
        /// The field of the node that has the address.
        field: &'static str,
    },
}

/// As `calicoctl ipam check` names it.
impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Endpoint { namespace, name, .. } => write!(f, "Workload({namespace}/{name})"),
            Self::Node { name, .. } => write!(f, "Node({name})"),
        }
    }
}

/// What an allocation is to the living.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Somebody uses it.
    InUse,
    /// The host keeps it for itself.
    Reserved,
    /// It was given back and rests.
    Resting,
    /// It was allocated a short while ago: its user may not have shown yet.
    InFlight,
    /// It is not known what would use it: taken to be used.
    Unknown,
    /// Nobody uses it.
    Leaked {
        /// How that is known.
        why: String,
        /// Whether its node is gone: then nobody can begin to use it any more.
        node_gone: bool,
    },
}

/// A snapshot with what can be looked up in it.
#[derive(Debug)]
pub struct View<'a> {
    /// What it was made of.
    pub snapshot: &'a Snapshot,
    /// The blocks that can be read, without those on their way out, by range.
    pub blocks: Vec<Block>,
    /// What is wrong with the others.
    pub bad_blocks: Vec<PlanError>,
    /// Who uses which address.
    pub users: BTreeMap<IpAddr, Vec<User>>,
    /// The nodes' fields, endpoints' addresses and so on that cannot be read.
    pub bad_fields: Vec<(ResourceKey, String)>,
    nodes: BTreeSet<&'a str>,
    by_range: BTreeMap<Cidr, usize>,
    lengths: BTreeSet<(Family, u8)>,
    /// Namespaces with an endpoint that cannot be read: it may use anything there.
    dark: BTreeSet<&'a str>,
    /// The network's name, once somebody asked for it.
    pub(crate) network: OnceLock<String>,
}

impl<'a> View<'a> {
    /// Indexes a snapshot.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let (mut blocks, mut bad_blocks) = (Vec::new(), Vec::new());
        for b in snapshot.blocks.iter().filter(|b| !b.spec.deleted) {
            match Block::read(b.clone()) {
                Ok(b) => blocks.push(b),
                Err(e) => bad_blocks.push(e),
            }
        }
        blocks.sort_by_key(Block::cidr);
        let malformed = |kind| {
            snapshot
                .malformed
                .iter()
                .filter(move |(k, _)| k.kind == kind)
                .map(|(k, _)| k)
        };
        let named = snapshot.nodes.iter().map(|n| n.metadata.name.as_str());
        let mut view = Self {
            snapshot,
            by_range: blocks.iter().enumerate().map(|(i, b)| (b.cidr(), i)).collect(),
            lengths: blocks
                .iter()
                .map(|b| (b.cidr().family(), b.cidr().len()))
                .collect(),
            blocks,
            bad_blocks,
            users: BTreeMap::new(),
            bad_fields: Vec::new(),
            nodes: named.chain(malformed(Kind::Node).map(|k| &*k.name)).collect(),
            dark: malformed(Kind::WorkloadEndpoint)
                .map(|k| k.namespace().unwrap_or_default())
                .collect(),
            network: OnceLock::new(),
        };
        view.index_endpoints();
        view.index_nodes();
        view
    }

    fn index_endpoints(&mut self) {
        for e in &self.snapshot.endpoints {
            let namespace = e.metadata.namespace.as_deref().unwrap_or_default();
            for text in &e.spec.ip_networks {
                let user = User::Endpoint {
                    namespace: namespace.to_owned(),
                    name: e.metadata.name.clone(),
                    pod: e.spec.pod.clone(),
                    container: e.spec.container_id.clone(),
                    node: e.spec.node.clone(),
                };
                match text.parse::<IfAddr>() {
                    Ok(a) => self.users.entry(a.addr).or_default().push(user),
                    Err(why) => {
                        self.dark.insert(namespace);
                        self.bad_fields.push((e.key(), format!("spec.ipNetworks: {why}")));
                    }
                }
            }
        }
    }

    fn index_nodes(&mut self) {
        for n in &self.snapshot.nodes {
            for (field, _, text) in tunnels(&n.spec) {
                let user = User::Node {
                    name: n.metadata.name.clone(),
                    field,
                };
                match text.parse::<IfAddr>() {
                    _ if text.is_empty() => {}
                    Ok(a) => self.users.entry(a.addr).or_default().push(user),
                    Err(why) => self.bad_fields.push((n.key(), format!("spec.{field}: {why}"))),
                }
            }
        }
    }

    /// The block of a range.
    #[must_use]
    pub fn block(&self, cidr: &Cidr) -> Option<&Block> {
        self.by_range.get(cidr).map(|i| &self.blocks[*i])
    }

    /// The blocks that an address is in: one, unless blocks overlap.
    pub fn blocks_around(&self, addr: IpAddr) -> impl Iterator<Item = &Block> {
        let family = Family::of(addr);
        let lengths = self.lengths.iter().filter(move |(f, _)| *f == family);
        lengths.filter_map(move |(_, len)| self.block(&Cidr::new(addr, *len)))
    }

    /// Whether the node is known to be gone. Where there are no nodes at all nothing is known.
    #[must_use]
    pub fn node_gone(&self, name: &str) -> bool {
        !self.nodes.is_empty() && !self.nodes.contains(name)
    }

    /// Whether nodes can be told from nodes that are gone.
    #[must_use]
    pub fn knows_nodes(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// What an allocation is to the living; one that is younger than `grace` seconds may be about to be used.
    #[must_use]
    pub fn life(&self, allocation: &Allocation<'_>, now: Stamp, grace: i64) -> Life {
        let a = allocation.attribute;
        if self.users.contains_key(&allocation.addr) {
            return Life::InUse;
        }
        if a.handle_id.as_deref() == Some(RESERVED_HANDLE) {
            return Life::Reserved;
        }
        if allocation.cools() {
            return Life::Resting;
        }
        let family = Family::of(allocation.addr);
        if let Some(field) = attribute(a, "type").and_then(|t| tunnel_field(t, family)) {
            return self.life_of_tunnel(a, field);
        }
        let made = attribute(a, "timestamp").and_then(Stamp::parse);
        let node_gone = attribute(a, "node").is_some_and(|n| self.node_gone(n));
        if !node_gone && made.is_some_and(|t| now.since(t) < grace) {
            return Life::InFlight;
        }
        let namespace = attribute(a, "namespace").unwrap_or("default");
        match owner_kind(a) {
            OwnerKind::Other => Life::Unknown,
            OwnerKind::Container if self.snapshot.pods_only => Life::Unknown,
            _ if self.dark.contains(namespace) => Life::Unknown,
            _ if node_gone => Life::Leaked {
                why: format!("its node {} is gone", attribute(a, "node").unwrap_or_default()),
                node_gone: true,
            },
            OwnerKind::Pod => Life::Leaked {
                why: format!(
                    "no endpoint of pod {namespace}/{} has it",
                    attribute(a, "pod").unwrap_or_default()
                ),
                node_gone: false,
            },
            OwnerKind::Container => Life::Leaked {
                why: "no endpoint has it".to_owned(),
                node_gone: false,
            },
        }
    }

    fn life_of_tunnel(&self, a: &AllocationAttribute, field: &'static str) -> Life {
        let Some(node) = attribute(a, "node") else {
            return Life::Unknown;
        };
        if self.node_gone(node) {
            return Life::Leaked {
                why: format!("its node {node} is gone"),
                node_gone: true,
            };
        }
        let stored = self.snapshot.nodes.iter().find(|n| n.metadata.name == node);
        let other = stored
            .into_iter()
            .flat_map(|n| tunnels(&n.spec))
            .find(|(f, _, text)| *f == field && !text.is_empty());
        match other {
            Some((_, _, text)) => Life::Leaked {
                why: format!("node {node} has {text} in {field} instead"),
                node_gone: false,
            },
            // The node may be about to write it down.
            None => Life::Unknown,
        }
    }
}

enum OwnerKind {
    Pod,
    Container,
    Other,
}

/// What kind of owner the attributes tell of. Only what this house and Calico's plugin write is recognised.
fn owner_kind(a: &AllocationAttribute) -> OwnerKind {
    let has = |name| attribute(a, name).is_some();
    // A virtual machine keeps its address while no pod of it runs.
    let machine = a.secondary.keys().any(|k| k.starts_with("vm"));
    if has("type") || machine {
        return OwnerKind::Other;
    }
    if has("pod") && has("namespace") {
        return OwnerKind::Pod;
    }
    let named = a.handle_id.as_deref().is_some_and(|h| h.contains('.'));
    if named && has("node") && has("timestamp") && !has("namespace") && !has("service") {
        return OwnerKind::Container;
    }
    OwnerKind::Other
}

pub(crate) fn attribute<'a>(a: &'a AllocationAttribute, name: &str) -> Option<&'a str> {
    a.secondary
        .get(name)
        .map(String::as_str)
        .filter(|v| !v.is_empty())
}

/// The tunnel addresses of a node: field, the `type` of its allocation, and what the field says.
fn tunnels(spec: &NodeSpec) -> [(&'static str, &'static str, &str); 5] {
    let ipip = spec.bgp.as_ref().map_or("", |b| &b.ipv4_ipip_tunnel_addr);
    let wg4 = spec.wireguard.as_ref().map_or("", |w| &w.interface_ipv4_address);
    let wg6 = spec.wireguard.as_ref().map_or("", |w| &w.interface_ipv6_address);
    let [a, b, c, d, e] = TUNNELS;
    [
        (a.0, a.1, ipip),
        (b.0, b.1, &spec.ipv4_vxlan_tunnel_addr),
        (c.0, c.1, &spec.ipv6_vxlan_tunnel_addr),
        (d.0, d.1, wg4),
        (e.0, e.1, wg6),
    ]
}

const TUNNELS: [(&str, &str); 5] = [
    ("bgp.ipv4IPIPTunnelAddr", "ipipTunnelAddress"),
    ("ipv4VXLANTunnelAddr", "vxlanTunnelAddress"),
    ("ipv6VXLANTunnelAddr", "vxlanV6TunnelAddress"),
    ("wireguard.interfaceIPv4Address", "wireguardTunnelAddress"),
    ("wireguard.interfaceIPv6Address", "wireguardV6TunnelAddress"),
];

fn tunnel_field(allocation_type: &str, family: Family) -> Option<&'static str> {
    // Some write the type of IPv4 for both families.
    let wanted = match (allocation_type, family) {
        ("vxlanTunnelAddress", Family::V6) => "vxlanV6TunnelAddress",
        ("wireguardTunnelAddress", Family::V6) => "wireguardV6TunnelAddress",
        (t, _) => t,
    };
    TUNNELS.iter().find(|t| t.1 == wanted).map(|t| t.0)
}
