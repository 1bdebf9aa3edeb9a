/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for is not there, or cannot be read.
    #[error("{0}")]
    Input(String),
    /// Nothing says which datastore, or the settings cannot be used.
    #[error(transparent)]
    Datastore(#[from] caracal_datastore::DatastoreError),
    /// A request to the datastore failed.
    #[error(transparent)]
    Store(#[from] caracal_manifests::LiveError),
    /// The runtime.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// The result could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    pub(crate) fn input(text: impl Into<String>) -> Self {
        Self::Input(text.into())
    }

    /// Whether only the reader of the output went away.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe)
    }
}
