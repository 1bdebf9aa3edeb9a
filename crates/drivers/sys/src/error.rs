use std::io;
use std::path::PathBuf;

/// What went wrong while asking the operating system for something.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done, as a verb: `read`, `create`, …
        action: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A namespace operation failed.
    #[error("cannot {action} network namespace {name}: {source}")]
    NetNs {
        /// What was being done, as a verb.
        action: &'static str,
        /// The namespace's name or path.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace exists already.
    #[error("network namespace {0} exists already")]
    NetNsExists(String),
    /// The namespace does not exist.
    #[error("network namespace {0} does not exist")]
    NetNsMissing(String),
    /// The name cannot be a file name below `/run/netns`.
    #[error("{0:?} cannot name a network namespace: 1 to 255 bytes without '/' and NUL, not '.' or '..'")]
    NetNsName(String),
    /// The path is a file, but not one that stands for a network namespace.
    #[error("{} is not a network namespace", .0.display())]
    NotNetNs(PathBuf),
    /// A thread could not be started.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mount failed.
    #[error("cannot {action} on {}: {source}", target.display())]
    Mount {
        /// What was being done.
        action: &'static str,
        /// The mount point.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A sysctl key part is not usable as a path segment.
    #[error("{0:?} is not a part of a sysctl key: it must not be empty, '.', '..', nor contain '/'")]
    SysctlKey(String),
    /// A signal could not be sent.
    #[error("cannot signal process {pid}: {source}")]
    Signal {
        /// The process.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file holds something else than was expected.
    #[error("{}: {problem}; found {found:?}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected.
        problem: &'static str,
        /// What it holds (shortened).
        found: String,
    },
}

impl SysError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::File {
            action,
            path: path.into(),
            source: source.into(),
        }
    }

    pub(crate) fn netns(action: &'static str, name: &str, source: impl Into<io::Error>) -> Self {
        Self::NetNs {
            action,
            name: name.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn mount(
        action: &'static str,
        target: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Mount {
            action,
            target: target.into(),
            source: source.into(),
        }
    }

    /// The kernel's error number, where the failure came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::File { source, .. }
            | Self::NetNs { source, .. }
            | Self::Thread { source, .. }
            | Self::Mount { source, .. }
            | Self::Spawn { source, .. }
            | Self::Signal { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
