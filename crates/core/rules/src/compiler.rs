mod ask;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
    sync::Arc,
};

use caracal_api::{EncapMode, QosControls};
use caracal_desired::{Delta, Host, HostEndpoint, Pool, Vtep, WorkloadEndpoint};
use caracal_ids::{IpSetId, NodeName, WorkloadId};
use caracal_net::{Cidr, Family, PerFamily};

use crate::{
    base::{Facts, HostFacts, IpvsFacts, Limits, base},
    config::RulesConfig,
    hosts::Hosts,
    ip_sets::IpSets,
    ir::{IfName, Span, TableDelta, TableState, merge_spans},
    list::{self, Direction, SourceId, of_host, of_workload},
    slot::Slot,
    source::{Rules, Sources},
    table::{Binding, Table},
};

/// The interface that holds the services' addresses where kube-proxy uses IPVS.
const IPVS: &str = "kube-ipvs0";

/// Turns what a node should have into the content of its tables, change by change.
///
/// Feed it every [`Delta`], then take what changed with [`Compiler::flush`].
#[derive(Debug)]
pub struct Compiler {
    config: RulesConfig,
    sources: Sources,
    ip_sets: IpSets,
    workloads: BTreeMap<WorkloadId, Arc<WorkloadEndpoint>>,
    // who claims an interface; the first one has it
    interfaces: BTreeMap<IfName, BTreeSet<WorkloadId>>,
    // what their holders may send from beside their addresses, where there is something
    more_sources: BTreeMap<IfName, Vec<Cidr>>,
    // limits of their holders, where there are any
    limits: BTreeMap<IfName, Limits>,
    // the DSCP of their holders' packets and what these send from, where there is one
    dscp: BTreeMap<IfName, (u8, PerFamily<Vec<Cidr>>)>,
    host_endpoints: Hosts,
    ipvs_is_here: bool,
    vteps: BTreeMap<NodeName, Vtep>,
    hosts: BTreeMap<NodeName, Host>,
    pools: BTreeMap<Cidr, Pool>,
    service_cidrs: BTreeSet<Cidr>,
    tables: PerFamily<Table>,
    // since the last flush
    dirty_interfaces: BTreeSet<IfName>,
    dirty_sources: BTreeSet<SourceId>,
    dirty_sets: BTreeSet<IpSetId>,
    dirty_base: bool,
}

impl Compiler {
    /// A compiler that knows of nothing yet. Its first flush yields the static part: base chains and closed walls.
    #[must_use]
    pub fn new(config: RulesConfig) -> Self {
        Self {
            config,
            sources: Sources::default(),
            ip_sets: IpSets::default(),
            workloads: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            more_sources: BTreeMap::new(),
            limits: BTreeMap::new(),
            dscp: BTreeMap::new(),
            host_endpoints: Hosts::default(),
            ipvs_is_here: false,
            vteps: BTreeMap::new(),
            hosts: BTreeMap::new(),
            pools: BTreeMap::new(),
            service_cidrs: BTreeSet::new(),
            tables: PerFamily::new(Table::new),
            dirty_interfaces: BTreeSet::new(),
            dirty_sources: BTreeSet::new(),
            dirty_sets: BTreeSet::new(),
            dirty_base: true,
        }
    }

    /// What the compiler was told by the operator.
    #[must_use]
    pub fn config(&self) -> &RulesConfig {
        &self.config
    }

    /// Takes another configuration; the next flush holds what it changes.
    pub fn set_config(&mut self, config: RulesConfig) {
        if self.config == config {
            return;
        }
        let in_lists = |c: &RulesConfig| (c.deny, Arc::clone(&c.log_prefix), c.log_rate, c.allowed_mark);
        if in_lists(&self.config) != in_lists(&config) {
            self.tables.iter_mut().for_each(|(_, t)| t.all_changed());
        }
        if self.config.interface_prefixes != config.interface_prefixes {
            self.host_endpoints.touch();
        }
        self.config = config;
        self.dirty_base = true;
    }

    /// Says which addresses an interface of the host has, or that it is gone: host endpoints without an interface's
    /// name are found by them.
    pub fn set_interface(&mut self, name: &str, addresses: Option<BTreeSet<IpAddr>>) {
        if name == IPVS && self.ipvs_is_here != addresses.is_some() {
            self.ipvs_is_here = addresses.is_some();
            self.dirty_base = true;
        }
        if let Ok(name) = IfName::exact(name) {
            self.host_endpoints.set_interface(name, addresses);
        }
    }

    /// Whether an interface says that kube-proxy uses IPVS, and there are no bits of the mark for it.
    #[must_use]
    pub fn lacks_marks_for_ipvs(&self, interface: &str) -> bool {
        interface == IPVS && self.config.ipvs_mark.is_none()
    }

