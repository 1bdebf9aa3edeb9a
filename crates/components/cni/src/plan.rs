//! What ADD does, as steps: a function of what was observed and what is wanted.
//!
//! First the addresses ([`plan_addresses`]), then, when they are known, the rest ([`plan_attach`]). A step that was
//! done before is no step, or one that changes nothing: ADD may be called again after a crash at any point.
//!
//! **Invariant:** the endpoint is written before the host has a route to it, and the host gets the route only when
//! policy is in force or nobody waits for it: until then the static rule of the agent, which drops unknown workload
//! interfaces, or the agent's check of source addresses keeps the pod closed.

use std::{fmt, net::IpAddr, time::Duration};

use caracal_api::{Object, ProfileSpec, WorkloadEndpointSpec};
use caracal_net::{Family, IfAddr, MacAddr, PerFamily};

use crate::{endpoint, error::CniError, identity::Identity, netconf::NetConf, result::ResultRoute};

/// A link that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLink {
    /// Its number.
    pub index: u32,
    /// Its kind, such as `veth`.
    pub kind: Option<String>,
    /// Its alias: ours are `<container>/<interface>`.
    pub alias: Option<String>,
    /// The number of a veth's other end.
    pub peer: Option<u32>,
}

impl SeenLink {
    /// Whether it is the other end of `other`.
    #[must_use]
    pub fn is_peer_of(&self, other: &SeenLink) -> bool {
        self.kind.as_deref() == Some("veth") && self.peer == Some(other.index)
    }
}

/// What there is before ADD.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The stored endpoint of that name.
    pub endpoint: Option<Object<WorkloadEndpointSpec>>,
    /// Whether the profile of a network without Kubernetes is stored.
    pub profile: bool,
    /// What the container's handle holds.
    pub held: Vec<IfAddr>,
    /// The link with the name of the host's side.
    pub host_link: Option<SeenLink>,
    /// The link inside with the name asked for.
    pub inner_link: Option<SeenLink>,
}

/// How long ADD waits for policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// So long, and goes on afterwards whatever came of it.
    AtMost(Duration),
    /// So long if the agent's socket exists; ADD fails when the time is up.
    OrFail(Duration),
}

/// Where addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSource {
    /// Our own IPAM.
    Calico {
        /// Families to assign from pools.
        families: PerFamily<bool>,
        /// Addresses asked for; with any, no other is assigned.
        requested: Vec<IpAddr>,
    },
    /// Another IPAM plugin.
    Delegate(String),
    /// These, without IPAM.
    Given(Vec<IpAddr>),
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The workload.
    pub id: &'a Identity,
    /// The configuration.
    pub conf: &'a NetConf,
    /// Where addresses come from.
    pub addresses: AddressSource,
    /// MTU of both sides.
    pub mtu: u32,
    /// How long to wait for policy.
    pub wait: Wait,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Assign an address of a family.
    Assign(Family),
    /// Assign this address.
    AssignAddress(IpAddr),
    /// Let another plugin assign.
    Delegate(String),
    /// Delete a link that stands in the way: of an older container of the pod, or half made.
    DropHostLink {
        /// Its name.
        name: String,
        /// Whose it was.
        was: String,
    },
    /// Make the veth pair.
    CreateVeth {
        /// Name of the host's side.
        host: String,
        /// Name of the container's side.
        inner: String,
        /// MAC of the container's side.
        mac: MacAddr,
        /// MTU of both.
        mtu: u32,
        /// Transmit and receive queues of both.
        queues: u32,
    },
    /// Settings, alias and gateway address of the host's side; switch it on.
    ConfigureHost {
        /// Its name.
        name: String,
        /// Its alias.
        alias: String,
        /// Families in use.
        families: PerFamily<bool>,
    },
    /// Settings, addresses and routes of the container's side; switch it on.
    ConfigureInner(InnerConfig),
    /// Let the agent assign addresses and write the endpoint while the link is made here.
    Attach,
    /// Make the profile of a network without Kubernetes.
    WriteProfile(Box<Object<ProfileSpec>>),
    /// Write the endpoint.
    WriteEndpoint(Box<Object<WorkloadEndpointSpec>>),
    /// Wait until policy is in force.
    AwaitPolicy(Wait),
    /// The host's routes to the addresses, unless the agent has made them.
    HostRoutes {
        /// The host's side.
        name: String,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

/// The container's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerConfig {
    /// Its name.
    pub name: String,
    /// Its addresses; each alone in its prefix.
    pub addresses: Vec<IpAddr>,
    /// Its routes. Those without a next hop lead straight out of the interface.
    pub routes: Vec<ResultRoute>,
    /// Whether it is the container's first interface, whose routes come before those of others.
    pub first: bool,
    /// Whether the container may forward packets.
    pub forwarding: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assign(family) => write!(f, "assign an {family} address"),
            Self::AssignAddress(addr) => write!(f, "assign {addr}"),
            Self::Delegate(plugin) => write!(f, "let {plugin} assign addresses"),
            Self::DropHostLink { name, was } => write!(f, "delete link {name} ({was})"),
            Self::CreateVeth {
                host,
                inner,
                mac,
                mtu,
                ..
            } => {
                write!(f, "create veth {host} - {inner} ({mac}), MTU {mtu}")
            }
            Self::ConfigureHost { name, .. } => write!(f, "configure {name} and switch it on"),
            Self::ConfigureInner(inner) => {
                let list: Vec<String> = inner.addresses.iter().map(ToString::to_string).collect();
                write!(f, "configure {} inside with {}", inner.name, list.join(", "))
            }
            Self::Attach => f.write_str("let the agent assign addresses and write the endpoint"),
            Self::WriteProfile(p) => write!(f, "write profile {}", p.metadata.name),
            Self::WriteEndpoint(e) => write!(f, "write {}", e.key()),
            Self::AwaitPolicy(Wait::No) => f.write_str("do not wait for policy"),
            Self::AwaitPolicy(Wait::AtMost(t) | Wait::OrFail(t)) => {
                write!(f, "wait for policy, at most {t:?}")
            }
            Self::HostRoutes { name, addresses } => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "route {} to {name}", list.join(", "))
            }
        }
    }
}

