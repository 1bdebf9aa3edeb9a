//! The changes, as the witness saw them, and what they make of an empty store.

use std::collections::BTreeMap;

use crate::record::{Event, Span, Version};

/// All changes in order, and every key's versions.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// `revisions[n]` is revision n + 2: an empty store is at 1.
    revisions: Vec<Vec<Event>>,
    keys: BTreeMap<String, Vec<(i64, Option<Version>)>>,
}

/// The revision of an empty store.
pub(crate) const EMPTY: i64 = 1;

impl Log {
    /// The last revision.
    pub fn last(&self) -> i64 {
        EMPTY + i64::try_from(self.revisions.len()).unwrap_or(i64::MAX - EMPTY)
    }

    /// Adds the next revision.
    pub(crate) fn push(&mut self, events: Vec<Event>) {
        for event in &events {
            let versions = self.keys.entry(event.key.clone()).or_default();
            versions.push((event.revision, event.put.clone()));
        }
        self.revisions.push(events);
    }

    /// What a revision changed; nothing for one that never was.
    pub fn changes(&self, revision: i64) -> &[Event] {
        let place = usize::try_from(revision - EMPTY - 1).ok();
        place
            .and_then(|n| self.revisions.get(n))
            .map_or(&[], Vec::as_slice)
    }

    /// All revisions with their changes.
    pub(crate) fn all(&self) -> impl Iterator<Item = (i64, &[Event])> {
        (EMPTY + 1..).zip(self.revisions.iter().map(Vec::as_slice))
    }

    /// A key's version at a revision.
    pub fn get(&self, key: &str, at: i64) -> Option<&Version> {
        version_at(self.keys.get(key)?, at)
    }

    /// The keys of a span at a revision.
    pub fn range(&self, span: &Span, at: i64) -> Vec<(String, Version)> {
        let known: Box<dyn Iterator<Item = (&String, &Vec<_>)>> = match &span.to {
            None => Box::new(self.keys.get_key_value(&span.from).into_iter()),
            Some(to) if *to <= span.from => return Vec::new(),
            Some(to) => Box::new(self.keys.range(span.from.clone()..to.clone())),
        };
        known
            .filter_map(|(key, versions)| Some((key.clone(), version_at(versions, at)?.clone())))
            .collect()
    }

    /// The keys that hang on a lease at a revision.
    pub(crate) fn of_lease(&self, lease: i64, at: i64) -> Vec<&String> {
        self.keys
            .iter()
            .filter(|(_, versions)| version_at(versions, at).is_some_and(|v| v.lease == lease))
            .map(|(key, _)| key)
            .collect()
    }
}

fn version_at(versions: &[(i64, Option<Version>)], at: i64) -> Option<&Version> {
    let later = versions.partition_point(|(revision, _)| *revision <= at);
    versions.get(later.checked_sub(1)?)?.1.as_ref()
}
