//! `completion`.

use caracal_api::Kind;
use clap::{Command, CommandFactory, builder::PossibleValuesParser};
use clap_complete::Shell;

use crate::{
    cli::{Cli, Completion},
    failure::Failure,
    session::Session,
    target,
};

/// The commands whose first word is a kind.
const WITH_KIND: &[&str] = &["get", "delete", "patch", "label", "confirm"];

/// Prints the script that teaches a shell our commands.
pub(crate) fn completion(session: &mut Session, args: &Completion) -> Result<(), Failure> {
    let mut command = WITH_KIND.iter().fold(Cli::command(), with_kinds);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "calicoctl", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Fish {
        // What is generated for fish has options and commands only.
        let kinds: Vec<&str> = target::public().map(Kind::plural).collect();
        let kinds = kinds.join(" ");
        for name in WITH_KIND {
            script += &format!(
                "complete -c calicoctl -n \"__fish_calicoctl_using_subcommand {name}\" -f -a \"{kinds}\"\n"
            );
        }
    }
    session.print(&script)
}

/// Only here are the kinds a closed list: a user's word gets a better answer than clap's.
fn with_kinds(command: Command, name: &&str) -> Command {
    // `mut_args` keeps the order, which positional arguments live by.
    command.mut_subcommand(*name, |c| {
        c.mut_args(|a| match a.get_id().as_str() {
            "kind" => a.value_parser(PossibleValuesParser::new(target::public().map(Kind::plural))),
            _ => a,
        })
    })
}
