//! What IPVS forwards, by hand: into the input of the host, out of its output, with another destination.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use caracal_api::Action;
use caracal_desired::{Delta, Desired, HostEndpoint, Profile, Rule, WorkloadEndpoint};
use caracal_ids::WorkloadId;
use caracal_net::{Cidr, Family, PerFamily, PortRange, Proto};
use caracal_rules::{
    Compiler, DenyAction, HostAction, RulesConfig, ServiceLoops,
    ir::{Hook, TableState},
    model::{Fate, Packet, Seen, pass},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    hosts::{config, host},
    interpreter::{faults, headers},
    world::{addr, deltas, packet, profile_name, world},
};

/// Interfaces that packets come in and leave by.
const NAMES: [&str; 6] = ["eth0", "eth1", "lo", "cali0", "cali1", "cali-stranger"];

/// Behind IPVS.
const BEHIND: i32 = 110;
const MARK: u32 = 0x00fe_0000;
/// A bit that is others'.
const OTHERS: u32 = 0x0000_0001;

fn profile(n: usize, egress: Vec<Rule>, ingress: Vec<Rule>) -> Delta {
    Delta::Profile(Arc::new(Profile {
        name: profile_name(n),
        ingress,
        egress,
    }))
}

fn but(port: u16) -> Vec<Rule> {
    let mut no = Rule::new(Action::Deny);
    no.protocol = Some(Proto::TCP);
    no.dst.ports = [PortRange::single(port)].into();
    vec![no, Rule::new(Action::Allow)]
}

fn workload(n: u8) -> Delta {
    Delta::Workload(Arc::new(WorkloadEndpoint {
        id: WorkloadId::new("ns", &format!("w{n}")),
        interface: format!("cali{n}").into(),
        container_id: "".into(),
        mac: None,
        addresses: PerFamily::new(|f| vec![Cidr::host(addr(f, n))]),
        nats: vec![],
        allowed_sources: vec![],
        tiers: vec![],
        profiles: vec![profile_name(0)],
        qos: None,
    }))
}

fn compiler() -> Compiler {
    let mut compiler = Compiler::new(RulesConfig {
        ipvs_mark: Some(MARK),
        endpoint_to_host: HostAction::Drop,
        ..RulesConfig::default()
    });
    compiler.apply_all(&[
        // Nothing to port 7 leaves workloads, nothing to port 8 comes to them.
        profile(0, but(7), but(8)),
        workload(1),
        workload(2),
    ]);
    compiler.set_interface("kube-ipvs0", Some(BTreeSet::new()));
    compiler
}

struct Ipvs(PerFamily<TableState>);

impl Ipvs {
    fn new(mut compiler: Compiler) -> Self {
        let tables = compiler.full_state();
        for (_, table) in tables.iter() {
            assert_eq!(faults(table), Vec::<String>::new());
        }
        Self(tables)
    }

    fn hook(&self, f: Family, hook: Hook, priority: i32, seen: &Seen) -> Fate {
        let fate = pass(self.0.get(f), hook, priority, seen);
        assert_eq!(fate.faults, Vec::<String>::new());
        assert_eq!(fate.mark & OTHERS, OTHERS);
        fate
    }

    /// A packet that came in by an interface; where IPVS sends it, or `None` if it is none of its.
    fn goes(&self, f: Family, from: IpAddr, iif: &str, sent_on: Option<(u16, &str)>) -> bool {
        self.goes_marked(f, from, iif, sent_on, 0)
    }

    fn goes_marked(
        &self,
        f: Family,
        from: IpAddr,
        iif: &str,
        sent_on: Option<(u16, &str)>,
        mark: u32,
    ) -> bool {
        let packet = |dst, dport| Packet {
            src: from,
            dst,
            proto: Proto::TCP,
            sport: 5,
            dport,
            icmp: None,
        };
        let at_input = Seen {
            mark: OTHERS | mark,
            to_host: true,
            ..Seen::new(packet(addr(f, 200), 80), Some(iif), None)
        };
        let input = self.hook(f, Hook::Input, 0, &at_input);
        assert!(
            input.accepted,
            "nothing is known before IPVS was asked: {}",
            input.by
        );
        let Some((port, oif)) = sent_on else {
            let behind = self.hook(
                f,
                Hook::Input,
                BEHIND,
                &Seen {
                    mark: input.mark,
                    ..at_input
                },
            );
            assert!(!behind.accepted || behind.mark & MARK == 0);
            return behind.accepted;
        };
        let at_output = Seen {
            mark: input.mark,
            ..Seen::new(packet(addr(f, 2), port), None, Some(oif))
        };
        let output = self.hook(f, Hook::Output, 0, &at_output);
        assert!(
            !output.accepted || output.mark & MARK == 0,
            "what it carries leaves"
        );
        output.accepted
    }
}

