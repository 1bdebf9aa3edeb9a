//! What the compiler makes is what the kernel takes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    process::Command,
    sync::Arc,
    time::Duration,
};

use caracal_api::{
    Action, EncapMode, GlobalNetworkPolicySpec, Object, PolicyType, Port, ServiceMatch, TierDefaultAction,
    WorkloadEndpointSpec,
};
use caracal_desired::{Delta, HostEndpoint, Policy, Pool, Rule, TierPolicies, Vtep, WorkloadEndpoint};
use caracal_ids::{NodeName, PolicyId, PolicyKind, TierName, WorkloadId};
use caracal_net::{Family, PerFamily, PortRange, Proto};
use caracal_policy_fuzz::{Case, desired, rules_config};
use caracal_rules::{Compiler, DenyAction, Failsafe, RulesConfig, ir::render};
use caracal_testkit::{needs, netns};

use super::kit::*;

fn policy(port: u16) -> Delta {
    let mut rule = Rule::new(Action::Allow);
    rule.protocol = Some(Proto::TCP);
    rule.dst.ports = [PortRange::single(port)].into();
    Delta::Policy(Arc::new(Policy {
        id: PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web"),
        tier: TierName::new("default").expect("a name"),
        ingress: vec![Rule::new(Action::Log), rule],
        egress: vec![Rule::new(Action::Allow)],
        untracked: false,
        pre_dnat: false,
    }))
}

fn world() -> Vec<Delta> {
    let web = PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web");
    let addresses = PerFamily {
        v4: vec!["10.65.0.1/32"],
        v6: vec!["fd00:65::1/128"],
    };
    let pool = |cidr: &str| {
        Delta::Pool(Pool {
            cidr: cidr.parse().expect("a prefix"),
            nat_outgoing: true,
            vxlan: EncapMode::Always,
            ipip: EncapMode::Never,
        })
    };
    vec![
        policy(80),
        Delta::Workload(Arc::new(WorkloadEndpoint {
            id: WorkloadId::new("shop", "web-1"),
            interface: "cali1111".into(),
            container_id: "".into(),
            mac: None,
            addresses: addresses.map(|_, a| a.iter().map(|a| a.parse().expect("a prefix")).collect()),
            nats: vec![],
            allowed_sources: vec![],
            tiers: vec![TierPolicies {
                name: TierName::new("default").expect("a name"),
                default_action: TierDefaultAction::Deny,
                ingress: vec![web.clone()],
                egress: vec![web],
            }],
            profiles: vec![],
            qos: None,
        })),
        pool("10.64.0.0/10"),
        pool("fd00:65::/48"),
        Delta::Vtep(Vtep {
            node: NodeName::new("node-2").expect("a name"),
            mac: PerFamily::default(),
            tunnel_addr: PerFamily::default(),
            underlay: PerFamily {
                v4: Some("172.30.0.2".parse().expect("an address")),
                v6: Some("fd00::2".parse().expect("an address")),
            },
        }),
    ]
}

#[test]
fn netns_compiled_tables_load_and_change() {
    netns!();
    needs!("nft");
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply_all(&world());
    let tables = compiler.full_state();
    let mut driver = open();
    let report = driver
        .start(tables.clone(), &token())
        .expect("the kernel takes it");
    assert_eq!(report.problems, []);
    let by_driver = ruleset().replace("\tcomment \"caracal, layout 2\"\n", "");
    driver.cleanup().expect("all is ours");
    for (family, table) in tables.iter() {
        script(&render(family, "caracal", table));
    }
    assert_eq!(
        objects(&by_driver),
        objects(&ruleset()),
        "the text means the same"
    );
    nft(&["flush", "ruleset"]);
    driver.start(tables, &token()).expect("the kernel takes it");

    compiler.apply(&policy(81));
    let report = driver.apply(compiler.flush(), &token()).expect("a change");
    assert_eq!((report.batches, report.loads), (1, 0), "{report:?}");
    assert_eq!(report.problems, []);
    assert!(
        report.messages <= 6,
        "a rule, its counter and the one before it, and their fellows in the other family: {report:?}"
    );
    assert_eq!(driver.desired(Family::V6), &compiler.full_state().v6);
    wrote(
        &open().start(compiler.full_state(), &token()).expect("a restart"),
        0,
    );
}

