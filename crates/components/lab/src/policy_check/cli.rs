//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use caracal_net::Family;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;

use super::report::{Format, Report};
use super::table::{self, Case};
use super::{kernel, model};

/// The exit code of input that cannot be used.
const BAD_INPUT: i32 = 2;

/// The exit code when the check itself could not be done.
pub(super) const NOT_DONE: i32 = 3;

/// Judges the cases of a truth table.
#[derive(Debug, Parser)]
#[command(
    name = "caracal policy-check",
    bin_name = "caracal policy-check",
    after_help = "Exit code: 0 when every verdict is as the table has it, 1 when one is not, 2 on input that cannot \
                  be used, 3 when the check could not be done."
)]
struct Cli {
    /// The truth table, JSON, plain or packed with gzip; - for standard input.
    file: PathBuf,
    /// Who judges.
    #[arg(long, value_enum, default_value_t = Dataplane::Model)]
    dataplane: Dataplane,
    /// The address family; 6 maps every IPv4 address of the table one to one into a /64.
    #[arg(long, value_enum, default_value_t = Families::V4)]
    family: Families,
    /// Only cases whose description matches.
    #[arg(long, value_name = "REGEX")]
    cases: Option<Regex>,
    /// How results are written.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dataplane {
    /// Engine and oracle: three verdicts a probe.
    Model,
    /// Packets between pods on several nodes of this machine, as root: one verdict a probe.
    Nftables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Families {
    /// IPv4.
    #[value(name = "4")]
    V4,
    /// IPv6.
    #[value(name = "6")]
    V6,
    /// One after the other.
    Both,
}

impl Families {
    fn list(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Both => &Family::BOTH,
        }
    }
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
    let mut cases = match table::read(&cli.file) {
        Ok(cases) => cases,
        Err(e) => {
            eprintln!("caracal policy-check: {e}");
            return BAD_INPUT;
        }
    };
    if let Some(wanted) = &cli.cases {
        cases.retain(|c| wanted.is_match(&c.description));
        if cases.is_empty() {
            eprintln!(
                "caracal policy-check: no case's Description matches {:?}",
                wanted.as_str()
            );
        }
    }
    let families = cli.family.list();
    let mut report = Report::new(cli.output, progress(&cli, &cases));
    let outcome = match cli.dataplane {
        Dataplane::Model => by_model(&cases, families, &mut report),
        Dataplane::Nftables => kernel::check(&cases, families, &mut report),
    };
    match outcome {
        Ok(()) => report.finish(),
        Err(e) => {
            report.finish();
            eprintln!("caracal policy-check: the check could not be finished: {e:#}");
            NOT_DONE
        }
    }
}

fn by_model(cases: &[Case], families: &[Family], report: &mut Report) -> anyhow::Result<()> {
    for family in families {
        for case in cases {
            model::check(case, *family, report)?;
        }
    }
    Ok(())
}

/// What a terminal shows while packets are sent; the model is done at once.
fn progress(cli: &Cli, cases: &[Case]) -> ProgressBar {
    if cli.dataplane == Dataplane::Model {
        return ProgressBar::hidden();
    }
    let steps: usize = cases.iter().map(|c| c.steps.len()).sum();
    let all = (steps * cli.family.list().len()) as u64;
    // The default look serves when the template is wrong, which a test would show.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} left");
    ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
