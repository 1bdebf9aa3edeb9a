//! Each sentence of `calico-components.md` §3.9 and §3.10 about host endpoints, by example: from objects through engine
//! and compiler to the tables, with reference and oracle of the same opinion.

use std::collections::BTreeMap;

use caracal_api::Resource;
use caracal_net::Proto;
use caracal_oracle::{FailsafePort, Host, Packet, ToHost, Trip, Way};
use caracal_policy_fuzz::{Case, Model, NODE, Reference, check};
use serde_json::{Value, json};

/// Who is where: eth0 has 172.16.0.1, eth1 has 172.16.1.1 and fd16:1::1; a pod has 10.0.0.1 behind cali0; its profile is open.
struct World {
    case: Case,
}

impl World {
    fn new() -> Self {
        let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let mut world = Self {
            case: Case {
                seed: 0,
                objects: vec![],
                slices: vec![],
                host: Host {
                    interfaces: BTreeMap::from([
                        ("eth0".to_owned(), addresses(&["172.16.0.1"])),
                        ("eth1".to_owned(), addresses(&["172.16.1.1", "fd16:1::1"])),
                    ]),
                    workload_prefixes: vec!["cali".into()],
                    ..Host::default()
                },
                trips: vec![],
            },
        };
        world.put("Tier", "default", json!({"order": 1e6, "defaultAction": "Deny"}));
        let open = json!([{"action": "Allow"}]);
        world.put("Profile", "open", json!({"ingress": open, "egress": open}));
        let pod = json!({
            "kind": "WorkloadEndpoint", "metadata": {"name": "pod", "namespace": "red", "labels": {"app": "pod"}},
            "spec": {
                "node": NODE, "orchestrator": "k8s", "interfaceName": "cali0", "ipNetworks": ["10.0.0.1", "fd00::1"],
                "profiles": ["open"],
            },
        });
        world.case.objects.push(serde_json::from_value(pod).unwrap());
        world
    }

    fn put(&mut self, kind: &str, name: &str, spec: Value) -> &mut Self {
        let labels = if kind == "HostEndpoint" {
            json!({"host": name})
        } else {
            json!({})
        };
        let object = json!({"kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec});
        let object: Resource = serde_json::from_value(object).unwrap();
        self.case.objects.retain(|o| o.key() != object.key());
        self.case.objects.push(object);
        self
    }

    fn host(&mut self, name: &str, interface: &str, ips: &[&str]) -> &mut Self {
        let spec = json!({"node": NODE, "interfaceName": interface, "expectedIPs": ips});
        self.put("HostEndpoint", name, spec)
    }

    /// A global policy for host endpoints; `more` overrides what it says.
    fn policy(&mut self, name: &str, more: Value) -> &mut Self {
        let mut spec = json!({"tier": "default", "selector": "has(host)", "types": ["Ingress", "Egress"]});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        self.put("GlobalNetworkPolicy", name, spec)
    }

    fn failsafe(&mut self, proto: Proto, port: u16, net: Option<&str>) -> &mut Self {
        let port = FailsafePort {
            proto,
            port,
            net: net.map(|n| n.parse().unwrap()),
        };
        self.case.host.failsafe_in.push(port);
        self.case.host.failsafe_out.push(port);
        self
    }

    /// Whether a packet gets through; everybody must be of one opinion.
    fn passes(&mut self, trip: Trip) -> bool {
        self.case.trips = vec![trip];
        let (_, difference) = check(&self.case, &mut Model::default()).unwrap();
        if let Some(difference) = difference {
            panic!("{difference}\n{}", self.case.to_yaml());
        }
        Reference::new(&self.case, None).allows(&self.case.trips[0])
    }

    /// TCP from a stranger to this host by an interface.
    fn enters(&mut self, interface: &str, port: u16) -> bool {
        self.passes(trip(incoming(interface), tcp("192.0.2.9", "172.16.0.1", port)))
    }

    /// TCP from this host to a stranger by an interface.
    fn leaves(&mut self, interface: &str, port: u16) -> bool {
        self.passes(trip(outgoing(interface), tcp("172.16.0.1", "192.0.2.9", port)))
    }

    /// TCP from a stranger behind one interface to one behind another.
    fn crosses(&mut self, from: &str, to: &str, port: u16) -> bool {
        self.passes(trip(through(from, to), tcp("192.0.2.9", "198.51.100.9", port)))
    }
}

fn tcp(src: &str, dst: &str, port: u16) -> Packet {
    Packet::with_ports(
        src.parse().unwrap(),
        dst.parse().unwrap(),
        Proto::TCP,
        40000,
        port,
    )
}

fn incoming(from: &str) -> Way {
    Way::In { from: from.into() }
}

fn outgoing(to: &str) -> Way {
    Way::Out { to: to.into() }
}

fn through(from: &str, to: &str) -> Way {
    Way::Forward {
        from: from.into(),
        to: to.into(),
    }
}

fn trip(way: Way, packet: Packet) -> Trip {
    Trip {
        packet,
        original: None,
        way,
        spoofed: false,
    }
}

fn allow(port: u16) -> Value {
    json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [port]}}])
}

