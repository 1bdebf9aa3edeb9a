//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The embedded datastore: one machine's etcd, in one file.
#[derive(Debug, Parser)]
#[command(name = "caracal store", bin_name = "caracal store", version)]
pub(crate) struct Store {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a data directory until SIGTERM or SIGINT.
    Serve(Serve),
    /// Check a data directory that is not being served; exit code 1 when something is wrong.
    Check(Check),
    /// Show numbers about a store that is being served, or about the data directory of one that is not.
    Stats(Stats),
    /// Write a backup, of a store that is being served or of one that is not.
    Backup(Backup),
    /// Make a store from a backup, in a data directory that has none.
    Restore(Restore),
    /// Forget all history; of a store that is not being served, give back the room in the file, too.
    Compact(Compact),
    /// Follow the configured datastore as a program of a node does, embedded or etcd.
    Watch(Watch),
    /// Show what nodes report of themselves and of their endpoints.
    Reports(Reports),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A line each.
    Text,
    /// A line of JSON each.
    Json,
    /// A YAML document each.
    Yaml,
}

/// What programs of a node follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Streams {
    /// What the agent needs.
    Felix,
    /// What the configuration of BGP is made of.
    Bgp,
    /// What tunnels get their addresses by.
    Tunnel,
    /// Who asked for a node's status.
    NodeStatus,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// What to follow.
    #[arg(
        long,
        value_name = "STREAM",
        required_unless_present = "kind",
        conflicts_with = "kind"
    )]
    pub(crate) stream: Option<Streams>,
    /// Follow these kinds instead: names, plurals or aliases, with commas between.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// Only what the node's own program needs.
    #[arg(long, value_name = "NAME", conflicts_with = "kind")]
    pub(crate) node: Option<String>,
    /// Only this namespace.
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "stream")]
    pub(crate) namespace: Option<String>,
    /// Only objects whose labels match, for example "app == 'web'".
    #[arg(long, value_name = "SELECTOR", conflicts_with = "stream")]
    pub(crate) selector: Option<caracal_selector::Selector>,
    /// End when the first snapshot is complete.
    #[arg(long)]
    pub(crate) once: bool,
    /// Fail when the first snapshot is not complete after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
    /// The file that says which datastore [default: /etc/calico/calicoctl.cfg if it is there].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Reports {
    /// Only of this node.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
    /// The file that says which datastore [default: /etc/calico/calicoctl.cfg if it is there].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, args = ["data", "socket"])]
pub(crate) struct Source {
    /// The data directory of a store that is not being served.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The unix socket of a store that is being served.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The file to write; it must not exist.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The data directory; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) source: Source,
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Compact {
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The data directory; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The unix socket to serve on (mode 0600).
    #[arg(long, value_name = "PATH", default_value = "/run/calico/store.sock")]
    pub(crate) socket: PathBuf,
    /// Serve on TCP, too: a loopback address such as 127.0.0.1:2379, or any with TLS.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// The certificate for --listen, PEM; read again when it changes.
    #[arg(long, value_name = "FILE", requires_all = ["listen", "key_file", "trusted_ca_file"])]
    pub(crate) cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// Authorities that clients' certificates must come from, PEM.
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub(crate) trusted_ca_file: Option<PathBuf>,
    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Revisions of history to keep; 0 keeps all until a client compacts.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) keep_revisions: i64,
    /// Free disk space, in MiB, below which only what makes room is written.
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    pub(crate) reserve: u32,
    /// Memory, in MiB, for pages of the database.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) cache: u32,
}
