//! The network between the nodes: a bridge in a namespace of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use caracal_link::{AddressSpec, LinkChange, Rtnl, VethSpec};
use caracal_net::{Cidr, Family, IfAddr};
use caracal_route::{PROTOCOL_BOOT, Route, RouteKey, Target, put_route};
use caracal_sys::{NetNs, SysError, Sysctl};

/// The bridge.
const BRIDGE: &str = "fabric";
/// The interface of a node.
const UPLINK: &str = "eth0";
/// The last part of the bridge's own addresses.
const GATEWAY: u16 = 254;

/// The address of the member of the fabric with this number (from 1) in a family.
pub(crate) fn address(index: u16, family: Family) -> IfAddr {
    match family {
        Family::V4 => {
            let [high, low] = index.to_be_bytes();
            IfAddr {
                addr: IpAddr::V4(Ipv4Addr::new(172, 30, high, low)),
                len: 24,
            }
        }
        Family::V6 => IfAddr {
            addr: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, index)),
            len: 64,
        },
    }
}

/// The bridge's own address.
pub(crate) fn gateway(family: Family) -> IfAddr {
    address(GATEWAY, family)
}

/// Opens a namespace, or makes it.
pub(crate) fn ensure_netns(name: &str) -> anyhow::Result<NetNs> {
    match NetNs::named(name) {
        Ok(netns) => Ok(netns),
        // A plain file is what an interrupted attempt left.
        Err(SysError::NetNsMissing(_) | SysError::NotNetNs(_)) => Ok(NetNs::create(name)?),
        Err(e) => Err(e.into()),
    }
}

/// Makes the fabric in its namespace.
pub(crate) fn ensure(netns: &NetNs) -> anyhow::Result<()> {
    netns.run(|| no_delays(false))??;
    let mut rtnl = Rtnl::open_in(netns)?;
    rtnl.set_link("lo", &LinkChange::up())?;
    if rtnl.link(BRIDGE)?.is_none() {
        rtnl.create_bridge(BRIDGE)?;
    }
    rtnl.set_link(BRIDGE, &LinkChange::up())?;
    let index = rtnl.require_link(BRIDGE)?.index;
    for family in Family::BOTH {
        rtnl.set_address(index, &AddressSpec::new(gateway(family)))?;
    }
    Ok(())
}

/// Connects a node (from 1) to the fabric: `eth0` with its addresses, a default route in each family, forwarding on.
pub(crate) fn ensure_node(fabric: &NetNs, netns: &NetNs, index: u16) -> anyhow::Result<()> {
    netns.run(|| no_delays(true))??;
    let mut rtnl = Rtnl::open_in(netns)?;
    rtnl.set_link("lo", &LinkChange::up())?;
    let mut outside = Rtnl::open_in(fabric)?;
    let port = format!("node-{index}");
    if rtnl.link(UPLINK)?.is_none() || outside.link(port.as_str())?.is_none() {
        // Half a pair cannot be; a pair whose other end is somewhere else goes with this end.
        outside.delete_link(port.as_str())?;
        outside.create_veth(&VethSpec {
            name: &port,
            peer_name: UPLINK,
            peer_netns: Some(netns),
            ..VethSpec::default()
        })?;
    }
    let bridge = outside.require_link(BRIDGE)?.index;
    let join = LinkChange {
        controller: Some(bridge),
        ..LinkChange::up()
    };
    outside.set_link(port.as_str(), &join)?;
    rtnl.set_link(UPLINK, &LinkChange::up())?;
    let uplink = rtnl.require_link(UPLINK)?.index;
    for family in Family::BOTH {
        rtnl.set_address(uplink, &AddressSpec::new(address(index, family)))?;
        // Without one the kernel answers no pod that asks for its gateway.
        let via = Target::Via {
            link: UPLINK.to_owned(),
            gateway: gateway(family).addr,
            onlink: false,
        };
        let key = RouteKey::main(Cidr::new(unspecified(family), 0), 0);
        put_route(&mut rtnl, &key, &Route::new(via, PROTOCOL_BOOT), Some(uplink))?;
    }
    Ok(())
}

/// Settings of the calling thread's namespace: addresses work at once, and a node forwards.
fn no_delays(forward: bool) -> anyhow::Result<()> {
    let set = |setting: Sysctl, value: &str| -> anyhow::Result<()> {
        // A kernel without IPv6 has none of its settings.
        if setting.exists() {
            setting.ensure(value).context("kernel setting")?;
        }
        Ok(())
    };
    for interface in ["all", "default"] {
        set(Sysctl::conf(Family::V6, interface, "accept_dad")?, "0")?;
        set(Sysctl::conf(Family::V6, interface, "accept_ra")?, "0")?;
    }
    if forward {
        set(Sysctl::new(&["net", "ipv4", "ip_forward"])?, "1")?;
        set(Sysctl::conf(Family::V6, "all", "forwarding")?, "1")?;
    }
    Ok(())
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
