//! Label sets, and layers of them.

use std::sync::Arc;

use crate::intern::{Interner, Symbol};

/// Something that has labels.
///
/// Layers are made of tuples and slices: the first layer that has the label decides, so an
/// endpoint's labels over those of its profiles are `(&own, profiles)`, where `profiles` is a slice
/// of label sets.
pub trait Labels {
    /// The value of a label, if it is there.
    fn get(&self, key: Symbol) -> Option<Symbol>;
}

impl<L: Labels + ?Sized> Labels for &L {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        (**self).get(key)
    }
}

impl<L: Labels + ?Sized> Labels for Arc<L> {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        (**self).get(key)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        self.as_ref().and_then(|labels| labels.get(key))
    }
}

impl<L: Labels> Labels for [L] {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        self.iter().find_map(|labels| labels.get(key))
    }
}

impl<A: Labels, B: Labels> Labels for (A, B) {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        self.0.get(key).or_else(|| self.1.get(key))
    }
}

/// A small immutable set of labels: 8 bytes for each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LabelSet(Box<[(Symbol, Symbol)]>);

impl LabelSet {
    /// Interns names and values. A name that comes twice keeps its last value.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(
        interner: &mut Interner,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let pairs = labels.into_iter();
        Self::from_symbols(
            pairs.map(|(key, value)| (interner.intern(key.as_ref()), interner.intern(value.as_ref()))),
        )
    }

    /// The same from symbols.
    pub fn from_symbols(labels: impl IntoIterator<Item = (Symbol, Symbol)>) -> Self {
        let mut pairs: Vec<(Symbol, Symbol)> = labels.into_iter().collect();
        // A stable sort leaves the last of equal names at the end of its run.
        pairs.sort_by_key(|pair| pair.0);
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
        Self(pairs.into_boxed_slice())
    }

    /// Name and value of each label, in the order of the symbols of the names.
    pub fn iter(&self) -> impl Iterator<Item = (Symbol, Symbol)> {
        self.0.iter().copied()
    }

    /// Every symbol in use, for [`Interner::retain`].
    pub fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.0.iter().flat_map(|(key, value)| [*key, *value])
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Labels for LabelSet {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        let found = self.0.binary_search_by_key(&key, |pair| pair.0).ok()?;
        Some(self.0[found].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_value_of_a_name_wins() {
        let mut interner = Interner::new();
        let set = LabelSet::new(&mut interner, [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]);
        let value = |key: &str| {
            interner
                .lookup(key)
                .and_then(|key| set.get(key))
                .map(|v| interner.resolve(v))
        };
        assert_eq!(
            (set.len(), value("a"), value("b"), value("c")),
            (2, Some("4"), Some("2"), None)
        );
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        let mut interner = Interner::new();
        let own = LabelSet::new(&mut interner, [("a", "own")]);
        let first = LabelSet::new(&mut interner, [("a", "first"), ("b", "first")]);
        let second = LabelSet::new(&mut interner, [("b", "second"), ("c", "second")]);
        let profiles = [Some(Arc::new(first)), None, Some(Arc::new(second))];
        let layers = (&own, profiles.as_slice());
        let value = |key: &str| {
            interner
                .lookup(key)
                .and_then(|key| layers.get(key))
                .map(|v| interner.resolve(v))
        };
        assert_eq!(
            (value("a"), value("b"), value("c")),
            (Some("own"), Some("first"), Some("second"))
        );
    }
}
