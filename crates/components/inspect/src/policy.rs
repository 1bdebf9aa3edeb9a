//! `caracal policy`.

mod diff;
mod input;
mod lint;
mod test;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use caracal_manifests::read_args;
use caracal_store::Store;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

/// Nothing was found: no change, no failure, no finding.
const CLEAN: i32 = 0;
/// Something was found.
const FOUND: i32 = 1;
/// The question could not be answered.
const BAD_INPUT: i32 = 2;

/// Where a command reads and writes, and the datastore if it is not the configured one.
pub struct Io<'a> {
    /// What `-` reads.
    pub input: &'a mut dyn Read,
    /// Results.
    pub output: &'a mut dyn Write,
    /// Errors and remarks.
    pub errors: &'a mut dyn Write,
    /// The datastore; decided by configuration and environment when absent.
    pub store: Option<Arc<dyn Store>>,
}

/// Questions about policies, before they are applied: over manifests, or over what is live.
#[derive(Debug, Parser)]
#[command(name = "caracal policy", bin_name = "caracal policy", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The file with the settings of the datastore.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Which connections a change opens and closes. Exit code 0: none, 1: some.
    Diff(Diff),
    /// Judges assertions on who reaches whom. Exit code 0: all hold, 1: some do not.
    Test(Test),
    /// Finds rules that do nothing or not what they read like. Exit code 0: none, 1: some.
    Lint(Lint),
}

#[derive(Debug, Args)]
struct Diff {
    /// The state before: a file, a directory, `-`, or `live` for the datastore.
    old: PathBuf,
    /// The state after.
    new: PathBuf,
    /// NEW says only what is added or changed; everything else is as in OLD.
    #[arg(long)]
    overlay: bool,
    /// Objects that both states have, for example pods and namespaces: a file, a directory, or `live`.
    #[arg(long = "with", value_name = "PATH")]
    with: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
struct Test {
    /// Files of assertions.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The objects that are tested: files, directories, `-`, or `live`.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    state: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: TestFormat,
    /// Write the result as JUnit XML, too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail when fewer rules than this many percent decide an assertion.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
}

#[derive(Debug, Args)]
struct Lint {
    /// The objects: files, directories, `-`, or `live`.
    #[arg(required = true, value_name = "PATH")]
    state: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// How the result of tests is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum TestFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
    /// For CI systems.
    Junit,
}

/// The command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn policy(args: Vec<OsString>) -> i32 {
    let (mut input, mut output, mut errors) = (io::stdin(), io::stdout(), io::stderr());
    let io = Io {
        input: &mut input,
        output: &mut output,
        errors: &mut errors,
        store: None,
    };
    policy_with(args, io)
}

/// The same over streams and a datastore of the caller's.
#[must_use]
pub fn policy_with(args: Vec<OsString>, io: Io<'_>) -> i32 {
    let cli: Cli = match read_args(args, io.output, io.errors, BAD_INPUT) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let mut output = Patient(io.output);
    let mut io = Io {
        input: &mut *io.input,
        output: &mut output,
        errors: &mut *io.errors,
        store: io.store,
    };
    let result = match &cli.command {
        Command::Diff(args) => diff::run(args, cli.config.as_deref(), &mut io),
        Command::Test(args) => test::run(args, cli.config.as_deref(), &mut io),
        Command::Lint(args) => lint::run(args, cli.config.as_deref(), &mut io),
    };
    let result = result.and_then(|code| {
        io.output.flush()?;
        Ok(code)
    });
    result.unwrap_or_else(|e| {
        // Nobody can be told when that fails.
        let _ = writeln!(io.errors, "caracal policy: {e:#}");
        BAD_INPUT
    })
}

/// Takes what a reader that left will not read: the exit code is then the verdict all the same.
struct Patient<'a>(&'a mut dyn Write);

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            outcome => outcome,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}

/// A number of things.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl Io<'_> {
    fn value(&mut self, format: Format, value: &Value) -> anyhow::Result<()> {
        let text = match format {
            Format::Yaml => caracal_api::value_to_yaml(value),
            Format::Json | Format::Table => format!("{value:#}\n"),
        };
        Ok(self.output.write_all(text.as_bytes())?)
    }

    fn remark(&mut self, text: &str) {
        // Nobody can be told when that fails.
        let _ = writeln!(self.errors, "{text}");
    }
}
