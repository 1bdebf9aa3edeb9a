//! The steps that touch the kernel, by netlink and `/proc/sys` in this process.

use std::{net::IpAddr, time::Duration};

use caracal_link::{AddressScope, AddressSpec, InetSetting, Link, LinkChange, LinkError, Rtnl, VethSpec};
use caracal_net::{Cidr, Family, IfAddr, PerFamily};
use caracal_route::{FoundRoute, PROTOCOL_BOOT, Route, RouteKey, Target, put_route, routes_to};
use caracal_sys::{NetNs, SysError, Sysctl, SysctlDir};

use crate::{
    error::CniError,
    plan::{HOST_MAC, InnerConfig, SeenLink, Step, gateway},
    result::ResultRoute,
};

/// Settings of the host's side: it answers for the gateway at once and forwards.
const HOST_V4: &[(InetSetting, u32)] = &[
    (InetSetting::RouteLocalnet, 1),
    (InetSetting::ProxyArp, 1),
    (InetSetting::Forwarding, 1),
];
const HOST_V6: &[(&str, &str)] = &[
    ("disable_ipv6", "0"),
    ("accept_ra", "0"),
    ("proxy_ndp", "1"),
    ("forwarding", "1"),
];

/// Above this are the metrics of routes of interfaces that are not a container's first; the kernel's own choice for
/// IPv6 is 1024.
const FURTHER_METRIC: u32 = 2048;

fn seen(link: Link) -> SeenLink {
    SeenLink {
        index: link.index,
        kind: link.kind,
        alias: link.alias,
        peer: link.parent,
    }
}

/// A link of the namespace in which `rtnl` was opened.
pub(crate) fn look_up(rtnl: &mut Rtnl, name: &str) -> Result<Option<SeenLink>, CniError> {
    let found = rtnl
        .link(name)
        .map_err(|e| CniError::kernel("looking for the interface", &e))?;
    Ok(found.map(seen))
}

/// Whether there is a link of that number.
pub(crate) fn is_there(rtnl: &mut Rtnl, index: u32) -> Result<bool, CniError> {
    let found = rtnl.link(index);
    Ok(found
        .map_err(|e| CniError::kernel("looking for the interface", &e))?
        .is_some())
}

/// Opens a socket where the calling thread is.
pub(crate) fn open_here() -> Result<Rtnl, CniError> {
    Rtnl::open().map_err(|e| CniError::kernel("asking the kernel", &e))
}

/// Opens the container's namespace.
pub(crate) fn open_netns(path: &str) -> Result<NetNs, CniError> {
    NetNs::open(std::path::Path::new(path))
        .map_err(|e| CniError::system("network namespace of the container", &e))
}

/// Opens a socket to the kernel inside a namespace.
pub(crate) fn open_inside(netns: &NetNs) -> Result<Rtnl, CniError> {
    Rtnl::open_in(netns).map_err(|e| CniError::kernel("asking the kernel inside the container", &e))
}

/// A link inside a namespace.
pub(crate) fn look_up_in(netns: &NetNs, name: &str) -> Result<Option<SeenLink>, CniError> {
    look_up(&mut open_inside(netns)?, name)
}

/// Switches a link off: no packet passes, and its routes are gone. One that is gone is no error.
pub(crate) fn switch_off(rtnl: &mut Rtnl, name: &str) -> Result<(), CniError> {
    match rtnl.set_link(name, &LinkChange::down()) {
        Ok(()) | Err(LinkError::Missing(_)) => Ok(()),
        Err(e) => Err(CniError::kernel("switching the interface off", &e)),
    }
}

/// The links of this namespace that have an alias: name and alias.
pub(crate) fn aliases(rtnl: &mut Rtnl) -> Result<Vec<(String, String)>, CniError> {
    let links = rtnl
        .links()
        .map_err(|e| CniError::kernel("listing the interfaces", &e))?;
    let links = links.into_iter();
    Ok(links.filter_map(|l| Some((l.name, l.alias?))).collect())
}

