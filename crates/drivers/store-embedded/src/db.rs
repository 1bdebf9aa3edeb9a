//! Opening the data directory: its lock, the database file, the tables and their format.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction,
};

use crate::backend::{Backend, Disks, Fence, Files, Medium};
use crate::error::{OpenError, RequestError};
use crate::view::Source;

/// Version of the tables below. A file of a newer one is refused.
pub(crate) const FORMAT: i64 = 1;

/// The present: key → current version.
pub(crate) const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
/// Changes: (revision, sub) → put or delete. See `scrub` for what compaction leaves here.
pub(crate) const LOG: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("log");
/// Where a key's changes are in the log: (key, revision, sub) → is it a put.
pub(crate) const HISTORY: TableDefinition<'_, (&[u8], i64, u32), bool> = TableDefinition::new("history");
/// Granted leases: id → TTL in seconds.
pub(crate) const LEASES: TableDefinition<'_, i64, i64> = TableDefinition::new("leases");
/// Keys attached to leases.
pub(crate) const LEASE_KEYS: TableDefinition<'_, (i64, &[u8]), ()> = TableDefinition::new("lease_keys");
/// Single numbers, by the names below.
pub(crate) const META: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");

/// Version of the format.
const META_FORMAT: &str = "format";
/// Last revision.
pub(crate) const META_REVISION: &str = "revision";
/// History before this revision cannot be asked for.
pub(crate) const META_COMPACTED: &str = "compacted";
/// History before this revision is gone from the tables, too.
pub(crate) const META_SCRUBBED: &str = "scrubbed";
/// A random number that tells this store from others.
pub(crate) const META_CLUSTER: &str = "cluster";

/// The database file's name in the data directory.
pub(crate) const FILE: &str = "store.redb";
const LOCK: &str = "lock";
/// Is there while the first file of a directory is being made: what is then found in its place was never a store.
const MAKING: &str = "making";

/// The open data directory.
pub(crate) struct Db {
    path: PathBuf,
    cache_bytes: usize,
    current: RwLock<Opened>,
    disks: Disks,
}

struct Opened {
    database: Option<Database>,
    /// The disk cannot be written any more: what the library writes comes to nothing.
    read_only: bool,
    fence: Arc<Fence>,
    /// Keeps other processes out for as long as the store is open.
    lock: Option<Lock>,
}

/// The locked file. It is unlocked and not only closed: a child that another thread is just starting has it open, too,
/// until it becomes another program.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is all that is left to do.
        let _ = self.0.unlock();
    }
}

impl Db {
    /// Opens the directory, making it and an empty store in it when `create` is set.
    pub(crate) fn open(dir: &Path, cache_bytes: usize, create: bool) -> Result<Self, OpenError> {
        Self::open_on(dir, cache_bytes, create, Arc::new(Files))
    }

    /// The same, with the file on any medium.
    pub(crate) fn open_on(
        dir: &Path,
        cache_bytes: usize,
        create: bool,
        medium: Arc<dyn Medium>,
    ) -> Result<Self, OpenError> {
        let (path, making) = (dir.join(FILE), dir.join(MAKING));
        if create {
            make_private(dir).map_err(io("creating data directory", dir))?;
        } else if !exists(&path)? || exists(&making)? {
            return Err(OpenError::Missing(dir.into()));
        }
        let lock = lock(dir)?;
        let fresh = !exists(&path)? || exists(&making)?;
        if fresh {
            begin(dir, &path, &making)?;
        }
        let (disks, fence) = (Disks::new(medium), Arc::new(Fence::default()));
        let database = open_file(&path, cache_bytes, &disks, fence.clone(), fresh)?;
        let opened = Opened {
            database: Some(database),
            read_only: false,
            fence,
            lock: Some(lock),
        };
        if fresh {
            // The directory's entry of the new file has to be as durable as what will be in it.
            sync_dir(dir)?;
            fs::remove_file(&making).map_err(io("removing", &making))?;
            sync_dir(dir)?;
        }
        Ok(Self {
            path,
            cache_bytes,
            current: RwLock::new(opened),
            disks,
        })
    }

