use std::collections::BTreeMap;

/// Keys that several may claim though only one can have them: the first by name does, whatever the
/// order in which claims come and go.
#[derive(Clone, Debug)]
pub(crate) struct Claims<K, V> {
    by_key: BTreeMap<K, BTreeMap<String, V>>,
}

impl<K: Ord + Clone, V> Claims<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
        }
    }

    /// Adds or changes a claim.
    pub(crate) fn set(&mut self, key: K, claimant: &str, value: V) {
        self.by_key
            .entry(key)
            .or_default()
            .insert(claimant.to_owned(), value);
    }

    /// Gives a claim up.
    pub(crate) fn remove(&mut self, key: &K, claimant: &str) {
        if let Some(claims) = self.by_key.get_mut(key) {
            claims.remove(claimant);
            if claims.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    /// What the winner of a key claims.
    pub(crate) fn winner(&self, key: &K) -> Option<&V> {
        self.by_key.get(key)?.values().next()
    }

    /// Keys claimed more than once, with the claimants, the winner first.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = (&K, Vec<String>)> {
        let contested = self.by_key.iter().filter(|(_, claims)| claims.len() > 1);
        contested.map(|(key, claims)| (key, claims.keys().cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_wins_whatever_the_order() {
        let mut claims = Claims::new();
        claims.set(1, "b", "of b");
        assert_eq!(claims.winner(&1), Some(&"of b"));
        claims.set(1, "a", "of a");
        assert_eq!(claims.winner(&1), Some(&"of a"));
        assert_eq!(
            claims.conflicts().collect::<Vec<_>>(),
            [(&1, vec!["a".to_owned(), "b".to_owned()])]
        );
        claims.remove(&1, "a");
        assert_eq!(claims.winner(&1), Some(&"of b"));
        assert_eq!(claims.conflicts().count(), 0);
        claims.remove(&1, "b");
        claims.remove(&1, "b");
        assert_eq!(claims.winner(&1), None);
    }
}
