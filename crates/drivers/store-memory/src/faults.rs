use std::collections::{BTreeMap, VecDeque};

use caracal_store::StoreError;

/// An operation of the store, to count it or let it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `get`.
    Get,
    /// `list`, one page.
    List,
    /// `create`.
    Create,
    /// `update`.
    Update,
    /// `update_status`.
    UpdateStatus,
    /// `delete`.
    Delete,
    /// `watch`.
    Watch,
}

/// What is to go wrong, and what was called.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    next: VecDeque<(Option<Op>, StoreError)>,
    calls: BTreeMap<Op, usize>,
}

impl Faults {
    pub(crate) fn add(&mut self, op: Option<Op>, times: usize, error: &StoreError) {
        self.next.extend(std::iter::repeat_n((op, error.clone()), times));
    }

    pub(crate) fn clear(&mut self) {
        self.next.clear();
    }

    pub(crate) fn calls(&self, op: Op) -> usize {
        self.calls.get(&op).copied().unwrap_or_default()
    }

    /// Counts the call and fails it if that was asked for.
    pub(crate) fn enter(&mut self, op: Op) -> Result<(), StoreError> {
        *self.calls.entry(op).or_default() += 1;
        let due = self
            .next
            .iter()
            .position(|(only, _)| only.is_none_or(|o| o == op));
        match due.and_then(|i| self.next.remove(i)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
