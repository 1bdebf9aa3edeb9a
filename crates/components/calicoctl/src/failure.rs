use std::io;

use caracal_datastore::{DatastoreError, TransferError};
use caracal_store::StoreError;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that there is not, or that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something is wrong with what `-f` names.
    #[error("{0}")]
    Input(String),
    /// There is no datastore to use.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// The datastore refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Everything was to be copied, and was not.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Some or all objects failed; the text is the whole report.
    #[error("{0}")]
    Objects(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// Who read our output went away: nothing more to say to anybody.
    #[error("the reader of the output went away")]
    Closed,
    /// An exit code that means something of its own; the text, if there is one, is still to be said.
    #[error("{1}")]
    Code(i32, String),
    /// The machine refuses what a program needs.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Output(e),
        }
    }
}
