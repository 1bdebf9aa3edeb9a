//! Copies of the store: to keep, to restore, and to make the file small again.
//!
//! A backup is a database file of this store followed by its SHA-256, as etcd's tools write and expect it. It holds the
//! store at one revision and is taken while writes go on.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use redb::{Database, Key, ReadOnlyTable, ReadableTable, TableDefinition, Value};
use sha2::{Digest, Sha256};

use crate::db::{
    self, Db, FILE, HISTORY, KEYS, LEASE_KEYS, LEASES, LOG, META, META_COMPACTED, META_REVISION, Snapshot,
};
use crate::engine::{Engine, Options};
use crate::error::{BackupError, RequestError};
use crate::view::Source;

/// Bytes of the checksum at the end.
const CHECKSUM: u64 = 32;
/// How far a restored store's revision is ahead of the backup: more than a store writes in its life, so that no client
/// takes a revision of the lost history for one of the new.
const JUMP: i64 = 1_000_000_000;
const MIB: usize = 1 << 20;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// The revision that it was taken at.
    pub revision: i64,
    /// Its size.
    pub bytes: u64,
}

impl Engine {
    /// Writes a backup of this moment to a file that does not exist yet. Nothing is left of one that failed.
    ///
    /// # Errors
    /// [`BackupError`] naming the file.
    pub async fn backup(&self, file: &Path) -> Result<Backup, BackupError> {
        let path = file.to_path_buf();
        let done = self.read(move |core| Ok(write_backup(&core.db, &path))).await;
        done.map_err(|source| BackupError::Store {
            path: file.into(),
            source,
        })?
    }

    /// A backup for sending it, in a file that has no name any more.
    pub(crate) async fn snapshot_file(&self) -> Result<(i64, File), RequestError> {
        self.read(|core| {
            let name = format!(".snapshot-{}", db::random());
            let path = core.db.path().with_file_name(name);
            let made = write_backup(&core.db, &path);
            let opened = File::open(&path);
            let _ = fs::remove_file(&path);
            match (made, opened) {
                (Ok(made), Ok(file)) => Ok((made.revision, file)),
                (Err(error), _) => Err(RequestError::Storage(error.to_string())),
                (_, Err(error)) => Err(RequestError::Storage(error.to_string())),
            }
        })
        .await
    }
}

fn write_backup(db: &Db, path: &Path) -> Result<Backup, BackupError> {
    let failed = failed(path);
    if path.exists() {
        return Err(failed(io::Error::from(io::ErrorKind::AlreadyExists)));
    }
    let made = copy_file(db, path).and_then(|revision| {
        let bytes = seal(path).map_err(&failed)?;
        Ok(Backup { revision, bytes })
    });
    if made.is_err() {
        // What it holds is of no use.
        let _ = fs::remove_file(path);
    }
    made
}

fn copy_file(db: &Db, path: &Path) -> Result<i64, BackupError> {
    let copy = || {
        let snapshot = db.snapshot()?;
        // The library takes an empty file for a new one.
        private(path).map_err(redb::StorageError::Io)?;
        let mut database = Database::create(path)?;
        copy_tables(&snapshot, &database)?;
        database
            .compact()
            .map_err(|e| RequestError::Storage(e.to_string()))?;
        Ok(snapshot.revision())
    };
    copy().map_err(|source| BackupError::Store {
        path: path.into(),
        source,
    })
}

