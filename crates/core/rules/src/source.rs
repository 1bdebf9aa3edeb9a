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

/// Sources whose atoms one call of [`Sources::tidy`] frees at most: more than a change makes, so that they become fewer.
const FREED: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Sources {
    sources: Map<SourceId, Rules>,
    /// What was needed of late.
    cache: Map<SourceId, Made>,
    /// What was needed before that: kept if it is needed again, else the next to go.
    older: Map<SourceId, Made>,
    /// What goes, piece by piece: to free all of it at once takes longer than a change may.
    going: Vec<Made>,
    // atoms made since the cache began, those that are gone meanwhile included
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
        self.forget(id);
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
            self.forget(id);
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
        let older = &mut self.older;
        let kept = self.cache.entry_ref(id).or_insert_with(|| {
            let kept = older.remove(id).unwrap_or_default();
            self.made += atoms_in(&kept);
            kept
        });
        let slot = &mut kept.get_mut(family)[direction as usize];
        let made = slot.get_or_insert_with(|| {
            let made = atoms(id, direction, rules, family, sets);
            self.made += made.len();
            made.into()
        });
        Some(Arc::clone(made))
    }

    fn forget(&mut self, id: &SourceId) {
        self.cache.remove(id);
        self.older.remove(id);
    }

    /// Drops all atoms when there are far too many, as after a first snapshot. They are made anew from the rules when they
    /// are needed.
    pub(crate) fn forget_atoms(&mut self) {
        if self.made > KEPT {
            self.made = 0;
            self.cache = Map::default();
            self.older = Map::default();
            self.going = Vec::new();
        }
    }

    /// Drops what was not needed for long, a little of it at a time.
    pub(crate) fn tidy(&mut self) {
        if self.made > KEPT / 2 {
            self.made = 0;
            let older = std::mem::replace(&mut self.older, std::mem::take(&mut self.cache));
            self.going.extend(older.into_values());
        }
        let left = self.going.len().saturating_sub(FREED);
        self.going.truncate(left);
        if left == 0 {
            self.going = Vec::new();
        }
    }
}

fn atoms_in(made: &Made) -> usize {
    let of =
        |(_, made): (_, &[Option<Arc<[Atom]>>; 2])| made.iter().flatten().map(|a| a.len()).sum::<usize>();
    made.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use caracal_api::Action;
    use caracal_ids::ProfileName;

    use super::*;

    fn profile(n: usize) -> (SourceId, Rules) {
        let name = ProfileName::new(format!("p{n}")).unwrap();
        let rules = Rules::Profile(Arc::new(Profile {
            name: name.clone(),
            ingress: vec![Rule::new(Action::Log); 32],
            egress: Vec::new(),
        }));
        (SourceId::Profile(name), rules)
    }

    fn held(sources: &Sources) -> usize {
        let maps = sources.cache.values().chain(sources.older.values());
        maps.chain(&sources.going).map(atoms_in).sum()
    }

    #[test]
    fn what_is_kept_stays_small_and_what_is_used_stays() {
        let (mut sources, sets) = (Sources::default(), IpSets::default());
        for n in 0..1000 {
            let (id, rules) = profile(n);
            sources.put(&id, rules);
        }
        let atoms = |s: &mut Sources, n| s.atoms(&profile(n).0, Family::V4, Direction::To, &sets);
        let favourite = atoms(&mut sources, 0).unwrap();
        for n in 0..3000 {
            assert_eq!(atoms(&mut sources, n % 1000).unwrap().len(), 32);
            assert!(Arc::ptr_eq(&atoms(&mut sources, 0).unwrap(), &favourite));
            sources.tidy();
            assert!(held(&sources) <= KEPT + 64, "{} after {n}", held(&sources));
        }
        // What changed is not told from what was kept.
        let (id, _) = profile(0);
        sources.put(&id, profile(1).1);
        assert!(!Arc::ptr_eq(&atoms(&mut sources, 0).unwrap(), &favourite));
    }
}