fn deny(port: u16) -> Value {
    json!([{"action": "Deny", "protocol": "TCP", "destination": {"ports": [port]}}])
}

#[test]
fn an_endpoint_with_a_name_is_found_by_the_name_only_and_one_without_by_any_address() {
    let mut w = World::new();
    w.host("named", "eth0", &["172.16.1.1"]);
    assert!(!w.enters("eth0", 80), "no policy, no profile");
    assert!(w.enters("eth1", 80), "its address does not count");
    let mut w = World::new();
    w.host("found", "", &["203.0.113.1", "fd16:1::1"]);
    assert!(!w.enters("eth1", 80) && w.enters("eth0", 80));
}

#[test]
fn of_several_endpoints_the_first_by_name_has_the_interface_however_it_is_found() {
    let mut w = World::new();
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

#[test]
fn the_endpoint_for_all_interfaces_is_for_those_that_have_none() {
    let mut w = World::new();
    w.host("a-all", "*", &[]).host("b", "eth0", &[]);
    w.policy("p", json!({"selector": "host == 'b'", "ingress": allow(80)}));
    assert!(w.enters("eth0", 80) && !w.enters("eth1", 80) && !w.enters("lo", 80));
    w.policy("p", json!({"selector": "host == 'a-all'", "ingress": allow(80)}));
    assert!(!w.enters("eth0", 80) && w.enters("eth1", 80));
}

#[test]
fn the_directions_are_those_of_the_interface() {
    let mut w = World::new();
    w.host("h", "eth0", &[]);
    w.policy("p", json!({"ingress": allow(80), "egress": allow(53)}));
    assert!(w.enters("eth0", 80) && !w.enters("eth0", 53));
    assert!(w.leaves("eth0", 53) && !w.leaves("eth0", 80));
}

#[test]
fn without_policy_and_profile_only_failsafe_ports_are_open_and_the_default_profile_opens_all() {
    let mut w = World::new();
    w.host("h", "eth0", &[]).failsafe(Proto::TCP, 22, None);
    assert!(w.enters("eth0", 22) && w.leaves("eth0", 22));
    assert!(!w.enters("eth0", 80) && !w.leaves("eth0", 80));
    let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["projectcalico-default-allow"]});
    w.put("HostEndpoint", "h", spec);
    assert!(w.enters("eth0", 80) && w.leaves("eth0", 80));
}

