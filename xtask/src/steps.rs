//! Steps of a long run: all of them, even if one fails, with the time each took.

use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::skips;

struct Step {
    name: String,
    passed: bool,
    took: Duration,
}

/// What the test runner's closing lines say, summed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// What was done and how it ended.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
    count: Count,
}

impl Steps {
    /// Does a step; whatever it says, the next one is done as well.
    pub(crate) fn step(&mut self, name: impl Into<String>, work: impl FnOnce() -> Result<bool>) {
        self.counting(name, |_| work());
    }

    /// Does the step that runs tests by this command: with a fresh ledger of skips, which the step behind it checks. A run
    /// that executes no test has not passed.
    pub(crate) fn tests(&mut self, mut command: Command) {
        self.counting("test", |count| test(&mut command, count));
    }

    fn counting(&mut self, name: impl Into<String>, work: impl FnOnce(&mut Count) -> Result<bool>) {
        let name = name.into();
        println!("\n== {name}");
        let start = Instant::now();
        let passed = work(&mut self.count).unwrap_or_else(|e| {
            println!("{name}: error: {e:#}");
            false
        });
        self.done.push(Step {
            name,
            passed,
            took: start.elapsed(),
        });
    }

    /// Prints what was done; whether all passed.
    pub(crate) fn end(self) -> Result<bool> {
        println!("\n== summary");
        let width = self.done.iter().map(|s| s.name.len()).max().unwrap_or(0).max(14);
        for Step { name, passed, took } in &self.done {
            let verdict = if *passed { "ok" } else { "FAILED" };
            println!("{name:<width$}{:>8.1} s  {verdict}", took.as_secs_f64());
        }
        let skipped = skips::count()?;
        println!(
            "tests: {} passed, {} failed, {} skipped",
            self.count.passed.saturating_sub(skipped),
            self.count.failed,
            self.count.ignored + skipped
        );
        Ok(self.done.iter().all(|s| s.passed))
    }
}

/// Whether a command ends well.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status();
    Ok(status.with_context(|| format!("start {name}"))?.success())
}

fn test(command: &mut Command, count: &mut Count) -> Result<bool> {
    let ledger = skips::ledger_path();
    match std::fs::remove_file(&ledger) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("remove {}", ledger.display()));
        }
        _ => {}
    }
    let mut child = command
        .env("CARACAL_SKIP_LEDGER", &ledger)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the tests")?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n') {
            let line = line.context("read what the tests say")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count.add(&line);
        }
    }
    let passed = child.wait().context("wait for the tests")?.success();
    if count.passed == 0 {
        println!("test: error: no test was run");
    }
    Ok(passed && count.passed > 0 && count.failed == 0)
}

impl Count {
    /// Adds `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse::<u64>().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse::<u64>().unwrap_or(0),
                Some((n, "ignored")) => self.ignored += n.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let mut count = Count::default();
        count.add(
            "test result: ok. 40 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.94s",
        );
        count.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        count.add("running 7 tests");
        assert_eq!(
            count,
            Count {
                passed: 42,
                failed: 3,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_step_that_fails_stops_no_other_and_fails_the_run() {
        let mut done = Vec::new();
        let mut steps = Steps::default();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        steps.step("good", || succeeds(&mut shell("exit 0")));
        steps.step("bad", || succeeds(&mut shell("exit 3")));
        steps.step("broken", || anyhow::bail!("it cannot be done"));
        steps.step("absent", || {
            succeeds(&mut Command::new("there-is-no-such-program"))
        });
        steps.step("last", || {
            done.push("last");
            Ok(true)
        });
        assert_eq!(done, ["last"]);
        let passed: Vec<_> = steps.done.iter().map(|s| (s.name.as_str(), s.passed)).collect();
        assert_eq!(
            passed,
            [
                ("good", true),
                ("bad", false),
                ("broken", false),
                ("absent", false),
                ("last", true)
            ]
        );
        assert!(!steps.end().is_ok_and(|passed| passed));
        let mut fine = Steps::default();
        fine.step("good", || Ok(true));
        assert!(fine.end().is_ok_and(|passed| passed));
    }
}
