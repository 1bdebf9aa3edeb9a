use std::{
    ffi::OsString,
    io::{Read, Write},
    path::PathBuf,
};

use caracal_api::written;
use caracal_manifests::{Depth, read_args, texts};
use clap::{Parser, ValueEnum};

use crate::{
    judge::{Judged, Severity, judge, unreadable},
    report,
};

/// An object is refused.
const REFUSED: i32 = 1;
/// Input cannot be read, or the command line is wrong.
const UNUSABLE: i32 = 2;

#[derive(Parser)]
#[command(
    name = "caracal validate",
    about = "Says what an API server would refuse in manifests, and what calicoctl and the agent would",
    after_help = "Objects: all kinds of projectcalico.org/v3 and crd.projectcalico.org/v1, ClusterNetworkPolicy, and \
                  the Kubernetes kinds that Calico reads. An error is what the kind's schema or rules refuse; a warning \
                  is what they let pass and calicoctl or the agent refuse.\n\n\
                  Exit code: 0 when every object would be taken, 1 when one would be refused (with --strict: or has a \
                  warning), 2 when input cannot be read."
)]
struct Cli {
    /// Files, directories, or - for standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as calicoctl takes them.
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Look into the directories below a directory, too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// How the verdicts are printed.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Refuse for warnings, too.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// A JSON array, an object for each object.
    Json,
    /// The same as YAML.
    Yaml,
}

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    run_with(
        args,
        &mut std::io::stdin(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )
}

/// As [`run`], over the caller's input and output.
pub fn run_with(args: Vec<OsString>, stdin: &mut dyn Read, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let cli: Cli = match read_args(args, out, err, UNUSABLE) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let paths: Vec<&PathBuf> = cli.files.iter().chain(&cli.filename).collect();
    if paths.is_empty() {
        let _ = writeln!(
            err,
            "caracal validate: name the files to look at, or - for standard input"
        );
        return UNUSABLE;
    }
    let depth = if cli.recursive {
        Depth::Recursive
    } else {
        Depth::Flat
    };
    let mut judged: Vec<Judged> = Vec::new();
    let mut failed = false;
    for path in paths {
        match texts(path, depth, stdin) {
            Ok(texts) => judged.extend(texts.iter().flat_map(|(source, text)| of_text(source, text))),
            Err(e) => {
                failed = true;
                let _ = writeln!(err, "caracal validate: {e}");
            }
        }
    }
    let text = report::text_of(&judged, cli.output);
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = writeln!(err, "caracal validate: writing the verdicts: {e}");
        return UNUSABLE;
    }
    let worst = judged.iter().flat_map(|j| &j.findings).map(|f| f.severity);
    let refused = worst.into_iter().any(|s| s == Severity::Error || cli.strict);
    match (failed, refused) {
        (true, _) => UNUSABLE,
        (false, true) => REFUSED,
        (false, false) => 0,
    }
}

fn of_text(source: &str, text: &str) -> Vec<Judged> {
    let objects = written(source, text);
    objects
        .into_iter()
        .map(|o| match o {
            Ok(object) => judge(&object),
            Err(e) => unreadable(&e),
        })
        .collect()
}
