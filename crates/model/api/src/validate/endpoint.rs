use caracal_net::{Cidr, Family, IfAddr, MacAddr, Proto};

use crate::{
    EndpointPort, HostEndpointSpec, NodeSpec, Protocol, WorkloadEndpointSpec, WorkloadPort,
    validate::{
        check::{Check, Range},
        rule, text,
    },
};

const INTERFACE: &str = "is no interface: 1 to 15 of letters, digits, '_', '.', '-'";
/// What a node's address can be.
const ADDRESS_TYPES: &[&str] = &["CalicoNodeIP", "InternalIP", "ExternalIP"];

pub(super) fn host(c: &mut Check, spec: &HostEndpointSpec) {
    if spec.node.is_empty() {
        c.fail_at("node", "", "a host endpoint needs its node");
    } else {
        c.field("node", |c| c.name(&spec.node));
    }
    let name = &spec.interface_name;
    if name.is_empty() && spec.expected_ips.is_empty() {
        c.fail_at(
            "interfaceName",
            "",
            "needs interfaceName, expectedIPs or both to find the interface",
        );
    }
    if !(name.is_empty() || name == "*" || text::is_interface(name)) {
        c.field("interfaceName", |c| {
            c.fail_allowed(name, INTERFACE, "or * for all")
        });
    }
    c.unique("expectedIPs", &spec.expected_ips);
    c.each("expectedIPs", &spec.expected_ips, |c, ip| {
        c.ip(ip, None);
    });
    profiles(c, &spec.profiles);
    c.each("ports", &spec.ports, |c, p: &EndpointPort| {
        if !text::is_service_name(&p.name) {
            c.field("name", |c| {
                c.fail_allowed(
                    &p.name,
                    "is not the name of a port",
                    "1 to 15 of a-z, 0-9 and '-'",
                )
            });
        }
        transport(c, &p.protocol);
        c.bounds("port", p.port.into(), 1, 65535);
    });
}

pub(super) fn workload(c: &mut Check, spec: &WorkloadEndpointSpec) {
    for (key, name) in [
        ("orchestrator", &spec.orchestrator),
        ("workload", &spec.workload),
        ("node", &spec.node),
        ("pod", &spec.pod),
        ("endpoint", &spec.endpoint),
    ] {
        c.optional_name(key, name);
    }
    let id = &spec.container_id;
    c.require(
        id.is_empty() || text::is_made_of(id, "-", 253),
        "containerID",
        id,
        "is not a container's id",
    );
    let networks = networks(c, &spec.ip_networks);
    c.each("ipNATs", &spec.ip_nats, |c, nat| {
        let internal = c.field("internalIP", |c| c.ip(&nat.internal_ip, None));
        let external = c.field("externalIP", |c| c.ip(&nat.external_ip, None));
        if let (Some(internal), Some(external)) = (internal, external) {
            if Family::of(internal) != Family::of(external) {
                c.fail_at("externalIP", external, "is of another family than internalIP");
            }
            if !networks.iter().any(|n| n.contains(internal)) {
                c.fail_at("internalIP", internal, "is not among ipNetworks");
            }
        }
    });
    c.optional_ip("ipv4Gateway", &spec.ipv4_gateway, Some(Family::V4));
    c.optional_ip("ipv6Gateway", &spec.ipv6_gateway, Some(Family::V6));
    profiles(c, &spec.profiles);
    let name = &spec.interface_name;
    c.require(
        name.is_empty() || text::is_interface(name),
        "interfaceName",
        name,
        INTERFACE,
    );
    let mac = &spec.mac;
    c.require(
        mac.is_empty() || mac.parse::<MacAddr>().is_ok(),
        "mac",
        mac,
        "is no MAC address",
    );
    c.each("ports", &spec.ports, |c, p: &WorkloadPort| {
        transport(c, &p.protocol);
        c.bounds("port", p.port.into(), 1, 65535);
        c.require(
            !p.name.is_empty() || p.host_port != 0,
            "name",
            "",
            "needs a name or a hostPort",
        );
    });
    c.each(
        "allowSpoofedSourcePrefixes",
        &spec.allow_spoofed_source_prefixes,
        |c, p| {
            c.cidr(p, Range::Loose);
        },
    );
}

/// The addresses of an endpoint: ranges are not possible.
fn networks(c: &mut Check, texts: &[String]) -> Vec<Cidr> {
    let mut out = Vec::new();
    c.each("ipNetworks", texts, |c, text| match c.cidr(text, Range::Loose) {
        Some(cidr) if cidr.is_host() => out.push(cidr),
        Some(_) => c.fail(text, "has more than one address"),
        None => {}
    });
    out
}

fn profiles(c: &mut Check, profiles: &[String]) {
    c.unique("profiles", profiles);
    c.each("profiles", profiles, |c, p| c.name(p));
}

fn transport(c: &mut Check, protocol: &Protocol) {
    c.field("protocol", |c| {
        rule::protocol(c, protocol);
        if !matches!(protocol.proto(), Some(Proto::TCP | Proto::UDP | Proto::SCTP)) {
            c.fail_allowed(protocol, "has no ports", "TCP, UDP, SCTP");
        }
    });
}

pub(super) fn node(c: &mut Check, spec: &NodeSpec) {
    if let Some(bgp) = &spec.bgp {
        c.field("bgp", |c| {
            if *bgp == crate::NodeBgpSpec::default() {
                c.fail("", "is empty: leave it out");
            }
            c.optional_cidr("ipv4Address", &bgp.ipv4_address, Some(Family::V4));
            c.optional_cidr("ipv6Address", &bgp.ipv6_address, Some(Family::V6));
            c.optional_ip("ipv4IPIPTunnelAddr", &bgp.ipv4_ipip_tunnel_addr, Some(Family::V4));
            c.optional_ip(
                "routeReflectorClusterID",
                &bgp.route_reflector_cluster_id,
                Some(Family::V4),
            );
        });
    }
    c.optional_ip(
        "ipv4VXLANTunnelAddr",
        &spec.ipv4_vxlan_tunnel_addr,
        Some(Family::V4),
    );
    c.optional_ip(
        "ipv6VXLANTunnelAddr",
        &spec.ipv6_vxlan_tunnel_addr,
        Some(Family::V6),
    );
    for (key, mac) in [
        ("vxlanTunnelMACAddr", &spec.vxlan_tunnel_mac_addr),
        ("vxlanTunnelMACAddrV6", &spec.vxlan_tunnel_mac_addr_v6),
    ] {
        c.require(
            mac.is_empty() || mac.parse::<MacAddr>().is_ok(),
            key,
            mac,
            "is no MAC address",
        );
    }
    c.each("orchRefs", &spec.orch_refs, |c, r| {
        c.require(!r.orchestrator.is_empty(), "orchestrator", "", "must be given");
    });
    if let Some(wg) = &spec.wireguard {
        c.field("wireguard", |c| {
            c.optional_ip(
                "interfaceIPv4Address",
                &wg.interface_ipv4_address,
                Some(Family::V4),
            );
            c.optional_ip(
                "interfaceIPv6Address",
                &wg.interface_ipv6_address,
                Some(Family::V6),
            );
        });
    }
    c.each("addresses", &spec.addresses, |c, a| {
        let good = a.address.parse::<IfAddr>().is_ok();
        c.require(good, "address", &a.address, "is no address");
        if !a.address_type.is_empty() {
            c.one_of("type", &a.address_type, ADDRESS_TYPES);
        }
    });
}
