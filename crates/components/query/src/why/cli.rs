use std::path::PathBuf;

use caracal_net::Family;
use clap::{Parser, ValueEnum};

/// Why a packet is allowed or denied: tier by tier, policy by policy, rule by rule.
#[derive(Debug, Parser)]
#[command(
    name = "caracal why",
    max_term_width = 100,
    after_help = "Exit codes: 0 allowed, 1 blocked, 2 the question cannot be answered, 3 the kernel of this node does \
                  not have what the model says."
)]
pub(super) struct Cli {
    /// Who sends: a pod (ns/name, or name with -n), a host endpoint, a node, or an address
    #[arg(value_name = "SRC")]
    pub(super) source: String,
    /// Who receives: as SRC, or a service (ns/name or its address) where manifests have Services; svc: before a name
    /// that a pod has as well
    #[arg(value_name = "DST")]
    pub(super) destination: String,
    /// What is sent: 8080/tcp, http/tcp (a named port of DST), icmp, icmp/8/0, or proto/47
    #[arg(value_name = "PORT/PROTO")]
    pub(super) traffic: String,
    /// Ask these files or directories of YAML or JSON (- is stdin) instead of the datastore
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(super) filename: Vec<PathBuf>,
    /// The namespace of pods that are named without one
    #[arg(short, long, default_value = "default")]
    pub(super) namespace: String,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value = "text")]
    pub(super) output: Format,
    /// Show all rules, also those that are far from matching
    #[arg(short, long)]
    pub(super) all: bool,
    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long)]
    pub(super) ipv6: bool,
    /// The packet's source port
    #[arg(long, default_value_t = 40_000)]
    pub(super) source_port: u16,
    /// Whether the rules of this node's kernel are read too: where an agent runs and no file is asked, always, or never
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) kernel: Kernel,
    /// This machine is this node [default: what the agent here says]
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
    /// The file that says which datastore [default: /etc/calico/calicoctl.cfg if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    Auto,
    Always,
    Never,
}

impl Cli {
    pub(super) fn families(&self) -> &'static [Family] {
        match (self.ipv4, self.ipv6) {
            (true, _) => &[Family::V4],
            (_, true) => &[Family::V6],
            _ => &Family::BOTH,
        }
    }
}
