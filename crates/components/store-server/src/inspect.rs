//! `caracal store check` and `caracal store stats`.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use caracal_store_embedded::{Engine, Options};

/// Opening compares every page's checksum; then the tables are compared with each other.
pub(crate) async fn check(data: &Path) -> Result<i32> {
    let engine = Engine::open_existing(data, Options::default())?;
    let problems = engine.verify().await;
    let stats = engine.stats().await;
    engine.close().await;
    let (problems, stats) = (problems?, stats?);
    let mut out = String::new();
    for problem in &problems {
        out.push_str(problem);
        out.push('\n');
    }
    out.push_str(&match problems.len() {
        0 => format!(
            "{}: all is well ({} keys, revision {})\n",
            data.display(),
            stats.keys,
            stats.revision
        ),
        n => format!(
            "{}: {n} problems; restore a backup or start empty\n",
            data.display()
        ),
    });
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(i32::from(!problems.is_empty()))
}

/// Prints the numbers, one a line.
pub(crate) async fn stats(data: &Path) -> Result<i32> {
    let engine = Engine::open_existing(data, Options::default())?;
    let stats = engine.stats().await;
    engine.close().await;
    let stats = stats?;
    let lines = [
        ("revision", stats.revision.to_string()),
        ("compacted", stats.compacted.to_string()),
        ("keys", stats.keys.to_string()),
        ("history", stats.history.to_string()),
        ("leases", stats.leases.to_string()),
        ("file bytes", stats.file_bytes.to_string()),
    ];
    let out: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<12}{value}\n"))
        .collect();
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(0)
}
