//! The objects of a cluster as far as policy depends on them, from manifests or from a datastore.

mod addresses;
mod pods;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caracal_api::{
    Foreign, InForce, Kind, ManifestObject, Object, Resource, ResourceKey, Stamp, TierSpec, Trial,
    default_resource, in_force, validate,
};
use caracal_convert::{Namespace, ServiceAccount, namespace_profile, service_account_profile};
use caracal_update::Update;

pub use addresses::give_addresses;
pub use services::{Service, ServicePort, Target};

/// The tiers that always exist.
const FIXED_TIERS: [&str; 3] = ["kube-admin", "default", "kube-baseline"];
/// The namespace of what names none, and the service account of pods that name none.
const DEFAULT: &str = "default";
/// All endpoints are put on one node, so that one engine knows the policies of all.
pub(crate) const NODE: &str = "analysis";

/// The kinds that are looked at; a program that reads a datastore lists these.
pub const KINDS: &[Kind] = &[
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
    Kind::StagedKubernetesNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::Profile,
    Kind::WorkloadEndpoint,
    Kind::HostEndpoint,
    Kind::Node,
    Kind::IpPool,
    Kind::FelixConfiguration,
    Kind::BgpConfiguration,
    Kind::ClusterInformation,
    Kind::KubernetesService,
    Kind::KubernetesEndpointSlice,
];

/// A pod that has the network of its node: no workload policy reaches it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node it is on; empty when it is not scheduled.
    pub node: String,
}

/// The objects of a cluster; each key once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub(crate) objects: BTreeMap<ResourceKey, Arc<Resource>>,
    pub(crate) host_pods: Vec<HostPod>,
    /// Where each object was read, for messages.
    origins: BTreeMap<ResourceKey, String>,
    skipped: BTreeSet<String>,
}

impl State {
    /// Reads the manifests of a text; what is wrong with them is added to `problems`. Kinds that say nothing about
    /// policy are left out.
    pub fn read(&mut self, source: &str, text: &str, problems: &mut Vec<String>) {
        for document in caracal_api::parse(source, text) {
            let document = match document {
                Ok(document) => document,
                Err(e) if is_of_no_concern(&e) => {
                    let kind = e.kind.unwrap_or_default();
                    self.skipped
                        .insert(format!("{source}: {kind} {}", e.name.unwrap_or_default()));
                    continue;
                }
                Err(e) => {
                    problems.push(e.to_string());
                    continue;
                }
            };
            let origin = document.origin.to_string();
            let taken = match document.object {
                ManifestObject::Calico(resource) => self.take(resource, &origin),
                ManifestObject::Foreign(foreign) => self.take_foreign(*foreign, &origin),
            };
            problems.extend(taken.err().map(|e| format!("{origin}: {e}")));
        }
    }

    /// Takes an object that is good already, for example from a datastore; it replaces one of the same key.
    pub fn insert(&mut self, resource: Resource) {
        self.objects.insert(resource.key(), Arc::new(resource));
    }

    /// Everything of `other` over what is here.
    pub fn overlay(&mut self, other: Self) {
        self.forget_slices(&other);
        self.objects.extend(other.objects);
        self.origins.extend(other.origins);
        self.skipped.extend(other.skipped);
        self.host_pods.extend(other.host_pods);
        self.host_pods.sort();
        self.host_pods.dedup();
    }

    /// Adds what every cluster has: the tiers that always exist and, for the endpoints' namespaces and service accounts,
    /// profiles where nothing was said about them.
    pub fn complete(&mut self) {
        for name in FIXED_TIERS {
            self.insert_if_missing(Object::new(name, TierSpec::default()).into());
        }
        let mut wanted = BTreeSet::new();
        for endpoint in self.objects.values() {
            if let Resource::WorkloadEndpoint(w) = &**endpoint {
                let namespace = w.metadata.namespace.clone().unwrap_or_default();
                wanted.insert((
                    namespace,
                    w.spec.service_account_name.clone(),
                    w.spec.profiles.clone(),
                ));
            }
        }
        for (namespace, account, profiles) in wanted {
            let has = |name: String| profiles.contains(&name);
            if has(namespace_profile(&namespace)) {
                let metadata = caracal_api::ObjectMeta::named(&namespace);
                self.insert_if_missing(caracal_convert::namespace(&Namespace { metadata }).into());
            }
            if has(service_account_profile(&namespace, &account)) {
                let metadata = caracal_api::ObjectMeta::namespaced(&namespace, &account);
                self.insert_if_missing(caracal_convert::service_account(&ServiceAccount { metadata }).into());
            }
        }
    }

    fn insert_if_missing(&mut self, mut resource: Resource) {
        default_resource(&mut resource);
        self.objects
            .entry(resource.key())
            .or_insert_with(|| Arc::new(resource));
    }

