//! The physical half of a compaction: removing, a little at a time, what no reader can ask for any more.
//!
//! Below the compacted revision C the log keeps a put only if it was current at C and is not any more. What was current
//! at C and still is, is in `keys`. Entries of C itself stay: a watch may start there. The pass goes upwards, so that
//! whatever a kill leaves behind is a state in which the same pass can start again.

use redb::ReadableTable;

use crate::apply::Batch;
use crate::error::RequestError;
use crate::record::{Change, Current};

/// Entries looked at per step, so that a step delays waiting writers by milliseconds only.
const STEP: usize = 512;

/// A pass that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scrub {
    target: i64,
    next: (i64, u32),
}

impl Scrub {
    /// A pass that brings the tables to a compaction at `target`.
    pub(crate) fn to(target: i64) -> Self {
        Self {
            target,
            next: (i64::MIN, 0),
        }
    }

    /// Does one step; returns what is left, if anything.
    pub(crate) fn step(mut self, batch: &mut Batch<'_>) -> Result<Option<Self>, RequestError> {
        let mut drop = Vec::new();
        let mut seen = 0;
        for entry in batch.log.range(self.next..(self.target, 0))? {
            let (place, record) = entry?;
            let place = place.value();
            let (put, key) = Change::peek(record.value())?;
            if !put || self.superseded(batch, key, place)? {
                drop.push((place, key.to_vec()));
            }
            self.next = (place.0, place.1.saturating_add(1));
            seen += 1;
            if seen == STEP {
                break;
            }
        }
        for (place, key) in drop {
            batch.log.remove(place)?;
            batch.history.remove((key.as_slice(), place.0, place.1))?;
        }
        if seen == STEP {
            return Ok(Some(self));
        }
        batch.scrubbed(self.target)?;
        Ok(None)
    }

    /// Whether a put is not needed in the log: replaced by the time of the compaction, or still current.
    fn superseded(
        &self,
        batch: &Batch<'_>,
        key: &[u8],
        (rev, sub): (i64, u32),
    ) -> Result<bool, RequestError> {
        let later = (key, rev, sub.saturating_add(1))..=(key, self.target, u32::MAX);
        if batch.history.range(later)?.next().transpose()?.is_some() {
            return Ok(true);
        }
        match batch.keys.get(key)? {
            Some(record) => Ok(Current::modified(record.value())? == rev),
            None => Ok(false),
        }
    }
}
