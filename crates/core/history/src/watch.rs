//! Watches: the witness's log, and whether the others were told the same.

use std::collections::HashSet;

use crate::log::{EMPTY, Log};
use crate::record::{Call, Event, History, Item, Op, Outcome, Span, Version, Watch};
use crate::violation::Violation;

/// What a watch was told without an interruption.
struct Segment<'a> {
    start: i64,
    events: Vec<(&'a Event, Option<&'a Version>)>,
    /// All up to here was shown.
    upto: i64,
    compacted: Option<i64>,
}

/// The stretches of a watch, each checked for order and repetition.
fn segments(watch: &Watch) -> Result<Vec<Segment<'_>>, Violation> {
    let mut all: Vec<Segment<'_>> = Vec::new();
    // Keys of the revision that is being shown; none when it is over.
    let mut going_on: Option<HashSet<&str>> = None;
    for item in &watch.items {
        if let Item::Start(start) = item {
            going_on = None;
            if let Some(last) = all.last_mut().filter(|last| last.compacted.is_none()) {
                // Who goes on further ahead says that there was nothing in between.
                last.upto = last.upto.max(start - 1);
            }
            all.push(Segment {
                start: *start,
                events: Vec::new(),
                upto: start - 1,
                compacted: None,
            });
            continue;
        }
        let Some(segment) = all.last_mut() else {
            return Err(Violation::NoWitness);
        };
        match item {
            Item::Start(_) => {}
            Item::Progress(revision) => {
                segment.upto = segment.upto.max(*revision);
                going_on = None;
            }
            Item::Compacted(revision) => segment.compacted = Some(*revision),
            Item::Event(event, before) => {
                if event.revision > segment.upto {
                    going_on = Some(HashSet::new());
                }
                let same = event.revision >= segment.upto;
                let new = same && going_on.as_mut().is_some_and(|keys| keys.insert(&event.key));
                if !new {
                    return Err(again(watch, segment, event));
                }
                segment.upto = event.revision;
                segment.events.push((event, before.as_ref()));
            }
        }
    }
    Ok(all)
}

/// What is wrong with an event at or before what was shown already.
fn again(watch: &Watch, segment: &Segment<'_>, event: &Event) -> Violation {
    let mut earlier = segment.events.iter();
    if earlier.any(|(e, _)| e.revision == event.revision && e.key == event.key) {
        Violation::Twice {
            watch: watch.name.clone(),
            revision: event.revision,
            key: event.key.clone(),
        }
    } else {
        Violation::OutOfOrder {
            watch: watch.name.clone(),
            revision: event.revision,
            after: segment.upto,
        }
    }
}

/// The log of the watch that saw all, and came furthest.
pub(crate) fn witness(history: &History) -> Result<Log, Violation> {
    let whole = |watch: &&Watch| {
        watch.span.is_none()
            && watch.items.first() == Some(&Item::Start(EMPTY + 1))
            && !watch.items.iter().any(|item| matches!(item, Item::Compacted(_)))
    };
    let upto = |watch: &&Watch| {
        let last = watch.items.iter().rev().find_map(|item| match item {
            Item::Event(event, _) => Some(event.revision),
            _ => None,
        });
        last.unwrap_or(EMPTY)
    };
    let candidates = history.watches.iter().filter(whole);
    let watch = candidates.max_by_key(upto).ok_or(Violation::NoWitness)?;
    let mut log = Log::default();
    for segment in segments(watch)? {
        let gap = |missing, next| Violation::Gap {
            watch: watch.name.clone(),
            missing,
            next,
        };
        if segment.start > log.last() + 1 {
            return Err(gap(log.last() + 1, segment.start));
        }
        for same in segment.events.chunk_by(|(a, _), (b, _)| a.revision == b.revision) {
            let revision = same.first().map_or(0, |(event, _)| event.revision);
            if revision <= log.last() {
                // Asked for again after an interruption; compared with the others below.
                continue;
            }
            if revision > log.last() + 1 {
                return Err(gap(log.last() + 1, revision));
            }
            log.push(same.iter().map(|(event, _)| (*event).clone()).collect());
        }
        if segment.upto > log.last() {
            return Err(gap(log.last() + 1, segment.upto));
        }
    }
    Ok(log)
}

/// Compares a watch with the log.
pub(crate) fn compare(watch: &Watch, log: &Log, compactions: &Compactions<'_>, faults: &mut Vec<Violation>) {
    let segments = match segments(watch) {
        Ok(segments) => segments,
        Err(fault) => return faults.push(fault),
    };
    for segment in segments {
        if let Some(revision) = segment.compacted
            && !compactions.asked(revision, u64::MAX)
        {
            faults.push(Violation::NotCompacted {
                who: format!("watch {}", watch.name),
                revision,
            });
        }
        if let Err(fault) = shown(watch, &segment, log) {
            faults.push(fault);
        }
    }
}

fn shown(watch: &Watch, segment: &Segment<'_>, log: &Log) -> Result<(), Violation> {
    let wanted = |event: &&Event| {
        watch
            .span
            .as_ref()
            .is_none_or(|span: &Span| span.contains(&event.key))
    };
    let mut parts = segment
        .events
        .chunk_by(|(a, _), (b, _)| a.revision == b.revision)
        .peekable();
    for revision in segment.start..=segment.upto {
        let expected: Vec<&Event> = log.changes(revision).iter().filter(wanted).collect();
        let found = parts.next_if(|part| part.first().is_some_and(|(event, _)| event.revision == revision));
        let found = found.unwrap_or_default();
        if found.is_empty() && !expected.is_empty() {
            return Err(Violation::Gap {
                watch: watch.name.clone(),
                missing: revision,
                next: segment.upto,
            });
        }
        let differs = |what: String| Violation::Differs {
            watch: watch.name.clone(),
            revision,
            what,
        };
        if !found.iter().map(|(event, _)| *event).eq(expected.iter().copied()) {
            let found: Vec<_> = found.iter().map(|(event, _)| *event).collect();
            return Err(differs(format!("expected {expected:?}, found {found:?}")));
        }
        for (event, before) in found {
            let was = log.get(&event.key, revision - 1);
            if before.is_some() && *before != was {
                return Err(differs(format!(
                    "version before: expected {was:?}, found {before:?}"
                )));
            }
        }
    }
    Ok(())
}

/// The compactions that were asked for.
pub(crate) struct Compactions<'a> {
    calls: Vec<(i64, &'a Call)>,
    /// Up to here the store may have compacted by itself.
    by_itself: i64,
}

impl<'a> Compactions<'a> {
    pub(crate) fn of(history: &'a History, log: &Log) -> Self {
        let asked = |call: &'a Call| match call.op {
            Op::Compact { revision } => Some((revision, call)),
            _ => None,
        };
        Self {
            calls: history.calls.iter().filter_map(asked).collect(),
            by_itself: history.keeps.map_or(0, |keeps| log.last() - keeps),
        }
    }

    /// Whether somebody compacted to this revision or further, with a call made before that time, or the store may have.
    pub(crate) fn asked(&self, revision: i64, before: u64) -> bool {
        revision <= self.by_itself
            || self
                .calls
                .iter()
                .any(|(to, call)| *to >= revision && call.invoked < before && !refused(call))
    }

    /// Whether a compaction to this revision or further was acknowledged before that time.
    pub(crate) fn done(&self, revision: i64, before: u64) -> bool {
        self.calls.iter().any(|(to, call)| {
            *to >= revision && call.returned < before && matches!(call.outcome, Outcome::Done(..))
        })
    }
}

fn refused(call: &Call) -> bool {
    matches!(call.outcome, Outcome::Refused(_))
}