/// Which addresses the container keeps, and the steps that assign those it lacks.
#[must_use]
pub fn plan_addresses(observed: &Observed, wanted: &Wanted<'_>) -> (Vec<IfAddr>, Vec<Step>) {
    let (families, requested) = match &wanted.addresses {
        AddressSource::Delegate(plugin) => return (Vec::new(), vec![Step::Delegate(plugin.clone())]),
        AddressSource::Given(addresses) => {
            let own = |addr: &IpAddr| IfAddr {
                addr: *addr,
                len: Family::of(*addr).bits(),
            };
            return (addresses.iter().map(own).collect(), Vec::new());
        }
        AddressSource::Calico { families, requested } => (families, requested),
    };
    let (mut kept, mut steps) = (Vec::new(), Vec::new());
    let mut take = |found: Option<&IfAddr>, otherwise: Step| match found {
        Some(held) => kept.push(*held),
        None => steps.push(otherwise),
    };
    for addr in requested {
        let held = observed.held.iter().find(|h| h.addr == *addr);
        take(held, Step::AssignAddress(*addr));
    }
    if requested.is_empty() {
        for (family, _) in families.iter().filter(|(_, wanted)| **wanted) {
            let held = observed.held.iter().find(|h| Family::of(h.addr) == family);
            take(held, Step::Assign(family));
        }
    }
    (kept, steps)
}

/// The gateway of a family: nobody's address, for which the host answers.
#[must_use]
pub fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([169, 254, 1, 1]),
        Family::V6 => IpAddr::from([0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee]),
    }
}

/// The MAC address of every host's side.
pub const HOST_MAC: MacAddr = MacAddr([0xee; 6]);

/// The routes inside: the gateway, the default route unless it is not wanted, and what an IPAM plugin asks for.
#[must_use]
pub fn inner_routes(conf: &NetConf, addresses: &[IfAddr], asked: &[ResultRoute]) -> Vec<ResultRoute> {
    let mut routes: Vec<ResultRoute> = Vec::new();
    let families = families_of(addresses);
    for (family, _) in families.iter().filter(|(_, used)| **used) {
        let via = gateway(family);
        if family == Family::V4 {
            routes.push(ResultRoute {
                dst: caracal_net::Cidr::host(via),
                gw: None,
            });
        }
        let default = caracal_net::Cidr::new(via, 0);
        let mine = asked.iter().filter(|r| r.dst.family() == family).map(|r| r.dst);
        let mut destinations: Vec<_> = mine.collect();
        if conf.include_default_routes.unwrap_or(true) && !destinations.contains(&default) {
            destinations.insert(0, default);
        }
        routes.extend(
            destinations
                .into_iter()
                .map(|dst| ResultRoute { dst, gw: Some(via) }),
        );
    }
    routes
}

/// Which families are among addresses.
#[must_use]
pub fn families_of(addresses: &[IfAddr]) -> PerFamily<bool> {
    PerFamily::new(|family| addresses.iter().any(|a| Family::of(a.addr) == family))
}

