use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use caracal_manifests::read_args;
use caracal_store::Store;
use clap::Parser;

use crate::failure::Failure;

/// Where a command reads and writes, and the datastore if it is not the configured one.
pub struct Io {
    /// What `-f -` reads.
    pub input: Box<dyn Read>,
    /// Results.
    pub output: Box<dyn Write>,
    /// Errors and remarks.
    pub errors: Box<dyn Write>,
    /// The datastore; decided by configuration and environment when absent.
    pub store: Option<Arc<dyn Store>>,
}

impl Io {
    /// This process's own.
    #[must_use]
    pub fn process() -> Self {
        Self {
            input: Box::new(io::stdin()),
            output: Box::new(io::stdout()),
            errors: Box::new(io::stderr()),
            store: None,
        }
    }

    /// Writes a line to where errors go; nobody can be told when that fails.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.errors, "{text}");
    }

    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// A program from its command line on: reads that, does its work, and says what went wrong. The result is the exit code:
/// 0, also when the reader went away, or 1 on any error.
pub(crate) fn start<C: Parser>(
    name: &str,
    args: Vec<OsString>,
    mut io: Io,
    program: impl FnOnce(C, &mut Io) -> Result<(), Failure>,
) -> i32 {
    let cli = match read_args(args, &mut io.output, &mut io.errors, 1) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match program(cli, &mut io) {
        Ok(()) => 0,
        Err(e) if e.is_closed() => 0,
        Err(e) => {
            io.complain(&format!("{name}: {e}"));
            1
        }
    }
}
