use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::state::{Datastore, Settings};
use super::{apply, down, exec, node, probe, status, up};
use crate::cluster::node::Encap;
use crate::explain::explain;
use crate::prober::{Listen, Transport, serve};

/// The exit code of a command that failed; probes with differences end with 1, too.
const FAILED: i32 = 1;

/// A network of several nodes on this machine: network namespaces, real agents, real packets.
#[derive(Debug, Parser)]
#[command(name = "caracal lab", bin_name = "caracal lab", version)]
struct Cli {
    /// The lab's name; several can run side by side.
    #[arg(long, global = true, default_value = "lab", value_parser = lab_name)]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a lab up, or repair or finish one that is there.
    Up(Up),
    /// What there is and how it is.
    Status(Output),
    /// Create or change what manifests say: Kubernetes (Namespace, Pod, ServiceAccount, NetworkPolicy) and Calico.
    Apply(Files),
    /// Remove what manifests name.
    Delete(Files),
    /// Run a command in a pod.
    Exec {
        /// `pod` or `namespace/pod`.
        pod: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Kill or start a node's agent, or run a command on a node.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Who reaches whom: expected, and measured by packets. Exit code 1 if they differ.
    Probe(Output),
    /// Remove all of the lab.
    Down,
    #[command(hide = true)]
    Respond {
        /// `TCP:80`, …
        #[arg(value_parser = listen)]
        ports: Vec<Listen>,
    },
}

#[derive(Debug, Args)]
struct Up {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=200))]
    nodes: u16,
    /// How many pods are made on each node, in the namespace `default`.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=200))]
    pods_per_node: u16,
    /// How packets travel between nodes.
    #[arg(long, value_enum, default_value_t = Encap::Vxlan)]
    encap: Encap,
    /// Our own store, or etcd (which must be installed).
    #[arg(long, value_enum, default_value_t = Datastore::Embedded)]
    datastore: Datastore,
    /// IPv4 and IPv6 addresses for pods.
    #[arg(long)]
    dual_stack: bool,
    /// Manifests to apply: files, directories, or `-`.
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Files {
    /// A file, a directory, or `-` for standard input; may be repeated.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Output {
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Kill the node's agent (SIGKILL). What it put into the kernel stays.
    Kill {
        /// The node, for example `node-1`.
        node: String,
    },
    /// Start the node's agent again and wait until it is in sync.
    Start {
        /// The node.
        node: String,
    },
    /// Run a command on a node.
    Exec {
        /// The node.
        node: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn lab_name(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if starts && text.len() <= 20 && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err("a lower-case letter, then lower-case letters, digits and '-', at most 20 in all".to_owned())
}

fn listen(text: &str) -> Result<Listen, String> {
    let (protocol, port) = text.split_once(':').ok_or("PROTOCOL:PORT is expected")?;
    let protocol = Transport::parse(protocol).ok_or("TCP, UDP or SCTP is expected")?;
    let port = port.parse().map_err(|e| format!("{port}: {e}"))?;
    Ok(Listen { protocol, port })
}

/// The command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nothing more can be said when even the terminal is gone.
            let _ = e.print();
            return e.exit_code();
        }
    };
    command(&cli).unwrap_or_else(|e| {
        eprintln!("caracal lab: {}", explain(&e));
        FAILED
    })
}

fn command(cli: &Cli) -> anyhow::Result<i32> {
    if let Command::Respond { ports } = &cli.command {
        raise_limits();
        return serve(ports).map(|()| 0);
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab is made of network namespaces: run this as root");
    }
    raise_limits();
    let name = &cli.name;
    match &cli.command {
        Command::Up(up) => {
            let settings = Settings {
                nodes: up.nodes,
                pods_per_node: up.pods_per_node,
                encap: up.encap,
                datastore: up.datastore,
                dual_stack: up.dual_stack,
            };
            up::up(name, &settings, &up.filename)
        }
        Command::Status(o) => status::status(name, o.output),
        Command::Apply(files) => apply::apply(name, &files.filename),
        Command::Delete(files) => apply::delete(name, &files.filename),
        Command::Exec { pod, command } => exec::in_pod(name, pod, command),
        Command::Node { command } => match command {
            NodeCommand::Kill { node } => node::kill(name, node),
            NodeCommand::Start { node } => node::start(name, node),
            NodeCommand::Exec { node, command } => exec::on_node(name, node, command),
        },
        Command::Probe(o) => probe::probe(name, o.output),
        Command::Down => down::down(name),
        Command::Respond { .. } => Ok(0),
    }
    .with_context(|| format!("lab {name:?}"))
}

/// Many probes are under way at a time, each with a socket.
fn raise_limits() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // As many as there are already will do for a small lab.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn names_of_labs_make_names_of_namespaces() {
        for good in ["lab", "a-1"] {
            assert_eq!(lab_name(good), Ok(good.to_owned()));
        }
        for bad in ["", "1a", "A", "a/b", "a.b", "abcdefghijklmnopqrstu"] {
            assert!(lab_name(bad).is_err(), "{bad}");
        }
    }
}
