//! Replicas of policies and profiles with their rules in normal form, made when a chain needs them and kept for a while.

use std::{collections::HashSet, sync::Arc};

use caracal_desired::{Policy, Profile, Rule};
use caracal_ids::IpSetId;
use caracal_net::{Family, PerFamily};

use crate::{
    Map,
    atom::{Atom, atoms, sets_of},
    chain::Atoms,
    ip_sets::IpSets,
    list::{Direction, SourceId},
};

/// The rules of a policy or profile.
#[derive(Debug, Clone)]
pub(crate) enum Rules {
    Policy(Arc<Policy>),
    Profile(Arc<Profile>),
}

impl Rules {
    pub(crate) fn of(&self, direction: Direction) -> &[Rule] {
        match (self, direction) {
            (Self::Policy(p), Direction::From) => &p.egress,
            (Self::Policy(p), Direction::To) => &p.ingress,
            (Self::Profile(p), Direction::From) => &p.egress,
            (Self::Profile(p), Direction::To) => &p.ingress,
        }
    }

    fn sets(&self) -> HashSet<&IpSetId> {
        let both = [Direction::From, Direction::To];
        both.into_iter()
            .flat_map(|d| self.of(d).iter().flat_map(sets_of))
            .collect()
    }
}

/// Per family, egress and ingress.
type Made = PerFamily<[Option<Arc<[Atom]>>; 2]>;

/// Atoms that are kept. A change of one policy needs those of the lists that hold it; to keep those of ten thousand
/// policies for it would take a quarter of the compiler's memory.
const KEPT: usize = 8_192;

#[derive(Debug, Default)]
pub(crate) struct Sources {
    sources: Map<SourceId, Rules>,
    cache: Map<SourceId, Made>,
    // atoms made since all were dropped, those that are gone meanwhile included
    made: usize,
    set_users: Map<IpSetId, HashSet<SourceId>>,
}

impl Sources {
    pub(crate) fn put(&mut self, id: &SourceId, rules: Rules) {
        self.remove(id);
        for set in rules.sets() {
            let users = self.set_users.entry(set.clone()).or_default();
            users.insert(id.clone());
        }
        self.sources.insert(id.clone(), rules);
    }

    pub(crate) fn get(&self, id: &SourceId) -> Option<&Rules> {
        self.sources.get(id)
    }

    pub(crate) fn remove(&mut self, id: &SourceId) {
        let Some(old) = self.sources.remove(id) else {
            return;
        };
        self.cache.remove(id);
        for set in old.sets() {
            if let Some(users) = self.set_users.get_mut(set) {
                users.remove(id);
                if users.is_empty() {
                    self.set_users.remove(set);
                }
            }
        }
    }

    /// A set came, went or changed its shape: the rules that name it are made anew. Says whose rules those are.
    pub(crate) fn set_changed(&mut self, set: &IpSetId) -> Vec<SourceId> {
        let users: Vec<SourceId> = self.set_users.get(set).into_iter().flatten().cloned().collect();
        for id in &users {
            self.cache.remove(id);
        }
        users
    }

    pub(crate) fn atoms(
        &mut self,
        id: &SourceId,
        family: Family,
        direction: Direction,
        sets: &IpSets,
    ) -> Atoms {
        let rules = self.sources.get(id)?.of(direction);
        let slot = &mut self.cache.entry_ref(id).or_default().get_mut(family)[direction as usize];
        let made = slot.get_or_insert_with(|| {
            let made = atoms(id, direction, rules, family, sets);
            self.made += made.len();
            made.into()
        });
        Some(Arc::clone(made))
    }

    /// Drops all atoms when there are too many. They are made anew from the rules when they are needed.
    pub(crate) fn forget_atoms(&mut self) {
        if self.made > KEPT {
            self.made = 0;
            self.cache = Map::default();
        }
    }
}
