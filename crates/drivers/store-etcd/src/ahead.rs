//! What is known of a list beyond the page that was given out.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use caracal_api::{Kind, Resource};
use caracal_store::{ListOptions, StoreError};
use caracal_wire::{Bytes, KeyValue};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    list::{Part, read_now},
    transport::Failed,
};

/// So many objects are decoded on the spot.
const FEW: usize = 100;
/// Objects of a piece. What a piece took on its way is used again by the pieces behind it, while it is still near the CPU.
const PIECE: usize = 256;
/// Pieces that are decoded, or being so, before anybody asks for them.
const DEPTH: usize = 4;
/// Lists that are read ahead at the same time. One that nobody goes on with is dropped when there are more.
const LISTS: usize = 16;
/// The newest state of a list is not the newest any more after this.
const NEWEST: Duration = Duration::from_secs(2);

/// Objects that follow each other, and the last key of them, read or not.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) items: Vec<Resource>,
    pub(crate) malformed: Vec<StoreError>,
    pub(crate) last: Option<Bytes>,
}

impl Piece {
    fn read(kind: Kind, options: &ListOptions, kvs: &[KeyValue]) -> Self {
        let (items, malformed) = read_now(kind, options, kvs);
        Self {
            items,
            malformed,
            last: kvs.last().map(|kv| kv.key.clone()),
        }
    }
}

#[derive(Debug)]
enum Decoding {
    Done(Piece),
    Beside(JoinHandle<Piece>),
}

/// The page behind the one that is being read.
#[derive(Debug)]
enum Next {
    None,
    Known(Part),
    Asked(JoinHandle<Result<Reading, Failed>>),
}

/// A page of etcd's that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    kind: Kind,
    options: ListOptions,
    pub(crate) revision: i64,
    /// Where the list ends.
    pub(crate) end: Bytes,
    raw: std::vec::IntoIter<KeyValue>,
    pieces: VecDeque<Decoding>,
    next: Next,
}

impl Reading {
    pub(crate) fn begin(
        kind: Kind,
        options: ListOptions,
        revision: i64,
        end: Bytes,
        kvs: Vec<KeyValue>,
        next: Option<Part>,
    ) -> Self {
        let mut reading = Self {
            kind,
            options,
            revision,
            end,
            raw: Vec::new().into_iter(),
            pieces: VecDeque::new(),
            next: next.map_or(Next::None, Next::Known),
        };
        if kvs.len() <= FEW {
            let piece = Piece::read(kind, &reading.options, &kvs);
            reading.pieces.push_back(Decoding::Done(piece));
        } else {
            reading.raw = kvs.into_iter();
            reading.decode_ahead();
        }
        reading
    }

    fn decode_ahead(&mut self) {
        while self.pieces.len() < DEPTH && self.raw.len() > 0 {
            let kvs: Vec<KeyValue> = self.raw.by_ref().take(PIECE).collect();
            let (kind, options) = (self.kind, self.options.clone());
            let work = spawn_blocking(move || Piece::read(kind, &options, &kvs));
            self.pieces.push_back(Decoding::Beside(work));
        }
    }

    /// The next piece; an empty one when there is none.
    pub(crate) async fn piece(&mut self) -> Result<Piece, StoreError> {
        let piece = match self.pieces.pop_front() {
            None => return Ok(Piece::default()),
            Some(Decoding::Done(piece)) => piece,
            Some(Decoding::Beside(work)) => work.await.map_err(|e| match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(e) => StoreError::Unavailable(format!("the program is ending: {e}")),
            })?,
        };
        self.decode_ahead();
        Ok(piece)
    }

    /// All pieces of the page as one.
    pub(crate) async fn all(&mut self) -> Result<Piece, StoreError> {
        let mut all = self.piece().await?;
        while !self.pieces.is_empty() {
            let more = self.piece().await?;
            all.items.extend(more.items);
            all.malformed.extend(more.malformed);
            all.last = more.last;
        }
        Ok(all)
    }

    /// Whether the list has more than was given out.
    pub(crate) fn goes_on(&self) -> bool {
        !self.pieces.is_empty() || !matches!(self.next, Next::None)
    }

    /// The next page, if it is to be asked for.
    pub(crate) fn ask_next(&self) -> Option<Part> {
        match &self.next {
            Next::Known(part) => Some(part.clone()),
            _ => None,
        }
    }

    pub(crate) fn next_is_asked(&mut self, coming: JoinHandle<Result<Self, Failed>>) {
        self.next = Next::Asked(coming);
    }

    /// What follows the pieces that were given out.
    pub(crate) fn rest(self) -> Coming {
        match (self.pieces.is_empty(), self.next) {
            (true, Next::Asked(coming)) => Coming::Asked(coming),
            (_, next) => Coming::Read(Box::new(Self { next, ..self })),
        }
    }
}

