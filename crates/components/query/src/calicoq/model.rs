//! The answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use caracal_analysis::State;
use caracal_api::{Object, Resource, WorkloadEndpointSpec};
use caracal_convert::{LABEL_NAMESPACE, LABEL_ORCHESTRATOR, LABEL_SERVICE_ACCOUNT, ORCHESTRATOR_KUBERNETES};
use caracal_desired::{Desired, TierPolicies};
use caracal_ids::{NodeName, PolicyId};
use caracal_policy::Engine;
use caracal_selector::Selector;
use caracal_update::Update;

use super::policies::{Policy, policy};
use super::show::{Answer, Applied, Block, Match, Ref, Selected};
use crate::failure::Failure;
use crate::world::id_of;

/// All endpoints are looked at as if they were on one node, so that one engine orders the policies of all.
const NODE: &str = "calicoq";

/// An endpoint.
struct Endpoint {
    reference: Ref,
    labels: BTreeMap<String, String>,
    profiles: Vec<String>,
    /// Its policies: tracked or not, in order.
    untracked: Vec<PolicyId>,
    policies: Vec<PolicyId>,
}

/// Everything that can be asked about.
pub(super) struct Model {
    endpoints: Vec<Endpoint>,
    policies: Vec<Policy>,
    desired: Desired,
}

impl Model {
    pub(super) fn new(state: &State) -> Result<Self, Failure> {
        let node = NodeName::new(NODE).map_err(|e| Failure::input(e.to_string()))?;
        let mut engine = Engine::new(node);
        for object in state.objects() {
            engine.apply(&Update {
                key: object.key(),
                value: Some(Arc::new(here(object))),
            });
        }
        let mut desired = Desired::default();
        desired.apply_all(engine.flush());
        let inherited: BTreeMap<&str, &BTreeMap<String, String>> = state
            .objects()
            .filter_map(|o| match o {
                Resource::Profile(p) => Some((p.metadata.name.as_str(), &p.spec.labels_to_apply)),
                _ => None,
            })
            .collect();
        let policies: Vec<Policy> = state.objects().filter_map(policy).collect();
        let places = places(&policies);
        let endpoints = state
            .objects()
            .filter_map(|o| endpoint(o, &desired, &inherited, &places))
            .collect();
        Ok(Self {
            endpoints,
            policies,
            desired,
        })
    }

