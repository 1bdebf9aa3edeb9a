//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Reads and writes the resources of Calico.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How much is logged, to stderr
    #[arg(
        short,
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "panic",
        ignore_case = true
    )]
    pub(crate) log_level: LogLevel,
    /// The context of the kubeconfig; without meaning for etcd and the embedded store
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// Taken and ignored: any version works with any other
    #[arg(long, global = true)]
    pub(crate) allow_version_mismatch: bool,
    /// The file that says which datastore [default: /etc/calico/calicoctl.cfg if it is there]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Panic,
    Fatal,
    Error,
    #[value(alias = "warning")]
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes resources; one that exists already is an error
    Create {
        #[command(flatten)]
        input: Input,
        /// Pass over resources that exist already
        #[arg(long)]
        skip_exists: bool,
    },
    /// Makes resources like the given ones, whether they exist or not
    Apply {
        #[command(flatten)]
        input: Input,
        /// Nodes go back to what was before after this time, unless 'confirm' comes first (for example 60s, 5m);
        /// for HostEndpoints and GlobalNetworkPolicies
        #[arg(long, value_name = "DURATION")]
        confirm_within: Option<String>,
    },
    /// Makes what was applied with --confirm-within stay
    Confirm(Confirm),
    /// Replaces resources that exist
    Replace {
        #[command(flatten)]
        input: Input,
    },
    /// Deletes resources, named or as in a file
    Delete(Delete),
    /// Shows resources
    Get(Get),
    /// Changes fields of a resource
    Patch(Patch),
    /// Sets or removes a label of a resource
    Label(Label),
    /// Judges manifests without a datastore
    Validate {
        #[command(flatten)]
        input: Input,
    },
    /// The datastore as a whole
    #[command(subcommand)]
    Datastore(Datastore),
    /// Addresses and blocks
    #[command(subcommand)]
    Ipam(crate::ipam::IpamCommand),
    /// This node
    #[command(subcommand)]
    Node(crate::node::Node),
    /// Not in this version
    #[command(hide = true)]
    Cluster(Absent),
    /// Prints a script that completes commands in a shell
    Completion(Completion),
    /// Says which versions client and cluster have
    Version(Version),
}

/// What follows a command of Calico's that is not here.
#[derive(Debug, Args)]
pub(crate) struct Absent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Where manifests come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct Input {
    /// A file of YAML or JSON, a directory of such files, or - for stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: HowToRead,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HowToRead {
    /// Go into the directories below
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Files and directories without resources are no error
    #[arg(long)]
    pub(crate) skip_empty: bool,
    /// The namespace of resources that name none [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The kind: its name, plural or an alias
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub(crate) kind: Option<String>,
    /// The names
    #[arg(required_unless_present = "filename", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// A file of YAML or JSON, a directory of such files, or - for stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: HowToRead,
    /// Pass over resources that do not exist
    #[arg(short, long)]
    pub(crate) skip_not_exists: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The kind: its name, plural or an alias
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub(crate) kind: Option<String>,
    /// The names
    #[arg(required_unless_present = "filename", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// A file of YAML or JSON, a directory of such files, or - for stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: HowToRead,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The kind: its name, plural or an alias
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub(crate) kind: Option<String>,
    /// The names; without any, all resources of the kind
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Show the resources that a file, a directory or stdin (-) names
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: HowToRead,
    /// ps, wide, yaml, json, custom-columns=HEADING[:.path],…, go-template=TEMPLATE, go-template-file=FILE
    #[arg(short, long, value_name = "FORMAT", default_value = "ps")]
    pub(crate) output: String,
    /// Only those of the kind whose labels match, for example "app == 'web'"
    #[arg(long, value_name = "SELECTOR", conflicts_with_all = ["names", "filename"])]
    pub(crate) selector: Option<caracal_selector::Selector>,
    /// Of all namespaces
    #[arg(short = 'A', visible_short_alias = 'a', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Without what belongs to this cluster only: revision, uid, creation time, status
    #[arg(long)]
    pub(crate) export: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Patch {
    /// The kind: its name, plural or an alias
    pub(crate) kind: String,
    /// The name
    pub(crate) name: String,
    /// What to change, JSON or YAML
    #[arg(short, long)]
    pub(crate) patch: String,
    /// How the patch is written
    #[arg(short, long, default_value = "strategic")]
    pub(crate) r#type: PatchType,
    /// The resource's namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchType {
    /// Fields to merge; an object can say how
    Strategic,
    /// A list of operations (RFC 6902)
    Json,
    /// Fields to merge (RFC 7386)
    Merge,
}

#[derive(Debug, Args)]
pub(crate) struct Label {
    /// The kind: its name, plural or an alias
    pub(crate) kind: String,
    /// The name
    pub(crate) name: String,
    /// KEY=VALUE, or KEY with --remove
    pub(crate) label: String,
    /// Change a label that is there already
    #[arg(long, conflicts_with = "remove")]
    pub(crate) overwrite: bool,
    /// Remove the label
    #[arg(long)]
    pub(crate) remove: bool,
    /// The resource's namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Datastore {
    /// Takes everything from one datastore to another
    Migrate {
        #[command(subcommand)]
        step: Migrate,
    },
    /// Gives policies of the tier "default" that releases before 3.32 wrote the names that they have today
    MigratePolicyNames,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Tells all components to leave the datastore alone
    Lock,
    /// Lets the components use the datastore again
    Unlock,
    /// Prints everything that the locked datastore holds
    Export,
    /// Writes what was exported
    Import {
        /// The file, or - for stdin
        #[arg(short, long, value_name = "FILE")]
        filename: PathBuf,
    },
    /// Copies everything from one datastore into another and compares it; begun again after a failure, it goes on
    Copy(CopyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The locked source: a file that says which datastore, or unix:///PATH of an embedded store's socket
    #[arg(long, value_name = "DATASTORE")]
    pub(crate) from: String,
    /// The destination, in the same form; it stays locked
    #[arg(long, value_name = "DATASTORE")]
    pub(crate) to: String,
    /// Replace what the destination holds
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// How the result is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: CopyOutput,
}

#[derive(Debug, Clone, PartialEq, Eq, ValueEnum)]
pub(crate) enum CopyOutput {
    Text,
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Only the client's
    #[arg(long)]
    pub(crate) client: bool,
    /// Look again and again, and print what changed (for example 1s, 10m, 2h)
    #[arg(long, value_name = "DURATION", conflicts_with = "client")]
    pub(crate) poll: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use caracal_testkit::{Listed, problems_of_table};
    use clap::CommandFactory;

    use super::*;

    fn list(command: &clap::Command, path: &str, all: &mut Vec<Listed>) {
        let visible = command.get_subcommands().filter(|c| !c.is_hide_set());
        let options = command
            .get_arguments()
            .filter(|a| !a.is_global_set() || path.is_empty());
        let options = options.filter_map(|a| Some(format!("--{}", a.get_long()?)));
        if command.get_subcommands().next().is_none() || path.is_empty() {
            all.push((path.to_owned(), options.collect()));
        }
        for inner in visible {
            list(inner, format!("{path} {}", inner.get_name()).trim(), all);
        }
    }

    #[test]
    fn the_docs_have_every_command_and_option_with_its_test() {
        let mut all = Vec::new();
        list(&Cli::command(), "", &mut all);
        assert!(all.len() > 20, "{all:?}");
        let page = include_str!("../../../../docs/calicoctl.md");
        let problems = problems_of_table(page, &all, Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(problems.is_empty(), "{problems:#?}");
    }
}
