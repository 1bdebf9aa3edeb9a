//! §3.10: what is not policy and decides all the same.

use std::net::Ipv4Addr;

use caracal_net::Proto;
use caracal_oracle::{OpenStack, Packet, ToHost, Trip};
use serde_json::{Value, json};

use super::{World, deny, incoming, outgoing, tcp, through, trip};

/// What the BGPConfiguration of a name says of services.
fn services(w: &mut World<'_>, name: &str, spec: &Value) {
    w.put("BGPConfiguration", name, spec.clone());
}

fn blocks(cidrs: &[&str]) -> Value {
    cidrs.iter().map(|c| json!({"cidr": c})).collect()
}

pub(super) fn what_is_forwarded_to_a_services_address_that_nobody_translated_is_stopped(w: &mut World<'_>) {
    let kinds = [
        "serviceClusterIPs",
        "serviceExternalIPs",
        "serviceLoadBalancerIPs",
    ];
    for kind in kinds {
        w.clear();
        let away = |dst: &str| trip(through("eth0", "eth1"), tcp("192.0.2.9", dst, 80));
        let away6 = |dst: &str| trip(through("eth0", "eth1"), tcp("2001:db8::9", dst, 80));
        assert!(w.passes(away("203.0.113.9")) && w.passes(away6("2001:db8:2::9")));
        services(
            w,
            "default",
            &json!({kind: blocks(&["203.0.113.8/29", "2001:db8:2::/64"])}),
        );
        assert!(!w.passes(away("203.0.113.9")), "{kind}");
        assert!(!w.passes(away6("2001:db8:2::9")), "{kind}");
        assert!(
            w.passes(away("203.0.113.7")) && w.passes(away6("2001:db8:2:1::9")),
            "{kind}: another range"
        );
        // From a workload it is the same, whatever its policy allows; and from the host's other interface.
        assert!(!w.passes(trip(through("cali0", "eth1"), tcp("10.0.0.1", "203.0.113.9", 80))));
        // A service whose endpoints are known is translated before anybody looks.
        let translated = Trip {
            original: Some(("203.0.113.9".parse().unwrap(), 443)),
            ..trip(through("eth0", "cali0"), tcp("192.0.2.9", "10.0.0.1", 80))
        };
        assert!(w.passes(translated), "{kind}");
        // The host's own packets, and those to it, do not come back.
        assert!(w.passes(trip(outgoing("eth1"), tcp("172.16.1.1", "203.0.113.9", 80))));
        services(
            w,
            "default",
            &json!({kind: blocks(&["172.16.0.0/24", "10.0.0.0/8"])}),
        );
        assert!(w.passes(trip(incoming("eth0"), tcp("192.0.2.9", "172.16.0.1", 80))));
        // Whoever has the address: what is forwarded to it is stopped.
        assert!(!w.reached("192.0.2.9", 80), "{kind}");
        w.case.host.bears_service_loops = true;
        assert!(w.reached("192.0.2.9", 80), "{kind}: prevention is switched off");
    }
}

pub(super) fn service_ranges_are_those_of_the_bgp_configuration_for_all_nodes(w: &mut World<'_>) {
    w.clear();
    let away = || trip(through("eth0", "eth1"), tcp("192.0.2.9", "203.0.113.9", 80));
    let all = json!({"serviceClusterIPs": blocks(&["203.0.113.0/24"])});
    for name in ["node.here", "other"] {
        services(w, name, &all);
        assert!(w.passes(away()), "{name}");
    }
    services(w, "default", &json!({"serviceClusterIPs": blocks(&[""])}));
    assert!(w.passes(away()), "a block without a range");
    services(w, "default", &all);
    assert!(!w.passes(away()));
    w.gone(caracal_api::Kind::BgpConfiguration, "default");
    assert!(w.passes(away()));
}

pub(super) fn service_loops_end_behind_policy_that_allows_and_before_tracking_too(w: &mut World<'_>) {
    w.clear();
    let spec = json!({"serviceExternalIPs": blocks(&["203.0.113.0/24"])});
    services(w, "default", &spec);
    let away = || trip(through("eth0", "eth1"), tcp("192.0.2.9", "203.0.113.9", 80));
    let rules = json!([{"action": "Allow"}]);
    for kind in ["applyOnForward", "preDNAT", "doNotTrack"] {
        w.gone(caracal_api::Kind::GlobalNetworkPolicy, "p");
        w.host("h", "eth0", &[]);
        let mut policy = json!({"types": ["Ingress"], "ingress": rules, "applyOnForward": true});
        policy[kind] = true.into();
        w.policy("p", policy);
        assert!(!w.passes(away()), "{kind}");
    }
}

pub(super) fn guests_of_openstack_ask_their_host_for_dhcp_dns_and_metadata_whatever_policy_says(
    w: &mut World<'_>,
) {
    let udp = |src: &str, dst: &str, sport, dport| Packet {
        proto: Proto::UDP,
        sport,
        dport,
        ..tcp(src, dst, 0)
    };
    let (pod4, pod6) = (("10.0.0.1", "172.16.0.1"), ("fd00::1", "fd16:1::1"));
    let metadata = (Ipv4Addr::new(172, 16, 0, 1), 8775);
    for openstack in [None, Some(None), Some(Some(metadata))] {
        w.clear();
        w.case.host.to_host = ToHost::Drop;
        w.case.host.openstack = openstack.map(|metadata| OpenStack { metadata });
        w.policy(
            "closed",
            json!({"selector": "app == 'pod'", "types": ["Egress"], "egress": [{"action": "Deny"}]}),
        );
        let here = openstack.is_some();
        let with_metadata = openstack.flatten().is_some();
        let mut heard = |packet| w.passes(trip(incoming("cali0"), packet));
        for ((src, dst), client, server) in [(pod4, 68, 67), (pod6, 546, 547)] {
            assert_eq!(heard(udp(src, dst, client, server)), here, "DHCP");
            assert_eq!(heard(udp(src, dst, 40000, 53)), here, "DNS");
            assert!(!heard(udp(src, dst, server, client)) && !heard(udp(src, dst, 40000, server)));
            assert!(!heard(tcp(src, dst, 53)), "DNS over TCP");
        }
        assert_eq!(heard(tcp(pod4.0, "172.16.0.1", 8775)), with_metadata);
        assert!(!heard(tcp(pod4.0, "172.16.1.1", 8775)), "another address");
        assert!(!heard(tcp(pod4.0, "172.16.0.1", 80)), "another port");
        assert!(!heard(udp(pod4.0, "172.16.0.1", 40000, 8775)), "another protocol");
        // What goes through the host is for policy, as ever.
        let away = udp("10.0.0.1", "192.0.2.9", 40000, 53);
        assert!(!w.passes(trip(through("cali0", "eth0"), away)));
        w.policy(
            "closed",
            json!({"selector": "app == 'pod'", "types": ["Egress"], "egress": deny(80)}),
        );
        assert!(
            !w.passes(trip(incoming("cali0"), tcp(pod4.0, pod4.1, 81))),
            "the action"
        );
    }
}
