//! The database file: what the store needs of it, and how the database library sees it.
//!
//! The library's own file type would do, but for three things: after a failed write the file has to be closed for sure
//! before it is opened again in the same process (`fence`), a failed sync has to be remembered (`Disks`), and tests put
//! a disk under the store that fails in every way a disk can.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, StorageBackend};

use crate::overlay::Overlay;

/// An open file as the store uses it. What was written is durable when a later [`Disk::sync`] succeeds; until then any
/// part of it may be lost with the machine's power.
#[allow(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait Disk: Debug + Send + Sync {
    /// Size in bytes.
    ///
    /// # Errors
    /// The system's, as in all calls.
    fn len(&self) -> io::Result<u64>;
    /// Makes it longer, with zeros, or shorter.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Fills `out` from there on.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data`; of a write that failed any part may have been written.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Where files come from.
pub trait Medium: Debug + Send + Sync {
    /// Opens a file, making it, for its owner alone, when it does not exist.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Disk>>;
    /// Opens a file that is there, to read it.
    ///
    /// # Errors
    /// The system's.
    fn open_read_only(&self, path: &Path) -> io::Result<Box<dyn Disk>>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl Medium for Files {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Disk>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(File::open(path)?))
    }
}

impl Disk for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Bytes copied at once when a file is written again.
const PART: usize = 1 << 20;

/// Opens the store's file, again and again if need be.
///
/// After a failed sync the kernel takes what it could not write for written: nobody would notice that it is in memory
/// only, and the next sync would succeed. So the file is not trusted again before all of it has been written and synced
/// once more. That is safe at any moment: it writes what is there already, and a torn end is found by its checksums.
#[derive(Debug)]
pub(crate) struct Disks {
    medium: Arc<dyn Medium>,
    doubtful: Arc<AtomicBool>,
}

impl Disks {
    pub(crate) fn new(medium: Arc<dyn Medium>) -> Self {
        Self {
            medium,
            doubtful: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Opens the file for the library, for reading only: what the library writes stays in memory. A file that a sync
    /// failed for may show what is not on the disk, so that one is not read either.
    pub(crate) fn open_read_only(&self, path: &Path, fence: Arc<Fence>) -> io::Result<Backend> {
        if self.doubtful.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(Backend {
            disk: Box::new(Overlay::new(self.medium.open_read_only(path)?)?),
            fence,
            doubtful: self.doubtful.clone(),
        })
    }

    /// Whether the file can be opened for writing now.
    pub(crate) fn writable(&self, path: &Path) -> bool {
        self.medium.open(path).is_ok()
    }

    /// Opens the file for the library.
    pub(crate) fn open(&self, path: &Path, fence: Arc<Fence>) -> io::Result<Backend> {
        let disk = self.medium.open(path)?;
        if self.doubtful.load(Ordering::SeqCst) {
            tracing::warn!(file = %path.display(), "a sync failed: writing the whole file again");
            write_again(&*disk)?;
            self.doubtful.store(false, Ordering::SeqCst);
        }
        Ok(Backend {
            disk,
            fence,
            doubtful: self.doubtful.clone(),
        })
    }
}

fn write_again(disk: &dyn Disk) -> io::Result<()> {
    let (len, mut offset) = (disk.len()?, 0);
    let mut part = vec![0; PART];
    while offset < len {
        let size = usize::try_from(len - offset).unwrap_or(PART).min(PART);
        disk.read(offset, &mut part[..size])?;
        disk.write(offset, &part[..size])?;
        offset += size as u64;
    }
    disk.sync()
}

/// Closes an opening from outside.
#[derive(Debug, Default)]
pub(crate) struct Fence(AtomicBool);

impl Fence {
    /// Refuses everything from here on, for good.
    pub(crate) fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One opening of the file. The data directory's own lock keeps other processes out.
#[derive(Debug)]
pub(crate) struct Backend {
    disk: Box<dyn Disk>,
    fence: Arc<Fence>,
    doubtful: Arc<AtomicBool>,
}

impl Backend {
    fn disk(&self) -> io::Result<&dyn Disk> {
        if self.fence.0.load(Ordering::SeqCst) {
            return Err(io::Error::other("the database was closed after a failed write"));
        }
        Ok(&*self.disk)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.disk()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk()?.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.disk()?.sync();
        if synced.is_err() {
            self.doubtful.store(true, Ordering::SeqCst);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk()?.write(offset, data)
    }

    fn try_lock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
