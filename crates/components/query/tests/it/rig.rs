//! What the tests share.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;

use caracal_query::Io;

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

/// Runs a program with arguments and a stdin.
pub(crate) fn run(program: fn(Vec<OsString>, Io) -> i32, args: &[&str], input: &str) -> Done {
    let (output, errors) = (Shared::default(), Shared::default());
    let io = Io {
        input: Box::new(io::Cursor::new(input.to_owned())),
        output: Box::new(output.clone()),
        errors: Box::new(errors.clone()),
        store: None,
    };
    let args = std::iter::once("program")
        .chain(args.iter().copied())
        .map(OsString::from);
    let code = program(args.collect(), io);
    Done {
        code,
        output: output.text(),
        errors: errors.text(),
    }
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
