//! §3.7 and §3.8: nets, families, protocols, ports, services.

use caracal_net::Proto;
use caracal_oracle::{Packet, Trip};
use serde_json::{Value, json};

use super::{World, incoming, tcp, through, trip};

/// The pod is open for what this rule matches, and for nothing else.
fn only(w: &mut World<'_>, rule: Value) {
    let mut rule = rule;
    rule["action"] = "Allow".into();
    w.rules("only", json!({"ingress": [rule]}));
}

fn udp(port: u16) -> Packet {
    Packet {
        proto: Proto::UDP,
        ..tcp("192.0.2.9", "10.0.0.1", port)
    }
}

fn six(port: u16) -> Packet {
    tcp("2001:db8::9", "fd00::1", port)
}

fn icmp(kind: u8, code: u8) -> Packet {
    Packet {
        proto: Proto::ICMP,
        sport: 0,
        dport: 0,
        icmp: Some((kind, code)),
        ..tcp("192.0.2.9", "10.0.0.1", 0)
    }
}

pub(super) fn all_criteria_must_hold_and_of_a_list_one(w: &mut World<'_>) {
    only(
        w,
        json!({
            "protocol": "TCP", "source": {"nets": ["192.0.2.0/28", "198.51.100.9/32"]}, "destination": {"ports": [80, 81]},
        }),
    );
    assert!(w.reached("192.0.2.9", 80) && w.reached("198.51.100.9", 81));
    assert!(!w.reached("192.0.2.77", 80) && !w.reached("192.0.2.9", 82) && !w.gets(udp(80)));
    only(
        w,
        json!({"source": {"nets": ["192.0.2.0/24"], "notNets": ["192.0.2.64/26", "192.0.2.8/32"]}}),
    );
    assert!(w.reached("192.0.2.9", 80) && !w.reached("192.0.2.77", 80) && !w.reached("198.51.100.9", 80));
    only(
        w,
        json!({"source": {"nets": ["192.0.2.0/24"]}, "destination": {"nets": ["10.0.0.2/32"]}}),
    );
    assert!(!w.reached("192.0.2.9", 80), "source and destination are apart");
}

pub(super) fn nets_of_the_other_family_alone_switch_a_rule_off(w: &mut World<'_>) {
    for nets in ["nets", "notNets"] {
        only(w, json!({"source": {nets: ["2001:db9::/48"]}}));
        assert!(!w.reached("192.0.2.9", 80), "{nets}");
        assert_eq!(w.gets(six(80)), nets == "notNets");
    }
    only(
        w,
        json!({"source": {"nets": ["192.0.2.0/24"]}, "destination": {"notNets": ["2001:db9::/48"]}}),
    );
    assert!(
        !w.reached("192.0.2.9", 80) && !w.gets(six(80)),
        "whichever list it is"
    );
}

pub(super) fn a_negated_catch_all_switches_a_rule_off_and_a_positive_one_holds_for_its_family(
    w: &mut World<'_>,
) {
    only(w, json!({"source": {"notNets": ["0.0.0.0/0"]}}));
    assert!(!w.reached("192.0.2.9", 80) && !w.gets(six(80)));
    only(w, json!({"source": {"nets": ["0.0.0.0/0"]}}));
    assert!(w.reached("192.0.2.9", 80) && !w.gets(six(80)));
    only(w, json!({"source": {"nets": ["::/0"]}}));
    assert!(!w.reached("192.0.2.9", 80) && w.gets(six(80)));
}

pub(super) fn a_rule_with_an_ip_version_is_for_that_family(w: &mut World<'_>) {
    only(w, json!({"ipVersion": 4}));
    assert!(w.reached("192.0.2.9", 80) && !w.gets(six(80)));
    only(w, json!({"ipVersion": 6}));
    assert!(!w.reached("192.0.2.9", 80) && w.gets(six(80)));
}

pub(super) fn icmp_is_of_ipv4_and_icmpv6_of_ipv6(w: &mut World<'_>) {
    let ping6 = Packet {
        proto: Proto::ICMPV6,
        sport: 0,
        dport: 0,
        icmp: Some((128, 0)),
        ..six(0)
    };
    only(w, json!({"protocol": "ICMP"}));
    assert!(w.gets(icmp(8, 0)) && !w.gets(ping6) && !w.reached("192.0.2.9", 80));
    only(w, json!({"protocol": "ICMPv6"}));
    assert!(!w.gets(icmp(8, 0)) && w.gets(ping6));
}

pub(super) fn icmp_by_type_and_code_and_all_but_those(w: &mut World<'_>) {
    only(w, json!({"protocol": "ICMP", "icmp": {"type": 8}}));
    assert!(w.gets(icmp(8, 0)) && w.gets(icmp(8, 1)) && !w.gets(icmp(13, 0)));
    only(w, json!({"protocol": "ICMP", "icmp": {"type": 8, "code": 1}}));
    assert!(!w.gets(icmp(8, 0)) && w.gets(icmp(8, 1)));
    only(w, json!({"protocol": "ICMP", "notICMP": {"type": 8, "code": 1}}));
    assert!(w.gets(icmp(8, 0)) && !w.gets(icmp(8, 1)) && w.gets(icmp(13, 1)));
}

