//! Addresses for workloads that have none yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use caracal_api::Resource;
use caracal_net::{Cidr, Family};

use super::State;
use crate::names::endpoint_name;

/// The range of workloads without an address where no pool is known: Calico's own default.
const DEFAULT_POOL: &str = "192.168.0.0/16";

/// Gives each workload without an address one of the first IPv4 pool and, if there is one, of the first IPv6 pool; the
/// same in all states. A workload that has an address in one of the states keeps it in all. Which is a function of the
/// names and addresses alone.
pub fn give_addresses(states: &mut [&mut State]) {
    let mut used = BTreeSet::new();
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut pools: BTreeMap<Family, Cidr> = BTreeMap::new();
    for resource in states.iter().flat_map(|s| s.objects.values()) {
        match &**resource {
            Resource::WorkloadEndpoint(w) => {
                used.extend(
                    w.spec
                        .ip_networks
                        .iter()
                        .filter_map(|t| t.parse::<Cidr>().ok())
                        .map(|c| c.addr()),
                );
                let nets = known.entry(endpoint_name(w)).or_default();
                if nets.is_empty() {
                    nets.clone_from(&w.spec.ip_networks);
                }
            }
            Resource::IpPool(p) => {
                if let Ok(cidr) = p.spec.cidr.parse::<Cidr>() {
                    pools.entry(cidr.family()).or_insert(cidr);
                }
            }
            _ => {}
        }
    }
    if let Ok(cidr) = DEFAULT_POOL.parse() {
        pools.entry(Family::V4).or_insert(cidr);
    }
    // The first addresses of a pool are often somebody's by hand.
    let mut next: BTreeMap<Family, u128> = pools.keys().map(|f| (*f, 1)).collect();
    for nets in known.values_mut().filter(|n| n.is_empty()) {
        for (family, pool) in &pools {
            let at = next.entry(*family).or_insert(1);
            let free = std::iter::from_fn(|| {
                let address: IpAddr = pool.nth(*at)?;
                *at += 1;
                Some(address)
            });
            let free = free.into_iter().find(|a| !used.contains(a));
            nets.extend(free.map(|a| Cidr::host(a).to_string()));
        }
    }
    for state in states {
        for resource in state.objects.values_mut() {
            let Resource::WorkloadEndpoint(w) = &**resource else {
                continue;
            };
            if !w.spec.ip_networks.is_empty() {
                continue;
            }
            if let Some(nets) = known.get(&endpoint_name(w)) {
                let mut w = w.clone();
                w.spec.ip_networks.clone_from(nets);
                *resource = Arc::new(Resource::WorkloadEndpoint(w));
            }
        }
    }
}
