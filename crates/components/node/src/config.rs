use std::path::Path;

use anyhow::Context;
use caracal_config::{ResolvedParam, Sources, resolve};

/// Prints every parameter from environment and file, without datastore and without root.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn show_config(output: &str, file: &Path) -> anyhow::Result<()> {
    let text = match std::fs::read_to_string(file) {
        Ok(t) => Some(t),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(e).with_context(|| format!("reading {}", file.display())),
    };
    let env = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let resolved = resolve(&Sources {
        env,
        file: text.as_deref(),
        ..Sources::default()
    });
    for problem in &resolved.problems {
        eprintln!("caracal node: {problem}");
    }
    let rows: Vec<serde_json::Value> = resolved.params().iter().map(ResolvedParam::to_json).collect();
    let text = match output {
        "yaml" => serde_saphyr::to_string(&rows).context("writing YAML")?,
        _ => serde_json::to_string_pretty(&rows)? + "\n",
    };
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
