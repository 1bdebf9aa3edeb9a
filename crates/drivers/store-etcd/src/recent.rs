use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use caracal_api::Resource;
use caracal_wire::{Bytes, KeyValue};

/// How many values are remembered.
const CAPACITY: usize = 64;
/// Of so many of them what they say, too.
const UNDERSTOOD: usize = 8;
/// Larger values are not: the blocks and endpoints that are written often are small.
const LARGEST: usize = 64 << 10;

/// The values last read or written, so that an update which names the revision it is based on needs no second read to
/// keep unknown fields. A value is only used for the very revision that is asked for, so it is never stale.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<Entry>>);

/// What a value says.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) resource: Arc<Resource>,
    /// Whether that is all it says: nothing would be lost if the object was written in its place.
    pub(crate) whole: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    kv: KeyValue,
    known: Option<Known>,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn put(&self, kv: &KeyValue) {
        self.keep(kv, None);
    }

    /// The value, and what it says.
    pub(crate) fn put_known(&self, kv: &KeyValue, known: Known) {
        self.keep(kv, Some(known));
    }

    fn keep(&self, kv: &KeyValue, known: Option<Known>) {
        let mut all = self.lock();
        all.retain(|old| old.kv.key != kv.key);
        if kv.value.len() > LARGEST {
            return;
        }
        if all.len() == CAPACITY {
            all.pop_front();
        }
        if known.is_some() {
            let others = all.iter_mut().rev().filter(|e| e.known.is_some());
            others.skip(UNDERSTOOD - 1).for_each(|e| e.known = None);
        }
        let kv = kv.clone();
        all.push_back(Entry { kv, known });
    }

    fn entry(&self, key: &Bytes, revision: i64) -> Option<Entry> {
        self.lock()
            .iter()
            .find(|e| e.kv.key == *key && e.kv.mod_revision == revision)
            .cloned()
    }

    pub(crate) fn get(&self, key: &Bytes, revision: i64) -> Option<KeyValue> {
        self.entry(key, revision).map(|e| e.kv)
    }

    /// What the value of that revision says, with the value.
    pub(crate) fn known(&self, key: &Bytes, revision: i64) -> Option<(KeyValue, Known)> {
        let entry = self.entry(key, revision)?;
        Some((entry.kv, entry.known?))
    }

    /// What a value says, if that was found out before.
    pub(crate) fn of(&self, kv: &KeyValue) -> Option<Arc<Resource>> {
        let (before, known) = self.known(&kv.key, kv.mod_revision)?;
        // A database that was restored counts again.
        (before.value == kv.value && before.create_revision == kv.create_revision).then_some(known.resource)
    }

    pub(crate) fn forget(&self, key: &Bytes) {
        self.lock().retain(|e| e.kv.key != *key);
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::{IpamBlockSpec, Object};

    use super::*;

    #[test]
    fn only_the_very_revision_is_found_and_the_oldest_goes() {
        let kv = |key: &str, rev| KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            mod_revision: rev,
            ..KeyValue::default()
        };
        let recent = Recent::default();
        for i in 0..=CAPACITY {
            recent.put(&kv(&format!("k{i}"), 5));
        }
        recent.put(&kv("k9", 7));
        assert!(recent.get(&kv("k0", 5).key, 5).is_none());
        assert!(recent.get(&kv("k9", 5).key, 5).is_none());
        assert!(recent.get(&kv("k9", 7).key, 7).is_some());
        assert_eq!(recent.lock().len(), CAPACITY);
        let about = |key: &str, rev| {
            let resource: Resource = Object::new(key, IpamBlockSpec::default()).into();
            let known = Known {
                resource: Arc::new(resource),
                whole: true,
            };
            recent.put_known(&kv(key, rev), known);
        };
        for i in 0..=UNDERSTOOD {
            about(&format!("k{i}"), 9);
        }
        assert!(recent.known(&kv("k0", 9).key, 9).is_none(), "only the newest");
        assert!(recent.get(&kv("k0", 9).key, 9).is_some());
        assert!(recent.known(&kv("k1", 9).key, 9).is_some());
        assert!(recent.known(&kv("k1", 9).key, 8).is_none());
        let large = KeyValue {
            value: vec![b' '; LARGEST + 1].into(),
            ..kv("k9", 8)
        };
        recent.put(&large);
        assert!(recent.get(&large.key, 8).is_none());
        recent.put(&kv("k9", 7));
        recent.forget(&kv("k9", 7).key);
        assert!(recent.get(&kv("k9", 7).key, 7).is_none());
    }
}
