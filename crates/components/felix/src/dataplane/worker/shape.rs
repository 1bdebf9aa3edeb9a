//! Bandwidth limits of the workloads that changed.

use std::collections::{BTreeMap, BTreeSet};

use super::Worker;
use crate::dataplane::bandwidth;

impl Worker {
    /// Puts the limits of touched workloads in force, and takes back those of interfaces without one.
    pub(super) fn shape(&mut self) {
        for id in &self.touched {
            let Some(w) = self.network.workloads().get(id) else {
                continue;
            };
            let Some(link) = self.interfaces.link(&w.interface) else {
                continue;
            };
            if let Err(e) = self.bandwidth.apply(&mut self.rtnl, link, w.qos.as_ref()) {
                self.errors.push(format!("bandwidth of {}: {e}", w.id));
            }
        }
        if self.gone.is_empty() || self.bandwidth.interfaces().next().is_none() {
            return;
        }
        let workloads = self.network.workloads().values();
        let held: BTreeSet<&str> = workloads.map(|w| &*w.interface).collect();
        let ended: Vec<String> = self
            .bandwidth
            .interfaces()
            .filter(|i| !held.contains(i.as_str()))
            .cloned()
            .collect();
        for interface in ended {
            let link = self.interfaces.link(&interface);
            if let Err(e) = self.bandwidth.forget(&mut self.rtnl, &interface, link) {
                self.errors.push(format!("bandwidth of {interface}: {e}"));
            }
        }
    }

    /// Somebody may have changed limits: they are put in force again.
    pub(super) fn doubt_shapes(&mut self) {
        self.bandwidth.doubt();
        let limited = self.network.workloads().values().filter(|w| w.qos.is_some());
        let ids: Vec<_> = limited.map(|w| w.id.clone()).collect();
        self.touched.extend(ids);
    }

    /// Once: takes back what an agent before this one limited and nobody asks for any more.
    pub(super) fn sweep_shapes(&mut self) {
        let workloads = self.network.workloads().values().filter(|w| w.qos.is_some());
        let held: BTreeMap<&str, (bool, bool)> = workloads
            .map(|w| (&*w.interface, bandwidth::wanted(w.qos.as_ref())))
            .collect();
        let wants = |interface: &str| held.get(interface).copied().unwrap_or_default();
        if let Err(e) = bandwidth::sweep(&mut self.rtnl, wants) {
            tracing::warn!("looking for limits of an agent before this one: {e}");
        }
    }
}
