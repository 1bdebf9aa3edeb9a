use std::net::IpAddr;

use caracal_desired::{EncapType, RouteInfo, Vtep, WorkloadEndpoint};
use caracal_net::{Family, PerFamily};

use crate::model::{Route, RouteKey, Target};

/// What routes between nodes have in common on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterContext {
    /// The table they go to.
    pub table: u32,
    /// Their metric (Calico's `IPv4NormalRoutePriority`, `IPv6NormalRoutePriority`).
    pub metric: PerFamily<u32>,
    /// Their protocol number.
    pub protocol: u8,
    /// The VXLAN devices.
    pub vxlan: PerFamily<String>,
    /// The device for IP-in-IP.
    pub ipip: String,
    /// The link with this node's own address, once known.
    pub uplink: PerFamily<Option<String>>,
    /// What becomes of packets to free addresses of this node's blocks: Calico's `ServiceLoopPrevention` aside,
    /// they must not leave the node.
    pub free_addresses: Target,
    /// Whether routes of pools with IP-in-IP are ours to write, and not a BGP daemon's.
    pub ipip_routes: bool,
    /// Whether routes of pools without encapsulation are ours to write, too, and not a BGP daemon's.
    pub unencapsulated: bool,
}

/// The route for a destination that the brain knows; `None` if it needs none, or is not ours to write, or if
/// something it needs (the far node's tunnel end or address, our uplink) is not known yet.
pub fn cluster_route(
    info: &RouteInfo,
    vtep: Option<&Vtep>,
    context: &ClusterContext,
) -> Option<(RouteKey, Route)> {
    let family = info.dst.family();
    let flags = info.flags;
    let target = if info.local_block && flags.local_workload {
        context.free_addresses.clone()
    } else if flags.remote_workload || (flags.remote_tunnel && info.borrowed) {
        remote_target(info, vtep, context, family)?
    } else {
        return None;
    };
    let key = RouteKey::new(context.table, info.dst, *context.metric.get(family));
    Some((key, Route::new(target, context.protocol)))
}

fn remote_target(
    info: &RouteInfo,
    vtep: Option<&Vtep>,
    context: &ClusterContext,
    family: Family,
) -> Option<Target> {
    match info.pool {
        EncapType::Vxlan if info.encap => Some(Target::Via {
            link: context.vxlan.get(family).clone(),
            gateway: (*vtep?.tunnel_addr.get(family))?,
            onlink: true,
        }),
        EncapType::NoEncap if !context.unencapsulated => None,
        EncapType::Ipip if !context.ipip_routes => None,
        // The kernel takes the next hop for the address of the outer packet.
        EncapType::Ipip if info.encap => Some(Target::Via {
            link: context.ipip.clone(),
            gateway: info.node_ip.filter(IpAddr::is_ipv4)?,
            onlink: true,
        }),
        EncapType::Vxlan | EncapType::NoEncap | EncapType::Ipip if info.same_subnet => Some(Target::Via {
            link: context.uplink.get(family).clone()?,
            gateway: info.node_ip?,
            onlink: true,
        }),
        _ => None,
    }
}

/// The routes to a workload of this node: one per address, straight out of its link.
pub fn workload_routes(
    endpoint: &WorkloadEndpoint,
    table: u32,
    metric: PerFamily<u32>,
    protocol: u8,
) -> impl Iterator<Item = (RouteKey, Route)> {
    let addresses = endpoint.addresses.v4.iter().chain(&endpoint.addresses.v6);
    addresses.map(move |dst| {
        let key = RouteKey::new(table, *dst, *metric.get(dst.family()));
        (
            key,
            Route::new(Target::Link(endpoint.interface.to_string()), protocol),
        )
    })
}

#[cfg(test)]
mod tests {
    use caracal_desired::RouteFlags;
    use caracal_net::Cidr;

    use super::*;
    use crate::model::{MAIN_TABLE, PROTOCOL_CLUSTER};

    fn context() -> ClusterContext {
        ClusterContext {
            table: MAIN_TABLE,
            metric: PerFamily { v4: 1024, v6: 1024 },
            protocol: PROTOCOL_CLUSTER,
            vxlan: PerFamily {
                v4: "vxlan.calico".into(),
                v6: "vxlan-v6.calico".into(),
            },
            ipip: "tunl0".into(),
            uplink: PerFamily {
                v4: Some("eth0".into()),
                v6: None,
            },
            free_addresses: Target::Blackhole,
            ipip_routes: true,
            unencapsulated: false,
        }
    }

    fn info(dst: &str, pool: EncapType, same_subnet: bool, encap: bool) -> RouteInfo {
        RouteInfo {
            dst: dst.parse().unwrap(),
            flags: RouteFlags {
                remote_workload: true,
                ..RouteFlags::default()
            },
            pool,
            nat_outgoing: false,
            node: Some("node2".parse().unwrap()),
            node_ip: Some(
                if dst.contains(':') {
                    "fd00::2"
                } else {
                    "172.30.0.2"
                }
                .parse()
                .unwrap(),
            ),
            same_subnet,
            encap,
            borrowed: false,
            local_block: false,
        }
    }

