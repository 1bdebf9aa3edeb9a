//! `caracal ipam collect`: the garbage collector of addresses, and figures about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use caracal_ipam::{Collected, Ipam};
use caracal_ipam_plan::{Collector, Life, Snapshot, Stamp, check, utilisation};
use caracal_runtime::{
    LogFormat, Shutdown, Supervisor, TaskEnd, init_logging, install_metrics, on_signals, serve_metrics,
};
use caracal_store::Backoff;
use clap::{Parser, Subcommand};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use tokio::time::timeout;

/// How long a collector that is asked to end may go on with its round.
const LAST_ROUND: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(name = "caracal ipam", about = "The garbage collector of addresses")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// CalicoAPIConfig file that says where the datastore is.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Takes back what nobody uses: addresses, counts of handles, claims and blocks. Run it once in a cluster; several
    /// do no harm. (`calicoctl ipam check` shows what is wrong at this moment.)
    Collect(Collect),
}

#[derive(clap::Args)]
struct Collect {
    /// Seconds between two rounds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Seconds for which an address must have been without a user before it is taken back.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    grace_period: u32,
    /// Do so many rounds and end; 0 goes on for ever. One round alone takes nothing back: nothing counts as unused that
    /// was seen once only.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    rounds: u64,
    /// Serve Prometheus' figures here.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// How each round is printed: a line of text, of JSON, or a YAML document; nothing unless something was done.
    #[arg(short, long, default_value = "text", value_parser = ["text", "json", "yaml"])]
    output: String,
}

/// The component's command line; `args[0]` is the program's name. The result is the exit code: 1 when a chore of the last
/// round could not be done or the datastore could not be read.
#[must_use]
pub fn run_ipam(args: Vec<OsString>) -> i32 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nothing more can be said when even the terminal is gone.
            let _ = e.print();
            return e.exit_code();
        }
    };
    init_logging("INFO", LogFormat::Text);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(r) => r,
        Err(e) => {
            eprintln!("caracal ipam: cannot start: {e}");
            return 1;
        }
    };
    let Command::Collect(args) = cli.command;
    match runtime.block_on(collect(cli.config, args)) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("caracal ipam: {e:#}");
            1
        }
    }
}

async fn collect(config: Option<PathBuf>, args: Collect) -> anyhow::Result<()> {
    let (_, store) = caracal_datastore::from_process(config.as_deref())?;
    let ipam = Ipam::new(store);
    let shutdown = Shutdown::new();
    let mut tasks = Supervisor::new(shutdown.clone());
    tasks.spawn("signals", on_signals(shutdown.clone()));
    if let Some(at) = args.metrics {
        let handle = install_metrics().map_err(anyhow::Error::msg).context("metrics")?;
        describe();
        let (host, stop) = (at.ip().to_string(), shutdown.clone());
        tasks.spawn("metrics", async move {
            serve_metrics(&host, at.port(), handle, stop).await
        });
    }
    let stop = shutdown.clone();
    tasks.spawn("collector", async move {
        let work = rounds(&ipam, &args, &stop);
        tokio::pin!(work);
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            // The round under way is done and told, unless the datastore keeps it waiting.
            () = stop.wait() => timeout(LAST_ROUND, work).await.unwrap_or(Ok(())),
        };
        stop.request();
        outcome.map_err(|e| format!("{e:#}"))
    });
    match tasks.run().await {
        TaskEnd::Clean => Ok(()),
        TaskEnd::Broken { task, why } => anyhow::bail!("{task}: {why}"),
    }
}

async fn rounds(ipam: &Ipam, args: &Collect, stop: &Shutdown) -> anyhow::Result<()> {
    let every = Duration::from_secs(args.every);
    let mut collector = Collector::new(args.grace_period.into());
    let mut away = Backoff::new(Duration::from_secs(1), every);
    let mut shown = BTreeSet::new();
    let mut done = 0;
    loop {
        let outcome = ipam.collect(&mut collector).await;
        done += 1;
        let last = done == args.rounds;
        let pause = match outcome {
            Ok(collected) => {
                report(&collected, &args.output)?;
                if args.metrics.is_some() {
                    match ipam.load().await {
                        Ok(now) => figures(&now, args.grace_period.into(), &mut shown),
                        Err(e) => tracing::warn!(error = %e, "the figures are those of an earlier round"),
                    }
                }
                if last && let Some((chore, e)) = collected.failed.first() {
                    anyhow::bail!("{chore:?}: {e}");
                }
                away.reset();
                every
            }
            Err(e) if last => return Err(e.into()),
            Err(e) => {
                tracing::warn!(error = %e, "IPAM garbage collection has to wait");
                away.wait()
            }
        };
        if last {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.wait() => return Ok(()),
        }
    }
}

