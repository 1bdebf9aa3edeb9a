//! What an apply says about itself: the state of endpoints, failures, figures.

use std::{collections::BTreeMap, time::Instant};

use caracal_agent_api::v1::dump_request::Table;
use caracal_desired::{HostEndpoint, WorkloadEndpoint};
use caracal_ids::WorkloadId;
use caracal_net::Family;
use caracal_nft::Report;

use super::{RETRY, Worker};
use crate::{
    agent::DumpOrder,
    dataplane::{afflicted, conntrack, leftovers},
    status::{EndpointStatus, State},
};

impl Worker {
    /// Notes which endpoints suffer from what the kernel refused.
    pub(super) fn follow_problems(&mut self, report: &Report) {
        metrics::counter!("felix_nft_calls").increment(report.batches as u64);
        metrics::counter!("felix_nft_errors").increment(report.refused_batches as u64);
        let before = std::mem::take(&mut self.afflicted);
        for family in Family::BOTH {
            let of = report.problems.iter().filter(|p| p.family == family);
            let problems: Vec<_> = of.cloned().collect();
            if !problems.is_empty() {
                let found = afflicted::interfaces(self.nft.desired(family), &problems);
                self.afflicted.extend(found);
            }
        }
        if self.problems != report.problems {
            for p in report.problems.iter().filter(|p| !self.problems.contains(p)) {
                tracing::warn!(family = %p.family, object = %p.object, why = p.why, "not as asked for in the kernel");
            }
            self.problems.clone_from(&report.problems);
            metrics::gauge!("caracal_nft_problems").set(report.problems.len() as f64);
        }
        if before != self.afflicted {
            let hit = |w: &WorkloadEndpoint| before.get(&*w.interface) != self.afflicted.get(&*w.interface);
            let ids = self
                .network
                .workloads()
                .values()
                .filter(|w| hit(w))
                .map(|w| w.id.clone());
            self.touched.extend(ids.collect::<Vec<_>>());
        }
    }

    /// Once, when policy is in force for the first time and before endpoints are told: what an agent before this one
    /// wrote down shows which addresses changed hands meanwhile.
    pub(super) fn on_first_policy(&mut self) {
        let held = |id: &WorkloadId, container: &str| {
            let now = self.network.workloads().get(id);
            now.is_some_and(|w| *w.container_id == *container)
        };
        let departed = self.files.departed(held);
        self.network.depart(departed);
    }

    /// Once, when the first apply is complete and all are told: looks for what others left.
    fn on_first_apply(&mut self) {
        metrics::gauge!("felix_int_dataplane_initial_resync_time_seconds")
            .set(self.born.elapsed().as_secs_f64());
        match conntrack::forget_where(self.network.is_stale()) {
            Ok(0) => {}
            Ok(connections) => {
                metrics::counter!("caracal_conntrack_flushed").increment(connections as u64);
                tracing::info!(
                    connections,
                    "forgot connections of addresses that no endpoint has any more"
                );
            }
            Err(e) => tracing::debug!("looking for connections of departed endpoints: {e}"),
        }
        self.count_tables();
        self.sweep_shapes();
        if self.config.remove_calico {
            let (gone, stay) = leftovers::remove(&mut self.nft);
            for what in gone.iter().filter(|_| stay.is_empty()) {
                tracing::info!(what, "left by Calico, removed");
            }
            for what in stay {
                tracing::warn!(what, "left by Calico, cannot be removed");
            }
        }
        let found = leftovers::find(&mut self.nft);
        metrics::gauge!("caracal_calico_leftovers").set(found.len() as f64);
        for what in found {
            tracing::warn!(
                what,
                "left by Calico and still in force: when Calico is gone from this node, remove it with caracal felix --cleanup-calico"
            );
        }
    }

    /// Counts what is in our tables. A look at every chain and set, so not for every change.
    pub(super) fn count_tables(&self) {
        for family in Family::BOTH {
            let (table, label) = (self.nft.desired(family), family.to_string());
            let sets = table.sets.values();
            let maps = sets.filter(|s| s.def.data.is_some()).count();
            let ip_sets = table
                .sets
                .keys()
                .filter(|name| name.as_str().starts_with("s."))
                .count();
            let rules: usize = table.chains.values().map(|c| c.rules.len()).sum();
            for (name, n) in [
                ("felix_nft_chains", table.chains.len()),
                ("felix_nft_rules", rules),
                ("felix_nft_maps", maps),
                ("felix_nft_sets", table.sets.len() - maps),
                ("felix_ipsets_calico", ip_sets),
            ] {
                metrics::gauge!(name, "ip_version" => label.clone()).set(n as f64);
            }
        }
    }

    /// What a pod was allowed must not be inherited by the next one with its address.
    pub(super) fn forget_connections(&mut self) {
        let departed = self.network.departed.take(Instant::now());
        match conntrack::forget(&departed) {
            Ok(0) => {}
            Ok(n) => metrics::counter!("caracal_conntrack_flushed").increment(n as u64),
            // A kernel without connection tracking has nothing to forget.
            Err(e) => tracing::debug!("forgetting connections of departed endpoints: {e}"),
        }
    }