/// Host endpoints with every kind of policy: a named one, one found by address, one for all others.
fn hosts() -> Vec<Delta> {
    let id = |name: &str| PolicyId::global(PolicyKind::GlobalNetworkPolicy, name);
    let tier = |name: &str, n: usize| TierPolicies {
        name: TierName::new(format!("tier{n}")).expect("a name"),
        default_action: TierDefaultAction::Pass,
        ingress: vec![id(name)],
        egress: vec![id(name)],
    };
    let policy = |name: &str, untracked, pre_dnat| {
        let mut allow = Rule::new(Action::Allow);
        allow.protocol = Some(Proto::TCP);
        allow.dst.ports = [
            PortRange::single(80),
            PortRange {
                first: 8000,
                last: 8010,
            },
        ]
        .into();
        let rules = vec![Rule::new(Action::Log), allow, Rule::new(Action::Deny)];
        Delta::Policy(Arc::new(Policy {
            id: id(name),
            tier: TierName::new("tier0").expect("a name"),
            ingress: rules.clone(),
            egress: rules,
            untracked,
            pre_dnat,
        }))
    };
    let endpoint = |name: &str, interface: &str, tiers: usize| {
        let list = |policy: &str| (0..tiers).map(|n| tier(policy, n)).collect::<Vec<_>>();
        let mut pre_dnat = list("pre");
        pre_dnat.iter_mut().for_each(|t| t.egress.clear());
        Delta::HostEndpoint(Arc::new(HostEndpoint {
            name: name.into(),
            interface: interface.into(),
            expected_ips: vec!["192.0.2.1".parse().expect("an address")],
            tiers: list("normal"),
            untracked: list("untracked"),
            pre_dnat,
            forward: list("normal"),
            profiles: vec![],
        }))
    };
    vec![
        policy("normal", false, false),
        policy("untracked", true, false),
        policy("pre", false, true),
        endpoint("named", "eth0", 1),
        endpoint("found", "", 20),
        endpoint("rest", "*", 2),
    ]
}

#[test]
fn netns_host_endpoints_load_and_change() {
    netns!();
    needs!("nft");
    let failsafe = |port, net: Option<&str>| Failsafe {
        proto: Proto::TCP,
        port,
        net: net.map(|n| n.parse().expect("a prefix")),
    };
    let ports = vec![
        failsafe(22, None),
        failsafe(179, Some("10.0.0.0/8")),
        failsafe(2379, Some("fd00::/8")),
    ];
    let mut compiler = Compiler::new(RulesConfig {
        deny: DenyAction::Reject,
        failsafe_in: ports.clone(),
        failsafe_out: ports,
        ..RulesConfig::default()
    });
    compiler.apply_all(&world());
    let mut driver = open();
    let report = driver
        .start(compiler.full_state(), &token())
        .expect("the kernel takes it");
    assert_eq!(report.problems, []);
    // They come, are found, lose their interface, answer otherwise, and go.
    let address = BTreeSet::from(["192.0.2.1".parse().expect("an address")]);
    let steps: [&dyn Fn(&mut Compiler); 5] = [
        &|c| c.apply_all(&hosts()),
        &|c| c.set_interface("eth1", Some(address.clone())),
        &|c| c.set_interface("eth1", None),
        &|c| {
            c.set_config(RulesConfig {
                deny: DenyAction::Drop,
                ..c.config().clone()
            });
        },
        &|c| {
            for name in ["named", "found", "rest"] {
                c.apply(&Delta::HostEndpointGone(name.into()));
            }
        },
    ];
    for (n, step) in steps.iter().enumerate() {
        step(&mut compiler);
        let report = driver
            .apply(compiler.flush(), &token())
            .unwrap_or_else(|e| panic!("step {n}: {e}"));
        assert_eq!(report.problems, [], "step {n}");
        wrote(
            &open().start(compiler.full_state(), &token()).expect("a restart"),
            0,
        );
        if n == 1 {
            let listed = ruleset();
            for part in [
                "host-raw-in",
                "host-pre-in",
                "host-fwd-out",
                "host-nat-out",
                "failsafe-in-net",
                "notrack",
            ] {
                assert!(listed.contains(part), "{part} is not in\n{listed}");
            }
        }
    }
}

