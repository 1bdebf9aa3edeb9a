//! The endpoints of two states with their programs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use caracal_api::{Kind, Object, Resource, ResourceKey, WorkloadEndpointSpec};
use caracal_config::{FelixConfig, FelixObjects, Sources};
use caracal_desired::{Desired, HostEndpoint, Policy, TierPolicies};
use caracal_ids::{NodeName, WorkloadId};
use caracal_net::{Cidr, IfAddr};
use caracal_oracle::FailsafePort;
use caracal_policy::Engine;

use super::program::{Compiler, Failsafe, Library, Programs};
use crate::names::endpoint_name;
use crate::state::{NODE, State};

/// What an engine makes of a state and of the next.
pub(crate) fn desired(old: &State, new: &State) -> [Desired; 2] {
    let mut engine = engine();
    let mut first = Desired::default();
    old.updates().iter().for_each(|u| engine.apply(u));
    old.slices().iter().for_each(|s| engine.apply_slice(s));
    first.apply_all(engine.flush());
    let mut second = first.clone();
    old.changes(new).iter().for_each(|u| engine.apply(u));
    old.slice_changes(new).iter().for_each(|s| engine.apply_slice(s));
    second.apply_all(engine.flush());
    [first, second]
}

/// What an engine makes of a state.
pub(crate) fn desired_of(state: &State) -> Desired {
    let mut engine = engine();
    let mut desired = Desired::default();
    state.updates().iter().for_each(|u| engine.apply(u));
    state.slices().iter().for_each(|s| engine.apply_slice(s));
    desired.apply_all(engine.flush());
    desired
}

fn engine() -> Engine {
    Engine::new(NodeName::new(NODE).expect("the constant is the name of a node"))
}

/// An endpoint as one state has it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) programs: Programs,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A workload or host of either state.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `namespace/pod`, or the host endpoint's name.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) is_host: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// Named ports: name, protocol, port.
    pub(crate) ports: Vec<(String, String, u16)>,
    /// As the old state has it, and the new.
    pub(crate) seen: [Option<Seen>; 2],
}

/// All endpoints in order: workloads by name, then hosts.
pub(crate) fn endpoints(states: [&State; 2], desired: &[Desired; 2], library: &mut Library) -> Vec<Endpoint> {
    let mut found: BTreeMap<(bool, String), Endpoint> = BTreeMap::new();
    for (at, (state, desired)) in states.into_iter().zip(desired).enumerate() {
        let mut compiler = Compiler::new(library, desired);
        let mut failsafes = Failsafes::new(state);
        for (key, resource) in &state.objects {
            let (mut endpoint, seen) = match &**resource {
                Resource::WorkloadEndpoint(w) => workload(key, w, desired, &mut compiler),
                Resource::HostEndpoint(h) => {
                    let endpoint = Endpoint {
                        name: h.metadata.name.clone(),
                        namespace: String::new(),
                        is_host: true,
                        labels: h.metadata.labels.clone(),
                        ports: Vec::new(),
                        seen: [None, None],
                    };
                    let failsafe = failsafes.of(&h.spec.node);
                    let programs = match desired.host_endpoints.get(&*key.name) {
                        Some(h) => compiler.host(h, failsafe),
                        None => compiler.constant(false),
                    };
                    let addresses = host_addresses(state, &h.spec.node, &h.spec.expected_ips);
                    (endpoint, Seen { programs, addresses })
                }
                _ => continue,
            };
            let place = (endpoint.is_host, endpoint.name.clone());
            let known = found.entry(place).or_insert_with(|| endpoint.clone());
            if known.seen[at].is_some() {
                // A pod's endpoint on its node of before has not gone yet.
                endpoint.name = key.to_string();
                let place = (endpoint.is_host, endpoint.name.clone());
                found.entry(place).or_insert(endpoint).seen[at] = Some(seen);
                continue;
            }
            known.labels = endpoint.labels;
            known.ports = endpoint.ports;
            known.seen[at] = Some(seen);
        }
    }
    let mut all: Vec<Endpoint> = found.into_values().collect();
    let open = library.constant(true);
    all.iter_mut()
        .filter(|e| e.is_host)
        .for_each(|e| settle_host(e, [[open; 2]; 2]));
    all
}