    fn state_of(&self, w: &WorkloadEndpoint) -> State {
        if let Some(why) = &self.policy_error {
            return State::Error(format!("policy is not in force: {why}"));
        }
        if let Some(why) = self.afflicted.get(&*w.interface) {
            return State::Error(why.clone());
        }
        match (self.interfaces.usable(&w.interface), self.network.refused(w)) {
            (Err(why), _) => State::Down(why),
            (Ok(()), Some(why)) => State::Error(why.clone()),
            (Ok(()), None) => State::Up,
        }
    }

    /// The state of all host endpoints: there are a few.
    fn hosts(&self) -> BTreeMap<String, State> {
        let hosts = self.compiler.host_endpoints();
        hosts
            .map(|(h, interfaces)| (h.name.to_string(), self.state_of_host(h, &interfaces)))
            .collect()
    }

    fn state_of_host(&self, h: &HostEndpoint, interfaces: &[&str]) -> State {
        if let Some(why) = &self.policy_error {
            return State::Error(format!("policy is not in force: {why}"));
        }
        if interfaces.is_empty() {
            return State::Error(match &*h.interface {
                "" => "no interface without another endpoint has one of its addresses".to_owned(),
                name => format!("interface {name} is another endpoint's"),
            });
        }
        let real = || interfaces.iter().filter(|name| **name != "*");
        if let Some(name) = real().find(|name| self.interfaces.link(name).is_none()) {
            return State::Error(format!("interface {name} does not exist"));
        }
        if let Some(why) = real().find_map(|name| self.afflicted.get(*name)) {
            return State::Error(why.clone());
        }
        match real().find_map(|name| self.interfaces.usable(name).err()) {
            Some(why) => State::Down(why),
            None => State::Up,
        }
    }

    /// Tells the state of the endpoints that changed. After a failure of policy, what changed with it is not up.
    pub(super) fn publish(&mut self) {
        if !self.nft_started {
            return;
        }
        let mut set = Vec::new();
        let again = std::mem::take(&mut self.refused);
        for id in std::mem::take(&mut self.touched).into_iter().chain(again) {
            let Some(w) = self.network.workloads().get(&id) else {
                continue;
            };
            let state = self.state_of(w);
            if matches!(state, State::Error(_)) {
                self.refused.insert(id.clone());
            }
            let addresses = w.addresses.v4.iter().chain(&w.addresses.v6);
            let status = EndpointStatus {
                interface: w.interface.to_string(),
                container_id: w.container_id.to_string(),
                addresses: addresses.map(ToString::to_string).collect(),
                state,
            };
            set.push((id, status));
        }
        let gone = std::mem::take(&mut self.gone);
        self.applied.dirty = false;
        self.status.set_hosts(self.hosts());
        let in_force = self.policy_error.is_none().then_some(&self.applied);
        self.status.applied(set.clone(), &gone, in_force);
        if self.errors.is_empty() {
            // Nobody who asks whether all is in force waits for files that only say so.
            self.report_in_sync();
        }
        set.iter().for_each(|(id, status)| self.files.set(id, status));
        gone.iter().for_each(|id| self.files.remove(id));
        self.files.sweep();
    }

    fn report_in_sync(&self) {
        match self.network.lacking() {
            None => self.health.report(true, "in sync"),
            Some(what) => self
                .health
                .report(true, format!("in sync as far as possible: {what}")),
        }
    }

    /// Reports errors and plans the next try.
    pub(super) fn conclude(&mut self) {
        let errors = std::mem::take(&mut self.errors);
        metrics::counter!("felix_int_dataplane_failures").increment(errors.len() as u64);
        if errors.is_empty() {
            self.retry = None;
            self.report_in_sync();
        } else {
            self.plan_retry(&errors);
        }
        if self.nft_started && !std::mem::replace(&mut self.concluded, true) {
            let (stages, all) = self.status.stages.tell();
            tracing::info!(stages, milliseconds = all.as_millis() as u64, "started");
            self.on_first_apply();
        }
    }

    fn plan_retry(&mut self, errors: &[String]) {
        for e in errors {
            tracing::warn!("{e}; trying again");
        }
        let pause = self.retry.map_or(RETRY.0, |(_, p)| (p * 2).min(RETRY.1));
        self.retry = Some((Instant::now() + pause, pause));
        self.health.report(
            self.nft_started,
            format!("{} failures, the first: {}", errors.len(), errors[0]),
        );
    }

    /// Shows a table to whoever asked.
    pub(super) fn show(&mut self, order: DumpOrder) {
        let text = match order.table {
            Table::Ruleset => Family::BOTH
                .iter()
                .map(|f| {
                    caracal_rules::ir::render(
                        *f,
                        self.nft.table(*f).unwrap_or("caracal"),
                        self.nft.desired(*f),
                    )
                })
                .collect::<Vec<_>>()
                .join("\n"),
            Table::Desired => {
                let workloads: Vec<&WorkloadEndpoint> =
                    self.network.workloads().values().map(AsRef::as_ref).collect();
                serde_json::json!({ "workloads": workloads, "network": self.network.to_json() }).to_string()
            }
            Table::Config => return,
        };
        // Who asked may have gone.
        let _ = order.reply.send(text);
    }
}