    /// Takes one change in. What comes of it shows at the next flush.
    pub fn apply(&mut self, delta: &Delta) {
        match delta {
            Delta::IpSet(id, set) => {
                let reshaped = self.ip_sets.put(id, set);
                self.set_changed(id, reshaped);
            }
            Delta::IpSetMembers { id, added, removed } => {
                let reshaped = self.ip_sets.change(id, added, removed);
                self.set_changed(id, reshaped);
            }
            Delta::IpSetGone(id) => {
                let was_there = self.ip_sets.remove(id);
                self.set_changed(id, was_there);
            }
            Delta::Policy(p) => {
                self.source_changed(SourceId::Policy(p.id.clone()), Some(Rules::Policy(Arc::clone(p))));
            }
            Delta::PolicyGone(id) => self.source_changed(SourceId::Policy(id.clone()), None),
            Delta::Profile(p) => {
                self.source_changed(
                    SourceId::Profile(p.name.clone()),
                    Some(Rules::Profile(Arc::clone(p))),
                );
            }
            Delta::ProfileGone(name) => self.source_changed(SourceId::Profile(name.clone()), None),
            Delta::Workload(w) => self.workload_changed(&w.id, Some(w)),
            Delta::WorkloadGone(id) => self.workload_changed(id, None),
            Delta::HostEndpoint(h) => self.host_endpoints.put(Arc::clone(h)),
            Delta::HostEndpointGone(name) => self.host_endpoints.remove(name),
            other => self.apply_net(other),
        }
    }

