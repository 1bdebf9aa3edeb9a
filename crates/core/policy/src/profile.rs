//! Profiles: rules for the endpoints that name them. Their labels are the vocabulary's.

use std::sync::Arc;

use caracal_api::{Action, ProfileSpec};
use caracal_desired::{Profile, Rule};
use caracal_ids::ProfileName;

use crate::{
    faults::Faults,
    rules::Compiler,
    sets::SetTable,
    store::{Map, Set},
};

/// The profile of host endpoints that Calico makes by itself. It allows everything, whether an object says so or not.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// The rules of a profile, with the sets they name (each as often as they do).
#[derive(Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) ingress: Vec<Rule>,
    pub(crate) egress: Vec<Rule>,
    pub(crate) sets: Box<[u32]>,
}

impl Rules {
    fn everything(action: Action) -> Self {
        Self {
            ingress: vec![Rule::new(action)],
            egress: vec![Rule::new(action)],
            sets: Box::default(),
        }
    }
}

/// A profile that exists, is named by a local endpoint, or is still emitted.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) rules: Option<Arc<Rules>>,
    users: usize,
    pub(crate) emitted: Option<(Arc<Profile>, Arc<Rules>)>,
}

impl Entry {
    /// The rules to emit, if any endpoint names the profile.
    pub(crate) fn wanted(&self, name: &ProfileName) -> Option<Arc<Rules>> {
        if self.users == 0 {
            return None;
        }
        Some(self.rules.clone().unwrap_or_else(|| {
            // A missing referent is a deny.
            Arc::new(Rules::everything(match name.as_str() {
                DEFAULT_ALLOW => Action::Allow,
                _ => Action::Deny,
            }))
        }))
    }
}

/// All profiles.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    pub(crate) entries: Map<ProfileName, Entry>,
    /// Profiles to look at in the next flush.
    pub(crate) touched: Set<ProfileName>,
    /// Rule lists of late, for sharing: nearly every profile of a cluster has one of two.
    recent: Vec<Arc<Rules>>,
}

const RECENT: usize = 4;

impl Profiles {
    /// The profile exists and is this.
    pub(crate) fn put(
        &mut self,
        name: &ProfileName,
        spec: &ProfileSpec,
        table: &mut SetTable,
        faults: &mut Faults,
    ) {
        let mut compiler = Compiler::new("", table, faults);
        let rules = Rules {
            ingress: compiler.rules(&spec.ingress, "spec.ingress"),
            egress: compiler.rules(&spec.egress, "spec.egress"),
            sets: compiler.into_sets(),
        };
        let rules = self.shared(rules);
        let entry = self.entries.entry(name.clone()).or_default();
        let before = entry.rules.replace(rules.clone());
        if before.as_ref() != Some(&rules) && entry.users > 0 {
            self.touched.insert(name.clone());
        }
        forget(table, before);
    }

    /// The profile does not exist.
    pub(crate) fn remove(&mut self, name: &ProfileName, table: &mut SetTable) {
        if let Some(entry) = self.entries.get_mut(name) {
            let before = entry.rules.take();
            if before.is_some() && entry.users > 0 {
                self.touched.insert(name.clone());
            }
            forget(table, before);
            self.drop_if_idle(name);
        }
    }

    fn shared(&mut self, rules: Rules) -> Arc<Rules> {
        if let Some(held) = self.recent.iter().find(|held| ***held == rules) {
            return held.clone();
        }
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        let rules = Arc::new(rules);
        self.recent.push(rules.clone());
        rules
    }

    /// A local endpoint names the profile.
    pub(crate) fn join(&mut self, name: &ProfileName) {
        self.entries.entry(name.clone()).or_default().users += 1;
        self.touched.insert(name.clone());
    }

    /// A local endpoint names it no more.
    pub(crate) fn leave(&mut self, name: &ProfileName) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.users = entry.users.saturating_sub(1);
            self.touched.insert(name.clone());
        }
    }

    pub(crate) fn drop_if_idle(&mut self, name: &ProfileName) {
        let idle = |e: &Entry| e.rules.is_none() && e.users == 0 && e.emitted.is_none();
        if self.entries.get(name).is_some_and(idle) {
            self.entries.remove(name);
        }
    }
}

fn forget(table: &mut SetTable, rules: Option<Arc<Rules>>) {
    let sets = rules.iter().flat_map(|r| &r.sets);
    sets.for_each(|set| table.forget(*set));
}
