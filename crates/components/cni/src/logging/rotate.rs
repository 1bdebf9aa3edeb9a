//! A log file that is set aside when it is full: `cni.log` becomes `cni-<time>.log`, old ones are deleted.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::netconf::NetConf;

const MEBIBYTE: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When a file is full, and what is kept of the old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) size: u64,
    /// None keeps them however old they are.
    pub(crate) age: Option<Duration>,
    /// None keeps all.
    pub(crate) count: Option<usize>,
}

impl Limits {
    /// Calico's fields with its defaults: 100 MiB, 30 days, 10 files. No limit where 0 is said, but for the size.
    pub(crate) fn of(conf: &NetConf) -> Self {
        let said = |value: Option<i64>, otherwise: u64| match value {
            None => otherwise,
            Some(n) => u64::try_from(n).unwrap_or_default(),
        };
        let size = said(conf.log_file_max_size, 100);
        let (age, count) = (said(conf.log_file_max_age, 30), said(conf.log_file_max_count, 10));
        Self {
            size: if size == 0 { 100 } else { size }.saturating_mul(MEBIBYTE),
            age: u32::try_from(age).ok().filter(|d| *d > 0).map(|days| DAY * days),
            count: usize::try_from(count).ok().filter(|c| *c > 0),
        }
    }
}

/// Opens the file to append to it, after setting a full one aside. `stamp` names what is set aside.
pub(crate) fn open(path: &Path, limits: Limits, now: SystemTime, stamp: &str) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let file = append(path)?;
    if file.metadata()?.len() < limits.size {
        return Ok(file);
    }
    // Plugins run side by side: the first one sets it aside, the others find a new one.
    if file.try_lock().is_ok() && is_still(&file, path) {
        fs::rename(path, aside(path, stamp))?;
        prune(path, limits, now);
    }
    append(path)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn is_still(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata()
        .ok()
        .zip(fs::metadata(path).ok())
        .is_some_and(|(a, b)| same(a, b))
}

fn text(part: Option<&OsStr>) -> String {
    part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()
}

fn aside(path: &Path, stamp: &str) -> PathBuf {
    let (stem, extension) = (text(path.file_stem()), text(path.extension()));
    let stamp = stamp.replace(':', "-");
    let name = if extension.is_empty() {
        format!("{stem}-{stamp}")
    } else {
        format!("{stem}-{stamp}.{extension}")
    };
    path.with_file_name(name)
}

/// Deletes the oldest. What cannot be deleted stays: logging goes on.
fn prune(path: &Path, limits: Limits, now: SystemTime) {
    let (stem, extension) = (format!("{}-", text(path.file_stem())), text(path.extension()));
    let Some(entries) = path.parent().and_then(|dir| fs::read_dir(dir).ok()) else {
        return;
    };
    let mut old: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| text(p.file_stem()).starts_with(&stem) && text(p.extension()) == extension)
        .collect();
    // By name is by time, the newest first.
    old.sort();
    old.reverse();
    for (number, file) in old.iter().enumerate() {
        let modified = fs::metadata(file).and_then(|m| m.modified());
        let age = modified.ok().and_then(|m| now.duration_since(m).ok());
        let too_old = limits.age.zip(age).is_some_and(|(limit, age)| age > limit);
        if too_old || limits.count.is_some_and(|count| number >= count) {
            let _ = fs::remove_file(file);
        }
    }
}
