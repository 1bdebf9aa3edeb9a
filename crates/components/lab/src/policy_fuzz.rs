//! `caracal policy-fuzz`: random clusters and packets, on which the objects, the engine and a dataplane must agree.
//!
//! A case follows from its seed alone. One that fails is made small and shown: the manifests, the packet, who says what.

use std::{ffi::OsString, io::Write};

use caracal_policy_fuzz::{Case, Dataplane, Model, check, shrink};
use clap::{Parser, ValueEnum};

/// The exit code when a packet was judged differently.
const DIFFERENT: i32 = 1;

/// The exit code when the check itself could not be done.
const NOT_DONE: i32 = 3;

/// How many smaller cases are tried before a failing one is shown.
const SHRINKING: usize = 20_000;

/// Compares the verdicts of objects, engine and dataplane on random policies and packets.
#[derive(Debug, Parser)]
#[command(
    name = "caracal policy-fuzz",
    bin_name = "caracal policy-fuzz",
    after_help = "Case N is made of seed S + N: to see one again, give its seed and --cases 1.\n\n\
                  Exit code: 0 when all agree, 1 when they do not, 2 on a wrong command line, 3 when the check could \
                  not be done."
)]
struct Cli {
    /// The seed of the first case.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many cases.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    cases: u64,
    /// Packets of each case.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    packets: u32,
    /// What packets go through.
    #[arg(long, value_enum, default_value_t = Through::Model)]
    dataplane: Through,
    /// Show the first case instead of judging.
    #[arg(long)]
    show: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Through {
    /// The tables for the kernel, read by a model of it.
    Model,
}

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nothing more can be said when even the terminal is gone.
            let _ = e.print();
            return e.exit_code();
        }
    };
    // Neighbouring runs must not share all their cases by accident of a seed at the end of the numbers.
    let case = |n: u64| Case::random(cli.seed.wrapping_add(n), cli.packets as usize);
    if cli.show {
        print(&case(0).to_yaml());
        return 0;
    }
    let mut dataplane = match cli.dataplane {
        Through::Model => Model::default(),
    };
    let mut verdicts = 0;
    for n in 0..cli.cases {
        match judge(&case(n), &mut dataplane) {
            Ok(agreed) => verdicts += agreed,
            Err(failure) => {
                eprint!("{failure}");
                return failure.code();
            }
        }
    }
    print(&format!(
        "{verdicts} packets of {} cases (seeds {} to {}): all agree\n",
        cli.cases,
        cli.seed,
        cli.seed.wrapping_add(cli.cases - 1),
    ));
    0
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("caracal policy-fuzz: seed {seed}: {why}\n")]
    NotDone { seed: u64, why: String },
    #[error("{0}")]
    Different(String),
}

impl Failure {
    fn code(&self) -> i32 {
        match self {
            Self::NotDone { .. } => NOT_DONE,
            Self::Different(_) => DIFFERENT,
        }
    }
}

/// How many packets of a case all agree on.
fn judge(case: &Case, dataplane: &mut dyn Dataplane) -> Result<usize, Failure> {
    let seed = case.seed;
    let failed = |why| Failure::NotDone { seed, why };
    let (agreed, difference) = check(case, dataplane).map_err(failed)?;
    if difference.is_none() {
        return Ok(agreed);
    }
    let differs = |c: &Case| check(c, dataplane).is_ok_and(|(_, d)| d.is_some());
    let small = shrink(case, SHRINKING, differs);
    let (_, difference) = check(&small, dataplane).map_err(failed)?;
    let difference = difference.map_or_else(
        || "it did not happen again with the smallest case".to_owned(),
        |d| d.to_string(),
    );
    Err(Failure::Different(format!(
        "{}\n{}\nseed {seed}: not all agree\n{difference}",
        small.to_yaml(),
        dataplane.show(),
    )))
}

/// Prints, and does not mind a reader that went away.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dataplane that lets everything through.
    struct Open;

    impl Dataplane for Open {
        fn verdicts(&mut self, case: &Case) -> Result<Vec<bool>, String> {
            Ok(vec![true; case.trips.len()])
        }

        fn show(&self) -> String {
            "open".into()
        }
    }

    #[test]
    fn a_difference_is_shown_small_with_its_seed() {
        let blocked = (1..50).map(|seed| judge(&Case::random(seed, 20), &mut Open));
        let text = blocked.filter_map(Result::err).map(|f| f.to_string()).next();
        let text = text.expect("some packet is blocked");
        assert!(text.contains("not all agree") && text.contains("the dataplane     allowed"));
        assert_eq!(text.matches("# packet").count(), 1, "{text}");
    }

    #[test]
    fn the_model_agrees() {
        assert!(judge(&Case::random(1, 20), &mut Model::default()).is_ok_and(|n| n == 20));
    }
}
