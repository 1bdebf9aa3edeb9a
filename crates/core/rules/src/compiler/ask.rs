//! Questions to a compiler: what is counted, and what an oracle must know to judge one packet.

use std::{net::IpAddr, sync::Arc};

use caracal_desired::{Desired, HostEndpoint, IpSet, Policy, Profile, TierPolicies};
use caracal_ids::ProfileName;

use super::Compiler;
use crate::{atom::sets_of, counting::Counting, ir::IfName, list::SourceId, source::Rules};

impl Compiler {
    /// What is counted now: cheap to take, so that whoever wants to know can find out in their own time.
    #[must_use]
    pub fn counting(&self) -> Counting {
        let mut counting = Counting::default();
        for (_, table) in self.tables.iter() {
            for list in table.lists() {
                for source in &list.sources {
                    if !counting.rules.contains_key(source) {
                        let rules = self.sources.get(source).cloned();
                        counting.rules.insert(source.clone(), rules);
                    }
                }
                counting.lists.push(Arc::clone(list));
            }
        }
        counting.ip_sets = self.ip_sets.ids().cloned().collect();
        counting
    }

    /// The host endpoint of this name.
    #[must_use]
    pub fn host_endpoint(&self, name: &str) -> Option<&Arc<HostEndpoint>> {
        self.host_endpoints.get(name)
    }

    /// All host endpoints, each with the interfaces that it is as of the last flush: none for one that is no interface's,
    /// `*` for one that is all interfaces without an endpoint of their own.
    pub fn host_endpoints(&self) -> impl Iterator<Item = (&Arc<HostEndpoint>, Vec<&str>)> {
        let bound = self.host_endpoints.bound();
        self.host_endpoints.all().map(move |endpoint| {
            let own = bound.iter().filter(|(_, of)| of.name == endpoint.name);
            let names = own.map(|(interface, _)| interface.as_ref().map_or("*", IfName::text));
            (endpoint, names.collect())
        })
    }

    /// The host endpoint that an interface is, as of the last flush.
    #[must_use]
    pub fn host_endpoint_at(&self, interface: &str) -> Option<&Arc<HostEndpoint>> {
        let name = IfName::exact(interface).ok()?;
        let bound = self.host_endpoints.bound();
        bound.get(&Some(name)).or_else(|| bound.get(&None))
    }

    /// What an oracle must know to judge packets between these two addresses by these tiers and profiles: their
    /// policies, staged ones too and those that would replace or delete them, and of the IP sets only what holds one of
    /// the addresses.
    #[must_use]
    pub fn ground(&self, tiers: &[TierPolicies], profiles: &[ProfileName], between: [IpAddr; 2]) -> Desired {
        let mut ground = Desired::default();
        let ids = tiers.iter().flat_map(|t| t.ingress.iter().chain(&t.egress));
        for id in ids.flat_map(|id| id.staged().chain([id.clone()])) {
            if let Some(Rules::Policy(p)) = self.sources.get(&SourceId::Policy(id.clone())) {
                ground.policies.insert(id, Arc::clone(p));
            }
        }
        for name in profiles {
            if let Some(Rules::Profile(p)) = self.sources.get(&SourceId::Profile(name.clone())) {
                ground.profiles.insert(name.clone(), Arc::clone(p));
            }
        }
        let of_policy = |p: &Arc<Policy>| [p.ingress.clone(), p.egress.clone()].concat();
        let of_profile = |p: &Arc<Profile>| [p.ingress.clone(), p.egress.clone()].concat();
        let policies = ground.policies.values().flat_map(of_policy);
        let rules: Vec<_> = policies
            .chain(ground.profiles.values().flat_map(of_profile))
            .collect();
        for id in rules.iter().flat_map(sets_of) {
            if let Some(replica) = self.ip_sets.get(id) {
                let set = IpSet {
                    kind: replica.kind(),
                    members: replica.holding(between).collect(),
                    about: replica.about().into(),
                };
                ground.ip_sets.insert(id.clone(), set);
            }
        }
        ground
    }
}
