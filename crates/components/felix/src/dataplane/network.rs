//! Routes and tunnel devices that follow from the desired state.

mod devices;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use caracal_config::FelixConfig;
use caracal_desired::{Delta, Host, Pool, RouteInfo, Vtep, WorkloadEndpoint};
use caracal_ids::{NodeName, WorkloadId};
use caracal_link::{Event, Rtnl, VxlanPeer};
use caracal_net::{Cidr, Family, PerFamily};
use caracal_route::{
    ClusterContext, MAIN_TABLE, Ownership, PROTOCOL_CLUSTER, RouteError, RouteKey, Routes, Target,
    cluster_route, workload_routes,
};
use caracal_update::InSync;

use super::departed::Departed;
pub(super) use devices::remove as remove_devices;
use devices::{Devices, IPIP, Own, VXLAN};

/// Metrics of our routes: the kernel's defaults, so that the plugin's and the agent's routes are the same ones.
const METRIC: PerFamily<u32> = PerFamily { v4: 0, v6: 1024 };

fn addresses(w: &WorkloadEndpoint) -> impl Iterator<Item = IpAddr> + '_ {
    w.addresses.v4.iter().chain(&w.addresses.v6).map(Cidr::addr)
}

/// The network half of the dataplane.
#[derive(Debug)]
pub(crate) struct Network {
    node: NodeName,
    context: ClusterContext,
    device_protocol: u8,
    device_source: PerFamily<Option<IpAddr>>,
    pub(crate) routes: Routes,
    devices: Devices,
    workloads: BTreeMap<WorkloadId, Arc<WorkloadEndpoint>>,
    infos: BTreeMap<Cidr, RouteInfo>,
    on_node: BTreeMap<NodeName, BTreeSet<Cidr>>,
    cluster_keys: BTreeMap<Cidr, RouteKey>,
    vteps: BTreeMap<NodeName, Vtep>,
    hosts: BTreeMap<NodeName, Host>,
    pools: BTreeMap<Cidr, Pool>,
    devices_stale: bool,
    /// Pools ask for IP-in-IP, and its routes are somebody else's.
    foreign_routes: bool,
    /// Destinations whose route the kernel refused at the last apply, with its words.
    failed: BTreeMap<Cidr, String>,
    /// Destinations of which that changed.
    reconsider: BTreeSet<Cidr>,
    /// Addresses that an endpoint of this node had and has no more: their connections are to be forgotten.
    pub(crate) departed: Departed,
}

impl Network {
    pub(crate) fn new(node: NodeName, config: &FelixConfig) -> Self {
        let prefixes: Vec<&str> = config.interface_prefixes.iter().map(String::as_str).collect();
        let ownership = Ownership::calico(
            &prefixes,
            config.device_route_protocol,
            config.remove_external_routes,
        );
        let mut network = Self {
            node,
            context: ClusterContext {
                table: MAIN_TABLE,
                metric: METRIC,
                protocol: PROTOCOL_CLUSTER,
                vxlan: PerFamily::new(|f| (*VXLAN.get(f)).to_owned()),
                ipip: IPIP.to_owned(),
                uplink: PerFamily::default(),
                free_addresses: Target::Blackhole,
                ipip_routes: false,
                unencapsulated: false,
            },
            device_protocol: config.device_route_protocol,
            device_source: PerFamily::default(),
            routes: Routes::new(ownership),
            devices: Devices::new(),
            workloads: BTreeMap::new(),
            infos: BTreeMap::new(),
            on_node: BTreeMap::new(),
            cluster_keys: BTreeMap::new(),
            vteps: BTreeMap::new(),
            hosts: BTreeMap::new(),
            pools: BTreeMap::new(),
            devices_stale: true,
            foreign_routes: false,
            failed: BTreeMap::new(),
            reconsider: BTreeSet::new(),
            departed: Departed::default(),
        };
        network.configure(config);
        network
    }

