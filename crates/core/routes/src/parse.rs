use std::net::{IpAddr, Ipv4Addr};

use caracal_api::{EncapMode, IpPoolSpec, IpamBlockSpec, NodeSpec, Object, WorkloadEndpointSpec};
use caracal_desired::{Host, Pool, Vtep};
use caracal_ids::NodeName;
use caracal_net::{Cidr, Family, IfAddr, MacAddr, PerFamily};

use crate::claim::ClaimKind;

/// What a node tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) host: Host,
    pub(crate) tunnel: PerFamily<Option<IpAddr>>,
    pub(crate) mac: PerFamily<MacAddr>,
}

impl NodeFacts {
    pub(crate) fn vtep(&self) -> Option<Vtep> {
        let tunnel = self.tunnel;
        if tunnel.v4.is_none() && tunnel.v6.is_none() {
            return None;
        }
        Some(Vtep {
            node: self.host.node.clone(),
            mac: PerFamily::new(|f| tunnel.get(f).map(|_| *self.mac.get(f))),
            tunnel_addr: tunnel,
            underlay: PerFamily::new(|f| self.host.addr.get(f).map(|a| a.addr)),
        })
    }
}

/// A field that cannot be read.
pub(crate) fn bad(field: &str, value: &str, why: impl std::fmt::Display) -> String {
    format!("{field} {value:?}: {why}")
}

fn family_of(addr: IpAddr, family: Family, field: &str, text: &str) -> Result<(), String> {
    if Family::of(addr) == family {
        Ok(())
    } else {
        Err(bad(field, text, format!("an {family} address is expected")))
    }
}

fn optional_addr(text: &str, family: Family, field: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let addr: IfAddr = text.parse().map_err(|e| bad(field, text, e))?;
    family_of(addr.addr, family, field, text)?;
    Ok(Some(addr.addr))
}

fn ipip(text: &str) -> Result<Option<Ipv4Addr>, String> {
    let addr = optional_addr(text, Family::V4, "spec.bgp.ipv4IPIPTunnelAddr")?;
    Ok(addr.and_then(|a| match a {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    }))
}

fn optional_mac(text: &str, node: &NodeName, family: Family, field: &str) -> Result<MacAddr, String> {
    if text.is_empty() {
        Ok(vtep_mac(node, family))
    } else {
        text.parse().map_err(|e| bad(field, text, e))
    }
}

/// What a node tells about itself, and its fields that cannot be read: each counts as not there.
pub(crate) fn node(object: &Object<NodeSpec>) -> Result<(NodeFacts, Option<String>), String> {
    let name = NodeName::new(&object.metadata.name).map_err(|e| e.to_string())?;
    let spec = &object.spec;
    let bgp = spec.bgp.clone().unwrap_or_default();
    let mut faults = Faults::default();
    let own = |text: &str, family, field: &str| -> Result<Option<IfAddr>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let addr: IfAddr = text.parse().map_err(|e| bad(field, text, e))?;
        family_of(addr.addr, family, field, text)?;
        Ok(Some(addr))
    };
    let addr = PerFamily {
        v4: faults.of(own(&bgp.ipv4_address, Family::V4, "spec.bgp.ipv4Address")),
        v6: faults.of(own(&bgp.ipv6_address, Family::V6, "spec.bgp.ipv6Address")),
    };
    let ipip = faults.of(ipip(&bgp.ipv4_ipip_tunnel_addr));
    let (v4, v6) = (&spec.ipv4_vxlan_tunnel_addr, &spec.ipv6_vxlan_tunnel_addr);
    let tunnel = PerFamily {
        v4: faults.of(optional_addr(v4, Family::V4, "spec.ipv4VXLANTunnelAddr")),
        v6: faults.of(optional_addr(v6, Family::V6, "spec.ipv6VXLANTunnelAddr")),
    };
    let mut mac = |text: &str, family, field: &str| {
        let read = optional_mac(text, &name, family, field);
        // As if none was named: every node, and that one itself, thinks of the same.
        faults
            .of(read.map(Some))
            .unwrap_or_else(|| vtep_mac(&name, family))
    };
    let mac = PerFamily {
        v4: mac(&spec.vxlan_tunnel_mac_addr, Family::V4, "spec.vxlanTunnelMACAddr"),
        v6: mac(
            &spec.vxlan_tunnel_mac_addr_v6,
            Family::V6,
            "spec.vxlanTunnelMACAddrV6",
        ),
    };
    let host = Host {
        node: name,
        addr,
        ipip,
    };
    Ok((NodeFacts { host, tunnel, mac }, faults.told()))
}

/// What of an object cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    /// What was read, if it was.
    fn of<T>(&mut self, read: Result<Option<T>, String>) -> Option<T> {
        read.unwrap_or_else(|fault| {
            self.0.push(fault);
            None
        })
    }

    fn push(&mut self, fault: String) {
        self.0.push(fault);
    }

    /// What is wrong in one line; a block may have thousands of bad entries.
    pub(crate) fn told(&self) -> Option<String> {
        const NAMED: usize = 3;
        let named = self.0.iter().take(NAMED).cloned().collect::<Vec<_>>();
        let text = match self.0.len() {
            0 => return None,
            n if n > NAMED => format!("{}; and {} more", named.join("; "), n - NAMED),
            _ => named.join("; "),
        };
        Some(format!("{text} (the rest of it counts)"))
    }
}

