//! What holds whatever the policies are: sources, tunnels, the host, NAT, connections.

use std::{net::IpAddr, sync::Arc};

use caracal_api::{Action, EncapMode, QosControls};
use caracal_desired::{Delta, Pool, Profile, Rule, Vtep, WorkloadEndpoint};
use caracal_ids::WorkloadId;
use caracal_net::{Family, PerFamily, PortRange, Proto};
use caracal_oracle::Packet;
use caracal_rules::{
    Compiler, HostAction, OpenStack, RulesConfig, ServiceLoops,
    ir::{CtState, Hook, Statement, TableState, render},
};

use crate::{
    interpreter::{Seen, icmp_of, pass},
    world::{addr, node, profile_name},
};

const RAW: i32 = -300;

fn endpoint() -> Arc<WorkloadEndpoint> {
    Arc::new(WorkloadEndpoint {
        id: WorkloadId::new("ns", "w"),
        interface: "cali1".into(),
        container_id: "".into(),
        mac: None,
        addresses: PerFamily::new(|f| vec![caracal_net::Cidr::host(addr(f, 1))]),
        nats: vec![],
        allowed_sources: ["10.9.0.0/16", "10.9.1.0/24", "fd09::/16"]
            .map(|t| t.parse().unwrap())
            .into(),
        tiers: vec![],
        profiles: vec![profile_name(0)],
        qos: None,
    })
}

/// Traffic from the workload is allowed but to port 7; nothing goes to it.
fn tables(config: RulesConfig) -> PerFamily<TableState> {
    let mut no = Rule::new(Action::Deny);
    no.protocol = Some(Proto::TCP);
    no.dst.ports = [PortRange::single(7)].into();
    let pool = |cidr: &str, nat_outgoing, vxlan| {
        let cidr = cidr.parse().unwrap();
        Delta::Pool(Pool {
            cidr,
            nat_outgoing,
            vxlan,
            ipip: EncapMode::Never,
        })
    };
    let mut compiler = Compiler::new(config);
    compiler.apply_all(&[
        Delta::Profile(Arc::new(Profile {
            name: profile_name(0),
            ingress: vec![],
            egress: vec![no, Rule::new(Action::Allow)],
        })),
        Delta::Workload(endpoint()),
        pool("10.0.0.0/24", true, EncapMode::Always),
        pool("10.1.0.0/24", false, EncapMode::Never),
        pool("fd00::/64", true, EncapMode::Never),
        Delta::Vtep(Vtep {
            node: node(1),
            mac: PerFamily::default(),
            tunnel_addr: PerFamily::default(),
            underlay: PerFamily::new(|f| Some(addr(f, 200))),
        }),
    ]);
    compiler.full_state()
}

fn tcp(f: Family, port: u16) -> Packet {
    Packet::with_ports(addr(f, 1), addr(f, 100), Proto::TCP, 5, port)
}

