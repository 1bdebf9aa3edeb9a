//! The dataplane's loop.

mod ask;
mod cut;
mod publish;
mod shape;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use caracal_config::FelixConfig;
use caracal_desired::Delta;
use caracal_ids::WorkloadId;
use caracal_link::{Groups, Monitor, Rtnl};
use caracal_nft::{Config as NftConfig, Nft, Wait};
use caracal_rules::{Compiler, Counting, RulesConfig, ir::IfName};
use caracal_runtime::{Reporter, Shutdown};
use caracal_update::InSync;
use tokio::{io::unix::AsyncFd, sync::mpsc, time::sleep_until};

use super::{
    Parts,
    bandwidth::Bandwidth,
    convert::rules_config,
    files::StatusFiles,
    interfaces::{HostSides, Interfaces, prepare_host},
    network::Network,
    owners::Owners,
};
use crate::{
    agent::Order,
    calc::Batch,
    denied,
    status::{Applied, Status},
};

/// What failed is tried again after this long, then twice as long, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// After so many changes memory is given back to the system.
const MANY: usize = 10_000;

/// So long after that, the other threads are done with it too: what they freed is given back, and what only such a job
/// needs of the program itself.
const SETTLED: Duration = Duration::from_secs(2);

/// How often the loop shows that it is alive when nothing happens.
const ALIVE: Duration = Duration::from_secs(30);

struct Worker {
    config: FelixConfig,
    status: Arc<Status>,
    health: Reporter,
    compiler: Compiler,
    nft: Nft,
    nft_started: bool,
    /// Why the last change of policy is not in force, if it is not.
    policy_error: Option<String>,
    /// Interfaces whose packets meet what the kernel refused, with its words.
    afflicted: BTreeMap<String, String>,
    rtnl: Rtnl,
    monitor: Monitor,
    network: Network,
    interfaces: Interfaces,
    owners: Owners,
    sides: HostSides,
    files: StatusFiles,
    token: Option<InSync>,
    /// Endpoints whose status has to be looked at.
    touched: BTreeSet<WorkloadId>,
    gone: Vec<WorkloadId>,
    /// Endpoints that something was refused for; looked at again with each apply.
    refused: BTreeSet<WorkloadId>,
    applied: Applied,
    errors: Vec<String>,
    retry: Option<(Instant, Duration)>,
    next_audit: Option<Instant>,
    next_route_audit: Option<Instant>,
    mtu_written: Option<u32>,
    born: Instant,
    /// When the tables are counted again, at the earliest.
    next_count: Instant,
    /// Whether the first complete apply is done.
    concluded: bool,
    /// Changes since memory was last given back.
    changes: usize,
    /// When the start's own memory is given back, once.
    settled: Option<Instant>,
    problems: Vec<caracal_nft::Problem>,
    /// The log group that is told of denied packets, where the kernel has such a log.
    denied_group: Option<u16>,
    bandwidth: Bandwidth,
    /// Whether tables changed since connections were last looked at.
    policy_changed: bool,
    /// What is counted; nothing while it may have changed.
    counted: Option<Arc<Counting>>,
}

/// Runs until the shutdown or until the calculation ends.
pub(crate) async fn run(parts: Parts, batches: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
    let Parts {
        node,
        config,
        status,
        health,
        orders,
        shutdown,
    } = parts;
    if let Err(e) = prepare_host(config.ipv6_support) {
        tracing::warn!("forwarding cannot be switched on: {e}");
    }
    let rtnl = Rtnl::open()?;
    let groups = Groups {
        links: true,
        addresses: true,
        routes: true,
        neighbours: true,
    };
    let mut monitor = Monitor::open(groups)?;
    monitor.ignore(&rtnl);
    let mut nft = Nft::open(nft_config(&config))?;
    let denied_group = Some(denied::GROUP).filter(|group| nft.can_log_to(*group));
    if denied_group.is_none() {
        tracing::warn!("this kernel has no netlink log of packets: denied packets cannot be watched");
    }
    let mut worker = Worker {
        compiler: Compiler::new(RulesConfig {
            denied_group,
            ..rules_config(&config)
        }),
        nft,
        denied_group,
        counted: None,
        bandwidth: Bandwidth::default(),
        policy_changed: false,
        nft_started: false,
        policy_error: None,
        afflicted: BTreeMap::new(),
        rtnl,
        monitor,
        network: Network::new(node, &config),
        interfaces: Interfaces::default(),
        owners: Owners::default(),
        sides: HostSides::default(),
        files: StatusFiles::default(),
        token: None,
        touched: BTreeSet::new(),
        gone: Vec::new(),
        refused: BTreeSet::new(),
        applied: Applied::default(),
        errors: Vec::new(),
        retry: None,
        next_audit: None,
        next_route_audit: None,
        mtu_written: None,
        born: Instant::now(),
        next_count: Instant::now(),
        concluded: false,
        changes: MANY,
        settled: None,
        problems: Vec::new(),
        config,
        status,
        health,
    };
    worker.interfaces.read(&mut worker.rtnl)?;
    worker.tell_addresses();
    worker.schedule_audits();
    worker
        .files
        .set_prefix(worker.config.endpoint_status_path_prefix.as_deref());
    worker
        .health
        .report(false, "waiting for the first complete state");
    worker.serve(batches, orders, shutdown).await
}