#[test]
fn policy_of_both_ends_is_asked_with_the_destination_that_ipvs_chose() {
    let ipvs = Ipvs::new(compiler());
    for f in Family::BOTH {
        let one = |to| ipvs.goes(f, addr(f, 1), "cali1", Some(to));
        assert!(one((80, "cali2")));
        assert!(!one((7, "cali2")), "egress policy of the sender");
        assert!(!one((7, "eth0")), "also to elsewhere");
        assert!(one((8, "eth0")));
        assert!(!one((8, "cali2")), "ingress policy of the receiver");
        assert!(!one((80, "cali9")), "an interface without endpoint");
        assert!(
            !ipvs.goes(f, addr(f, 77), "cali1", Some((80, "cali2"))),
            "an address without endpoint"
        );
        let outside = |to| ipvs.goes(f, addr(f, 99), "eth0", Some(to));
        assert!(outside((7, "cali2")));
        assert!(!outside((8, "cali2")));
    }
}

#[test]
fn what_ipvs_leaves_is_to_the_host() {
    let mut open = compiler();
    let closed = Ipvs::new(compiler());
    open.set_config(RulesConfig {
        endpoint_to_host: HostAction::Accept,
        ..open.config().clone()
    });
    let open = Ipvs::new(open);
    for f in Family::BOTH {
        assert!(!closed.goes(f, addr(f, 1), "cali1", None));
        assert!(open.goes(f, addr(f, 1), "cali1", None));
        assert!(closed.goes(f, addr(f, 99), "eth0", None));
    }
}

fn endpoint(name: &str, interface: &str, policy: usize) -> Delta {
    Delta::HostEndpoint(Arc::new(HostEndpoint {
        name: name.into(),
        interface: interface.into(),
        expected_ips: vec![],
        tiers: vec![],
        untracked: vec![],
        pre_dnat: vec![],
        forward: vec![caracal_desired::TierPolicies {
            name: caracal_ids::TierName::new("default").unwrap(),
            default_action: caracal_api::TierDefaultAction::Deny,
            ingress: vec![crate::world::policy_id(policy)],
            egress: vec![],
        }],
        profiles: vec![],
    }))
}

fn forward_policy(n: usize, rules: Vec<Rule>) -> Delta {
    Delta::Policy(Arc::new(caracal_desired::Policy {
        id: crate::world::policy_id(n),
        tier: caracal_ids::TierName::new("default").unwrap(),
        ingress: rules,
        egress: vec![],
        untracked: false,
        pre_dnat: false,
    }))
}

#[test]
fn forwarded_traffic_of_each_interface_meets_its_own_endpoint() {
    let mut c = compiler();
    c.apply_all(&[
        forward_policy(2, but(21)),
        forward_policy(3, but(22)),
        forward_policy(4, but(23)),
        endpoint("h0", "eth0", 2),
        endpoint("h1", "eth1", 3),
        endpoint("h2", "*", 4),
    ]);
    let ipvs = Ipvs::new(c);
    for f in Family::BOTH {
        for (iif, closed) in [("eth0", 21), ("eth1", 22), ("eth2", 23), ("cali1", 23)] {
            let from = if iif == "cali1" { addr(f, 1) } else { addr(f, 99) };
            for port in 21..24 {
                let goes = ipvs.goes(f, from, iif, Some((port, "cali2")));
                assert_eq!(goes, port != closed, "{iif} {port}");
                let allowed = RulesConfig::default().allowed_mark;
                let before = ipvs.goes_marked(f, from, iif, Some((port, "cali2")), allowed);
                assert!(before, "{iif} {port}: allowed before NAT");
                assert!(!ipvs.goes_marked(f, from, iif, Some((8, "cali2")), allowed));
            }
        }
    }
}

