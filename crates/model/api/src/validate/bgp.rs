use std::net::IpAddr;

use caracal_net::Family;

use crate::{
    BgpConfigurationSpec, BgpFilterRule, BgpFilterSpec, BgpPassword, BgpPeerSpec, FilterAction,
    FilterOperation,
    validate::{
        check::{Check, Range},
        text,
    },
};

/// The kernel's highest metric but one, which stands for "none".
const MAX_PRIORITY: i64 = 2_147_483_646;
const LOG_SEVERITIES: &[&str] = &["Trace", "Debug", "Info", "Warning", "Error", "Fatal"];
const COMMUNITY: &str =
    "is no community: aa:nn with numbers up to 65535, or aa:nn:mm with numbers up to 4294967295";

pub(super) fn configuration(c: &mut Check, spec: &BgpConfigurationSpec) {
    let severity = &spec.log_severity_screen;
    if !severity.is_empty() && !LOG_SEVERITIES.iter().any(|s| s.eq_ignore_ascii_case(severity)) {
        c.one_of("logSeverityScreen", severity, LOG_SEVERITIES);
    }
    if spec.node_to_node_mesh_enabled == Some(false) {
        for (key, absent) in [
            ("nodeMeshPassword", spec.node_mesh_password.is_none()),
            (
                "nodeMeshMaxRestartTime",
                spec.node_mesh_max_restart_time.is_none(),
            ),
        ] {
            c.require(
                absent,
                key,
                "",
                "cannot be set while nodeToNodeMeshEnabled is false",
            );
        }
    }
    password(c, "nodeMeshPassword", spec.node_mesh_password.as_ref());
    for (key, blocks) in [
        ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
        ("serviceExternalIPs", &spec.service_external_ips),
        ("serviceClusterIPs", &spec.service_cluster_ips),
    ] {
        c.each(key, blocks, |c, b| c.optional_cidr("cidr", &b.cidr, None));
    }
    communities(c, spec);
    if let Some(port) = spec.listen_port {
        c.bounds("listenPort", port.into(), 1, 65535);
    }
    c.unique("ignoredInterfaces", &spec.ignored_interfaces);
    c.each("ignoredInterfaces", &spec.ignored_interfaces, |c, i| {
        if !text::is_made_of(i, "_.*-", 15) {
            c.fail_allowed(
                i,
                "is no interface",
                "1 to 15 of letters, digits, '_', '.', '-' and '*' for any",
            );
        }
    });
    c.optional_ip(
        "localWorkloadPeeringIPV4",
        &spec.local_workload_peering_ipv4,
        Some(Family::V4),
    );
    c.optional_ip(
        "localWorkloadPeeringIPV6",
        &spec.local_workload_peering_ipv6,
        Some(Family::V6),
    );
    for (key, priority) in [
        ("ipv4NormalRoutePriority", spec.ipv4_normal_route_priority),
        ("ipv6NormalRoutePriority", spec.ipv6_normal_route_priority),
    ] {
        if let Some(p) = priority {
            c.bounds(key, p, 1, MAX_PRIORITY);
        }
    }
}

fn communities(c: &mut Check, spec: &BgpConfigurationSpec) {
    c.count("communities", spec.communities.len(), 500);
    c.count("prefixAdvertisements", spec.prefix_advertisements.len(), 500);
    c.each("communities", &spec.communities, |c, k| {
        c.require(is_community(&k.value), "value", &k.value, COMMUNITY);
        c.require(
            k.name.len() <= 253,
            "name",
            &k.name,
            "is longer than 253 characters",
        );
    });
    let used = spec.communities.is_empty() || !spec.prefix_advertisements.is_empty();
    c.require(
        used,
        "communities",
        "",
        "are not used by any prefixAdvertisements",
    );
    c.each("prefixAdvertisements", &spec.prefix_advertisements, |c, p| {
        c.field("cidr", |c| c.cidr(&p.cidr, Range::Loose));
        c.count("communities", p.communities.len(), 50);
        c.each("communities", &p.communities, |c, k| {
            let named = spec.communities.iter().any(|n| n.name == *k);
            if !named && !is_community(k) {
                c.fail(
                    k,
                    "is neither a community as aa:nn or aa:nn:mm nor the name of one in communities",
                );
            }
        });
    });
}

fn is_community(text: &str) -> bool {
    let digits = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split(':').collect();
    parts.iter().all(|p| digits(p))
        && match parts.len() {
            2 => parts.iter().all(|p| p.parse::<u16>().is_ok()),
            3 => parts.iter().all(|p| p.parse::<u32>().is_ok()),
            _ => false,
        }
}

fn password(c: &mut Check, key: &str, password: Option<&BgpPassword>) {
    if let Some(secret) = password.and_then(|p| p.secret_key_ref.as_ref()) {
        c.field(key, |c| {
            c.field("secretKeyRef", |c| {
                c.require(
                    !secret.key.is_empty(),
                    "key",
                    "",
                    "must name the key in the secret",
                );
            });
        });
    }
}

