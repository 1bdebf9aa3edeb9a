//! §3.9 and §3.10: host endpoints, and the way of a packet.

use caracal_net::Proto;
use caracal_oracle::{Packet, ToHost, Trip};
use caracal_policy_fuzz::NODE;
use serde_json::json;

use super::{World, allow, deny, incoming, outgoing, tcp, through, trip};

pub(super) fn an_endpoint_with_a_name_is_found_by_the_name_only_and_one_without_by_any_address(
    w: &mut World<'_>,
) {
    w.clear();
    w.host("named", "eth0", &["172.16.1.1"]);
    assert!(!w.enters("eth0", 80), "no policy, no profile");
    assert!(w.enters("eth1", 80), "its address does not count");
    w.clear();
    w.host("found", "", &["203.0.113.1", "fd16:1::1"]);
    assert!(!w.enters("eth1", 80) && w.enters("eth0", 80));
}

pub(super) fn of_several_endpoints_the_first_by_name_has_the_interface_however_it_is_found(
    w: &mut World<'_>,
) {
    w.clear();
    w.host("b-named", "eth0", &[])
        .host("a-found", "", &["172.16.0.1"]);
    w.policy(
        "p",
        json!({"selector": "host == 'a-found'", "ingress": allow(80)}),
    );
    assert!(w.enters("eth0", 80));
    w.policy(
        "p",
        json!({"selector": "host == 'b-named'", "ingress": allow(80)}),
    );
    assert!(!w.enters("eth0", 80));
}

pub(super) fn the_endpoint_for_all_interfaces_is_for_those_that_have_none(w: &mut World<'_>) {
    w.clear();
    w.host("a-all", "*", &[]).host("b", "eth0", &[]);
    w.policy("p", json!({"selector": "host == 'b'", "ingress": allow(80)}));
    assert!(w.enters("eth0", 80) && !w.enters("eth1", 80));
    w.policy("p", json!({"selector": "host == 'a-all'", "ingress": allow(80)}));
    assert!(!w.enters("eth0", 80) && w.enters("eth1", 80));
}

pub(super) fn the_directions_are_those_of_the_interface(w: &mut World<'_>) {
    w.clear();
    w.host("h", "eth0", &[]);
    w.policy("p", json!({"ingress": allow(80), "egress": allow(53)}));
    assert!(w.enters("eth0", 80) && !w.enters("eth0", 53));
    assert!(w.leaves("eth0", 53) && !w.leaves("eth0", 80));
}

pub(super) fn without_policy_and_profile_only_failsafe_ports_are_open_and_the_default_profile_opens_all(
    w: &mut World<'_>,
) {
    w.clear();
    w.host("h", "eth0", &[]).failsafe(Proto::TCP, 22, None);
    assert!(w.enters("eth0", 22) && w.leaves("eth0", 22));
    assert!(!w.enters("eth0", 80) && !w.leaves("eth0", 80));
    let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["projectcalico-default-allow"]});
    w.put("HostEndpoint", "h", spec);
    assert!(w.enters("eth0", 80) && w.leaves("eth0", 80));
}

pub(super) fn forwarded_traffic_is_governed_only_by_policy_that_asks_for_it(w: &mut World<'_>) {
    w.clear();
    w.host("h", "eth0", &[]);
    w.policy("p", json!({"ingress": deny(80), "egress": deny(80)}));
    assert!(w.crosses("eth0", "eth1", 80), "neither policy nor its end");
    w.policy(
        "p",
        json!({"ingress": deny(80), "egress": deny(80), "applyOnForward": true}),
    );
    assert!(!w.crosses("eth0", "eth1", 80) && !w.crosses("eth1", "eth0", 80));
    assert!(!w.crosses("eth0", "eth1", 81), "the end of the tier");
    assert!(!w.enters("eth0", 80), "it governs the host's own traffic too");
}

pub(super) fn forward_policy_of_one_direction_leaves_the_other_alone_and_asks_no_profile(w: &mut World<'_>) {
    w.clear();
    w.host("h", "eth0", &[]);
    w.policy(
        "p",
        json!({"types": ["Ingress"], "ingress": allow(80), "applyOnForward": true}),
    );
    assert!(w.crosses("eth0", "eth1", 80) && !w.crosses("eth0", "eth1", 81));
    assert!(w.crosses("eth1", "eth0", 81), "nothing for egress");
    w.put("Tier", "default", json!({"order": 1e6, "defaultAction": "Deny"}));
    w.put("Tier", "passing", json!({"order": 1, "defaultAction": "Pass"}));
    w.policy(
        "p",
        json!({"tier": "passing", "types": ["Ingress"], "applyOnForward": true}),
    );
    assert!(
        w.crosses("eth0", "eth1", 81),
        "no profile is asked, so none denies"
    );
    assert!(!w.enters("eth0", 81), "but for the host's own traffic");
}

