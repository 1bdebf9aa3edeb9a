use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_api::{EncapMode, Kind, Resource, ResourceKey};
use caracal_desired::{Delta, EncapType, Invalid, Pool, RouteFlags, RouteInfo};
use caracal_ids::NodeName;
use caracal_net::Cidr;
use caracal_update::Update;

use crate::{
    claim::{Claim, ClaimKind},
    parse::{self, Claimed, NodeFacts},
};

/// Where the places of workloads are learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteSource {
    /// From IPAM blocks (`RouteSource=CalicoIPAM`).
    #[default]
    CalicoIpam,
    /// From workload endpoints (`RouteSource=WorkloadIPs`).
    WorkloadIps,
}

/// The engine. See the crate's page.
#[derive(Debug)]
pub struct Engine {
    node: NodeName,
    source: RouteSource,
    pools: BTreeMap<ResourceKey, Pool>,
    nodes: BTreeMap<NodeName, NodeFacts>,
    claims: BTreeMap<Cidr, Vec<Claim>>,
    claimed_by: BTreeMap<ResourceKey, Vec<Cidr>>,
    on_node: BTreeMap<NodeName, BTreeSet<Cidr>>,
    dirty: BTreeSet<Cidr>,
    emitted: BTreeMap<Cidr, RouteInfo>,
    invalid: BTreeMap<ResourceKey, String>,
    out: Vec<Delta>,
}

