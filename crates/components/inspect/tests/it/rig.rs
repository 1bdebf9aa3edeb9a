use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caracal_inspect::{Io, policy_with};
use caracal_store::Store;

/// A folder of the examples.
pub(crate) fn example(name: &str) -> String {
    format!("{}/../../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A copy of examples/lab in which texts were replaced.
pub(crate) fn changed(dir: &Path, replace: &[(&str, &str)]) -> String {
    let target = dir.join("changed");
    fs::create_dir_all(&target).unwrap();
    let mut found = 0;
    for entry in fs::read_dir(example("lab")).unwrap() {
        let path = entry.unwrap().path();
        let mut text = fs::read_to_string(&path).unwrap();
        for (from, to) in replace {
            found += text.matches(from).count();
            text = text.replace(from, to);
        }
        fs::write(target.join(path.file_name().unwrap()), text).unwrap();
    }
    assert!(replace.is_empty() || found > 0, "nothing was replaced");
    target.display().to_string()
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(args: &[&str]) -> Ran {
    run_with(args, "", None)
}

pub(crate) fn run_with(args: &[&str], input: &str, store: Option<Arc<dyn Store>>) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let io = Io {
        input: &mut input.as_bytes(),
        output: &mut out,
        errors: &mut err,
        store,
    };
    let code = policy_with(line(args), io);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code,
        out: text(out),
        err: text(err),
    }
}

pub(crate) fn line(args: &[&str]) -> Vec<OsString> {
    ["caracal policy"]
        .iter()
        .chain(args)
        .map(OsString::from)
        .collect()
}

/// Every write fails in this way.
pub(crate) struct Broken(pub(crate) io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn file(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