/// The rest of a list.
#[derive(Debug)]
pub(crate) enum Coming {
    /// Asked for.
    Asked(JoinHandle<Result<Reading, Failed>>),
    /// There, at least in part.
    Read(Box<Reading>),
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    options: ListOptions,
    place: Part,
    since: Instant,
    coming: Coming,
}

/// The lists that are read ahead.
#[derive(Debug, Default)]
pub(crate) struct Ahead(Mutex<Vec<Entry>>);

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn put(&self, kind: Kind, options: &ListOptions, place: Part, coming: Coming) {
        let mut all = self.lock();
        if all.len() == LISTS
            && let Coming::Asked(coming) = all.remove(0).coming
        {
            coming.abort();
        }
        all.push(Entry {
            kind,
            options: options.clone(),
            place,
            since: Instant::now(),
            coming,
        });
    }

    /// What follows at the same place of the same list, as the same reader wants it.
    pub(crate) fn take(&self, kind: Kind, options: &ListOptions, wanted: &Part) -> Option<Coming> {
        let mut all = self.lock();
        all.retain(|e| e.place.at != 0 || e.since.elapsed() < NEWEST);
        let place = |p: &Part| (p.at, p.start.clone(), p.end.clone());
        let reader = |o: &ListOptions| {
            (
                o.namespace.clone(),
                o.name_prefix.clone(),
                o.labels.clone(),
                o.for_node.clone(),
            )
        };
        let found = all.iter().position(|e| {
            e.kind == kind && place(&e.place) == place(wanted) && reader(&e.options) == reader(options)
        })?;
        Some(all.remove(found).coming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(n: usize, at: i64) -> Part {
        Part {
            start: format!("/a{n}").into(),
            end: "/b".into(),
            at,
            limit: 7,
        }
    }

    fn reading(revision: i64) -> Coming {
        let options = ListOptions::default();
        let (kvs, end) = (Vec::new(), "/b".into());
        Coming::Read(Box::new(Reading::begin(
            Kind::Tier,
            options,
            revision,
            end,
            kvs,
            None,
        )))
    }

    #[test]
    fn what_is_read_ahead_is_found_by_place_and_reader_and_the_oldest_gives_way() {
        let (ahead, all) = (Ahead::default(), ListOptions::default());
        for n in 0..=LISTS {
            ahead.put(Kind::Tier, &all, part(n, 7), reading(n.try_into().unwrap()));
        }
        assert!(ahead.take(Kind::Tier, &all, &part(0, 7)).is_none());
        assert!(ahead.take(Kind::Profile, &all, &part(3, 7)).is_none());
        assert!(ahead.take(Kind::Tier, &all, &part(3, 8)).is_none());
        let other = ListOptions {
            for_node: Some("n".into()),
            ..ListOptions::default()
        };
        assert!(ahead.take(Kind::Tier, &other, &part(3, 7)).is_none());
        let Some(Coming::Read(found)) = ahead.take(Kind::Tier, &all, &part(3, 7)) else {
            panic!("it was put there")
        };
        assert_eq!(found.revision, 3);
        assert!(ahead.take(Kind::Tier, &all, &part(3, 7)).is_none());
    }

    #[test]
    fn the_newest_state_of_a_list_gets_old() {
        let (ahead, all) = (Ahead::default(), ListOptions::default());
        for n in 0..2 {
            ahead.put(Kind::Tier, &all, part(n, 0), reading(1));
        }
        assert!(ahead.take(Kind::Tier, &all, &part(0, 0)).is_some());
        let long_ago = Instant::now().checked_sub(NEWEST).unwrap();
        ahead.lock()[0].since = long_ago;
        assert!(ahead.take(Kind::Tier, &all, &part(1, 0)).is_none());
    }

    #[tokio::test]
    async fn a_page_comes_in_pieces_and_in_order() {
        let kv = |n: usize| KeyValue {
            key: format!("/calico/resources/v3/projectcalico.org/tiers/t{n:05}").into(),
            value: if n == 300 { "{" } else { "{}" }.into(),
            ..KeyValue::default()
        };
        let kvs: Vec<KeyValue> = (0..3 * PIECE + 1).map(kv).collect();
        let begin = || {
            let (options, end) = (ListOptions::default(), Bytes::from("/z"));
            Reading::begin(Kind::Tier, options, 9, end, kvs.clone(), None)
        };
        let mut reading = begin();
        let (mut names, mut malformed, mut last) = (Vec::new(), 0, None);
        while reading.goes_on() {
            let piece = reading.piece().await.unwrap();
            names.extend(piece.items.iter().map(|r| r.metadata().name.clone()));
            malformed += piece.malformed.len();
            last = piece.last;
        }
        assert!(names.is_sorted());
        assert_eq!((names.len(), malformed), (3 * PIECE, 1));
        assert_eq!(last, kvs.last().map(|kv| kv.key.clone()));
        let all = begin().all().await.unwrap();
        assert_eq!((all.items.len(), all.last), (3 * PIECE, last));
    }
}
