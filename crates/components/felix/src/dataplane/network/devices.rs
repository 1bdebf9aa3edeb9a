//! The devices of tunnels between nodes.

use std::net::{IpAddr, Ipv4Addr};

use caracal_api::EncapMode;
use caracal_config::FelixConfig;
use caracal_desired::{Pool, Vtep};
use caracal_link::{Encapsulation, Event, Ipip, IpipSpec, LinkError, Rtnl, Vxlan, VxlanSpec, overhead};
use caracal_net::{Family, PerFamily};
use caracal_update::InSync;

/// Used where the uplink does not tell its MTU.
const USUAL_MTU: u32 = 1500;

/// The devices for VXLAN.
pub(crate) const VXLAN: PerFamily<&str> = PerFamily {
    v4: "vxlan.calico",
    v6: "vxlan-v6.calico",
};

/// The device for IP-in-IP: the one that the kernel's module makes in each namespace.
pub(crate) const IPIP: &str = "tunl0";

/// What the parameters say of tunnels.
#[derive(Debug, Default)]
struct Settings {
    ipv6: bool,
    vxlan_enabled: Option<bool>,
    vxlan_vni: u32,
    vxlan_port: u16,
    vxlan_mtu: PerFamily<Option<u16>>,
    ipip_enabled: Option<bool>,
    ipip_mtu: Option<u16>,
}

/// What this node says of its own end of the tunnels.
pub(super) struct Own<'a> {
    pub(super) addr: PerFamily<Option<IpAddr>>,
    pub(super) ipip: Option<Ipv4Addr>,
    pub(super) vtep: Option<&'a Vtep>,
}

/// The devices, and what they should be.
#[derive(Debug)]
pub(super) struct Devices {
    settings: Settings,
    pub(super) vxlan: PerFamily<Vxlan>,
    ipip: Ipip,
    /// Which pools ask for a tunnel.
    asked: (PerFamily<bool>, bool),
    uplink_mtu: PerFamily<Option<u32>>,
    /// What is asked for and this kernel does not know.
    lacking: Option<String>,
    /// Tunnels that are asked for and of which this node has no address.
    nameless: Vec<&'static str>,
}

