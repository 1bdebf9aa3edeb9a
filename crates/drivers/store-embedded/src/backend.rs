//! The database file, as the database library sees it.
//!
//! The library's own file type would do, but for two things: after a failed write the file has to be closed for sure
//! before it is opened again in the same process (`fence`), and tests have to be able to make writes fail.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

/// One opening of the file. The data directory's own lock keeps other processes out.
#[derive(Debug)]
pub(crate) struct Backend {
    file: File,
    switches: Arc<Switches>,
}

/// What can be done to an open backend from outside.
#[derive(Debug)]
pub(crate) struct Switches {
    fenced: AtomicBool,
    /// Plays a full disk: nothing can be written from here on in the file.
    end: Arc<AtomicU64>,
}

impl Switches {
    /// Switches of a new opening, on the same disk as others with this `end`.
    pub(crate) fn new(end: Arc<AtomicU64>) -> Self {
        Self {
            fenced: AtomicBool::new(false),
            end,
        }
    }

    /// Refuses everything from here on, for good.
    pub(crate) fn fence(&self) {
        self.fenced.store(true, Ordering::SeqCst);
    }

    fn readable(&self) -> io::Result<()> {
        if self.fenced.load(Ordering::SeqCst) {
            return Err(io::Error::other("the database was closed after a failed write"));
        }
        Ok(())
    }

    fn writable(&self, end: u64) -> io::Result<()> {
        self.readable()?;
        if end > self.end.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Backend {
    pub(crate) fn new(file: File, switches: Arc<Switches>) -> Self {
        Self { file, switches }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.switches.readable()?;
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.switches.readable()?;
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.switches.writable(len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.switches.readable()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.switches.writable(offset.saturating_add(data.len() as u64))?;
        self.file.write_all_at(data, offset)
    }

    fn try_lock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