    /// Takes parameters that may change while the agent runs.
    pub(crate) fn configure(&mut self, config: &FelixConfig) {
        self.devices.configure(config);
        self.devices_stale = true;
        let source = PerFamily {
            v4: config.device_route_source.map(IpAddr::V4),
            v6: config.device_route_source_v6.map(IpAddr::V6),
        };
        if source != self.device_source {
            self.device_source = source;
            let all: Vec<_> = self.workloads.values().cloned().collect();
            for w in all {
                let routes: Vec<_> = self.device_routes(&w).collect();
                routes
                    .into_iter()
                    .for_each(|(key, route)| self.routes.set(key, route));
            }
        }
        let ours = (config.ipip_routes, config.unencapsulated_routes);
        if ours != (self.context.ipip_routes, self.context.unencapsulated) {
            (self.context.ipip_routes, self.context.unencapsulated) = ours;
            self.recompute_all();
        }
    }

    /// The workload endpoints of this node.
    pub(crate) fn workloads(&self) -> &BTreeMap<WorkloadId, Arc<WorkloadEndpoint>> {
        &self.workloads
    }

    /// Folds a delta in; deltas of policy are not its business.
    pub(crate) fn fold(&mut self, delta: &Delta) {
        match delta {
            Delta::Workload(w) => self.set_workload(&w.id, Some(w.clone())),
            Delta::WorkloadGone(id) => self.set_workload(id, None),
            Delta::Route(r) => self.set_info(r.dst, Some(r.clone())),
            Delta::RouteGone(dst) => self.set_info(*dst, None),
            Delta::Vtep(v) => self.set_vtep(&v.node, Some(v.clone())),
            Delta::VtepGone(node) => self.set_vtep(node, None),
            Delta::Host(h) => {
                self.hosts.insert(h.node.clone(), h.clone());
                self.devices_stale |= h.node == self.node;
            }
            Delta::HostGone(node) => {
                self.hosts.remove(node);
                self.devices_stale |= *node == self.node;
            }
            Delta::Pool(p) => {
                self.pools.insert(p.cidr, p.clone());
                self.devices_stale = true;
            }
            Delta::PoolGone(cidr) => {
                self.pools.remove(cidr);
                self.devices_stale = true;
            }
            _ => {}
        }
    }

    fn set_workload(&mut self, id: &WorkloadId, new: Option<Arc<WorkloadEndpoint>>) {
        let old = match &new {
            Some(w) => self.workloads.insert(id.clone(), w.clone()),
            None => self.workloads.remove(id),
        };
        if let Some(old) = &old {
            let same = new.as_ref().filter(|n| n.container_id == old.container_id);
            let kept: Vec<IpAddr> = same.map(|w| addresses(w).collect()).unwrap_or_default();
            for left in addresses(old).filter(|a| !kept.contains(a)) {
                let taken = self.claimant(Cidr::host(left)).is_some();
                self.departed.add(left, taken, Instant::now());
            }
        }
        for address in new.iter().flat_map(|w| addresses(w)) {
            self.departed.taken(address, Instant::now());
        }
        let routes = |w: Option<Arc<WorkloadEndpoint>>| -> BTreeMap<_, _> {
            w.map(|w| self.device_routes(&w).collect()).unwrap_or_default()
        };
        let (old, new) = (routes(old), routes(new));
        for key in old.keys().filter(|k| !new.contains_key(*k)) {
            // Two endpoints can share an address for a moment: the other one's route stays.
            match self.claimant(key.dst) {
                Some((key, route)) => self.routes.set(key, route),
                None => self.routes.remove(key),
            }
        }
        for (key, route) in new {
            self.routes.set(key, route);
        }
    }

    /// The route of another endpoint that has this address.
    fn claimant(&self, dst: Cidr) -> Option<(RouteKey, caracal_route::Route)> {
        let has = |w: &&Arc<WorkloadEndpoint>| w.addresses.get(dst.family()).contains(&dst);
        let other = self.workloads.values().find(has)?;
        self.device_routes(other).find(|(k, _)| k.dst == dst)
    }

