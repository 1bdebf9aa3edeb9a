//! Strings as small integers.

use std::hash::BuildHasher;

use hashbrown::HashTable;

/// A string of an [`Interner`]. Label names and label values share one space of symbols.
///
/// The order of symbols is that of first sight, not of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(u32);

impl Symbol {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Holds every label name and value once and gives each a [`Symbol`].
///
/// Pods come and go with labels of their own, so a long-lived owner calls [`retain`](Self::retain)
/// when [`len`](Self::len) has grown well beyond what its labels need.
#[derive(Default)]
pub struct Interner {
    strings: Vec<Slot>,
    symbols: HashTable<Symbol>,
    free: Vec<Symbol>,
    hasher: foldhash::fast::RandomState,
}

type Slot = Option<Box<str>>;

impl Interner {
    /// An empty interner.
    pub fn new() -> Self {
        Self::default()
    }

    /// The symbol of `text`, made if it is new.
    ///
    /// # Panics
    /// With more than 2³² different strings at once, which no memory holds.
    pub fn intern(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.lookup(text) {
            return symbol;
        }
        let symbol = match self.free.pop() {
            Some(symbol) => {
                self.strings[symbol.index()] = Some(text.into());
                symbol
            }
            None => {
                let next = u32::try_from(self.strings.len())
                    .expect("fewer than 2^32 distinct strings fit in memory");
                self.strings.push(Some(text.into()));
                Symbol(next)
            }
        };
        let (hasher, strings) = (&self.hasher, &self.strings);
        self.symbols.insert_unique(hasher.hash_one(text), symbol, |held| {
            hasher.hash_one(resolve(strings, *held))
        });
        symbol
    }

    /// The symbol of `text`, if it has been seen.
    pub fn lookup(&self, text: &str) -> Option<Symbol> {
        let hash = self.hasher.hash_one(text);
        self.symbols
            .find(hash, |held| resolve(&self.strings, *held) == text)
            .copied()
    }

    /// The string of a symbol; empty for a symbol of another interner or one that was let go.
    pub fn resolve(&self, symbol: Symbol) -> &str {
        resolve(&self.strings, symbol)
    }

    /// How many strings are held.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether no string is held.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Lets go of every string whose symbol is not among `live`; its symbol will be given to another
    /// string. `live` must name the symbols of every label set ([`LabelSet::symbols`](crate::LabelSet::symbols))
    /// and compiled selector ([`Compiled::symbols`](crate::Compiled::symbols)) still in use.
    pub fn retain(&mut self, live: impl IntoIterator<Item = Symbol>) {
        let mut keep = vec![false; self.strings.len()];
        for symbol in live {
            if let Some(mark) = keep.get_mut(symbol.index()) {
                *mark = true;
            }
        }
        self.symbols.retain(|symbol| keep[symbol.index()]);
        for (index, slot) in self.strings.iter_mut().enumerate() {
            if !keep[index] && slot.take().is_some() {
                self.free.push(Symbol(
                    u32::try_from(index).expect("every slot was numbered with a u32"),
                ));
            }
        }
        let (hasher, strings) = (&self.hasher, &self.strings);
        self.symbols
            .shrink_to_fit(|held| hasher.hash_one(resolve(strings, *held)));
    }
}

fn resolve(strings: &[Slot], symbol: Symbol) -> &str {
    strings
        .get(symbol.index())
        .and_then(Option::as_deref)
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_same_symbol() {
        let mut interner = Interner::new();
        let symbols: Vec<Symbol> = (0..1000).map(|n| interner.intern(&format!("s{n}"))).collect();
        assert_eq!(interner.len(), 1000);
        for (n, symbol) in symbols.iter().enumerate() {
            let text = format!("s{n}");
            assert_eq!(interner.resolve(*symbol), text);
            assert_eq!(interner.intern(&text), *symbol);
            assert_eq!(interner.lookup(&text), Some(*symbol));
        }
        assert_eq!(interner.lookup("other"), None);
        assert_eq!(interner.len(), 1000);
    }

    #[test]
    fn retain_frees_and_reuses() {
        let mut interner = Interner::new();
        let symbols: Vec<Symbol> = (0..100).map(|n| interner.intern(&format!("s{n}"))).collect();
        interner.retain(symbols.iter().copied().filter(|s| s.index() % 2 == 0));
        interner.retain(symbols.iter().copied().filter(|s| s.index() % 2 == 0));
        assert_eq!(interner.len(), 50);
        assert_eq!(interner.lookup("s1"), None);
        assert_eq!(interner.resolve(symbols[1]), "");
        assert_eq!(interner.lookup("s2"), Some(symbols[2]));
        for n in 0..50 {
            assert!(
                interner.intern(&format!("new{n}")).index() < 100,
                "slots are used again"
            );
        }
        assert_eq!(interner.len(), 100);
        assert_eq!(interner.intern("one more").index(), 100);
        assert_eq!(interner.lookup("new7").map(|s| interner.resolve(s)), Some("new7"));
    }
}
