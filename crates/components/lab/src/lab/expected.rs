//! Who should reach whom: the datastore's objects through engine and oracle.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::Kind;
use caracal_desired::{Desired, WorkloadEndpoint};
use caracal_ids::{NodeName, WorkloadId};
use caracal_oracle::{Direction, Packet, Verdict, decide};
use caracal_policy::Engine;
use caracal_store::{ListOptions, Store};
use caracal_update::Update;

use super::pods::endpoint_key;
use super::state::Pod;
use crate::prober::{FIRST_PORT, Target};

/// What policy depends on.
pub(super) const KINDS: &[Kind] = &[
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::Profile,
    Kind::KubernetesEndpointSlice,
    Kind::WorkloadEndpoint,
];

/// What every node should have.
#[derive(Debug)]
pub(super) struct World {
    nodes: BTreeMap<String, Desired>,
    /// The highest revision of each kind.
    pub(super) revisions: BTreeMap<Kind, u64>,
}

/// A verdict and what decided it.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) why: String,
}

impl World {
    /// Reads the datastore and calculates every node.
    pub(super) async fn read(store: &dyn Store, nodes: &[String]) -> anyhow::Result<Self> {
        let mut updates = Vec::new();
        let mut revisions = BTreeMap::new();
        for kind in KINDS {
            for object in store.list_all(*kind, &ListOptions::default()).await?.items {
                let revision = object.metadata().resource_version.as_deref();
                let revision = revision.and_then(|v| v.parse::<u64>().ok()).unwrap_or_default();
                let highest = revisions.entry(*kind).or_default();
                *highest = revision.max(*highest);
                updates.push(Update::set(object));
            }
        }
        let mut world = Self {
            nodes: BTreeMap::new(),
            revisions,
        };
        for node in nodes {
            let mut engine = Engine::new(NodeName::new(node)?);
            updates.iter().for_each(|u| engine.apply(u));
            let mut desired = Desired::default();
            desired.apply_all(engine.flush());
            world.nodes.insert(node.clone(), desired);
        }
        Ok(world)
    }

    /// The endpoints of a node.
    pub(super) fn endpoints(&self, node: &str) -> impl Iterator<Item = &WorkloadEndpoint> {
        let desired = self.nodes.get(node);
        desired
            .into_iter()
            .flat_map(|d| d.workloads.values())
            .map(AsRef::as_ref)
    }

    /// Whether a pod reaches another: out of the one and into the other.
    pub(super) fn judge(&self, from: (&Pod, IpAddr), to: &Pod, target: &Target) -> Judgement {
        let (from, source) = from;
        let packet = Packet::with_ports(
            source,
            target.addr,
            target.protocol.proto(),
            FIRST_PORT,
            target.port,
        );
        for (pod, direction) in [(from, Direction::Egress), (to, Direction::Ingress)] {
            let (verdict, why) = self.one_side(pod, direction, &packet);
            if verdict == Verdict::Blocked {
                return Judgement {
                    verdict,
                    why: format!("{direction} of {}: {why}", pod.id()),
                };
            }
        }
        Judgement {
            verdict: Verdict::Allowed,
            why: "both sides allow it".to_owned(),
        }
    }

    fn one_side(&self, pod: &Pod, direction: Direction, packet: &Packet) -> (Verdict, String) {
        let key = endpoint_key(pod);
        let id = WorkloadId::new(&key.namespace, &key.name);
        let found = self
            .nodes
            .get(&pod.node)
            .and_then(|d| Some((d, d.workloads.get(&id)?)));
        match found {
            Some((desired, endpoint)) => {
                let decision = decide(desired, endpoint, direction, packet);
                (decision.verdict, decision.by.to_string())
            }
            None => (
                Verdict::Blocked,
                format!("{key} is not in the datastore, or not valid"),
            ),
        }
    }
}