    /// What was read, and what of it cannot be used.
    pub(super) fn debug(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} endpoints, {} policies and profiles",
            self.endpoints.len(),
            self.policies.len()
        )];
        lines.extend(
            self.desired
                .invalid
                .iter()
                .map(|(key, why)| format!("{key} cannot be used: {why}")),
        );
        lines
    }

    /// `eval`.
    pub(super) fn eval(&self, text: &str, selector: Option<&Selector>) -> Answer {
        let fits = |e: &&Endpoint| selector.is_some_and(|s| s.matches_map(&e.labels));
        let of = |e: &Endpoint| Selected {
            endpoint: e.reference.clone(),
            selector: None,
            matches: Vec::new(),
        };
        Answer::Eval {
            selector: text.to_owned(),
            endpoints: self.endpoints.iter().filter(fits).map(of).collect(),
        }
    }

    /// `policy`.
    pub(super) fn policy(&self, name: &str) -> Result<Answer, Failure> {
        let named: Vec<&Policy> = self
            .policies
            .iter()
            .filter(|p| p.name == name && p.id.is_some())
            .collect();
        // The enforced one is meant where a staged one has the same name.
        let is_staged = |p: &&&Policy| p.id.as_ref().is_some_and(|id| id.kind.is_staged());
        let found = named.iter().find(|p| !is_staged(p)).or_else(|| named.first());
        let Some(policy) = found else {
            let all = || {
                let policies = self.policies.iter().filter(|p| p.id.is_some());
                policies.map(|p| p.name.as_str())
            };
            // Kubernetes' policies go by Calico's name for them.
            let (namespace, short) = name.split_once('/').unwrap_or_default();
            let kube = format!("{namespace}/{}{short}", caracal_convert::POLICY_PREFIX);
            let near = all()
                .find(|n| *n == kube)
                .or_else(|| caracal_api::nearest(name, all()));
            let near = near.map(|n| format!("; there is {n:?}")).unwrap_or_default();
            return Err(Failure::input(format!(
                "there is no policy {name:?} (NAMESPACE/NAME, or NAME for a global policy){near}"
            )));
        };
        let has = |e: &&Endpoint| {
            policy
                .id
                .as_ref()
                .is_some_and(|id| e.policies.contains(id) || e.untracked.contains(id))
        };
        let applies = self.endpoints.iter().filter(has).map(|e| Selected {
            endpoint: e.reference.clone(),
            selector: Some(policy.selector.clone()),
            matches: Vec::new(),
        });
        let matched = self.endpoints.iter().filter_map(|e| {
            let matches: Vec<Match> = matches(policy, e).collect();
            (!matches.is_empty()).then(|| Selected {
                endpoint: e.reference.clone(),
                selector: None,
                matches,
            })
        });
        Ok(Answer::Policy {
            policy: name.to_owned(),
            applies_to: applies.collect(),
            rule_matches: Some(matched.collect()),
        })
    }

    /// `endpoint`.
    pub(super) fn endpoints_named(&self, part: &str) -> Answer {
        let fits = |e: &&Endpoint| e.reference.full().contains(part);
        Answer::Endpoints {
            title: format!("Policies and profiles for endpoints matching {part:?}:"),
            endpoints: self
                .endpoints
                .iter()
                .filter(fits)
                .map(|e| self.block(e))
                .collect(),
        }
    }

    /// `host`.
    pub(super) fn endpoints_on(&self, host: &str) -> Answer {
        let fits = |e: &&Endpoint| e.reference.host == host;
        Answer::Endpoints {
            title: format!("Policies and profiles for each endpoint on host {host:?}:"),
            endpoints: self
                .endpoints
                .iter()
                .filter(fits)
                .map(|e| self.block(e))
                .collect(),
        }
    }

    fn block(&self, endpoint: &Endpoint) -> Block {
        let applied = |id: &PolicyId, untracked: bool| {
            let policy = self.policies.iter().find(|p| p.id.as_ref() == Some(id))?;
            Some(Applied {
                name: policy.name.clone(),
                order: policy.order,
                selector: Some(policy.selector.clone()),
                untracked,
                staged: id.kind.is_staged(),
            })
        };
        let untracked = endpoint.untracked.iter().filter_map(|id| applied(id, true));
        let tracked = endpoint.policies.iter().filter_map(|id| applied(id, false));
        Block {
            endpoint: endpoint.reference.clone(),
            policies: untracked.chain(tracked).collect(),
            profiles: endpoint.profiles.clone(),
            rule_matches: Some(self.policies.iter().flat_map(|p| matches(p, endpoint)).collect()),
        }
    }
}

fn matches<'a>(policy: &'a Policy, endpoint: &'a Endpoint) -> impl Iterator<Item = Match> + 'a {
    let fits = |r: &&super::policies::RuleSelector| {
        r.parsed.as_ref().is_some_and(|s| s.matches_map(&endpoint.labels))
    };
    policy.rules.iter().filter(fits).map(|r| Match {
        kind: if policy.id.is_some() { "Policy" } else { "Profile" },
        name: policy.name.clone(),
        what: r.what.clone(),
        selector: Some(r.text.clone()),
    })
}

/// The object, on the one node if it is an endpoint.
fn here(object: &Resource) -> Resource {
    let mut object = object.clone();
    match &mut object {
        Resource::WorkloadEndpoint(w) => {
            NODE.clone_into(&mut w.spec.node);
            if w.spec.interface_name.is_empty() {
                "unnamed".clone_into(&mut w.spec.interface_name);
            }
        }
        Resource::HostEndpoint(h) => NODE.clone_into(&mut h.spec.node),
        _ => {}
    }
    object
}

