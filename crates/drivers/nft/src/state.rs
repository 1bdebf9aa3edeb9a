//! One family's table: what is wanted, what the kernel is believed to have, and where the two may differ.

use std::collections::{BTreeMap, BTreeSet};

use caracal_net::Family;
use caracal_rules::ir::{
    BadDelta, BaseChain, ChainName, CounterName, Element, IfName, Key, Set, SetName, TableDelta, TableState,
};

use crate::{
    Error, NftTx,
    batch::{At, Object},
    encode::{WireElement, encode_rule},
    load::READABLE,
    readback::{self, KnownRule},
};

/// A chain in the kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownChain {
    pub(crate) base: Option<BaseChain>,
    pub(crate) rules: Vec<KnownRule>,
    /// The sets its rules look into; `None` when somebody else may have written them.
    pub(crate) refs: Option<Vec<SetName>>,
}

/// What has to happen to the elements of a set that is in the kernel already.
#[derive(Debug, Default)]
pub(crate) struct SetChange {
    pub(crate) del: Vec<WireElement>,
    pub(crate) add: Vec<WireElement>,
}

/// Objects that the kernel (or the encoder) refused, with its words. They are left out, or closed, until they change.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) chains: BTreeMap<ChainName, String>,
    /// Rules of base chains, by the hash of their content.
    pub(crate) rules: BTreeMap<(ChainName, u64), String>,
    pub(crate) sets: BTreeMap<SetName, String>,
}

impl Refused {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.rules.is_empty() && self.sets.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct FamilyState {
    pub(crate) family: Family,
    /// How the names of workloads' interfaces begin.
    pub(crate) workloads: Vec<IfName>,
    pub(crate) desired: TableState,
    /// The name of our table in the kernel; `None` when there is none.
    pub(crate) table: Option<String>,
    pub(crate) chains: BTreeMap<ChainName, KnownChain>,
    /// Sets in the kernel with the hash of their definition.
    pub(crate) sets: BTreeMap<SetName, u64>,
    /// Counters in the kernel.
    pub(crate) counters: BTreeSet<CounterName>,

    /// Chains that may differ from what is wanted.
    pub(crate) touched_chains: BTreeSet<ChainName>,
    /// Sets that may differ, with the value in the kernel of each element that changed since.
    pub(crate) touched_sets: BTreeMap<SetName, BTreeMap<Key, Option<Element>>>,
    /// Counters that may be missing, or be there for nothing.
    pub(crate) touched_counters: BTreeSet<CounterName>,
    /// What must be read again before it is compared.
    pub(crate) stale_chains: BTreeSet<ChainName>,
    pub(crate) stale_sets: BTreeSet<SetName>,
    pub(crate) stale_counters: bool,
    pub(crate) refused: Refused,
    /// What is in the kernel otherwise than asked for, or not at all, and why.
    pub(crate) problems: BTreeMap<Object, String>,
}

impl FamilyState {
    pub(crate) fn new(family: Family, workloads: &[IfName]) -> Self {
        Self {
            family,
            workloads: workloads.to_vec(),
            desired: TableState::default(),
            table: None,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            counters: BTreeSet::new(),
            touched_counters: BTreeSet::new(),
            stale_counters: false,
            touched_chains: BTreeSet::new(),
            touched_sets: BTreeMap::new(),
            stale_chains: BTreeSet::new(),
            stale_sets: BTreeSet::new(),
            refused: Refused::default(),
            problems: BTreeMap::new(),
        }
    }

    /// Whether there is anything to compare or to write.
    pub(crate) fn has_work(&self) -> bool {
        if self.table.is_none() {
            return !self.is_nothing_wanted();
        }
        !(self.touched_chains.is_empty()
            && self.touched_sets.is_empty()
            && self.touched_counters.is_empty()
            && self.stale_chains.is_empty()
            && self.stale_sets.is_empty()
            && !self.stale_counters)
    }

    pub(crate) fn is_nothing_wanted(&self) -> bool {
        self.desired.chains.is_empty() && self.desired.sets.is_empty()
    }

    /// Takes one change of what is wanted.
    pub(crate) fn take(&mut self, delta: TableDelta) -> Result<(), BadDelta> {
        match &delta {
            TableDelta::PutChain(name, chain) => {
                if self.desired.chains.get(name) == Some(chain) {
                    return Ok(());
                }
                self.touch_chain(name);
            }
            TableDelta::RemoveChain(name) => self.touch_chain(name),
            TableDelta::PutSet(name, def) => {
                if self.desired.sets.get(name).is_some_and(|s| s.def == *def) {
                    return Ok(());
                }
                self.touch_whole_set(name);
            }
            TableDelta::RemoveSet(name) => self.touch_whole_set(name),
            TableDelta::AddElements(name, elements) => {
                self.touch_elements(name, elements.iter().map(|(k, _)| k));
            }
            TableDelta::DeleteElements(name, keys) => self.touch_elements(name, keys.iter()),
            TableDelta::ReplaceElements(name, elements) => {
                let new: BTreeSet<&Key> = elements.iter().map(|(k, _)| k).collect();
                let old = self
                    .desired
                    .sets
                    .get(name)
                    .into_iter()
                    .flat_map(|s| s.elements.keys());
                let gone: Vec<Key> = old.filter(|k| !new.contains(k)).cloned().collect();
                self.touch_elements(name, gone.iter().chain(new));
            }
            TableDelta::PutCounter(name) | TableDelta::RemoveCounter(name) => {
                self.touched_counters.insert(name.clone());
            }
        }
        self.desired.apply(delta)
    }