    /// Takes many changes in.
    pub fn apply_all<'a>(&mut self, deltas: impl IntoIterator<Item = &'a Delta>) {
        deltas.into_iter().for_each(|d| self.apply(d));
    }

    /// What changed since the last flush, per family, in an order in which what is referred to is there already.
    pub fn flush(&mut self) -> PerFamily<Vec<TableDelta>> {
        // The lists of workloads are in a map of the static part too.
        self.dirty_base |= self.ipvs() && !self.dirty_interfaces.is_empty();
        for interface in mem::take(&mut self.dirty_interfaces) {
            self.bind(interface);
        }
        self.bind_hosts();
        let sources = mem::take(&mut self.dirty_sources);
        let sets = mem::take(&mut self.dirty_sets);
        let mut bases = PerFamily::new(|_| None);
        if mem::take(&mut self.dirty_base) {
            bases = PerFamily::new(|f| Some(base(&self.config, f, &self.facts(f))));
        }
        let deltas = PerFamily::new(|family| {
            let table = self.tables.get_mut(family);
            sources.iter().for_each(|s| table.source_changed(s));
            sets.iter().for_each(|s| table.set_changed(s));
            let base = bases.get_mut(family).take();
            table.settle(&mut self.sources, &mut self.ip_sets, &self.config, base)
        });
        self.sources.forget_atoms();
        deltas
    }

    /// Puts things in order that no change waits for. To be called when what [`Compiler::flush`] gave is written.
    pub fn tidy(&mut self) {
        self.sources.tidy();
    }

    /// The whole content of the tables. Flushes first: the state holds everything that was applied, and takes the
    /// place of all deltas until now.
    pub fn full_state(&mut self) -> PerFamily<TableState> {
        self.flush();
        PerFamily::new(|f| self.tables.get(f).state(&self.ip_sets))
    }

    fn apply_net(&mut self, delta: &Delta) {
        match delta {
            Delta::Vtep(v) => {
                self.vteps.insert(v.node.clone(), v.clone());
            }
            Delta::VtepGone(node) => {
                self.vteps.remove(node);
            }
            Delta::Host(h) => {
                self.hosts.insert(h.node.clone(), h.clone());
            }
            Delta::HostGone(node) => {
                self.hosts.remove(node);
            }
            Delta::Pool(p) => {
                self.pools.insert(p.cidr, p.clone());
            }
            Delta::PoolGone(cidr) => {
                self.pools.remove(cidr);
            }
            Delta::ServiceCidrs(cidrs) => self.service_cidrs.clone_from(cidrs),
            // Routes are not the filter's; invalid objects are left out already.
            _ => return,
        }
        self.dirty_base = true;
    }

    fn set_changed(&mut self, id: &IpSetId, rules_too: bool) {
        self.dirty_sets.insert(id.clone());
        if rules_too {
            self.dirty_sources.extend(self.sources.set_changed(id));
        }
    }

    fn source_changed(&mut self, id: SourceId, rules: Option<Rules>) {
        match rules {
            Some(rules) => self.sources.put(&id, rules),
            None => self.sources.remove(&id),
        }
        self.dirty_sources.insert(id);
    }

    fn workload_changed(&mut self, id: &WorkloadId, new: Option<&Arc<WorkloadEndpoint>>) {
        let old = match new {
            Some(w) => self.workloads.insert(id.clone(), Arc::clone(w)),
            None => self.workloads.remove(id),
        };
        for w in old.iter().chain(new) {
            // A name that cannot be an interface's has no packets: the endpoint stays closed.
            if let Ok(interface) = IfName::exact(&w.interface) {
                self.dirty_interfaces.insert(interface);
            }
        }
        if let Some(interface) = old.and_then(|w| IfName::exact(&w.interface).ok())
            && let Some(claims) = self.interfaces.get_mut(&interface)
        {
            claims.remove(id);
            if claims.is_empty() {
                self.interfaces.remove(&interface);
            }
        }
        if let Some(interface) = new.and_then(|w| IfName::exact(&w.interface).ok()) {
            self.interfaces.entry(interface).or_default().insert(id.clone());
        }
    }

    /// The endpoint that has an interface: of several that name it (one is about to go) always the same one.
    fn holder(&self, interface: IfName) -> Option<&Arc<WorkloadEndpoint>> {
        let id = self.interfaces.get(&interface)?.first()?;
        self.workloads.get(id)
    }

    fn bind(&mut self, interface: IfName) {
        let holder = self.holder(interface).cloned();
        let more = holder.as_ref().map(|w| w.allowed_sources.clone());
        self.dirty_base |= match more.filter(|m| !m.is_empty()) {
            Some(more) => self.more_sources.insert(interface, more.clone()) != Some(more),
            None => self.more_sources.remove(&interface).is_some(),
        };
        let qos = holder.as_ref().and_then(|w| w.qos.as_ref());
        self.dirty_base |= match qos.and_then(Limits::of) {
            Some(limits) => self.limits.insert(interface, limits) != Some(limits),
            None => self.limits.remove(&interface).is_some(),
        };
        let dscp = qos.and_then(QosControls::dscp_number);
        let marked = dscp.zip(holder.as_ref().map(|w| w.addresses.clone()));
        self.dirty_base |= match marked {
            Some(marked) => self.dscp.insert(interface, marked.clone()) != Some(marked),
            None => self.dscp.remove(&interface).is_some(),
        };
        for (slot, direction) in [
            (Slot::FromWorkload, Direction::From),
            (Slot::ToWorkload, Direction::To),
        ] {
            let binding = holder.as_ref().map(|w| Binding {
                list: of_workload(w, direction),
                comment: crate::names::shortened(&w.id.to_string(), 120).into(),
            });
            for (family, table) in self.tables.iter_mut() {
                let speaks = |w: &Arc<WorkloadEndpoint>| !w.addresses.get(family).is_empty();
                let binding = binding.clone().filter(|_| holder.as_ref().is_some_and(speaks));
                table.bind((slot, Some(interface)), binding);
            }
        }
    }

    /// Finds the interfaces of host endpoints anew, if anything changed, and gives them their lists.
    fn bind_hosts(&mut self) {
        let Some(gone) = self.host_endpoints.settle(&self.config.interface_prefixes) else {
            return;
        };
        // Nothing can be untracked on all interfaces at once.
        let fits = |slot: Slot, at: Option<IfName>| {
            at.is_some() || !matches!(slot, Slot::UntrackedIn | Slot::UntrackedOut)
        };
        let bound = self.host_endpoints.bound();
        for slot in Slot::HOST {
            let list_of = |at: Option<IfName>, h: &Arc<HostEndpoint>| {
                of_host(h, slot.role()).filter(|_| fits(slot, at))
            };
            let everywhere = bound.get(&None).is_some_and(|h| list_of(None, h).is_some());
            let bindings = bound.iter().map(|(at, h)| {
                // An endpoint of its own keeps the one for all others away, also with what it lacks.
                let none = || everywhere.then(|| list::empty(slot.role()));
                let list = list_of(*at, h).or_else(none);
                let comment = crate::names::shortened(&h.name, 120).into();
                (*at, list.map(|list| Binding { list, comment }))
            });
            for (at, binding) in gone.iter().map(|at| (*at, None)).chain(bindings) {
                for (_, table) in self.tables.iter_mut() {
                    table.bind((slot, at), binding.clone());
                }
            }
        }
        self.dirty_base = true;
    }

    fn host_facts(&self) -> Option<HostFacts> {
        let bound = self.host_endpoints.bound();
        if bound.is_empty() {
            return None;
        }
        let mut facts = HostFacts {
            everywhere: bound.contains_key(&None),
            interfaces: bound.keys().copied().flatten().collect(),
            ..HostFacts::default()
        };
        // Host endpoints are of no family: both tables hold the same.
        facts
            .slots
            .extend(Slot::HOST.into_iter().filter(|s| self.tables.v4.is_bound(*s)));
        Some(facts)
    }

    fn facts(&self, family: Family) -> Facts {
        let pools = || self.pools.values().filter(|p| p.cidr.family() == family);
        let hosts = self.hosts.values().filter_map(|h| *h.addr.get(family));
        let spared = hosts
            .filter(|_| self.config.nat_spares_hosts)
            .map(|a| Span::addr(a.addr));
        let underlay = self.vteps.values().filter_map(|v| *v.underlay.get(family));
        let mut more_sources = Vec::new();
        for (interface, prefixes) in &self.more_sources {
            let ours = prefixes.iter().filter(|c| c.family() == family);
            let spans = merge_spans(ours.map(|c| Span::from(*c)));
            more_sources.extend(spans.into_iter().map(|s| (*interface, s)));
        }
        let mut dscp: BTreeMap<u8, Vec<Span>> = BTreeMap::new();
        for (number, addresses) in self.dscp.values() {
            let sources = addresses.get(family).iter().map(|c| Span::from(*c));
            dscp.entry(*number).or_default().extend(sources);
        }
        dscp.retain(|_, sources| !sources.is_empty());
        let nodes = self.hosts.values().filter_map(|h| *h.addr.get(family));
        let nodes = nodes.map(|a| Span::addr(a.addr));
        // Packets of IPv4 only; a pool of nodes that speak it to one another says so.
        let by_pools = || pools().any(|p| p.ipip != EncapMode::Never);
        let ipip = family == Family::V4 && self.config.ipip.unwrap_or_else(by_pools);
        let tunnels = nodes.clone();
        let near = merge_spans(pools().map(|p| p.cidr.into()).chain(nodes));
        Facts {
            limits: self.limits.clone(),
            near,
            dscp: disjoint(dscp),
            vxlan: self
                .config
                .vxlan
                .get(family)
                .unwrap_or_else(|| pools().any(|p| p.vxlan != EncapMode::Never)),
            vxlan_hosts: merge_hosts(underlay.map(Span::addr)),
            ipip_hosts: ipip.then(|| merge_hosts(tunnels)),
            nat_sources: merge_spans(pools().filter(|p| p.nat_outgoing).map(|p| p.cidr.into())),
            nat_spared: merge_spans(pools().map(|p| p.cidr.into()).chain(spared)),
            more_sources,
            services: merge_spans(
                self.service_cidrs
                    .iter()
                    .filter(|c| c.family() == family)
                    .map(|c| Span::from(*c)),
            ),
            hosts: self.host_facts(),
            ipvs: self.ipvs().then(|| self.ipvs_facts(family)),
        }
    }

    /// Whether kube-proxy uses IPVS here.
    fn ipvs(&self) -> bool {
        self.config.ipvs_mark.is_some() && self.ipvs_is_here
    }

    fn ipvs_facts(&self, family: Family) -> IpvsFacts {
        let table = self.tables.get(family);
        let mut facts = IpvsFacts::default();
        for (interface, list) in table.bound(Slot::FromWorkload) {
            let holder = interface.and_then(|i| self.holder(i));
            let addresses = holder.into_iter().flat_map(|w| w.addresses.get(family));
            for address in addresses.filter(|a| a.is_host()) {
                // Of several that have an address for a moment, the first.
                let span = Span::addr(address.addr());
                facts.workloads.entry(span).or_insert_with(|| list.clone());
            }
        }
        let forward_in = table.bound(Slot::ForwardIn);
        facts.forward_in = forward_in.map(|(i, list)| (i, list.clone())).collect();
        facts
    }
}

/// Each address for one value only, the highest, though two workloads may have it for a moment.
fn disjoint(dscp: BTreeMap<u8, Vec<Span>>) -> BTreeMap<u8, Vec<Span>> {
    let mut taken = Vec::new();
    let mut out = BTreeMap::new();
    for (number, sources) in dscp.into_iter().rev() {
        let overlaps = |a: &Span, b: &Span| match (a.ip_range(), b.ip_range()) {
            (Some(a), Some(b)) => a.first <= b.last && b.first <= a.last,
            _ => false,
        };
        let free = sources.iter().filter(|s| !taken.iter().any(|t| overlaps(s, t)));
        let free = merge_spans(free.copied());
        taken.extend(free.iter().copied());
        out.insert(number, free);
    }
    out
}

/// Single addresses, each once.
fn merge_hosts(addrs: impl Iterator<Item = Span>) -> Vec<Span> {
    addrs.collect::<BTreeSet<_>>().into_iter().collect()
}
