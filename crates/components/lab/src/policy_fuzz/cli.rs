//! The command line.

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    path::PathBuf,
};

use caracal_policy_fuzz::{Case, Dataplane, Mistake, Model, check_believing, shrink};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{files, kernel::Kernel, staged};

/// The exit code when a packet was judged differently.
const DIFFERENT: i32 = 1;

/// The exit code when the check itself could not be done.
const NOT_DONE: i32 = 3;

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
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    packets: u32,
    /// What packets go through.
    #[arg(long, value_enum, default_value_t = Through::Model)]
    dataplane: Through,
    /// Instead: changes each case by so many steps, with packets all the while, and compares the end with a start from
    /// nothing; with --dataplane nftables.
    #[arg(long, default_value_t = 0, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(..=10_000))]
    history: u32,
    /// Kills the agent or the datastore, in turn, in the middle of each third step of a history.
    #[arg(long, requires = "history")]
    kill: bool,
    /// How the result is written.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Show the first case instead of judging.
    #[arg(long)]
    show: bool,
    /// Instead: judges the cases of a file, one JSON object a line, - for standard input, or of all files of a folder by
    /// their names; for each a line with its verdicts.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["show", "history", "cases", "seed", "packets"])]
    file: Option<PathBuf>,
    /// Instead: cases with staged policies, three times: with them, without them, and with them enforced; the first two
    /// must be the same, and the third what was foretold.
    #[arg(long, conflicts_with_all = ["history", "file", "mistake"])]
    staged: bool,
    /// Instead: the objects are read with this deliberate mistake, which the run is to find; a wrong name lists them all.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["show", "history", "file"])]
    mistake: Option<Mistake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Through {
    /// The tables for the kernel, read by a model of it.
    Model,
    /// Packets through a kernel that an agent has programmed, in network namespaces of this machine, as root.
    Nftables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One object.
    Json,
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
    if cli.show {
        print(&cli.case(0).to_yaml());
        return 0;
    }
    if let Some(file) = &cli.file {
        let dataplane = || -> anyhow::Result<Box<dyn Dataplane>> {
            Ok(match cli.dataplane {
                Through::Model => Box::new(Model::default()),
                Through::Nftables => Box::new(Kernel::start()?),
            })
        };
        return match files::judge(file, dataplane) {
            Ok(true) => 0,
            Ok(false) => DIFFERENT,
            Err(e) => {
                eprintln!("caracal policy-fuzz: {e:#}");
                NOT_DONE
            }
        };
    }
    let progress = cli.progress();
    let outcome = cli.judge_all(&progress);
    progress.finish_and_clear();
    match &outcome {
        Ok(verdicts) => cli.tell(*verdicts, None),
        Err((verdicts, failure)) => cli.tell(*verdicts, Some(failure)),
    }
    outcome.map_or_else(|(_, failure)| failure.code(), |_| 0)
}

impl Cli {
    /// Neighbouring runs must not share all their cases by accident of a seed at the end of the numbers.
    fn case(&self, n: u64) -> Case {
        let (seed, packets) = (self.seed.wrapping_add(n), self.packets as usize);
        let mut case = match self.staged {
            true => Case::random_staged(seed, packets),
            false => Case::random(seed, packets),
        };
        if self.history > 0 {
            case.slices.clear();
        }
        case
    }