    fn device_routes<'a>(
        &'a self,
        w: &'a WorkloadEndpoint,
    ) -> impl Iterator<Item = (RouteKey, caracal_route::Route)> + 'a {
        workload_routes(w, MAIN_TABLE, METRIC, self.device_protocol).map(|(key, mut route)| {
            route.source = *self.device_source.get(key.dst.family());
            (key, route)
        })
    }

    /// Notes addresses that left while no agent was there.
    pub(crate) fn depart(&mut self, addresses: BTreeSet<IpAddr>) {
        for address in addresses {
            self.departed.add(address, true, Instant::now());
        }
    }

    /// Whether an address is a workload's of this node by its block, but of no workload that there is.
    pub(crate) fn is_stale(&self) -> impl Fn(IpAddr) -> bool + use<> {
        let blocks: Vec<Cidr> = self
            .infos
            .values()
            .filter(|i| i.local_block)
            .map(|i| i.dst)
            .collect();
        let alive: BTreeSet<IpAddr> = self
            .workloads
            .values()
            .flat_map(|w| addresses(w).collect::<Vec<_>>())
            .chain(
                self.infos
                    .values()
                    .filter(|i| i.flags.local_host || i.flags.local_tunnel || i.borrowed)
                    .map(|i| i.dst.addr()),
            )
            .collect();
        move |a| blocks.iter().any(|b| b.contains(a)) && !alive.contains(&a)
    }

    fn set_info(&mut self, dst: Cidr, info: Option<RouteInfo>) {
        let old = match &info {
            Some(i) => self.infos.insert(dst, i.clone()),
            None => self.infos.remove(&dst),
        };
        if let Some(node) = old.and_then(|o| o.node)
            && let Some(set) = self.on_node.get_mut(&node)
        {
            set.remove(&dst);
        }
        if let Some(node) = info.and_then(|i| i.node) {
            self.on_node.entry(node).or_default().insert(dst);
        }
        self.recompute(dst);
    }

    fn recompute(&mut self, dst: Cidr) {
        let made = self.infos.get(&dst).and_then(|info| {
            let vtep = info.node.as_ref().and_then(|n| self.vteps.get(n));
            cluster_route(info, vtep, &self.context)
        });
        match made {
            Some((key, route)) => {
                if let Some(old) = self.cluster_keys.insert(dst, key).filter(|old| *old != key) {
                    self.routes.remove(&old);
                }
                self.routes.set(key, route);
            }
            None => {
                if let Some(key) = self.cluster_keys.remove(&dst) {
                    self.routes.remove(&key);
                }
            }
        }
    }

    fn recompute_all(&mut self) {
        let all: Vec<Cidr> = self.infos.keys().copied().collect();
        all.into_iter().for_each(|dst| self.recompute(dst));
    }

    fn set_vtep(&mut self, node: &NodeName, vtep: Option<Vtep>) {
        if *node == self.node {
            self.devices_stale = true;
        } else {
            for family in Family::BOTH {
                let peer = vtep.as_ref().and_then(|v| {
                    let mac = (*v.mac.get(family))?;
                    let tunnel = (*v.tunnel_addr.get(family))?;
                    let underlay = (*v.underlay.get(family))?;
                    Some(VxlanPeer {
                        mac,
                        tunnel,
                        underlay,
                    })
                });
                match peer {
                    Some(p) => self.devices.vxlan.get_mut(family).set_peer(node.as_str(), p),
                    None => self.devices.vxlan.get_mut(family).remove_peer(node.as_str()),
                }
            }
        }
        match vtep {
            Some(v) => self.vteps.insert(node.clone(), v),
            None => self.vteps.remove(node),
        };
        let dsts: Vec<Cidr> = self.on_node.get(node).into_iter().flatten().copied().collect();
        dsts.into_iter().for_each(|dst| self.recompute(dst));
    }

    /// Addresses or links changed: look for the uplink again.
    pub(crate) fn uplink_may_have_changed(&mut self) {
        self.devices_stale = true;
    }

    /// Follows the kernel.
    pub(crate) fn on_event(&mut self, event: &Event) {
        self.routes.on_event(event);
        self.devices.on_event(event);
    }

    /// What is asked for and this kernel does not know.
    pub(crate) fn lacking(&self) -> Option<&str> {
        self.devices.lacking()
    }

    /// The MTU that pods should use.
    pub(crate) fn pod_mtu(&self) -> u32 {
        self.devices.pod_mtu()
    }

    /// Finds the uplinks and says what the tunnel devices should be. Cheap when nothing changed.
    fn refresh_devices(&mut self, rtnl: &mut Rtnl) -> Result<(), caracal_link::LinkError> {
        if !self.devices_stale {
            return Ok(());
        }
        let host = self.hosts.get(&self.node);
        let own = Own {
            addr: PerFamily::new(|f| host.and_then(|h| *h.addr.get(f)).map(|a| a.addr)),
            ipip: host.and_then(|h| h.ipip),
            vtep: self.vteps.get(&self.node),
        };
        let uplinks = self.devices.refresh(rtnl, &own, self.pools.values())?;
        let foreign = self.devices.uses_ipip() && !self.context.ipip_routes;
        if foreign && !std::mem::replace(&mut self.foreign_routes, foreign) {
            tracing::warn!(
                "pools use IP-in-IP, and ProgramClusterRoutes leaves their routes to a BGP daemon: without one no other \
                 node's pods are reached"
            );
        }
        self.foreign_routes = foreign;
        self.devices_stale = false;
        if uplinks != self.context.uplink {
            self.context.uplink = uplinks;
            self.recompute_all();
        }
        Ok(())
    }

    /// Makes the kernel's devices and routes what is desired. What failed is told and tried again later.
    pub(crate) fn apply(&mut self, rtnl: &mut Rtnl, token: &InSync) -> Vec<String> {
        let mut errors = Vec::new();
        if let Err(e) = self.refresh_devices(rtnl) {
            errors.push(e.to_string());
        }
        errors.extend(self.devices.apply(rtnl, token));
        if self.routes.is_pending() {
            let report = self.routes.apply(rtnl, token);
            let before = std::mem::take(&mut self.failed);
            for e in &report.errors {
                if let RouteError::Write { key, .. } = e {
                    self.failed.insert(key.dst, e.to_string());
                }
                errors.push(e.to_string());
            }
            let differ = |dst: &&Cidr| before.get(*dst) != self.failed.get(*dst);
            let changed = before.keys().chain(self.failed.keys()).filter(differ);
            self.reconsider.extend(changed.copied());
            metrics::gauge!("felix_route_table_num_routes").set(self.routes.wanted().len() as f64);
        }
        errors
    }

    /// Endpoints of which a route was refused, or is no more, since the last call.
    pub(crate) fn take_reconsidered(&mut self) -> Vec<WorkloadId> {
        let changed = std::mem::take(&mut self.reconsider);
        if changed.is_empty() {
            return Vec::new();
        }
        let hit = |w: &WorkloadEndpoint| {
            let mut all = w.addresses.v4.iter().chain(&w.addresses.v6);
            all.any(|a| changed.contains(a))
        };
        let workloads = self.workloads.values();
        workloads.filter(|w| hit(w)).map(|w| w.id.clone()).collect()
    }

    /// Why the kernel refused a route to one of the endpoint's addresses, if it did.
    pub(crate) fn refused(&self, w: &WorkloadEndpoint) -> Option<&String> {
        w.addresses
            .v4
            .iter()
            .chain(&w.addresses.v6)
            .find_map(|a| self.failed.get(a))
    }

    /// Whether an apply has anything to do.
    pub(crate) fn is_pending(&self) -> bool {
        self.devices_stale || self.routes.is_pending() || self.devices.is_pending()
    }

    /// What is desired, for people.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let routes: Vec<String> = self
            .routes
            .wanted()
            .iter()
            .map(|(k, r)| format!("{} {r}", k.dst))
            .collect();
        let waiting: Vec<String> = self.routes.waiting().map(|(k, _)| k.dst.to_string()).collect();
        serde_json::json!({
            "destinations": self.infos.values().collect::<Vec<_>>(),
            "vteps": self.vteps.values().collect::<Vec<_>>(),
            "hosts": self.hosts.values().collect::<Vec<_>>(),
            "pools": self.pools.values().collect::<Vec<_>>(),
            "routes": routes,
            "routesWaitingForTheirLink": waiting,
        })
    }
}