/// The steps before the addresses are known, when the agent assigns them and writes the endpoint: the pair, and the host's
/// side of it.
///
/// # Errors
/// When a link is in the way that is not ours to delete.
pub fn plan_with_agent(
    observed: &Observed,
    wanted: &Wanted<'_>,
    families: PerFamily<bool>,
) -> Result<Vec<Step>, CniError> {
    let mut steps = link_steps(observed, wanted)?;
    steps.push(Step::ConfigureHost {
        name: wanted.id.host_interface(),
        alias: wanted.id.alias(),
        families,
    });
    Ok(steps)
}

/// The container's side.
fn inner_step(wanted: &Wanted<'_>, addresses: &[IfAddr], asked_routes: &[ResultRoute]) -> Step {
    Step::ConfigureInner(InnerConfig {
        name: wanted.id.ifname.clone(),
        addresses: addresses.iter().map(|a| a.addr).collect(),
        routes: inner_routes(wanted.conf, addresses, asked_routes),
        first: wanted.id.is_first(),
        forwarding: wanted.conf.container_settings.allow_ip_forwarding,
    })
}

/// The steps after the agent has assigned addresses and written the endpoint.
#[must_use]
pub fn plan_after_agent(wanted: &Wanted<'_>, addresses: &[IfAddr]) -> Vec<Step> {
    let mut steps = vec![inner_step(wanted, addresses, &[])];
    if wanted.wait != Wait::No {
        steps.push(Step::AwaitPolicy(wanted.wait));
    }
    steps.push(Step::HostRoutes {
        name: wanted.id.host_interface(),
        addresses: addresses.iter().map(|a| a.addr).collect(),
    });
    steps
}

/// The steps after the addresses are known.
///
/// # Errors
/// When a link is in the way that is not ours to delete.
pub fn plan_attach(
    observed: &Observed,
    wanted: &Wanted<'_>,
    addresses: &[IfAddr],
    asked_routes: &[ResultRoute],
) -> Result<Vec<Step>, CniError> {
    let (id, conf) = (wanted.id, wanted.conf);
    let mut steps = plan_with_agent(observed, wanted, families_of(addresses))?;
    let plain: Vec<IpAddr> = addresses.iter().map(|a| a.addr).collect();
    steps.push(inner_step(wanted, addresses, asked_routes));
    if id.pod.is_none() && !observed.profile {
        steps.push(Step::WriteProfile(Box::new(endpoint::network_profile(
            &id.network,
        ))));
    }
    let revision = observed
        .endpoint
        .as_ref()
        .and_then(|e| e.metadata.resource_version.clone());
    let new = endpoint::endpoint(id, conf, addresses, revision)?;
    let stored = observed.endpoint.as_ref();
    if stored.is_none_or(|s| s.spec != new.spec || s.metadata.labels != new.metadata.labels) {
        steps.push(Step::WriteEndpoint(Box::new(new)));
    }
    if wanted.wait != Wait::No {
        steps.push(Step::AwaitPolicy(wanted.wait));
    }
    steps.push(Step::HostRoutes {
        name: id.host_interface(),
        addresses: plain,
    });
    Ok(steps)
}

/// Keeps a pair that is there already, clears away what is left of another, makes ours.
fn link_steps(observed: &Observed, wanted: &Wanted<'_>) -> Result<Vec<Step>, CniError> {
    let (id, conf) = (wanted.id, wanted.conf);
    let host = id.host_interface();
    let in_the_way = |why: String| Err(CniError::env("CNI_IFNAME", why));
    match (&observed.host_link, &observed.inner_link) {
        (Some(outer), Some(inner)) if inner.is_peer_of(outer) => return Ok(Vec::new()),
        (_, Some(_)) => {
            return in_the_way(format!(
                "the network namespace has an interface {:?} already, which is not of this network",
                id.ifname
            ));
        }
        _ => {}
    }
    let mut steps = Vec::new();
    if let Some(outer) = &observed.host_link {
        let owner = outer.alias.as_deref().unwrap_or_default();
        if outer.kind.as_deref() != Some("veth") {
            return in_the_way(format!(
                "the host has a link {host} that is no veth: rename or remove it"
            ));
        }
        if id.pod.is_none() && !owner.is_empty() && owner != id.alias() {
            return in_the_way(format!(
                "the host's link {host} belongs to {owner}: two containers would have the same name there"
            ));
        }
        let was = if owner.is_empty() {
            "nobody's".to_owned()
        } else {
            format!("of {owner}")
        };
        steps.push(Step::DropHostLink {
            name: host.clone(),
            was,
        });
    }
    steps.push(Step::CreateVeth {
        host,
        inner: id.ifname.clone(),
        mac: id.mac(),
        mtu: wanted.mtu,
        // As Calico; the kernel's own choice is one for each CPU, each with its files, most of what a pair costs.
        queues: conf.num_queues.max(1),
    });
    Ok(steps)
}
