//! The names of pods and hosts behind addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caracal_analysis::endpoint_name;
use caracal_api::{Kind, Resource};
use caracal_store::{ListOptions, Store};

use crate::world::addresses_of;

/// An address that nobody has may have got somebody since; but the datastore is not asked more often than this.
const REFRESH: Duration = Duration::from_secs(5);

/// Names by address, and the names of pods by the names of their objects.
pub(super) struct Names {
    store: Option<Arc<dyn Store>>,
    read: Option<Instant>,
    by_address: HashMap<IpAddr, String>,
    by_object: HashMap<(String, String), String>,
    /// Why there are none, once that has been found out and not been told.
    pub(super) trouble: Option<String>,
}

impl Names {
    pub(super) fn new(store: Option<Arc<dyn Store>>) -> Self {
        Self {
            store,
            read: None,
            by_address: HashMap::new(),
            by_object: HashMap::new(),
            trouble: None,
        }
    }

    /// Reads the names again if one of the addresses has none.
    pub(super) async fn prepare(&mut self, addresses: &[Option<IpAddr>]) {
        let known = |a: &IpAddr| self.by_address.contains_key(a);
        let all_known = addresses.iter().flatten().all(known);
        let fresh = self.read.is_some_and(|t| t.elapsed() < REFRESH);
        if self.store.is_none() || fresh || (all_known && self.read.is_some()) {
            return;
        }
        self.read = Some(Instant::now());
        for kind in [Kind::WorkloadEndpoint, Kind::HostEndpoint] {
            let Some(store) = self.store.clone() else { return };
            match store.list_all(kind, &ListOptions::default()).await {
                Ok(page) => page.items.iter().for_each(|o| self.learn(o)),
                Err(e) => {
                    self.trouble = Some(format!(
                        "pods have no names, for the datastore cannot be read: {e}"
                    ));
                    self.store = None;
                    return;
                }
            }
        }
    }

    fn learn(&mut self, object: &Resource) {
        match object {
            Resource::WorkloadEndpoint(w) => {
                let name = endpoint_name(w);
                let namespace = w.metadata.namespace.clone().unwrap_or_default();
                self.by_object
                    .insert((namespace, w.metadata.name.clone()), name.clone());
                for address in addresses_of(w) {
                    self.by_address.insert(address, name.clone());
                }
            }
            Resource::HostEndpoint(h) => {
                for address in h.spec.expected_ips.iter().filter_map(|t| t.parse().ok()) {
                    self.by_address.insert(address, h.metadata.name.clone());
                }
            }
            _ => {}
        }
    }

    pub(super) fn of_address(&self, address: Option<IpAddr>) -> Option<&str> {
        self.by_address.get(&address?).map(String::as_str)
    }

    /// The name of an endpoint that an agent names by its object.
    pub(super) fn of_endpoint(&self, namespace: &str, name: &str) -> String {
        let key = (namespace.to_owned(), name.to_owned());
        match self.by_object.get(&key) {
            Some(known) => known.clone(),
            None if namespace.is_empty() => name.to_owned(),
            None => format!("{namespace}/{name}"),
        }
    }
}