fn icmp(f: Family, src: IpAddr, icmp_type: u8) -> Packet {
    Packet {
        src,
        proto: icmp_of(f),
        sport: 0,
        dport: 0,
        icmp: Some((icmp_type, 0)),
        ..tcp(f, 0)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_workload_sends_from_its_own_addresses() {
    sends_from_its_own_addresses(false);
}

#[test]
fn a_workload_sends_from_allowed_prefixes_where_that_is_allowed() {
    sends_from_its_own_addresses(true);
}

fn sends_from_its_own_addresses(source_spoofing: bool) {
    let tables = tables(RulesConfig {
        source_spoofing,
        ..RulesConfig::default()
    });
    let accepted = |p: Packet, iif: &str, spoofed: bool| {
        let seen = Seen {
            spoofed,
            ..Seen::new(p, Some(iif), None)
        };
        pass(tables.get(p.family()), Hook::Prerouting, RAW, &seen).accepted
    };
    for f in Family::BOTH {
        assert!(accepted(tcp(f, 80), "cali1", false));
        assert!(!accepted(tcp(f, 80), "cali1", true));
        assert!(
            !accepted(tcp(f, 80), "cali9", true),
            "an interface without endpoint"
        );
        assert!(accepted(tcp(f, 80), "eth0", true), "not our interface");
        let extra = if f == Family::V4 { "10.9.200.1" } else { "fd09::1" };
        let p = Packet {
            src: ip(extra),
            ..tcp(f, 80)
        };
        assert_eq!(accepted(p, "cali1", true), source_spoofing);
        assert!(!accepted(p, "cali2", true), "another's prefix");
    }
    let dhcp = Packet::with_ports(ip("0.0.0.0"), ip("255.255.255.255"), Proto::UDP, 68, 67);
    assert!(accepted(dhcp, "cali1", true));
    assert!(!accepted(Packet { dport: 68, ..dhcp }, "cali1", true));
    assert!(accepted(icmp(Family::V6, ip("::"), 135), "cali1", true));
    assert!(accepted(icmp(Family::V6, ip("fe80::1"), 133), "cali1", true));
    assert!(!accepted(
        Packet {
            src: ip("::"),
            ..tcp(Family::V6, 80)
        },
        "cali1",
        true
    ));
}

#[test]
fn policy_comes_before_the_action_towards_the_host() {
    for (action, open) in [
        (HostAction::Drop, false),
        (HostAction::Accept, true),
        (HostAction::Return, true),
    ] {
        let tables = tables(RulesConfig {
            endpoint_to_host: action,
            ..RulesConfig::default()
        });
        for f in Family::BOTH {
            let accepted =
                |p, iif| pass(tables.get(f), Hook::Input, 0, &Seen::new(p, Some(iif), None)).accepted;
            assert_eq!(accepted(tcp(f, 80), "cali1"), open, "{action:?}");
            assert!(!accepted(tcp(f, 7), "cali1"), "policy denies");
            assert!(!accepted(tcp(f, 80), "cali9"), "unknown interface");
            assert!(accepted(tcp(f, 7), "eth0"));
        }
        let v6 = |t| {
            let p = icmp(Family::V6, ip("fe80::1"), t);
            pass(&tables.v6, Hook::Input, 0, &Seen::new(p, Some("cali9"), None)).accepted
        };
        for t in [130, 131, 132, 133, 135, 136] {
            assert!(v6(t), "type {t}");
        }
        assert!(!v6(134) && !v6(128), "router advertisement, echo");
    }
}

#[test]
fn known_connections_go_on_and_invalid_packets_stop_at_workloads() {
    for drop_invalid in [true, false] {
        let tables = tables(RulesConfig {
            drop_invalid,
            ..RulesConfig::default()
        });
        for f in Family::BOTH {
            let accepted = |state, port, from, to| {
                let seen = Seen {
                    state,
                    ..Seen::new(tcp(f, port), Some(from), Some(to))
                };
                pass(tables.get(f), Hook::Forward, 0, &seen).accepted
            };
            assert!(accepted(CtState::ESTABLISHED, 7, "cali1", "cali2"));
            assert!(accepted(CtState::RELATED, 7, "cali9", "cali9"));
            assert_eq!(accepted(CtState::INVALID, 80, "cali1", "eth0"), !drop_invalid);
            assert!(accepted(CtState::NEW, 80, "cali1", "eth0"));
            assert!(accepted(CtState::INVALID, 80, "eth0", "eth1"), "not ours");
        }
    }
}

#[test]
fn workloads_send_tunnel_packets_only_where_allowed() {
    let vxlan = Packet::with_ports(addr(Family::V4, 1), ip("10.8.8.8"), Proto::UDP, 5, 4789);
    let ipip = Packet {
        proto: Proto(4),
        sport: 0,
        dport: 0,
        ..vxlan
    };
    for (allow_vxlan, allow_ipip) in [(false, false), (true, false), (false, true), (true, true)] {
        let tables = tables(RulesConfig {
            allow_vxlan_from_workloads: allow_vxlan,
            allow_ipip_from_workloads: allow_ipip,
            ..RulesConfig::default()
        });
        let accepted = |p, iif| {
            pass(
                &tables.v4,
                Hook::Forward,
                0,
                &Seen::new(p, Some(iif), Some("eth0")),
            )
            .accepted
        };
        assert_eq!(accepted(vxlan, "cali1"), allow_vxlan);
        assert_eq!(accepted(ipip, "cali1"), allow_ipip);
        assert!(accepted(vxlan, "eth1") && accepted(ipip, "eth1"));
    }
}

#[test]
fn tunnels_end_here_for_nodes_only() {
    let tables = tables(RulesConfig::default());
    let packet = |f, from| Packet::with_ports(addr(f, from), addr(f, 100), Proto::UDP, 5, 4789);
    let seen = |p, to_host| Seen {
        to_host,
        ..Seen::new(p, Some("eth0"), None)
    };
    let input = |f, from| pass(tables.get(f), Hook::Input, 0, &seen(packet(f, from), true)).accepted;
    assert!(input(Family::V4, 200));
    assert!(!input(Family::V4, 201), "no node");
    assert!(input(Family::V6, 201), "no VXLAN pool of this family");
    let raw = |hook, to_host| pass(&tables.v4, hook, RAW, &seen(packet(Family::V4, 200), to_host)).effects;
    assert_eq!(raw(Hook::Prerouting, true), [Statement::NoTrack]);
    assert_eq!(raw(Hook::Prerouting, false), [], "passing through");
    assert_eq!(raw(Hook::Output, false), [Statement::NoTrack]);
}

#[test]
fn ip_in_ip_ends_here_for_nodes_only_while_it_is_used() {
    // What the parameter says, whether a pool asks for it, and whether strangers' packets are stopped.
    for (said, asked, used) in [
        (None, true, true),
        (None, false, false),
        (Some(true), false, true),
        (Some(false), true, false),
    ] {
        let mut compiler = Compiler::new(RulesConfig {
            ipip: said,
            ..RulesConfig::default()
        });
        compiler.apply_all(&[
            Delta::Host(caracal_desired::Host {
                node: node(1),
                addr: PerFamily {
                    v4: Some("192.0.2.1/24".parse().unwrap()),
                    v6: Some("2001:db8::1/64".parse().unwrap()),
                },
                ipip: Some([10, 0, 0, 0].into()),
            }),
            Delta::Pool(Pool {
                cidr: "10.0.0.0/24".parse().unwrap(),
                nat_outgoing: true,
                vxlan: EncapMode::Never,
                ipip: if asked {
                    EncapMode::CrossSubnet
                } else {
                    EncapMode::Never
                },
            }),
        ]);
        let tables = compiler.full_state();
        let input = |f, src, dst| {
            let packet = Packet {
                src: ip(src),
                dst: ip(dst),
                proto: Proto(4),
                sport: 0,
                dport: 0,
                ..tcp(f, 0)
            };
            let seen = Seen {
                to_host: true,
                ..Seen::new(packet, Some("eth0"), None)
            };
            pass(tables.get(f), Hook::Input, 0, &seen).accepted
        };
        assert!(input(Family::V4, "192.0.2.1", "192.0.2.9"), "from a node");
        assert_eq!(
            input(Family::V4, "192.0.2.2", "192.0.2.9"),
            !used,
            "{said:?} {asked}"
        );
        // The tunnel's own address is inside the packets, never outside.
        assert_eq!(
            input(Family::V4, "10.0.0.0", "192.0.2.9"),
            !used,
            "{said:?} {asked}"
        );
        assert!(input(Family::V6, "2001:db8::2", "2001:db8::9"), "IPv4 only");
    }
}

#[test]
fn what_still_has_a_services_address_is_stopped_on_its_way_through() {
    for (how, shown) in [
        (ServiceLoops::Drop, "drop"),
        (ServiceLoops::Reject, "reject with "),
        (ServiceLoops::Disabled, ""),
    ] {
        let mut compiler = Compiler::new(RulesConfig {
            service_loops: how,
            ..RulesConfig::default()
        });
        let cidrs = ["10.0.0.96/28", "10.0.0.96/27", "fd00::60/123"];
        let cidrs = cidrs.map(|t| t.parse().unwrap());
        compiler.apply(&Delta::ServiceCidrs(cidrs.into()));
        let tables = compiler.full_state();
        for (f, table) in tables.iter() {
            let fate = |state, dst| {
                let packet = Packet {
                    dst: addr(f, dst),
                    ..tcp(f, 80)
                };
                let seen = Seen {
                    state,
                    ..Seen::new(packet, Some("eth0"), Some("eth1"))
                };
                pass(table, Hook::Forward, 0, &seen).accepted
            };
            let open = how == ServiceLoops::Disabled;
            for state in [CtState::NEW, CtState::UNTRACKED] {
                assert_eq!([fate(state, 96), fate(state, 127)], [open, open], "{how:?}");
                assert!(fate(state, 95) && fate(state, 128));
            }
            assert!(fate(CtState::ESTABLISHED, 100) && fate(CtState::RELATED, 100));
            let text = render(f, "caracal", table);
            let rule = text.lines().find(|l| l.contains("@service-cidrs"));
            let counts = "counter name \"wall/service-loop.in.deny\"";
            assert_eq!(
                rule.is_some_and(|r| r.contains(shown) && r.contains(counts)),
                !open
            );
        }
        compiler.apply(&Delta::ServiceCidrs([].into()));
        for (f, table) in compiler.full_state().iter() {
            assert!(!render(f, "caracal", table).contains("service"));
        }
    }
}

#[test]
fn guests_of_openstack_ask_their_host_whatever_policy_says() {
    let metadata = std::net::Ipv4Addr::new(10, 0, 0, 100);
    let with = |openstack| {
        tables(RulesConfig {
            openstack,
            endpoint_to_host: HostAction::Drop,
            ..RulesConfig::default()
        })
    };
    let some = |metadata| Some(OpenStack { metadata });
    for (openstack, has_metadata) in [
        (None, false),
        (some(None), false),
        (some(Some((metadata, 8775))), true),
    ] {
        let tables = with(openstack);
        for (f, table) in tables.iter() {
            let asks = |proto, sport, dport| {
                let packet = Packet::with_ports(addr(f, 1), addr(f, 100), proto, sport, dport);
                let seen = Seen::new(packet, Some("cali1"), None);
                pass(table, Hook::Input, 0, &seen).accepted
            };
            let (client, server) = if f == Family::V4 { (68, 67) } else { (546, 547) };
            let here = openstack.is_some();
            assert_eq!(asks(Proto::UDP, client, server), here);
            assert_eq!(asks(Proto::UDP, 5, 53), here);
            assert_eq!(asks(Proto::TCP, 5, 8775), has_metadata && f == Family::V4);
            for (proto, sport, dport) in [
                (Proto::UDP, server, client),
                (Proto::UDP, 5, server),
                (Proto::TCP, 5, 53),
                (Proto::UDP, 5, 8775),
                (Proto::TCP, 5, 80),
            ] {
                assert!(!asks(proto, sport, dport), "{proto} {sport} {dport}");
            }
            let text = render(f, "caracal", table);
            let leads = "ip daddr 169.254.169.254 th dport 80 dnat to 10.0.0.100:8775";
            let leads = text.contains(leads);
            assert_eq!(leads, has_metadata && f == Family::V4, "{text}");
        }
    }
}

#[test]
fn outgoing_nat_is_for_pools_to_outside() {
    let masquerade = |ports| Statement::Masquerade {
        ports,
        fully_random: true,
    };
    let range = PortRange {
        first: 100,
        last: 200,
    };
    for spared in [false, true] {
        let tables = tables(RulesConfig {
            nat_spares_hosts: spared,
            nat_ports: Some(range),
            ..RulesConfig::default()
        });
        let nat = |src: IpAddr, dst: IpAddr, proto| {
            let p = Packet {
                src,
                dst,
                proto,
                sport: 0,
                dport: 0,
                icmp: None,
            };
            pass(
                tables.get(p.family()),
                Hook::Postrouting,
                100,
                &Seen::new(p, None, Some("eth0")),
            )
            .effects
        };
        let out = ip("192.0.2.1");
        assert_eq!(nat(ip("10.0.0.1"), out, Proto::TCP), [masquerade(Some(range))]);
        assert_eq!(nat(ip("10.0.0.1"), out, Proto::ICMP), [masquerade(None)]);
        assert_eq!(nat(ip("10.1.0.1"), out, Proto::TCP), [], "a pool without NAT");
        assert_eq!(
            nat(ip("10.0.0.1"), ip("10.1.0.1"), Proto::TCP),
            [],
            "another pool"
        );
        assert_eq!(
            nat(ip("fd00::1"), ip("2001:db8::1"), Proto::UDP),
            [masquerade(Some(range))]
        );
        assert_eq!(nat(ip("fd00::1"), ip("fd00::9"), Proto::UDP), []);
    }
    let tables = tables(RulesConfig {
        nat_address: PerFamily {
            v4: Some(ip("192.0.2.9")),
            v6: None,
        },
        ..RulesConfig::default()
    });
    let p = Packet {
        src: ip("10.0.0.1"),
        dst: ip("192.0.2.1"),
        ..tcp(Family::V4, 80)
    };
    let effects = pass(
        &tables.v4,
        Hook::Postrouting,
        100,
        &Seen::new(p, None, Some("eth0")),
    )
    .effects;
    assert!(
        matches!(&effects[..], [Statement::Snat(to)] if to.first == ip("192.0.2.9")),
        "{effects:?}"
    );
}

#[test]
fn addresses_of_hosts_are_spared_where_asked() {
    for spared in [false, true] {
        let mut compiler = Compiler::new(RulesConfig {
            nat_spares_hosts: spared,
            ..RulesConfig::default()
        });
        let host = |text| {
            Some(caracal_net::IfAddr {
                addr: ip(text),
                len: 24,
            })
        };
        compiler.apply_all(&[
            Delta::Host(caracal_desired::Host {
                node: node(1),
                addr: PerFamily {
                    v4: host("192.0.2.1"),
                    v6: host("2001:db8::1"),
                },
                ipip: None,
            }),
            Delta::Pool(Pool {
                cidr: "10.0.0.0/24".parse().unwrap(),
                nat_outgoing: true,
                vxlan: EncapMode::Never,
                ipip: EncapMode::Never,
            }),
        ]);
        let table = compiler.full_state().v4;
        for (dst, translated) in [("192.0.2.1", !spared), ("192.0.2.2", true)] {
            let p = Packet {
                src: ip("10.0.0.1"),
                dst: ip(dst),
                ..tcp(Family::V4, 80)
            };
            let fate = pass(&table, Hook::Postrouting, 100, &Seen::new(p, None, None));
            assert_eq!(!fate.effects.is_empty(), translated, "{dst}, spared {spared}");
        }
    }
}

/// A workload with these controls, in the table of IPv4.
fn with_controls(qos: QosControls) -> String {
    let mut workload = (*endpoint()).clone();
    workload.qos = Some(qos);
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply(&Delta::Workload(Arc::new(workload)));
    compiler.apply(&Delta::Host(caracal_desired::Host {
        node: node(1),
        addr: PerFamily {
            v4: Some("172.30.0.1/24".parse().unwrap()),
            v6: None,
        },
        ipip: None,
    }));
    let table = compiler.full_state().v4;
    assert_eq!(crate::interpreter::faults(&table), [""; 0]);
    let text = render(Family::V4, "t", &table);
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn limits_of_workloads_stand_where_they_hold() {
    let text = with_controls(QosControls {
        egress_packet_rate: Some(100),
        egress_packet_burst: Some(7),
        ingress_max_connections: Some(3),
        ..QosControls::default()
    });
    for part in [
        "limit rate over 100/second burst 7 packets counter name \"wall/packet-rate.out.deny\" drop",
        "ct count over 3 counter name \"wall/connections.in.deny\" reject with tcp reset",
        "tcp flags & 0x17 == 0x02 oifname vmap @conn-to",
        "\"cali1\" : jump rate-from-cali1",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // The rate holds for known connections too, and for what the host gets; the other limit for new ones only.
    for chain in ["filter-forward", "filter-input"] {
        let rules = text.split(&format!("chain {chain} {{")).nth(1).unwrap();
        let (rate, known) = (
            rules.find("@rate-from").unwrap(),
            rules.find("ct state established").unwrap(),
        );
        assert!(rate < known, "{chain}: {rules}");
    }
    let forward = text.split("chain filter-forward {").nth(1).unwrap();
    assert!(forward.find("@conn-to").unwrap() > forward.find("ct state established").unwrap());
    for nothing in [
        QosControls::default(),
        QosControls {
            egress_packet_rate: Some(0),
            ingress_max_connections: Some(-1),
            dscp: Some("loud".into()),
            ..QosControls::default()
        },
    ] {
        let text = with_controls(nothing);
        assert!(
            !text.contains("rate-") && !text.contains("conn-") && !text.contains("dscp"),
            "{text}"
        );
    }
}

#[test]
fn a_dscp_is_set_on_what_leaves_the_cluster() {
    let text = with_controls(QosControls {
        dscp: Some("AF41".into()),
        ..QosControls::default()
    });
    for part in [
        "ip daddr != @dscp-near ip saddr vmap @dscp-from",
        "ip dscp set 0x22",
        "172.30.0.1",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