pub(super) fn the_host_reaches_its_workloads_unpoliced(w: &mut World<'_>) {
    w.clear();
    w.host("all", "*", &[]);
    w.policy("none", json!({"selector": "all()"}));
    let to_pod = trip(outgoing("cali0"), tcp("172.16.0.1", "10.0.0.1", 80));
    assert!(w.passes(to_pod));
}

pub(super) fn a_workload_reaches_the_host_by_its_own_policy_and_the_action_and_no_host_policy(
    w: &mut World<'_>,
) {
    let from_pod = || trip(incoming("cali0"), tcp("10.0.0.1", "172.16.0.1", 80));
    for (action, open) in [
        (ToHost::Drop, false),
        (ToHost::Accept, true),
        (ToHost::Return, true),
    ] {
        w.clear();
        w.case.host.to_host = action;
        w.host("all", "*", &[]);
        assert_eq!(
            w.passes(from_pod()),
            open,
            "{action:?}, the endpoint * would deny"
        );
        w.policy(
            "pod",
            json!({"selector": "app == 'pod'", "types": ["Egress"], "egress": deny(80)}),
        );
        assert!(!w.passes(from_pod()), "its own policy comes first");
    }
}

pub(super) fn neighbour_discovery_of_workloads_is_always_heard(w: &mut World<'_>) {
    w.clear();
    let icmp = |kind| Packet {
        proto: Proto::ICMPV6,
        sport: 0,
        dport: 0,
        icmp: Some((kind, 0)),
        ..tcp("fd00::1", "fd16:1::1", 0)
    };
    for kind in [130, 131, 132, 133, 135, 136] {
        assert!(w.passes(trip(incoming("cali0"), icmp(kind))), "{kind}");
    }
    for kind in [128, 134] {
        assert!(!w.passes(trip(incoming("cali0"), icmp(kind))), "{kind}");
    }
}

pub(super) fn failsafe_ports_are_open_to_their_peers_and_never_for_what_is_forwarded(w: &mut World<'_>) {
    w.clear();
    w.host("h", "eth0", &[])
        .failsafe(Proto::TCP, 22, Some("192.0.2.0/24"));
    w.policy(
        "p",
        json!({"applyOnForward": true, "ingress": deny(22), "egress": deny(22)}),
    );
    assert!(w.enters("eth0", 22) && w.leaves("eth0", 22));
    let stranger = tcp("203.0.113.9", "172.16.0.1", 22);
    assert!(!w.passes(trip(incoming("eth0"), stranger)), "outside the net");
    let udp = Packet {
        proto: Proto::UDP,
        ..tcp("192.0.2.9", "172.16.0.1", 22)
    };
    assert!(!w.passes(trip(incoming("eth0"), udp)), "another protocol");
    assert!(!w.crosses("eth0", "eth1", 22));
}

pub(super) fn failsafe_ports_come_before_untracked_and_pre_dnat_policy_and_answers_count_before_tracking(
    w: &mut World<'_>,
) {
    for kind in ["doNotTrack", "preDNAT"] {
        w.clear();
        let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["open"]});
        w.put("HostEndpoint", "h", spec).failsafe(Proto::TCP, 22, None);
        let types = if kind == "preDNAT" {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        let all = json!([{"action": "Deny"}]);
        let egress = if kind == "preDNAT" { json!([]) } else { all.clone() };
        w.policy(
            "p",
            json!({"types": types, "ingress": all, "egress": egress, "applyOnForward": true, kind: true}),
        );
        assert!(w.enters("eth0", 22) && !w.enters("eth0", 80), "{kind}");
        let answer = Packet {
            sport: 22,
            dport: 40000,
            ..tcp("192.0.2.9", "172.16.0.1", 0)
        };
        assert_eq!(
            w.passes(trip(incoming("eth0"), answer)),
            kind == "doNotTrack",
            "{kind}"
        );
    }
}

