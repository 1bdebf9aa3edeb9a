use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use caracal_api::EncapMode;
use caracal_ids::NodeName;
use caracal_net::{Family, PerFamily};
use caracal_runtime::{LogFormat, Shutdown, init_logging, on_signals};
use caracal_store::Store;
use clap::{Args, Parser, Subcommand};

use crate::{
    cluster::{ClusterDefaults, default_pool_v4, ensure_cluster},
    config::{Config, show_config},
    startup::{NodeFacts, ensure_node, node_address},
    tunnel::ensure_tunnel_addresses,
};

#[derive(Parser)]
#[command(
    name = "caracal node",
    about = "Prepares a node: its object, its tunnel addresses, the cluster's defaults"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// CalicoAPIConfig file that says where the datastore is.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Writes this node's Node object, gives it tunnel addresses, and makes what a new cluster needs.
    Startup(Startup),
    /// Gives this node its tunnel addresses, and keeps them right as pools change.
    AllocateTunnelAddrs {
        /// Do it once and end.
        #[arg(long)]
        run_once: bool,
        /// The node's name.
        #[arg(long, env = "NODENAME")]
        nodename: Option<String>,
    },
    /// Shows every parameter of the agent with its value and where it came from.
    Config(Config),
}

/// What `calico-node` reads from its environment.
#[derive(Args)]
struct Startup {
    /// The node's name; the host's name unless given.
    #[arg(long, env = "NODENAME")]
    nodename: Option<String>,
    /// IPv4 address: an address with or without prefix length, `autodetect`, or `none`.
    #[arg(long, env = "IP", default_value = "autodetect")]
    ip: String,
    /// IPv6 address: likewise.
    #[arg(long, env = "IP6", default_value = "none")]
    ip6: String,
    /// AS number of the node.
    #[arg(long = "as", env = "AS")]
    as_number: Option<u32>,
    /// Make no default pools.
    #[arg(long, env = "NO_DEFAULT_POOLS", default_value = "false", action = clap::ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true")]
    no_default_pools: bool,
    /// CIDR of the default IPv4 pool.
    #[arg(long, env = "CALICO_IPV4POOL_CIDR")]
    ipv4pool_cidr: Option<String>,
    /// CIDR of the default IPv6 pool; made only when given.
    #[arg(long, env = "CALICO_IPV6POOL_CIDR")]
    ipv6pool_cidr: Option<String>,
    /// VXLAN mode of the default IPv4 pool: Never, Always or CrossSubnet; Always unless it has IP-in-IP.
    #[arg(long, env = "CALICO_IPV4POOL_VXLAN", value_parser = mode)]
    pool_vxlan: Option<EncapMode>,
    /// VXLAN mode of the default IPv6 pool; that of the IPv4 pool if it is given, else Always.
    #[arg(long, env = "CALICO_IPV6POOL_VXLAN", value_parser = mode)]
    pool_vxlan_v6: Option<EncapMode>,
    /// IP-in-IP mode of the default IPv4 pool: Never, Always or CrossSubnet.
    #[arg(long, env = "CALICO_IPV4POOL_IPIP", default_value = "Never", value_parser = mode)]
    pool_ipip: EncapMode,
    /// Whether the default pools masquerade traffic to outside.
    #[arg(long, env = "CALICO_IPV4POOL_NAT_OUTGOING", default_value = "true", action = clap::ArgAction::Set)]
    pool_nat_outgoing: bool,
    /// Kinds of cluster, comma-separated, added to ClusterInformation.
    #[arg(long, env = "CLUSTER_TYPE", default_value = "")]
    cluster_type: String,
    /// Where the node's name is written for the CNI plugin.
    #[arg(
        long,
        env = "CALICO_NODENAME_FILE",
        default_value = "/var/lib/calico/nodename"
    )]
    nodename_file: PathBuf,
}

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
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
    init_logging(
        &std::env::var("CALICO_STARTUP_LOGLEVEL").unwrap_or_else(|_| "INFO".into()),
        LogFormat::Text,
    );
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(r) => r,
        Err(e) => {
            eprintln!("caracal node: cannot start: {e}");
            return 1;
        }
    };
    match runtime.block_on(command(cli)) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("caracal node: {e:#}");
            1
        }
    }
}

async fn command(cli: Cli) -> anyhow::Result<()> {
    if let Command::Config(args) = &cli.command {
        return show_config(args, cli.config.as_deref()).await;
    }
    let (_, store) = caracal_datastore::from_process(cli.config.as_deref())?;
    match cli.command {
        Command::Startup(s) => startup(&store, s).await,
        Command::AllocateTunnelAddrs { run_once, nodename } => {
            let node = node_name(nodename)?;
            ensure_tunnel_addresses(&store, &node).await?;
            if run_once {
                Ok(())
            } else {
                follow_pools(&store, &node).await
            }
        }
        Command::Config(_) => Ok(()),
    }
}