    /// The database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn with<T>(&self, use_it: impl FnOnce(&Database) -> Result<T, RequestError>) -> Result<T, RequestError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        use_it(current.database.as_ref().ok_or(RequestError::Stopped)?)
    }

    /// A consistent view of everything committed so far.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, RequestError> {
        self.with(|database| Snapshot::new(&database.begin_read()?))
    }

    /// A transaction that writes. Only the writer begins one.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, RequestError> {
        if self.is_read_only() {
            return Err(RequestError::ReadOnly);
        }
        self.with(|database| Ok(database.begin_write()?))
    }

    /// Whether the disk became read-only, as far as was known when the file was last opened.
    pub(crate) fn is_read_only(&self) -> bool {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .read_only
    }

    /// Whether the disk can be written again.
    pub(crate) fn writable(&self) -> bool {
        self.disks.writable(&self.path)
    }

    /// Bytes of the file that are on the disk but hold nothing. Walks the file; only the writer may ask.
    pub(crate) fn slack(&self) -> Result<u64, RequestError> {
        let stats = self.begin_write()?.stats()?;
        let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
        let on_disk = fs::metadata(&self.path).map_or(0, |meta| meta.blocks().saturating_mul(512));
        Ok(on_disk.saturating_sub(used))
    }

    /// Closes the file and opens it again: the way out after a failed write, which leaves the library's state unusable
    /// and the fate of the write open. What was acknowledged before is in the file.
    pub(crate) fn reopen(&self) -> Result<(), OpenError> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.fence.close();
        current.database = None;
        current.fence = Arc::new(Fence::default());
        current.read_only = false;
        let fence = current.fence.clone();
        let database = match open_file(&self.path, self.cache_bytes, &self.disks, fence, false) {
            Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                let backend = self.disks.open_read_only(&self.path, current.fence.clone());
                let backend = backend.map_err(io("opening", &self.path))?;
                current.read_only = true;
                open_backend(&self.path, self.cache_bytes, backend, false)?
            }
            other => other?,
        };
        current.database = Some(database);
        Ok(())
    }

    /// Closes the file and lets others have the directory. Snapshots that are still read fail from here on.
    pub(crate) fn close(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.database = None;
        current.fence.close();
        current.lock = None;
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |source| OpenError::Io { what, path, source }
}

/// Makes a directory for its owner alone; one that is there stays as it is.
pub(crate) fn make_private(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Unlike the question of the standard library this one is not answered with no when the answer is not to be had.
fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(io("looking for", path))
}

/// Notes that a store is being made in the directory, and removes what an attempt that was cut short left.
fn begin(dir: &Path, path: &Path, making: &Path) -> Result<(), OpenError> {
    File::create(making).map_err(io("creating", making))?;
    if exists(path)? {
        fs::remove_file(path).map_err(io("removing", path))?;
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(io("syncing data directory", dir))
}

fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io("opening lock file", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(dir.into())),
        Err(fs::TryLockError::Error(source)) => Err(OpenError::Io {
            what: "locking",
            path,
            source,
        }),
    }
}

fn open_file(
    path: &Path,
    cache_bytes: usize,
    disks: &Disks,
    fence: Arc<Fence>,
    fresh: bool,
) -> Result<Database, OpenError> {
    let backend = disks.open(path, fence).map_err(io("opening", path))?;
    open_backend(path, cache_bytes, backend, fresh)
}

fn open_backend(
    path: &Path,
    cache_bytes: usize,
    backend: Backend,
    fresh: bool,
) -> Result<Database, OpenError> {
    let corrupt = |reason: String| OpenError::Corrupt {
        path: path.into(),
        reason,
    };
    if !fresh && backend.len().map_err(io("reading", path))? == 0 {
        // The library would make an empty database of it.
        return Err(corrupt("it is empty".into()));
    }
    // The integrity check reads every page's checksum, so that a torn or altered file is found here. The library may
    // still panic on a file it never wrote.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Database::builder()
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
    }))
    .map_err(|_| corrupt("its structure makes no sense".into()))?;
    let database = match opened {
        Ok(database) => database,
        Err(redb::DatabaseError::Storage(redb::StorageError::Io(source)))
            if source.kind() != std::io::ErrorKind::InvalidData
                && source.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            return Err(OpenError::Io {
                what: "reading",
                path: path.into(),
                source,
            });
        }
        Err(error) => return Err(corrupt(error.to_string())),
    };
    let found = prepare(&database, fresh).map_err(|e| corrupt(e.to_string()))?;
    if found != FORMAT {
        let found = u64::try_from(found).unwrap_or(0);
        return Err(OpenError::Newer {
            path: path.into(),
            found,
            known: FORMAT.unsigned_abs(),
        });
    }
    Ok(database)
}