    fn touch_chain(&mut self, name: &ChainName) {
        self.touched_chains.insert(name.clone());
        self.refused.chains.remove(name);
        self.refused.rules.retain(|(chain, _), _| chain != name);
    }

    fn touch_whole_set(&mut self, name: &SetName) {
        if self.refused.sets.remove(name).is_some() {
            self.touch_referrers(name);
        }
        let old = self.desired.sets.get(name);
        let touched = self.touched_sets.entry(name.clone()).or_default();
        for (key, element) in old.into_iter().flat_map(|s| &s.elements) {
            touched
                .entry(key.clone())
                .or_insert_with(|| Some(element.clone()));
        }
    }

    fn touch_elements<'a>(&mut self, name: &SetName, keys: impl Iterator<Item = &'a Key>) {
        if self.refused.sets.remove(name).is_some() {
            self.touch_referrers(name);
        }
        let Some(set) = self.desired.sets.get(name) else {
            return;
        };
        let touched = self.touched_sets.entry(name.clone()).or_default();
        // Only what the kernel holds has an old value worth keeping; a new set is written as a whole.
        if self.sets.contains_key(name) {
            for key in keys {
                if !touched.contains_key(key) {
                    touched.insert(key.clone(), set.elements.get(key).cloned());
                }
            }
        }
    }

    /// Chains that look into a set, because it was refused or is so no more.
    pub(crate) fn touch_referrers(&mut self, name: &SetName) {
        let looks = self
            .desired
            .chains
            .iter()
            .filter(|(_, c)| c.rules.iter().any(|r| r.sets().any(|s| s == name)));
        self.touched_chains.extend(looks.map(|(n, _)| n.clone()));
    }

    /// Everything is to be compared with the kernel again.
    pub(crate) fn touch_all(&mut self) {
        self.touched_chains
            .extend(self.desired.chains.keys().chain(self.chains.keys()).cloned());
        let sets: Vec<SetName> = self
            .desired
            .sets
            .keys()
            .chain(self.sets.keys())
            .cloned()
            .collect();
        for name in sets {
            self.touched_sets.entry(name).or_default();
        }
        self.touch_counters();
    }

    fn touch_counters(&mut self) {
        let differ = self.desired.counters.symmetric_difference(&self.counters);
        self.touched_counters.extend(differ.cloned());
    }

    /// Takes what was read back; names that are wanted too are kept once.
    pub(crate) fn know_counters(&mut self, found: Vec<(CounterName, readback::Count)>) {
        let names = found.into_iter().map(|(name, _)| name);
        let known = names.map(|name| self.desired.counters.get(&name).cloned().unwrap_or(name));
        self.counters = known.collect();
    }

    /// Counters that are to come and to go. Reads again what there is, if that is in doubt.
    pub(crate) fn counter_changes(
        &mut self,
        tx: &mut impl NftTx,
        at: At<'_>,
    ) -> Result<(Vec<CounterName>, Vec<CounterName>), Error> {
        if std::mem::take(&mut self.stale_counters) {
            self.know_counters(readback::counters(tx, at)?);
            self.touch_counters();
        }
        let wanted = |name: &&CounterName| self.desired.counters.contains(*name);
        let known = |name: &&CounterName| self.counters.contains(*name);
        let touched = || self.touched_counters.iter();
        let new = touched().filter(|n| wanted(n) && !known(n)).cloned().collect();
        let gone = touched().filter(|n| !wanted(n) && known(n)).cloned().collect();
        Ok((new, gone))
    }

    /// What was refused is tried again with the next change.
    pub(crate) fn forgive(&mut self) {
        let refused = std::mem::take(&mut self.refused);
        self.touched_chains.extend(refused.chains.into_keys());
        self.touched_chains
            .extend(refused.rules.into_keys().map(|(chain, _)| chain));
        for name in refused.sets.into_keys() {
            self.touched_sets.entry(name.clone()).or_default();
            self.touch_referrers(&name);
        }
    }

    /// The kernel's table is gone, or is not to be trusted.
    pub(crate) fn forget_kernel(&mut self) {
        self.table = None;
        self.chains.clear();
        self.sets.clear();
        self.counters.clear();
        self.clear_touched();
    }

