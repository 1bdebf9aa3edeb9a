//! A disk in memory that fails in every way a disk can, and loses what was not synced when its power is cut.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caracal_store_embedded::{Disk, Medium};

use crate::dice::Dice;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How often calls fail: one in so many; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) read: usize,
    /// Nothing is written.
    pub(crate) write: usize,
    /// Some of it is written.
    pub(crate) short: usize,
    pub(crate) full: usize,
    /// Some of what was written is forgotten, and later syncs say nothing of it.
    pub(crate) sync: usize,
}

/// A change that is not synced yet.
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

struct State {
    /// What programs see.
    cache: Vec<u8>,
    /// What is left when the power is cut.
    durable: Vec<u8>,
    changes: Vec<Change>,
    dice: Dice,
    faults: Faults,
    /// No byte can be written from here on: the disk is full.
    end: u64,
    /// Nothing at all can be written, and no file opened for it.
    read_only: bool,
    /// The power is cut.
    dead: bool,
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    pub(crate) failed: Arc<AtomicUsize>,
    /// The next sync fails.
    pub(crate) fail_sync: Arc<AtomicBool>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    pub(crate) fn new(seed: u64, image: Vec<u8>) -> Self {
        let state = State {
            cache: image.clone(),
            durable: image,
            changes: Vec::new(),
            dice: Dice::new(seed),
            faults: Faults::default(),
            end: u64::MAX,
            read_only: false,
            dead: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            failed: Arc::default(),
            fail_sync: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The disk is full from here on; `u64::MAX` is one that is not.
    pub(crate) fn set_end(&self, end: u64) {
        self.lock().end = end;
    }

    /// The disk becomes read-only, or can be written again.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// Cuts the power: nothing works any more. The result is what the disk holds: all that was synced, and of the rest
    /// any part, in sectors.
    pub(crate) fn cut(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.dead = true;
        state.settle();
        state.durable.clone()
    }

    /// Runs a call, or lets it fail.
    fn call<T>(
        &self,
        one_in: impl FnOnce(&Faults) -> usize,
        run: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        if state.dead {
            return Err(io::Error::other("no power"));
        }
        let often = one_in(&state.faults);
        if often > 0 && state.dice.one_in(often) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(5));
        }
        let done = run(&mut state);
        if done.is_err() {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        done
    }
}

impl State {
    /// Brings some of what was not synced to the disk and forgets the rest.
    fn settle(&mut self) {
        let keep = [0, 10, 50, 90, 100][self.dice.below(5)];
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Length(len) if self.dice.below(100) < keep => self.durable.resize(len as usize, 0),
                Change::Length(_) => {}
                Change::Write(offset, data) => {
                    let mut at = offset as usize;
                    for sector in data.chunk_by_sector(at) {
                        if self.dice.below(100) < keep {
                            put(&mut self.durable, at, sector);
                        }
                        at += sector.len();
                    }
                }
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if offset + data.len() as u64 > self.end {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut self.cache, offset as usize, data);
        self.changes.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

trait Sectors {
    /// Cut where sectors end, when it lies there on the disk.
    fn chunk_by_sector(&self, at: usize) -> Vec<&[u8]>;
}

impl Sectors for [u8] {
    fn chunk_by_sector(&self, at: usize) -> Vec<&[u8]> {
        let head = (SECTOR - at % SECTOR).min(self.len());
        let (head, rest) = self.split_at(head);
        std::iter::once(head).chain(rest.chunks(SECTOR)).collect()
    }
}

fn put(to: &mut Vec<u8>, at: usize, data: &[u8]) {
    if to.len() < at + data.len() {
        to.resize(at + data.len(), 0);
    }
    to[at..at + data.len()].copy_from_slice(data);
}

impl Medium for SimDisk {
    fn open(&self, _: &Path) -> io::Result<Box<dyn Disk>> {
        let open = |state: &mut State| {
            if state.read_only {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            Ok(Box::new(self.clone()) as Box<dyn Disk>)
        };
        self.call(|_| 0, open)
    }

    fn open_read_only(&self, _: &Path) -> io::Result<Box<dyn Disk>> {
        self.call(|_| 0, |_| Ok(Box::new(self.clone()) as Box<dyn Disk>))
    }
}

impl Disk for SimDisk {
    fn len(&self) -> io::Result<u64> {
        self.call(|_| 0, |state| Ok(state.cache.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let full = |state: &mut State| {
            if state.read_only {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            if len > state.end {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.cache.resize(len as usize, 0);
            state.changes.push(Change::Length(len));
            Ok(())
        };
        self.call(|f| f.write, full)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = |state: &mut State| {
            let from = offset as usize;
            let found = state.cache.get(from..from + out.len());
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        self.call(|f| f.read, read)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let write = |state: &mut State| {
            let Faults { short, full, .. } = state.faults;
            if short > 0 && data.len() > 1 && state.dice.one_in(short) {
                let part = 1 + state.dice.below(data.len() - 1);
                state.write(offset, &data[..part])?;
                return Err(io::ErrorKind::WriteZero.into());
            }
            if full > 0 && state.dice.one_in(full) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.write(offset, data)
        };
        self.call(|f| f.write, write)
    }

    fn sync(&self) -> io::Result<()> {
        let sync = |state: &mut State| {
            let often = state.faults.sync;
            let fails = self.fail_sync.swap(false, Ordering::SeqCst);
            if fails || (often > 0 && state.dice.one_in(often)) {
                // As Linux does it: pages that could not be written are taken for written.
                state.settle();
                return Err(io::Error::from_raw_os_error(5));
            }
            for change in std::mem::take(&mut state.changes) {
                match change {
                    Change::Length(len) => state.durable.resize(len as usize, 0),
                    Change::Write(offset, data) => put(&mut state.durable, offset as usize, &data),
                }
            }
            Ok(())
        };
        self.call(|_| 0, sync)
    }
}
