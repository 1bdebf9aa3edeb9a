//! The containers of the engine: numbered slots and small sets of their numbers.

use std::ops::{Index, IndexMut};

/// The map of this crate: for keys that cost nothing to hash.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
/// The set of this crate.
pub(crate) type Set<K> = hashbrown::HashSet<K, foldhash::fast::RandomState>;

/// Values under small numbers, which are used again after a removal.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = Some(value);
            return at;
        }
        let at = u32::try_from(self.slots.len()).expect("fewer than 2^32 objects fit in memory");
        self.slots.push(Some(value));
        at
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let taken = self.slots.get_mut(at as usize)?.take();
        if taken.is_some() {
            self.free.push(at);
        }
        taken
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = self.slots.iter().enumerate();
        // Every number was a u32 when its slot was made.
        numbered.filter_map(|(at, slot)| Some((at as u32, slot.as_ref()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, at: u32) -> &T {
        self.get(at)
            .expect("a slot's number is held only while the slot is filled")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        let slot = self.slots.get_mut(at as usize).and_then(Option::as_mut);
        slot.expect("a slot's number is held only while the slot is filled")
    }
}

/// A set of slot numbers; most hold one or none, so these need no heap.
#[derive(Debug, Default)]
pub(crate) enum IdSet {
    #[default]
    None,
    One(u32),
    Many(Box<Set<u32>>),
}

impl IdSet {
    pub(crate) fn insert(&mut self, id: u32) {
        match self {
            Self::None => *self = Self::One(id),
            Self::One(held) if *held == id => {}
            Self::One(held) => *self = Self::Many(Box::new([*held, id].into_iter().collect())),
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: u32) {
        match self {
            Self::One(held) if *held == id => *self = Self::None,
            Self::Many(ids) => {
                ids.remove(&id);
                if ids.is_empty() {
                    *self = Self::None;
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(ids) => ids.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(id) => (Some(*id), None),
            Self::Many(ids) => (None, Some(ids.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert("a"), slab.insert("b"));
        assert_eq!((slab.remove(a), slab.remove(a), slab.len()), (Some("a"), None, 1));
        assert_eq!(slab.insert("c"), a);
        assert_eq!((slab[a], slab[b], slab.get(7)), ("c", "b", None));
        assert_eq!(slab.iter().map(|(_, v)| *v).collect::<String>(), "cb");
    }

    #[test]
    fn a_set_of_numbers_behaves_at_every_size() {
        let mut set = IdSet::default();
        for id in [5, 5, 7, 9] {
            set.insert(id);
        }
        let mut held: Vec<u32> = set.iter().collect();
        held.sort_unstable();
        assert_eq!((held, set.len()), (vec![5, 7, 9], 3));
        for id in [5, 6, 7, 9] {
            set.remove(id);
        }
        assert!(set.is_empty() && set.iter().next().is_none());
        set.insert(1);
        set.remove(2);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1]);
    }
}
