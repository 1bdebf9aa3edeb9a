//! The owner of the engines: takes the feed's events in, hands coalesced deltas to the dataplane.

mod census;
mod lawful;
mod trials;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use caracal_api::{Kind, Resource, ResourceKey, Unreadable};
use caracal_config::{Applies, FelixConfig, Param};
use caracal_desired::Delta;
use caracal_ids::NodeName;
use caracal_runtime::{Reporter, Shutdown};
use caracal_update::{Event, InSync, Update};
use tokio::sync::mpsc;

use crate::{
    conditions::Conditions,
    dataplane,
    keepsake::Keepsake,
    metrics::{Resync, resync},
    settings::Settings,
    start::Restart,
    status::Status,
};
use census::Census;
use trials::OnTrial;

/// What the dataplane is told at a time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Changes of the desired state, in order.
    pub(crate) deltas: Vec<Delta>,
    /// The parameters, when they changed.
    pub(crate) config: Option<Box<FelixConfig>>,
    /// With the first batch: the state is complete.
    pub(crate) in_sync: Option<InSync>,
    /// The highest revision seen of each kind that changed, where the datastore counts revisions.
    pub(crate) revisions: BTreeMap<Kind, u64>,
}

/// The engines with the configuration.
pub(crate) struct Calc {
    policy: caracal_policy::Engine,
    routes: caracal_routes::Engine,
    settings: Settings,
    status: Arc<Status>,
    in_sync: Option<InSync>,
    config: Option<Box<FelixConfig>>,
    started: bool,
    revisions: BTreeMap<Kind, u64>,
    seen_invalid: BTreeSet<ResourceKey>,
    /// Objects that the feed could not read, whatever stands in for them.
    unreadable: BTreeSet<ResourceKey>,
    /// Objects that their schema forbids, and why.
    unlawful: BTreeMap<ResourceKey, String>,
    health: Reporter,
    restart: Restart,
    /// Only while somebody may ask for figures.
    census: Option<Census>,
    /// Why the datastore is away, if it is.
    away: Option<String>,
    trials: OnTrial,
    keepsake: Keepsake,
    conditions: Arc<Conditions>,
}

impl Calc {
    pub(crate) fn new(
        node: &NodeName,
        settings: Settings,
        status: Arc<Status>,
        health: Reporter,
        restart: Restart,
        keepsake: Keepsake,
        conditions: Arc<Conditions>,
    ) -> Self {
        let census = settings.config().prometheus_metrics_enabled.then(Census::default);
        Self {
            policy: caracal_policy::Engine::new(node.clone()),
            routes: caracal_routes::Engine::new(node.clone(), caracal_routes::RouteSource::CalicoIpam),
            settings,
            status,
            in_sync: None,
            config: None,
            started: false,
            revisions: BTreeMap::new(),
            seen_invalid: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            unlawful: BTreeMap::new(),
            health,
            restart,
            census,
            away: None,
            trials: OnTrial::default(),
            keepsake,
            conditions,
        }
    }

