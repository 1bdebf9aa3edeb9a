//! Skipped tests, held against the list of those that may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use caracal_testkit::ledger;

use crate::Findings;

/// Where this program's tests leave their skips.
pub(crate) fn ledger_path() -> PathBuf {
    ledger::path()
}

/// The ledger of the last run; empty if no test was skipped.
fn ledger_text() -> Result<String> {
    let path = ledger_path();
    match fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("read {}", path.display())),
    }
}

/// How many tests left a line in the ledger. The test runner counts them as passed.
pub(crate) fn count() -> Result<u64> {
    let text = ledger_text()?;
    let tests: BTreeSet<_> = text.lines().filter_map(|line| line.split('\t').next()).collect();
    Ok(tests.len() as u64)
}

/// Every line of the ledger is foreseen in `testdata/allowed-skips.txt`.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let file = root.join("testdata/allowed-skips.txt");
    let allowed = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let unexpected = ledger::unexpected(&ledger_text()?, &allowed).into_iter();
    let errors =
        unexpected.map(|skip| format!("skipped, and testdata/allowed-skips.txt does not allow it: {skip}"));
    Ok(Findings {
        errors: errors.collect(),
        warnings: Vec::new(),
    })
}
