//! Hash maps that are fast and the same on every run.

/// A hash map.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
