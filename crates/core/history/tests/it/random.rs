//! Right histories of every kind pass; each of many small lies told in them is found.

use caracal_history::*;

use crate::play::{Dice, history};

#[test]
fn right_histories_pass() {
    for seed in 0..300 {
        let (history, store) = history(seed, 120);
        let proof = check(&history).unwrap_or_else(|faults| panic!("seed {seed}: {}", faults[0]));
        assert_eq!(proof.revisions, store.revision() - 1);
        assert!(proof.unknown > 0 || seed > 0);
    }
}

/// Tells one lie; false when the history gives no occasion for it.
fn lie(kind: usize, history: &mut History, dice: &mut Dice) -> bool {
    let watch = dice.below(history.watches.len());
    let items = &mut history.watches[watch].items;
    let events: Vec<usize> = (0..items.len())
        .filter(|i| matches!(items[*i], Item::Event(..)))
        .collect();
    if events.len() < 10 {
        return false;
    }
    let at = events[dice.below(events.len())];
    match kind {
        // A watch misses an event, tells one twice, at once or later, or tells two in the wrong order.
        0 => drop(items.remove(at)),
        1 => items.insert(at, items[at].clone()),
        2 => items.push(items[at].clone()),
        3 => {
            let other = events[dice.below(events.len())];
            if items[at] == items[other] {
                return false;
            }
            items.swap(at, other);
        }
        // A watch tells of another value, or another version before.
        4 => match &mut items[at] {
            Item::Event(
                Event {
                    put: Some(version), ..
                },
                _,
            ) => version.value.push('x'),
            _ => return false,
        },
        5 => match &mut items[at] {
            Item::Event(_, Some(before)) => before.version += 1,
            _ => return false,
        },
        // A watch starts too late after a kill.
        6 => {
            let starts: Vec<_> = (1..items.len())
                .filter(|i| matches!(items[*i], Item::Start(_)))
                .collect();
            let Some(start) = starts.first() else { return false };
            let Item::Event(..) = &items[start + 1] else {
                return false;
            };
            items.remove(start + 1);
        }
        // An answer is wrong: another revision, another value, other conditions.
        7..13 => return wrong_answer(kind, history, dice),
        _ => return false,
    }
    true
}

fn wrong_answer(kind: usize, history: &mut History, dice: &mut Dice) -> bool {
    let at = dice.below(history.calls.len());
    let call = &mut history.calls[at];
    let Outcome::Done(revision, answer) = &mut call.outcome else {
        return false;
    };
    match (kind, &call.op, answer) {
        (7, Op::Step(Step::Put { .. }), _) => *revision += 1,
        (8, Op::Step(Step::Range(..)), Answer::Found(found)) if !found.is_empty() => {
            found[0].1.value.push('x')
        }
        (9, Op::Step(Step::Range(..)), Answer::Found(found)) if !found.is_empty() => drop(found.pop()),
        (10, Op::Txn(_), Answer::Txn(succeeded, _)) => *succeeded = !*succeeded,
        (11, Op::Step(Step::Delete(_)), Answer::Deleted(n)) => *n += 1,
        // What happened and was acknowledged is said to have been refused.
        (12, Op::Step(Step::Put { .. }), _) => call.outcome = Outcome::Refused(Refusal::Other),
        _ => return false,
    }
    true
}

#[test]
fn no_lie_passes() {
    let mut told = [0; 13];
    for seed in 0..600 {
        let mut dice = Dice::new(seed ^ 0xabcd);
        let kind = (seed % 13) as usize;
        let (mut history, _) = history(seed, 80);
        if !lie(kind, &mut history, &mut dice) {
            continue;
        }
        told[kind] += 1;
        assert!(check(&history).is_err(), "seed {seed}: lie {kind} passed");
    }
    assert!(told.iter().all(|n| *n >= 3), "every lie was told: {told:?}");
}
