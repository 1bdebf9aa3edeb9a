//! Tests ask `caracal why`, as its command line does.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use caracal_query::{Io, why_with};
use caracal_store::Store;

/// What was written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The exit code, and what it said.
pub(crate) fn why(store: &Arc<dyn Store>, words: &[String]) -> (i32, String) {
    let paper = Paper::default();
    let io = Io {
        output: Box::new(paper.clone()),
        errors: Box::new(paper.clone()),
        store: Some(store.clone()),
        ..Io::process()
    };
    let words = ["caracal why"]
        .into_iter()
        .chain(words.iter().map(String::as_str));
    let code = why_with(words.map(OsString::from).collect(), io);
    let said = paper.0.lock().unwrap_or_else(PoisonError::into_inner);
    (code, String::from_utf8_lossy(&said).into_owned())
}

/// Whether this is the long run of the night.
pub(crate) fn is_night() -> bool {
    std::env::var_os("CARACAL_NIGHTLY").is_some()
}
