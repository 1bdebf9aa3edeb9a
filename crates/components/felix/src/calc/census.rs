//! How much there is, for metrics.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use caracal_api::{Kind, ResourceKey};
use caracal_desired::Delta;
use caracal_ids::{IpSetId, PolicyId, WorkloadId};
use caracal_update::Update;

/// Kinds of the cluster that are counted, with their metric.
const KINDS: &[(&str, &[Kind])] = &[
    ("felix_cluster_num_hosts", &[Kind::Node]),
    ("felix_cluster_num_host_endpoints", &[Kind::HostEndpoint]),
    (
        "felix_cluster_num_policies",
        &[Kind::NetworkPolicy, Kind::GlobalNetworkPolicy],
    ),
    ("felix_cluster_num_profiles", &[Kind::Profile]),
    ("felix_cluster_num_tiers", &[Kind::Tier]),
    ("felix_cluster_num_workload_endpoints", &[Kind::WorkloadEndpoint]),
];

/// Counts objects and what is active here. An object is one hash of its key: a collision would make a figure one too
/// small, which is no harm.
#[derive(Debug, Default)]
pub(super) struct Census {
    hasher: RandomState,
    objects: BTreeMap<Kind, HashSet<u64>>,
    changed: bool,
    workloads: HashSet<WorkloadId>,
    policies: HashSet<PolicyId>,
    sets: HashSet<IpSetId>,
}

impl Census {
    /// Takes a change of an object.
    pub(super) fn object(&mut self, update: &Update) {
        let ResourceKey { kind, .. } = &update.key;
        if !KINDS.iter().any(|(_, kinds)| kinds.contains(kind)) {
            return;
        }
        let hash = self.hasher.hash_one(&update.key);
        let known = self.objects.entry(*kind).or_default();
        self.changed |= if update.value.is_some() {
            known.insert(hash)
        } else {
            known.remove(&hash)
        };
    }

    /// Takes a change of the desired state.
    pub(super) fn delta(&mut self, delta: &Delta) {
        self.changed |= match delta {
            Delta::Workload(w) => self.workloads.insert(w.id.clone()),
            Delta::WorkloadGone(id) => self.workloads.remove(id),
            Delta::Policy(p) => self.policies.insert(p.id.clone()),
            Delta::PolicyGone(id) => self.policies.remove(id),
            Delta::IpSet(id, _) => self.sets.insert(id.clone()),
            Delta::IpSetGone(id) => self.sets.remove(id),
            _ => false,
        };
    }

    /// Tells the figures, if any changed.
    pub(super) fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for (name, kinds) in KINDS {
            let n: usize = kinds
                .iter()
                .map(|k| self.objects.get(k).map_or(0, HashSet::len))
                .sum();
            metrics::gauge!(*name).set(n as f64);
        }
        metrics::gauge!("felix_active_local_endpoints").set(self.workloads.len() as f64);
        metrics::gauge!("felix_active_local_policies").set(self.policies.len() as f64);
        metrics::gauge!("felix_active_local_selectors").set(self.sets.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::{Object, TierSpec};

    use super::*;

    #[test]
    fn repeated_and_spurious_updates_count_once() {
        let mut census = Census::default();
        let tier = |name: &str| Update::set(Object::new(name, TierSpec::default()).into());
        for update in [tier("a"), tier("a"), tier("b")] {
            census.object(&update);
        }
        census.object(&Update::gone(ResourceKey::global(Kind::Tier, "a")));
        census.object(&Update::gone(ResourceKey::global(Kind::Tier, "never")));
        assert_eq!(census.objects[&Kind::Tier].len(), 1);
        assert!(census.changed);
    }
}
