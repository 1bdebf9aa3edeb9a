//! The skip ledger: one line per skipped test, `TEST<TAB>WHAT IS MISSING`, and the list it is held against.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the ledger file; the default is `skip-ledger.txt` in cargo's target directory.
pub const VARIABLE: &str = "CARACAL_SKIP_LEDGER";

/// The ledger that this process writes to.
pub fn path() -> PathBuf {
    if let Some(path) = env::var_os(VARIABLE).filter(|p| !p.is_empty()) {
        return path.into();
    }
    // Cargo marks its target directory, wherever it was told to put it, with this file.
    let program = env::current_exe().unwrap_or_default();
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(Path::new("target")).join("skip-ledger.txt")
}

/// Adds a line. One write in append mode: tests of many processes share the file.
pub(crate) fn record(test: &str, lacking: &str) {
    let path = path();
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{test}\t{lacking}\n").as_bytes())
    };
    // A skip that is not recorded would be a silent one.
    write().unwrap_or_else(|e| panic!("cannot write the skip ledger {}: {e}", path.display()));
}

/// The skips that `allowed` does not foresee, sorted. Both texts hold lines `TEST<TAB>WHAT`; in `allowed`
/// a line that starts with `#` is a comment, and a `*` in place of the test stands for any.
pub fn unexpected(ledger: &str, allowed: &str) -> Vec<String> {
    let allowed: BTreeSet<(&str, &str)> = entries(allowed).collect();
    let found: BTreeSet<(&str, &str)> = entries(ledger).collect();
    let unforeseen = found
        .into_iter()
        .filter(|(test, what)| !allowed.contains(&(test, what)) && !allowed.contains(&("*", what)));
    unforeseen.map(|(test, what)| format!("{test}: {what}")).collect()
}

fn entries(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        line.split_once('\t')
            .map_or((line, ""), |(test, what)| (test.trim(), what.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unforeseen_skips_are_reported() {
        let allowed = "# why\nlink::a\twireguard\n*\tetcd\n";
        let ledger =
            "link::a\twireguard\nstore::b\tetcd\nlink::c\twireguard\nlink::c\twireguard\nlink::a\troot\n";
        assert_eq!(
            unexpected(ledger, allowed),
            ["link::a: root", "link::c: wireguard"]
        );
        assert!(unexpected("", allowed).is_empty());
    }
}
