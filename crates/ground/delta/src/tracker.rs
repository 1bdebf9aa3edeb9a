//! Keys with values.

use std::collections::{BTreeMap, BTreeSet};

/// Decides whether what was observed is as good as what is desired.
///
/// Implemented by every function `fn(&D, &O) -> bool`. It must depend on its arguments only, and a
/// value must be as good as itself.
pub trait Same<D, O> {
    /// Whether nothing need be written where `desired` is wanted and `observed` is found.
    fn same(&self, desired: &D, observed: &O) -> bool;
}

impl<D, O, F: Fn(&D, &O) -> bool> Same<D, O> for F {
    fn same(&self, desired: &D, observed: &O) -> bool {
        self(desired, observed)
    }
}

/// A key to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a, K, D, O = D> {
    /// What is to be written.
    pub key: &'a K,
    /// The value to write.
    pub desired: &'a D,
    /// What is there now; nothing if the key is to be created.
    pub observed: Option<&'a O>,
}

/// Desired and observed values by key, and the difference.
///
/// `D` is the type of a desired value, `O` of an observed one, `S` says when they agree. By default
/// both are the same type and must be equal.
#[derive(Debug, Clone)]
pub struct Tracker<K, D, O = D, S = fn(&D, &O) -> bool> {
    desired: BTreeMap<K, D>,
    observed: BTreeMap<K, O>,
    /// Desired, and not observed as such.
    updates: BTreeSet<K>,
    /// Observed, and not desired.
    deletes: BTreeSet<K>,
    same: S,
}

impl<K: Ord + Clone, V: PartialEq> Tracker<K, V> {
    /// An empty tracker: nothing is desired, nothing is there.
    pub fn new() -> Self {
        Self::with_same(V::eq)
    }
}

impl<K: Ord + Clone, V: PartialEq> Default for Tracker<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, D, O, S: Same<D, O>> Tracker<K, D, O, S> {
    /// An empty tracker with its own idea of when observed and desired values agree.
    pub fn with_same(same: S) -> Self {
        Self {
            desired: BTreeMap::new(),
            observed: BTreeMap::new(),
            updates: BTreeSet::new(),
            deletes: BTreeSet::new(),
            same,
        }
    }

    /// Files `key` under what is to be done about it.
    fn refile(&mut self, key: &K) {
        let (update, delete) = match (self.desired.get(key), self.observed.get(key)) {
            (Some(desired), Some(observed)) => (!self.same.same(desired, observed), false),
            (desired, observed) => (desired.is_some(), observed.is_some()),
        };
        file(&mut self.updates, key, update);
        file(&mut self.deletes, key, delete);
    }

    fn refile_all(&mut self) {
        self.updates.clear();
        self.deletes.clear();
        for (key, desired) in &self.desired {
            if !self
                .observed
                .get(key)
                .is_some_and(|observed| self.same.same(desired, observed))
            {
                self.updates.insert(key.clone());
            }
        }
        self.deletes.extend(
            self.observed
                .keys()
                .filter(|key| !self.desired.contains_key(key))
                .cloned(),
        );
    }

    /// Wants `value` at `key`; returns what was wanted there.
    pub fn set_desired(&mut self, key: K, value: D) -> Option<D> {
        let before = self.desired.insert(key.clone(), value);
        self.refile(&key);
        before
    }

    /// Wants nothing at `key`; returns what was wanted there.
    pub fn remove_desired(&mut self, key: &K) -> Option<D> {
        let before = self.desired.remove(key);
        self.refile(key);
        before
    }

    /// Wants nothing anywhere: all that is there is to be deleted.
    pub fn clear_desired(&mut self) {
        self.desired.clear();
        self.refile_all();
    }

    /// Wants exactly these; costs the whole state.
    pub fn replace_desired(&mut self, all: impl IntoIterator<Item = (K, D)>) {
        self.desired = all.into_iter().collect();
        self.refile_all();
    }

    /// Takes a full read-back for what is there; costs the whole state.
    pub fn replace_observed(&mut self, all: impl IntoIterator<Item = (K, O)>) {
        self.observed = all.into_iter().collect();
        self.refile_all();
    }