    /// Runs until the feed ends or the shutdown is requested. One change goes through at once; what comes while the
    /// dataplane is busy is gathered into one batch.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        dataplane: dataplane::Handle,
        shutdown: Shutdown,
    ) -> Result<(), String> {
        let mut dirty = false;
        resync(Resync::Running);
        metrics::gauge!("caracal_datastore_connected").set(1.0);
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                () = self.trials.tick(self.keepsake.is_needed()) => dirty |= self.end_trials(),
                () = self.keepsake.progress() => dirty |= self.end_trials(),
                event = events.recv() => {
                    let Some(event) = event else { return Err("the feed of updates ended".into()) };
                    self.keepsake.before(&event);
                    let start = Instant::now();
                    self.take(event);
                    // What is there already belongs to the same batch.
                    while let Ok(more) = events.try_recv() {
                        self.keepsake.before(&more);
                        self.take(more);
                    }
                    metrics::histogram!("felix_calc_graph_update_time_seconds")
                        .record(start.elapsed().as_secs_f64());
                    dirty = self.in_sync.is_some() || self.started;
                }
                slot = dataplane.ready(), if dirty => {
                    let slot = slot.map_err(|()| "the dataplane ended".to_owned())?;
                    dirty = false;
                    if let Some(batch) = self.flush() {
                        slot.send(batch);
                    }
                }
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Updates(updates) => updates.iter().for_each(|u| self.update(u)),
            Event::InSync(token) => {
                tracing::info!("the whole datastore has been read");
                self.status.stages.end("datastore");
                self.in_sync = Some(token);
                resync(Resync::Done);
                if self.settings.complete() {
                    self.settings_changed();
                }
            }
            Event::Unreadable { key, reason } => self.cannot_read(key, reason),
            Event::Disconnected(why) => {
                tracing::warn!(why, "lost the datastore; what is in force stays");
                metrics::gauge!("caracal_datastore_connected").set(0.0);
                resync(Resync::Waiting);
                self.away = Some(why);
                self.tell_health();
            }
            Event::Reconnected => {
                tracing::info!("the datastore is back");
                metrics::gauge!("caracal_datastore_connected").set(1.0);
                let phase = if self.started || self.in_sync.is_some() {
                    Resync::Done
                } else {
                    Resync::Running
                };
                resync(phase);
                self.away = None;
                self.tell_health();
            }
        }
    }

    /// A node that lost its datastore still does its work: ready, and saying so.
    fn tell_health(&self) {
        match &self.away {
            Some(why) => self.health.report(
                self.started,
                format!("the datastore is away, what is in force stays: {why}"),
            ),
            None if self.started => self.health.report(true, "in sync"),
            None => self.health.report(false, "reading the datastore"),
        }
    }

    /// An object that is there and has no meaning: what stands in for it is in force.
    fn cannot_read(&mut self, key: ResourceKey, why: Unreadable) {
        self.conditions.note(&key, why.with_status(), Some(&why.reason));
        let Unreadable { reason, stand_in, .. } = why;
        if self.status.set_invalid(key.clone(), Some(reason.clone())) {
            let instead = match stand_in {
                Some(_) => "what can be read of it, closed",
                None => "nothing",
            };
            tracing::warn!(object = %key, reason, instead, "this object cannot be read from the datastore");
        }
        self.unlawful.remove(&key);
        self.put(&Update {
            key: key.clone(),
            value: stand_in,
        });
        let kind = key.kind;
        self.unreadable.insert(key);
        self.count_invalid(kind);
    }

    fn update(&mut self, update: &Update) {
        if self.unreadable.remove(&update.key) {
            self.status.set_invalid(update.key.clone(), None);
            self.count_invalid(update.key.kind);
        }
        self.hold_to_schema(update);
        let fault = self.unlawful.get(&update.key).map(String::as_str);
        self.conditions.note(&update.key, update.value.as_ref(), fault);
        metrics::counter!("felix_calc_graph_updates_processed").increment(1);
        if let Some(census) = &mut self.census {
            census.object(update);
        }
        let revision: Option<u64> = update
            .value
            .as_ref()
            .and_then(|r| r.metadata().resource_version.as_ref()?.parse().ok());
        if let Some(revision) = revision {
            let highest = self.revisions.entry(update.key.kind).or_default();
            *highest = revision.max(*highest);
        }
        let refused = self.unlawful.contains_key(&update.key);
        match self.judge_trial(update) {
            Some(other) => self.put_lawful(&other),
            None if refused => self.put(&lawful::instead(update)),
            None => self.put(update),
        }
    }

    /// Gives the engines an object that nobody has looked at.
    fn put_lawful(&mut self, update: &Update) {
        let refused = update
            .value
            .as_deref()
            .is_some_and(|r| lawful::broken(r).is_some());
        if refused {
            self.put(&lawful::instead(update));
        } else {
            self.put(update);
        }
    }

    /// Gives the engines what is in force of an object.
    fn put(&mut self, update: &Update) {
        let fixed = lawful::as_fixed(update);
        let update = fixed.as_ref().unwrap_or(update);
        self.policy.apply(update);
        self.routes.apply(update);
        if let Some(Resource::ClusterInformation(o)) = update.value.as_deref()
            && o.spec.datastore_ready == Some(false)
        {
            // Whoever locks the datastore is about to change it as a whole: what is in force stays, and a new start
            // waits for the end of it.
            self.restart.request("datastoreReady: false");
            return;
        }
        if self.settings.apply(update) {
            self.settings_changed();
        }
    }

    fn settings_changed(&mut self) {
        let changed = self.settings.refresh();
        if !changed.is_empty() {
            self.config_changed(&changed);
        }
    }

    fn config_changed(&mut self, changed: &[&'static str]) {
        self.settings.log_news();
        let fatal = self.settings.fatal();
        if !fatal.is_empty() {
            // A start with these would fail; the running agent keeps what it has.
            tracing::error!(
                "the configuration cannot be used, the old one stays: {}",
                fatal.join("; ")
            );
            return;
        }
        tracing::info!(parameters = changed.join(", "), "the configuration changed");
        let once: Vec<&str> = changed
            .iter()
            .copied()
            .filter(|n| Param::named(n).is_some_and(|p| p.applies == Applies::Anew))
            .collect();
        if !once.is_empty() {
            self.restart.request(&format!("read once: {}", once.join(", ")));
            return;
        }
        if changed.contains(&"LogSeverityScreen") {
            caracal_runtime::set_log_severity(&crate::cli::severity(&self.settings.config()));
        }
        self.status.set_config(self.settings.to_json().to_string());
        self.config = Some(Box::new(self.settings.config()));
    }

    fn flush(&mut self) -> Option<Batch> {
        let mut deltas = self.policy.flush();
        deltas.extend(self.routes.flush());
        metrics::counter!("felix_calc_graph_output_events").increment(deltas.len() as u64);
        for delta in &deltas {
            self.note_invalid(delta);
            if let Some(census) = &mut self.census {
                census.delta(delta);
            }
        }
        if let Some(census) = &mut self.census {
            census.publish();
        }
        let revisions = std::mem::take(&mut self.revisions);
        let batch = Batch {
            deltas,
            config: self.config.take(),
            in_sync: self.in_sync.take(),
            revisions,
        };
        if batch.in_sync.is_some() {
            self.started = true;
            self.status.stages.end("calculation");
            self.tell_health();
        }
        let empty = batch.deltas.is_empty()
            && batch.config.is_none()
            && batch.in_sync.is_none()
            && batch.revisions.is_empty();
        (!empty).then_some(batch)
    }

    fn note_invalid(&mut self, delta: &Delta) {
        match delta {
            Delta::Invalid(i) => {
                tracing::warn!(object = %i.key, reason = i.reason, "this object cannot be used");
                self.seen_invalid.insert(i.key.clone());
                self.status.set_invalid(i.key.clone(), Some(i.reason.clone()));
                self.count_invalid(i.key.kind);
            }
            // What stands in for an object that cannot be read has no faults, but the object has.
            Delta::Valid(key) if self.unreadable.contains(key) => {
                self.seen_invalid.remove(key);
                self.count_invalid(key.kind);
            }
            Delta::Valid(key) if self.seen_invalid.remove(key) => {
                tracing::info!(object = %key, "this object can be used again, or is gone");
                self.status
                    .set_invalid(key.clone(), self.unlawful.get(key).cloned());
                self.count_invalid(key.kind);
            }
            _ => {}
        }
    }

    /// Names an object that its schema forbids.
    fn hold_to_schema(&mut self, update: &Update) {
        let key = &update.key;
        let reason = update.value.as_deref().and_then(lawful::broken);
        if self.unlawful.get(key) == reason.as_ref() {
            return;
        }
        // The engine's own reason, if there is one, tells more.
        let told = self.seen_invalid.contains(key);
        match reason {
            Some(reason) => {
                tracing::warn!(object = %key, reason, "this object breaks the rules of its kind");
                if !told {
                    self.status.set_invalid(key.clone(), Some(reason.clone()));
                }
                self.unlawful.insert(key.clone(), reason);
            }
            None => {
                self.unlawful.remove(key);
                if !told {
                    tracing::info!(object = %key, "this object keeps the rules of its kind again, or is gone");
                    self.status.set_invalid(key.clone(), None);
                }
            }
        }
        self.count_invalid(key.kind);
    }

    fn count_invalid(&self, kind: Kind) {
        let others = self.unlawful.keys().filter(|k| !self.seen_invalid.contains(*k));
        let n = self
            .seen_invalid
            .union(&self.unreadable)
            .chain(others)
            .filter(|k| k.kind == kind)
            .count();
        metrics::gauge!("caracal_invalid_objects", "kind" => kind.as_str()).set(n as f64);
    }
}