pub(crate) fn node_name(given: Option<String>) -> anyhow::Result<NodeName> {
    let name = match given.filter(|n| !n.is_empty()) {
        Some(n) => n,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("NODENAME is not set; reading the host's name")?,
    };
    NodeName::new(name.trim().to_lowercase()).context("NODENAME")
}

/// An encapsulation mode; `Off` and nothing at all are old words for `Never`.
fn mode(text: &str) -> Result<EncapMode, String> {
    match text {
        "" | "Off" | "off" => Ok(EncapMode::Never),
        _ => {
            serde_json::from_value(text.into()).map_err(|_| "Never, Always or CrossSubnet is expected".into())
        }
    }
}

/// The VXLAN modes of the default pools.
pub(crate) fn vxlan_modes(
    v4: Option<EncapMode>,
    v6: Option<EncapMode>,
    ipip: EncapMode,
) -> anyhow::Result<PerFamily<EncapMode>> {
    let mut modes = PerFamily {
        v4: v4.unwrap_or(EncapMode::Always),
        v6: v6.or(v4).unwrap_or(EncapMode::Always),
    };
    if ipip != EncapMode::Never {
        if v4.is_some_and(|v4| v4 != EncapMode::Never) {
            bail!(
                "CALICO_IPV4POOL_IPIP={ipip:?} and CALICO_IPV4POOL_VXLAN={:?}: one of them must be Never",
                modes.v4
            );
        }
        modes.v4 = EncapMode::Never;
    }
    Ok(modes)
}

async fn startup(store: &Arc<dyn Store>, args: Startup) -> anyhow::Result<()> {
    let name = node_name(args.nodename)?;
    let interfaces = interfaces()?;
    let addr = PerFamily {
        v4: node_address("IP", &args.ip, Family::V4, &interfaces)?,
        v6: node_address("IP6", &args.ip6, Family::V6, &interfaces)?,
    };
    let vxlan = vxlan_modes(args.pool_vxlan, args.pool_vxlan_v6, args.pool_ipip)?;
    let pool_v4 = args
        .ipv4pool_cidr
        .unwrap_or_else(|| default_pool_v4(addr.v4.map(|a| a.addr)));
    let defaults = ClusterDefaults {
        make_pools: !args.no_default_pools,
        pool_v4: Some(pool_v4).filter(|c| c != "none" && !c.is_empty()),
        pool_v6: args.ipv6pool_cidr.filter(|c| c != "none" && !c.is_empty()),
        vxlan,
        ipip: args.pool_ipip,
        nat_outgoing: args.pool_nat_outgoing,
        cluster_type: args.cluster_type,
    };
    ensure_cluster(store.as_ref(), &defaults).await?;
    let facts = NodeFacts {
        name: name.clone(),
        addr,
        as_number: args.as_number,
        labels: BTreeMap::new(),
    };
    ensure_node(store.as_ref(), &facts).await?;
    ensure_tunnel_addresses(store, &name).await?;
    caracal_sys::write_atomic(&args.nodename_file, name.as_str().as_bytes(), 0o644)
        .with_context(|| format!("writing {}", args.nodename_file.display()))?;
    tracing::info!(node = %name, "the node is ready for its agent");
    Ok(())
}

fn interfaces() -> anyhow::Result<Vec<(String, caracal_net::IfAddr)>> {
    let mut rtnl = caracal_link::Rtnl::open()?;
    let names: BTreeMap<u32, String> = rtnl.links()?.into_iter().map(|l| (l.index, l.name)).collect();
    let addresses = rtnl.addresses()?;
    Ok(addresses
        .into_iter()
        .filter_map(|a| Some((names.get(&a.link)?.clone(), a.addr)))
        .collect())
}

/// Looks again whenever pools may have changed.
async fn follow_pools(store: &Arc<dyn Store>, node: &NodeName) -> anyhow::Result<()> {
    use futures::StreamExt;
    let shutdown = Shutdown::new();
    tokio::spawn(on_signals(shutdown.clone()));
    let mut backoff = caracal_store::Backoff::default();
    while !shutdown.requested() {
        let round = async {
            let page = store
                .list(caracal_api::Kind::IpPool, &caracal_store::ListOptions::default())
                .await?;
            let mut changes = store.watch(caracal_api::Kind::IpPool, &page.watch_from).await?;
            ensure_tunnel_addresses(store, node).await?;
            while let Some(event) = changes.next().await {
                if !matches!(event?, caracal_store::WatchEvent::Bookmark(_)) {
                    ensure_tunnel_addresses(store, node).await?;
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            () = shutdown.wait() => {}
            outcome = round => {
                match outcome {
                    Ok(()) => backoff.reset(),
                    Err(e) => tracing::warn!("tunnel addresses: {e:#}; trying again"),
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
    Ok(())
}