pub(super) fn peer(c: &mut Check, spec: &BgpPeerSpec) {
    let (ip, selector, local) = (&spec.peer_ip, &spec.peer_selector, &spec.local_workload_selector);
    let as_number = spec.as_number.map_or(0, |n| n.0);
    c.require(
        spec.node.is_empty() || spec.node_selector.is_empty(),
        "node",
        &spec.node,
        "cannot be with nodeSelector",
    );
    c.require(
        ip.is_empty() || selector.is_empty(),
        "peerIP",
        ip,
        "cannot be with peerSelector",
    );
    c.require(
        as_number == 0 || selector.is_empty(),
        "asNumber",
        as_number,
        "cannot be with peerSelector",
    );
    if !local.is_empty() {
        c.require(
            ip.is_empty(),
            "peerIP",
            ip,
            "cannot be with localWorkloadSelector",
        );
        c.require(
            selector.is_empty(),
            "peerSelector",
            selector,
            "cannot be with localWorkloadSelector",
        );
        c.require(
            as_number != 0,
            "asNumber",
            "",
            "is needed with localWorkloadSelector",
        );
    }
    let next_hop = !spec.keep_original_next_hop || spec.next_hop_mode.is_none();
    c.require(
        next_hop,
        "keepOriginalNextHop",
        "",
        "cannot be with nextHopMode, which replaces it",
    );
    c.optional_name("node", &spec.node);
    for (key, text) in [
        ("nodeSelector", &spec.node_selector),
        ("peerSelector", selector),
        ("localWorkloadSelector", local),
    ] {
        c.plain_selector(key, text);
    }
    let peer = peer_address(ip);
    if !ip.is_empty() && peer.is_none() {
        c.field("peerIP", |c| {
            c.fail_allowed(ip, "is no peer", "an address, 192.0.2.1:179 or [2001:db8::1]:179")
        });
    }
    if !spec.reachable_by.is_empty() {
        let gateway = c.field("reachableBy", |c| c.ip(&spec.reachable_by, None));
        c.require(
            !ip.is_empty(),
            "reachableBy",
            &spec.reachable_by,
            "is only possible with peerIP",
        );
        if let (Some(gateway), Some(peer)) = (gateway, peer)
            && Family::of(gateway) != Family::of(peer)
        {
            c.fail_at("reachableBy", gateway, "is of another family than peerIP");
        }
    }
    if let Some(n) = spec.num_allowed_local_as_numbers {
        c.bounds("numAllowedLocalASNumbers", n.into(), 0, i64::from(i32::MAX));
    }
    password(c, "password", spec.password.as_ref());
    c.each("filters", &spec.filters, |c, f| c.name(f));
}

/// The address of a peer, whose port may follow.
fn peer_address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let socket: std::net::SocketAddr = text.parse().ok()?;
    (socket.port() > 0).then(|| socket.ip())
}

pub(super) fn filter(c: &mut Check, spec: &BgpFilterSpec) {
    for (key, rules, family) in [
        ("exportV4", &spec.export_v4, Family::V4),
        ("importV4", &spec.import_v4, Family::V4),
        ("exportV6", &spec.export_v6, Family::V6),
        ("importV6", &spec.import_v6, Family::V6),
    ] {
        c.each(key, rules, |c, r| filter_rule(c, r, family));
    }
}

fn filter_rule(c: &mut Check, r: &BgpFilterRule, family: Family) {
    let has_cidr = !r.cidr.is_empty();
    c.optional_cidr("cidr", &r.cidr, Some(family));
    c.require(
        has_cidr == r.match_operator.is_some(),
        "matchOperator",
        "",
        "and cidr need each other",
    );
    if let Some(length) = &r.prefix_length {
        c.require(has_cidr, "prefixLength", "", "needs cidr");
        c.field("prefixLength", |c| {
            for (key, n) in [("min", length.min), ("max", length.max)] {
                if let Some(n) = n {
                    c.bounds(key, n.into(), 0, family.bits().into());
                }
            }
            if let (Some(min), Some(max)) = (length.min, length.max)
                && min > max
            {
                c.fail_at("min", min, format!("is above max, which is {max}"));
            }
        });
    }
    let interface = &r.interface;
    let good = interface.is_empty() || text::is_made_of(interface, "_.*-", 15);
    c.require(
        good,
        "interface",
        interface,
        "is no interface: 1 to 15 of letters, digits, '_', '.', '-', '*'",
    );
    if let Some(communities) = &r.communities {
        c.field("communities", |c| {
            c.require(
                communities.values.len() == 1,
                "values",
                "",
                "must have exactly one value",
            );
            c.each("values", &communities.values, |c, v| {
                if !is_community(v) {
                    c.fail(v, COMMUNITY);
                }
            });
        });
    }
    if let Some(p) = r.priority {
        c.bounds("priority", p, 1, MAX_PRIORITY);
    }
    let accepts = r.action == FilterAction::Accept;
    c.require(
        accepts || r.operations.is_empty(),
        "operations",
        "",
        "are only possible with action Accept",
    );
    c.count("operations", r.operations.len(), 10);
    c.each("operations", &r.operations, operation);
}

fn operation(c: &mut Check, o: &FilterOperation) {
    let set = usize::from(o.add_community.is_some())
        + usize::from(o.prepend_as_path.is_some())
        + usize::from(o.set_priority.is_some());
    if set != 1 {
        c.fail(
            "",
            "needs exactly one of addCommunity, prependASPath and setPriority",
        );
    }
    if let Some(a) = &o.add_community {
        c.field("addCommunity", |c| {
            c.require(is_community(&a.value), "value", &a.value, COMMUNITY)
        });
    }
    if let Some(p) = &o.prepend_as_path {
        c.field("prependASPath", |c| {
            c.require(
                (1..=10).contains(&p.prefix.len()),
                "prefix",
                "",
                "must have 1 to 10 numbers",
            );
        });
    }
    if let Some(s) = &o.set_priority {
        c.field("setPriority", |c| c.bounds("value", s.value, 1, MAX_PRIORITY));
    }
}
