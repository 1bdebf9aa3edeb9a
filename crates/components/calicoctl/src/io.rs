use std::{
    fmt,
    io::{self, IsTerminal, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use caracal_store::Store;

/// Where a command reads and writes, and the datastore if it is not the configured one.
pub struct Io {
    /// What `-f -` reads.
    pub input: Box<dyn Read>,
    /// Results.
    pub output: Box<dyn Write>,
    /// Errors and remarks.
    pub errors: Box<dyn Write>,
    /// Whether `errors` is a terminal, which can show how far a long command is.
    pub terminal: bool,
    /// The datastore; decided by configuration and environment when absent.
    pub store: Option<Arc<dyn Store>>,
    /// Where the agent and BIRD of this node have their sockets.
    pub run: PathBuf,
}

impl Io {
    /// This process's own.
    #[must_use]
    pub fn process() -> Self {
        Self {
            input: Box::new(io::stdin()),
            output: Box::new(io::stdout()),
            errors: Box::new(io::stderr()),
            terminal: io::stderr().is_terminal(),
            store: None,
            run: PathBuf::from("/run/calico"),
        }
    }

    /// Writes a line to where errors go; nobody can be told when that fails.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.errors, "{text}");
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("terminal", &self.terminal)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
