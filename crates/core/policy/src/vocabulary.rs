//! Words and the labels that profiles hand down: what both indexes look things up in.

use caracal_selector::{Interner, LabelSet, Labels, Symbol};

use crate::store::Map;

/// Every label name and value as a symbol, and the labels of each profile that has some.
#[derive(Default)]
pub(crate) struct Vocabulary {
    pub(crate) interner: Interner,
    inherited: Map<Symbol, LabelSet>,
    /// How many words there were after the last clean-up.
    kept: usize,
    /// What the last endpoint is, whatever it says: those that come one after the other often share it.
    last_forced: Option<([Box<str>; 3], LabelSet)>,
}

impl Vocabulary {
    pub(crate) fn word(&mut self, text: &str) -> Symbol {
        self.interner.intern(text)
    }

    /// What an endpoint is, whatever it says: these names have these values, as far as they have any.
    pub(crate) fn forced(&mut self, names: [&str; 3], values: [&str; 3]) -> LabelSet {
        if let Some((known, labels)) = &self.last_forced
            && known.iter().zip(values).all(|(a, b)| **a == *b)
        {
            return labels.clone();
        }
        let there = names
            .into_iter()
            .zip(values)
            .filter(|(_, value)| !value.is_empty());
        let labels = LabelSet::new(&mut self.interner, there);
        self.last_forced = Some((values.map(Box::from), labels.clone()));
        labels
    }

    pub(crate) fn labels_of(&self, profile: Symbol) -> Option<&LabelSet> {
        self.inherited.get(&profile)
    }

    pub(crate) fn set_labels(&mut self, profile: Symbol, labels: LabelSet) {
        if labels.is_empty() {
            self.inherited.remove(&profile);
        } else {
            self.inherited.insert(profile, labels);
        }
    }

    /// Forced labels over own ones over those that the profiles hand down, first profile first.
    pub(crate) fn view<'a>(
        &'a self,
        forced: &'a LabelSet,
        own: &'a LabelSet,
        profiles: &'a [Symbol],
    ) -> View<'a> {
        View {
            forced,
            own,
            profiles,
            inherited: &self.inherited,
        }
    }

    /// Whether so many words have come since the last clean-up that another one is worth it.
    pub(crate) fn is_crowded(&self) -> bool {
        self.interner.len() > 2 * self.kept + 4096
    }

    /// Lets go of all words but `live` and those of the profiles' labels.
    pub(crate) fn retain(&mut self, live: Vec<Symbol>) {
        self.last_forced = None;
        let handed_down = self
            .inherited
            .iter()
            .flat_map(|(profile, labels)| std::iter::once(*profile).chain(labels.symbols()));
        self.interner.retain(live.into_iter().chain(handed_down));
        self.kept = self.interner.len();
    }
}

/// Labels in layers.
pub(crate) struct View<'a> {
    forced: &'a LabelSet,
    own: &'a LabelSet,
    profiles: &'a [Symbol],
    inherited: &'a Map<Symbol, LabelSet>,
}

impl View<'_> {
    /// Every label with the value that counts.
    pub(crate) fn flatten(&self) -> LabelSet {
        let handed_down = self.profiles.iter().rev().filter_map(|p| self.inherited.get(p));
        // The last value of a name wins, so the weakest layer comes first.
        let layers = handed_down.chain([self.own, self.forced]);
        LabelSet::from_symbols(layers.flat_map(LabelSet::iter))
    }
}

impl Labels for View<'_> {
    fn get(&self, key: Symbol) -> Option<Symbol> {
        let here = self.forced.get(key).or_else(|| self.own.get(key));
        here.or_else(|| self.profiles.iter().find_map(|p| self.inherited.get(p)?.get(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forced_follows_the_values_and_outlives_no_clean_up() {
        let mut voc = Vocabulary::default();
        let names = ["a", "b", "c"];
        for values in [
            ["1", "2", "3"],
            ["1", "2", "3"],
            ["1", "", "3"],
            ["", "", ""],
            ["1", "2", "3"],
        ] {
            let there = names
                .into_iter()
                .zip(values)
                .filter(|(_, value)| !value.is_empty());
            let want = LabelSet::new(&mut voc.interner, there);
            assert_eq!(voc.forced(names, values), want, "{values:?}");
        }
        voc.retain(Vec::new());
        // Other words have the symbols now.
        for n in 0..9 {
            voc.word(&n.to_string().repeat(3));
        }
        let again = voc.forced(names, ["1", "2", "3"]);
        let words = again.symbols().map(|s| voc.interner.resolve(s).to_owned());
        let mut words: Vec<_> = words.collect();
        words.sort();
        assert_eq!(words, ["1", "2", "3", "a", "b", "c"]);
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        let mut voc = Vocabulary::default();
        let (p, q, missing) = (voc.word("p"), voc.word("q"), voc.word("missing"));
        let first = LabelSet::new(&mut voc.interner, [("a", "p"), ("b", "p")]);
        let second = LabelSet::new(&mut voc.interner, [("b", "q"), ("c", "q")]);
        voc.set_labels(p, first);
        voc.set_labels(q, second);
        let own = LabelSet::new(&mut voc.interner, [("a", "own"), ("d", "own")]);
        let forced = LabelSet::new(&mut voc.interner, [("d", "forced")]);
        let parents = [missing, p, q];
        let view = voc.view(&forced, &own, &parents);
        let flat = view.flatten();
        for (name, value) in [("a", "own"), ("b", "p"), ("c", "q"), ("d", "forced")] {
            let key = voc.interner.lookup(name).unwrap();
            let value = voc.interner.lookup(value);
            assert_eq!((view.get(key), flat.get(key)), (value, value), "{name}");
        }
        assert_eq!(flat.len(), 4);
    }
}
