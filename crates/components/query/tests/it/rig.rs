//! What the tests share.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use caracal_query::Io;
use caracal_store::Store;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("programs write UTF-8")
    }
}

/// What programs are.
pub(crate) type Program = fn(Vec<OsString>, Io) -> i32;

/// Runs a program with arguments and a stdin.
pub(crate) fn run(program: Program, args: &[&str], input: &str) -> Done {
    run_over(program, args, input, None)
}

/// Runs a program over a datastore.
pub(crate) fn run_over(program: Program, args: &[&str], input: &str, store: Option<Arc<dyn Store>>) -> Done {
    let (output, errors) = (Shared::default(), Shared::default());
    let io = Io {
        input: Box::new(io::Cursor::new(input.to_owned())),
        output: Box::new(output.clone()),
        errors: Box::new(errors.clone()),
        store,
    };
    let code = program(words(args), io);
    Done {
        code,
        output: output.text(),
        errors: errors.text(),
    }
}

/// A command line.
fn words(args: &[&str]) -> Vec<OsString> {
    let all = std::iter::once("program").chain(args.iter().copied());
    all.map(OsString::from).collect()
}

/// A place that takes nothing, for the reason given.
struct Stuck(io::ErrorKind);

impl Write for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a program whose output cannot be written; its exit code and errors.
pub(crate) fn run_stuck(program: Program, args: &[&str], why: io::ErrorKind) -> (i32, String) {
    let errors = Shared::default();
    let io = Io {
        input: Box::new(io::empty()),
        output: Box::new(Stuck(why)),
        errors: Box::new(errors.clone()),
        store: None,
    };
    (program(words(args), io), errors.text())
}

/// A file of the tests' data.
pub(crate) fn data(name: &str) -> String {
    path("data", name).display().to_string()
}

fn path(dir: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(dir)
        .join(name)
}

/// Compares with a file of `tests/golden`; with `UPDATE_GOLDEN` set writes it. The directory of the data reads `DATA`.
pub(crate) fn golden(name: &str, got: &str) {
    let got = got.replace(&data(""), "DATA/");
    let file = path("golden", name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &got).expect("the directory is there");
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(got, want, "{name}");
}
