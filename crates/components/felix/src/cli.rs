//! The command line.

use std::{ffi::OsString, os::unix::process::CommandExt, path::PathBuf};

use anyhow::Context;
use caracal_config::FelixConfig;
use caracal_ids::NodeName;
use caracal_runtime::{LogFormat, init_logging};
use clap::Parser;

use crate::{
    dataplane,
    settings::{DEFAULT_FILE, Settings},
    stages::Stages,
    start::{self, End},
};

/// The exit code of a bad command line or a parameter that cannot be used.
const BAD_CONFIG: i32 = 78;

#[derive(Parser)]
#[command(
    name = "caracal felix",
    about = "The node agent: enforces policy and routes pods on this node"
)]
struct Cli {
    /// Configuration file; FELIX_* in the environment is stronger, the datastore weaker.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config_file: PathBuf,
    /// CalicoAPIConfig file that says where the datastore is, when neither environment nor configuration file does.
    #[arg(long, value_name = "FILE")]
    datastore_config: Option<PathBuf>,
    /// Remove all that the agent ever put into this node's kernel and file system, and end.
    #[arg(long)]
    cleanup: bool,
    /// Remove what Calico's own agent left in this node's packet filters (nftables, iptables, IP sets), and end.
    #[arg(long)]
    cleanup_calico: bool,
    /// With --cleanup-calico: only say what there is. The exit code is 1 if there is anything.
    #[arg(long, requires = "cleanup_calico")]
    dry_run: bool,
    /// Show the version and end.
    #[arg(long)]
    version: bool,
}

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    let stages = Stages::default();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nothing more can be said when even the terminal is gone.
            let _ = e.print();
            return e.exit_code();
        }
    };
    if cli.version {
        println!("caracal felix {}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    match prepare(&cli) {
        Ok(settings) => go(&cli, settings, stages),
        Err(e) => {
            eprintln!("caracal felix: {e:#}");
            BAD_CONFIG
        }
    }
}

fn prepare(cli: &Cli) -> anyhow::Result<Settings> {
    let path = &cli.config_file;
    let file = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        // Only a file that was asked for must be there.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && path.as_os_str() == DEFAULT_FILE => None,
        Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
    };
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let settings = Settings::local(node_name(&env, file.as_deref())?, env, file);
    let fatal = settings.fatal();
    anyhow::ensure!(fatal.is_empty(), "{}", fatal.join("\n"));
    Ok(settings)
}

/// `FelixHostname`, else `NODENAME`, else the host's own name in lower case.
fn node_name(env: &[(String, String)], file: Option<&str>) -> anyhow::Result<NodeName> {
    let probe = NodeName::new("unknown").context("a placeholder name")?;
    let configured = Settings::local(probe, env.to_vec(), file.map(str::to_owned))
        .config()
        .felix_hostname;
    let nodename = env
        .iter()
        .find(|(k, v)| k == "NODENAME" && !v.is_empty())
        .map(|(_, v)| v.clone());
    let name = match configured.or(nodename) {
        Some(n) => n,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("neither FELIX_FELIXHOSTNAME nor NODENAME is set; reading the host's name")?
            .trim()
            .to_lowercase(),
    };
    NodeName::new(&name).context("the node's name (FELIX_FELIXHOSTNAME, NODENAME or the host's name)")
}

fn go(cli: &Cli, mut settings: Settings, stages: Stages) -> i32 {
    let config = settings.config();
    start_logging(&config);
    settings.log_news();
    if cli.cleanup {
        return match dataplane::cleanup(&config) {
            Ok(()) => {
                println!("caracal felix: removed tables, routes, tunnel devices and status files");
                0
            }
            Err(e) => {
                eprintln!("caracal felix: cleanup: {e:#}");
                1
            }
        };
    }
    if cli.cleanup_calico {
        return cleanup_calico(cli.dry_run);
    }
    // One thread reads, one calculates, one writes to the kernel; what the one makes the other frees. With fewer heaps than
    // these they wait for each other, with more they keep more.
    caracal_sys::limit_heaps(3);
    stages.end("parameters");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(r) => r.block_on(start::agent(settings, cli.datastore_config.as_deref(), stages)),
        Err(e) => Err(e.into()),
    };
    match outcome {
        Ok(End::Asked) => 0,
        Ok(End::Again) => {
            // In its own place: the same process for whoever supervises it, with the same arguments.
            let mut args = std::env::args_os();
            let mut command = std::process::Command::new("/proc/self/exe");
            let e = command.arg0(args.next().unwrap_or_default()).args(args).exec();
            eprintln!("caracal felix: cannot start anew: {e}");
            1
        }
        Err(e) => {
            eprintln!("caracal felix: {e:#}");
            1
        }
    }
}

fn cleanup_calico(dry_run: bool) -> i32 {
    match dataplane::cleanup_calico(dry_run) {
        Ok(found) => {
            let done = if dry_run { "" } else { "removed: " };
            found.iter().for_each(|what| println!("{done}{what}"));
            if found.is_empty() {
                println!("nothing of Calico's in this node's packet filters");
            }
            i32::from(dry_run && !found.is_empty())
        }
        Err(e) => {
            eprintln!("caracal felix: cleanup of Calico's: {e:#}");
            1
        }
    }
}

/// The name of the least severe line that is written.
pub(crate) fn severity(config: &FelixConfig) -> String {
    config
        .log_severity_screen
        .map_or_else(|| "none".to_owned(), |s| format!("{s:?}"))
}

fn start_logging(config: &FelixConfig) {
    let severity = severity(config);
    let format = match config.log_format {
        caracal_config::LogFormat::Text => LogFormat::Text,
        caracal_config::LogFormat::Json => LogFormat::Json,
    };
    init_logging(&severity, format);
}
