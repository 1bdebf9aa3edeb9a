//! Packets while one state becomes the next: what both allow is never lost, what both deny never arrives.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use caracal_policy_fuzz::{Case, Reference};

use super::packet::{Tag, encode};
use super::wire::Wire;
use super::{Node, QUIET, rounds};
use crate::policy_fuzz::kernel::hands::{Hands, Kill};

/// How long a packet that must arrive may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two sweeps: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(1);
/// Sweeps before the change begins and after it is in force.
const AROUND: u32 = 2;

/// What is known about a packet in all states that the kernel may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Always {
    Allowed,
    Denied,
}

/// Packets that are sent again and again, and what has become of them.
struct Stream<'a> {
    case: &'a Case,
    number: u32,
    packets: Vec<(usize, Always)>,
    sent: usize,
}

/// A case, and what becomes of it, for people.
fn differences(old: &Case, new: &Case) -> String {
    let only = |of: &Case, not: &Case| {
        let mut of = of.clone();
        of.trips.clear();
        of.objects.retain(|o| !not.objects.contains(o));
        of.to_yaml()
    };
    let mut all = old.clone();
    all.trips.clear();
    format!(
        "\n# before\n{}# what goes\n{}# what comes\n{}",
        all.to_yaml(),
        only(old, new),
        only(new, old)
    )
}

/// The states between two cases, whatever order their differences are seen in.
fn between(old: &Case, new: &Case) -> Vec<Case> {
    let key = |case: &Case| -> BTreeSet<_> { case.objects.iter().map(caracal_api::Resource::key).collect() };
    let find =
        |case: &Case, key: &caracal_api::ResourceKey| case.objects.iter().find(|o| o.key() == *key).cloned();
    let keys: Vec<_> = key(old).union(&key(new)).cloned().collect();
    let changed: Vec<_> = keys.iter().filter(|k| find(old, k) != find(new, k)).collect();
    let states = 0..1_usize << changed.len();
    let state = |which: usize| {
        let mut state = old.clone();
        for (n, key) in changed.iter().enumerate().filter(|(n, _)| which >> n & 1 == 1) {
            debug_assert!(n < changed.len());
            state.objects.retain(|o| o.key() != **key);
            state.objects.extend(find(new, key));
        }
        state
    };
    states.map(state).collect()
}

impl<'a> Stream<'a> {
    /// The packets of a case about which all states agree, of those that can be under way together.
    fn new(case: &'a Case, states: &[Case], number: u32) -> Self {
        let all: Vec<usize> = (0..case.trips.len()).collect();
        let together = rounds(&case.trips, &all).into_iter().next().unwrap_or_default();
        let states: Vec<_> = states.iter().map(Case::in_force).collect();
        let references: Vec<Reference<'_>> = states.iter().map(|s| Reference::new(s, None)).collect();
        let always = |n: &usize| {
            let mut verdicts = references.iter().map(|r| r.allows(&case.trips[*n]));
            let first = verdicts.next()?;
            let same = verdicts.all(|v| v == first);
            same.then_some((*n, if first { Always::Allowed } else { Always::Denied }))
        };
        Self {
            case,
            number,
            packets: together.iter().filter_map(always).collect(),
            sent: 0,
        }
    }

    /// Sends each packet once, and waits for those that must arrive.
    fn sweep(&mut self, wire: &Wire, time: u32) -> anyhow::Result<()> {
        let mut missing = BTreeSet::new();
        for (n, always) in &self.packets {
            let tag = Tag {
                case: self.number,
                packet: u32::try_from(*n).context("more packets than can be numbered")?,
                time,
            };
            let trip = &self.case.trips[*n];
            wire.send(trip, &encode(trip, tag))?;
            if *always == Always::Allowed {
                missing.insert(*n);
            }
        }
        self.sent += self.packets.len();
        let deadline = Instant::now() + PATIENCE;
        while let Some(first) = missing.first() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "{} was lost (with {} others, of {} that are always allowed)",
                    self.words(*first),
                    missing.len() - 1,
                    self.packets.iter().filter(|p| p.1 == Always::Allowed).count()
                );
            }
            if let Some((_, tag)) = wire.next(left)? {
                self.take(tag)?;
                if tag.case == self.number && tag.time == time {
                    missing.remove(&(tag.packet as usize));
                }
            }
        }
        Ok(())
    }

    /// What has arrived must not have been denied.
    fn take(&self, tag: Tag) -> anyhow::Result<()> {
        let n = tag.packet as usize;
        let denied = self.packets.contains(&(n, Always::Denied));
        ensure!(
            tag.case != self.number || !denied,
            "{} arrived, though no state allows it",
            self.words(n)
        );
        Ok(())
    }

    fn words(&self, n: usize) -> String {
        let trip = &self.case.trips[n];
        format!("packet {n}: {} by {:?}", trip.packet, trip.way)
    }

    /// Sends until it is told to stop, and a little longer.
    fn flow(&mut self, wire: &mut Wire, started: &AtomicBool, stop: &AtomicBool) -> anyhow::Result<()> {
        let (mut time, mut after) = (0, 0);
        while after < AROUND {
            self.sweep(wire, time)?;
            time += 1;
            started.fetch_or(time >= AROUND, Ordering::AcqRel);
            after += u32::from(stop.load(Ordering::Acquire));
            thread::park_timeout(PAUSE);
        }
        while let Some((_, tag)) = wire.next(QUIET)? {
            self.take(tag)?;
        }
        Ok(())
    }
}

impl Node {
    /// Brings cases into force one after the other, with packets all the while; how many were sent. With `kill` the agent
    /// or the datastore is killed and started again in the middle of each third change.
    pub(super) fn history(&mut self, cases: &[Case], kill: bool) -> anyhow::Result<usize> {
        let Some(first) = cases.first() else { return Ok(0) };
        self.hands.disorder();
        self.apply(first)?;
        let mut sent = 0;
        for (n, pair) in cases.windows(2).enumerate() {
            let [old, new] = pair else { continue };
            let kill = match n % 6 {
                2 if kill => Some(Kill::Agent),
                5 if kill => Some(Kill::Store),
                _ => None,
            };
            let changed = self.change(old, new, kill);
            sent += changed.with_context(|| format!("{}change {}", differences(old, new), n + 1))?;
        }
        Ok(sent)
    }

    fn change(&mut self, old: &Case, new: &Case, kill: Option<Kill>) -> anyhow::Result<usize> {
        self.cases += 1;
        self.connections.forget()?;
        let states = between(old, new);
        let mut stream = Stream::new(new, &states, self.cases);
        let (started, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let (wire, hands) = (&mut self.wire, &mut self.hands);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let flowed = stream.flow(wire, &started, &stop);
                // Whoever waits for the start must not wait for ever.
                started.store(true, Ordering::Release);
                flowed.map(|()| stream.sent)
            });
            while !started.load(Ordering::Acquire) {
                thread::park_timeout(PAUSE);
            }
            let done = hands.change(new, kill);
            stop.store(true, Ordering::Release);
            let sent = sender
                .join()
                .map_err(|_| anyhow::anyhow!("the sender panicked"))?;
            done?;
            sent
        })
    }

    /// What the agent has in the kernel, and what one has that starts from nothing, when they differ.
    pub(super) fn against_scratch(&mut self, case: &Case) -> anyhow::Result<Option<(String, String)>> {
        let before = self.ruleset()?;
        if let Hands::Agent(following) = &mut self.hands {
            following.restart(|| self.network.forget_tables())?;
        }
        self.apply(case)?;
        let after = self.ruleset()?;
        Ok((before != after).then_some((before, after)))
    }
}
