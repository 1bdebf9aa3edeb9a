//! What CI runs: every step, all of them even if one fails, with the time each took.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{crds, floors, licenses, sizes, skips};

struct Step {
    name: &'static str,
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

/// Runs every step; whether all passed.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let mut steps = Vec::new();
    let mut step = |name: &'static str, work: &mut dyn FnMut() -> Result<bool>| {
        println!("\n== {name}");
        let start = Instant::now();
        let passed = work().unwrap_or_else(|e| {
            println!("{name}: error: {e:#}");
            false
        });
        steps.push(Step {
            name,
            passed,
            took: start.elapsed(),
        });
    };
    step("fmt", &mut || cargo(root, &["fmt", "--all", "--check"], &[]));
    step("check-floors", &mut || {
        Ok(floors::check(root)?.report("check-floors"))
    });
    step("sizes", &mut || Ok(sizes::check(root)?.report("sizes")));
    step("crds", &mut || Ok(crds::run(root, true)?.report("crds")));
    step("licenses", &mut || Ok(licenses::check(root)?.report("licenses")));
    if has_cargo_deny() {
        step("deny", &mut || {
            cargo(
                root,
                &["deny", "--offline", "check", "licenses", "bans", "sources"],
                &[],
            )
        });
    }
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    step("clippy", &mut || cargo(root, &clippy, &[]));
    let doc = ["doc", "--locked", "--workspace", "--no-deps"];
    step("doc", &mut || {
        cargo(root, &doc, &[("RUSTDOCFLAGS", "-D warnings")])
    });
    let mut count = Count::default();
    step("test", &mut || test(root, &mut count));
    step("skips", &mut || Ok(skips::check(root)?.report("skips")));

    println!("\n== summary");
    for step in &steps {
        let verdict = if step.passed { "ok" } else { "FAILED" };
        println!("{:<14}{:>8.1} s  {verdict}", step.name, step.took.as_secs_f64());
    }
    let skipped = skips::count()?;
    println!(
        "tests: {} passed, {} failed, {} skipped",
        count.passed.saturating_sub(skipped),
        count.failed,
        count.ignored + skipped
    );
    Ok(steps.iter().all(|s| s.passed))
}

fn has_cargo_deny() -> bool {
    caracal_testkit::find_tool("cargo-deny").is_some()
}

fn cargo(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    Ok(command
        .status()
        .with_context(|| format!("start cargo {}", args[0]))?
        .success())
}

/// `make test` with a fresh skip ledger. A run that executes no test has not passed.
fn test(root: &Path, count: &mut Count) -> Result<bool> {
    let ledger = skips::ledger_path();
    match std::fs::remove_file(&ledger) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("remove {}", ledger.display()));
        }
        _ => {}
    }
    let mut make = Command::new("make");
    // Not through a pipe of make's own making: a jobserver of an outer make would be half inherited.
    make.current_dir(root)
        .arg("test")
        .env_remove("MAKEFLAGS")
        .env("CARACAL_SKIP_LEDGER", &ledger);
    let mut child = make
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start make test")?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n') {
            let line = line.context("read what make test says")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count.add(&line);
        }
    }
    let passed = child.wait().context("wait for make test")?.success();
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
}
