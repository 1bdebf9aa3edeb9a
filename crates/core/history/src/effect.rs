//! What a call does to a store at a revision, said a second time and as plainly as possible.

use std::collections::BTreeMap;

use crate::log::Log;
use crate::record::{Answer, Compare, Event, Field, Op, Span, Step, Txn, Version};

/// What a call changes, and what it is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) events: Vec<Event>,
    pub(crate) answer: Answer,
}

/// What a call does to the store as it was at a revision. None for calls that do nothing to keys, or whose effect is not
/// theirs alone (the ends of leases).
pub(crate) fn of(op: &Op, log: &Log, before: i64) -> Option<Effect> {
    let mut work = Work {
        log,
        before,
        changed: BTreeMap::new(),
        events: Vec::new(),
    };
    let answer = match op {
        Op::Step(step) => work.step(step),
        Op::Txn(txn) => work.txn(txn),
        Op::Grant { .. } | Op::Revoke { .. } | Op::Compact { .. } => return None,
    };
    Some(Effect {
        events: work.events,
        answer,
    })
}

/// What the end of a lease does.
pub(crate) fn of_end(lease: i64, log: &Log, before: i64) -> Vec<Event> {
    let gone = |key: &String| Event {
        revision: before + 1,
        key: key.clone(),
        put: None,
    };
    log.of_lease(lease, before).into_iter().map(gone).collect()
}

/// Whether an answer says that something changed.
pub(crate) fn changed(op: &Op, answer: &Answer) -> bool {
    fn step(step: &Step, answer: &Answer) -> bool {
        match (step, answer) {
            (Step::Put { .. }, _) => true,
            (Step::Delete(_), Answer::Deleted(n)) => *n > 0,
            _ => false,
        }
    }
    match (op, answer) {
        (Op::Step(one), answer) => step(one, answer),
        (Op::Txn(txn), Answer::Txn(succeeded, answers)) => {
            let steps = if *succeeded { &txn.success } else { &txn.failure };
            steps.iter().zip(answers).any(|(one, answer)| step(one, answer))
        }
        _ => false,
    }
}

struct Work<'a> {
    log: &'a Log,
    before: i64,
    /// What this call changed so far.
    changed: BTreeMap<String, Option<Version>>,
    events: Vec<Event>,
}

impl Work<'_> {
    fn get(&self, key: &str) -> Option<Version> {
        match self.changed.get(key) {
            Some(version) => version.clone(),
            None => self.log.get(key, self.before).cloned(),
        }
    }

    fn range(&self, span: &Span) -> Vec<(String, Version)> {
        let mut found: BTreeMap<_, _> = self.log.range(span, self.before).into_iter().collect();
        for (key, version) in self.changed.iter().filter(|(key, _)| span.contains(key)) {
            match version {
                Some(version) => found.insert(key.clone(), version.clone()),
                None => found.remove(key),
            };
        }
        found.into_iter().collect()
    }

    fn set(&mut self, key: &str, put: Option<Version>) {
        self.changed.insert(key.to_owned(), put.clone());
        self.events.push(Event {
            revision: self.before + 1,
            key: key.to_owned(),
            put,
        });
    }

    fn step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Put { key, value, lease } => {
                let (now, old) = (self.before + 1, self.get(key));
                let version = Version {
                    value: value.clone(),
                    created: old.as_ref().map_or(now, |old| old.created),
                    modified: now,
                    version: old.map_or(0, |old| old.version) + 1,
                    lease: *lease,
                };
                self.set(key, Some(version));
                Answer::Done
            }
            Step::Delete(span) => {
                let gone = self.range(span);
                for (key, _) in &gone {
                    self.set(key, None);
                }
                Answer::Deleted(i64::try_from(gone.len()).unwrap_or(i64::MAX))
            }
            Step::Range(span, 0) => Answer::Found(self.range(span)),
            Step::Range(span, at) => Answer::Found(self.log.range(span, *at)),
        }
    }

    fn txn(&mut self, txn: &Txn) -> Answer {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let steps = if succeeded { &txn.success } else { &txn.failure };
        Answer::Txn(succeeded, steps.iter().map(|step| self.step(step)).collect())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let now = self.log.get(&compare.key, self.before);
        match &compare.field {
            Field::Value(value) => now.is_some_and(|v| v.value == *value),
            Field::Modified(n) => now.map_or(0, |v| v.modified) == *n,
            Field::Created(n) => now.map_or(0, |v| v.created) == *n,
            Field::Version(n) => now.map_or(0, |v| v.version) == *n,
        }
    }
}
