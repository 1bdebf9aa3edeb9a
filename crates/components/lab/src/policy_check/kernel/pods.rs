//! Pods with addresses of their own choice, attached as the CNI plugin would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context, bail};
use caracal_convert::veth_name;
use caracal_link::{AddressSpec, LinkChange, Rtnl, VethSpec};
use caracal_net::{Cidr, Family, MacAddr};
use caracal_route::{Owned, Ownership, PROTOCOL_BOOT, Route, RouteKey, Routes, Target, put_route};
use caracal_sys::{NetNs, Sysctl};
use caracal_update::InSync;

use super::network::{NODES, Network, UPLINK, address};
use crate::policy_check::mapping;
use crate::policy_check::objects::INTERFACE;
use crate::policy_check::table::{Pod, Step};
use crate::prober::{FIRST_PORT, Listen, Prober, Responder};

/// What the host's side of every pod's interface has.
const HOST_MAC: MacAddr = MacAddr([0xee; 6]);

/// What the names of the host's sides begin with.
const PREFIX: &str = "cali";

/// The gateway of every pod: the node answers for it.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The link-local address that follows from [`HOST_MAC`].
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee));

/// Marks our routes between the nodes; a number that nobody in `rt_protos` has.
const PROTOCOL: u8 = 222;

/// A node as pods see it.
struct Node {
    rtnl: Rtnl,
    netns: NetNs,
    /// To the pods of the others.
    routes: Routes,
    gateways: [IpAddr; 2],
}

/// A pod that is attached.
struct Attached {
    addr: IpAddr,
    node: usize,
    interface: String,
    prober: Arc<Prober>,
    responder: Option<Responder>,
    listens: BTreeSet<Listen>,
    /// Goes last.
    netns: NetNs,
}

/// The pods of the present step.
pub(super) struct Pods {
    nodes: Vec<Node>,
    pods: BTreeMap<String, Attached>,
    /// The node of every pod that ever was: it comes back to it.
    places: BTreeMap<String, usize>,
    /// The next source port of every address that ever was: what connection tracking remembers of an earlier pod with
    /// the address must let nothing through.
    next_ports: std::sync::Mutex<BTreeMap<IpAddr, u16>>,
}

impl Pods {
    /// No pods yet.
    pub(super) fn new(network: &Network) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for site in &network.sites {
            let netns = site.open()?;
            nodes.push(Node {
                rtnl: Rtnl::open_in(&netns)?,
                netns,
                routes: Routes::new(Ownership {
                    rules: vec![Owned::Protocol(PROTOCOL)],
                    ..Ownership::default()
                }),
                gateways: Family::BOTH.map(|f| address(site, f).addr),
            });
        }
        Ok(Self {
            nodes,
            pods: BTreeMap::new(),
            places: BTreeMap::new(),
            next_ports: std::sync::Mutex::default(),
        })
    }

    /// The name of the node that a pod is on.
    pub(super) fn node_of(&self, pod: &Pod) -> &'static str {
        NODES[self.places.get(&pod.id()).copied().unwrap_or_default()]
    }

    /// The prober of a pod, and the pod's address.
    pub(super) fn prober(&self, pod: &Pod) -> Option<(Arc<Prober>, IpAddr)> {
        self.pods.get(&pod.id()).map(|p| (p.prober.clone(), p.addr))
    }

    /// Notes which source port comes next.
    pub(super) fn note_port(&self, addr: IpAddr, next: u16) {
        // Plain data: a panic elsewhere leaves nothing half done.
        let mut ports = self
            .next_ports
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        ports.insert(addr, next);
    }

    /// How many pods there are.
    pub(super) fn count(&self) -> usize {
        self.pods.len()
    }

    /// Attaches and detaches until the pods are those of the step, and offer its ports.
    pub(super) fn become_those_of(&mut self, step: &Step, family: Family) -> anyhow::Result<()> {
        let wanted: BTreeMap<String, (&Pod, IpAddr)> = step
            .pods
            .iter()
            .map(|p| (p.id(), (p, mapping::address(p.addr, family))))
            .collect();
        let gone: Vec<String> = self
            .pods
            .iter()
            .filter(|(id, have)| wanted.get(*id).is_none_or(|(_, addr)| *addr != have.addr))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.detach(id).with_context(|| format!("removing pod {id}"))?;
        }
        for (id, (pod, addr)) in wanted {
            if !self.pods.contains_key(&id) {
                self.attach(&id, pod, addr)
                    .with_context(|| format!("making pod {id}"))?;
            }
        }
        self.route(family)?;
        let listens: BTreeSet<Listen> = step
            .ports()
            .into_iter()
            .map(|(_, port, protocol)| Listen { protocol, port })
            .collect();
        for (id, pod) in &mut self.pods {
            pod.listen(&listens).with_context(|| format!("pod {id}"))?;
        }
        Ok(())
    }

    fn attach(&mut self, id: &str, pod: &Pod, addr: IpAddr) -> anyhow::Result<()> {
        if let Some(node) = self.nodes.iter().find(|n| n.gateways.contains(&addr)) {
            bail!("its address {addr} is that of node {}", node.netns.name());
        }
        let next = self.places.len() % self.nodes.len();
        let place = *self.places.entry(id.to_owned()).or_insert(next);
        let interface = veth_name(PREFIX, &pod.namespace, &pod.name);
        let netns = NetNs::anonymous()?;
        netns.run(prepare)??;
        let node = &mut self.nodes[place];
        node.rtnl.create_veth(&VethSpec {
            name: &interface,
            mac: Some(HOST_MAC),
            peer_name: INTERFACE,
            peer_netns: Some(&netns),
            ..VethSpec::default()
        })?;
        node.rtnl.set_link(interface.as_str(), &LinkChange::up())?;
        configure(&netns, addr)?;
        let ports = self.next_ports.get_mut();
        let first = ports
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&addr)
            .copied()
            .unwrap_or(FIRST_PORT);
        let attached = Attached {
            addr,
            node: place,
            interface,
            prober: Arc::new(Prober::start(again(&netns)?, first)?),
            responder: None,
            listens: BTreeSet::new(),
            netns,
        };
        self.pods.insert(id.to_owned(), attached);
        Ok(())
    }

    fn detach(&mut self, id: &str) -> anyhow::Result<()> {
        if let Some(pod) = self.pods.remove(id) {
            let node = &mut self.nodes[pod.node];
            node.rtnl.delete_link(pod.interface.as_str())?;
        }
        Ok(())
    }

    /// Routes between the nodes: a table's addresses are in no block of any node.
    fn route(&mut self, family: Family) -> anyhow::Result<()> {
        let gateways: Vec<[IpAddr; 2]> = self.nodes.iter().map(|n| n.gateways).collect();
        for (place, node) in self.nodes.iter_mut().enumerate() {
            let remote = self.pods.values().filter(|p| p.node != place);
            let wanted = remote.filter_map(|pod| {
                let own = Family::of(pod.addr);
                let gateway = *gateways[pod.node].iter().find(|g| Family::of(**g) == own)?;
                let via = Target::Via {
                    link: UPLINK.to_owned(),
                    gateway,
                    onlink: false,
                };
                let key = RouteKey::main(Cidr::host(pod.addr), 0);
                Some((key, Route::new(via, PROTOCOL)))
            });
            node.routes.replace_all(wanted.collect());
            // All pods of the step are in it: that is complete.
            let report = node
                .routes
                .apply(&mut node.rtnl, &InSync::after_complete_snapshot());
            if let Some(e) = report.errors.into_iter().next() {
                return Err(e).with_context(|| format!("routes between the nodes, {family}"));
            }
        }
        Ok(())
    }
}

