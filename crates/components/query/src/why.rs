//! `caracal why`: why a packet is allowed or denied.
//!
//! - `cli` is the command line; `traffic` reads `PORT/PROTO`, `party` and `service` find who is meant; `travel` sends a packet past
//!   every endpoint on its way; `explain` and `walk` turn the oracle's path into a [`report`],
//!   `text` prints it.

mod cli;
mod criteria;
mod explain;
mod party;
mod report;
mod rules;
mod service;
mod text;
mod traffic;
mod travel;
mod walk;

use std::ffi::OsString;

use caracal_manifests::read_args;

use crate::failure::Failure;
use crate::{Io, input, kernel, world::World};
use cli::{Cli, Format};
use party::Party;
use report::Answer;
use service::Balanced;
use traffic::Traffic;

pub(crate) use cli::Kernel as Reads;
pub(crate) use report::Kernel;

/// What was asked cannot be answered.
const BAD_INPUT: i32 = 2;
/// Model and kernel disagree.
const DISAGREEMENT: i32 = 3;
/// How often, and after which pause, a kernel that differs is looked at again.
const AGAIN: usize = 3;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// The command line of `caracal why`; `args[0]` is the program's name. The result is the exit code: 0 allowed, 1
/// blocked, 2 bad input, 3 when the kernel does not have what the model says.
#[must_use]
pub fn why(args: Vec<OsString>) -> i32 {
    why_with(args, Io::process())
}

/// As [`why`], reading and writing through `io`.
#[must_use]
pub fn why_with(args: Vec<OsString>, mut io: Io) -> i32 {
    let cli: Cli = match read_args(args, &mut io.output, &mut io.errors, BAD_INPUT) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli, &mut io) {
        Ok(code) => code,
        Err(e) => {
            io.complain(&format!("caracal why: {e}"));
            BAD_INPUT
        }
    }
}

fn run(cli: &Cli, io: &mut Io) -> Result<i32, Failure> {
    let traffic = traffic::parse(&cli.traffic)?;
    let live = if cli.filename.is_empty() || cli.node.is_some() || cli.kernel == Reads::Always {
        kernel::Live::open(io, cli.kernel, cli.node.as_deref())?
    } else {
        None
    };
    let mut answers = ask(cli, io, &traffic, live.as_ref())?;
    for _ in 0..AGAIN {
        // A change that was just made needs a moment to reach the kernel, unless all is read from files.
        if !cli.filename.is_empty() || !answers.iter().any(Answer::disagrees) {
            break;
        }
        std::thread::sleep(PAUSE);
        answers = ask(cli, io, &traffic, live.as_ref())?;
    }
    let text = match cli.output {
        Format::Text => text::text(&answers, cli.all),
        Format::Json => serde_json::to_string_pretty(&answers).map_err(std::io::Error::from)? + "\n",
        Format::Yaml => caracal_api::value_to_yaml(&answers),
    };
    match io.print(&text).map_err(Failure::from) {
        // A reader that has seen enough does not change the verdict.
        Err(e) if !e.is_closed() => Err(e),
        _ => Ok(code(&answers)),
    }
}

fn ask(
    cli: &Cli,
    io: &mut Io,
    traffic: &traffic::Traffic,
    live: Option<&kernel::Live>,
) -> Result<Vec<Answer>, Failure> {
    let world = World::new(input::state(io, &cli.filename, cli.config.as_deref())?);
    let source = party::find(&world, &cli.source, &cli.namespace)?;
    let ask_one = |destination: &Party, traffic: &Traffic, service: Option<&Balanced>| {
        let families = cli.families();
        let passages = travel::trips(
            &world,
            &source,
            destination,
            traffic,
            families,
            cli.source_port,
            service,
        )?;
        let answers = passages.into_iter().map(|p| explain::explain(&world, p, live));
        answers.collect::<Result<Vec<_>, Failure>>()
    };
    let Some(service) = service::find(&world, &cli.destination, &cli.namespace, traffic)? else {
        let destination = party::find(&world, &cli.destination, &cli.namespace)?;
        return ask_one(&destination, traffic, None);
    };
    let mut answers = Vec::new();
    for (pod, port) in &service.pods {
        let translated = Traffic::Port(service.port.proto, *port);
        let mut some = ask_one(pod, &translated, Some(&service))?;
        for answer in &mut some {
            answer
                .remarks
                .insert(0, service.remark(answer.destination.address, *port));
        }
        answers.extend(some);
    }
    Ok(answers)
}

fn code(answers: &[Answer]) -> i32 {
    if answers.iter().any(Answer::disagrees) {
        return DISAGREEMENT;
    }
    i32::from(
        answers
            .iter()
            .any(|a| a.verdict == caracal_oracle::Verdict::Blocked),
    )
}