pub(super) fn the_end_of_untracked_and_pre_dnat_tiers_passes_whatever_the_tier_says(w: &mut World<'_>) {
    for kind in ["doNotTrack", "preDNAT"] {
        w.clear();
        let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["open"]});
        w.put("HostEndpoint", "h", spec);
        w.policy(
            "p",
            json!({"types": ["Ingress"], "ingress": deny(80), "applyOnForward": true, kind: true}),
        );
        assert!(!w.enters("eth0", 80) && w.enters("eth0", 81), "{kind}");
        assert!(
            !w.crosses("eth0", "eth1", 80) && w.crosses("eth0", "eth1", 81),
            "{kind}"
        );
    }
}

pub(super) fn what_untracked_or_pre_dnat_policy_allows_is_not_asked_again_of_that_endpoint(
    w: &mut World<'_>,
) {
    for kind in ["doNotTrack", "preDNAT"] {
        w.clear();
        w.host("h", "eth0", &[]);
        w.policy(
            "early",
            json!({"types": ["Ingress"], "ingress": allow(80), "applyOnForward": true, kind: true}),
        );
        w.policy("late", json!({"ingress": deny(80), "applyOnForward": true}));
        assert!(w.enters("eth0", 80) && w.crosses("eth0", "eth1", 80), "{kind}");
        let to_pod = trip(through("eth0", "cali0"), tcp("192.0.2.9", "10.0.0.1", 80));
        assert!(w.passes(to_pod.clone()), "{kind}");
        w.policy(
            "pod",
            json!({"selector": "app == 'pod'", "types": ["Ingress"], "ingress": deny(80)}),
        );
        assert!(
            !w.passes(to_pod),
            "{kind}: the workload's own policy still counts"
        );
    }
}

pub(super) fn pre_dnat_policy_sees_where_the_packet_was_sent_and_all_others_where_it_goes(w: &mut World<'_>) {
    let nodeport = |way| Trip {
        packet: tcp("192.0.2.9", "10.0.0.1", 80),
        original: Some(("172.16.0.1".parse().unwrap(), 30080)),
        way,
        spoofed: false,
    };
    w.clear();
    w.host("h", "eth0", &[]);
    w.policy(
        "p",
        json!({"types": ["Ingress"], "ingress": deny(30080), "applyOnForward": true, "preDNAT": true}),
    );
    assert!(!w.passes(nodeport(through("eth0", "cali0"))));
    w.policy(
        "p",
        json!({"types": ["Ingress"], "ingress": deny(80), "applyOnForward": true, "preDNAT": true}),
    );
    assert!(w.passes(nodeport(through("eth0", "cali0"))));
    w.policy(
        "p",
        json!({"types": ["Ingress"], "ingress": deny(80), "applyOnForward": true}),
    );
    assert!(!w.passes(nodeport(through("eth0", "cali0"))));
}

pub(super) fn what_the_host_sends_is_judged_behind_the_translation_of_its_destination(w: &mut World<'_>) {
    let service = |port| Trip {
        packet: tcp("172.16.0.1", "192.0.2.9", port),
        original: Some(("203.0.113.77".parse().unwrap(), 443)),
        way: outgoing("eth0"),
        spoofed: false,
    };
    w.clear();
    w.host("h", "eth0", &[]);
    w.policy("p", json!({"egress": allow(6443)}));
    assert!(w.passes(service(6443)) && !w.passes(service(443)));
}

pub(super) fn untracked_policy_allows_answers_only_by_rules_of_their_own(w: &mut World<'_>) {
    w.clear();
    w.host("h", "eth0", &[]);
    let untracked = |egress: serde_json::Value| json!({"doNotTrack": true, "applyOnForward": true, "ingress": allow(80), "egress": egress});
    let answer = || Packet {
        sport: 80,
        ..tcp("172.16.0.1", "192.0.2.9", 40_000)
    };
    w.policy("p", untracked(json!([])));
    assert!(w.enters("eth0", 80) && !w.passes(trip(outgoing("eth0"), answer())));
    let back = json!([{"action": "Allow", "protocol": "TCP", "source": {"ports": [80]}}]);
    w.policy("p", untracked(back));
    assert!(w.enters("eth0", 80) && w.passes(trip(outgoing("eth0"), answer())));
}

pub(super) fn untracked_policy_is_ignored_on_all_interfaces_at_once(w: &mut World<'_>) {
    w.clear();
    let spec = json!({"node": NODE, "interfaceName": "*", "profiles": ["open"]});
    w.put("HostEndpoint", "h", spec);
    w.policy(
        "p",
        json!({"ingress": deny(80), "applyOnForward": true, "doNotTrack": true}),
    );
    assert!(w.enters("eth0", 80));
}

