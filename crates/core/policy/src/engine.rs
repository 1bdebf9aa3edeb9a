//! The engine: updates in, deltas out.

mod flush;

use std::sync::Arc;

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_ids::{NodeName, PolicyId, ProfileName, TierName};
use caracal_selector::LabelSet;
use caracal_update::{SliceKey, SliceUpdate, Update};

use crate::{
    cluster::{Cluster, ItemKey},
    faults::{Fault, Faults},
    local::{Endpoint, Local},
    objects::{self, Member},
    policy::{self, Policies, Ready, Source, State, policy_kind},
    profile::Profiles,
    services::{self, ServiceCidrs},
    store::{Map, Set},
    tier::Tiers,
    vocabulary::Vocabulary,
};

/// The incremental policy engine of one node.
pub struct Engine {
    node: NodeName,
    voc: Vocabulary,
    cluster: Cluster,
    local: Local,
    policies: Policies,
    profiles: Profiles,
    tiers: Tiers,
    service_cidrs: ServiceCidrs,
    invalid: Verdicts,
}

/// Objects that cannot be used as they are.
#[derive(Default)]
struct Verdicts {
    reasons: Map<ResourceKey, String>,
    emitted: Map<ResourceKey, String>,
    touched: Set<ResourceKey>,
}

impl Verdicts {
    fn put(&mut self, key: &ResourceKey, reason: Option<String>) {
        let before = match &reason {
            None => self.reasons.remove(key),
            Some(reason) => self.reasons.insert(key.clone(), reason.clone()),
        };
        if before != reason {
            self.touched.insert(key.clone());
        }
    }
}

/// How much there is, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Endpoints and network sets of the whole cluster.
    pub items: usize,
    /// Endpoints of this node.
    pub local_endpoints: usize,
    /// Policies, needed here or not.
    pub policies: usize,
    /// Policies that are emitted.
    pub active_policies: usize,
    /// Profiles that are emitted.
    pub active_profiles: usize,
    /// IP sets that are emitted.
    pub ip_sets: usize,
    /// Slices of services' endpoints.
    pub slices: usize,
    /// Objects that cannot be used as they are.
    pub invalid: usize,
}