/// Makes a file for its owner alone.
fn private(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn copy_tables(from: &Snapshot, to: &Database) -> Result<(), RequestError> {
    let write = to.begin_write()?;
    copy_table(from.keys(), KEYS, &write)?;
    copy_table(from.log(), LOG, &write)?;
    copy_table(from.history(), HISTORY, &write)?;
    copy_table(&from.leases, LEASES, &write)?;
    copy_table(&from.lease_keys, LEASE_KEYS, &write)?;
    copy_table(&from.meta, META, &write)?;
    Ok(write.commit()?)
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadOnlyTable<K, V>,
    name: TableDefinition<'_, K, V>,
    write: &redb::WriteTransaction,
) -> Result<(), RequestError> {
    let mut table = write.open_table(name)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        table.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Appends the checksum and makes the file durable; returns its size.
fn seal(path: &Path) -> io::Result<u64> {
    let mut file = fs::OpenOptions::new().read(true).append(true).open(path)?;
    let digest = digest(&mut file, u64::MAX)?;
    file.write_all(&digest)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn digest(file: &mut File, most: u64) -> io::Result<[u8; 32]> {
    let (mut hash, mut buffer, mut file) = (Sha256::new(), vec![0; MIB], file.take(most));
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Makes a store in a directory that has none, from a backup. The new store's revision is far ahead of the backup's and
/// its history begins there, so that clients that knew the lost store list everything anew.
///
/// # Errors
/// [`BackupError`] naming the file; the directory is as it was.
pub fn restore(file: &Path, dir: &Path) -> Result<Backup, BackupError> {
    let place = dir.join(FILE);
    if place.exists() {
        return Err(BackupError::Occupied(dir.into()));
    }
    db::make_private(dir).map_err(failed(dir))?;
    let work = dir.join(format!(".restore-{}", std::process::id()));
    let restored = restore_in(file, &work).and_then(|backup| {
        fs::rename(work.join(FILE), &place).map_err(failed(&place))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(failed(dir))?;
        Ok(backup)
    });
    // Empty but for a lock, or of no use.
    let _ = fs::remove_dir_all(&work);
    restored
}

fn restore_in(file: &Path, work: &Path) -> Result<Backup, BackupError> {
    let mut source = File::open(file).map_err(failed(file))?;
    let bytes = source.metadata().map_err(failed(file))?.len();
    let cut = || BackupError::Damaged(file.into());
    let body = bytes.checked_sub(CHECKSUM).filter(|b| *b > 0).ok_or_else(cut)?;
    db::make_private(work).map_err(failed(work))?;
    let copy: PathBuf = work.join(FILE);
    let written = private(&copy)
        .and_then(|mut to| {
            io::copy(&mut (&mut source).take(body), &mut to)?;
            to.sync_all()
        })
        .and_then(|()| digest(&mut File::open(&copy)?, u64::MAX))
        .map_err(failed(&copy))?;
    let mut wanted = [0; CHECKSUM as usize];
    source.read_exact(&mut wanted).map_err(failed(file))?;
    if written != wanted {
        return Err(cut());
    }
    let open = |source| BackupError::Open {
        path: file.into(),
        source: Box::new(source),
    };
    // Compares every page's checksum, and refuses what is not a store.
    let db = Db::open(work, Options::default().cache_bytes, false).map_err(open)?;
    let revision = jump(&db).map_err(|source| BackupError::Store {
        path: file.into(),
        source,
    });
    db.close();
    Ok(Backup {
        revision: revision?,
        bytes,
    })
}

/// Moves revision and compaction ahead; returns the revision before.
fn jump(db: &Db) -> Result<i64, RequestError> {
    let write = db.begin_write()?;
    let revision = {
        let mut meta = write.open_table(META)?;
        let revision = db::number(&meta, META_REVISION)?;
        let ahead = revision.saturating_add(JUMP);
        meta.insert(META_REVISION, ahead)?;
        meta.insert(META_COMPACTED, ahead)?;
        revision
    };
    write.commit()?;
    Ok(revision)
}

/// Writes the file of a store that is not served anew, without the room that deleted values left; returns its size
/// before and after.
///
/// # Errors
/// [`BackupError`] naming the file.
pub fn shrink(dir: &Path) -> Result<(u64, u64), BackupError> {
    let open = |source| BackupError::Open {
        path: dir.join(FILE),
        source: Box::new(source),
    };
    let db = Db::open(dir, Options::default().cache_bytes, false).map_err(open)?;
    let place = db.path().to_path_buf();
    let fresh = place.with_extension("new");
    let size = |path: &Path| fs::metadata(path).map(|m| m.len()).map_err(failed(path));
    let done = (|| {
        let before = size(&place)?;
        // One that a killed run left.
        let _ = fs::remove_file(&fresh);
        copy_file(&db, &fresh)?;
        File::open(&fresh)
            .and_then(|f| f.sync_all())
            .map_err(failed(&fresh))?;
        fs::rename(&fresh, &place).map_err(failed(&place))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(failed(dir))?;
        Ok((before, size(&place)?))
    })();
    db.close();
    done
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let path = path.to_path_buf();
    move |source| BackupError::Io {
        path: path.clone(),
        source,
    }
}
