//! Endpoints of services (`calico-components.md` §3.8), from slices. Slices may repeat one another's endpoints.

use std::{collections::BTreeMap, sync::Arc};

use caracal_desired::{IpSet, IpSetMember};
use caracal_net::Cidr;
use caracal_update::{EndpointSlice, SliceKey, SliceUpdate};

use super::Cluster;
use crate::{
    sets::{Live, Origin, SetKey},
    store::Map,
};

/// A service's identity: namespace and name.
type Name = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Service {
    slices: BTreeMap<Arc<str>, Arc<EndpointSlice>>,
    /// The sets that follow its endpoints; at most one with ports and one without.
    sets: Vec<u32>,
}

/// All services that have slices or that a set follows.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: Map<Name, Service>,
    /// The service of each slice.
    slices: Map<SliceKey, Arc<str>>,
}

impl Services {
    pub(super) fn leave(&mut self, key: &SetKey, set: u32) {
        let Some(name) = service_of(key) else { return };
        if let Some(service) = self.by_name.get_mut(&name) {
            service.sets.retain(|s| *s != set);
            self.drop_if_idle(&name);
        }
    }

    fn drop_if_idle(&mut self, name: &Name) {
        let idle = |s: &Service| s.slices.is_empty() && s.sets.is_empty();
        if self.by_name.get(name).is_some_and(idle) {
            self.by_name.remove(name);
        }
    }
}

fn service_of(key: &SetKey) -> Option<Name> {
    match key {
        SetKey::Service { namespace, name, .. } => Some((namespace.clone(), name.clone())),
        SetKey::Selected { .. } => None,
    }
}

/// The members that a slice gives a set; each as often as the slice says.
fn members(slice: &EndpointSlice, ports: bool) -> Vec<IpSetMember> {
    let addresses = slice.addresses.iter();
    if !ports {
        return addresses.map(|a| IpSetMember::Net(Cidr::host(*a))).collect();
    }
    let of = |a| {
        slice
            .ports
            .iter()
            .map(move |p| IpSetMember::IpPort(a, p.proto, p.port))
    };
    addresses.flat_map(|a| of(*a)).collect()
}

impl Cluster {
    /// How many slices of services there are.
    pub(crate) fn slices(&self) -> usize {
        self.services.slices.len()
    }

    /// A slice is this, or does not exist.
    pub(crate) fn put_slice(&mut self, update: &SliceUpdate) {
        let SliceUpdate { key, value } = update;
        let value = value.as_ref().filter(|slice| !slice.service.is_empty());
        let before = self.services.slices.get(key).cloned();
        let name_of = |service: &Arc<str>| (key.namespace.clone(), service.clone());
        // A slice can change its service.
        if let Some(old) = before.filter(|old| value.is_none_or(|v| v.service != *old)) {
            self.change_slice(&name_of(&old), &key.name, None);
            self.services.slices.remove(key);
        }
        if let Some(slice) = value {
            self.services.slices.insert(key.clone(), slice.service.clone());
            self.change_slice(&name_of(&slice.service), &key.name, Some(slice.clone()));
        }
    }

    fn change_slice(&mut self, name: &Name, slice: &Arc<str>, now: Option<Arc<EndpointSlice>>) {
        let service = self.services.by_name.entry(name.clone()).or_default();
        let before = match &now {
            Some(now) => service.slices.insert(slice.clone(), now.clone()),
            None => service.slices.remove(slice),
        };
        let sets = service.sets.clone();
        self.services.drop_if_idle(name);
        if before == now {
            return;
        }
        for set in sets {
            let ports = matches!(self.sets.get(set).key, SetKey::Service { ports: true, .. });
            let of = |slice: &Option<Arc<EndpointSlice>>| slice.as_ref().map(|s| members(s, ports));
            let (gone, new) = (of(&before).unwrap_or_default(), of(&now).unwrap_or_default());
            let Some(Live {
                origin: Origin::Service(counts),
                touched,
            }) = self.sets.live_mut(set)
            else {
                continue;
            };
            for member in gone.iter().chain(&new) {
                let there = counts.contains_key(member);
                touched.entry(*member).or_insert(there);
            }
            for member in new {
                *counts.entry(member).or_insert(0) += 1;
            }
            for member in gone {
                if let Some(count) = counts.get_mut(&member) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&member);
                    }
                }
            }
            self.sets.stir(set);
        }
    }

    pub(super) fn service_goes_live(&mut self, key: &SetKey, set: u32) -> IpSet {
        let mut counts: Map<IpSetMember, u32> = Map::default();
        if let Some(name) = service_of(key) {
            let service = self.services.by_name.entry(name).or_default();
            service.sets.push(set);
            let ports = matches!(key, SetKey::Service { ports: true, .. });
            for member in service.slices.values().flat_map(|s| members(s, ports)) {
                *counts.entry(member).or_insert(0) += 1;
            }
        }
        let members = counts.keys().copied().collect();
        *self.sets.live_mut(set) = Some(Live {
            origin: Origin::Service(counts),
            touched: Map::default(),
        });
        IpSet {
            kind: key.kind(),
            members,
            about: key.about(),
        }
    }
}
