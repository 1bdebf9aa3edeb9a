//! Keys alone.

use crate::tracker::Tracker;

/// Desired and observed keys, and the difference: a [`Tracker`] without values.
#[derive(Debug, Clone)]
pub struct SetTracker<K>(Tracker<K, ()>);

impl<K: Ord + Clone> SetTracker<K> {
    /// An empty tracker: nothing is desired, nothing is there.
    pub fn new() -> Self {
        Self(Tracker::new())
    }

    /// Wants `key`; returns whether that is new.
    pub fn set_desired(&mut self, key: K) -> bool {
        self.0.set_desired(key, ()).is_none()
    }

    /// Does not want `key`; returns whether it was wanted.
    pub fn remove_desired(&mut self, key: &K) -> bool {
        self.0.remove_desired(key).is_some()
    }

    /// Wants nothing: all that is there is to be deleted.
    pub fn clear_desired(&mut self) {
        self.0.clear_desired();
    }

    /// Wants exactly these; costs the whole state.
    pub fn replace_desired(&mut self, all: impl IntoIterator<Item = K>) {
        self.0.replace_desired(all.into_iter().map(|key| (key, ())));
    }

    /// Takes a full read-back for what is there; costs the whole state.
    pub fn replace_observed(&mut self, all: impl IntoIterator<Item = K>) {
        self.0.replace_observed(all.into_iter().map(|key| (key, ())));
    }

    /// `key` was seen; returns whether that is news.
    pub fn observe(&mut self, key: K) -> bool {
        self.0.observe(key, ()).is_none()
    }

    /// `key` was seen to be gone; returns whether it was believed to be there.
    pub fn forget(&mut self, key: &K) -> bool {
        self.0.forget(key).is_some()
    }

    /// Forgets all that was seen, as after a flush; costs the whole state.
    pub fn clear_observed(&mut self) {
        self.0.clear_observed();
    }

    /// Whether `key` is wanted.
    pub fn is_desired(&self, key: &K) -> bool {
        self.0.desired(key).is_some()
    }

    /// Whether `key` is there.
    pub fn is_observed(&self, key: &K) -> bool {
        self.0.observed(key).is_some()
    }

    /// All that is wanted, in order.
    pub fn all_desired(&self) -> impl Iterator<Item = &K> {
        self.0.all_desired().map(|(key, ())| key)
    }

    /// All that is there, in order.
    pub fn all_observed(&self) -> impl Iterator<Item = &K> {
        self.0.all_observed().map(|(key, ())| key)
    }

    /// How many keys are wanted.
    pub fn desired_len(&self) -> usize {
        self.0.desired_len()
    }

    /// How many keys are there.
    pub fn observed_len(&self) -> usize {
        self.0.observed_len()
    }

    /// What is to be added, in order.
    pub fn pending_updates(&self) -> impl Iterator<Item = &K> {
        self.0.pending_updates().map(|update| update.key)
    }

    /// What is to be deleted, in order.
    pub fn pending_deletes(&self) -> impl Iterator<Item = &K> {
        self.0.pending_deletes().map(|(key, ())| key)
    }

    /// How many keys are to be added.
    pub fn updates_len(&self) -> usize {
        self.0.updates_len()
    }

    /// How many keys are to be deleted.
    pub fn deletes_len(&self) -> usize {
        self.0.deletes_len()
    }

    /// Whether exactly what is wanted is there.
    pub fn in_sync(&self) -> bool {
        self.0.in_sync()
    }

    /// What was pending for `key` was done; returns whether anything was.
    pub fn applied(&mut self, key: &K) -> bool {
        self.0.applied(key)
    }

    /// All that was pending was done; costs what was pending.
    pub fn applied_all(&mut self) {
        self.0.applied_all();
    }
}

impl<K: Ord + Clone> Default for SetTracker<K> {
    fn default() -> Self {
        Self::new()
    }
}