#[test]
fn more_host_endpoints_than_numbers_are_closed() {
    let mut c = compiler();
    // Seven numbers: others, workloads, four endpoints, and the rest.
    c.set_config(RulesConfig {
        ipvs_mark: Some(0x000e_0000),
        ..c.config().clone()
    });
    c.apply(&forward_policy(2, but(21)));
    for n in 0..6 {
        c.apply(&endpoint(&format!("h{n}"), &format!("eth{n}"), 2));
    }
    let ipvs = Ipvs::new(c);
    for f in Family::BOTH {
        let goes = |n| ipvs.goes(f, addr(f, 99), &format!("eth{n}"), Some((80, "cali2")));
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(goes),
            [true, true, true, true, false, false, true]
        );
    }
}

#[test]
fn without_the_interface_of_ipvs_nothing_is_there() {
    let mut c = compiler();
    let with = c.full_state();
    let named = |tables: &PerFamily<TableState>| {
        let texts = tables.iter().map(|(f, t)| caracal_rules::ir::render(f, "t", t));
        texts.filter(|t| t.contains("ipvs")).count()
    };
    assert_eq!(named(&with), 2);
    c.set_interface("kube-ipvs0", None);
    let changes = c.flush();
    assert!(changes.iter().all(|(_, c)| !c.is_empty()));
    assert_eq!(named(&c.full_state()), 0);
}

/// The address that a workload's interface sends from; that of nobody where no endpoint has it.
fn source(d: &Desired, f: Family, interface: &str) -> IpAddr {
    let holder = d.workloads.values().find(|w| *w.interface == *interface);
    let own = holder.and_then(|w| w.addresses.get(f).first());
    own.map_or(addr(f, 77), Cidr::addr)
}

proptest! {
    #![proptest_config(crate::world::cases(96))]

    #[test]
    fn what_ipvs_forwards_is_judged_as_what_is_forwarded(
        d in world(true),
        host in host(),
        packets in vec(packet(), 1..6),
        deny in select(vec![DenyAction::Drop, DenyAction::Reject]),
        allowed in any::<bool>(),
    ) {
        let mut c = Compiler::new(RulesConfig {
            ipvs_mark: Some(MARK),
            // What IPVS sends on has the address of no service any more.
            service_loops: ServiceLoops::Disabled,
            ..config(&host, deny)
        });
        c.set_interface("kube-ipvs0", Some(BTreeSet::new()));
        for (name, addresses) in &host.interfaces {
            c.set_interface(name, Some(addresses.clone()));
        }
        c.apply_all(&deltas(&d));
        let ipvs = Ipvs::new(c);
        let mark = OTHERS | if allowed { RulesConfig::default().allowed_mark } else { 0 };
        for (p, from) in packets.iter().flat_map(|p| NAMES.map(|from| (headers(p), from))) {
            let f = Family::of(p.src);
            let mut p = p;
            if from.starts_with("cali") {
                p.src = source(&d, f, from);
            }
            let at_input = Seen { mark, to_host: true, ..Seen::new(Packet { dst: addr(f, 200), ..p }, Some(from), None) };
            let input = ipvs.hook(f, Hook::Input, 0, &at_input);
            prop_assert!(input.accepted, "{}", input.by);
            for to in NAMES {
                let forward = ipvs.hook(f, Hook::Forward, 0, &Seen { mark, ..Seen::new(p, Some(from), Some(to)) });
                let output = ipvs.hook(f, Hook::Output, 0, &Seen { mark: input.mark, ..Seen::new(p, None, Some(to)) });
                prop_assert_eq!(
                    output.accepted, forward.accepted,
                    "{} to {}: {:?}\nforwarded: {}\nby IPVS: {}", from, to, p, forward.by, output.by
                );
                if output.accepted {
                    prop_assert_eq!(output.mark, forward.mark, "{} to {}", from, to);
                }
            }
        }
    }
}