/// Makes the tables of a new file; returns the format found.
fn prepare(database: &Database, fresh: bool) -> Result<i64, RequestError> {
    {
        let read = database.begin_read()?;
        match read.open_table(META) {
            Ok(meta) => {
                return match meta.get(META_FORMAT)? {
                    Some(format) => Ok(format.value()),
                    None => Err(RequestError::Storage("its format is not recorded".into())),
                };
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {
                if !fresh && read.list_tables()?.next().is_none() {
                    return Err(RequestError::Storage("it holds no tables".into()));
                }
                if read.list_tables()?.next().is_some() {
                    return Err(RequestError::Storage(
                        "it holds the tables of another program".into(),
                    ));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let write = database.begin_write()?;
    {
        write.open_table(KEYS)?;
        write.open_table(LOG)?;
        write.open_table(HISTORY)?;
        write.open_table(LEASES)?;
        write.open_table(LEASE_KEYS)?;
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        // As in etcd an empty store is at revision 1.
        meta.insert(META_REVISION, 1)?;
        // Below 0, so that a first compaction to 0 is accepted as etcd does.
        meta.insert(META_COMPACTED, -1)?;
        meta.insert(META_SCRUBBED, -1)?;
        meta.insert(META_CLUSTER, random())?;
    }
    write.commit()?;
    Ok(FORMAT)
}

/// A positive random number, good for telling things apart, not for secrets.
pub(crate) fn random() -> i64 {
    let hash = RandomState::new().build_hasher().finish();
    i64::try_from(hash >> 1).unwrap_or(1).max(1)
}

/// A number of the `meta` table.
pub(crate) fn number<T>(meta: &T, name: &str) -> Result<i64, RequestError>
where
    T: ReadableTable<&'static str, i64>,
{
    let found = meta.get(name)?.map(|guard| guard.value());
    found.ok_or_else(|| RequestError::Storage(format!("the database has no record of its {name}")))
}

/// A read transaction over all tables.
pub(crate) struct Snapshot {
    keys: ReadOnlyTable<&'static [u8], &'static [u8]>,
    log: ReadOnlyTable<(i64, u32), &'static [u8]>,
    history: ReadOnlyTable<(&'static [u8], i64, u32), bool>,
    pub(crate) leases: ReadOnlyTable<i64, i64>,
    pub(crate) lease_keys: ReadOnlyTable<(i64, &'static [u8]), ()>,
    pub(crate) meta: ReadOnlyTable<&'static str, i64>,
    revision: i64,
    compacted: i64,
}

impl Snapshot {
    fn new(read: &ReadTransaction) -> Result<Self, RequestError> {
        let meta = read.open_table(META)?;
        Ok(Self {
            keys: read.open_table(KEYS)?,
            log: read.open_table(LOG)?,
            history: read.open_table(HISTORY)?,
            leases: read.open_table(LEASES)?,
            lease_keys: read.open_table(LEASE_KEYS)?,
            revision: number(&meta, META_REVISION)?,
            compacted: number(&meta, META_COMPACTED)?,
            meta,
        })
    }
}

impl Source for Snapshot {
    type Keys = ReadOnlyTable<&'static [u8], &'static [u8]>;
    type Log = ReadOnlyTable<(i64, u32), &'static [u8]>;
    type History = ReadOnlyTable<(&'static [u8], i64, u32), bool>;

    fn keys(&self) -> &Self::Keys {
        &self.keys
    }
    fn log(&self) -> &Self::Log {
        &self.log
    }
    fn history(&self) -> &Self::History {
        &self.history
    }
    fn revision(&self) -> i64 {
        self.revision
    }
    fn compacted(&self) -> i64 {
        self.compacted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_and_a_foreign_database_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let database = Database::create(&path).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(TableDefinition::<u64, u64>::new("other"))
            .unwrap();
        write.commit().unwrap();
        drop(database);
        let foreign = Db::open(dir.path(), 1 << 20, true).err().unwrap();
        assert!(
            foreign.to_string().contains("tables of another program"),
            "{foreign}"
        );

        std::fs::remove_file(&path).unwrap();
        Db::open(dir.path(), 1 << 20, true).unwrap().close();
        let database = Database::create(&path).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(META)
            .unwrap()
            .insert(META_FORMAT, FORMAT + 1)
            .unwrap();
        write.commit().unwrap();
        drop(database);
        let newer = Db::open(dir.path(), 1 << 20, true).err().unwrap();
        assert!(
            matches!(
                newer,
                OpenError::Newer {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{newer}"
        );
    }
}