pub(super) fn protocols_by_name_and_number_and_all_but_one(w: &mut World<'_>) {
    only(w, json!({"protocol": 17}));
    assert!(w.gets(udp(80)) && !w.reached("192.0.2.9", 80));
    only(w, json!({"protocol": "SCTP"}));
    let sctp = Packet {
        proto: Proto::SCTP,
        ..udp(80)
    };
    assert!(w.gets(sctp) && !w.gets(udp(80)));
    only(w, json!({"notProtocol": "UDP"}));
    assert!(!w.gets(udp(80)) && w.reached("192.0.2.9", 80) && w.gets(icmp(8, 0)));
    only(w, json!({"protocol": 47}));
    let gre = Packet {
        proto: Proto(47),
        sport: 0,
        dport: 0,
        ..udp(0)
    };
    assert!(w.gets(gre) && !w.gets(udp(80)));
}

pub(super) fn a_range_of_ports_has_both_its_ends_and_not_ports_exclude(w: &mut World<'_>) {
    only(
        w,
        json!({"protocol": "TCP", "destination": {"ports": ["79:81", 4000]}}),
    );
    for (port, open) in [
        (78, false),
        (79, true),
        (80, true),
        (81, true),
        (82, false),
        (4000, true),
    ] {
        assert_eq!(w.reached("192.0.2.9", port), open, "{port}");
    }
    only(
        w,
        json!({"protocol": "TCP", "destination": {"notPorts": ["79:81"]}}),
    );
    assert!(w.reached("192.0.2.9", 78) && !w.reached("192.0.2.9", 81) && w.reached("192.0.2.9", 82));
    only(w, json!({"protocol": "TCP", "source": {"ports": [40000]}}));
    assert!(w.reached("192.0.2.9", 80));
    only(w, json!({"protocol": "TCP", "source": {"notPorts": [40000]}}));
    assert!(!w.reached("192.0.2.9", 80));
}

pub(super) fn a_rule_may_have_any_number_of_ports_and_nets(w: &mut World<'_>) {
    let ports: Vec<u16> = (0..50).map(|n| 1000 + 2 * n).collect();
    let nets: Vec<String> = (0..100).map(|n| format!("192.0.2.{n}/32")).collect();
    only(
        w,
        json!({"protocol": "TCP", "source": {"nets": nets}, "destination": {"ports": ports}}),
    );
    assert!(w.reached("192.0.2.9", 1000) && w.reached("192.0.2.99", 1098));
    assert!(!w.reached("192.0.2.9", 1001) && !w.reached("192.0.2.100", 1000));
}

pub(super) fn a_named_port_is_that_of_endpoints_that_the_selector_selects(w: &mut World<'_>) {
    let http =
        |port: u16, protocol: &str| json!({"ports": [{"name": "http", "protocol": protocol, "port": port}]});
    w.pod(0, "red", json!({"app": "pod"}), http(8080, "TCP"));
    only(w, json!({"protocol": "TCP", "destination": {"ports": ["http"]}}));
    assert!(w.reached("192.0.2.9", 8080) && !w.reached("192.0.2.9", 80));
    only(
        w,
        json!({"protocol": "TCP", "destination": {"selector": "app == 'other'", "ports": ["http"]}}),
    );
    assert!(!w.reached("192.0.2.9", 8080), "it is nobody's that is selected");
    only(w, json!({"protocol": "UDP", "destination": {"ports": ["http"]}}));
    assert!(!w.gets(udp(8080)), "the port is one of TCP");
    w.pod(0, "red", json!({"app": "pod"}), http(8080, "UDP"));
    assert!(w.gets(udp(8080)));
    only(w, json!({"destination": {"ports": ["http"]}}));
    assert!(
        !w.gets(udp(8080)),
        "a rule without a protocol has no ports: it is refused"
    );
}

