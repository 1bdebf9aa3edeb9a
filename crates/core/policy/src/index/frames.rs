//! What many things share besides their own labels, held once.

use std::hash::{BuildHasher, Hash};

use caracal_selector::{LabelSet, Symbol};
use hashbrown::HashTable;

use crate::store::{IdSet, Map, Slab};

/// What the pods of a namespace have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Frame<X> {
    /// Labels that hide those of the same name of the thing itself.
    pub(crate) forced: LabelSet,
    /// Profiles, whose labels are inherited.
    pub(crate) profiles: Box<[Symbol]>,
    pub(crate) extra: X,
}

struct Slot<X> {
    frame: Frame<X>,
    classes: IdSet,
}

/// The frames of all classes.
pub(crate) struct Frames<X> {
    slots: Slab<Slot<X>>,
    by_frame: HashTable<u32>,
    by_profile: Map<Symbol, IdSet>,
    hasher: foldhash::fast::RandomState,
}

impl<X> Default for Frames<X> {
    fn default() -> Self {
        Self {
            slots: Slab::default(),
            by_frame: HashTable::new(),
            by_profile: Map::default(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl<X: Eq + Hash> Frames<X> {
    pub(crate) fn get(&self, frame: u32) -> &Frame<X> {
        &self.slots[frame].frame
    }

    pub(crate) fn find(&self, frame: &Frame<X>) -> Option<u32> {
        let hash = self.hasher.hash_one(frame);
        let found = self.by_frame.find(hash, |id| self.slots[*id].frame == *frame);
        found.copied()
    }

    /// The number of a frame, which lives while classes [`join`](Self::join) it.
    pub(crate) fn find_or_make(&mut self, frame: Frame<X>) -> u32 {
        if let Some(id) = self.find(&frame) {
            return id;
        }
        let hash = self.hasher.hash_one(&frame);
        let id = self.slots.insert(Slot {
            frame,
            classes: IdSet::None,
        });
        for profile in &self.slots[id].frame.profiles {
            self.by_profile.entry(*profile).or_default().insert(id);
        }
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.by_frame
            .insert_unique(hash, id, |held| hasher.hash_one(&slots[*held].frame));
        id
    }

    pub(crate) fn join(&mut self, frame: u32, class: u32) {
        self.slots[frame].classes.insert(class);
    }

    pub(crate) fn leave(&mut self, id: u32, class: u32) {
        self.slots[id].classes.remove(class);
        if !self.slots[id].classes.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(&self.slots[id].frame);
        if let Ok(entry) = self.by_frame.find_entry(hash, |held| *held == id) {
            entry.remove();
        }
        let slot = self.slots.remove(id);
        for profile in slot.iter().flat_map(|s| &s.frame.profiles) {
            if let Some(frames) = self.by_profile.get_mut(profile) {
                frames.remove(id);
                if frames.is_empty() {
                    self.by_profile.remove(profile);
                }
            }
        }
    }

    /// The classes of things with a profile.
    pub(crate) fn classes_with(&self, profile: Symbol) -> impl Iterator<Item = u32> + '_ {
        let frames = self.by_profile.get(&profile).into_iter().flat_map(IdSet::iter);
        frames.flat_map(|id| self.slots[id].classes.iter())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Frame<X>> {
        self.slots.iter().map(|(_, slot)| &slot.frame)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == 0 && self.by_frame.is_empty() && self.by_profile.is_empty()
    }
}
