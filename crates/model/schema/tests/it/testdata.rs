use std::path::PathBuf;

use serde_json::Value;

/// A file of `testdata/crds`: one definition a line.
pub(crate) fn definitions(group: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../testdata/crds")
        .join(format!("{group}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}
