//! What CI runs: every step, all of them even if one fails, with the time each took.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{crds, floors, licenses, sizes, skips, steps::Steps, steps::succeeds};

/// Runs every step; whether all passed.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let mut steps = Steps::default();
    steps.step("fmt", || cargo(root, &["fmt", "--all", "--check"], &[]));
    steps.step("check-floors", || Ok(floors::check(root)?.report("check-floors")));
    steps.step("sizes", || Ok(sizes::check(root)?.report("sizes")));
    steps.step("crds", || Ok(crds::run(root, true)?.report("crds")));
    steps.step("licenses", || Ok(licenses::check(root)?.report("licenses")));
    if has_cargo_deny() {
        steps.step("deny", || {
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
    steps.step("clippy", || cargo(root, &clippy, &[]));
    let doc = ["doc", "--locked", "--workspace", "--no-deps"];
    steps.step("doc", || cargo(root, &doc, &[("RUSTDOCFLAGS", "-D warnings")]));
    let mut make = Command::new("make");
    // Not through a pipe of make's own making: a jobserver of an outer make would be half inherited.
    make.current_dir(root).arg("test").env_remove("MAKEFLAGS");
    steps.tests(make);
    steps.step("skips", || Ok(skips::check(root)?.report("skips")));
    steps.end()
}

fn has_cargo_deny() -> bool {
    caracal_testkit::find_tool("cargo-deny").is_some()
}

fn cargo(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(args).envs(env.iter().copied());
    succeeds(&mut command)
}
