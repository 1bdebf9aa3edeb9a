use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::SysError;

/// Distinguishes the temporary files of one process.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Replaces `path` by `content` so that a reader sees the old or the new file, never a part, even
/// after a power cut. Missing parent directories are created; the file gets `mode`, whatever the umask.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), SysError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|e| SysError::file("create", parent, e))?;
    put(path, parent, content, (mode, true))?;
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| SysError::file("sync", parent, e))
}

/// As [`write_atomic`], for what nobody needs after a power cut: nothing waits for a disk.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), SysError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match put(path, parent, content, (mode, false)) {
        Err(e) if e.errno() == Some(libc::ENOENT) => {
            fs::create_dir_all(parent).map_err(|e| SysError::file("create", parent, e))?;
            put(path, parent, content, (mode, false))
        }
        done => done,
    }
}

fn put(path: &Path, parent: &Path, content: &[u8], (mode, sync): (u32, bool)) -> Result<(), SysError> {
    let temporary = temporary_name(path, parent)?;
    let written = write_new(&temporary, content, (mode, sync))
        .map_err(|e| SysError::file("write", &temporary, e))
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| SysError::file("replace", path, e)));
    if written.is_err() {
        // The first error is the one to report; a leftover is only untidy.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary_name(path: &Path, parent: &Path) -> Result<PathBuf, SysError> {
    let name = path
        .file_name()
        .ok_or_else(|| SysError::file("write", path, io::Error::from(io::ErrorKind::InvalidFilename)))?;
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.{number}.tmp", std::process::id()));
    Ok(parent.join(temporary))
}

fn write_new(path: &Path, content: &[u8], (mode, sync): (u32, bool)) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.write_all(content)?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// Reads a file that may be absent.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, SysError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(SysError::file("read", path, e)),
    }
}

/// Removes a file; tells whether it was there.
pub fn remove_optional(path: &Path) -> Result<bool, SysError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(SysError::file("remove", path, e)),
    }
}
