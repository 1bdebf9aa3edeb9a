//! Whose an interface is: what a change of a link is about must not cost a look at every endpoint of the node.

use std::collections::{BTreeMap, BTreeSet};

use caracal_desired::Delta;
use caracal_ids::WorkloadId;

/// The endpoints of each interface. Two can have one for a moment.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    of: BTreeMap<String, BTreeSet<WorkloadId>>,
    at: BTreeMap<WorkloadId, String>,
}

impl Owners {
    /// Folds a delta in; deltas that are not about endpoints of workloads are not its business.
    pub(crate) fn fold(&mut self, delta: &Delta) {
        match delta {
            Delta::Workload(w) => self.set(&w.id, &w.interface),
            Delta::WorkloadGone(id) => self.remove(id),
            _ => {}
        }
    }

    fn set(&mut self, id: &WorkloadId, interface: &str) {
        if self.at.get(id).is_some_and(|name| name == interface) {
            return;
        }
        self.remove(id);
        self.at.insert(id.clone(), interface.to_owned());
        let owners = self.of.entry(interface.to_owned()).or_default();
        owners.insert(id.clone());
    }

    fn remove(&mut self, id: &WorkloadId) {
        let Some(name) = self.at.remove(id) else { return };
        if let Some(owners) = self.of.get_mut(&name) {
            owners.remove(id);
            if owners.is_empty() {
                self.of.remove(&name);
            }
        }
    }

    /// The endpoints of an interface.
    pub(crate) fn of(&self, interface: &str) -> impl Iterator<Item = &WorkloadId> {
        self.of.get(interface).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_those_that_are_at_it_now() {
        let mut owners = Owners::default();
        let id = |name: &str| WorkloadId::new("ns", name);
        let now = |owners: &Owners, i: &str| -> Vec<String> {
            owners.of(i).map(|id| id.name.to_string()).collect()
        };
        owners.set(&id("a"), "cali1");
        owners.set(&id("a"), "cali1");
        owners.set(&id("b"), "cali1");
        assert_eq!(now(&owners, "cali1"), ["a", "b"]);
        owners.set(&id("a"), "cali2");
        assert_eq!(now(&owners, "cali1"), ["b"]);
        assert_eq!(now(&owners, "cali2"), ["a"]);
        for name in ["b", "none"] {
            owners.fold(&Delta::WorkloadGone(id(name)));
        }
        assert!(now(&owners, "cali1").is_empty());
        owners.fold(&Delta::WorkloadGone(id("a")));
        assert!(owners.of.is_empty() && owners.at.is_empty());
    }
}