    /// What a terminal shows meanwhile.
    fn progress(&self) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        // The default look serves when the template is wrong, which a test would show.
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} cases, {eta} left");
        ProgressBar::new(self.cases).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// How many packets were judged the same; and why no more were.
    fn judge_all(&self, progress: &ProgressBar) -> Result<usize, (usize, Failure)> {
        let mut verdicts = 0;
        let not_done = |e: anyhow::Error| Failure::NotDone {
            seed: self.seed,
            why: format!("{e:#}"),
        };
        match self.dataplane {
            Through::Model if self.history > 0 => {
                let why = "histories are of kernels: give --dataplane nftables".to_owned();
                Err((0, Failure::NotDone { seed: self.seed, why }))
            }
            Through::Model => self.each(progress, &mut verdicts, |case| {
                self.judge(case, &mut Model::default(), SHRINKING)
            }),
            Through::Nftables => {
                let mut kernel = Kernel::start().map_err(|e| (0, not_done(e)))?;
                if self.history > 0 {
                    return self.each(progress, &mut verdicts, |case| self.follow(case, &mut kernel));
                }
                self.each(progress, &mut verdicts, |case| {
                    self.judge(case, &mut kernel, SHRINKING_PACKETS)
                })
            }
        }
    }

    fn judge(&self, case: &Case, dataplane: &mut dyn Dataplane, budget: usize) -> Result<usize, Failure> {
        match self.staged {
            true => judge_by(case, dataplane, budget, staged::check),
            false => judge(case, dataplane, budget, self.mistake),
        }
    }

    fn each(
        &self,
        progress: &ProgressBar,
        verdicts: &mut usize,
        mut one: impl FnMut(&Case) -> Result<usize, Failure>,
    ) -> Result<usize, (usize, Failure)> {
        for n in 0..self.cases {
            match one(&self.case(n)) {
                Ok(agreed) => *verdicts += agreed,
                Err(failure) => return Err((*verdicts, failure)),
            }
            progress.inc(1);
        }
        Ok(*verdicts)
    }

    /// How many packets were sent along a history.
    fn follow(&self, case: &Case, kernel: &mut Kernel) -> Result<usize, Failure> {
        let mut history = vec![case.clone()];
        for step in 0..u64::from(self.history) {
            let next = match (step % 5, history.as_slice()) {
                // What was true before comes again.
                (4, [.., earlier, _, _]) => earlier.clone(),
                (_, [.., last]) => last.next(step),
                _ => break,
            };
            history.push(next);
        }
        let seed = case.seed;
        kernel
            .history(&history, self.kill)
            .map_err(|why| Failure::NotKept { seed, why })
    }

    /// Prints how it ended.
    fn tell(&self, verdicts: usize, failure: Option<&Failure>) {
        if self.output == Output::Json {
            let value = json!({
                "seed": self.seed, "cases": self.cases, "packets": verdicts, "agreed": failure.is_none(),
                "failure": failure.map(ToString::to_string),
            });
            print(&format!("{value}\n"));
            return;
        }
        match failure {
            Some(failure) => eprint!("{failure}"),
            None if self.history > 0 => print(&format!(
                "{verdicts} packets sent during {} changes of {} cases (seeds {} to {}): none lost that all allow, none let \
                 through that all deny; each ends as from nothing\n",
                self.cases * u64::from(self.history),
                self.cases,
                self.seed,
                self.seed.wrapping_add(self.cases - 1),
            )),
            None => print(&format!(
                "{verdicts} packets of {} cases (seeds {} to {}): all agree\n",
                self.cases,
                self.seed,
                self.seed.wrapping_add(self.cases - 1),
            )),
        }
    }
}

/// How many smaller cases are tried before a failing one is shown; fewer where each is sent.
const SHRINKING: usize = 20_000;
const SHRINKING_PACKETS: usize = 400;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("caracal policy-fuzz: seed {seed}: {why}\n")]
    NotDone { seed: u64, why: String },
    #[error("caracal policy-fuzz: seed {seed}: {why}\n")]
    NotKept { seed: u64, why: String },
    #[error("{0}")]
    Different(String),
}

impl Failure {
    fn code(&self) -> i32 {
        match self {
            Self::NotDone { .. } => NOT_DONE,
            Self::Different(_) | Self::NotKept { .. } => DIFFERENT,
        }
    }
}

/// How many packets of a case all agree on.
fn judge(
    case: &Case,
    dataplane: &mut dyn Dataplane,
    budget: usize,
    mistake: Option<Mistake>,
) -> Result<usize, Failure> {
    let check = |case: &Case, dataplane: &mut dyn Dataplane| {
        let (agreed, difference) = check_believing(case, dataplane, mistake)?;
        Ok((agreed, difference.map(|d| d.to_string())))
    };
    judge_by(case, dataplane, budget, check)
}