impl Engine {
    /// An engine for `node` that knows nothing yet.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            voc: Vocabulary::default(),
            cluster: Cluster::default(),
            local: Local::default(),
            policies: Policies::default(),
            profiles: Profiles::default(),
            tiers: Tiers::default(),
            service_cidrs: ServiceCidrs::default(),
            invalid: Verdicts::default(),
        }
    }

    /// Takes a change in. Nothing comes out before [`flush`](Self::flush). Kinds that policy does not depend on are
    /// ignored; an update for a key overrides all earlier ones.
    pub fn apply(&mut self, update: &Update) {
        let key = &update.key;
        let mut faults = Faults::default();
        let value = match update.value.as_deref() {
            Some(resource) if resource.kind() == key.kind => Some(resource),
            Some(resource) => {
                let why = format!(
                    "{} was delivered under the key of a {}",
                    resource.kind(),
                    key.kind
                );
                faults.add(Fault::new("kind", why));
                None
            }
            None => None,
        };
        match key.kind {
            Kind::Tier => self.tier(key, value, &mut faults),
            Kind::Profile => self.profile(key, value, &mut faults),
            Kind::WorkloadEndpoint => self.workload(key, value, &mut faults),
            Kind::HostEndpoint => self.host(key, value, &mut faults),
            Kind::NetworkSet | Kind::GlobalNetworkSet => self.network_set(key, value, &mut faults),
            Kind::KubernetesEndpointSlice => self.slice(key, value, &mut faults),
            Kind::BgpConfiguration if &*key.name == services::GLOBAL => {
                let spec = value.and_then(|r| match r {
                    Resource::BgpConfiguration(o) => Some(&o.spec),
                    _ => None,
                });
                self.service_cidrs.put(spec, &mut faults);
            }
            kind if policy_kind(kind).is_some() => self.policy(key, value, &mut faults),
            _ => return,
        }
        self.invalid.put(key, faults.into_reason());
    }

    fn slice(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let mut update = SliceUpdate {
            key: SliceKey {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            },
            value: None,
        };
        if let Some(Resource::KubernetesEndpointSlice(slice)) = value {
            let converted = caracal_convert::endpoint_slice(slice);
            for problem in converted.problems {
                faults.add(Fault::new(format!("spec.{}", problem.path), problem.message));
            }
            update.value = converted.object.value;
        }
        self.cluster.put_slice(&update);
    }

    /// Takes a change of a service's endpoints in.
    pub fn apply_slice(&mut self, update: &SliceUpdate) {
        self.cluster.put_slice(update);
    }

    /// How much there is; the parts about emission are as of the last flush. Costs a look at every policy and set.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let policies = || self.policies.entries.iter().map(|(_, p)| p);
        Counts {
            items: self.cluster.len(),
            local_endpoints: self
                .local
                .entries
                .iter()
                .filter(|(_, e)| e.state.is_some())
                .count(),
            policies: policies().filter(|p| p.state.is_some()).count(),
            active_policies: policies().filter(|p| p.emitted.is_some()).count(),
            active_profiles: self
                .profiles
                .entries
                .values()
                .filter(|p| p.emitted.is_some())
                .count(),
            ip_sets: self.cluster.sets.iter().filter(|s| s.live.is_some()).count(),
            slices: self.cluster.slices(),
            invalid: self.invalid.reasons.len(),
        }
    }

    fn tier(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let name = TierName::new(&*key.name).map_err(|e| Fault::new("metadata.name", e.to_string()));
        let Some(name) = faults.take(name) else {
            return;
        };
        let spec = match value {
            Some(Resource::Tier(tier)) => Some(&tier.spec),
            _ => None,
        };
        if self.tiers.put(&name, spec) {
            self.local.dirty_all();
        }
    }

    fn profile(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let name = ProfileName::new(&*key.name).map_err(|e| Fault::new("metadata.name", e.to_string()));
        let Some(name) = faults.take(name) else {
            return;
        };
        let spec = match value {
            Some(Resource::Profile(profile)) => Some(&profile.spec),
            _ => None,
        };
        match spec {
            Some(spec) => self.profiles.put(&name, spec, &mut self.cluster.sets, faults),
            None => self.profiles.remove(&name, &mut self.cluster.sets),
        }
        let labels = spec.map(|s| LabelSet::new(&mut self.voc.interner, &s.labels_to_apply));
        self.inherit(name.as_str(), labels.unwrap_or_default());
    }

    /// Endpoints with the profile inherit these labels from now on.
    fn inherit(&mut self, profile: &str, labels: LabelSet) {
        let profile = self.voc.word(profile);
        let same = match self.voc.labels_of(profile) {
            Some(held) => *held == labels,
            None => labels.is_empty(),
        };
        if same {
            return;
        }
        let members = self.cluster.lift(&self.voc, profile);
        let locals = self.local.lift(&self.voc, profile);
        self.voc.set_labels(profile, labels);
        self.cluster.lower(&self.voc, &members);
        self.local.lower(&self.voc, &locals);
    }

    fn network_set(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let (labels, nets) = match value {
            Some(Resource::NetworkSet(set)) => (&set.metadata.labels, &set.spec.nets),
            Some(Resource::GlobalNetworkSet(set)) => (&set.metadata.labels, &set.spec.nets),
            _ => return self.put_member(key, None),
        };
        let member = objects::network_set(&mut self.voc, key, labels, nets, faults);
        self.put_member(key, Some(member));
    }

    fn workload(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let Some(Resource::WorkloadEndpoint(object)) = value else {
            self.put_local(key, None);
            return self.put_member(key, None);
        };
        let member = objects::workload(&mut self.voc, key, object, faults);
        let is_local = object.spec.node == self.node.as_str() && member.is_some();
        let bare = is_local
            .then(|| objects::local_workload(key, object, faults))
            .flatten();
        let endpoint = bare.map(|bare| Endpoint::Workload(Arc::new(bare)));
        self.put_local(key, endpoint.zip(member.as_ref()));
        self.put_member(key, member);
    }

    fn host(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let Some(Resource::HostEndpoint(object)) = value else {
            self.put_local(key, None);
            return self.put_member(key, None);
        };
        let member = objects::host(&mut self.voc, object, faults);
        let is_local = object.spec.node == self.node.as_str();
        let bare = is_local.then(|| objects::local_host(key, object, faults));
        let endpoint = bare.map(|bare| Endpoint::Host(Arc::new(bare)));
        self.put_local(key, endpoint.map(|e| (e, &member)));
        self.put_member(key, Some(member));
    }

    fn put_member(&mut self, key: &ResourceKey, member: Option<Member>) {
        let item = ItemKey {
            kind: key.kind,
            namespace: &key.namespace,
            name: &key.name,
        };
        match member {
            Some(member) => self.cluster.put(&mut self.voc, item, member.content, member.nets),
            None => self.cluster.remove(&self.voc, item),
        }
    }

    fn put_local(&mut self, key: &ResourceKey, endpoint: Option<(Endpoint, &Member)>) {
        let before = match endpoint {
            Some((bare, member)) => {
                bare.profiles().iter().for_each(|p| self.profiles.join(p));
                let (own, frame) = (&member.content.own, &member.content.frame);
                let labels = (own.clone(), frame.forced.clone(), frame.profiles.clone());
                self.local.put(&self.voc, key, labels, bare)
            }
            None => self.local.remove(&self.voc, key),
        };
        before.iter().for_each(|p| self.profiles.leave(p));
    }

    fn policy(&mut self, key: &ResourceKey, value: Option<&Resource>, faults: &mut Faults) {
        let Some(kind) = policy_kind(key.kind) else {
            return;
        };
        let converted = match value {
            Some(Resource::StagedKubernetesNetworkPolicy(o)) => policy::converted(o, faults),
            _ => None,
        };
        let written = value.and_then(Source::of);
        let source = written.or_else(|| converted.as_ref().map(Source::of_spec));
        let id = || PolicyId {
            kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let read = match source {
            Some(source) => policy::read(key, kind, &source, &mut self.cluster.sets, faults),
            None if value.is_some_and(policy::deletes) => policy::deletion(id()),
            None => {
                if let Some(at) = self.policies.find(&id()) {
                    self.replace_policy(at, None);
                    self.policies.touched.insert(at);
                }
                return;
            }
        };
        let at = self.policies.find_or_make(&read.ready.policy.id);
        let selector = read.selector.map(|s| self.local.attach(&mut self.voc, &s, at));
        let tier = self.tiers.join(&read.tier);
        let state = State {
            tier,
            standing: read.standing,
            selector,
            ready: Arc::new(read.ready),
        };
        self.replace_policy(at, Some(state));
        self.policies.touched.insert(at);
    }

    /// Puts a new state in place of the old, whose claims on selectors, tiers and sets are let go of.
    fn replace_policy(&mut self, at: u32, mut state: Option<State>) {
        let before = self.policies.entries[at].state.take();
        let before_was = before.is_some();
        let place = |s: &State| (s.tier, s.selector, s.standing.clone());
        let moved = before.as_ref().map(place) != state.as_ref().map(place);
        if moved {
            let selectors = [&before, &state].map(|s| s.as_ref().and_then(|s| s.selector));
            for selector in selectors.into_iter().flatten() {
                self.local.dirty_selected(selector);
            }
        }
        if let (Some(old), Some(new)) = (&before, &mut state)
            && old.ready.policy == new.ready.policy
        {
            // What is the same stays one object, for this engine and for whoever got it.
            new.ready = Arc::new(Ready {
                policy: old.ready.policy.clone(),
                sets: new.ready.sets.clone(),
            });
        }
        if let Some(old) = before {
            if let Some(selector) = old.selector {
                self.local.detach(selector, at);
            }
            self.tiers.leave(old.tier);
            for set in &old.ready.sets {
                self.cluster.sets.forget(*set);
            }
        }
        let comes_or_goes = before_was != state.is_some();
        self.policies.entries[at].state = state;
        if comes_or_goes {
            self.policies.touch_staged(at);
        }
    }
}
