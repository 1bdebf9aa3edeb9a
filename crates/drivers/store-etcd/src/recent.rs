use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use caracal_wire::{Bytes, KeyValue};

/// How many values are remembered.
const CAPACITY: usize = 64;
/// Larger values are not: the blocks and endpoints that are written often are small.
const LARGEST: usize = 64 << 10;

/// The values last read or written, so that an update which names the revision it is based on needs no second read to
/// keep unknown fields. A value is only used for the very revision that is asked for, so it is never stale.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<KeyValue>>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, VecDeque<KeyValue>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn put(&self, kv: &KeyValue) {
        let mut all = self.lock();
        all.retain(|old| old.key != kv.key);
        if kv.value.len() > LARGEST {
            return;
        }
        if all.len() == CAPACITY {
            all.pop_front();
        }
        all.push_back(kv.clone());
    }

    pub(crate) fn get(&self, key: &Bytes, revision: i64) -> Option<KeyValue> {
        self.lock()
            .iter()
            .find(|kv| kv.key == *key && kv.mod_revision == revision)
            .cloned()
    }

    pub(crate) fn forget(&self, key: &Bytes) {
        self.lock().retain(|kv| kv.key != *key);
    }
}

#[cfg(test)]
mod tests {
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