    pub(crate) fn clear_touched(&mut self) {
        self.touched_chains.clear();
        self.touched_sets.clear();
        self.stale_chains.clear();
        self.stale_sets.clear();
        self.touched_counters.clear();
        self.stale_counters = false;
    }

    /// Objects with problems may be well since others changed: they are compared again with the next change.
    pub(crate) fn touch_problems(&mut self) {
        for object in self.problems.keys() {
            match object {
                Object::Table(_) | Object::Counter(_) => {}
                Object::Chain(name) | Object::Rule(name, _) => {
                    self.touched_chains.insert(name.clone());
                }
                Object::Set(name) | Object::Elements(name) => {
                    self.touched_sets.entry(name.clone()).or_default();
                    let unreadable = self
                        .desired
                        .sets
                        .get(name)
                        .is_some_and(|s| s.elements.len() > READABLE);
                    if !unreadable {
                        self.stale_sets.insert(name.clone());
                    }
                }
            }
        }
    }

    /// Problems of an object that is looked at anew.
    pub(crate) fn clear_problems(&mut self, chain: Option<&ChainName>, set: Option<&SetName>) {
        self.problems.retain(|object, _| match object {
            Object::Table(_) | Object::Counter(_) => true,
            Object::Chain(name) | Object::Rule(name, _) => Some(name) != chain,
            Object::Set(name) | Object::Elements(name) => Some(name) != set,
        });
    }

    /// The object must be read from the kernel before the next comparison.
    pub(crate) fn doubt(&mut self, object: &Object) {
        match object {
            Object::Table(_) => {}
            Object::Counter(_) => self.stale_counters = true,
            Object::Chain(name) | Object::Rule(name, _) => {
                self.touched_chains.insert(name.clone());
                self.stale_chains.insert(name.clone());
            }
            Object::Set(name) | Object::Elements(name) => {
                self.touched_sets.entry(name.clone()).or_default();
                self.stale_sets.insert(name.clone());
            }
        }
    }

    /// Compares one chain with what it is believed to be; a set is left to the next comparison, which reads it anyway.
    pub(crate) fn examine(&mut self, tx: &mut impl NftTx, table: &str, object: &Object) -> Result<(), Error> {
        let Object::Chain(name) = object else {
            self.doubt(object);
            return Ok(());
        };
        let at = At {
            family: self.family,
            table,
        };
        let found = readback::chain(tx, at, name)?;
        let rules = readback::rules(tx, at, Some(name))?;
        let same = match (found, self.chains.get(name)) {
            (None, None) => true,
            (Some((base, _)), Some(known)) => {
                known.base == base
                    && known
                        .rules
                        .iter()
                        .map(|r| r.hash)
                        .eq(rules.iter().map(|(_, r)| r.hash))
            }
            _ => false,
        };
        if !same {
            self.doubt(object);
        }
        Ok(())
    }

    /// Gives an object up until it changes: a chain that is jumped to is closed, a rule of a base chain gives way to one that
    /// closes the workloads it decides over, and a set is left out, which closes the chains that look into it. False when that leads nowhere.
    pub(crate) fn refuse(&mut self, object: &Object, why: &str) -> bool {
        match object {
            Object::Table(_) | Object::Counter(_) => false,
            Object::Chain(name) => {
                self.touched_chains.insert(name.clone());
                self.refused.chains.insert(name.clone(), why.to_owned()).is_none()
            }
            Object::Rule(name, place) => {
                let Some(chain) = self.desired.chains.get(name) else {
                    return false;
                };
                self.touched_chains.insert(name.clone());
                if chain.base.is_none() {
                    return self.refused.chains.insert(name.clone(), why.to_owned()).is_none();
                }
                // What stands in the kernel for refused rules moves the places of those behind.
                let wanted = self.wanted_chain(name, chain, &mut Vec::new());
                let rule = wanted
                    .origin
                    .get(*place)
                    .and_then(|origin| chain.rules.get(*origin));
                let hash = rule
                    .and_then(|r| encode_rule(r, self.family, &self.desired.sets).ok())
                    .map(|e| e.hash);
                hash.is_some_and(|hash| {
                    self.refused
                        .rules
                        .insert((name.clone(), hash), why.to_owned())
                        .is_none()
                })
            }
            Object::Set(name) | Object::Elements(name) => {
                let new = !self.refused.sets.contains_key(name);
                self.refuse_set(name, why);
                new
            }
        }
    }

    /// Whether a set is too large to be read back in good time.
    pub(crate) fn is_unreadable(&self, name: &SetName) -> bool {
        self.desired
            .sets
            .get(name)
            .is_some_and(|s| s.elements.len() > READABLE)
    }

    /// The set as it shall be in the kernel: absent when it was refused.
    pub(crate) fn wanted_set(&self, name: &SetName) -> Option<&Set> {
        self.desired
            .sets
            .get(name)
            .filter(|_| !self.refused.sets.contains_key(name))
    }
}