/// How many packets of a case a check has no difference to tell of; else the smallest case that still has one.
fn judge_by(
    case: &Case,
    dataplane: &mut dyn Dataplane,
    budget: usize,
    check: impl Fn(&Case, &mut dyn Dataplane) -> Result<(usize, Option<String>), String>,
) -> Result<usize, Failure> {
    let seed = case.seed;
    let failed = |why| Failure::NotDone { seed, why };
    let (agreed, difference) = check(case, dataplane).map_err(failed)?;
    if difference.is_none() {
        return Ok(agreed);
    }
    let small = shrink(case, budget, |c| {
        check(c, dataplane).is_ok_and(|(_, d)| d.is_some())
    });
    let (_, difference) = check(&small, dataplane).map_err(failed)?;
    let difference =
        difference.unwrap_or_else(|| "it did not happen again with the smallest case".to_owned());
    Err(Failure::Different(format!(
        "{}# for --file: {}\n{}\nseed {seed}: not all agree\n{difference}",
        small.to_yaml(),
        serde_json::to_string(&small).unwrap_or_default(),
        dataplane.show(),
    )))
}

/// Prints, and does not mind a reader that went away. What nobody can have read was not found out: any other failure is
/// the end.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("caracal policy-fuzz: writing the result: {e}");
            std::process::exit(NOT_DONE);
        }
        _ => {}
    }
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
        let blocked = (1..50).map(|seed| judge(&Case::random(seed, 20), &mut Open, SHRINKING, None));
        let text = blocked.filter_map(Result::err).map(|f| f.to_string()).next();
        let text = text.expect("some packet is blocked");
        assert!(text.contains("not all agree") && text.contains("the dataplane     allowed"));
        assert_eq!(text.matches("# packet").count(), 1, "{text}");
    }

    #[test]
    fn a_mistake_is_found_and_shown_small_with_its_seed() {
        for (mistake, said) in [
            ("PassIsAllow", "action: Pass"),
            ("StagedEnforced", "kind: Staged"),
            ("NotPortsIgnored", "notPorts"),
        ] {
            let mistake = Some(mistake.parse().unwrap());
            let (seed, text) = (1..2000)
                .find_map(|seed| {
                    let failed =
                        judge(&Case::random(seed, 40), &mut Model::default(), SHRINKING, mistake).err();
                    failed.map(|f| (seed, f.to_string()))
                })
                .expect("every mistake is found");
            assert!(text.contains(&format!("seed {seed}: not all agree")), "{text}");
            assert!(text.contains(said) && text.contains("# for --file: {"), "{text}");
            assert_eq!(text.matches("# packet").count(), 1, "{text}");
            assert!(text.matches("\nkind: ").count() <= 6, "{text}");
        }
        let e = "Nothing".parse::<Mistake>().unwrap_err();
        assert!(e.contains("PassIsAllow: Pass allows"), "{e}");
    }

    /// A dataplane that enforces what is staged.
    struct Hasty;

    impl Dataplane for Hasty {
        fn verdicts(&mut self, case: &Case) -> Result<Vec<bool>, String> {
            Model::default().verdicts(&case.committed())
        }

        fn show(&self) -> String {
            "hasty".into()
        }
    }

    #[test]
    fn staged_policies_that_are_enforced_are_found_and_shown() {
        let good = |seed| {
            judge_by(
                &Case::random_staged(seed, 20),
                &mut Model::default(),
                1,
                staged::check,
            )
        };
        assert!((1..20).all(|seed| good(seed).is_ok_and(|n| n == 60)));
        let bad = |seed| {
            judge_by(
                &Case::random_staged(seed, 20),
                &mut Hasty,
                SHRINKING,
                staged::check,
            )
        };
        let text = (1..50)
            .find_map(|seed| bad(seed).err())
            .expect("some staged policy matters");
        let text = text.to_string();
        assert!(
            text.contains("not all agree") && text.contains("kind: Staged"),
            "{text}"
        );
        assert_eq!(text.matches("# packet").count(), 1, "{text}");
    }

    #[test]
    fn the_model_agrees() {
        assert!(judge(&Case::random(1, 20), &mut Model::default(), SHRINKING, None).is_ok_and(|n| n == 20));
    }
}
