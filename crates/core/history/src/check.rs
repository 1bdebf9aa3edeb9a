//! The judgement.

use std::collections::{BTreeMap, HashMap};

use crate::cause::{self, Candidates};
use crate::effect;
use crate::log::{EMPTY, Log};
use crate::record::{Answer, Call, Event, History, Op, Outcome, Refusal, Step};
use crate::violation::Violation;
use crate::watch::{self, Compactions};

/// Most violations listed: one mistake has many consequences.
const MOST: usize = 50;

/// What a history without violations showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// Revisions, each with one cause.
    pub revisions: i64,
    /// Calls whose answers are right.
    pub answered: usize,
    /// Calls that were refused and left no trace.
    pub refused: usize,
    /// Calls whose fate nobody knows.
    pub unknown: usize,
    /// Of these, how many happened, and ends of leases by themselves.
    pub happened: usize,
}

/// Judges a history.
///
/// # Errors
/// What is wrong, the first things first.
pub fn check(history: &History) -> Result<Proof, Vec<Violation>> {
    let log = watch::witness(history).map_err(|fault| vec![fault])?;
    let mut judge = Judge {
        history,
        log: &log,
        compactions: Compactions::of(history, &log),
        bounds: bounds(history),
        owners: BTreeMap::new(),
        faults: Vec::new(),
        proof: Proof {
            revisions: log.last() - EMPTY,
            ..Proof::default()
        },
    };
    for (number, call) in history.calls.iter().enumerate() {
        judge.call(number, call);
    }
    judge.causes();
    judge.leases();
    for watch in &history.watches {
        watch::compare(watch, &log, &judge.compactions, &mut judge.faults);
    }
    judge.faults.truncate(MOST);
    if judge.faults.is_empty() {
        Ok(judge.proof)
    } else {
        Err(judge.faults)
    }
}

/// The revisions between which a call took place, by what others were told before it was made and after it returned.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The highest revision known when it was made.
    known: i64,
    /// The lowest revision that a later call was told; an effect is not after it.
    most: i64,
}

fn bounds(history: &History) -> Vec<Bounds> {
    let calls = &history.calls;
    let mut all = vec![
        Bounds {
            known: EMPTY,
            most: i64::MAX
        };
        calls.len()
    ];
    // At one moment what was made comes before what returned: only what is surely earlier counts.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
    for (number, call) in calls.iter().enumerate() {
        moments.push((call.invoked, false, number));
        moments.push((call.returned, true, number));
    }
    moments.sort_unstable();
    let mut known = EMPTY;
    for (_, returned, number) in &moments {
        match (returned, &calls[*number].outcome) {
            (true, Outcome::Done(revision, _)) => known = known.max(*revision),
            (true, _) => {}
            (false, _) => all[*number].known = known,
        }
    }
    let mut most = i64::MAX;
    for (_, returned, number) in moments.iter().rev() {
        match (returned, &calls[*number].outcome) {
            (true, _) => all[*number].most = most,
            (false, Outcome::Done(revision, answer)) => {
                let own = effect::changed(&calls[*number].op, answer);
                most = most.min(revision - i64::from(own));
            }
            (false, _) => {}
        }
    }
    all
}

struct Judge<'a> {
    history: &'a History,
    log: &'a Log,
    compactions: Compactions<'a>,
    bounds: Vec<Bounds>,
    /// Revisions whose cause is known.
    owners: BTreeMap<i64, usize>,
    faults: Vec<Violation>,
    proof: Proof,
}

