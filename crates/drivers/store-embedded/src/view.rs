//! Reading keys as they are and as they were.
//!
//! The present is in `keys`. The past is in `history` and `log`, which after a compaction hold only what a reader of a
//! revision that is still allowed can ask for: a version that was current at the compaction and still is, is in `keys`
//! alone (whoever overwrites it moves it to the log first).

use std::ops::{Bound, ControlFlow};

use caracal_wire::KeyValue;
use redb::ReadableTable;

use crate::error::RequestError;
use crate::record::{Change, Current};
use crate::span::Span;

/// The tables, open for reading or for writing.
pub(crate) trait Source {
    /// Type of the open `keys` table.
    type Keys: ReadableTable<&'static [u8], &'static [u8]>;
    /// Type of the open `log` table.
    type Log: ReadableTable<(i64, u32), &'static [u8]>;
    /// Type of the open `history` table.
    type History: ReadableTable<(&'static [u8], i64, u32), bool>;

    fn keys(&self) -> &Self::Keys;
    fn log(&self) -> &Self::Log;
    fn history(&self) -> &Self::History;
    /// The latest revision there is, the one being written included.
    fn revision(&self) -> i64;
    /// The oldest revision that can be read.
    fn compacted(&self) -> i64;
}

/// A place in the log.
type Place = (i64, u32);

/// The revision a read is done at: `asked` or, when that is 0, the present one.
pub(crate) fn resolve(source: &impl Source, asked: i64) -> Result<i64, RequestError> {
    if asked <= 0 {
        Ok(source.revision())
    } else if asked > source.revision() {
        Err(RequestError::FutureRevision)
    } else if asked < source.compacted() {
        Err(RequestError::Compacted)
    } else {
        Ok(asked)
    }
}

/// The present version of a key.
pub(crate) fn current(source: &impl Source, key: &[u8]) -> Result<Option<Current>, RequestError> {
    let found = source.keys().get(key)?;
    Ok(found
        .map(|guard| Current::decode(key, guard.value()))
        .transpose()?)
}

/// A key's version at a revision.
pub(crate) fn get(source: &impl Source, key: &[u8], at: i64) -> Result<Option<KeyValue>, RequestError> {
    let present = current(source, key)?;
    match present {
        Some(present) if present.kv.mod_revision <= at => Ok(Some(present.kv)),
        _ if at >= source.revision() => Ok(None),
        _ => match latest(source, key, (at, u32::MAX))? {
            Some((place, true)) => logged(source, place).map(|change| Some(change.kv)),
            Some((_, false)) | None => Ok(None),
        },
    }
}

/// The version a change replaced, if it is still known.
pub(crate) fn before(
    source: &impl Source,
    key: &[u8],
    (rev, sub): Place,
) -> Result<Option<KeyValue>, RequestError> {
    let range = (key, i64::MIN, 0)..(key, rev, sub);
    let Some(entry) = source.history().range(range)?.next_back() else {
        return Ok(None);
    };
    let (place, put) = entry?;
    let (_, rev, sub) = place.value();
    if put.value() {
        logged(source, (rev, sub)).map(|change| Some(change.kv))
    } else {
        Ok(None)
    }
}

/// The last change of a key up to and including a place, and whether it is a put.
fn latest(
    source: &impl Source,
    key: &[u8],
    (rev, sub): Place,
) -> Result<Option<(Place, bool)>, RequestError> {
    let range = (key, i64::MIN, 0)..=(key, rev, sub);
    let Some(entry) = source.history().range(range)?.next_back() else {
        return Ok(None);
    };
    let (place, put) = entry?;
    let (_, rev, sub) = place.value();
    Ok(Some(((rev, sub), put.value())))
}

fn logged(source: &impl Source, place: Place) -> Result<Change, RequestError> {
    match source.log().get(place)? {
        Some(bytes) => Ok(Change::decode(place.0, bytes.value())?),
        None => Err(RequestError::Storage(format!(
            "the database is damaged: revision {}.{} is in the index but not in the log",
            place.0, place.1
        ))),
    }
}

/// One key met by [`scan`]; the version is decoded only when asked for.
pub(crate) enum Found<'a> {
    Present { key: &'a [u8], record: &'a [u8] },
    Past { place: Place },
}

