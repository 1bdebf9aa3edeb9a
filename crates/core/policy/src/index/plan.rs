//! Where to look: for the classes a new selector may match, and for the selectors a new class may match.

use caracal_selector::{LabelSet, Restriction, Selector, Symbol};
use smallvec::SmallVec;

use crate::{
    store::{IdSet, Map},
    vocabulary::Vocabulary,
};

/// The label by which a selector's candidates are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The label has one of these values.
    Values(Symbol, SmallVec<[Symbol; 2]>),
    /// The label is there.
    Present(Symbol),
    /// Anything may match.
    Anything,
    /// Nothing matches.
    Nothing,
}

/// On Kubernetes every pod has it with the same value, so it selects nothing.
const USELESS: &str = "projectcalico.org/orchestrator";

impl Plan {
    /// The plan with the fewest classes to look at now; with equally many, the one whose value says more.
    pub(crate) fn choose(selector: &Selector, voc: &mut Vocabulary, postings: &Postings) -> Self {
        let restrictions = selector.restrictions();
        if restrictions.is_never() {
            return Self::Nothing;
        }
        let mut best: Option<((bool, usize, usize), Self)> = None;
        for (label, restriction) in restrictions.iter() {
            let key = voc.word(label);
            let (plan, values) = match restriction {
                Restriction::Absent => continue,
                Restriction::Present => (Self::Present(key), usize::MAX),
                Restriction::OneOf(values) => (
                    Self::Values(key, values.iter().map(|v| voc.word(v)).collect()),
                    values.len(),
                ),
            };
            let rank = (label == USELESS, postings.count(&plan), values);
            if best.as_ref().is_none_or(|(held, _)| rank < *held) {
                best = Some((rank, plan));
            }
        }
        best.map_or(Self::Anything, |(_, plan)| plan)
    }
}

/// Classes by label name and value.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    by_name: Map<Symbol, Map<Symbol, IdSet>>,
}

impl Postings {
    pub(crate) fn add(&mut self, class: u32, labels: &LabelSet) {
        for (name, value) in labels.iter() {
            let values = self.by_name.entry(name).or_default();
            values.entry(value).or_default().insert(class);
        }
    }

    pub(crate) fn remove(&mut self, class: u32, labels: &LabelSet) {
        for (name, value) in labels.iter() {
            let Some(values) = self.by_name.get_mut(&name) else {
                continue;
            };
            if let Some(classes) = values.get_mut(&value) {
                classes.remove(class);
                if classes.is_empty() {
                    values.remove(&value);
                }
            }
            if values.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// How many classes a plan looks at, at most.
    fn count(&self, plan: &Plan) -> usize {
        match plan {
            Plan::Values(name, values) => self.by_name.get(name).map_or(0, |by_value| {
                let found = values.iter().filter_map(|v| by_value.get(v));
                found.map(IdSet::len).sum()
            }),
            // Counting values, not classes, is cheap and at least says whether there are many.
            Plan::Present(name) => self.by_name.get(name).map_or(0, Map::len),
            Plan::Anything => usize::MAX,
            Plan::Nothing => 0,
        }
    }

    /// The classes a plan looks at. For `Anything` that is the caller's to know.
    pub(crate) fn candidates<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = u32> + 'a {
        let (name, values): (_, Option<&[Symbol]>) = match plan {
            Plan::Values(name, values) => (Some(name), Some(values)),
            Plan::Present(name) => (Some(name), None),
            Plan::Anything | Plan::Nothing => (None, None),
        };
        let by_value = name.and_then(|name| self.by_name.get(name));
        let listed = values.unwrap_or_default().iter();
        let listed = listed.filter_map(move |value| by_value?.get(value));
        let every = by_value.filter(|_| values.is_none());
        listed
            .chain(every.into_iter().flat_map(Map::values))
            .flat_map(IdSet::iter)
    }
}

/// Selectors by the label that their plan names.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_value: Map<(Symbol, Symbol), Vec<u32>>,
    by_name: Map<Symbol, Vec<u32>>,
    anything: Vec<u32>,
}

impl Registry {
    pub(crate) fn add(&mut self, selector: u32, plan: &Plan) {
        match plan {
            Plan::Values(name, values) => {
                for value in values {
                    self.by_value.entry((*name, *value)).or_default().push(selector);
                }
            }
            Plan::Present(name) => self.by_name.entry(*name).or_default().push(selector),
            Plan::Anything => self.anything.push(selector),
            Plan::Nothing => {}
        }
    }

    pub(crate) fn remove(&mut self, selector: u32, plan: &Plan) {
        match plan {
            Plan::Values(name, values) => {
                for value in values {
                    remove_from(&mut self.by_value, &(*name, *value), selector);
                }
            }
            Plan::Present(name) => remove_from(&mut self.by_name, name, selector),
            Plan::Anything => take(&mut self.anything, selector),
            Plan::Nothing => {}
        }
    }

    /// The selectors that may match these labels.
    pub(crate) fn candidates<'a>(&'a self, labels: &'a LabelSet) -> impl Iterator<Item = u32> + 'a {
        let demanding = labels.iter().flat_map(|(name, value)| {
            let by_value = self.by_value.get(&(name, value)).into_iter().flatten();
            by_value.chain(self.by_name.get(&name).into_iter().flatten())
        });
        demanding.chain(&self.anything).copied()
    }
}

fn take(ids: &mut Vec<u32>, id: u32) {
    if let Some(at) = ids.iter().position(|held| *held == id) {
        ids.swap_remove(at);
    }
}

fn remove_from<K: Eq + std::hash::Hash>(map: &mut Map<K, Vec<u32>>, key: &K, id: u32) {
    if let Some(ids) = map.get_mut(key) {
        take(ids, id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
