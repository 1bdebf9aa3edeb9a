use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_update::Update;

use crate::Source;

/// The revision of an object that cannot be read. No store counts from 0.
const UNREADABLE: u64 = 0;

#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    /// The listing that saw it last.
    round: u32,
}

/// What was passed on of one kind: which objects, in which revision.
#[derive(Debug, Default)]
pub(crate) struct Known {
    objects: HashMap<Box<str>, Seen, foldhash::fast::RandomState>,
    round: u32,
}

impl Known {
    /// A listing begins: what it does not see is gone at its end.
    pub(crate) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// The object is this now; what is to be passed on, if anything.
    pub(crate) fn set(&mut self, source: &Source, resource: Arc<Resource>) -> Option<Update> {
        let key = resource.key();
        if !source.keeps(&resource) {
            return self.gone(&key);
        }
        let now = Seen {
            revision: revision(&resource),
            round: self.round,
        };
        let before = self.objects.insert(path(&key), now);
        (before.is_none_or(|b| b.revision != now.revision)).then_some(Update {
            key,
            value: Some(resource),
        })
    }

    /// The object is gone; what is to be passed on, if it was known.
    pub(crate) fn gone(&mut self, key: &ResourceKey) -> Option<Update> {
        self.objects.remove(&path(key))?;
        Some(Update::gone(key.clone()))
    }

    /// The object cannot be read: it is gone, but its place is kept to notice when it goes away or is repaired.
    pub(crate) fn unreadable(&mut self, key: &ResourceKey) -> Option<Update> {
        let now = Seen {
            revision: UNREADABLE,
            round: self.round,
        };
        let before = self.objects.insert(path(key), now)?;
        (before.revision != UNREADABLE).then(|| Update::gone(key.clone()))
    }

    /// The listing is complete: what it did not see is gone.
    pub(crate) fn end(&mut self, kind: Kind) -> Vec<Update> {
        let round = self.round;
        let lost = self.objects.extract_if(|_, seen| seen.round != round);
        lost.map(|(path, _)| Update::gone(key(kind, &path))).collect()
    }
}

/// One allocation instead of two; a name holds no `/`.
fn path(key: &ResourceKey) -> Box<str> {
    match key.namespace() {
        Some(ns) => [ns, "/", &key.name].concat().into(),
        None => key.name.as_ref().into(),
    }
}

fn key(kind: Kind, path: &str) -> ResourceKey {
    match path.split_once('/') {
        Some((ns, name)) => ResourceKey::namespaced(kind, ns, name),
        None => ResourceKey::global(kind, path),
    }
}

/// A revision as a number: itself where it is one, else its hash.
fn revision(resource: &Resource) -> u64 {
    let text = resource
        .metadata()
        .resource_version
        .as_deref()
        .unwrap_or_default();
    let number = text.parse().unwrap_or_else(|_| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    });
    number.max(UNREADABLE + 1)
}

#[cfg(test)]
mod tests {
    use caracal_api::{NetworkSetSpec, Object};

    use super::*;

    fn object(name: &str, revision: &str) -> Arc<Resource> {
        let mut r = Resource::from(Object::namespaced("n", name, NetworkSetSpec::default()));
        r.metadata_mut().resource_version = Some(revision.into());
        Arc::new(r)
    }

    #[test]
    fn a_new_listing_yields_the_difference() {
        let all = Source::all(Kind::NetworkSet);
        let mut known = Known::default();
        known.begin();
        for name in ["a", "b", "c"] {
            assert!(known.set(&all, object(name, "1")).is_some());
        }
        assert_eq!(known.end(Kind::NetworkSet), []);
        known.begin();
        assert!(known.set(&all, object("a", "1")).is_none());
        assert!(known.set(&all, object("b", "x2")).is_some());
        let gone = known.end(Kind::NetworkSet);
        assert_eq!(
            gone,
            [Update::gone(ResourceKey::namespaced(Kind::NetworkSet, "n", "c"))]
        );
    }

    #[test]
    fn an_unreadable_object_is_gone_once_and_its_end_is_noticed() {
        let all = Source::all(Kind::NetworkSet);
        let mut known = Known::default();
        let a = object("a", "1");
        known.set(&all, a.clone());
        assert_eq!(known.unreadable(&a.key()), Some(Update::gone(a.key())));
        assert_eq!(known.unreadable(&a.key()), None);
        assert_eq!(known.gone(&a.key()), Some(Update::gone(a.key())));
        assert_eq!(known.gone(&a.key()), None);
        known.unreadable(&a.key());
        assert!(known.set(&all, a).is_some());
    }
}