impl Judge<'_> {
    fn call(&mut self, number: usize, call: &Call) {
        let (revision, answer) = match &call.outcome {
            Outcome::Unknown => {
                self.proof.unknown += 1;
                return;
            }
            Outcome::Refused(refusal) => {
                self.proof.refused += 1;
                return self.refused(number, call, *refusal);
            }
            Outcome::Done(revision, answer) => (*revision, answer),
        };
        self.proof.answered += 1;
        let known = self.bounds[number].known;
        let changed = effect::changed(&call.op, answer);
        if revision < known + i64::from(changed) {
            return self.faults.push(Violation::Stale {
                call: number,
                revision,
                known,
            });
        }
        if let Op::Revoke { lease } = call.op {
            return self.revoked(number, lease, revision);
        }
        if revision > self.log.last() {
            let last = self.log.last();
            let what = format!("{:?}", call.op);
            return self.faults.push(Violation::Lost {
                call: number,
                revision,
                last,
                what,
            });
        }
        let before = revision - i64::from(changed);
        let Some(effect) = effect::of(&call.op, self.log, before) else {
            return;
        };
        if changed {
            self.acknowledged(number, revision, &effect.events);
        } else if !effect.events.is_empty() {
            return self.wrong(
                number,
                revision,
                format!("it should have changed {:?}", effect.events),
            );
        }
        if *answer != effect.answer {
            self.wrong(
                number,
                revision,
                format!("expected {:?}, told {answer:?}", effect.answer),
            );
        }
        self.past(number, call);
    }

    fn wrong(&mut self, call: usize, revision: i64, what: String) {
        self.faults.push(Violation::WrongAnswer { call, revision, what });
    }

    /// A change that was acknowledged is its revision, with all its parts and nothing else.
    fn acknowledged(&mut self, call: usize, revision: i64, expected: &[Event]) {
        let found = self.log.changes(revision);
        if found == expected {
            return self.own(call, revision);
        }
        let what = format!("expected {expected:?}, found {found:?}");
        let some = expected.iter().any(|event| found.contains(event));
        self.faults.push(if some {
            Violation::Half { revision, what }
        } else {
            Violation::Lost {
                call,
                revision,
                last: self.log.last(),
                what,
            }
        });
    }

    fn own(&mut self, call: usize, revision: i64) {
        if let Some(first) = self.owners.insert(revision, call) {
            self.faults.push(Violation::Shared {
                revision,
                first,
                second: call,
            });
        }
    }

    /// The end of a lease is a revision of its own when keys hung on it, else it is none; `causes` finds which.
    fn revoked(&mut self, call: usize, lease: i64, revision: i64) {
        let left = self.log.of_lease(lease, revision);
        if revision > self.log.last() || !left.is_empty() {
            self.faults.push(Violation::Lost {
                call,
                revision,
                last: self.log.last(),
                what: format!("the end of lease {lease}; still there: {left:?}"),
            });
        }
    }

    fn refused(&mut self, call: usize, of: &Call, refusal: Refusal) {
        let asked = match (&of.op, refusal) {
            (Op::Step(Step::Range(_, at)), Refusal::Compacted) => *at + 1,
            // Something inside it, or a compaction that others were ahead of.
            _ => return,
        };
        if !self.compactions.asked(asked, of.returned) {
            self.faults.push(Violation::NotCompacted {
                who: format!("call {call}"),
                revision: asked - 1,
            });
        }
    }

    /// Reading the past: not what a compaction took away before.
    fn past(&mut self, number: usize, call: &Call) {
        let Op::Step(Step::Range(_, at @ 1..)) = &call.op else {
            return;
        };
        let gone = self.compactions.done(at + 1, call.invoked);
        if gone {
            self.faults.push(Violation::Resurrected {
                call: number,
                revision: *at,
            });
        }
    }

    /// Finds a cause for each revision that no acknowledged call has.
    fn causes(&mut self) {
        let open: Vec<i64> = self
            .log
            .all()
            .map(|(revision, _)| revision)
            .filter(|revision| !self.owners.contains_key(revision))
            .collect();
        let mut candidates: Candidates = open.iter().map(|revision| (*revision, Vec::new())).collect();
        for (number, call) in self.history.calls.iter().enumerate() {
            let (from, to) = self.reach(number, call);
            if from > to {
                continue;
            }
            for (revision, causes) in candidates.range_mut(from..=to) {
                if self.could(call, *revision) {
                    causes.push(number);
                }
            }
        }
        let unexplained = cause::unexplained(&candidates);
        self.proof.happened = open.len() - unexplained.len();
        for revision in unexplained {
            self.faults.push(self.no_cause(revision));
        }
    }

    /// The revisions that a call can have made without being told.
    fn reach(&self, number: usize, call: &Call) -> (i64, i64) {
        let Bounds { known, most } = self.bounds[number];
        match (&call.outcome, &call.op) {
            // Its end by itself comes any time later.
            (_, Op::Grant { short: true, .. }) => (known + 1, i64::MAX),
            (Outcome::Done(revision, _), Op::Revoke { .. }) => (*revision, *revision),
            (Outcome::Unknown, _) => (known + 1, most),
            _ => (1, 0),
        }
    }

    fn could(&self, call: &Call, revision: i64) -> bool {
        let found = self.log.changes(revision);
        match call.op {
            Op::Grant { lease, .. } | Op::Revoke { lease } => {
                let hung = |event: &Event| {
                    let before = self.log.get(&event.key, revision - 1);
                    event.put.is_none() && before.is_some_and(|version| version.lease == lease)
                };
                found.iter().all(hung) && found == effect::of_end(lease, self.log, revision - 1)
            }
            _ => effect::of(&call.op, self.log, revision - 1).is_some_and(|effect| effect.events == found),
        }
    }

    /// Says as well as possible what a revision is that nobody made.
    fn no_cause(&self, revision: i64) -> Violation {
        let found = self.log.changes(revision);
        for (number, call) in self.history.calls.iter().enumerate() {
            if let Outcome::Refused(_) = call.outcome
                && self.could(call, revision)
            {
                return Violation::RefusedButDone {
                    call: number,
                    revision,
                };
            }
            let Some(expected) = effect::of(&call.op, self.log, revision - 1) else {
                continue;
            };
            let has = |event: &&Event| event.put.is_some() && found.contains(event);
            if expected.events.iter().any(|event| has(&event)) && expected.events != found {
                let what = format!("call {number}: expected {:?}, found {found:?}", expected.events);
                return Violation::Half { revision, what };
            }
        }
        Violation::NoCause {
            revision,
            what: format!("{found:?}"),
        }
    }

    /// Nothing hangs on a lease after its end.
    fn leases(&mut self) {
        let mut ended: HashMap<i64, i64> = HashMap::new();
        for call in &self.history.calls {
            if let (Op::Revoke { lease }, Outcome::Done(revision, Answer::Done)) = (&call.op, &call.outcome) {
                let first = ended.entry(*lease).or_insert(*revision);
                *first = (*first).min(*revision);
            }
        }
        for (revision, events) in self.log.all() {
            for event in events {
                let Some(put) = &event.put else { continue };
                if let Some(end) = ended.get(&put.lease).filter(|end| revision > **end) {
                    self.faults.push(Violation::EndedLease {
                        revision,
                        key: event.key.clone(),
                        lease: put.lease,
                        ended: *end,
                    });
                }
            }
        }
    }
}