/// Deletes a link; one that is gone is no error.
pub(crate) fn drop_link(rtnl: &mut Rtnl, name: &str) -> Result<bool, CniError> {
    rtnl.delete_link(name)
        .map_err(|e| CniError::kernel("deleting the interface", &e))
}

/// The kernel, on both sides of a pair.
#[derive(Debug)]
pub(crate) struct Kernel<'a> {
    pub(crate) host: Rtnl,
    pub(crate) inside: Rtnl,
    pub(crate) netns: &'a NetNs,
    /// The host's side, once it was looked at, and the number of the other one.
    pair: Option<(u32, Option<u32>)>,
}

impl<'a> Kernel<'a> {
    pub(crate) fn open(netns: &'a NetNs) -> Result<Self, CniError> {
        Ok(Self {
            host: open_here()?,
            inside: open_inside(netns)?,
            netns,
            pair: None,
        })
    }

    /// Does a step that touches only the kernel.
    pub(crate) fn execute(&mut self, step: &Step) -> Result<(), CniError> {
        match step {
            Step::DropHostLink { name, .. } => drop_link(&mut self.host, name).map(drop),
            Step::CreateVeth {
                host,
                inner,
                mac,
                mtu,
                queues,
            } => {
                let spec = VethSpec {
                    name: host,
                    mac: Some(HOST_MAC),
                    peer_name: inner,
                    peer_mac: Some(*mac),
                    peer_netns: Some(self.netns),
                    mtu: Some(*mtu),
                    queues: Some(*queues),
                };
                self.pair = None;
                let made = self.host.create_veth(&spec);
                made.map_err(|e| CniError::kernel("making the interface", &e))
            }
            Step::ConfigureHost {
                name,
                alias,
                families,
            } => self.configure_host(name, alias, families),
            Step::ConfigureInner(inner) => self.configure_inner(inner),
            Step::HostRoutes { name, addresses } => {
                let done = self.host_routes(name, addresses);
                done.map_err(|e| CniError::kernel("routes to the container", &e))
            }
            // The others are the datastore's and the agent's.
            _ => Ok(()),
        }
    }

    fn configure_host(
        &mut self,
        name: &str,
        alias: &str,
        families: &PerFamily<bool>,
    ) -> Result<(), CniError> {
        if families.v6 {
            let settings = || -> Result<(), SysError> {
                let dir = SysctlDir::conf(Family::V6, name)?;
                let mut each = HOST_V6.iter();
                each.try_for_each(|(key, value)| dir.ensure(key, value).map(drop))
            };
            settings().map_err(|e| CniError::system("settings of the host's side", &e))?;
        }
        let mut links = || -> Result<(), LinkError> {
            let link = self.host.require_link(name)?;
            self.pair = Some((link.index, link.parent));
            if families.v4 {
                self.host.set_proxy_delay(link.index, Duration::ZERO)?;
            }
            let change = LinkChange {
                alias: Some(alias),
                inet: if families.v4 { HOST_V4 } else { &[] },
                ..LinkChange::up()
            };
            self.host.set_link(link.index, &change)?;
            if families.v6 {
                // The address inside points at; not left to the kernel, which may be told to make another one.
                let spec = AddressSpec {
                    scope: AddressScope::Link,
                    ..AddressSpec::new(IfAddr {
                        addr: gateway(Family::V6),
                        len: 64,
                    })
                };
                self.host.set_address(link.index, &spec)?;
            }
            Ok(())
        };
        links().map_err(|e| CniError::kernel("the host's side", &e))
    }

    fn configure_inner(&mut self, config: &InnerConfig) -> Result<(), CniError> {
        let uses = |family| config.addresses.iter().any(|a| Family::of(*a) == family);
        let system = |e: &SysError| CniError::system("settings inside the container", e);
        let wanted = Some(config.forwarding);
        if uses(Family::V4) {
            let now = self.inside.forwards(Family::V4);
            let now = now.map_err(|e| CniError::kernel("settings inside the container", &e))?;
            if now != wanted {
                let set = || Sysctl::new(&["net", "ipv4", "ip_forward"])?.ensure(number(config.forwarding));
                let set = self.netns.visit(set).and_then(|done| done);
                set.map_err(|e| system(&e))?;
            }
        }
        if uses(Family::V6) {
            let set = self.netns.visit(|| inner_v6(config)).and_then(|done| done);
            set.map_err(|e| system(&e))?;
        }
        let done = self.inner_links(config);
        done.map_err(|e| CniError::kernel("the container's side", &e))
    }

