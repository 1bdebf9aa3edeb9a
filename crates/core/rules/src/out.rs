//! What changed, sorted so that nothing is named before it is there or gone while it is named.

use crate::ir::{Element, Key, Set, SetName, TableDelta};

/// Deltas in an order in which what is referred to exists.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) counters: Vec<TableDelta>,
    pub(crate) sets: Vec<TableDelta>,
    pub(crate) chains: Vec<TableDelta>,
    pub(crate) elements: Vec<TableDelta>,
    pub(crate) chains_gone: Vec<TableDelta>,
    pub(crate) sets_gone: Vec<TableDelta>,
    pub(crate) counters_gone: Vec<TableDelta>,
}

impl Out {
    pub(crate) fn deltas(self) -> Vec<TableDelta> {
        let parts = [
            self.counters,
            self.sets,
            self.chains,
            self.elements,
            self.chains_gone,
            self.sets_gone,
            self.counters_gone,
        ];
        parts.into_iter().flatten().collect()
    }
}

pub(crate) fn push_elements(name: &SetName, gone: Vec<Key>, new: Vec<(Key, Element)>, out: &mut Out) {
    // Intervals that grow replace those they cover, so these go first.
    if !gone.is_empty() {
        out.elements.push(TableDelta::DeleteElements(name.clone(), gone));
    }
    if !new.is_empty() {
        out.elements.push(TableDelta::AddElements(name.clone(), new));
    }
}

pub(crate) fn write_set(name: &SetName, before: Option<&Set>, now: Option<&Set>, out: &mut Out) {
    match (before, now) {
        (Some(before), Some(now)) if before.def == now.def => {
            let gone = before.elements.keys().filter(|k| !now.elements.contains_key(k));
            let new = now
                .elements
                .iter()
                .filter(|(k, e)| before.elements.get(k) != Some(e));
            let (gone, new) = (
                gone.cloned().collect(),
                new.map(|(k, e)| (k.clone(), e.clone())).collect(),
            );
            push_elements(name, gone, new, out);
        }
        (_, Some(now)) => {
            let elements = now.elements.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
            out.sets.push(TableDelta::PutSet(name.clone(), now.def.clone()));
            out.sets.push(TableDelta::ReplaceElements(name.clone(), elements));
        }
        (Some(_), None) => out.sets_gone.push(TableDelta::RemoveSet(name.clone())),
        (None, None) => {}
    }
}
