//! The long run of the night: every step, all of them even if one fails; skips are held against the list as CI's are.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{skips, steps::Steps, steps::succeeds};

/// Runs the steps, with the truth tables of these files by packets; whether all passed. `CARACAL_BIN` names the program that
/// is built for it.
pub(crate) fn run(root: &Path, tables: &[String]) -> Result<bool> {
    let program = std::env::var_os("CARACAL_BIN").context("CARACAL_BIN is not set: use `make nightly`")?;
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root);
        command
    };
    let mut steps = Steps::default();
    steps.step("build", || {
        succeeds(cargo().args(["build", "--locked", "--workspace", "--bin", "caracal"]))
    });
    let mut tests = cargo();
    tests
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .envs([
            ("PROPTEST_CASES", "1024"),
            ("CARACAL_POD_STARTS", "1000"),
            ("CARACAL_NIGHTLY", "1"),
        ]);
    steps.tests(tests);
    steps.step("skips", || Ok(skips::check(root)?.report("skips")));
    for table in tables {
        let mut command = Command::new(&program);
        command.current_dir(root).args(["policy-check", table]).args([
            "--dataplane",
            "nftables",
            "--family",
            "both",
        ]);
        steps.step(table, || succeeds(&mut command));
    }
    steps.end()
}
