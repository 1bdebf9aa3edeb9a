use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Asks which endpoints a selector or policy matches, and which policies apply to an endpoint.
#[derive(Debug, Parser)]
#[command(name = "calicoq", max_term_width = 100, disable_version_flag = true)]
pub(super) struct Cli {
    /// The file that says which datastore [default: /etc/calico/calicoctl.cfg if it is there]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Ask these files or directories of YAML or JSON (- is stdin) instead of the datastore
    #[arg(short, long, global = true, value_name = "FILE|DIR")]
    pub(super) filename: Vec<PathBuf>,
    /// Do not show which rules' selectors match
    #[arg(short = 'r', long, global = true)]
    pub(super) hide_rule_matches: bool,
    /// Do not show selectors
    #[arg(short = 's', long, global = true)]
    pub(super) hide_selectors: bool,
    /// Say on stderr what is read and what cannot be used
    #[arg(short, long, global = true)]
    pub(super) debug: bool,
    /// How the answer is written
    #[arg(short, long, global = true, value_enum, default_value = "ps")]
    pub(super) output: Format,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Ps,
    Yaml,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The endpoints that a selector matches
    Eval {
        /// The selector
        selector: String,
    },
    /// The endpoints that a policy applies to, and those that its rules match
    Policy {
        /// NAMESPACE/NAME, or NAME for a global policy; of Kubernetes NAMESPACE/knp.default.NAME
        name: String,
    },
    /// The policies and profiles of endpoints, and the rules that match them
    Endpoint {
        /// A part of the endpoint's id HOST/ORCHESTRATOR/WORKLOAD/ENDPOINT
        substring: String,
    },
    /// The same of each endpoint on a host
    Host {
        /// The node's name
        hostname: String,
    },
    /// Prints a script that completes commands in a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The version of this program
    Version,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use caracal_testkit::{Listed, problems_of_table};
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_docs_have_every_command_and_option_with_its_test() {
        let command = Cli::command();
        let options = command.get_arguments();
        let options = options.filter_map(|a| Some(format!("--{}", a.get_long()?)));
        let mut all: Vec<Listed> = vec![(String::new(), options.collect())];
        all.extend(
            command
                .get_subcommands()
                .map(|c| (c.get_name().to_owned(), Vec::new())),
        );
        assert!(all.len() == 7 && all[0].1.len() == 6, "{all:?}");
        let page = include_str!("../../../../../docs/calicoq.md");
        let problems = problems_of_table(page, &all, Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
