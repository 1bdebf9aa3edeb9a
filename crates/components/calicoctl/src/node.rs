//! `node`: questions about the node that this runs on.

mod bird;
mod check;
mod diags;
mod status;

use std::path::PathBuf;

use clap::Subcommand;

use crate::{cli::Absent, failure::Failure, run::absent, session::Session};

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Says whether the agent runs, and how its BGP peers are
    Status,
    /// Collects what helps to find what is wrong with this node into one file
    Diags {
        /// The directory with the agent's logs
        #[arg(long, value_name = "DIR", default_value = "/var/log/calico")]
        log_dir: PathBuf,
    },
    /// Not in this version
    #[command(hide = true)]
    Run(Absent),
    /// Says whether this machine's kernel has what the agent needs
    Checksystem {
        /// The kernel's configuration [default: /proc/config.gz or /boot/config-VERSION]
        #[arg(short = 'f', long, value_name = "FILE")]
        kernel_config: Option<PathBuf>,
    },
}

pub(crate) fn node(session: &mut Session, command: &Node) -> Result<(), Failure> {
    match command {
        Node::Status => status::status(session),
        Node::Run(_) => Err(absent(
            "node run",
            "start 'caracal felix' by your init system or as a DaemonSet",
        )),
        Node::Diags { log_dir } => diags::diags(session, log_dir),
        Node::Checksystem { kernel_config } => check::check(session, kernel_config.as_deref()),
    }
}
