use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    key::{Element, Elements, Key, KeyType},
    name::{ChainName, CounterName, SetName},
    rule::Rule,
};

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// Filter packets.
    Filter,
    /// Translate addresses; sees the first packet of a connection only.
    Nat,
    /// Filter, and route again a packet whose mark was changed (output hook only).
    Route,
}

/// Where on a packet's way a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// Behind the routing decision, on the way out.
    Postrouting,
}

/// What happens to a packet at the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
}

/// How a chain is entered from the packet path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseChain {
    /// What it may do.
    pub kind: ChainKind,
    /// Where it stands.
    pub hook: Hook,
    /// Its place among all base chains of the hook; lower is earlier (raw -300, mangle -150, dstnat -100, filter 0, srcnat 100).
    pub priority: i32,
    /// The verdict at its end.
    pub policy: Policy,
}

/// A chain and its whole content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Set for a base chain; absent for one that is only jumped to.
    pub base: Option<BaseChain>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that is jumped to.
    pub fn regular(rules: impl Into<Vec<Rule>>) -> Self {
        Self {
            base: None,
            rules: rules.into(),
        }
    }

    /// A chain that packets enter by a hook.
    pub fn base(base: BaseChain, rules: impl Into<Vec<Rule>>) -> Self {
        Self {
            base: Some(base),
            rules: rules.into(),
        }
    }
}

/// What a map gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// Verdicts.
    Verdict,
    /// Values of these fields.
    Value(Vec<KeyType>),
    /// Counters.
    Counter,
}

/// What a set or map is, without its elements. A change of it makes a new set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetDef {
    /// The fields of its key, at most five.
    pub key: Vec<KeyType>,
    /// What it gives; absent for a plain set.
    pub data: Option<DataType>,
    /// Whether elements may be ranges and prefixes.
    pub interval: bool,
    /// A firm upper bound of its elements, which lets the kernel choose a faster kind; more elements are refused.
    pub size: Option<u32>,
    /// Whether each element counts its packets and bytes.
    pub counters: bool,
    /// What it is for, as read in a listing.
    pub comment: String,
    /// What is in it, which a listing tells in the place of the comment. Sets that differ in nothing else are one.
    pub about: String,
}

impl SetDef {
    /// A plain set of single values.
    pub fn new(key: impl Into<Vec<KeyType>>) -> Self {
        Self {
            key: key.into(),
            data: None,
            interval: false,
            size: None,
            counters: false,
            comment: String::new(),
            about: String::new(),
        }
    }

    /// A map from single values to verdicts.
    pub fn verdict_map(key: impl Into<Vec<KeyType>>) -> Self {
        Self {
            data: Some(DataType::Verdict),
            ..Self::new(key)
        }
    }

    /// A map from single values to counters.
    pub fn counter_map(key: impl Into<Vec<KeyType>>) -> Self {
        Self {
            data: Some(DataType::Counter),
            ..Self::new(key)
        }
    }

    /// The same with ranges and prefixes as elements.
    #[must_use]
    pub fn intervals(self) -> Self {
        Self {
            interval: true,
            ..self
        }
    }

    /// The same with a counter per element.
    #[must_use]
    pub fn counted(self) -> Self {
        Self {
            counters: true,
            ..self
        }
    }

    /// The same with a word about what is in it.
    #[must_use]
    pub fn about(self, about: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            ..self
        }
    }

    /// What a listing tells of it.
    #[must_use]
    pub fn told(&self) -> &str {
        match self.about.as_str() {
            "" => &self.comment,
            about => about,
        }
    }

    /// The same with a comment.
    #[must_use]
    pub fn commented(self, comment: impl Into<String>) -> Self {
        Self {
            comment: comment.into(),
            ..self
        }
    }
}

/// A set or map with its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is.
    pub def: SetDef,
    /// What is in it.
    pub elements: Elements,
}

impl Set {
    /// An empty set.
    #[must_use]
    pub fn empty(def: SetDef) -> Self {
        Self {
            def,
            elements: Elements::new(),
        }
    }
}

/// The whole content of our table of one address family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableState {
    /// Chains by name.
    pub chains: BTreeMap<ChainName, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<SetName, Set>,
    /// Counters that rules and maps name.
    pub counters: BTreeSet<CounterName>,
}

/// A change of one table. The deltas of one change may come in any order of names, but those of one name in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableDelta {
    /// The chain exists and holds exactly this.
    PutChain(ChainName, Chain),
    /// The chain is gone; nothing happens if it never was.
    RemoveChain(ChainName),
    /// The set exists. Elements stay if the definition is the same, else it is empty.
    PutSet(SetName, SetDef),
    /// The set is gone; nothing happens if it never was.
    RemoveSet(SetName),
    /// These elements are in the set, replacing those of the same key.
    AddElements(SetName, Vec<(Key, Element)>),
    /// Elements of these keys are not in the set.
    DeleteElements(SetName, Vec<Key>),
    /// The set holds exactly these elements.
    ReplaceElements(SetName, Vec<(Key, Element)>),
    /// The counter exists; it goes on from where it is.
    PutCounter(CounterName),
    /// The counter is gone; nothing happens if it never was.
    RemoveCounter(CounterName),
}

