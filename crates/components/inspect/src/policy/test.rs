//! `caracal policy test`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use caracal_analysis::{Outcome, Suite, Verdicts, give_addresses};
use serde_json::Value;

use super::input::{Reader, texts};
use super::{CLEAN, FOUND, Format, Io, TestFormat};

pub(super) fn run(args: &super::Test, config: Option<&Path>, io: &mut Io<'_>) -> anyhow::Result<i32> {
    let paths: Vec<&Path> = args.state.iter().map(AsRef::as_ref).collect();
    let mut suite = Suite::default();
    let mut problems = Vec::new();
    for path in &args.files {
        for (source, text) in texts(path, io)? {
            match serde_saphyr::from_str::<Value>(&text) {
                Ok(value) => suite.read(&source, &value, &mut problems),
                Err(e) => problems.push(format!("{source}: {e}")),
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    if suite.is_empty() {
        bail!("there is no assertion in what was named: a list `tests` that is not empty is expected");
    }
    let mut state = Reader::new(config).state(&paths, io)?;
    give_addresses(&mut [&mut state]);
    let verdicts = suite.judge(&state);
    if let Some(path) = &args.junit {
        std::fs::write(path, junit(&verdicts)).with_context(|| format!("writing {}", path.display()))?;
    }
    match args.output {
        TestFormat::Table => print(&verdicts, io)?,
        TestFormat::Json => io.value(Format::Json, &serde_json::to_value(&verdicts)?)?,
        TestFormat::Yaml => io.value(Format::Yaml, &serde_json::to_value(&verdicts)?)?,
        TestFormat::Junit => io.output.write_all(junit(&verdicts).as_bytes())?,
    }
    let wanted = args.min_coverage.unwrap_or_default();
    if percent(&verdicts) < usize::from(wanted) {
        io.remark(&format!(
            "caracal policy: coverage is {} %, wanted is {wanted} %",
            percent(&verdicts)
        ));
        return Ok(FOUND);
    }
    Ok(if verdicts.passed() { CLEAN } else { FOUND })
}

fn percent(verdicts: &Verdicts) -> usize {
    let c = &verdicts.coverage;
    (c.covered * 100).checked_div(c.rules).unwrap_or(100)
}

fn print(verdicts: &Verdicts, io: &mut Io<'_>) -> anyhow::Result<()> {
    let out = &mut *io.output;
    let row = |o: &Outcome| {
        let result = if o.passed { "ok" } else { "FAILED" };
        [
            result,
            o.from.as_str(),
            o.to.as_str(),
            o.port.as_str(),
            o.expect,
            o.name.as_str(),
        ]
        .map(str::to_owned)
    };
    let mut rows = vec![["RESULT", "FROM", "TO", "PORT", "EXPECT", "NAME"].map(str::to_owned)];
    rows.extend(verdicts.outcomes.iter().map(row));
    let width = |n: usize| {
        rows.iter()
            .map(|r| r[n].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    for (n, row) in rows.iter().enumerate() {
        for (text, width) in row.iter().zip(&widths) {
            write!(out, "{text:<width$}  ")?;
        }
        writeln!(out, "{}", row[5])?;
        let failures = n.checked_sub(1).map(|n| &verdicts.outcomes[n].failures);
        for failure in failures.into_iter().flatten() {
            writeln!(out, "        {failure}")?;
        }
    }
    let passed = verdicts.outcomes.iter().filter(|o| o.passed).count();
    let coverage = &verdicts.coverage;
    writeln!(
        out,
        "\n{passed} of {} assertions hold; {} of {} rules ({} %) decide one.",
        verdicts.outcomes.len(),
        coverage.covered,
        coverage.rules,
        percent(verdicts)
    )?;
    for (policy, rule) in &coverage.uncovered {
        writeln!(out, "not tested: {policy} {rule}")?;
    }
    Ok(())
}

/// The format that CI systems read: a test case for each assertion, in a suite for each file.
fn junit(verdicts: &Verdicts) -> String {
    let failed = verdicts.outcomes.iter().filter(|o| !o.passed).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all = verdicts.outcomes.len();
    // Writing to a string cannot fail.
    let _ = writeln!(xml, "<testsuites tests=\"{all}\" failures=\"{failed}\">");
    let _ = writeln!(
        xml,
        "  <testsuite name=\"caracal policy test\" tests=\"{all}\" failures=\"{failed}\">"
    );
    for outcome in &verdicts.outcomes {
        let (name, place) = (escape(&outcome.name), escape(&outcome.place));
        let _ = write!(xml, "    <testcase name=\"{name}\" classname=\"{place}\"");
        if outcome.passed {
            xml.push_str("/>\n");
            continue;
        }
        let first = outcome.failures.first().map(String::as_str).unwrap_or_default();
        let text = escape(&outcome.failures.join("\n"));
        let _ = writeln!(
            xml,
            ">\n      <failure message=\"expected {}: {}\">{text}</failure>\n    </testcase>",
            outcome.expect,
            escape(first)
        );
    }
    let coverage = &verdicts.coverage;
    let _ = writeln!(
        xml,
        "    <system-out>{} of {} rules decide an assertion</system-out>",
        coverage.covered, coverage.rules
    );
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // What XML cannot hold at all.
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