    /// Leaves of objects on trial (`calicoctl apply --confirm-within`) what is in force at a time; yields a remark for each.
    pub fn settle_trials(&mut self, now: Stamp) -> Vec<String> {
        let on_trial = |o: &Arc<Resource>| match Trial::of(o) {
            Ok(trial) => trial.map(|t| t.until.to_string()),
            Err(e) => Some(e.to_string()),
        };
        let found: Vec<(ResourceKey, String)> = self
            .objects
            .iter()
            .filter_map(|(key, o)| Some((key.clone(), on_trial(o)?)))
            .collect();
        let mut remarks = Vec::new();
        for (key, until) in found {
            let Some(object) = self.objects.get_mut(&key) else {
                continue;
            };
            match in_force(object, now) {
                InForce::AsWritten if Trial::of(object).is_err() => {
                    remarks.push(format!("{key} is taken as it is written: {until}"));
                }
                InForce::AsWritten => remarks.push(format!("{key} is on trial until {until}")),
                InForce::Before(previous) => {
                    *object = Arc::new(*previous);
                    remarks.push(format!(
                        "{key} was not confirmed before {until}: it is what it was before"
                    ));
                }
                InForce::Nothing => {
                    self.objects.remove(&key);
                    remarks.push(format!(
                        "{key} was not confirmed before {until}: it does not exist"
                    ));
                }
            }
        }
        remarks
    }

    /// What was left out because it says nothing about policy.
    pub fn skipped(&self) -> impl Iterator<Item = &str> {
        self.skipped.iter().map(String::as_str)
    }

    /// The objects, in order of their keys.
    pub fn objects(&self) -> impl Iterator<Item = &Resource> {
        self.objects.values().map(AsRef::as_ref)
    }

    /// Where an object was read, if that was a manifest.
    #[must_use]
    pub fn origin(&self, key: &ResourceKey) -> Option<&str> {
        self.origins.get(key).map(String::as_str)
    }

    fn take(&mut self, mut resource: Resource, origin: &str) -> Result<(), String> {
        if resource.kind().namespaced() {
            let namespace = &mut resource.metadata_mut().namespace;
            namespace.get_or_insert_with(|| DEFAULT.to_owned());
        }
        default_resource(&mut resource);
        let key = resource.key();
        let wrong: Vec<String> = validate(&resource).iter().map(ToString::to_string).collect();
        if !wrong.is_empty() {
            return Err(format!("{key}: {}", wrong.join("; ")));
        }
        if let Some(first) = self.origins.get(&key) {
            return Err(format!("{key}: it is given twice; the first is in {first}"));
        }
        self.origins.insert(key, origin.to_owned());
        self.insert(resource);
        Ok(())
    }

    fn take_foreign(&mut self, mut foreign: Foreign, origin: &str) -> Result<(), String> {
        caracal_convert::settle_namespace(&mut foreign);
        if foreign.kind == "Pod" {
            return self.take_pod(&foreign, origin);
        }
        let converted = caracal_convert::foreign(&foreign).map_err(|e| e.to_string())?;
        converted
            .into_iter()
            .try_for_each(|resource| self.take(resource, origin))
    }

    /// The objects as the engine is to see them: every endpoint on one node.
    pub(crate) fn updates(&self) -> Vec<Update> {
        let put = |(key, resource): (&ResourceKey, &Arc<Resource>)| Update {
            key: key.clone(),
            value: Some(here(resource)),
        };
        self.objects.iter().map(put).collect()
    }

    /// The changes that lead from `self` to `next`, as the engine is to see them.
    pub(crate) fn changes(&self, next: &Self) -> Vec<Update> {
        let gone = self.objects.keys().filter(|k| !next.objects.contains_key(*k));
        let differs = |(k, r): &(&ResourceKey, &Arc<Resource>)| {
            self.objects
                .get(*k)
                .is_none_or(|old| !Arc::ptr_eq(old, r) && old != *r)
        };
        let set = next.objects.iter().filter(differs);
        gone.map(|k| Update::gone(k.clone()))
            .chain(set.map(|(k, r)| Update {
                key: k.clone(),
                value: Some(here(r)),
            }))
            .collect()
    }
}

/// The object, on the one node if it is an endpoint.
fn here(resource: &Arc<Resource>) -> Arc<Resource> {
    match &**resource {
        Resource::WorkloadEndpoint(w) => {
            let mut w = w.clone();
            NODE.clone_into(&mut w.spec.node);
            if w.spec.interface_name.is_empty() {
                "unnamed".clone_into(&mut w.spec.interface_name);
            }
            Arc::new(Resource::WorkloadEndpoint(w))
        }
        Resource::HostEndpoint(h) => {
            let mut h = h.clone();
            NODE.clone_into(&mut h.spec.node);
            Arc::new(Resource::HostEndpoint(h))
        }
        _ => Arc::clone(resource),
    }
}

/// Whether an object was refused only because it is of a kind of others, such as a Deployment.
fn is_of_no_concern(e: &caracal_api::ManifestError) -> bool {
    const OURS: [&str; 6] = [
        "Namespace",
        "ServiceAccount",
        "Pod",
        "Service",
        "EndpointSlice",
        "NetworkPolicy",
    ];
    let foreign = |kind: &String| !OURS.contains(&kind.as_str()) && Kind::parse(kind).is_none();
    let by_version = |p: &caracal_api::Problem| p.path == caracal_api::FieldPath::of("apiVersion");
    e.kind.as_ref().is_some_and(foreign) && e.problems.iter().all(by_version)
}

#[cfg(test)]
mod tests;
