//! What can go wrong: opening the store, serving it, and answering a request.

use std::path::PathBuf;

use tonic::{Code, Status};

use crate::record::BadRecord;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the directory.
    #[error("data directory {}: in use by another process (it holds {}); stop that one or choose another --data", .0.display(), .0.join("lock").display())]
    Locked(PathBuf),
    /// A newer version of this program wrote the file.
    #[error("{}: file format {found} is newer than the {known} this version knows; use a newer caracal or restore a backup", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Format found.
        found: u64,
        /// Newest format known here.
        known: u64,
    },
    /// The file is not a store, or is damaged.
    #[error("{}: cannot be read as a store ({reason}); move the file away to start empty, or restore a backup", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the database library said.
        reason: String,
    },
    /// There is no store where one is needed.
    #[error("{}: there is no store in this directory", .0.display())]
    Missing(PathBuf),
    /// The operating system refused.
    #[error("{what} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was being done.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// What helps, where something does.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; the data directory and what is in it must belong to the user that runs this"
        }
        std::io::ErrorKind::StorageFull => "; make room on the disk",
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "; the data directory must be on a disk that can be written"
        }
        _ => "",
    }
}

/// Why a backup, a restore or a compaction of the file failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The database could not be read or written.
    #[error("{}: {source}", path.display())]
    Store {
        /// The file being written or read.
        path: PathBuf,
        /// The reason.
        source: RequestError,
    },
    /// The file's content is not a store that can be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<OpenError>,
    },
    /// The checksum is not that of the content.
    #[error("{}: it is not a whole backup (its checksum differs): use another one", .0.display())]
    Damaged(PathBuf),
    /// A restore does not replace a store.
    #[error("{}: there is a store in this directory; restore into an empty one, or move store.redb away", .0.display())]
    Occupied(PathBuf),
}

/// Why the server cannot listen or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket's path is held by a living server or is not a socket.
    #[error("socket {}: {reason}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// Without certificates TCP is for the local machine only.
    #[error(
        "--listen {0}: without TLS only loopback addresses (127.0.0.0/8, [::1]) are allowed; give --cert-file, --key-file and --trusted-ca-file"
    )]
    NotLoopback(std::net::SocketAddr),
    /// The TCP address cannot be bound.
    #[error("listening on {addr}: {source}")]
    Tcp {
        /// The address.
        addr: std::net::SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
    /// Neither a socket nor an address was given.
    #[error("nothing to listen on: give a socket path or a TCP address")]
    Nothing,
    /// The transport failed while serving.
    #[error("serving: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Why a request was refused. Codes and texts are those that etcd's clients test for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The revision's history is gone.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is yet to come.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// A key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A value together with `ignore_value`.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease together with `ignore_lease`.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More than 128 operations.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A txn would write one key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// An enum value of the sort options is unknown.
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
    /// A compare's result or target is unknown.
    #[error("etcdserver: invalid compare in txn request")]
    InvalidCompare,
    /// The request is over 1.5 MiB.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The lease id is taken.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The TTL is over the limit.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The disk (nearly) full: reads and deletes go on.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The disk became read-only: reads go on.
    #[error("store: the disk is read-only; nothing is written until it can be written again")]
    ReadOnly,
    /// The store is going down.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The database failed. A write may or may not have happened.
    #[error("store: {0}")]
    Storage(String),
}

impl RequestError {
    /// The gRPC code that goes with the text.
    pub fn code(&self) -> Code {
        match self {
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::LeaseNotFound => Code::NotFound,
            Self::LeaseExists => Code::FailedPrecondition,
            Self::NoSpace => Code::ResourceExhausted,
            Self::Stopped | Self::ReadOnly | Self::Storage(_) => Code::Unavailable,
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSort
            | Self::InvalidCompare
            | Self::TooLarge => Code::InvalidArgument,
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<redb::StorageError> for RequestError {
    fn from(error: redb::StorageError) -> Self {
        match &error {
            redb::StorageError::Io(io)
                if matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull
                        | std::io::ErrorKind::QuotaExceeded
                        | std::io::ErrorKind::FileTooLarge
                ) =>
            {
                Self::NoSpace
            }
            _ => Self::Storage(error.to_string()),
        }
    }
}

/// The database library wraps a failure of the storage into an error type per call.
macro_rules! wrapped {
    ($($kind:ident),*) => {$(
        impl From<redb::$kind> for RequestError {
            fn from(error: redb::$kind) -> Self {
                match error {
                    redb::$kind::Storage(storage) => storage.into(),
                    other => Self::Storage(other.to_string()),
                }
            }
        }
    )*};
}

wrapped!(TableError, TransactionError, CommitError, DatabaseError);

impl From<BadRecord> for RequestError {
    fn from(error: BadRecord) -> Self {
        Self::Storage(error.to_string())
    }
}