pub(super) fn named_ports_and_numbers_are_one_list(w: &mut World<'_>) {
    let ports = json!({"ports": [{"name": "http", "protocol": "TCP", "port": 8080}]});
    w.pod(0, "red", json!({"app": "pod"}), ports);
    only(
        w,
        json!({"protocol": "TCP", "destination": {"ports": ["http", 80]}}),
    );
    assert!(w.reached("192.0.2.9", 8080) && w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    only(
        w,
        json!({"protocol": "TCP", "destination": {"selector": "app == 'other'", "ports": ["http", 80]}}),
    );
    assert!(
        !w.reached("192.0.2.9", 80),
        "the selector counts for numbers, too"
    );
    only(
        w,
        json!({"protocol": "TCP", "destination": {"notPorts": ["http"]}}),
    );
    assert!(!w.reached("192.0.2.9", 8080) && w.reached("192.0.2.9", 80));
}

pub(super) fn a_destination_service_is_its_addresses_with_its_ports(w: &mut World<'_>) {
    w.slice(
        "red",
        "web",
        &["192.0.2.9", "2001:db8::9"],
        &[(Proto::TCP, 80), (Proto::UDP, 53)],
    );
    w.slice("red", "web", &["192.0.2.77"], &[(Proto::TCP, 8080)]);
    let to = json!([{"action": "Allow", "destination": {"services": {"name": "web", "namespace": "red"}}}]);
    w.rules("p", json!({"types": ["Egress"], "egress": to}));
    assert!(w.reaches("192.0.2.9", 80) && w.reaches("192.0.2.77", 8080));
    assert!(!w.reaches("192.0.2.9", 81) && !w.reaches("192.0.2.77", 80) && !w.reaches("192.0.2.1", 80));
    let packet = tcp("fd00::1", "2001:db8::9", 80);
    assert!(w.passes(trip(through("cali0", "eth0"), packet)));
    let dns = Packet {
        proto: Proto::UDP,
        ..tcp("10.0.0.1", "192.0.2.9", 53)
    };
    assert!(w.passes(trip(through("cali0", "eth0"), dns)));
}

pub(super) fn endpoints_of_services_count_ready_or_not_once_or_twice_and_names_and_missing_ports_do_not(
    w: &mut World<'_>,
) {
    let slice = |name: &str, endpoints: Value, ports: Value| {
        let labels = json!({"kubernetes.io/service-name": "web"});
        json!({
            "metadata": {"name": name, "namespace": "red", "labels": labels},
            "spec": {"addressType": "IPv4", "endpoints": endpoints, "ports": ports},
        })
    };
    let leaving = json!({"ready": false, "serving": false, "terminating": true});
    let endpoints = json!([
        {"addresses": ["192.0.2.9"], "conditions": leaving},
        {"addresses": ["db.example.org"]},
    ]);
    // TCP if nothing is said; without a number no port.
    let ports = json!([{"port": 80}, {"name": "any"}, {"protocol": "UDP", "port": 53}]);
    w.kube_slice(slice("one", endpoints, ports));
    let service = json!({"services": {"name": "web", "namespace": "red"}});
    w.rules(
        "p",
        json!({"types": ["Egress"], "egress": [{"action": "Allow", "destination": service}]}),
    );
    assert!(w.reaches("192.0.2.9", 80) && !w.reaches("192.0.2.9", 81) && !w.reaches("192.0.2.9", 53));
    let same = json!([{"addresses": ["192.0.2.9", "192.0.2.77"]}]);
    w.kube_slice(slice("two", same, json!([{"port": 80}])));
    assert!(w.reaches("192.0.2.9", 80) && w.reaches("192.0.2.77", 80));
    w.kube_slice(slice("one", json!([]), json!([])));
    assert!(w.reaches("192.0.2.9", 80), "the other slice has it still");
    w.kube_slice(slice("two", json!([]), json!([])));
    assert!(!w.reaches("192.0.2.9", 80) && !w.reaches("192.0.2.77", 80));
}

pub(super) fn a_source_service_is_its_addresses_at_any_port(w: &mut World<'_>) {
    w.slice("red", "web", &["192.0.2.9"], &[(Proto::TCP, 80)]);
    let from = |namespace: Value| {
        let mut service = json!({"name": "web"});
        if !namespace.is_null() {
            service["namespace"] = namespace;
        }
        json!({"ingress": [{"action": "Allow", "source": {"services": service}}]})
    };
    w.rules("p", from("red".into()));
    assert!(w.reached("192.0.2.9", 4000) && !w.reached("192.0.2.77", 80));
    w.rules("p", from("blue".into()));
    assert!(
        !w.reached("192.0.2.9", 4000),
        "a service of that name in another namespace"
    );
    w.gone(caracal_api::Kind::GlobalNetworkPolicy, "p");
    w.rules("red/p", from(Value::Null));
    assert!(
        w.reached("192.0.2.9", 4000),
        "by default that of the policy's namespace"
    );
}

pub(super) fn a_service_is_matched_behind_translation_and_not_by_its_own_address(w: &mut World<'_>) {
    w.slice("red", "web", &["192.0.2.9"], &[(Proto::TCP, 8080)]);
    let to = json!([{"action": "Allow", "destination": {"services": {"name": "web", "namespace": "red"}}}]);
    w.rules("p", json!({"types": ["Egress"], "egress": to}));
    let translated = Trip {
        original: Some(("203.0.113.77".parse().unwrap(), 80)),
        ..trip(through("cali0", "eth0"), tcp("10.0.0.1", "192.0.2.9", 8080))
    };
    assert!(w.passes(translated));
    assert!(!w.passes(trip(
        through("cali0", "eth1"),
        tcp("10.0.0.1", "203.0.113.77", 80)
    )));
}

pub(super) fn workloads_reach_the_host_over_ipv6_by_the_same_rules(w: &mut World<'_>) {
    w.case.host.to_host = caracal_oracle::ToHost::Accept;
    let six = |port| trip(incoming("cali0"), tcp("fd00::1", "fd16:1::1", port));
    let egress = json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [53]}}]);
    assert!(w.passes(six(80)));
    w.rules("p", json!({"types": ["Egress"], "egress": egress}));
    assert!(w.passes(six(53)) && !w.passes(six(80)));
}