impl Devices {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings::default(),
            vxlan: PerFamily::new(|f| Vxlan::new(VXLAN.get(f))),
            ipip: Ipip::new(IPIP),
            asked: Default::default(),
            uplink_mtu: PerFamily::default(),
            lacking: None,
            nameless: Vec::new(),
        }
    }

    pub(super) fn configure(&mut self, config: &FelixConfig) {
        self.settings = Settings {
            ipv6: config.ipv6_support,
            vxlan_enabled: config.vxlan_enabled,
            vxlan_vni: config.vxlan_vni,
            vxlan_port: config.vxlan_port,
            vxlan_mtu: PerFamily {
                v4: config.vxlan_mtu,
                v6: config.vxlan_mtu_v6,
            },
            ipip_enabled: config.ipip_enabled,
            ipip_mtu: config.ipip_mtu,
        };
    }

    pub(super) fn on_event(&mut self, event: &Event) {
        for family in Family::BOTH {
            self.vxlan.get_mut(family).on_event(event);
        }
        self.ipip.on_event(event);
    }

    /// What is asked for and this kernel does not know.
    pub(super) fn lacking(&self) -> Option<&str> {
        self.lacking.as_deref()
    }

    pub(super) fn is_pending(&self) -> bool {
        Family::BOTH.iter().any(|f| self.vxlan.get(*f).is_pending()) || self.ipip.is_pending()
    }

    /// Finds the uplinks, which are told, and says what the devices should be.
    pub(super) fn refresh<'p>(
        &mut self,
        rtnl: &mut Rtnl,
        own: &Own<'_>,
        pools: impl Iterator<Item = &'p Pool>,
    ) -> Result<PerFamily<Option<String>>, LinkError> {
        self.asked = Default::default();
        for pool in pools {
            let (vxlan, ipip) = &mut self.asked;
            *vxlan.get_mut(pool.cidr.family()) |= pool.vxlan != EncapMode::Never;
            *ipip |= pool.ipip != EncapMode::Never;
        }
        let mut uplinks: PerFamily<Option<String>> = PerFamily::default();
        for family in Family::BOTH {
            let index = match *own.addr.get(family) {
                Some(addr) => rtnl.link_with_address(addr)?,
                None => None,
            };
            let link = match index {
                Some(index) => rtnl.link(index)?,
                None => None,
            };
            *self.uplink_mtu.get_mut(family) = link.as_ref().map(|l| l.mtu);
            *uplinks.get_mut(family) = link.map(|l| l.name);
            let spec = self.vxlan_spec(family, own);
            self.vxlan.get_mut(family).set_device(spec);
        }
        // Without an address the device would answer for nothing.
        let spec = own.ipip.filter(|_| self.uses_ipip()).map(|address| IpipSpec {
            name: IPIP.to_owned(),
            mtu: self.ipip_mtu(self.uplink_mtu.v4.unwrap_or(USUAL_MTU)),
            address,
        });
        self.ipip.set_device(spec);
        self.tell_nameless(own);
        Ok(uplinks)
    }

    /// Says once which tunnels wait for an address of this node.
    fn tell_nameless(&mut self, own: &Own<'_>) {
        let vxlan = Family::BOTH.into_iter().filter(|f| {
            let there = own.vtep.is_some_and(|v| v.tunnel_addr.get(*f).is_some());
            own.addr.get(*f).is_some() && self.uses_vxlan(*f) && !there
        });
        let mut nameless: Vec<&str> = vxlan.map(|f| *VXLAN.get(f)).collect();
        if self.uses_ipip() && own.ipip.is_none() {
            nameless.push(IPIP);
        }
        if nameless != self.nameless && !nameless.is_empty() {
            tracing::warn!(
                "pools ask for {}, of which this node has no address: it reaches no other node's pods that way until \
                 'caracal node allocate-tunnel-addrs' gives it one",
                nameless.join(" and ")
            );
        }
        self.nameless = nameless;
    }

    fn uses_vxlan(&self, family: Family) -> bool {
        let by_pools = *self.asked.0.get(family);
        (family == Family::V4 || self.settings.ipv6) && self.settings.vxlan_enabled.unwrap_or(by_pools)
    }

    /// Whether there is IP-in-IP.
    pub(super) fn uses_ipip(&self) -> bool {
        self.settings.ipip_enabled.unwrap_or(self.asked.1)
    }

    /// The MTU that pods should use: what the uplink carries less what encapsulation adds.
    pub(super) fn pod_mtu(&self) -> u32 {
        let per_family = Family::BOTH.iter().filter_map(|f| {
            let uplink = (*self.uplink_mtu.get(*f))?;
            let vxlan = self.uses_vxlan(*f).then(|| self.vxlan_mtu(*f, uplink));
            let ipip = (*f == Family::V4 && self.uses_ipip()).then(|| self.ipip_mtu(uplink));
            Some(vxlan.into_iter().chain(ipip).min().unwrap_or(uplink))
        });
        per_family.min().unwrap_or(USUAL_MTU)
    }

    fn vxlan_mtu(&self, family: Family, uplink: u32) -> u32 {
        let configured = self.settings.vxlan_mtu.get(family).map(u32::from);
        configured.unwrap_or_else(|| uplink.saturating_sub(overhead(Encapsulation::Vxlan(family))))
    }

    fn ipip_mtu(&self, uplink: u32) -> u32 {
        let configured = self.settings.ipip_mtu.map(u32::from);
        configured.unwrap_or_else(|| uplink.saturating_sub(overhead(Encapsulation::IpIp)))
    }

    fn vxlan_spec(&self, family: Family, own: &Own<'_>) -> Option<VxlanSpec> {
        if !self.uses_vxlan(family) {
            return None;
        }
        let vtep = own.vtep?;
        // Without a tunnel address the device would answer for nothing.
        let address = (*vtep.tunnel_addr.get(family))?;
        Some(VxlanSpec {
            name: (*VXLAN.get(family)).to_owned(),
            vni: self.settings.vxlan_vni,
            port: self.settings.vxlan_port,
            local: (*own.addr.get(family))?,
            mac: (*vtep.mac.get(family))?,
            mtu: self.vxlan_mtu(family, (*self.uplink_mtu.get(family)).unwrap_or(USUAL_MTU)),
            address: Some(address),
        })
    }

    /// Makes the kernel's devices what is desired. What failed is told; one that fails does not keep the others.
    pub(super) fn apply(&mut self, rtnl: &mut Rtnl, token: &InSync) -> Vec<String> {
        let mut errors = Vec::new();
        for family in Family::BOTH {
            let driver = self.vxlan.get_mut(family);
            if driver.is_pending() {
                let report = driver.apply(rtnl, token);
                errors.extend(report.errors.iter().map(ToString::to_string));
            }
        }
        if self.ipip.is_pending() {
            self.lacking = match self.ipip.apply(rtnl, token) {
                // Nothing that trying again would change: others must not wait for it.
                Err(e @ LinkError::Unsupported { .. }) => Some(e.to_string()),
                Err(e) => {
                    errors.push(e.to_string());
                    None
                }
                Ok(()) => None,
            };
            if let Some(what) = &self.lacking {
                tracing::error!("{what}");
            }
        }
        errors
    }
}

/// Takes the devices back out of the node.
///
/// # Errors
/// What the kernel refused; the others are gone.
pub(crate) fn remove(rtnl: &mut Rtnl) -> Result<(), LinkError> {
    let mut outcome = rtnl.release_ipip(IPIP);
    for (_, device) in VXLAN.iter() {
        outcome = rtnl.remove_vxlan(device).and(outcome);
    }
    outcome.map(drop)
}