/// A host without an endpoint is open; its addresses are the same whether it has one or not.
fn settle_host(host: &mut Endpoint, open: Programs) {
    let all: Vec<IpAddr> = host
        .seen
        .iter()
        .flatten()
        .find(|s| !s.addresses.is_empty())
        .map_or_else(
            // Nothing is known of its addresses: ones that are nobody's stand for them.
            || vec![IpAddr::from([0; 4]), IpAddr::from([0; 16])],
            |s| s.addresses.clone(),
        );
    for seen in &mut host.seen {
        let seen = seen.get_or_insert_with(|| Seen {
            programs: open,
            addresses: Vec::new(),
        });
        if seen.addresses.is_empty() {
            seen.addresses.clone_from(&all);
        }
    }
}

fn workload(
    key: &ResourceKey,
    object: &Object<WorkloadEndpointSpec>,
    desired: &Desired,
    compiler: &mut Compiler<'_>,
) -> (Endpoint, Seen) {
    let id = WorkloadId {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    };
    let spec = &object.spec;
    let port = |p: &caracal_api::WorkloadPort| (p.name.clone(), p.protocol.to_string(), p.port);
    let endpoint = Endpoint {
        name: endpoint_name(object),
        namespace: key.namespace.to_string(),
        is_host: false,
        labels: object.metadata.labels.clone(),
        ports: spec.ports.iter().map(port).collect(),
        seen: [None, None],
    };
    // What the engine cannot use has an interface that nobody knows, and that is dropped.
    let programs = match desired.workloads.get(&id) {
        Some(known) => compiler.workload(known),
        None => compiler.constant(false),
    };
    let nets = spec.ip_networks.iter().filter_map(|t| t.parse::<Cidr>().ok());
    let mut addresses: Vec<IpAddr> = nets.map(|c| c.addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    (endpoint, Seen { programs, addresses })
}

/// What a host endpoint says, else what its node says.
pub(crate) fn host_addresses(state: &State, node: &str, expected: &[String]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = expected.iter().filter_map(|t| t.parse().ok()).collect();
    if found.is_empty()
        && let Some(Resource::Node(n)) = state
            .objects
            .get(&ResourceKey::global(Kind::Node, node))
            .map(|r| &**r)
        && let Some(bgp) = &n.spec.bgp
    {
        let own = [&bgp.ipv4_address, &bgp.ipv6_address];
        found.extend(
            own.into_iter()
                .filter_map(|t| t.parse::<IfAddr>().ok())
                .map(|a| a.addr),
        );
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The ports that the agent of a node keeps open.
pub(crate) fn failsafe(state: &State, node: &str) -> Failsafe {
    Failsafes::new(state).of(node).clone()
}

/// The ports that agents keep open, by all FelixConfigurations that are about their nodes: `default`, `node.<name>`, and
/// those that select the node.
struct Failsafes<'a> {
    state: &'a State,
    objects: FelixObjects,
    /// By the names of the node's own object and of that which selects it: many nodes have the same, and reading costs.
    known: BTreeMap<[Option<String>; 2], Failsafe>,
}

impl<'a> Failsafes<'a> {
    fn new(state: &'a State) -> Self {
        let configuration = |r: &Arc<Resource>| match &**r {
            Resource::FelixConfiguration(o) => Some((**o).clone()),
            _ => None,
        };
        Self {
            state,
            objects: state.objects.values().filter_map(configuration).collect(),
            known: BTreeMap::new(),
        }
    }

    fn of(&mut self, node: &str) -> &Failsafe {
        let found = self.state.objects.get(&ResourceKey::global(Kind::Node, node));
        let labels = found.map(|n| n.metadata().labels.clone()).unwrap_or_default();
        let mut sources = Sources::default();
        self.objects.lay(node, &labels, &mut sources);
        let names = [&sources.node, &sources.selector].map(|l| l.as_ref().map(|l| l.name.to_owned()));
        self.known.entry(names).or_insert_with(|| {
            let config = FelixConfig::new(&caracal_config::resolve(&sources));
            let ports = |list: &[caracal_config::ProtoPort]| {
                let one = |p: &caracal_config::ProtoPort| FailsafePort {
                    proto: p.protocol,
                    port: p.port,
                    net: p.net,
                };
                list.iter().map(one).collect()
            };
            Failsafe {
                inbound: ports(&config.failsafe_inbound),
                outbound: ports(&config.failsafe_outbound),
            }
        })
    }
}

/// What the forward policies of a host endpoint say, to be compared.
pub(crate) fn forward_rules(
    host: &HostEndpoint,
    desired: &Desired,
) -> Vec<(TierPolicies, Vec<Option<Arc<Policy>>>)> {
    let of = |tier: &TierPolicies| {
        let ids = tier.ingress.iter().chain(&tier.egress);
        let policies = ids.map(|id| desired.policies.get(id).cloned()).collect();
        (tier.clone(), policies)
    };
    host.forward.iter().map(of).collect()
}
