//! Host endpoints, and which interfaces they are (`calico-components.md` §3.9).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use caracal_desired::HostEndpoint;

use crate::ir::IfName;

/// The interface of an endpoint for all that have none of their own.
const EVERYWHERE: &str = "*";

/// An interface, or all that have no endpoint of their own.
type Interface = Option<IfName>;

/// The host's endpoints and interfaces.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    endpoints: BTreeMap<Arc<str>, Arc<HostEndpoint>>,
    interfaces: BTreeMap<IfName, BTreeSet<IpAddr>>,
    /// As of the last [`settle`](Self::settle).
    bound: BTreeMap<Interface, Arc<HostEndpoint>>,
    stale: bool,
}

impl Hosts {
    pub(crate) fn put(&mut self, endpoint: Arc<HostEndpoint>) {
        self.stale = true;
        self.endpoints.insert(Arc::clone(&endpoint.name), endpoint);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.stale |= self.endpoints.remove(name).is_some();
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<HostEndpoint>> {
        self.endpoints.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<HostEndpoint>> {
        self.endpoints.values()
    }

    pub(crate) fn set_interface(&mut self, name: IfName, addresses: Option<BTreeSet<IpAddr>>) {
        let now = addresses.clone();
        let before = match addresses {
            Some(addresses) => self.interfaces.insert(name, addresses),
            None => self.interfaces.remove(&name),
        };
        // Interfaces come and go with pods; those matter only to endpoints that are found by address.
        let by_address = |h: &Arc<HostEndpoint>| h.interface.is_empty();
        self.stale |= before != now && self.endpoints.values().any(by_address);
    }

    /// What names of interfaces mean changed.
    pub(crate) fn touch(&mut self) {
        self.stale = true;
    }

    /// Which endpoint each interface is, as of the last [`settle`](Self::settle).
    pub(crate) fn bound(&self) -> &BTreeMap<Interface, Arc<HostEndpoint>> {
        &self.bound
    }

    /// Finds the interfaces anew, if anything happened to them, and says which have no endpoint any more.
    pub(crate) fn settle(&mut self, workload_prefixes: &[Arc<str>]) -> Option<Vec<Interface>> {
        if !std::mem::take(&mut self.stale) {
            return None;
        }
        let now = self.resolve(workload_prefixes);
        if now == self.bound {
            return None;
        }
        let gone = self.bound.keys().filter(|i| !now.contains_key(*i)).copied();
        let gone = gone.collect();
        self.bound = now;
        Some(gone)
    }

    /// By the interface's name only where the endpoint has one, else by any of its addresses; of several endpoints the
    /// first by name, however it was found.
    fn resolve(&self, workload_prefixes: &[Arc<str>]) -> BTreeMap<Interface, Arc<HostEndpoint>> {
        let is_workload = |i: &IfName| {
            let mut prefixes = workload_prefixes.iter().filter(|p| !p.is_empty());
            prefixes.any(|p| i.text().starts_with(&**p))
        };
        let mut bound = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            let found: Vec<Interface> = match &*endpoint.interface {
                EVERYWHERE => vec![None],
                "" => {
                    let has = |a: &BTreeSet<IpAddr>| endpoint.expected_ips.iter().any(|ip| a.contains(ip));
                    let interfaces = self.interfaces.iter().filter(|(_, a)| has(a));
                    interfaces.map(|(name, _)| Some(*name)).collect()
                }
                name => IfName::exact(name).ok().map(Some).into_iter().collect(),
            };
            for interface in found.into_iter().filter(|i| !i.as_ref().is_some_and(is_workload)) {
                bound.entry(interface).or_insert_with(|| Arc::clone(endpoint));
            }
        }
        bound
    }
}
