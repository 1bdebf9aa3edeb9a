//! What the agent says of itself and its endpoints in the datastore, for programs such as OpenStack's that ask there.
//!
//! **Invariant:** all but the time of the last report is under one lease: when the agent dies it goes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use caracal_config::Reporting;
use caracal_convert::WepName;
use caracal_runtime::Shutdown;
use caracal_store::{Backoff, Lease, ReportKey, Reports, Store, StoreError, Subject, now};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::status::{State, Status};

/// A lease is kept this often within its time.
const KEPT_IN_TTL: u32 = 3;
/// How often endpoints are compared when nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// Reports until the shutdown. A datastore that is away is tried again.
pub(crate) async fn run(
    node: String,
    settings: Reporting,
    store: Arc<dyn Store>,
    status: Arc<Status>,
    shutdown: Shutdown,
) -> Result<(), String> {
    let Some(reports) = store.reports() else {
        tracing::warn!(
            datastore = store.describe(),
            "EndpointReportingEnabled is set, but this datastore has no place for reports"
        );
        shutdown.wait().await;
        return Ok(());
    };
    let mut changes = status.subscribe();
    let mut reporter = Reporter::new(node, &settings, reports);
    let mut backoff = Backoff::default();
    loop {
        changes.mark_unchanged();
        let wait = match reporter.round(&status).await {
            Ok(()) => {
                backoff.reset();
                reporter.until_next()
            }
            Err(e) => {
                tracing::warn!("cannot report to the datastore: {e}; trying again");
                backoff.wait()
            }
        };
        let failed = reporter.failed;
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
            // After a failure changes wait, too.
            () = gathered(&mut changes, settings.delay), if !failed => {}
        }
    }
}

/// Waits for a change, and for those that follow it soon.
async fn gathered(changes: &mut watch::Receiver<u64>, delay: Duration) {
    match changes.changed().await {
        Ok(()) => tokio::time::sleep(delay).await,
        Err(_) => std::future::pending().await,
    }
}

fn in_short(state: &State) -> Value {
    let word = match state {
        State::Up => "up",
        State::Down(_) => "down",
        State::Error(_) => "error",
    };
    json!({ "status": word })
}

struct Reporter<'a> {
    node: String,
    settings: &'a Reporting,
    reports: &'a dyn Reports,
    started: Instant,
    /// The lease, and when it was last kept.
    lease: Option<(Lease, Instant)>,
    /// When the agent was last reported to live.
    told: Option<Instant>,
    /// Whether it ever was.
    introduced: bool,
    /// What was written of endpoints under this lease.
    written: BTreeMap<ReportKey, Value>,
    /// Whether what an agent before this one wrote is gone.
    swept: bool,
    failed: bool,
}

impl<'a> Reporter<'a> {
    fn new(node: String, settings: &'a Reporting, reports: &'a dyn Reports) -> Self {
        Self {
            node,
            settings,
            reports,
            started: Instant::now(),
            lease: None,
            told: None,
            introduced: false,
            written: BTreeMap::new(),
            swept: false,
            failed: false,
        }
    }

    fn key(&self, subject: Subject) -> ReportKey {
        ReportKey {
            region: self.settings.region.clone(),
            node: self.node.clone(),
            subject,
        }
    }

    /// Brings the datastore up to date.
    async fn round(&mut self, status: &Status) -> Result<(), StoreError> {
        self.failed = true;
        self.hold().await?;
        if self.is_due() {
            self.tell_of_agent().await?;
        }
        if status.in_sync() {
            self.tell_of_endpoints(&self.wanted(status)).await?;
        }
        self.failed = false;
        Ok(())
    }

    /// Sees to it that the lease holds. One that was lost takes all that was written under it.
    async fn hold(&mut self) -> Result<(), StoreError> {
        let Some(ttl) = self.settings.ttl else {
            return Ok(());
        };
        if let Some((lease, kept)) = self.lease {
            if kept.elapsed() < ttl / KEPT_IN_TTL {
                return Ok(());
            }
            if self.reports.keep(lease).await? {
                self.lease = Some((lease, Instant::now()));
                return Ok(());
            }
            self.lose();
        }
        self.lease = Some((self.reports.grant(ttl).await?, Instant::now()));
        Ok(())
    }

    fn lose(&mut self) {
        self.lease = None;
        self.told = None;
        self.written.clear();
    }

    fn is_due(&self) -> bool {
        let told = self.told.map(|at| at.elapsed());
        self.settings
            .interval
            .is_some_and(|interval| told.is_none_or(|t| t >= interval))
    }

    /// How long to sleep when nothing changes.
    fn until_next(&self) -> Duration {
        let left = |since: Instant, period: Duration| period.saturating_sub(since.elapsed());
        let lease = self.lease.zip(self.settings.ttl);
        let lease = lease.map(|((_, kept), ttl)| left(kept, ttl / KEPT_IN_TTL));
        let told = self.told.zip(self.settings.interval).map(|(at, i)| left(at, i));
        lease.into_iter().chain(told).fold(IDLE, Duration::min)
    }

    async fn write(&mut self, key: &ReportKey, value: &Value) -> Result<(), StoreError> {
        let lease = self.lease.map(|(lease, _)| lease);
        if self.reports.report(key, value, lease).await? {
            return Ok(());
        }
        self.lose();
        Err(StoreError::Unavailable("the lease ended early".to_owned()))
    }

    async fn tell_of_agent(&mut self) -> Result<(), StoreError> {
        let report = json!({
            "time": now(),
            "uptime": self.started.elapsed().as_secs_f64(),
            "first_update": !self.introduced,
        });
        self.write(&self.key(Subject::Agent), &report).await?;
        let stays = self.key(Subject::LastSeen);
        self.reports.report(&stays, &report, None).await?;
        self.told = Some(Instant::now());
        self.introduced = true;
        Ok(())
    }

    /// The reports on the endpoints as they are now. One whose name does not say what it is has no place in a report.
    fn wanted(&self, status: &Status) -> BTreeMap<ReportKey, Value> {
        let endpoints = status.endpoints().into_iter();
        let known = endpoints.filter_map(|(id, endpoint)| {
            let name: WepName = id.name.parse().ok()?;
            let subject = Subject::Workload {
                orchestrator: name.orchestrator,
                workload: format!("{}/{}", id.namespace, name.workload),
                endpoint: name.endpoint,
            };
            Some((self.key(subject), in_short(&endpoint.state)))
        });
        let hosts = status.hosts().into_iter().map(|(endpoint, state)| {
            let subject = Subject::Host { endpoint };
            (self.key(subject), in_short(&state))
        });
        known.chain(hosts).collect()
    }

    async fn tell_of_endpoints(&mut self, wanted: &BTreeMap<ReportKey, Value>) -> Result<(), StoreError> {
        for (key, value) in wanted {
            if self.written.get(key) != Some(value) {
                self.write(key, value).await?;
                self.written.insert(key.clone(), value.clone());
            }
        }
        let mut gone: Vec<_> = self.written.keys().cloned().collect();
        if !self.swept {
            let left = self.reports.reported(Some(&self.node)).await?.into_iter();
            gone.extend(left.map(|(key, _)| key));
        }
        gone.retain(|key| {
            let endpoint = matches!(key.subject, Subject::Workload { .. } | Subject::Host { .. });
            endpoint && key.region == self.settings.region && !wanted.contains_key(key)
        });
        for key in gone {
            self.reports.retract(&key).await?;
            self.written.remove(&key);
        }
        self.swept = true;
        Ok(())
    }
}