    fn vtep() -> Vtep {
        Vtep {
            node: "node2".parse().unwrap(),
            mac: PerFamily::default(),
            tunnel_addr: PerFamily {
                v4: Some("10.65.2.1".parse().unwrap()),
                v6: Some("fd65:2::1".parse().unwrap()),
            },
            underlay: PerFamily::default(),
        }
    }

    fn shown(info: &RouteInfo, vtep: Option<&Vtep>, context: &ClusterContext) -> Option<String> {
        cluster_route(info, vtep, context).map(|(key, route)| format!("{} {route}", key.dst))
    }

    #[test]
    fn ip_in_ip_leads_to_the_node_by_its_device() {
        let context = context();
        let far = info("10.65.2.0/26", EncapType::Ipip, false, true);
        assert_eq!(
            shown(&far, None, &context).as_deref(),
            Some("10.65.2.0/26 via 172.30.0.2 dev tunl0 onlink")
        );
        // A workload or the tunnel end of a node that borrowed the address.
        let tunnel = RouteFlags {
            remote_tunnel: true,
            ..RouteFlags::default()
        };
        let both = RouteFlags {
            remote_workload: true,
            ..tunnel
        };
        for (flags, borrowed, there) in [
            (tunnel, false, false),
            (tunnel, true, true),
            (both, true, true),
            (both, false, true),
        ] {
            let one = RouteInfo {
                flags,
                borrowed,
                ..info("10.65.1.7/32", EncapType::Ipip, false, true)
            };
            let route = shown(&one, None, &context);
            assert_eq!(
                route.is_some_and(|r| r == "10.65.1.7/32 via 172.30.0.2 dev tunl0 onlink"),
                there,
                "{flags:?}"
            );
        }
        let near = info("10.65.2.0/26", EncapType::Ipip, true, false);
        assert_eq!(
            shown(&near, None, &context).as_deref(),
            Some("10.65.2.0/26 via 172.30.0.2 dev eth0 onlink")
        );
        let unknown = RouteInfo {
            node_ip: None,
            ..far.clone()
        };
        assert_eq!(shown(&unknown, None, &context), None, "where is it?");
        let theirs = ClusterContext {
            ipip_routes: false,
            unencapsulated: true,
            ..context
        };
        assert_eq!(shown(&far, None, &theirs), None, "a BGP daemon's");
        assert_eq!(shown(&near, None, &theirs), None, "a BGP daemon's");
    }

    #[test]
    fn each_sort_of_destination_gets_its_route() {
        let (context, vtep) = (context(), vtep());
        let v4 = info("10.65.2.0/26", EncapType::Vxlan, false, true);
        let v6 = info("fd65:2::/122", EncapType::Vxlan, false, true);
        assert_eq!(
            shown(&v4, Some(&vtep), &context).as_deref(),
            Some("10.65.2.0/26 via 10.65.2.1 dev vxlan.calico onlink")
        );
        assert_eq!(
            shown(&v6, Some(&vtep), &context).as_deref(),
            Some("fd65:2::/122 via fd65:2::1 dev vxlan-v6.calico onlink")
        );
        assert_eq!(
            shown(&v4, None, &context),
            None,
            "the tunnel end is not known yet"
        );
        let near = info("10.65.2.0/26", EncapType::Vxlan, true, false);
        assert_eq!(
            shown(&near, None, &context).as_deref(),
            Some("10.65.2.0/26 via 172.30.0.2 dev eth0 onlink")
        );
        let near_v6 = info("fd65:2::/122", EncapType::Vxlan, true, false);
        assert_eq!(
            shown(&near_v6, None, &context),
            None,
            "the uplink is not known yet"
        );
        let bare = info("10.65.2.0/26", EncapType::NoEncap, true, false);
        assert_eq!(shown(&bare, None, &context), None, "a BGP daemon's");
        let ours = ClusterContext {
            unencapsulated: true,
            ..context.clone()
        };
        assert!(shown(&bare, None, &ours).is_some());
        let far = info("10.65.2.0/26", EncapType::NoEncap, false, false);
        assert_eq!(shown(&far, None, &ours), None, "nobody on the way knows the pods");
        let block = RouteInfo {
            flags: RouteFlags {
                local_workload: true,
                ..RouteFlags::default()
            },
            local_block: true,
            ..v4
        };
        assert_eq!(
            shown(&block, None, &context).as_deref(),
            Some("10.65.2.0/26 blackhole")
        );
        let pod = RouteInfo {
            local_block: false,
            dst: Cidr::host("10.65.2.7".parse().unwrap()),
            ..block
        };
        assert_eq!(shown(&pod, None, &context), None, "its endpoint brings its route");
    }
}