/// Tells what a round did.
fn report(done: &Collected, output: &str) -> anyhow::Result<()> {
    counter!("ipam_allocations_gc_reclamations").increment(done.released.len() as u64);
    counter!("caracal_ipam_blocks_given_back").increment(done.blocks.len() as u64);
    counter!("caracal_ipam_chores_failed").increment(done.failed.len() as u64);
    if done.released.is_empty() && done.blocks.is_empty() && done.failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<String> = done
        .failed
        .iter()
        .map(|(chore, e)| format!("{chore:?}: {e}"))
        .collect();
    let blocks: Vec<String> = done.blocks.iter().map(ToString::to_string).collect();
    let value = serde_json::json!({"released": done.released, "blocks": blocks, "failed": failed});
    let text = match output {
        "json" => format!("{value}\n"),
        "yaml" => format!("---\n{}", serde_saphyr::to_string(&value)?),
        _ => format!(
            "taken back: {} addresses {:?}, {} blocks {blocks:?}; not done: {} {failed:?}\n",
            done.released.len(),
            done.released,
            blocks.len(),
            failed.len()
        ),
    };
    // What is told nobody waits for: a reader that left, or a full disk, ends no collector.
    if let Err(e) = std::io::stdout().write_all(text.as_bytes()) {
        tracing::warn!(error = %e, "what a round of garbage collection did cannot be written");
    }
    Ok(())
}

fn describe() {
    describe_gauge!("ipam_ippool_size", "Addresses of a pool");
    describe_gauge!(
        "ipam_allocations_in_use",
        "Addresses of a pool that are used, by node"
    );
    describe_gauge!(
        "ipam_allocations_borrowed",
        "Addresses of a pool that are used on another node than their block's"
    );
    describe_gauge!(
        "ipam_allocations_gc_candidates",
        "Addresses of a pool that nobody seems to use"
    );
    describe_gauge!("ipam_blocks", "Blocks of a pool, by node");
    describe_counter!(
        "ipam_allocations_gc_reclamations",
        "Addresses that were taken back"
    );
    describe_counter!("caracal_ipam_blocks_given_back", "Blocks that were given back");
    describe_counter!(
        "caracal_ipam_chores_failed",
        "Chores of the collector that failed"
    );
}

/// Name, pool and node of a figure.
type Figure = (&'static str, String, String);

/// The figures that Calico's controllers have, under their names.
fn figures(snapshot: &Snapshot, grace: i64, shown: &mut BTreeSet<Figure>) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let now = Stamp::from_seconds(i64::try_from(now).unwrap_or(i64::MAX));
    let mut counts: BTreeMap<Figure, f64> = BTreeMap::new();
    let report = check(snapshot, now, grace);
    for pool in utilisation(snapshot) {
        let name = pool.pool.unwrap_or_else(|| "no_ippool".to_owned());
        gauge!("ipam_ippool_size", "ippool" => name.clone()).set(pool.capacity);
        for a in report.allocations.iter().filter(|a| pool.cidr.contains(a.addr)) {
            let mut count = |what| {
                *counts.entry((what, name.clone(), a.node.clone())).or_default() += 1.0;
            };
            match a.life {
                Life::Resting => continue,
                Life::Leaked { .. } => count("ipam_allocations_gc_candidates"),
                _ => {}
            }
            count("ipam_allocations_in_use");
            if a.borrowed {
                count("ipam_allocations_borrowed");
            }
        }
        for b in &snapshot.blocks {
            if b.spec
                .cidr
                .parse()
                .is_ok_and(|c: caracal_net::Cidr| pool.cidr.covers(&c))
            {
                let owner = b.spec.affinity.as_deref().unwrap_or("no_affinity");
                let node = owner.strip_prefix("host:").unwrap_or(owner).to_owned();
                *counts.entry(("ipam_blocks", name.clone(), node)).or_default() += 1.0;
            }
        }
    }
    // What went to nothing since an earlier round is nothing now.
    for key in shown.iter().filter(|k| !counts.contains_key(*k)) {
        gauge!(key.0, "ippool" => key.1.clone(), "node" => key.2.clone()).set(0.0);
    }
    for ((what, pool, node), value) in &counts {
        gauge!(*what, "ippool" => pool.clone(), "node" => node.clone()).set(*value);
    }
    shown.extend(counts.into_keys());
}
