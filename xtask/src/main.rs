//! The project's own chores: `cargo xtask check-floors | sizes | licenses | skips | crds | ci | nightly | bench`.

use std::process::ExitCode;

use anyhow::Result;

mod bench;
mod ci;
mod crds;
mod floors;
mod licenses;
mod metadata;
mod nightly;
mod sizes;
mod skips;
mod source;
mod steps;

const USAGE: &str = "\
Usage: cargo xtask TASK

  check-floors  dependencies point down; pure crates touch nothing
  sizes         files and functions stay readable
  licenses      what is linked in has an allowed licence and source
  skips         no test was skipped that may not be
  crds          deploy/crds from the types; `crds --check` says which are stale
  ci            all that CI runs, with the time of each step
  nightly       all that `make nightly` runs; TABLE… by packets
  bench         the figures beside Calico's and the goals; `bench --help`
";

/// What a check found.
#[derive(Debug, Default)]
struct Findings {
    /// Each fails the check.
    errors: Vec<String>,
    /// Worth a look.
    warnings: Vec<String>,
}

impl Findings {
    /// Prints all and says whether the check passed.
    fn report(&self, check: &str) -> bool {
        for warning in &self.warnings {
            println!("{check}: warning: {warning}");
        }
        for error in &self.errors {
            println!("{check}: error: {error}");
        }
        if self.errors.is_empty() {
            println!("{check}: ok");
        }
        self.errors.is_empty()
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    match run(&task, &args.collect::<Vec<_>>()) {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        Ok(None) => {
            eprint!("{USAGE}");
            ExitCode::from(64)
        }
        Err(e) => {
            eprintln!("xtask {task}: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the task passed; `None` if there is no such task.
fn run(task: &str, args: &[String]) -> Result<Option<bool>> {
    let root = metadata::root()?;
    Ok(Some(match task {
        "check-floors" => floors::check(&root)?.report(task),
        "sizes" => sizes::check(&root)?.report(task),
        "licenses" => licenses::check(&root)?.report(task),
        "skips" => skips::check(&root)?.report(task),
        "crds" => crds::run(&root, args.iter().any(|a| a == "--check"))?.report(task),
        "ci" => ci::run(&root)?,
        "nightly" => nightly::run(&root, args)?,
        "bench" => bench::run(&root, args)?,
        _ => return Ok(None),
    }))
}
