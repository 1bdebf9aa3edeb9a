use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{NetNsId, SysError};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The process number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

impl ProcessId {
    /// Looks a running process up; `None` if there is none or it has ended, with all its threads, and waits
    /// to be reaped.
    pub fn of(pid: u32) -> Result<Option<Self>, SysError> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // ESRCH: it ended between open and read.
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {
                return Ok(None);
            }
            Err(e) => return Err(SysError::file("read", path, e)),
        };
        let (state, threads, start_time) = parse_stat(&text).ok_or_else(|| SysError::Content {
            path,
            problem: "expected the fields of proc(5)",
            found: text.chars().take(80).collect(),
        })?;
        // While another thread lives it holds ports and files, though the first one is a zombie.
        let ended = matches!(state, 'Z' | 'X') && threads <= 1;
        Ok((!ended).then_some(Self { pid, start_time }))
    }

    /// The calling process.
    pub fn own() -> Result<Self, SysError> {
        let pid = std::process::id();
        Self::of(pid)?.ok_or_else(|| {
            SysError::file(
                "read",
                format!("/proc/{pid}/stat"),
                io::Error::from(io::ErrorKind::NotFound),
            )
        })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        matches!(Self::of(self.pid), Ok(Some(now)) if now == *self)
    }

    /// Sends a signal by number if the process still runs; tells whether it did.
    pub fn signal(&self, number: i32) -> Result<bool, SysError> {
        let fail = |e: nix::Error| SysError::Signal {
            pid: self.pid,
            source: e.into(),
        };
        let signal = Signal::try_from(number).map_err(fail)?;
        let pid = i32::try_from(self.pid).map_err(|_| fail(nix::Error::EINVAL))?;
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) => Ok(true),
            Err(nix::Error::ESRCH) => Ok(false),
            Err(e) => Err(fail(e)),
        }
    }
}

/// State, number of threads and start time from a line of `/proc/PID/stat`. The command in parentheses may hold anything,
/// parentheses and spaces included, so fields count from the last one.
fn parse_stat(text: &str) -> Option<(char, u64, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    Some((state, threads, start_time))
}

/// The processes that live in a network namespace, sorted by number. Processes that end meanwhile, and
/// those we may not look at, are left out.
pub fn processes_in(netns: NetNsId) -> Result<Vec<ProcessId>, SysError> {
    let mut found = Vec::new();
    let entries = fs::read_dir("/proc").map_err(|e| SysError::file("read", "/proc", e))?;
    for entry in entries {
        let entry = entry.map_err(|e| SysError::file("read", "/proc", e))?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(meta) = fs::metadata(format!("/proc/{pid}/ns/net")) else {
            continue;
        };
        if (NetNsId {
            device: meta.dev(),
            inode: meta.ino(),
        }) == netns
        {
            found.extend(ProcessId::of(pid)?);
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_with_a_hostile_command_name() {
        let line = "42 (a) Z 1 (b)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(line), Some(('S', 1, 987_654)));
        assert_eq!(parse_stat("42 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_process_is_alive_until_it_is_killed() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap().unwrap();
        assert!(id.is_alive());
        assert!(
            !ProcessId {
                start_time: id.start_time + 1,
                ..id
            }
            .is_alive()
        );
        assert!(
            !ProcessId {
                start_time: id.start_time + 1,
                ..id
            }
            .signal(libc::SIGKILL)
            .unwrap()
        );
        assert!(id.signal(libc::SIGKILL).unwrap());
        child.wait().unwrap();
        assert!(!id.is_alive());
        assert!(!id.signal(libc::SIGKILL).unwrap());
    }

    #[test]
    fn own_process_is_found_in_its_namespace() {
        let own = ProcessId::own().unwrap();
        assert!(
            processes_in(crate::NetNs::current().unwrap().id())
                .unwrap()
                .contains(&own)
        );
    }
}
