//! Wrong histories, one of each kind, and what is said of them.

use caracal_history::*;

fn put(key: &str, value: &str) -> Step {
    Step::Put {
        key: key.into(),
        value: value.into(),
        lease: 0,
    }
}

fn call(invoked: u64, returned: u64, op: Op, outcome: Outcome) -> Call {
    Call {
        invoked,
        returned,
        op,
        outcome,
    }
}

/// A call that is over before the next one begins.
fn done(time: u64, step: Step, revision: i64, answer: Answer) -> Call {
    call(
        time * 10,
        time * 10 + 5,
        Op::Step(step),
        Outcome::Done(revision, answer),
    )
}

fn version(value: &str, created: i64, modified: i64, version: i64) -> Version {
    Version {
        value: value.into(),
        created,
        modified,
        version,
        lease: 0,
    }
}

fn event(revision: i64, key: &str, put: Option<Version>) -> Item {
    let event = Event {
        revision,
        key: key.into(),
        put,
    };
    Item::Event(event, None)
}

fn all(items: Vec<Item>) -> Watch {
    Watch {
        name: "all".into(),
        span: None,
        items: [vec![Item::Start(2)], items].concat(),
    }
}

fn faults(calls: Vec<Call>, watches: Vec<Watch>) -> Vec<Violation> {
    let history = History {
        calls,
        watches,
        keeps: None,
    };
    check(&history).expect_err("the history is wrong")
}

fn first(calls: Vec<Call>, items: Vec<Item>) -> Violation {
    faults(calls, vec![all(items)]).remove(0)
}

fn read(time: u64, revision: i64, found: &[(&str, Version)]) -> Call {
    let found = found
        .iter()
        .map(|(key, v)| ((*key).to_owned(), v.clone()))
        .collect();
    done(
        time,
        Step::Range(Span::between("a", "z"), 0),
        revision,
        Answer::Found(found),
    )
}

#[test]
fn without_a_witness_nothing_is_judged() {
    let late = Watch {
        items: vec![Item::Start(3)],
        ..all(vec![])
    };
    assert_eq!(faults(vec![], vec![late]), [Violation::NoWitness]);
    assert_eq!(faults(vec![], vec![]), [Violation::NoWitness]);
}

#[test]
fn a_lost_write_is_found_at_the_end_of_the_log_and_in_it() {
    let a = event(2, "a", Some(version("1", 2, 2, 1)));
    let calls = || {
        vec![
            done(1, put("a", "1"), 2, Answer::Done),
            done(2, put("b", "2"), 3, Answer::Done),
        ]
    };
    assert!(matches!(
        first(calls(), vec![a.clone()]),
        Violation::Lost {
            call: 1,
            revision: 3,
            last: 2,
            ..
        }
    ));
    // Its revision was given to another after a kill.
    let other = call(30, 50, Op::Step(put("c", "3")), Outcome::Unknown);
    let found = first(
        [calls(), vec![other]].concat(),
        vec![a, event(3, "c", Some(version("3", 3, 3, 1)))],
    );
    assert!(
        matches!(
            found,
            Violation::Lost {
                call: 1,
                revision: 3,
                ..
            }
        ),
        "{found}"
    );
}

#[test]
fn half_a_transaction_is_found_whether_acknowledged_or_not() {
    let txn = Op::Txn(Txn {
        compares: vec![],
        success: vec![put("a", "1"), put("b", "2")],
        failure: vec![],
    });
    let half = vec![event(2, "a", Some(version("1", 2, 2, 1)))];
    let answer = Answer::Txn(true, vec![Answer::Done, Answer::Done]);
    for outcome in [Outcome::Done(2, answer), Outcome::Unknown] {
        let found = first(vec![call(1, 9, txn.clone(), outcome)], half.clone());
        assert!(matches!(found, Violation::Half { revision: 2, .. }), "{found}");
    }
}

#[test]
fn a_write_of_unknown_fate_happens_once_and_before_the_kill() {
    let unknown = call(1, 9, Op::Step(put("a", "1")), Outcome::Unknown);
    let once = event(2, "a", Some(version("1", 2, 2, 1)));
    let twice = event(3, "a", Some(version("1", 2, 3, 2)));
    let found = first(vec![unknown.clone()], vec![once.clone(), twice]);
    assert!(matches!(found, Violation::NoCause { revision: 3, .. }), "{found}");
    // The store was read as empty after the kill: what comes later is not of a call from before.
    let empty = read(2, 1, &[]);
    let found = first(vec![unknown, empty], vec![once]);
    assert!(matches!(found, Violation::NoCause { revision: 2, .. }), "{found}");
}