#[test]
fn netns_random_clusters_follow_one_another() {
    netns!();
    let interfaces = |case: &Case, compiler: &mut Compiler| {
        for (name, addresses) in &case.host.interfaces {
            compiler.set_interface(name, Some(addresses.clone()));
        }
    };
    let mut driver = open();
    let mut compiler = Compiler::new(RulesConfig::default());
    let mut held = Vec::new();
    for seed in 1..=40 {
        let case = Case::random(seed, 0);
        let (state, deltas) = desired(&case);
        // What was there goes as the new state comes, in one change.
        for name in std::mem::take(&mut held) {
            compiler.apply(&Delta::HostEndpointGone(name));
        }
        held.extend(state.host_endpoints.keys().cloned());
        compiler.set_config(RulesConfig {
            deny: if seed % 2 == 0 {
                DenyAction::Reject
            } else {
                DenyAction::Drop
            },
            ..rules_config(&case.host)
        });
        interfaces(&case, &mut compiler);
        compiler.apply_all(&deltas);
        let report = if seed == 1 {
            driver.start(compiler.full_state(), &token())
        } else {
            driver.apply(compiler.flush(), &token())
        };
        let report = report.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(report.problems, [], "seed {seed}");
        wrote(
            &open().start(compiler.full_state(), &token()).expect("a restart"),
            0,
        );
    }
}

/// Whether a connection to a port of this host by `lo` comes about. A closed one is dropped, so it takes the whole time.
fn connects(family: Family, port: u16) -> bool {
    reaches(family, port, port)
}

/// The same with a listener on another port, to which the connection is led.
fn reaches(family: Family, port: u16, listener: u16) -> bool {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let _listener = TcpListener::bind((address, listener)).expect("a port of a fresh network");
    TcpStream::connect_timeout(&(address, port).into(), Duration::from_millis(400)).is_ok()
}

#[test]
fn netns_packets_meet_a_host_endpoint() {
    netns!();
    needs!("ip", "nft");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("ip runs").success());
    let id = |name: &str| PolicyId::global(PolicyKind::GlobalNetworkPolicy, name);
    let rule = |action, source: bool, port| {
        let mut rule = Rule::new(action);
        rule.protocol = Some(Proto::TCP);
        let side = if source { &mut rule.src } else { &mut rule.dst };
        side.ports = [PortRange::single(port)].into();
        rule
    };
    let policy = |name: &str, ingress: Vec<Rule>, egress: Vec<Rule>| {
        Delta::Policy(Arc::new(Policy {
            id: id(name),
            tier: TierName::new("default").expect("a name"),
            ingress,
            egress,
            untracked: name == "untracked",
            pre_dnat: name == "pre",
        }))
    };
    let list = |name: &str, end| {
        vec![TierPolicies {
            name: TierName::new("default").expect("a name"),
            default_action: end,
            ingress: vec![id(name)],
            egress: if name == "pre" { vec![] } else { vec![id(name)] },
        }]
    };
    // Without tracking every packet is judged, so answers need rules as well.
    let both_ways = || vec![rule(Action::Allow, false, 8082), rule(Action::Allow, true, 8082)];
    let mut compiler = Compiler::new(RulesConfig {
        failsafe_in: vec![Failsafe {
            proto: Proto::TCP,
            port: 22,
            net: None,
        }],
        ..RulesConfig::default()
    });
    compiler.apply_all(&[
        policy(
            "normal",
            vec![rule(Action::Allow, false, 8080), rule(Action::Allow, false, 8083)],
            vec![Rule::new(Action::Allow)],
        ),
        policy("untracked", both_ways(), both_ways()),
        policy(
            "pre",
            vec![rule(Action::Deny, false, 8083), rule(Action::Allow, false, 8084)],
            vec![],
        ),
        Delta::HostEndpoint(Arc::new(HostEndpoint {
            name: "loopback".into(),
            interface: "lo".into(),
            expected_ips: vec![],
            tiers: list("normal", TierDefaultAction::Deny),
            untracked: list("untracked", TierDefaultAction::Pass),
            pre_dnat: list("pre", TierDefaultAction::Pass),
            forward: vec![],
            profiles: vec![],
        })),
    ]);
    let mut driver = open();
    let report = driver.start(compiler.full_state(), &token()).expect("a start");
    assert_eq!(report.problems, []);
    let cases = [
        (8080, true, "allowed"),
        (8081, false, "the end of the tier"),
        (22, true, "a failsafe port"),
        (8082, true, "untracked policy allows it for good"),
        (8083, false, "preDNAT policy denies it first"),
        (8084, true, "preDNAT policy allows it for good"),
    ];
    for family in Family::BOTH {
        for (port, open, why) in cases {
            assert_eq!(
                connects(family, port),
                open,
                "{family}, port {port}: {why}\n{}",
                ruleset()
            );
        }
    }
    // What is translated on its way out is judged by where it goes.
    script(
        "table inet foreign { chain out { type nat hook output priority -100; tcp dport 9000 redirect to :9001; \
         tcp dport 9002 redirect to :9003; }; }",
    );
    compiler.apply(&policy(
        "normal",
        vec![Rule::new(Action::Allow)],
        vec![rule(Action::Allow, false, 9001), rule(Action::Allow, false, 9002)],
    ));
    driver.apply(compiler.flush(), &token()).expect("a change");
    for family in Family::BOTH {
        for (port, lands, open) in [(9000, 9001, true), (9002, 9003, false)] {
            assert_eq!(
                reaches(family, port, lands),
                open,
                "{family}, {port} to {lands}\n{}",
                ruleset()
            );
        }
    }
    compiler.apply(&Delta::HostEndpointGone("loopback".into()));
    driver.apply(compiler.flush(), &token()).expect("a change");
    for family in Family::BOTH {
        assert!(connects(family, 8081), "the endpoint is gone");
    }
}

