//! `calicoq`: which endpoints a selector or policy matches, and which policies apply to an endpoint.
//!
//! `scope` says what selectors mean where they are written, `model` answers, `show` prints.

mod cli;
mod model;
mod policies;
mod scope;
mod show;

use std::ffi::OsString;

use clap::CommandFactory;

use crate::failure::Failure;
use crate::io::start;
use crate::{Io, input};
use cli::{Cli, Command, Format};
use model::Model;

/// `calicoq`'s command line; `args[0]` is the program's name. The result is the exit code: 0, or 1 on any error.
#[must_use]
pub fn calicoq(args: Vec<OsString>) -> i32 {
    calicoq_with(args, Io::process())
}

/// As [`calicoq`], reading and writing through `io`.
#[must_use]
pub fn calicoq_with(args: Vec<OsString>, io: Io) -> i32 {
    start::<Cli>("calicoq", args, io, |cli, io| run(&cli, io))
}

fn run(cli: &Cli, io: &mut Io) -> Result<(), Failure> {
    match &cli.command {
        Command::Version => return Ok(io.print(&show::version())?),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "calicoq", &mut script);
            return Ok(io.print(&String::from_utf8_lossy(&script))?);
        }
        _ => {}
    }
    // What cannot be read is said before the datastore is asked.
    let selector = match &cli.command {
        Command::Eval { selector } => Some(scope::parse(selector)?),
        _ => None,
    };
    let state = input::state(io, &cli.filename, cli.config.as_deref())?;
    let model = Model::new(&state)?;
    if cli.debug {
        for line in model.debug() {
            io.complain(&format!("calicoq: debug: {line}"));
        }
    }
    let answer = match &cli.command {
        Command::Eval { selector: text } => model.eval(text, selector.as_ref()),
        Command::Policy { name } => model.policy(name)?,
        Command::Endpoint { substring } => model.endpoints_named(substring),
        Command::Host { hostname } => model.endpoints_on(hostname),
        Command::Completion { .. } | Command::Version => return Ok(()),
    };
    let answer = answer.without(cli.hide_rule_matches, cli.hide_selectors);
    let text = match cli.output {
        Format::Ps => show::text(&answer),
        Format::Json => serde_json::to_string_pretty(&answer).map_err(std::io::Error::from)? + "\n",
        Format::Yaml => caracal_api::value_to_yaml(&answer),
    };
    Ok(io.print(&text)?)
}
