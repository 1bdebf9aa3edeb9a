//! When leases end. The database knows which leases there are; only this knows how long they have left.
//!
//! Time left is not written down: at a start every lease gets its whole TTL again, so that a server that was away does
//! not take keys from clients that had no chance to keep them alive. For the same reason the time in which the process
//! stood still does not count. The clock of the day plays no part.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::RequestError;

/// Shortest TTL granted, in seconds: etcd's, with its usual settings.
const MIN_TTL: i64 = 2;
/// Longest TTL that may be asked for, in seconds: etcd's limit.
const MAX_TTL: i64 = 9_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    ttl: i64,
    end: Instant,
}

/// How often a running process gives a sign of life.
pub(crate) const BEAT: Duration = Duration::from_millis(200);
/// A sign that is late by so much says that the process was stopped, or its machine.
const STILL: Duration = Duration::from_secs(1);

/// The ends of all leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    entries: Mutex<HashMap<i64, Entry>>,
    /// When the process last gave a sign of life, once it does.
    alive: Mutex<Option<Instant>>,
}

/// What is known of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Granted, in seconds.
    pub(crate) granted: i64,
    /// Left, in seconds.
    pub(crate) left: i64,
}

/// The TTL to grant for one asked for.
pub(crate) fn ttl(asked: i64) -> Result<i64, RequestError> {
    if asked > MAX_TTL {
        Err(RequestError::LeaseTtlTooLarge)
    } else {
        Ok(asked.max(MIN_TTL))
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a lease's time.
    pub(crate) fn start(&self, id: i64, ttl: i64, now: Instant) {
        let end = now + Duration::from_secs(ttl.max(MIN_TTL).unsigned_abs());
        self.lock().insert(id, Entry { ttl, end });
    }

    /// Takes over the leases that there are, with their TTLs: new ones begin, known ones go on, others are forgotten.
    pub(crate) fn adopt(&self, granted: &HashMap<i64, i64>, now: Instant) {
        self.lock().retain(|id, _| granted.contains_key(id));
        for (id, ttl) in granted {
            if !self.lock().contains_key(id) {
                self.start(*id, *ttl, now);
            }
        }
    }

    /// Starts a lease's time anew; none when there is no such lease or its time is over.
    pub(crate) fn renew(&self, id: i64, now: Instant) -> Option<i64> {
        self.wake(now);
        let mut entries = self.lock();
        let entry = entries.get_mut(&id).filter(|entry| entry.end > now)?;
        entry.end = now + Duration::from_secs(entry.ttl.unsigned_abs());
        Some(entry.ttl)
    }

    /// A sign of life. If the one before was long ago, the process stood still: leases get that time back, up to their
    /// whole TTL. Whoever looks at leases gives such a sign, too, lest what came first after a standstill decides.
    pub(crate) fn beat(&self, now: Instant) {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let before = alive.replace(now).unwrap_or(now);
        let still = now.saturating_duration_since(before).saturating_sub(BEAT);
        if still >= STILL {
            tracing::warn!(
                seconds = still.as_secs_f64(),
                "this process stood still; leases get that time back"
            );
            for entry in self.lock().values_mut() {
                let most = now + Duration::from_secs(entry.ttl.unsigned_abs());
                entry.end = (entry.end + still).min(most);
            }
        }
    }

    /// The same, once signs of life are given at all.
    fn wake(&self, now: Instant) {
        let begun = self
            .alive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if begun {
            self.beat(now);
        }
    }

    /// Time left.
    pub(crate) fn left(&self, id: i64, now: Instant) -> Option<Left> {
        self.wake(now);
        let entry = *self.lock().get(&id)?;
        let left = entry.end.saturating_duration_since(now).as_secs();
        Some(Left {
            granted: entry.ttl,
            left: i64::try_from(left).unwrap_or(i64::MAX),
        })
    }

    /// Forgets a lease.
    pub(crate) fn end(&self, id: i64) {
        self.lock().remove(&id);
    }

    /// Leases whose time is over.
    pub(crate) fn over(&self, now: Instant) -> Vec<i64> {
        self.wake(now);
        self.lock()
            .iter()
            .filter(|(_, entry)| entry.end <= now)
            .map(|(id, _)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_lease_lives_on_and_an_ended_one_cannot_be_renewed() {
        let leases = Leases::default();
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        leases.start(7, 10, t0);
        assert_eq!(leases.left(7, at(4)), Some(Left { granted: 10, left: 6 }));
        assert_eq!(leases.renew(7, at(9)), Some(10));
        assert!(leases.over(at(18)).is_empty());
        assert_eq!(leases.over(at(19)), vec![7]);
        assert_eq!(leases.renew(7, at(19)), None);
        leases.end(7);
        assert_eq!(leases.left(7, at(19)), None);
    }

    #[test]
    fn leases_are_taken_over_without_disturbing_those_that_run() {
        let leases = Leases::default();
        let t0 = Instant::now();
        leases.start(1, 10, t0);
        leases.start(2, 10, t0);
        let later = t0 + Duration::from_secs(5);
        leases.adopt(&HashMap::from([(1, 10), (3, 7)]), later);
        let left = |id| leases.left(id, later).map(|left| left.left);
        assert_eq!((left(1), left(2), left(3)), (Some(5), None, Some(7)));
    }

    #[test]
    fn a_standstill_does_not_count() {
        let leases = Leases::default();
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        leases.start(1, 10, t0);
        leases.start(2, 60, t0);
        let mut now = t0;
        while now < at(8) {
            leases.beat(now);
            now += BEAT;
        }
        // An hour passes for all but this process.
        assert_eq!(
            leases.renew(1, at(3608)),
            Some(10),
            "the time was not over when it stopped"
        );
        assert!(leases.over(at(3609)).is_empty());
        let left = leases.left(2, at(3609)).unwrap().left;
        assert!((50..=52).contains(&left), "{left}");
        leases.beat(at(3610));
        // Time does not come back twice, and a lease has never more than its TTL.
        leases.start(3, 10, at(3610));
        leases.beat(at(9000));
        assert_eq!(leases.left(3, at(9000)).map(|left| left.left), Some(9));
    }

    #[test]
    fn ttls_are_bounded() {
        assert_eq!(ttl(-3), Ok(2));
        assert_eq!(ttl(60), Ok(60));
        assert_eq!(ttl(9_000_000_001), Err(RequestError::LeaseTtlTooLarge));
    }
}
