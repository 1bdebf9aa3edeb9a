//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    Check(Data),
    /// Show numbers about a data directory that is not being served.
    Stats(Data),
}

#[derive(Debug, Args)]
pub(crate) struct Data {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The data directory; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The unix socket to serve on (mode 0600).
    #[arg(long, value_name = "PATH", default_value = "/run/calico/store.sock")]
    pub(crate) socket: PathBuf,
    /// Serve on TCP, too: a loopback address, such as 127.0.0.1:2379.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
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