/// A policy for a pod on this node that looks into sets of all kinds; which text each set is to tell.
fn selecting() -> (Case, Vec<String>) {
    let mut rules = Vec::new();
    let mut rule = |fill: &dyn Fn(&mut caracal_api::Rule)| {
        let mut rule = caracal_api::Rule::new(Action::Allow);
        rule.protocol = Some(caracal_api::Protocol::Name("TCP".into()));
        fill(&mut rule);
        rules.push(rule);
    };
    let long = format!("label in {{'{}'}}", "ä".repeat(100));
    rule(&|r| r.source.selector = "role == 'db' && has(env)".into());
    rule(&|r| r.source.selector.clone_from(&long));
    rule(&|r| {
        r.destination.selector = "app == 'web'".into();
        r.destination.ports = vec![Port::Named("http".into())];
    });
    rule(&|r| {
        r.source.services = Some(ServiceMatch {
            name: "shop".into(),
            namespace: "red".into(),
        });
    });
    let spec = GlobalNetworkPolicySpec {
        tier: "default".into(),
        ingress: rules,
        types: vec![PolicyType::Ingress],
        ..GlobalNetworkPolicySpec::default()
    };
    let pod = WorkloadEndpointSpec {
        node: caracal_policy_fuzz::NODE.into(),
        orchestrator: "k8s".into(),
        interface_name: "cali1".into(),
        ip_networks: vec!["10.0.0.1".into(), "fd00::1".into()],
        ..WorkloadEndpointSpec::default()
    };
    let case = Case {
        objects: vec![
            Object::new("p", spec).into(),
            Object::namespaced("red", "pod", pod).into(),
        ],
        ..Case::random(1, 0)
    };
    let told = [
        "(role == 'db' && has(env))".to_owned(),
        format!("label in {{'{}…", "ä".repeat(56)),
        "TCP port http of app == 'web'".to_owned(),
        "addresses of service red/shop".to_owned(),
    ];
    (case, told.into())
}

/// What the list of a family's sets says about each.
fn told_by(family: Family) -> Vec<String> {
    let listed = nft(&["list", "sets", if family == Family::V4 { "ip" } else { "ip6" }]);
    let comments = listed.lines().filter_map(|l| l.trim().strip_prefix("comment \""));
    comments.map(|c| c.trim_end_matches('"').to_owned()).collect()
}

#[test]
fn netns_a_listing_says_what_each_set_is_of_and_a_table_that_does_not_is_kept() {
    netns!();
    needs!("nft");
    let (case, told) = selecting();
    let mut compiler = Compiler::new(rules_config(&case.host));
    compiler.apply_all(&desired(&case).1);
    let mut older = compiler.full_state();
    for table in [&mut older.v4, &mut older.v6] {
        table.sets.values_mut().for_each(|set| set.def.about.clear());
    }
    let report = open().start(older, &token()).expect("an agent that told nothing");
    assert_eq!(report.problems, []);
    for family in Family::BOTH {
        let silent = told_by(family);
        assert!(silent.iter().all(|t| !told.contains(t)), "{silent:?}");
        let plain = silent.iter().filter(|t| t.starts_with("IP set "));
        assert_eq!(plain.count(), told.len(), "{silent:?}");
    }
    // The next one has nothing to change.
    wrote(
        &open().start(compiler.full_state(), &token()).expect("a restart"),
        0,
    );
    script("flush ruleset");
    open()
        .start(compiler.full_state(), &token())
        .expect("from nothing");
    for family in Family::BOTH {
        let tells = told_by(family);
        for text in &told {
            assert!(tells.contains(text), "{text:?} is not in {tells:?}");
        }
        let fits = |t: &String| t.len() <= 127 && !t.starts_with("IP set ");
        assert!(tells.iter().all(fits), "{tells:?}");
    }
    // And `nft` reads its own listing again.
    let listing = ruleset();
    script(&format!("flush ruleset\n{listing}"));
    assert_eq!(ruleset(), listing);
}
