//! A store that keeps its promises, and clients that write down what happens: where right histories come from.

use std::collections::BTreeMap;

use caracal_history::*;

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The store: written without looking at the checker.
#[derive(Default)]
pub(crate) struct Store {
    now: BTreeMap<String, Version>,
    past: Vec<BTreeMap<String, Version>>,
    pub(crate) log: Vec<Vec<(Event, Option<Version>)>>,
}

impl Store {
    pub(crate) fn revision(&self) -> i64 {
        self.log.len() as i64 + 1
    }

    fn put(&mut self, key: &str, value: &str, lease: i64, events: &mut Vec<(Event, Option<Version>)>) {
        let revision = self.revision() + 1;
        let old = self.now.get(key).cloned();
        let version = Version {
            value: value.into(),
            created: old.as_ref().map_or(revision, |o| o.created),
            modified: revision,
            version: old.as_ref().map_or(1, |o| o.version + 1),
            lease,
        };
        self.now.insert(key.into(), version.clone());
        let event = Event {
            revision,
            key: key.into(),
            put: Some(version),
        };
        events.push((event, old));
    }

    fn delete(
        &mut self,
        hit: impl Fn(&str, &Version) -> bool,
        events: &mut Vec<(Event, Option<Version>)>,
    ) -> i64 {
        let gone: Vec<String> = self
            .now
            .iter()
            .filter(|(k, v)| hit(k, v))
            .map(|(k, _)| k.clone())
            .collect();
        for key in &gone {
            let old = self.now.remove(key);
            let event = Event {
                revision: self.revision() + 1,
                key: key.clone(),
                put: None,
            };
            events.push((event, old));
        }
        gone.len() as i64
    }