/// A delta that does not fit the state it came for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDelta {
    /// The set whose elements were to change.
    pub set: SetName,
}

impl fmt::Display for BadDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "elements of set {:?} were to change, but there is no such set",
            self.set
        )
    }
}

impl std::error::Error for BadDelta {}

impl TableState {
    /// Makes one change.
    ///
    /// # Errors
    /// When elements come for a set that does not exist; the state is then as before.
    pub fn apply(&mut self, delta: TableDelta) -> Result<(), BadDelta> {
        match delta {
            TableDelta::PutChain(name, chain) => {
                self.chains.insert(name, chain);
            }
            TableDelta::RemoveChain(name) => {
                self.chains.remove(&name);
            }
            TableDelta::PutSet(name, def) => match self.sets.get_mut(&name) {
                Some(set) if set.def == def => {}
                _ => {
                    self.sets.insert(name, Set::empty(def));
                }
            },
            TableDelta::RemoveSet(name) => {
                self.sets.remove(&name);
            }
            TableDelta::AddElements(name, elements) => self.elements_mut(&name)?.extend(elements),
            TableDelta::DeleteElements(name, keys) => {
                let elements = self.elements_mut(&name)?;
                keys.iter().for_each(|key| {
                    elements.remove(key);
                });
            }
            TableDelta::ReplaceElements(name, elements) => {
                *self.elements_mut(&name)? = elements.into_iter().collect();
            }
            TableDelta::PutCounter(name) => {
                self.counters.insert(name);
            }
            TableDelta::RemoveCounter(name) => {
                self.counters.remove(&name);
            }
        }
        Ok(())
    }

    /// The same for many changes, up to the first that does not fit.
    ///
    /// # Errors
    /// As [`TableState::apply`].
    pub fn apply_all(&mut self, deltas: impl IntoIterator<Item = TableDelta>) -> Result<(), BadDelta> {
        deltas.into_iter().try_for_each(|d| self.apply(d))
    }

    fn elements_mut(&mut self, name: &SetName) -> Result<&mut Elements, BadDelta> {
        match self.sets.get_mut(name) {
            Some(set) => Ok(&mut set.elements),
            None => Err(BadDelta { set: name.clone() }),
        }
    }

    /// The deltas that turn an empty table into this one, in an order that [`TableState::apply_all`] takes.
    pub fn as_deltas(&self) -> impl Iterator<Item = TableDelta> + '_ {
        let sets = self.sets.iter().flat_map(|(name, set)| {
            let elements = set.elements.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
            [
                TableDelta::PutSet(name.clone(), set.def.clone()),
                TableDelta::ReplaceElements(name.clone(), elements),
            ]
        });
        let chains = self
            .chains
            .iter()
            .map(|(name, chain)| TableDelta::PutChain(name.clone(), chain.clone()));
        let counters = self.counters.iter().cloned().map(TableDelta::PutCounter);
        counters.chain(sets).chain(chains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Span, Statement};

    fn port(n: u16) -> Key {
        Span::Port(n, n).into()
    }

    fn state() -> TableState {
        let mut state = TableState::default();
        let put = [
            TableDelta::PutSet("ports".into(), SetDef::new([KeyType::Port])),
            TableDelta::AddElements(
                "ports".into(),
                vec![(port(1), Element::plain()), (port(2), Element::plain())],
            ),
            TableDelta::PutChain("c".into(), Chain::regular([Rule::new([], [Statement::DROP], "")])),
        ];
        state.apply_all(put).expect("the set comes first");
        state
    }

    #[test]
    fn the_deltas_of_a_state_make_it() {
        let mut copy = TableState::default();
        copy.apply_all(state().as_deltas()).expect("in order");
        assert_eq!(copy, state());
    }

    #[test]
    fn a_set_keeps_its_elements_unless_it_becomes_another() {
        let mut same = state();
        same.apply(TableDelta::PutSet("ports".into(), SetDef::new([KeyType::Port])))
            .expect("a set");
        assert_eq!(same, state());
        let other = SetDef::new([KeyType::Port]).counted();
        same.apply(TableDelta::PutSet("ports".into(), other.clone()))
            .expect("a set");
        assert_eq!(same.sets["ports"], Set::empty(other));
    }

    #[test]
    fn elements_of_no_set_are_refused() {
        let mut s = state();
        let error = s
            .apply(TableDelta::DeleteElements("none".into(), vec![port(1)]))
            .expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "elements of set \"none\" were to change, but there is no such set"
        );
        assert_eq!(s, state());
    }

    #[test]
    fn replacing_elements_leaves_exactly_those() {
        let mut s = state();
        s.apply(TableDelta::ReplaceElements(
            "ports".into(),
            vec![(port(3), Element::plain())],
        ))
        .expect("a set");
        assert_eq!(s.sets["ports"].elements.keys().collect::<Vec<_>>(), [&port(3)]);
        s.apply(TableDelta::RemoveSet("ports".into())).expect("a set");
        s.apply(TableDelta::RemoveChain("c".into())).expect("a chain");
        assert_eq!(s, TableState::default());
    }
}