#[test]
fn a_delete_of_unknown_fate_explains_one_deletion() {
    let delete = |time| {
        call(
            time,
            100,
            Op::Step(Step::Delete(Span::one("a"))),
            Outcome::Unknown,
        )
    };
    let a = |revision, value: &str| event(revision, "a", Some(version(value, revision, revision, 1)));
    let items = vec![a(2, "1"), event(3, "a", None), a(4, "2"), event(5, "a", None)];
    let puts = || {
        vec![
            done(1, put("a", "1"), 2, Answer::Done),
            done(3, put("a", "2"), 4, Answer::Done),
        ]
    };
    let found = first([puts(), vec![delete(11)]].concat(), items.clone());
    assert!(matches!(found, Violation::NoCause { .. }), "{found}");
    let two = History {
        calls: [puts(), vec![delete(11), delete(12)]].concat(),
        watches: vec![all(items)],
        keeps: None,
    };
    assert_eq!(check(&two).unwrap().happened, 2);
}

#[test]
fn what_was_refused_left_no_trace() {
    let refused = call(1, 9, Op::Step(put("a", "1")), Outcome::Refused(Refusal::Other));
    let found = first(vec![refused], vec![event(2, "a", Some(version("1", 2, 2, 1)))]);
    assert_eq!(found, Violation::RefusedButDone { call: 0, revision: 2 });
}

#[test]
fn a_stale_read_is_found_by_time_and_a_wrong_one_by_content() {
    let a = || {
        vec![
            event(2, "a", Some(version("1", 2, 2, 1))),
            event(3, "a", Some(version("2", 2, 3, 2))),
        ]
    };
    let puts = || {
        vec![
            done(1, put("a", "1"), 2, Answer::Done),
            done(2, put("a", "2"), 3, Answer::Done),
        ]
    };
    let old = read(3, 2, &[("a", version("1", 2, 2, 1))]);
    let found = first([puts(), vec![old]].concat(), a());
    assert_eq!(
        found,
        Violation::Stale {
            call: 2,
            revision: 2,
            known: 3
        }
    );
    let wrong = read(3, 3, &[("a", version("1", 2, 2, 1))]);
    let found = first([puts(), vec![wrong]].concat(), a());
    assert!(matches!(found, Violation::WrongAnswer { call: 2, .. }), "{found}");
    // The same answer is right for a read that overlaps the second put.
    let beside = Call {
        invoked: 16,
        ..read(3, 2, &[("a", version("1", 2, 2, 1))])
    };
    let right = History {
        calls: [puts(), vec![beside]].concat(),
        watches: vec![all(a())],
        keeps: None,
    };
    assert!(check(&right).is_ok());
}

#[test]
fn two_cannot_both_create_a_key() {
    let create = |value| {
        Op::Txn(Txn {
            compares: vec![Compare {
                key: "a".into(),
                field: Field::Created(0),
            }],
            success: vec![put("a", value)],
            failure: vec![],
        })
    };
    let won = |revision| Outcome::Done(revision, Answer::Txn(true, vec![Answer::Done]));
    let calls = vec![call(1, 20, create("1"), won(2)), call(1, 20, create("2"), won(3))];
    let items = vec![
        event(2, "a", Some(version("1", 2, 2, 1))),
        event(3, "a", Some(version("2", 2, 3, 2))),
    ];
    let found = first(calls, items);
    assert!(matches!(found, Violation::Lost { call: 1, .. }), "{found}");
}

#[test]
fn one_revision_is_one_calls() {
    let calls = vec![
        call(1, 20, Op::Step(put("a", "1")), Outcome::Done(2, Answer::Done)),
        call(1, 20, Op::Step(put("a", "1")), Outcome::Done(2, Answer::Done)),
    ];
    let found = first(calls, vec![event(2, "a", Some(version("1", 2, 2, 1)))]);
    assert!(matches!(
        found,
        Violation::Shared {
            revision: 2,
            first: 0,
            second: 1
        }
    ));
}

