//! What is counted and printed.

use std::fmt;
use std::io::Write;

use caracal_net::Family;
use caracal_oracle::Verdict;
use serde::Serialize;

use super::table::{Case, Probe, Step};
use crate::prober::Transport;

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Judged {
    /// The pod that is asked.
    Ingress,
    /// The pod that asks.
    Egress,
    /// The connection.
    Combined,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Combined => "combined",
        })
    }
}

/// A verdict that is not as the table has it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    case: usize,
    description: String,
    step: usize,
    family: u8,
    from: String,
    to: String,
    protocol: Transport,
    port: u16,
    judged: Judged,
    expected: Verdict,
    got: Verdict,
    /// The rule, or what else, that led to the verdict.
    decided: String,
}

impl Finding {
    /// A finding about a probe of the step with this place in its case; verdicts as expected and as found.
    pub(super) fn new(
        (case, place): (&Case, usize),
        family: Family,
        (step, probe): (&Step, &Probe),
        judged: Judged,
        (expected, got): (Verdict, Verdict),
        decided: String,
    ) -> Self {
        Self {
            case: case.number,
            description: case.description.clone(),
            step: place + 1,
            family: family.number(),
            from: step.pods[probe.from].id(),
            to: step.pods[probe.to].id(),
            protocol: probe.protocol,
            port: probe.port,
            judged,
            expected,
            got,
            decided,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "case {} {:?}, step {}, IPv{}: {} -> {} {} {}: {} should be {}, is {} ({})",
            self.case,
            self.description,
            self.step,
            self.family,
            self.from,
            self.to,
            self.protocol,
            self.port,
            self.judged,
            self.expected,
            self.got,
            self.decided
        )
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line per mismatch, and a last line with the counts.
    Text,
    /// One JSON object on standard output; the line with the counts on standard error.
    Json,
}

/// Counts, and mismatches.
pub(super) struct Report {
    format: Format,
    checked: u64,
    skipped: u64,
    mismatched: u64,
    findings: Vec<Finding>,
    progress: indicatif::ProgressBar,
}

#[derive(Serialize)]
struct Json<'a> {
    checked: u64,
    mismatched: u64,
    skipped: u64,
    mismatches: &'a [Finding],
}

impl Report {
    /// Nothing counted yet; `progress` is what a terminal shows meanwhile.
    pub(super) fn new(format: Format, progress: indicatif::ProgressBar) -> Self {
        Self {
            format,
            checked: 0,
            skipped: 0,
            mismatched: 0,
            findings: Vec::new(),
            progress,
        }
    }

    /// Counts a verdict; `finding` tells about one that is wrong.
    pub(super) fn verdict(&mut self, right: bool, finding: impl FnOnce() -> Finding) {
        self.checked += 1;
        if right {
            return;
        }
        self.mismatched += 1;
        let finding = finding();
        match self.format {
            Format::Text => self.progress.suspend(|| say(&finding.to_string())),
            Format::Json => self.findings.push(finding),
        }
    }

    /// Counts verdicts that could not be had.
    pub(super) fn skipped(&mut self, n: u64) {
        self.skipped += n;
    }

    /// Tells something that is no verdict.
    pub(super) fn warn(&self, what: &str) {
        self.progress.suspend(|| eprintln!("warning: {what}"));
    }

    /// Goes on by one step.
    pub(super) fn advance(&self) {
        self.progress.inc(1);
    }

    /// Checked, mismatched, skipped.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.checked, self.mismatched, self.skipped)
    }

    /// The mismatches as text; kept only for JSON.
    #[cfg(test)]
    pub(super) fn findings(&self) -> Vec<String> {
        self.findings.iter().map(ToString::to_string).collect()
    }

    /// Prints what there is to print at the end; the exit code.
    pub(super) fn finish(self) -> i32 {
        self.progress.finish_and_clear();
        let counts = format!(
            "checked {}, mismatched {}, skipped {}",
            self.checked, self.mismatched, self.skipped
        );
        match self.format {
            Format::Text => say(&counts),
            Format::Json => {
                let json = Json {
                    checked: self.checked,
                    mismatched: self.mismatched,
                    skipped: self.skipped,
                    mismatches: &self.findings,
                };
                match serde_json::to_string_pretty(&json) {
                    Ok(text) => say(&text),
                    Err(e) => eprintln!("the result cannot be written as JSON: {e}"),
                }
                eprintln!("{counts}");
            }
        }
        i32::from(self.mismatched > 0)
    }
}

/// Prints a line; a reader that went away wants no more. Verdicts that nobody can have read are none: any other failure is
/// the end.
fn say(line: &str) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("caracal policy-check: writing the result: {e}");
            std::process::exit(super::cli::NOT_DONE);
        }
        _ => {}
    }
}
