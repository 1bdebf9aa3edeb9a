//! The agent's tasks, put together.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use caracal_api::{Kind, Resource, ResourceKey};
use caracal_config::FelixConfig;
use caracal_ids::NodeName;
use caracal_runtime::{
    Health, Shutdown, Supervisor, TaskEnd, install_metrics, on_signals, serve_health, serve_metrics_and,
};
use caracal_store::{Backoff, Store, StoreError};
use caracal_syncer::{Source, Stream, Syncer};
use tokio::sync::mpsc;

use crate::{
    addresses,
    agent::{self, Order, Orders},
    calc::Calc,
    conditions::Conditions,
    counters::Counters,
    dataplane,
    keepsake::{self, Keepsake},
    pods, reporting,
    settings::Settings,
    stages::Stages,
    status::Status,
};

/// A part that has not shown itself for this long is dead.
const PATIENCE: Duration = Duration::from_secs(90);

/// Kinds of which there may be many.
const LONG: &[Kind] = &[
    Kind::WorkloadEndpoint,
    Kind::GlobalNetworkPolicy,
    Kind::NetworkPolicy,
];

/// Why the agent ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to.
    Asked,
    /// To start anew with parameters that are read once.
    Again,
}

/// A wish to start anew, seen by every clone.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    wanted: Arc<AtomicBool>,
    shutdown: Shutdown,
}

impl Restart {
    /// Ends the agent in order; it then starts anew.
    pub(crate) fn request(&self, why: &str) {
        tracing::info!(why, "starting anew");
        self.wanted.store(true, Ordering::Relaxed);
        self.shutdown.request();
    }
}

/// Runs the agent until it is asked to end.
///
/// # Errors
/// What broke.
pub(crate) async fn agent(
    mut settings: Settings,
    datastore: Option<&Path>,
    stages: Stages,
) -> anyhow::Result<End> {
    let local = settings.config();
    anyhow::ensure!(
        !agent::is_running(Path::new(&local.agent_socket)),
        "another agent is running on this node: it answers at {}",
        local.agent_socket
    );
    let mut store = caracal_datastore::of_agent(&local, datastore)?;
    tracing::info!(node = %settings.node(), datastore = store.describe(), "starting");
    // The longest lists are on their way while the configuration is read.
    let long = sources(settings.node())
        .into_iter()
        .filter(|s| LONG.contains(&s.kind()));
    long.for_each(|s| s.prefetch(store.as_ref()));
    let shutdown = Shutdown::new();
    let health = Health::new();
    let mut tasks = Supervisor::new(shutdown.clone());
    tasks.spawn("signals", on_signals(shutdown.clone()));
    // Asked for by environment or file, health is served before the datastore answers.
    let early = local.health_enabled;
    // Before anybody can ask: without a part that says no the answer would be yes.
    let waiting = health.register("Datastore", None);
    waiting.report(false, "not read yet");
    if early {
        spawn_health(&mut tasks, &local, &health, &shutdown);
    }
    let node = settings.node().clone();
    let mut away = None;
    let in_place = tokio::select! {
        outcome = load(&mut settings, store.as_ref()) => outcome.map(|()| None)?,
        kept = keepsake::overdue(&node) => Some(kept),
        () = shutdown.wait() => return finish(tasks).await.map(|()| End::Asked),
    };
    if let Some(kept) = in_place {
        tracing::warn!(
            "the datastore is away and an object was not confirmed in time: going back to what was before, from \
             what was written down, until the datastore returns"
        );
        settings.load(kept.as_ref()).await?;
        away = Some(std::mem::replace(&mut store, kept));
    }
    stages.end("configuration");
    let config = settings.config();
    if config.health_enabled && !early {
        spawn_health(&mut tasks, &config, &health, &shutdown);
    }
    let (orders, asked) = mpsc::channel(256);
    let counters = Counters::new(orders.clone());
    if config.prometheus_metrics_enabled {
        let handle = install_metrics().map_err(anyhow::Error::msg).context("metrics")?;
        let (host, port) = (
            config.prometheus_metrics_host.clone().unwrap_or_default(),
            config.prometheus_metrics_port,
        );
        let (shutdown, counters) = (shutdown.clone(), counters.clone());
        let rules = move || {
            let counters = counters.clone();
            async move { counters.text().await }
        };
        tasks.spawn("metrics", async move {
            serve_metrics_and(&host, port, handle, rules, shutdown).await
        });
    }
    crate::metrics::describe(settings.node().as_str());
    let restart = Restart {
        wanted: Arc::default(),
        shutdown,
    };
    let cut_off = away.is_some();
    if let Some(store) = away {
        let restart = restart.clone();
        tasks.spawn("the way back to the datastore", async move {
            returned(store, restart).await
        });
    }
    wire(
        &mut tasks,
        settings,
        (store, cut_off),
        &health,
        &restart,
        (counters, orders, asked),
        Arc::new(Status::of_start(stages)),
    )?;
    // The parts that are wired now say no until they are ready.
    waiting.report(true, "configuration read");
    finish(tasks).await?;
    Ok(if restart.wanted.load(Ordering::Relaxed) {
        End::Again
    } else {
        End::Asked
    })
}