#[test]
fn forwarded_traffic_is_governed_only_by_policy_that_asks_for_it() {
    let mut w = World::new();
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

#[test]
fn forward_policy_of_one_direction_leaves_the_other_alone_and_asks_no_profile() {
    let mut w = World::new();
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

#[test]
fn the_host_reaches_its_workloads_unpoliced() {
    let mut w = World::new();
    w.host("all", "*", &[]);
    w.policy("none", json!({"selector": "all()"}));
    let to_pod = trip(outgoing("cali0"), tcp("172.16.0.1", "10.0.0.1", 80));
    assert!(w.passes(to_pod));
}

#[test]
fn a_workload_reaches_the_host_by_its_own_policy_and_the_action_and_no_host_policy() {
    let from_pod = || trip(incoming("cali0"), tcp("10.0.0.1", "172.16.0.1", 80));
    for (action, open) in [
        (ToHost::Drop, false),
        (ToHost::Accept, true),
        (ToHost::Return, true),
    ] {
        let mut w = World::new();
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

#[test]
fn neighbour_discovery_of_workloads_is_always_heard() {
    let mut w = World::new();
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

#[test]
fn failsafe_ports_are_open_to_their_peers_and_never_for_what_is_forwarded() {
    let mut w = World::new();
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

#[test]
fn failsafe_ports_come_before_untracked_and_pre_dnat_policy_and_answers_count_before_tracking() {
    for kind in ["doNotTrack", "preDNAT"] {
        let mut w = World::new();
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

#[test]
fn the_end_of_untracked_and_pre_dnat_tiers_passes_whatever_the_tier_says() {
    for kind in ["doNotTrack", "preDNAT"] {
        let mut w = World::new();
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

#[test]
fn what_untracked_or_pre_dnat_policy_allows_is_not_asked_again_of_that_endpoint() {
    for kind in ["doNotTrack", "preDNAT"] {
        let mut w = World::new();
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

#[test]
fn pre_dnat_policy_sees_where_the_packet_was_sent_and_all_others_where_it_goes() {
    let nodeport = |way| Trip {
        packet: tcp("192.0.2.9", "10.0.0.1", 80),
        original: Some(("172.16.0.1".parse().unwrap(), 30080)),
        way,
        spoofed: false,
    };
    let mut w = World::new();
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

#[test]
fn what_the_host_sends_is_judged_behind_the_translation_of_its_destination() {
    let service = |port| Trip {
        packet: tcp("172.16.0.1", "192.0.2.9", port),
        original: Some(("10.96.0.1".parse().unwrap(), 443)),
        way: outgoing("eth0"),
        spoofed: false,
    };
    let mut w = World::new();
    w.host("h", "eth0", &[]);
    w.policy("p", json!({"egress": allow(6443)}));
    assert!(w.passes(service(6443)) && !w.passes(service(443)));
}

#[test]
fn untracked_policy_is_ignored_on_all_interfaces_at_once() {
    let mut w = World::new();
    let spec = json!({"node": NODE, "interfaceName": "*", "profiles": ["open"]});
    w.put("HostEndpoint", "h", spec);
    w.policy(
        "p",
        json!({"ingress": deny(80), "applyOnForward": true, "doNotTrack": true}),
    );
    assert!(w.enters("eth0", 80));
}

#[test]
fn workloads_have_no_untracked_or_pre_dnat_policy_of_their_own() {
    for kind in ["doNotTrack", "preDNAT"] {
        let mut w = World::new();
        let all = json!([{"action": "Deny"}]);
        w.policy("p", json!({"selector": "all()", "types": ["Ingress"], "ingress": all, "applyOnForward": true, kind: true}));
        let to_pod = trip(through("eth0", "cali0"), tcp("192.0.2.9", "10.0.0.1", 80));
        assert!(w.passes(to_pod), "{kind}");
    }
}

#[test]
fn the_endpoint_for_all_interfaces_governs_what_workloads_forward_too() {
    let from_pod = || trip(through("cali0", "eth0"), tcp("10.0.0.1", "192.0.2.9", 80));
    for kind in ["applyOnForward", "preDNAT"] {
        let mut w = World::new();
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

#[test]
fn a_staged_policy_decides_nothing_for_hosts_either() {
    let mut w = World::new();
    let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["open"]});
    w.put("HostEndpoint", "h", spec);
    let staged = json!({"tier": "default", "types": ["Ingress", "Egress"], "ingress": deny(80), "applyOnForward": true});
    w.put("StagedGlobalNetworkPolicy", "p", staged);
    assert!(w.enters("eth0", 80) && w.crosses("eth0", "eth1", 80) && w.leaves("eth0", 80));
}

#[test]
fn a_workload_interface_that_nobody_knows_is_closed_and_a_spoofed_source_too() {
    let mut w = World::new();
    let packet = tcp("10.0.0.1", "192.0.2.9", 80);
    assert!(w.passes(trip(through("cali0", "eth0"), packet)));
    assert!(!w.passes(trip(through("cali9", "eth0"), packet)));
    let spoofed = Trip {
        spoofed: true,
        ..trip(through("cali0", "eth0"), packet)
    };
    assert!(!w.passes(spoofed));
}
