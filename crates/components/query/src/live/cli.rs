use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What happens on nodes, as it happens.
#[derive(Debug, Parser)]
#[command(name = "caracal watch", max_term_width = 100)]
pub(super) struct Watch {
    #[command(subcommand)]
    pub(super) what: WatchWhat,
}

#[derive(Debug, Subcommand)]
pub(super) enum WatchWhat {
    /// Packets that policy denies, with who denied them
    Drops(Drops),
}

#[derive(Debug, Args)]
pub(super) struct Agents {
    /// The socket of an agent; may be given several times [default: this node's, /run/calico/agent.sock]
    #[arg(long, value_name = "SOCKET")]
    pub(super) agent: Vec<String>,
    /// Only these nodes, of those asked
    #[arg(long, value_name = "NAME")]
    pub(super) node: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Drops {
    #[command(flatten)]
    pub(super) agents: Agents,
    /// Only packets from or to this pod: NAMESPACE/NAME, or NAMESPACE/ for all of a namespace
    #[arg(long, value_name = "POD")]
    pub(super) pod: Vec<String>,
    /// End after so many packets
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// End, with an error, when an agent does, instead of waiting until it is back
    #[arg(long)]
    pub(super) no_reconnect: bool,
    /// One line of text or of JSON for each packet
    #[arg(short, long, value_enum, default_value = "text")]
    pub(super) output: Lines,
    /// Addresses only: no datastore is asked for the names of pods
    #[arg(long)]
    pub(super) numeric: bool,
    /// The file that says which datastore [default: /etc/calico/calicoctl.cfg if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Lines {
    Text,
    Json,
}

/// The busiest rules, and those that no packet ever met.
#[derive(Debug, Parser)]
#[command(name = "caracal top", max_term_width = 100)]
pub(super) struct Top {
    #[command(flatten)]
    pub(super) agents: Agents,
    /// Only rules that no packet has met since counting began
    #[arg(long)]
    pub(super) never_hit: bool,
    /// Only rules of this namespace's policies
    #[arg(short, long, default_value = "")]
    pub(super) namespace: String,
    /// Only rules of the policy, profile or tier of this name
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) name: String,
    /// How many rules are shown; 0 is all
    #[arg(short = 'l', long, value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
    /// Look again after so many seconds, and show what was counted in between
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub(super) watch: Option<u64>,
    /// With --watch: end after so many looks
    #[arg(long, value_name = "N", requires = "watch")]
    pub(super) count: Option<u64>,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Yaml,
}
