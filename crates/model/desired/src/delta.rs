use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use caracal_api::ResourceKey;
use caracal_ids::{IpSetId, NodeName, PolicyId, ProfileName, WorkloadId};
use caracal_net::Cidr;
use serde::{Deserialize, Serialize};

use crate::{
    Host, HostEndpoint, IpSet, IpSetKind, IpSetMember, Policy, Pool, Profile, RouteInfo, Vtep,
    WorkloadEndpoint,
};

/// An object that cannot be used: it is left out, named, and disturbs nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalid {
    /// The object.
    pub key: ResourceKey,
    /// The field, what is wrong and what is allowed.
    pub reason: String,
}

/// One change of [`Desired`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Delta {
    /// A new set with all its members, or a set of another kind in place of the one with this id.
    IpSet(IpSetId, IpSet),
    /// Members of a known set changed. The two lists share no member; added ones were absent, removed ones present.
    IpSetMembers {
        /// The set.
        id: IpSetId,
        /// Members that join.
        added: Vec<IpSetMember>,
        /// Members that leave.
        removed: Vec<IpSetMember>,
    },
    /// The set is not needed any more.
    IpSetGone(IpSetId),
    /// A policy is new or changed.
    Policy(Arc<Policy>),
    /// The policy is not needed any more.
    PolicyGone(PolicyId),
    /// A profile is new or changed.
    Profile(Arc<Profile>),
    /// The profile is not needed any more.
    ProfileGone(ProfileName),
    /// A workload endpoint of this node is new or changed.
    Workload(Arc<WorkloadEndpoint>),
    /// The endpoint is gone.
    WorkloadGone(WorkloadId),
    /// A host endpoint of this node is new or changed.
    HostEndpoint(Arc<HostEndpoint>),
    /// The host endpoint is gone.
    HostEndpointGone(Arc<str>),
    /// A route is new or changed.
    Route(RouteInfo),
    /// The route is gone.
    RouteGone(Cidr),
    /// A VTEP is new or changed (this node's own included).
    Vtep(Vtep),
    /// The VTEP is gone.
    VtepGone(NodeName),
    /// A node is new or changed (this node included).
    Host(Host),
    /// The node is gone.
    HostGone(NodeName),
    /// A pool is new or changed.
    Pool(Pool),
    /// The pool is gone.
    PoolGone(Cidr),
    /// The ranges that services of the cluster have their addresses of, all of them.
    ServiceCidrs(BTreeSet<Cidr>),
    /// An object cannot be used.
    Invalid(Invalid),
    /// The object is usable again, or gone.
    Valid(ResourceKey),
}

/// What the node should have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// IP sets by id.
    pub ip_sets: BTreeMap<IpSetId, IpSet>,
    /// Policies that local endpoints need.
    pub policies: BTreeMap<PolicyId, Arc<Policy>>,
    /// Profiles that local endpoints name.
    pub profiles: BTreeMap<ProfileName, Arc<Profile>>,
    /// Workload endpoints of this node.
    pub workloads: BTreeMap<WorkloadId, Arc<WorkloadEndpoint>>,
    /// Host endpoints of this node.
    pub host_endpoints: BTreeMap<Arc<str>, Arc<HostEndpoint>>,
    /// Routes by destination.
    pub routes: BTreeMap<Cidr, RouteInfo>,
    /// VTEPs by node.
    pub vteps: BTreeMap<NodeName, Vtep>,
    /// Nodes.
    pub hosts: BTreeMap<NodeName, Host>,
    /// Pools by range.
    pub pools: BTreeMap<Cidr, Pool>,
    /// Ranges of services' addresses.
    pub service_cidrs: BTreeSet<Cidr>,
    /// Objects that cannot be used, with the reason.
    pub invalid: BTreeMap<ResourceKey, String>,
}

impl Desired {
    /// Folds one delta in.
    pub fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::IpSet(id, set) => {
                self.ip_sets.insert(id, set);
            }
            Delta::IpSetMembers { id, added, removed } => {
                let set = self.ip_sets.entry(id).or_insert_with(|| IpSet {
                    kind: IpSetKind::Net,
                    members: BTreeSet::new(),
                    about: std::sync::Arc::default(),
                });
                for m in &removed {
                    set.members.remove(m);
                }
                set.members.extend(added);
            }
            Delta::IpSetGone(id) => {
                self.ip_sets.remove(&id);
            }
            Delta::Policy(p) => {
                self.policies.insert(p.id.clone(), p);
            }
            Delta::PolicyGone(id) => {
                self.policies.remove(&id);
            }
            Delta::Profile(p) => {
                self.profiles.insert(p.name.clone(), p);
            }
            Delta::ProfileGone(name) => {
                self.profiles.remove(&name);
            }
            Delta::Workload(w) => {
                self.workloads.insert(w.id.clone(), w);
            }
            Delta::WorkloadGone(id) => {
                self.workloads.remove(&id);
            }
            Delta::HostEndpoint(h) => {
                self.host_endpoints.insert(h.name.clone(), h);
            }
            Delta::HostEndpointGone(name) => {
                self.host_endpoints.remove(&name);
            }
            other => self.apply_net(other),
        }
    }

    fn apply_net(&mut self, delta: Delta) {
        match delta {
            Delta::Route(r) => {
                self.routes.insert(r.dst, r);
            }
            Delta::RouteGone(dst) => {
                self.routes.remove(&dst);
            }
            Delta::Vtep(v) => {
                self.vteps.insert(v.node.clone(), v);
            }
            Delta::VtepGone(node) => {
                self.vteps.remove(&node);
            }
            Delta::Host(h) => {
                self.hosts.insert(h.node.clone(), h);
            }
            Delta::HostGone(node) => {
                self.hosts.remove(&node);
            }
            Delta::Pool(p) => {
                self.pools.insert(p.cidr, p);
            }
            Delta::PoolGone(cidr) => {
                self.pools.remove(&cidr);
            }
            Delta::ServiceCidrs(cidrs) => self.service_cidrs = cidrs,
            Delta::Invalid(i) => {
                self.invalid.insert(i.key, i.reason);
            }
            Delta::Valid(key) => {
                self.invalid.remove(&key);
            }
            // The policy side is folded in by `apply`.
            _ => {}
        }
    }

    /// Folds many deltas in.
    pub fn apply_all(&mut self, deltas: impl IntoIterator<Item = Delta>) {
        deltas.into_iter().for_each(|d| self.apply(d));
    }
}