fn nft_config(config: &FelixConfig) -> NftConfig {
    let prefixes = config.interface_prefixes.iter();
    NftConfig {
        workloads: prefixes.filter_map(|p| IfName::starting_with(p).ok()).collect(),
        ..NftConfig::default()
    }
}

/// A descriptor of the same socket, registered with the event loop.
#[allow(unsafe_code, reason = "tokio has no safe way to register a descriptor")]
fn watch(fd: BorrowedFd<'_>) -> anyhow::Result<AsyncFd<OwnedFd>> {
    let own = fd.try_clone_to_owned().context("duplicating a descriptor")?;
    // SAFETY: the descriptor is owned by the registration, so it stays open and the same one until it is dropped.
    let registered = unsafe { AsyncFd::register(own) };
    Ok(registered.map_err(std::io::Error::from)?)
}

/// Waits until the descriptor is readable, once.
async fn readable(fd: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    fd.readable().await.map(|mut guard| guard.clear_ready())
}

impl Worker {
    async fn serve(
        &mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut orders: mpsc::Receiver<Order>,
        shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let links = watch(self.monitor.as_fd()).context("watching the links")?;
        let mut tables: Option<(RawFd, AsyncFd<OwnedFd>)> = None;
        loop {
            if let Some(fd) = self.nft.events()
                && tables
                    .as_ref()
                    .is_none_or(|(number, _)| *number != fd.as_raw_fd())
            {
                tables = Some((fd.as_raw_fd(), watch(fd).context("watching nftables")?));
            }
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                batch = batches.recv() => match batch {
                    Some(batch) => self.take(batch),
                    None if shutdown.requested() => return Ok(()),
                    None => anyhow::bail!("the calculation ended"),
                },
                outcome = readable(&links) => {
                    outcome.context("watching the links")?;
                    self.follow_links()?;
                }
                outcome = async { match &tables { Some((_, t)) => readable(t).await, None => std::future::pending().await } } => {
                    outcome.context("watching nftables")?;
                    self.follow_tables();
                }
                Some(order) = orders.recv() => self.answer(order),
                () = sleep_until(wake.into()) => self.on_time(),
            }
            self.apply();
            self.tidy();
        }
    }

    /// What no change waits for. After many changes, the first snapshot above all, gives back the memory that they took on
    /// their way.
    fn tidy(&mut self) {
        self.compiler.tidy();
        if self.concluded && self.changes >= MANY {
            self.changes = 0;
            caracal_sys::release_memory();
            self.settled = Some(Instant::now() + SETTLED);
        }
        if self.settled.is_some_and(|t| t <= Instant::now()) {
            self.settled = None;
            caracal_sys::release_memory();
            caracal_sys::release_program();
        }
    }

    /// The next moment at which something is due.
    fn next_wake(&self) -> Instant {
        let due = [
            self.retry.map(|(t, _)| t),
            self.next_audit,
            self.next_route_audit,
            self.settled,
            self.nft.next_work(),
            self.network.departed.due(),
        ];
        due.into_iter()
            .flatten()
            .chain([Instant::now() + ALIVE])
            .min()
            .unwrap_or_else(Instant::now)
    }

    fn schedule_audits(&mut self) {
        let now = Instant::now();
        self.next_audit = self.config.nft_refresh_interval.map(|i| now + i);
        self.next_route_audit = self.config.route_refresh_interval.map(|i| now + i);
    }

    fn on_time(&mut self) {
        self.health.alive();
        self.forget_connections();
        let now = Instant::now();
        if self.next_audit.is_some_and(|t| t <= now) {
            self.next_audit = self.config.nft_refresh_interval.map(|i| now + i);
            if self.nft_started {
                self.nft.retry_refused();
                let outcome = self.nft.audit();
                self.note(outcome.map_err(|e| e.to_string()));
            }
        }
        if self.next_route_audit.is_some_and(|t| t <= now) {
            self.next_route_audit = self.config.route_refresh_interval.map(|i| now + i);
            if self.token.is_some() {
                self.network.routes.resync();
                self.sides.doubt_all();
                self.doubt_shapes();
            }
        }
        if self.nft_started {
            self.follow_tables();
            if self.next_count <= now {
                self.next_count = now + ALIVE;
                self.count_tables();
            }
        }
    }

    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(e) = outcome {
            self.errors.push(e);
        }
    }

    fn take(&mut self, batch: Batch) {
        self.counted = None;
        metrics::histogram!("felix_int_dataplane_msg_batch_size").record(batch.deltas.len() as f64);
        self.changes = self.changes.saturating_add(batch.deltas.len());
        metrics::counter!("felix_int_dataplane_messages").increment(batch.deltas.len() as u64);
        for delta in &batch.deltas {
            self.compiler.apply(delta);
            match delta {
                Delta::Workload(w) => {
                    self.touched.insert(w.id.clone());
                    self.gone.retain(|id| *id != w.id);
                }
                Delta::WorkloadGone(id) => {
                    self.touched.remove(id);
                    self.gone.push(id.clone());
                }
                Delta::HostEndpoint(h) if &*h.interface == "*" && !h.untracked.is_empty() => {
                    tracing::warn!(
                        host_endpoint = %h.name,
                        "doNotTrack policy is ignored on an endpoint for all interfaces"
                    );
                }
                _ => {}
            }
            self.owners.fold(delta);
            self.network.fold(delta);
        }
        self.applied.revisions.extend(batch.revisions);
        if let Some(config) = batch.config {
            self.compiler.set_config(RulesConfig {
                denied_group: self.denied_group,
                ..rules_config(&config)
            });
            self.network.configure(&config);
            self.files
                .set_prefix(config.endpoint_status_path_prefix.as_deref());
            let intervals = |c: &FelixConfig| (c.nft_refresh_interval, c.route_refresh_interval);
            let reschedule = intervals(&config) != intervals(&self.config);
            self.config = *config;
            if reschedule {
                self.schedule_audits();
            }
            self.touched.extend(self.network.workloads().keys().cloned());
        }
        if batch.in_sync.is_some() {
            self.token = batch.in_sync;
        }
        self.applied.dirty = true;
    }

    fn follow_links(&mut self) -> anyhow::Result<()> {
        let mut changed = BTreeSet::new();
        let mut address_events = 0u32;
        for event in self.monitor.drain()? {
            if event == caracal_link::Event::Overrun {
                tracing::info!("link events were lost; reading again");
                self.interfaces.read(&mut self.rtnl)?;
                self.sides.doubt_all();
                self.touched.extend(self.network.workloads().keys().cloned());
                self.network.uplink_may_have_changed();
            }
            match &event {
                caracal_link::Event::Address(a) | caracal_link::Event::AddressGone(a) => {
                    let there = matches!(event, caracal_link::Event::Address(_));
                    address_events += 1;
                    self.interfaces.on_address(a, there);
                    if !self.is_workloads(a.link) {
                        self.network.uplink_may_have_changed();
                    }
                }
                _ => changed.extend(self.interfaces.on_event(&event)),
            }
            self.network.on_event(&event);
        }
        self.tell_addresses();
        if address_events > 0 {
            metrics::histogram!("felix_int_dataplane_addr_msg_batch_size").record(address_events);
        }
        if !changed.is_empty() {
            metrics::histogram!("felix_int_dataplane_iface_msg_batch_size").record(changed.len() as f64);
            for name in &changed {
                self.sides.doubt(name);
                self.touched.extend(self.owners.of(name).cloned());
            }
            let of_host = |interfaces: &[&str], own: &str| {
                changed.contains(own) || interfaces.iter().any(|name| changed.contains(*name))
            };
            // So that the state of host endpoints is told.
            let mut hosts = self.compiler.host_endpoints();
            self.applied.dirty |= hosts.any(|(h, interfaces)| of_host(&interfaces, &h.interface));
            let ours = |name: &String| {
                self.config
                    .interface_prefixes
                    .iter()
                    .any(|p| name.starts_with(p.as_str()))
            };
            if changed.iter().any(|n| !ours(n)) {
                self.network.uplink_may_have_changed();
            }
        }
        Ok(())
    }

    /// Whether a link has the name of a workload's; one that nobody knows any more has not.
    fn is_workloads(&self, index: u32) -> bool {
        let name = self.interfaces.name_of(index);
        let mut prefixes = self.config.interface_prefixes.iter();
        name.is_some_and(|n| prefixes.any(|p| n.starts_with(p.as_str())))
    }

    /// Host endpoints are found by the addresses of links too.
    fn tell_addresses(&mut self) {
        for (name, addresses) in self.interfaces.changed_addresses() {
            let there = addresses.is_some();
            self.compiler.set_interface(&name, addresses);
            if there && self.compiler.lacks_marks_for_ipvs(&name) {
                tracing::error!(
                    "kube-proxy uses IPVS ({name} is there), but NftablesMarkMask has too few bits to judge what IPVS \
                     forwards: four are needed"
                );
            }
            self.applied.dirty = true;
        }
    }

    fn follow_tables(&mut self) {
        let outcome = match self.nft.wait(Wait::No) {
            Ok(true) => self.nft.repair().map(|report| {
                self.follow_problems(&report);
                if report.messages > 0 {
                    tracing::info!(messages = report.messages, "others changed our tables; repaired");
                    metrics::counter!("caracal_nft_repairs").increment(1);
                }
            }),
            Ok(false) => Ok(()),
            Err(e) => Err(e),
        };
        self.note(outcome.map_err(|e| e.to_string()));
    }

    /// Brings the kernel to the desired state and tells those who wait. Does nothing before the state is complete.
    fn apply(&mut self) {
        let Some(token) = self.token.clone() else { return };
        let retry_due = self.retry.is_some_and(|(t, _)| t <= Instant::now());
        let work = self.applied.dirty || !self.touched.is_empty() || self.network.is_pending();
        if !work && !retry_due && self.errors.is_empty() {
            return;
        }
        // After a failure, only news or the time brings another try.
        if !self.applied.dirty && self.touched.is_empty() && !retry_due && self.retry.is_some() {
            return;
        }
        let start = Instant::now();
        self.apply_policy(&token, retry_due);
        self.ends("policy");
        for id in &self.touched {
            let Some(w) = self.network.workloads().get(id) else {
                continue;
            };
            let (ipv6, spoofing) = (self.config.ipv6_support, self.config.workload_source_spoofing);
            if let Some(link) = self.interfaces.link(&w.interface).filter(|l| l.up)
                && let Err(e) = self.sides.prepare(w, link, ipv6, spoofing)
            {
                // The interface may have gone a moment ago; its event will tell.
                tracing::debug!(interface = %w.interface, "settings: {e}");
            }
        }
        self.shape();
        self.ends("interfaces");
        let errors = self.network.apply(&mut self.rtnl, &token);
        self.errors.extend(errors);
        self.touched.extend(self.network.take_reconsidered());
        self.ends("routes");
        self.forget_connections();
        self.cut_connections();
        self.write_mtu();
        self.publish();
        self.ends("status");
        metrics::histogram!("felix_int_dataplane_apply_time_seconds").record(start.elapsed().as_secs_f64());
        self.conclude();
    }

    /// A stage of the start ends.
    fn ends(&self, stage: &'static str) {
        if !self.concluded {
            self.status.stages.end(stage);
        }
    }

    fn apply_policy(&mut self, token: &InSync, retry_due: bool) {
        let first = !self.nft_started;
        let outcome = if self.nft_started {
            let deltas = self.compiler.flush();
            if deltas.v4.is_empty() && deltas.v6.is_empty() && !retry_due {
                return;
            }
            self.nft.apply(deltas, token)
        } else {
            // What has been flushed since is part of the full state.
            let full = self.compiler.full_state();
            self.status.stages.end("rules");
            self.nft.start(full, token)
        };
        match outcome {
            Ok(report) => {
                if !self.nft_started {
                    tracing::info!(
                        messages = report.messages,
                        loads = report.loads,
                        "policy is in force"
                    );
                }
                self.nft_started = true;
                self.policy_changed |= report.messages > 0;
                self.policy_error = None;
                self.follow_problems(&report);
                if first {
                    self.on_first_policy();
                }
            }
            Err(e) => {
                metrics::counter!("felix_nft_errors").increment(1);
                self.policy_error = Some(e.to_string());
                self.errors.push(e.to_string());
            }
        }
    }

    fn write_mtu(&mut self) {
        let mtu = self.network.pod_mtu();
        if self.mtu_written == Some(mtu) {
            return;
        }
        let path = std::path::Path::new(caracal_sys::DEFAULT_MTU_FILE);
        match caracal_sys::write_mtu_file(path, mtu) {
            Ok(_) => self.mtu_written = Some(mtu),
            Err(e) => self.errors.push(e.to_string()),
        }
    }
}
