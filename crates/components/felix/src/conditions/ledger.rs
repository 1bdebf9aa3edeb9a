use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use caracal_api::{Resource, ResourceKey};

use super::change;

/// The wait before a write: at least this, and up to so much more.
const LEAST: f64 = 0.5;
const MORE: f64 = 4.5;

/// The wait doubles so often at most: up to 43 minutes.
const DOUBLINGS: u32 = 9;

/// The objects that are refused, or whose status says so wrongly. Pure: time and chance are arguments.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: BTreeMap<ResourceKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    object: Arc<Resource>,
    fault: Option<String>,
    /// When its status is to be written, if it is not what it should be.
    due: Option<Instant>,
    /// How often that came about with this fault: others may undo what agents write.
    turns: u32,
}

impl Ledger {
    /// Takes an object as it is stored now, and what is wrong with it. `chance` is between 0 and 1.
    pub(super) fn note(&mut self, now: Instant, chance: f64, object: &Arc<Resource>, fault: Option<&str>) {
        let key = object.key();
        let wrong = change(object, fault, "").is_some();
        if !wrong && fault.is_none() {
            self.open.remove(&key);
            return;
        }
        let entry = self.open.entry(key).or_insert_with(|| Entry {
            object: object.clone(),
            fault: None,
            due: None,
            turns: 0,
        });
        if entry.fault.as_deref() != fault {
            entry.fault = fault.map(str::to_owned);
            entry.turns = 0;
        }
        entry.object = object.clone();
        if !wrong {
            entry.due = None;
        } else if entry.due.is_none() {
            let doubled = f64::from(1_u32 << entry.turns.min(DOUBLINGS));
            entry.due = Some(now + Duration::from_secs_f64((LEAST + MORE * chance) * doubled));
            entry.turns += 1;
        }
    }

    /// The object is gone.
    pub(super) fn gone(&mut self, key: &ResourceKey) {
        self.open.remove(key);
    }

    /// When something is to be written.
    pub(super) fn next(&self) -> Option<Instant> {
        self.open.values().filter_map(|e| e.due).min()
    }

    /// An object whose status is to be written now, as it should be. It is not due any more: what was written is noted
    /// when the datastore tells of it.
    pub(super) fn take_due(&mut self, now: Instant, time: &str) -> Option<Resource> {
        self.open.values_mut().find_map(|e| {
            e.due.take_if(|due| *due <= now)?;
            change(&e.object, e.fault.as_deref(), time)
        })
    }

    /// What was taken could not be written.
    pub(super) fn again(&mut self, key: &ResourceKey, at: Instant) {
        if let Some(entry) = self.open.get_mut(key) {
            entry.due.get_or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::Kind;
    use serde_json::json;

    use super::*;

    fn tier() -> Arc<Resource> {
        let value = json!({"metadata": {"name": "default"}, "spec": {"order": 5}});
        Arc::new(Resource::from_value(Kind::Tier, value).unwrap())
    }

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn who_comes_second_has_nothing_to_do() {
        let start = Instant::now();
        let (mut first, mut second) = (Ledger::default(), Ledger::default());
        first.note(start, 0.0, &tier(), Some("f"));
        second.note(start, 1.0, &tier(), Some("f"));
        assert_eq!(first.next(), Some(start + secs(0.5)));
        assert_eq!(second.next(), Some(start + secs(5.0)));
        assert_eq!(first.take_due(start, "t"), None, "too early");
        let written = Arc::new(first.take_due(start + secs(0.5), "t").unwrap());
        for ledger in [&mut first, &mut second] {
            ledger.note(start + secs(0.6), 0.0, &written, Some("f"));
            assert_eq!(ledger.next(), None);
            assert_eq!(ledger.take_due(start + secs(9.0), "t"), None);
        }
        // Mended, and the condition goes in the same way; then nothing is kept.
        first.note(start, 0.0, &written, None);
        let clean = Arc::new(first.take_due(start + secs(0.5), "t").unwrap());
        first.note(start, 0.0, &clean, None);
        assert!(first.open.is_empty());
    }

    #[test]
    fn further_changes_do_not_put_a_write_off() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        ledger.note(start, 0.0, &tier(), Some("f"));
        ledger.note(start + secs(0.4), 1.0, &tier(), Some("g"));
        let written = ledger.take_due(start + secs(0.5), "t").unwrap();
        let said = &written.to_value()["status"]["conditions"][0]["message"];
        assert_eq!(said, "the agents refuse it: g");
    }

    #[test]
    fn who_is_contradicted_writes_ever_more_rarely() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            ledger.note(start, 0.0, &tier(), Some("f"));
            let due = ledger.next().unwrap();
            waits.push((due - start).as_secs_f64());
            let written = Arc::new(ledger.take_due(due, "t").unwrap());
            ledger.note(start, 0.0, &written, Some("f"));
        }
        assert_eq!(waits[..4], [0.5, 1.0, 2.0, 4.0]);
        assert_eq!(waits[9..], [256.0; 3]);
        ledger.note(start, 0.0, &tier(), Some("g"));
        assert_eq!(ledger.next(), Some(start + secs(0.5)), "another fault");
    }

    #[test]
    fn what_failed_comes_again_and_what_is_gone_does_not() {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        ledger.note(start, 0.0, &tier(), Some("f"));
        let key = ledger.take_due(start + secs(1.0), "t").unwrap().key();
        assert_eq!(ledger.next(), None);
        ledger.again(&key, start + secs(7.0));
        assert_eq!(ledger.next(), Some(start + secs(7.0)));
        ledger.gone(&key);
        ledger.again(&key, start);
        assert_eq!(ledger.next(), None);
    }
}