/// What the agent follows.
fn sources(node: &NodeName) -> Vec<Source> {
    let all = Stream::Felix.sources(None).into_iter();
    all.map(|s| s.for_node(node.as_str())).collect()
}

fn wire(
    tasks: &mut Supervisor,
    settings: Settings,
    (store, cut_off): (Arc<dyn Store>, bool),
    health: &Health,
    restart: &Restart,
    (counters, orders, asked): (Counters, Orders, mpsc::Receiver<Order>),
    status: Arc<Status>,
) -> anyhow::Result<()> {
    let shutdown = &restart.shutdown;
    let config = settings.config();
    let node = settings.node().clone();
    status.set_config(settings.to_json().to_string());
    let parts = dataplane::Parts {
        node: node.clone(),
        config: config.clone(),
        status: status.clone(),
        health: health.register("InternalDataplaneMainLoop", Some(PATIENCE)),
        orders: asked,
        shutdown: shutdown.clone(),
    };
    let (handle, end) = dataplane::spawn(parts).context("starting the dataplane's thread")?;
    tasks.spawn("dataplane", async move {
        end.await
            .unwrap_or_else(|_| Err("its thread panicked".to_owned()))
    });
    if let Some(reporting) = config.reporting.clone() {
        let (status, stop) = (status.clone(), shutdown.clone());
        let reports = reporting::run(node.to_string(), reporting, store.clone(), status, stop);
        tasks.spawn("reports", reports);
    }
    let calls = pods::Calls::new(
        Arc::new(pods::start(tasks, &store, &node, &status, shutdown)),
        addresses::start(tasks, &store, &node, shutdown),
    );
    let conditions = Arc::new(Conditions::default());
    // Cut off, this agent works on a copy of its own.
    if !cut_off {
        let (conditions, store, stop) = (conditions.clone(), store.clone(), shutdown.clone());
        tasks.spawn("conditions", async move { conditions.run(store, stop).await });
    }
    let keepsake = Keepsake::new(store.clone(), node.clone());
    let (syncer, events) = Syncer::new(store, sources(&node));
    let stop = shutdown.clone();
    tasks.spawn("syncer", async move {
        tokio::select! {
            () = syncer.run() => if stop.requested() { Ok(()) } else { Err("it ended") },
            () = stop.wait() => Ok(()),
        }
    });
    let calc = Calc::new(
        &node,
        settings,
        status.clone(),
        health.register("CalculationGraph", None),
        restart.clone(),
        keepsake,
        conditions,
    );
    let stop = shutdown.clone();
    tasks.spawn("calculation", calc.run(events, handle, stop));
    let stop = shutdown.clone();
    tasks.spawn("agent API", async move {
        agent::serve(config.agent_socket, node, status, orders, counters, calls, stop)
            .await
            .map_err(|e| format!("{e:#}"))
    });
    Ok(())
}

async fn finish(tasks: Supervisor) -> anyhow::Result<()> {
    match tasks.run().await {
        TaskEnd::Clean => Ok(()),
        TaskEnd::Broken { task, why } => anyhow::bail!("{task}: {why}"),
    }
}

fn spawn_health(tasks: &mut Supervisor, config: &FelixConfig, health: &Health, shutdown: &Shutdown) {
    let (host, port) = (config.health_host.clone(), config.health_port);
    let (health, shutdown) = (health.clone(), shutdown.clone());
    tasks.spawn("health", async move {
        serve_health(&host, port, health, shutdown).await
    });
}

/// Reads the configuration from the datastore and waits until the cluster says that it is ready.
async fn load(settings: &mut Settings, store: &dyn Store) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    loop {
        match settings.load(store).await {
            Ok(()) => {}
            Err(e) if e.is_transient() => {
                tracing::warn!("{e}; trying again");
                tokio::time::sleep(backoff.wait()).await;
                continue;
            }
            Err(e) => return Err(e).context("reading the configuration from the datastore"),
        }
        if ready(store).await? {
            break;
        }
        tracing::warn!(
            "ClusterInformation says that the datastore is not ready (datastoreReady: false); waiting"
        );
        tokio::time::sleep(backoff.wait()).await;
    }
    settings.log_news();
    let fatal = settings.fatal();
    anyhow::ensure!(fatal.is_empty(), "{}", fatal.join("\n"));
    Ok(())
}

/// Waits until the datastore can be used, to start anew with it.
async fn returned(store: Arc<dyn Store>, restart: Restart) -> Result<(), String> {
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            () = restart.shutdown.wait() => return Ok(()),
            () = tokio::time::sleep(backoff.wait()) => {}
        }
        if matches!(ready(store.as_ref()).await, Ok(true)) {
            restart.request("the datastore is back");
        }
    }
}

async fn ready(store: &dyn Store) -> anyhow::Result<bool> {
    match store
        .get(&ResourceKey::global(Kind::ClusterInformation, "default"))
        .await
    {
        Ok(Resource::ClusterInformation(o)) => Ok(o.spec.datastore_ready != Some(false)),
        // Nobody has made it yet: whoever prepares the nodes will.
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(true),
        Err(e) if e.is_transient() => Ok(false),
        Err(e) => Err(e).context("reading ClusterInformation"),
    }
}
