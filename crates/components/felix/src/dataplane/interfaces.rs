//! The host's interfaces: which are there, and the settings of those that are workloads'.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_desired::WorkloadEndpoint;
use caracal_link::{Address, Event, Link, LinkError, Rtnl};
use caracal_net::{Family, PerFamily};
use caracal_sys::{SysError, Sysctl, SysctlDir};

/// Links by name, and addresses by the number of their link.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    links: BTreeMap<String, Link>,
    names: BTreeMap<u32, String>,
    addresses: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// What was told of each link's addresses.
    told: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Links that changed since, or whose addresses did.
    moved: BTreeSet<String>,
}

impl Interfaces {
    /// Reads all links.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn read(&mut self, rtnl: &mut Rtnl) -> Result<(), LinkError> {
        self.links = rtnl.links()?.into_iter().map(|l| (l.name.clone(), l)).collect();
        self.names = self.links.values().map(|l| (l.index, l.name.clone())).collect();
        self.addresses.clear();
        for a in rtnl.addresses()? {
            self.addresses.entry(a.link).or_default().insert(a.addr.addr);
        }
        self.moved
            .extend(self.links.keys().chain(self.told.keys()).cloned());
        Ok(())
    }

    /// The links whose addresses changed since the last call, with all they have now; nothing for one that is gone.
    pub(crate) fn changed_addresses(&mut self) -> Vec<(String, Option<BTreeSet<IpAddr>>)> {
        let mut out = Vec::new();
        for name in std::mem::take(&mut self.moved) {
            let now = self.links.get(&name).map(|l| {
                let held = self.addresses.get(&l.index);
                held.cloned().unwrap_or_default()
            });
            if self.told.get(&name) == now.as_ref() {
                continue;
            }
            match &now {
                Some(addresses) => self.told.insert(name.clone(), addresses.clone()),
                None => self.told.remove(&name),
            };
            out.push((name, now));
        }
        out
    }

    /// Follows an event of an address.
    pub(crate) fn on_address(&mut self, address: &Address, there: bool) {
        let held = self.addresses.entry(address.link).or_default();
        let changed = if there {
            held.insert(address.addr.addr)
        } else {
            held.remove(&address.addr.addr)
        };
        if changed && let Some(name) = self.names.get(&address.link) {
            self.moved.insert(name.clone());
        }
    }

    /// The name of a link.
    pub(crate) fn name_of(&self, index: u32) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }

    /// Follows an event; the names of links that came, went or changed between up and down.
    pub(crate) fn on_event(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Link(link) => {
                let old_name = self.names.insert(link.index, link.name.clone());
                let mut changed = Vec::new();
                if let Some(old) = old_name.filter(|n| *n != link.name) {
                    self.links.remove(&old);
                    changed.push(old);
                }
                let before = self.links.insert(link.name.clone(), link.clone());
                let same =
                    before.is_some_and(|b| b.index == link.index && b.up == link.up && b.mtu == link.mtu);
                if !same {
                    changed.push(link.name.clone());
                }
                self.moved.extend(changed.iter().cloned());
                changed
            }
            Event::LinkGone(link) => match self.links.get(&link.name) {
                Some(l) if l.index == link.index => {
                    self.links.remove(&link.name);
                    self.addresses.remove(&link.index);
                    self.names.remove(&link.index);
                    self.moved.insert(link.name.clone());
                    vec![link.name.clone()]
                }
                _ => vec![],
            },
            _ => vec![],
        }
    }

    /// Whether an address is one of the host's.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.values().any(|held| held.contains(&address))
    }

    /// The link of this name.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.get(name)
    }

    /// Why a workload's interface cannot carry packets; `Ok` when it can.
    pub(crate) fn usable(&self, name: &str) -> Result<(), String> {
        match self.links.get(name) {
            None => Err(format!("interface {name} does not exist")),
            Some(l) if !l.up => Err(format!("interface {name} is down")),
            Some(_) => Ok(()),
        }
    }
}