fn endpoint(
    object: &Resource,
    desired: &Desired,
    inherited: &BTreeMap<&str, &BTreeMap<String, String>>,
    places: &Places,
) -> Option<Endpoint> {
    let mut labels = BTreeMap::new();
    let inherit = |profiles: &[String], labels: &mut BTreeMap<String, String>| {
        let all = profiles
            .iter()
            .filter_map(|p| inherited.get(p.as_str()))
            .flat_map(|l| l.iter());
        labels.extend(all.map(|(k, v)| (k.clone(), v.clone())));
    };
    match object {
        Resource::WorkloadEndpoint(w) => {
            inherit(&w.spec.profiles, &mut labels);
            labels.extend(w.metadata.labels.clone());
            let namespace = w.metadata.namespace.clone().unwrap_or_default();
            // A pod chooses its labels, but not what it is.
            labels.insert(LABEL_NAMESPACE.to_owned(), namespace);
            labels.insert(LABEL_ORCHESTRATOR.to_owned(), w.spec.orchestrator.clone());
            if !w.spec.service_account_name.is_empty() {
                labels.insert(
                    LABEL_SERVICE_ACCOUNT.to_owned(),
                    w.spec.service_account_name.clone(),
                );
            }
            let known = desired.workloads.get(&id_of(w));
            Some(Endpoint {
                reference: reference(w),
                labels,
                profiles: w.spec.profiles.clone(),
                untracked: Vec::new(),
                policies: known.map(|k| ids(&[&k.tiers], places)).unwrap_or_default(),
            })
        }
        Resource::HostEndpoint(h) => {
            inherit(&h.spec.profiles, &mut labels);
            labels.extend(h.metadata.labels.clone());
            let known = desired.host_endpoints.get(h.metadata.name.as_str());
            Some(Endpoint {
                reference: Ref {
                    kind: "Host endpoint",
                    host: h.spec.node.clone(),
                    id: h.metadata.name.clone(),
                },
                labels,
                profiles: h.spec.profiles.clone(),
                untracked: known.map(|k| ids(&[&k.untracked], places)).unwrap_or_default(),
                policies: known
                    .map(|k| ids(&[&k.pre_dnat, &k.tiers, &k.forward], places))
                    .unwrap_or_default(),
            })
        }
        _ => None,
    }
}

/// `ORCHESTRATOR/WORKLOAD/ENDPOINT`, as Calico's first data model named endpoints.
fn reference(w: &Object<WorkloadEndpointSpec>) -> Ref {
    let spec = &w.spec;
    let workload = if spec.orchestrator == ORCHESTRATOR_KUBERNETES {
        format!(
            "{}.{}",
            w.metadata.namespace.as_deref().unwrap_or_default(),
            spec.pod
        )
    } else {
        spec.workload.clone()
    };
    Ref {
        kind: "Workload endpoint",
        host: spec.node.clone(),
        id: format!("{}/{workload}/{}", spec.orchestrator, spec.endpoint),
    }
}

/// Where each policy stands in its tier: its order, then its name as ties are broken.
type Places = BTreeMap<PolicyId, (f64, String)>;

fn places(policies: &[Policy]) -> Places {
    let place = |p: &Policy| {
        let id = p.id.clone()?;
        let tie = id.tie_break();
        // As the engine has it: minus zero is zero, and what is no number is no order.
        let order = p.order.filter(|o| !o.is_nan()).map_or(f64::INFINITY, |o| o + 0.0);
        Some((id, (order, tie)))
    };
    policies.iter().filter_map(place).collect()
}

/// The policies of lists, each once, in order. The two directions of a tier are two lists of one order, and only some
/// policies are in both.
fn ids(lists: &[&[TierPolicies]], places: &Places) -> Vec<PolicyId> {
    let mut all: Vec<PolicyId> = Vec::new();
    for tier in lists.iter().copied().flatten() {
        let mut merged: Vec<&PolicyId> = tier.ingress.iter().chain(&tier.egress).collect();
        merged.sort_by(|a, b| {
            let (a, b) = (places.get(*a), places.get(*b));
            let ((order, tie), (other, other_tie)) = match (a, b) {
                (Some(a), Some(b)) => (a, b),
                _ => return a.is_none().cmp(&b.is_none()),
            };
            order.total_cmp(other).then_with(|| tie.cmp(other_tie))
        });
        for id in merged {
            if !all.contains(id) {
                all.push(id.clone());
            }
        }
    }
    all
}