#[test]
fn watches_that_repeat_skip_reorder_and_lie() {
    let puts = || {
        (1..5)
            .map(|n| done(n, put(&format!("k{n}"), "v"), n as i64 + 1, Answer::Done))
            .collect::<Vec<_>>()
    };
    let e = |r: i64| event(r, &format!("k{}", r - 1), Some(version("v", r, r, 1)));
    let whole = || all(vec![e(2), e(3), e(4), e(5)]);
    let told = |items: Vec<Item>| {
        let other = Watch {
            name: "other".into(),
            span: None,
            items,
        };
        faults(puts(), vec![whole(), other]).remove(0)
    };
    let s = Item::Start;
    assert!(matches!(
        told(vec![s(2), e(2), e(3), e(3), e(4)]),
        Violation::Twice { revision: 3, .. }
    ));
    assert!(matches!(
        told(vec![s(2), e(2), e(3), e(4), e(2)]),
        Violation::Twice { revision: 2, .. }
    ));
    assert!(matches!(
        told(vec![s(2), e(2), e(4), e(3), e(5)]),
        Violation::OutOfOrder {
            revision: 3,
            after: 4,
            ..
        }
    ));
    assert!(matches!(
        told(vec![s(2), e(2), e(4), e(5)]),
        Violation::Gap { missing: 3, .. }
    ));
    assert!(matches!(
        told(vec![s(2), e(2), s(3), e(2), e(3)]),
        Violation::OutOfOrder { revision: 2, .. }
    ));
    assert!(matches!(
        told(vec![s(2), Item::Progress(3), e(3)]),
        Violation::OutOfOrder { revision: 3, .. }
    ));
    assert!(matches!(
        told(vec![s(2), Item::Progress(3)]),
        Violation::Gap { missing: 2, .. }
    ));
    let wrong = event(3, "k2", Some(version("w", 3, 3, 1)));
    assert!(matches!(
        told(vec![s(2), e(2), wrong]),
        Violation::Differs { revision: 3, .. }
    ));
    assert!(matches!(
        told(vec![s(2), e(2), Item::Compacted(4)]),
        Violation::NotCompacted { revision: 4, .. }
    ));
    // The witness itself.
    let gap = faults(puts(), vec![all(vec![e(2), e(4), e(5)])]);
    assert!(matches!(gap[0], Violation::Gap { missing: 3, .. }));
}

#[test]
fn compaction_takes_away_what_was_asked_for_and_for_good() {
    let a = || {
        vec![
            event(2, "a", Some(version("1", 2, 2, 1))),
            event(3, "a", Some(version("2", 2, 3, 2))),
        ]
    };
    let puts = || {
        vec![
            done(1, put("a", "1"), 2, Answer::Done),
            done(2, put("a", "2"), 3, Answer::Done),
        ]
    };
    let past = Op::Step(Step::Range(Span::one("a"), 2));
    let refused = call(50, 51, past.clone(), Outcome::Refused(Refusal::Compacted));
    let found = first([puts(), vec![refused.clone()]].concat(), a());
    assert!(
        matches!(found, Violation::NotCompacted { revision: 2, .. }),
        "{found}"
    );
    let compact = call(
        40,
        41,
        Op::Compact { revision: 3 },
        Outcome::Done(3, Answer::Done),
    );
    let fine = History {
        calls: [puts(), vec![compact.clone(), refused]].concat(),
        watches: vec![all(a())],
        keeps: None,
    };
    assert!(check(&fine).is_ok());
    let shown = Outcome::Done(3, Answer::Found(vec![("a".into(), version("1", 2, 2, 1))]));
    let found = first([puts(), vec![compact, call(50, 51, past, shown)]].concat(), a());
    assert_eq!(
        found,
        Violation::Resurrected {
            call: 2 + 1,
            revision: 2
        }
    );
}

#[test]
fn the_end_of_a_lease_takes_all_its_keys_at_once_and_for_good() {
    let on = |value: &str, r| Version {
        lease: 7,
        ..version(value, r, r, 1)
    };
    let leased = |key: &str, value: &str| Step::Put {
        key: key.into(),
        value: value.into(),
        lease: 7,
    };
    let start = || {
        vec![
            call(
                1,
                2,
                Op::Grant {
                    lease: 7,
                    short: false,
                },
                Outcome::Done(1, Answer::Done),
            ),
            done(1, leased("a", "1"), 2, Answer::Done),
            done(2, leased("b", "2"), 3, Answer::Done),
        ]
    };
    let puts = || vec![event(2, "a", Some(on("1", 2))), event(3, "b", Some(on("2", 3)))];
    let end = call(40, 41, Op::Revoke { lease: 7 }, Outcome::Done(4, Answer::Done));
    let both = || vec![event(4, "a", None), event(4, "b", None)];
    let fine = History {
        calls: [start(), vec![end.clone()]].concat(),
        watches: vec![all([puts(), both()].concat())],
        keeps: None,
    };
    assert!(check(&fine).is_ok());
    let found = first(
        [start(), vec![end.clone()]].concat(),
        [puts(), vec![event(4, "a", None)]].concat(),
    );
    assert!(matches!(found, Violation::Lost { call: 3, .. }), "{found}");
    // A long lease does not end by itself.
    let found = first(start(), [puts(), both()].concat());
    assert!(matches!(found, Violation::NoCause { revision: 4, .. }), "{found}");
    let after = done(9, leased("c", "3"), 5, Answer::Done);
    let items = [puts(), both(), vec![event(5, "c", Some(on("3", 5)))]].concat();
    let found = first([start(), vec![end, after]].concat(), items);
    assert!(
        matches!(
            found,
            Violation::EndedLease {
                revision: 5,
                lease: 7,
                ended: 4,
                ..
            }
        ),
        "{found}"
    );
}