    /// `value` was seen at `key`; returns what was believed to be there.
    pub fn observe(&mut self, key: K, value: O) -> Option<O> {
        let before = self.observed.insert(key.clone(), value);
        self.refile(&key);
        before
    }

    /// `key` was seen to be gone; returns what was believed to be there.
    pub fn forget(&mut self, key: &K) -> Option<O> {
        let before = self.observed.remove(key);
        self.refile(key);
        before
    }

    /// Forgets all that was seen, as after a flush; costs the whole state.
    pub fn clear_observed(&mut self) {
        self.observed.clear();
        self.refile_all();
    }

    /// What is wanted at `key`.
    pub fn desired(&self, key: &K) -> Option<&D> {
        self.desired.get(key)
    }

    /// What is there at `key`.
    pub fn observed(&self, key: &K) -> Option<&O> {
        self.observed.get(key)
    }

    /// All that is wanted, in the order of the keys.
    pub fn all_desired(&self) -> impl Iterator<Item = (&K, &D)> {
        self.desired.iter()
    }

    /// All that is there, in the order of the keys.
    pub fn all_observed(&self) -> impl Iterator<Item = (&K, &O)> {
        self.observed.iter()
    }

    /// How many keys are wanted.
    pub fn desired_len(&self) -> usize {
        self.desired.len()
    }

    /// How many keys are there.
    pub fn observed_len(&self) -> usize {
        self.observed.len()
    }

    /// What is to be written, in the order of the keys.
    pub fn pending_updates(&self) -> impl Iterator<Item = Update<'_, K, D, O>> {
        self.updates.iter().filter_map(|key| {
            let desired = self.desired.get(key)?;
            Some(Update {
                key,
                desired,
                observed: self.observed.get(key),
            })
        })
    }

    /// What is to be deleted and what is there now, in the order of the keys.
    pub fn pending_deletes(&self) -> impl Iterator<Item = (&K, &O)> {
        self.deletes
            .iter()
            .filter_map(|key| self.observed.get_key_value(key))
    }

    /// How many keys are to be written.
    pub fn updates_len(&self) -> usize {
        self.updates.len()
    }

    /// How many keys are to be deleted.
    pub fn deletes_len(&self) -> usize {
        self.deletes.len()
    }

    /// Whether all that is there is as desired and nothing else.
    pub fn in_sync(&self) -> bool {
        self.updates.is_empty() && self.deletes.is_empty()
    }

    /// Whether `key` is to be written.
    pub fn is_pending_update(&self, key: &K) -> bool {
        self.updates.contains(key)
    }

    /// Whether `key` is to be deleted.
    pub fn is_pending_delete(&self, key: &K) -> bool {
        self.deletes.contains(key)
    }
}

impl<K: Ord + Clone, V: Clone, S: Same<V, V>> Tracker<K, V, V, S> {
    /// What was pending for `key` was done: what is desired now is there now. Returns whether
    /// anything was pending.
    ///
    /// For a write that may be overtaken by a newer wish before it completes, keep the value written
    /// and call [`observe`](Self::observe) with it instead.
    pub fn applied(&mut self, key: &K) -> bool {
        if self.updates.remove(key) {
            if let Some(value) = self.desired.get(key) {
                self.observed.insert(key.clone(), value.clone());
            }
            return true;
        }
        let deleted = self.deletes.remove(key);
        if deleted {
            self.observed.remove(key);
        }
        deleted
    }

    /// All that was pending was done, as by a transaction; costs what was pending.
    pub fn applied_all(&mut self) {
        for key in std::mem::take(&mut self.updates) {
            if let Some(value) = self.desired.get(&key) {
                let value = value.clone();
                self.observed.insert(key, value);
            }
        }
        for key in std::mem::take(&mut self.deletes) {
            self.observed.remove(&key);
        }
    }
}

/// Has `key` in the set or not.
fn file<K: Ord + Clone>(set: &mut BTreeSet<K>, key: &K, wanted: bool) {
    if !wanted {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
}