/// The host's settings without which nothing is forwarded.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn prepare_host(ipv6: bool) -> Result<(), SysError> {
    Sysctl::new(&["net", "ipv4", "ip_forward"])?.ensure("1")?;
    let v6 = Sysctl::conf(Family::V6, "all", "forwarding")?;
    if ipv6 && v6.exists() {
        v6.ensure("1")?;
    }
    Ok(())
}

/// The settings of workloads' interfaces, in folders that are opened once, and what was set.
#[derive(Debug, Default)]
pub(crate) struct HostSides {
    conf: PerFamily<Option<SysctlDir>>,
    neigh: Option<SysctlDir>,
    /// By interface: the number of its link and what it was given.
    done: BTreeMap<String, (u32, Wanted)>,
}

/// What an interface's settings depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    ipv6: bool,
    ipv6_addresses: bool,
    /// The kernel does not check sources: prefixes are allowed beside the addresses. Else it does what the host wants.
    no_check: bool,
}

impl HostSides {
    /// Something happened to the link: what was set may be gone.
    pub(crate) fn doubt(&mut self, interface: &str) {
        self.done.remove(interface);
    }

    /// Nothing counts as set.
    pub(crate) fn doubt_all(&mut self) {
        self.done.clear();
    }

    /// Makes the settings of a workload's interface (`calico-components.md` §1.3) what they should be.
    ///
    /// # Errors
    /// When one cannot be written; also when the interface vanishes meanwhile.
    pub(crate) fn prepare(
        &mut self,
        workload: &WorkloadEndpoint,
        link: &Link,
        ipv6: bool,
        source_spoofing: bool,
    ) -> Result<(), SysError> {
        let prefixes = workload.allowed_sources.iter();
        let wanted = Wanted {
            ipv6,
            ipv6_addresses: !workload.addresses.v6.is_empty(),
            no_check: source_spoofing && { prefixes }.any(|c| c.family() == Family::V4),
        };
        if self.done.get(&link.name) == Some(&(link.index, wanted)) {
            return Ok(());
        }
        self.set(&link.name, wanted)?;
        self.done.insert(link.name.clone(), (link.index, wanted));
        Ok(())
    }

    fn set(&mut self, name: &str, wanted: Wanted) -> Result<(), SysError> {
        let all = opened(&mut self.conf.v4, || SysctlDir::all_conf(Family::V4))?;
        let v4 = all.folder(name)?;
        for setting in ["route_localnet", "proxy_arp", "forwarding"] {
            v4.ensure(setting, "1")?;
        }
        let neigh = opened(&mut self.neigh, || SysctlDir::all_neigh(Family::V4))?;
        neigh.folder(name)?.ensure("proxy_delay", "0")?;
        // Beside the rules the kernel may have a check of its own, which knows no exceptions; IPv6 has none. The host's is
        // set also where no prefix is allowed: some may have been, also before this agent began.
        let check = match wanted.no_check {
            true => "0".to_owned(),
            false => all.folder("default")?.read("rp_filter")?,
        };
        v4.ensure("rp_filter", &check)?;
        if !wanted.ipv6 {
            return Ok(());
        }
        // A kernel may be without IPv6.
        let v6 = opened(&mut self.conf.v6, || SysctlDir::all_conf(Family::V6));
        if let Ok(v6) = v6.and_then(|all| all.folder(name)) {
            v6.ensure("accept_ra", "0")?;
            // Each of these takes the lock of all links, which pods that start side by side wait for.
            if wanted.ipv6_addresses {
                v6.ensure("proxy_ndp", "1")?;
                v6.ensure("forwarding", "1")?;
            }
        }
        Ok(())
    }
}

fn opened(
    place: &mut Option<SysctlDir>,
    open: impl FnOnce() -> Result<SysctlDir, SysError>,
) -> Result<&SysctlDir, SysError> {
    match place {
        Some(open) => Ok(open),
        empty => Ok(empty.insert(open()?)),
    }
}