pub(super) fn workloads_have_no_untracked_or_pre_dnat_policy_of_their_own(w: &mut World<'_>) {
    for kind in ["doNotTrack", "preDNAT"] {
        w.clear();
        let all = json!([{"action": "Deny"}]);
        w.policy("p", json!({"selector": "all()", "types": ["Ingress"], "ingress": all, "applyOnForward": true, kind: true}));
        let to_pod = trip(through("eth0", "cali0"), tcp("192.0.2.9", "10.0.0.1", 80));
        assert!(w.passes(to_pod), "{kind}");
    }
}

pub(super) fn the_endpoint_for_all_interfaces_governs_what_workloads_forward_too(w: &mut World<'_>) {
    let from_pod = || trip(through("cali0", "eth0"), tcp("10.0.0.1", "192.0.2.9", 80));
    for kind in ["applyOnForward", "preDNAT"] {
        w.clear();
        w.host("all", "*", &[]);
        w.policy(
            "p",
            json!({"types": ["Ingress"], "ingress": deny(80), "applyOnForward": true, kind: true}),
        );
        assert!(!w.passes(from_pod()), "{kind}");
        // An endpoint of its own keeps it away, even one with nothing to say.
        w.host("eth", "eth0", &[]);
        w.policy("p", json!({"selector": "host == 'all'", "types": ["Ingress"], "ingress": deny(80), "applyOnForward": true, kind: true}));
        assert!(w.crosses("eth0", "eth1", 80), "{kind}");
    }
}

pub(super) fn a_staged_policy_decides_nothing_for_hosts_either(w: &mut World<'_>) {
    w.clear();
    let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["open"]});
    w.put("HostEndpoint", "h", spec);
    let staged = json!({"tier": "default", "types": ["Ingress", "Egress"], "ingress": deny(80), "applyOnForward": true});
    w.put("StagedGlobalNetworkPolicy", "p", staged);
    assert!(w.enters("eth0", 80) && w.crosses("eth0", "eth1", 80) && w.leaves("eth0", 80));
}

pub(super) fn a_workload_interface_that_nobody_knows_is_closed_and_a_spoofed_source_too(w: &mut World<'_>) {
    w.clear();
    let packet = tcp("10.0.0.1", "192.0.2.9", 80);
    let of_nobody = tcp("10.0.0.4", "192.0.2.9", 80);
    assert!(w.passes(trip(through("cali0", "eth0"), packet)));
    assert!(!w.passes(trip(through("cali3", "eth0"), of_nobody)));
    let spoofed = Trip {
        spoofed: true,
        ..trip(through("cali0", "eth0"), tcp("198.51.100.9", "192.0.2.9", 80))
    };
    assert!(!w.passes(spoofed));
}

pub(super) fn prefixes_that_a_workload_may_send_from_are_open_only_where_spoofing_is_allowed(
    w: &mut World<'_>,
) {
    w.clear();
    let prefixes = json!({"allowSpoofedSourcePrefixes": ["198.51.100.0/28", "2001:db8:7::/64"]});
    w.pod(0, "red", json!({"app": "pod"}), prefixes);
    w.pod(1, "red", json!({"app": "pod"}), json!({}));
    let spoofed = |interface: &str, packet| Trip {
        spoofed: true,
        ..trip(through(interface, "eth0"), packet)
    };
    let sources = [
        ("198.51.100.9", "198.51.100.16", "192.0.2.9"),
        ("2001:db8:7::9", "2001:db8:8::9", "2001:db8::9"),
    ];
    for allowed in [false, true] {
        w.case.host.source_spoofing = allowed;
        for (inside, outside, to) in sources {
            assert_eq!(
                w.passes(spoofed("cali0", tcp(inside, to, 80))),
                allowed,
                "{inside}"
            );
            assert!(!w.passes(spoofed("cali0", tcp(outside, to, 80))), "{outside}");
            assert!(
                !w.passes(spoofed("cali1", tcp(inside, to, 80))),
                "another's: {inside}"
            );
        }
        assert!(w.passes(trip(through("cali0", "eth0"), tcp("10.0.0.1", "192.0.2.9", 80))));
        // Policy is asked all the same.
        let deny = json!({"selector": "app == 'pod'", "types": ["Egress"], "egress": deny(80)});
        w.policy("p", deny);
        assert!(!w.passes(spoofed("cali0", tcp(sources[0].0, sources[0].2, 80))));
        w.policy(
            "p",
            json!({"selector": "app == 'pod'", "types": ["Egress"], "egress": [{"action": "Allow"}]}),
        );
    }
}