impl Engine {
    /// An engine for the node named `node`.
    #[must_use]
    pub fn new(node: NodeName, source: RouteSource) -> Self {
        Self {
            node,
            source,
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            claimed_by: BTreeMap::new(),
            on_node: BTreeMap::new(),
            dirty: BTreeSet::new(),
            emitted: BTreeMap::new(),
            invalid: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Takes one update. Kinds that say nothing about routes are ignored.
    pub fn apply(&mut self, update: &Update) {
        let key = &update.key;
        let outcome = match (key.kind, update.value.as_deref()) {
            (Kind::Node, Some(Resource::Node(o))) => parse::node(o).map(|(facts, fault)| {
                self.set_node(key, facts);
                fault
            }),
            (Kind::IpPool, Some(Resource::IpPool(o))) => parse::pool(o).map(|(pool, fault)| {
                self.set_pool(key, Some(pool));
                fault
            }),
            (Kind::IpamBlock, Some(Resource::IpamBlock(o))) if self.source == RouteSource::CalicoIpam => {
                parse::block(o).map(|c| self.set_claimed(key, c))
            }
            (Kind::WorkloadEndpoint, Some(Resource::WorkloadEndpoint(o)))
                if self.source == RouteSource::WorkloadIps =>
            {
                parse::workload(o).map(|c| self.set_claimed(key, c))
            }
            (Kind::Node | Kind::IpPool | Kind::IpamBlock, None) => {
                self.remove(key);
                Ok(None)
            }
            (Kind::WorkloadEndpoint, None) if self.source == RouteSource::WorkloadIps => {
                self.remove(key);
                Ok(None)
            }
            _ => return,
        };
        let fault = outcome.unwrap_or_else(|reason| {
            // An object of which nothing can be read counts as absent; the others are not affected.
            self.remove(key);
            Some(reason)
        });
        self.judge(key, fault);
    }

    /// Tells what is wrong with an object, or that nothing is any more.
    fn judge(&mut self, key: &ResourceKey, fault: Option<String>) {
        match fault {
            None if self.invalid.remove(key).is_some() => self.out.push(Delta::Valid(key.clone())),
            Some(reason) if self.invalid.get(key) != Some(&reason) => {
                self.invalid.insert(key.clone(), reason.clone());
                self.out.push(Delta::Invalid(Invalid {
                    key: key.clone(),
                    reason,
                }));
            }
            _ => {}
        }
    }

    /// What changed since the last flush, in an order that never routes to a VTEP that is not there yet.
    pub fn flush(&mut self) -> Vec<Delta> {
        let mut gone = Vec::new();
        let mut add = Vec::new();
        for dst in std::mem::take(&mut self.dirty) {
            match (self.compute(dst), self.emitted.get(&dst)) {
                (Some(new), old) if old != Some(&new) => {
                    self.emitted.insert(dst, new.clone());
                    add.push(Delta::Route(new));
                }
                (None, Some(_)) => {
                    self.emitted.remove(&dst);
                    gone.push(Delta::RouteGone(dst));
                }
                _ => {}
            }
        }
        // Routes go first, then VTEPs, hosts and pools, then routes come.
        gone.append(&mut self.out);
        gone.append(&mut add);
        gone
    }

    fn remove(&mut self, key: &ResourceKey) {
        match key.kind {
            Kind::Node => self.remove_node(key),
            Kind::IpPool => self.set_pool(key, None),
            _ => self.set_claims(key, vec![]),
        }
    }

    fn remove_node(&mut self, key: &ResourceKey) {
        let Ok(name) = NodeName::new(&*key.name) else {
            return;
        };
        if let Some(old) = self.nodes.remove(&name) {
            if old.vtep().is_some() {
                self.out.push(Delta::VtepGone(name.clone()));
            }
            self.out.push(Delta::HostGone(name.clone()));
            self.touch_node(&name);
        }
        self.set_claims(key, vec![]);
    }

    fn set_node(&mut self, key: &ResourceKey, facts: NodeFacts) {
        let name = facts.host.node.clone();
        let mut claims = Vec::new();
        for (family, addr) in facts.host.addr.iter() {
            claims.extend(addr.map(|a| (Cidr::host(a.addr), ClaimKind::Host, name.clone())));
            let tunnel = *facts.tunnel.get(family);
            claims.extend(tunnel.map(|a| (Cidr::host(a), ClaimKind::Tunnel, name.clone())));
        }
        let ipip = facts.host.ipip.map(|a| Cidr::host(a.into()));
        claims.extend(ipip.map(|a| (a, ClaimKind::Tunnel, name.clone())));
        let old = self.nodes.insert(name.clone(), facts.clone());
        if old.as_ref() != Some(&facts) {
            if old.as_ref().map(|o| &o.host) != Some(&facts.host) {
                self.out.push(Delta::Host(facts.host.clone()));
                self.touch_node(&name);
            }
            let old_vtep = old.as_ref().and_then(NodeFacts::vtep);
            match facts.vtep() {
                Some(v) if old_vtep.as_ref() != Some(&v) => self.out.push(Delta::Vtep(v)),
                None if old_vtep.is_some() => self.out.push(Delta::VtepGone(name)),
                _ => {}
            }
        }
        self.set_claims(key, claims);
    }

    /// The destinations on a node must be computed again; all of them when it is this node, whose subnet decides.
    fn touch_node(&mut self, name: &NodeName) {
        if *name == self.node {
            self.dirty.extend(self.claims.keys());
        } else if let Some(dsts) = self.on_node.get(name) {
            self.dirty.extend(dsts);
        }
    }

    fn set_pool(&mut self, key: &ResourceKey, pool: Option<Pool>) {
        let old = match &pool {
            Some(p) => self.pools.insert(key.clone(), p.clone()),
            None => self.pools.remove(key),
        };
        if old == pool {
            return;
        }
        let cidrs: BTreeSet<Cidr> = old.iter().chain(&pool).map(|p| p.cidr).collect();
        for cidr in cidrs {
            // Two objects with one range are possible for a moment; the first by key stands for it.
            match self.pools.values().find(|p| p.cidr == cidr) {
                Some(p) => self.out.push(Delta::Pool(p.clone())),
                None => self.out.push(Delta::PoolGone(cidr)),
            }
            let inside = self
                .claims
                .range(Cidr::new(cidr.addr(), 0).max(Cidr::new(cidr.addr(), cidr.len()))..);
            let inside = inside
                .take_while(|(c, _)| c.addr() <= cidr.last())
                .map(|(c, _)| *c);
            self.dirty.extend(inside);
        }
    }

    /// Takes what can be read of an object; returns what cannot.
    fn set_claimed(&mut self, key: &ResourceKey, read: Claimed) -> Option<String> {
        let fault = read.fault();
        self.set_claims(key, read.claims);
        fault
    }

    fn set_claims(&mut self, key: &ResourceKey, new: Vec<(Cidr, ClaimKind, NodeName)>) {
        for dst in self.claimed_by.remove(key).unwrap_or_default() {
            if let Some(claims) = self.claims.get_mut(&dst) {
                for c in claims.iter().filter(|c| c.from == *key) {
                    if let Some(set) = self.on_node.get_mut(&c.node) {
                        set.remove(&dst);
                        if set.is_empty() {
                            self.on_node.remove(&c.node);
                        }
                    }
                }
                claims.retain(|c| c.from != *key);
                // Another object may hold the same destination on the same node.
                for c in claims.iter() {
                    self.on_node.entry(c.node.clone()).or_default().insert(dst);
                }
                if claims.is_empty() {
                    self.claims.remove(&dst);
                }
            }
            self.dirty.insert(dst);
        }
        for (dst, kind, node) in new {
            self.on_node.entry(node.clone()).or_default().insert(dst);
            let claims = self.claims.entry(dst).or_default();
            claims.push(Claim {
                kind,
                node,
                from: key.clone(),
            });
            claims.sort_by(|a, b| a.rank().cmp(&b.rank()));
            self.claimed_by.entry(key.clone()).or_default().push(dst);
            self.dirty.insert(dst);
        }
    }

    fn compute(&self, dst: Cidr) -> Option<RouteInfo> {
        let claims = self.claims.get(&dst)?;
        let strongest = claims.last()?;
        let local = strongest.node == self.node;
        let mut flags = RouteFlags::default();
        for c in claims.iter().filter(|c| c.node == strongest.node) {
            match (c.kind, local) {
                (ClaimKind::Host, true) => flags.local_host = true,
                (ClaimKind::Host, false) => flags.remote_host = true,
                (ClaimKind::Tunnel, true) => flags.local_tunnel = true,
                (ClaimKind::Tunnel, false) => flags.remote_tunnel = true,
                (_, true) => flags.local_workload = true,
                (_, false) => flags.remote_workload = true,
            }
        }
        let pool = self.pool_of(dst);
        let node_ip = self.node_ip(&strongest.node, dst);
        let same_subnet = self.same_subnet(node_ip);
        let (kind, mode) = match pool {
            None => (EncapType::None, EncapMode::Never),
            Some(p) if p.vxlan != EncapMode::Never => (EncapType::Vxlan, p.vxlan),
            Some(p) if p.ipip != EncapMode::Never => (EncapType::Ipip, p.ipip),
            Some(_) => (EncapType::NoEncap, EncapMode::Never),
        };
        let encap = match mode {
            EncapMode::Never => false,
            EncapMode::Always => true,
            EncapMode::CrossSubnet => !same_subnet,
        };
        Some(RouteInfo {
            dst,
            flags,
            pool: kind,
            nat_outgoing: pool.is_some_and(|p| p.nat_outgoing),
            node: Some(strongest.node.clone()),
            node_ip,
            same_subnet,
            encap: encap && !local,
            borrowed: claims.iter().any(|c| c.kind == ClaimKind::Borrowed),
            local_block: local
                && claims
                    .iter()
                    .any(|c| c.kind == ClaimKind::Block && c.node == self.node),
        })
    }

    /// The most specific pool that covers `dst`; pools are few.
    fn pool_of(&self, dst: Cidr) -> Option<&Pool> {
        self.pools
            .values()
            .filter(|p| p.cidr.covers(&dst))
            .max_by_key(|p| p.cidr.len())
    }

    fn node_ip(&self, node: &NodeName, dst: Cidr) -> Option<IpAddr> {
        self.nodes.get(node)?.host.addr.get(dst.family()).map(|a| a.addr)
    }

    fn same_subnet(&self, addr: Option<IpAddr>) -> bool {
        let own = |a: IpAddr| {
            let me = self.nodes.get(&self.node)?;
            me.host
                .addr
                .get(caracal_net::Family::of(a))
                .map(|own| own.network().contains(a))
        };
        addr.and_then(own).unwrap_or(false)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