impl Attached {
    /// Offers at least these ports.
    fn listen(&mut self, wanted: &BTreeSet<Listen>) -> anyhow::Result<()> {
        if self.responder.is_some() && self.listens.is_superset(wanted) {
            return Ok(());
        }
        // The old one's ports are free before the new one takes them.
        self.responder = None;
        self.listens.extend(wanted);
        let listens: Vec<Listen> = self.listens.iter().copied().collect();
        self.responder = Some(Responder::start(again(&self.netns)?, &listens)?);
        Ok(())
    }
}

/// Another handle of the same namespace.
fn again(netns: &NetNs) -> anyhow::Result<NetNs> {
    Ok(netns.run(NetNs::current)??)
}

/// Settings of a pod's namespace, to be made inside: addresses work at once.
fn prepare() -> anyhow::Result<()> {
    for interface in ["all", "default"] {
        let setting = Sysctl::conf(Family::V6, interface, "accept_dad")?;
        if setting.exists() {
            setting.ensure("0")?;
        }
    }
    Ok(())
}

/// Address and routes of a pod.
fn configure(netns: &NetNs, addr: IpAddr) -> anyhow::Result<()> {
    let mut rtnl = Rtnl::open_in(netns)?;
    rtnl.set_link("lo", &LinkChange::up())?;
    rtnl.set_link(INTERFACE, &LinkChange::up())?;
    let index = rtnl.require_link(INTERFACE)?.index;
    rtnl.set_address(index, &AddressSpec::host(addr))?;
    let link = || INTERFACE.to_owned();
    let (gateway, everything) = match Family::of(addr) {
        Family::V4 => (GATEWAY_V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Family::V6 => (GATEWAY_V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    if gateway.is_ipv4() {
        let key = RouteKey::main(Cidr::host(gateway), 0);
        let direct = Route::new(Target::Link(link()), PROTOCOL_BOOT);
        put_route(&mut rtnl, &key, &direct, Some(index))?;
    }
    let via = Target::Via {
        link: link(),
        gateway,
        onlink: false,
    };
    let key = RouteKey::main(Cidr::new(everything, 0), 0);
    put_route(&mut rtnl, &key, &Route::new(via, PROTOCOL_BOOT), Some(index))?;
    Ok(())
}
