//! Verdicts for named ends: the oracle over a state in which every endpoint is on one node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_desired::Desired;
use caracal_ids::WorkloadId;
use caracal_net::Family;
use caracal_oracle::{
    Decider, Decision, Direction, FailsafePort, ListKind, Packet, Verdict, decide, decide_host,
};

use crate::diff::{desired_of, failsafe, host_addresses};
use crate::names::endpoint_name;
use crate::state::State;

/// Somebody who sends or receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// For people.
    pub(crate) name: String,
    pub(crate) who: Who,
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Workload(WorkloadId),
    /// The name of the host endpoint and its node.
    Host(String, String),
    Outside,
}

impl End {
    pub(crate) fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| Family::of(*a) == family)
    }
}

/// A state with what the engine makes of it.
pub(crate) struct Court<'a> {
    pub(crate) state: &'a State,
    pub(crate) desired: Desired,
}

impl<'a> Court<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self {
            state,
            desired: desired_of(state),
        }
    }

    /// All endpoints with their labels, inherited ones included.
    pub(crate) fn ends(&self) -> Vec<(End, BTreeMap<String, String>)> {
        let mut out = Vec::new();
        for (key, resource) in &self.state.objects {
            match &**resource {
                Resource::WorkloadEndpoint(w) => {
                    let nets = w.spec.ip_networks.iter();
                    let end = End {
                        name: endpoint_name(w),
                        who: Who::Workload(WorkloadId {
                            namespace: key.namespace.clone(),
                            name: key.name.clone(),
                        }),
                        addresses: nets
                            .filter_map(|t| Some(t.parse::<caracal_net::Cidr>().ok()?.addr()))
                            .collect(),
                    };
                    let mut labels = self.inherited(&w.spec.profiles);
                    labels.extend(w.metadata.labels.clone());
                    labels.insert(
                        caracal_convert::LABEL_NAMESPACE.to_owned(),
                        key.namespace.to_string(),
                    );
                    out.push((end, labels));
                }
                Resource::HostEndpoint(h) => {
                    let end = End {
                        name: format!("host {}", h.metadata.name),
                        who: Who::Host(h.metadata.name.clone(), h.spec.node.clone()),
                        addresses: host_addresses(self.state, &h.spec.node, &h.spec.expected_ips),
                    };
                    let mut labels = self.inherited(&h.spec.profiles);
                    labels.extend(h.metadata.labels.clone());
                    out.push((end, labels));
                }
                _ => {}
            }
        }
        out
    }

    fn inherited(&self, profiles: &[String]) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for name in profiles.iter().rev() {
            let key = ResourceKey::global(Kind::Profile, name);
            if let Some(Resource::Profile(p)) = self.state.objects.get(&key).map(AsRef::as_ref) {
                labels.extend(p.spec.labels_to_apply.clone());
            }
        }
        labels
    }

    /// The decisions on a packet, in order, up to the one that settles the matter.
    pub(crate) fn judge(&self, from: &End, to: &End, packet: &Packet) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (end, direction) in [(from, Direction::Egress), (to, Direction::Ingress)] {
            decisions.extend(self.one_side(end, direction, packet));
            if decisions
                .last()
                .is_some_and(|d: &Decision| d.verdict == Verdict::Blocked)
            {
                break;
            }
        }
        decisions
    }

    fn one_side(&self, end: &End, direction: Direction, packet: &Packet) -> Option<Decision> {
        match &end.who {
            Who::Outside => None,
            Who::Workload(id) => Some(match self.desired.workloads.get(id) {
                Some(w) => decide(&self.desired, w, direction, packet),
                None => settled(direction, Verdict::Blocked, Decider::UnknownEndpoint),
            }),
            Who::Host(name, node) => self.host(name, node, direction, packet),
        }
    }

    /// The lists of a host endpoint for its own traffic; the first that decides counts.
    fn host(&self, name: &str, node: &str, direction: Direction, p: &Packet) -> Option<Decision> {
        let host = self.desired.host_endpoints.get(name)?;
        let safe = failsafe(self.state, node);
        let (open, answers, peer) = match direction {
            Direction::Ingress => (safe.inbound, safe.outbound, p.src),
            Direction::Egress => (safe.outbound, safe.inbound, p.dst),
        };
        let fits = |f: &FailsafePort, port: u16| {
            f.proto == p.proto && f.port == port && f.net.is_none_or(|n| n.contains(peer))
        };
        if open.iter().any(|f| fits(f, p.dport)) {
            return Some(settled(direction, Verdict::Allowed, Decider::Failsafe));
        }
        let mut lists = Vec::new();
        // Not supported for all interfaces at once; and answers of failsafe ports pass by.
        if &*host.interface != "*" && !host.untracked.is_empty() && !answers.iter().any(|f| fits(f, p.sport))
        {
            lists.push(ListKind::Untracked);
        }
        if direction == Direction::Ingress && !host.pre_dnat.is_empty() {
            lists.push(ListKind::PreDnat);
        }
        lists.push(ListKind::Normal);
        lists
            .into_iter()
            .find_map(|list| decide_host(&self.desired, host, list, direction, p))
    }
}

fn settled(direction: Direction, verdict: Verdict, by: Decider) -> Decision {
    Decision {
        direction,
        verdict,
        by,
        path: Vec::new(),
    }
}