/// The pool, and what of it cannot be done.
pub(crate) fn pool(object: &Object<IpPoolSpec>) -> Result<(Pool, Option<String>), String> {
    let spec = &object.spec;
    let cidr: Cidr = spec.cidr.parse().map_err(|e| bad("spec.cidr", &spec.cidr, e))?;
    let mut pool = Pool {
        cidr,
        nat_outgoing: spec.nat_outgoing,
        vxlan: spec.vxlan_mode.unwrap_or_default(),
        ipip: spec.ipip_mode.unwrap_or_default(),
    };
    let mut fault = None;
    if cidr.family() == Family::V6 && pool.ipip != EncapMode::Never {
        fault = Some(format!(
            "spec.ipipMode {:?}: IP-in-IP is for IPv4 pools only; it counts as Never for {cidr}",
            pool.ipip
        ));
        pool.ipip = EncapMode::Never;
    }
    Ok((pool, fault))
}

/// What an object claims, as far as it can be read, and what cannot.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    pub(crate) claims: Vec<(Cidr, ClaimKind, NodeName)>,
    pub(crate) faults: Faults,
}

impl Claimed {
    pub(crate) fn fault(&self) -> Option<String> {
        self.faults.told()
    }
}

/// The destinations that a block puts on nodes: the block itself on its owner, and each address that another node holds.
/// A bad entry costs its own route only.
pub(crate) fn block(object: &Object<IpamBlockSpec>) -> Result<Claimed, String> {
    let spec = &object.spec;
    let mut out = Claimed::default();
    if spec.deleted {
        return Ok(out);
    }
    let cidr: Cidr = spec.cidr.parse().map_err(|e| bad("cidr", &spec.cidr, e))?;
    let named = spec.affinity.as_deref().and_then(|a| a.strip_prefix("host:"));
    let owner = named.and_then(|name| match NodeName::new(name) {
        Ok(owner) => Some(owner),
        // As with a block of nobody each address is where its holder is.
        Err(e) => {
            out.faults.push(bad("affinity", name, e));
            None
        }
    });
    if let Some(owner) = &owner {
        out.claims.push((cidr, ClaimKind::Block, owner.clone()));
    }
    for (ordinal, index) in spec.allocations.iter().enumerate() {
        let Some(index) = *index else { continue };
        match holder(spec, cidr, ordinal, index) {
            Ok(Some((_, holder))) if Some(&holder) == owner.as_ref() => {}
            Ok(Some((dst, holder))) => out.claims.push((dst, ClaimKind::Borrowed, holder)),
            Ok(None) => {}
            Err(fault) => out.faults.push(fault),
        }
    }
    Ok(out)
}

/// The address of an entry, and the node that holds it if it says so.
fn holder(
    spec: &IpamBlockSpec,
    cidr: Cidr,
    ordinal: usize,
    index: usize,
) -> Result<Option<(Cidr, NodeName)>, String> {
    let addr = cidr.nth(ordinal as u128).ok_or_else(|| {
        let size = spec.allocations.len();
        format!("allocations[{ordinal}]: the block has no such address, and {size} entries")
    })?;
    let attribute = spec.attributes.get(index).ok_or_else(|| {
        let size = spec.attributes.len();
        format!("allocations[{ordinal}] ({addr}) is attribute {index}: there are {size}")
    })?;
    let Some(node) = attribute.secondary.get("node") else {
        return Ok(None);
    };
    let holder = NodeName::new(node)
        .map_err(|e| bad(&format!("attributes[{index}].secondary.node of {addr}"), node, e))?;
    Ok(Some((Cidr::host(addr), holder)))
}

/// A bad network costs its own route only.
pub(crate) fn workload(object: &Object<WorkloadEndpointSpec>) -> Result<Claimed, String> {
    let node = NodeName::new(&object.spec.node).map_err(|e| bad("spec.node", &object.spec.node, e))?;
    let mut out = Claimed::default();
    for text in &object.spec.ip_networks {
        match text.parse::<Cidr>() {
            Ok(c) => out.claims.push((c, ClaimKind::Workload, node.clone())),
            Err(e) => out.faults.push(bad("spec.ipNetworks", text, e)),
        }
    }
    Ok(out)
}

/// The MAC address of a node's VXLAN device when its Node object names none: locally administered, a function of the
/// node's name and the underlay's family, so that every node computes the same one.
#[must_use]
pub fn vtep_mac(node: &NodeName, family: Family) -> MacAddr {
    // FNV-1a: stable over versions and platforms, which the hashers of std do not promise.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in node.as_str().bytes().chain([family.number()]) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    MacAddr([0x66, a, b, c, d, e])
}