impl Found<'_> {
    /// The version itself.
    pub(crate) fn load(&self, source: &impl Source) -> Result<KeyValue, RequestError> {
        match self {
            Found::Present { key, record } => Ok(Current::decode(key, record)?.kv),
            Found::Past { place } => Ok(logged(source, *place)?.kv),
        }
    }
}

/// Shows every key of the span that existed at a revision, in order of keys, until `visit` breaks.
pub(crate) fn scan(
    source: &impl Source,
    span: &Span,
    at: i64,
    visit: &mut dyn FnMut(Found<'_>) -> Result<ControlFlow<()>, RequestError>,
) -> Result<(), RequestError> {
    if span.is_empty() {
        return Ok(());
    }
    let mut present = source.keys().range::<&[u8]>(span.bounds())?;
    if at >= source.revision() {
        for entry in present {
            let (key, record) = entry?;
            if visit(Found::Present {
                key: key.value(),
                record: record.value(),
            })?
            .is_break()
            {
                return Ok(());
            }
        }
        return Ok(());
    }
    let mut past = Past::new(source, span, at)?;
    let mut then = past.next()?;
    let mut now = present.next().transpose()?;
    loop {
        // The next key in order is the smaller of the two; a key in both is current if it was so at the revision.
        let flow = match (&now, &then) {
            (None, None) => return Ok(()),
            (Some((key, record)), past_key)
                if past_key.as_ref().is_none_or(|p| key.value() <= p.key.as_slice()) =>
            {
                let same = past_key.as_ref().filter(|p| p.key == key.value());
                let found = if Current::modified(record.value())? <= at {
                    Some(Found::Present {
                        key: key.value(),
                        record: record.value(),
                    })
                } else {
                    same.and_then(|p| p.put).map(|place| Found::Past { place })
                };
                let flow = found.map_or(Ok(ControlFlow::Continue(())), &mut *visit)?;
                if same.is_some() {
                    then = past.next()?;
                }
                now = present.next().transpose()?;
                flow
            }
            (_, Some(was)) => {
                let flow = was.put.map_or(Ok(ControlFlow::Continue(())), |place| {
                    visit(Found::Past { place })
                })?;
                then = past.next()?;
                flow
            }
            (Some(_), None) => return Ok(()),
        };
        if flow.is_break() {
            return Ok(());
        }
    }
}

/// The keys of a span that the history knows, each with its last put at a revision (if it then existed).
struct Past<'s, S: Source> {
    entries: redb::Range<'s, (&'static [u8], i64, u32), bool>,
    at: i64,
    /// First entry of the next key, already read.
    ahead: Option<(Vec<u8>, Place, bool)>,
    source: std::marker::PhantomData<&'s S>,
}

struct PastKey {
    key: Vec<u8>,
    put: Option<Place>,
}

impl<'s, S: Source> Past<'s, S> {
    fn new(source: &'s S, span: &Span, at: i64) -> Result<Self, RequestError> {
        let (start, end) = span.bounds();
        let lower = match start {
            Bound::Included(key) | Bound::Excluded(key) => Bound::Included((key, i64::MIN, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let upper = match end {
            Bound::Included(key) => Bound::Included((key, i64::MAX, u32::MAX)),
            Bound::Excluded(key) => Bound::Excluded((key, i64::MIN, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let entries = source.history().range::<(&[u8], i64, u32)>((lower, upper))?;
        let mut past = Self {
            entries,
            at,
            ahead: None,
            source: std::marker::PhantomData,
        };
        past.ahead = past.read()?;
        Ok(past)
    }

    fn read(&mut self) -> Result<Option<(Vec<u8>, Place, bool)>, RequestError> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let (place, put) = entry?;
        let (key, rev, sub) = place.value();
        Ok(Some((key.to_vec(), (rev, sub), put.value())))
    }

    fn next(&mut self) -> Result<Option<PastKey>, RequestError> {
        let Some((key, place, put)) = self.ahead.take() else {
            return Ok(None);
        };
        let mut last = (place.0 <= self.at && put).then_some(place);
        loop {
            match self.read()? {
                Some((next, place, put)) if next == key => {
                    if place.0 <= self.at {
                        last = put.then_some(place);
                    }
                }
                other => {
                    self.ahead = other;
                    return Ok(Some(PastKey { key, put: last }));
                }
            }
        }
    }
}