    fn step(&mut self, step: &Step, events: &mut Vec<(Event, Option<Version>)>) -> Answer {
        match step {
            Step::Put { key, value, lease } => {
                self.put(key, value, *lease, events);
                Answer::Done
            }
            Step::Delete(span) => Answer::Deleted(self.delete(|k, _| span.contains(k), events)),
            Step::Range(span, at) => {
                let state = if *at == 0 {
                    &self.now
                } else {
                    &self.past[*at as usize - 2]
                };
                let found = state.iter().filter(|(k, _)| span.contains(k));
                Answer::Found(found.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
        }
    }

    /// Does what is asked; the revision after it, and the answer.
    pub(crate) fn run(&mut self, op: &Op) -> (i64, Answer) {
        let mut events = Vec::new();
        let answer = match op {
            Op::Step(step) => self.step(step, &mut events),
            Op::Txn(txn) => {
                let holds = |c: &Compare| {
                    let now = self.now.get(&c.key);
                    match &c.field {
                        Field::Value(v) => now.is_some_and(|n| n.value == *v),
                        Field::Modified(r) => now.map_or(0, |n| n.modified) == *r,
                        Field::Created(r) => now.map_or(0, |n| n.created) == *r,
                        Field::Version(r) => now.map_or(0, |n| n.version) == *r,
                    }
                };
                let ok = txn.compares.iter().all(holds);
                let steps = if ok { &txn.success } else { &txn.failure };
                Answer::Txn(ok, steps.iter().map(|s| self.step(s, &mut events)).collect())
            }
            Op::Revoke { lease } => {
                self.delete(|_, v| v.lease == *lease, &mut events);
                Answer::Done
            }
            Op::Grant { .. } | Op::Compact { .. } => Answer::Done,
        };
        if !events.is_empty() {
            self.log.push(events);
            self.past.push(self.now.clone());
        }
        (self.revision(), answer)
    }

    /// What a watch over a span is told of the revisions from one up to, and without, another.
    pub(crate) fn shown(&self, span: Option<&Span>, from: i64, to: i64) -> Vec<Item> {
        let revisions = self.log[from as usize - 2..to as usize - 2].iter().flatten();
        let wanted = revisions.filter(|(event, _)| span.is_none_or(|s| s.contains(&event.key)));
        wanted
            .map(|(event, old)| Item::Event(event.clone(), old.clone()))
            .collect()
    }
}

/// A right history: calls that overlap, kills with calls under way, watches that go on after them.
pub(crate) fn history(seed: u64, length: usize) -> (History, Store) {
    let mut dice = Dice::new(seed);
    let mut store = Store::default();
    let mut calls = Vec::new();
    let mut clock = 100;
    let mut stops = vec![];
    let mut lease = 0;
    for n in 0..length {
        clock += 10;
        let op = op(&mut dice, &store, n, &mut lease);
        // It takes effect at `clock`; made a little before and answered a little after, so that calls overlap.
        let (invoked, returned) = (clock - dice.below(25) as u64, clock + dice.below(25) as u64);
        let kill = dice.one_in(20);
        let happens = !kill || dice.one_in(2);
        let outcome = if happens {
            let (revision, answer) = store.run(&op);
            if kill {
                Outcome::Unknown
            } else {
                Outcome::Done(revision, answer)
            }
        } else {
            Outcome::Unknown
        };
        if kill {
            stops.push(store.revision() + 1);
            clock += 60;
        }
        calls.push(Call {
            invoked,
            returned: if kill { clock - 30 } else { returned },
            op,
            outcome,
        });
    }
    let end = store.revision() + 1;
    stops.push(end);
    let span = Span::between("a", "c");
    let watch = |name: &str, span: Option<Span>| {
        let mut items = Vec::new();
        let mut from = 2;
        for stop in &stops {
            items.push(Item::Start(from));
            items.extend(store.shown(span.as_ref(), from, *stop));
            from = *stop;
        }
        items.push(Item::Progress(end - 1));
        Watch {
            name: name.into(),
            span,
            items,
        }
    };
    let watches = vec![
        watch("all", None),
        watch("some", Some(span)),
        watch("again", None),
    ];
    let history = History {
        calls,
        watches,
        keeps: None,
    };
    (history, store)
}

fn op(dice: &mut Dice, store: &Store, n: usize, lease: &mut i64) -> Op {
    let key = |dice: &mut Dice| ["a", "b", "c", "d"][dice.below(4)].to_owned();
    let put = |dice: &mut Dice, part: usize, lease: i64| Step::Put {
        key: ["a", "b", "c", "d"][(dice.below(2) + 2 * part) % 4].to_owned(),
        value: format!("{n}.{part}"),
        lease,
    };
    match dice.below(12) {
        0..4 => {
            let on = if dice.one_in(3) { *lease } else { 0 };
            Op::Step(put(dice, 0, on))
        }
        4 => Op::Step(Step::Delete(Span::one(key(dice)))),
        5 => Op::Step(Step::Delete(Span::between("b", "d"))),
        6 => Op::Step(Step::Range(Span::between("a", "z"), 0)),
        7 => Op::Step(Step::Range(
            Span::between("a", "z"),
            (2 + dice.below(store.log.len().max(1)) as i64).min(store.revision())
                * i64::from(!store.log.is_empty()),
        )),
        8 | 9 => {
            let on = key(dice);
            let now = store.now.get(&on).map_or(0, |v| v.modified);
            Op::Txn(Txn {
                compares: vec![Compare {
                    key: on,
                    field: Field::Modified(if dice.one_in(4) { 1 } else { now }),
                }],
                success: vec![put(dice, 0, 0), put(dice, 1, 0)],
                failure: vec![Step::Range(Span::one("a"), 0)],
            })
        }
        10 if *lease != 0 => {
            let ended = *lease;
            *lease = 0;
            Op::Revoke { lease: ended }
        }
        _ if *lease == 0 => {
            *lease = 1000 + n as i64;
            Op::Grant {
                lease: *lease,
                short: false,
            }
        }
        _ => Op::Step(Step::Range(Span::one(key(dice)), 0)),
    }
}