    fn inner_links(&mut self, config: &InnerConfig) -> Result<(), LinkError> {
        let name = config.name.as_str();
        let index = match self.pair {
            Some((_, Some(inner))) => inner,
            _ => self.inside.require_link(name)?.index,
        };
        for addr in &config.addresses {
            self.inside.set_address(index, &AddressSpec::host(*addr))?;
        }
        self.inside.set_link(index, &LinkChange::up())?;
        // Every interface has its own route to the same gateway; without a number of its own it would replace another's.
        let metric = if config.first { 0 } else { FURTHER_METRIC + index };
        for route in &config.routes {
            put_route(
                &mut self.inside,
                &RouteKey::main(route.dst, metric),
                &inner_route(name, route),
                Some(index),
            )?;
        }
        Ok(())
    }

    fn host_routes(&mut self, name: &str, addresses: &[IpAddr]) -> Result<(), LinkError> {
        let index = match self.pair {
            Some((index, _)) => index,
            None => self.host.require_link(name)?.index,
        };
        for addr in addresses {
            let route = Route::new(Target::Link(name.to_owned()), PROTOCOL_BOOT);
            let key = RouteKey::main(Cidr::host(*addr), 0);
            put_route(&mut self.host, &key, &route, Some(index))?;
        }
        Ok(())
    }
}

fn number(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// The settings of IPv6 inside, from there.
fn inner_v6(config: &InnerConfig) -> Result<(), SysError> {
    let all = SysctlDir::all_conf(Family::V6)?;
    for interface in ["all", "default", config.name.as_str()] {
        all.folder(interface)?.ensure("disable_ipv6", "0")?;
    }
    all.folder("all")?
        .ensure("forwarding", number(config.forwarding))
        .map(drop)
}

fn inner_route(link: &str, route: &ResultRoute) -> Route {
    let link = link.to_owned();
    let target = match route.gw {
        None => Target::Link(link),
        Some(gateway) => Target::Via {
            link,
            gateway,
            onlink: false,
        },
    };
    Route::new(target, PROTOCOL_BOOT)
}

/// What CHECK sees inside the container.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) link: Option<SeenLink>,
    pub(crate) up: bool,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) missing_routes: Vec<ResultRoute>,
}

/// Looks at the container's side.
pub(crate) fn inspect(netns: &NetNs, name: &str, routes: &[ResultRoute]) -> Result<Inside, CniError> {
    let mut rtnl = open_inside(netns)?;
    let mut look = || -> Result<Inside, LinkError> {
        let Some(link) = rtnl.link(name)? else {
            return Ok(Inside {
                link: None,
                up: false,
                addresses: Vec::new(),
                missing_routes: routes.to_vec(),
            });
        };
        let index = link.index;
        let mut missing_routes = Vec::new();
        for route in routes {
            let is_it = |f: &FoundRoute| f.link == Some(index) && f.gateway == route.gw;
            if !routes_to(&mut rtnl, route.dst)?.iter().any(is_it) {
                missing_routes.push(route.clone());
            }
        }
        Ok(Inside {
            up: link.up,
            addresses: rtnl.addresses_of(index)?.iter().map(|a| a.addr.addr).collect(),
            link: Some(seen(link)),
            missing_routes,
        })
    };
    look().map_err(|e| CniError::kernel("looking into the container", &e))
}

/// Whether the host has its route to an address.
pub(crate) fn has_host_route(rtnl: &mut Rtnl, addr: IpAddr, link: u32) -> Result<bool, CniError> {
    let found = routes_to(rtnl, Cidr::host(addr)).map_err(|e| CniError::kernel("listing routes", &e))?;
    Ok(found.iter().any(|f| f.link == Some(link)))
}
