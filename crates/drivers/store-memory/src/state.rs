use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use caracal_api::{Kind, Resource, ResourceKey, Unreadable};
use caracal_store::WatchEvent;

use crate::faults::Faults;

/// What is under a key at some revision.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Set(Arc<Resource>),
    Malformed(Unreadable),
    Gone,
}

impl Slot {
    pub(crate) fn event(&self, key: &ResourceKey) -> WatchEvent {
        match self {
            Slot::Set(r) => WatchEvent::Set(r.clone()),
            Slot::Malformed(why) => WatchEvent::Malformed(key.clone(), why.clone()),
            Slot::Gone => WatchEvent::Gone(key.clone()),
        }
    }
}

/// Objects are ordered as keys of a real store are: by the text `namespace/name`.
pub(crate) fn path(key: &ResourceKey) -> String {
    match key.namespace() {
        Some(ns) => format!("{ns}/{}", key.name),
        None => key.name.to_string(),
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: ResourceKey,
    /// Ascending revisions; never empty.
    versions: VecDeque<(u64, Slot)>,
}

impl Entry {
    pub(crate) fn at(&self, rev: u64) -> &Slot {
        self.versions
            .iter()
            .rev()
            .find(|(r, _)| *r <= rev)
            .map_or(&Slot::Gone, |(_, s)| s)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: BTreeMap<String, Entry>,
    log: VecDeque<(u64, ResourceKey, Slot)>,
    /// Events up to here are forgotten.
    pub(crate) compacted: u64,
    /// Watches of the kind deliver nothing for now.
    pub(crate) held: bool,
}

impl Table {
    pub(crate) fn put(&mut self, rev: u64, key: &ResourceKey, slot: Slot, history: usize) {
        self.log.push_back((rev, key.clone(), slot.clone()));
        self.entries
            .entry(path(key))
            .or_insert_with(|| Entry {
                key: key.clone(),
                versions: VecDeque::new(),
            })
            .versions
            .push_back((rev, slot));
        while self.log.len() > history {
            if let Some((rev, key, _)) = self.log.pop_front() {
                self.compacted = rev;
                self.trim(&path(&key), rev);
            }
        }
    }

    pub(crate) fn compact(&mut self, rev: u64) {
        self.compacted = self.compacted.max(rev);
        while let Some((r, key, _)) = self.log.front()
            && *r <= rev
        {
            let path = path(key);
            self.log.pop_front();
            self.trim(&path, rev);
        }
    }

    /// Forgets versions that no reader at `rev` or later can see.
    fn trim(&mut self, path: &str, rev: u64) {
        let Some(entry) = self.entries.get_mut(path) else {
            return;
        };
        while entry.versions.get(1).is_some_and(|(r, _)| *r <= rev) {
            entry.versions.pop_front();
        }
        if let [(r, Slot::Gone)] = entry.versions.make_contiguous()
            && *r <= rev
        {
            self.entries.remove(path);
        }
    }

    pub(crate) fn current(&self, key: &ResourceKey) -> &Slot {
        self.entries
            .get(&path(key))
            .map_or(&Slot::Gone, |e| e.at(u64::MAX))
    }

    /// The events after `rev`.
    pub(crate) fn since(&self, rev: u64) -> impl Iterator<Item = &(u64, ResourceKey, Slot)> {
        let from = self.log.partition_point(|(r, ..)| *r <= rev);
        self.log.iter().skip(from)
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rev: u64,
    pub(crate) tables: BTreeMap<Kind, Table>,
    pub(crate) faults: Faults,
    /// Goes up when open watches must end; with why.
    pub(crate) broken: u64,
    pub(crate) broken_because: BreakWatch,
    /// Goes up when every open watch is to say where it is.
    pub(crate) bookmarks: u64,
}

/// How an open watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakWatch {
    /// The connection is lost.
    Lost,
    /// Too old.
    Expired,
    /// The stream just ends.
    Ended,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            rev: 1,
            tables: BTreeMap::new(),
            faults: Faults::default(),
            broken: 0,
            broken_because: BreakWatch::Lost,
            bookmarks: 0,
        }
    }

    pub(crate) fn table(&mut self, kind: Kind) -> &mut Table {
        self.tables.entry(kind).or_default()
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::{Object, TierSpec};

    use super::*;

    fn put(t: &mut Table, rev: u64, name: &str, there: bool) {
        let key = ResourceKey::global(Kind::Tier, name);
        let slot = if there {
            Slot::Set(Arc::new(Object::new(name, TierSpec::default()).into()))
        } else {
            Slot::Gone
        };
        t.put(rev, &key, slot, 3);
    }

    #[test]
    fn history_is_bounded_and_old_versions_go() {
        let mut t = Table::default();
        put(&mut t, 2, "a", true);
        put(&mut t, 3, "a", false);
        put(&mut t, 4, "b", true);
        assert!(matches!(t.entries["a"].at(2), Slot::Set(_)));
        put(&mut t, 5, "b", true);
        assert_eq!((t.compacted, t.since(0).count()), (2, 3));
        put(&mut t, 6, "b", true);
        assert!(!t.entries.contains_key("a"));
        assert_eq!(t.since(5).count(), 1);
        t.compact(6);
        assert_eq!((t.since(0).count(), t.entries["b"].versions.len()), (0, 1));
    }
}
