//! `caracal policy lint`.

use std::path::Path;

use caracal_analysis::{Severity, give_addresses};
use serde_json::json;

use super::input::Reader;
use super::{CLEAN, FOUND, Format, Io, count};

pub(super) fn run(args: &super::Lint, config: Option<&Path>, io: &mut Io<'_>) -> anyhow::Result<i32> {
    let paths: Vec<&Path> = args.state.iter().map(AsRef::as_ref).collect();
    let mut state = Reader::new(config).state(&paths, io)?;
    give_addresses(&mut [&mut state]);
    let findings = caracal_analysis::lint(&state);
    if args.output != Format::Table {
        io.value(args.output, &json!({ "findings": findings }))?;
    } else {
        for finding in &findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let rule = finding.rule.as_ref().map(|r| format!(" {r}")).unwrap_or_default();
            writeln!(
                io.output,
                "{severity}[{}] {}{rule}: {}",
                finding.id, finding.object, finding.message
            )?;
            writeln!(io.output, "  fix: {}", finding.fix)?;
        }
        match findings.len() {
            0 => writeln!(io.output, "Nothing was found.")?,
            n => writeln!(io.output, "{}.", count(n as u64, "finding"))?,
        }
    }
    Ok(if findings.is_empty() { CLEAN } else { FOUND })
}
