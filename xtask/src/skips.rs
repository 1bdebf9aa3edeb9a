//! Skipped tests, held against the list of those that may be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use caracal_testkit::ledger;

use crate::Findings;

/// Where this program's tests leave their skips.
pub(crate) fn ledger_path() -> PathBuf {
    ledger::path()
}

/// Every line of the ledger is foreseen in `testdata/allowed-skips.txt`.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let file = root.join("testdata/allowed-skips.txt");
    let allowed = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let path = ledger_path();
    let said = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    let unexpected = ledger::unexpected(&said, &allowed).into_iter();
    let errors =
        unexpected.map(|skip| format!("skipped, and testdata/allowed-skips.txt does not allow it: {skip}"));
    Ok(Findings {
        errors: errors.collect(),
        warnings: Vec::new(),
    })
}
