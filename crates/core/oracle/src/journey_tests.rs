use std::sync::Arc;

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Policy, Profile, Rule, TierPolicies};
use caracal_ids::{PolicyId, PolicyKind, ProfileName, TierName};

use super::*;

fn endpoint(name: &str, interface: &str, ips: &[&str]) -> HostEndpoint {
    HostEndpoint {
        name: name.into(),
        interface: interface.into(),
        expected_ips: ips.iter().map(|i| i.parse().unwrap()).collect(),
        tiers: vec![],
        untracked: vec![],
        pre_dnat: vec![],
        forward: vec![],
        profiles: vec![],
    }
}

fn world(endpoints: Vec<HostEndpoint>) -> (Desired, Host) {
    let mut d = Desired::default();
    for e in endpoints {
        d.host_endpoints.insert(e.name.clone(), Arc::new(e));
    }
    let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    let host = Host {
        interfaces: BTreeMap::from([
            ("eth0".to_owned(), addresses(&["192.0.2.1", "2001:db8::1"])),
            ("eth1".to_owned(), addresses(&["198.51.100.1"])),
        ]),
        workload_prefixes: vec!["cali".into()],
        ..Host::default()
    };
    (d, host)
}

fn tcp(port: u16) -> Packet {
    Packet::with_ports(
        "203.0.113.9".parse().unwrap(),
        "192.0.2.1".parse().unwrap(),
        Proto::TCP,
        40000,
        port,
    )
}

fn go(d: &Desired, host: &Host, way: Way, packet: Packet) -> Journey {
    let trip = Trip {
        packet,
        original: None,
        way,
        spoofed: false,
    };
    travel(d, host, Reading::Enforced, &trip)
}

fn to_host(from: &str) -> Way {
    Way::In { from: from.into() }
}

fn asked(journey: &Journey) -> Vec<String> {
    let name = |s: &Stage| match s {
        Stage::Host(name, list) => format!("{name} {list:?}"),
        other => format!("{other:?}"),
    };
    journey.stages.iter().map(|(s, _)| name(s)).collect()
}

#[test]
fn an_interface_belongs_to_the_first_endpoint_that_names_it_or_its_address() {
    let (d, host) = world(vec![
        endpoint("b", "eth0", &[]),
        endpoint("a", "", &["2001:db8::1"]),
        endpoint("c", "eth1", &["192.0.2.1"]),
        endpoint("z", "*", &[]),
    ]);
    let who = |interface: &str| asked(&go(&d, &host, to_host(interface), tcp(80)));
    assert_eq!(who("eth0"), ["a Normal"], "by address, and first by name");
    assert_eq!(who("eth1"), ["c Normal"], "its address is not looked at");
    assert_eq!(who("eth2"), ["z Normal"]);
}

#[test]
fn failsafe_ports_come_before_policy_but_never_for_what_is_forwarded() {
    let policy = Policy {
        id: PolicyId::global(PolicyKind::GlobalNetworkPolicy, "deny"),
        tier: TierName::default_tier(),
        ingress: vec![Rule::new(Action::Deny)],
        egress: vec![Rule::new(Action::Deny)],
        untracked: false,
        pre_dnat: false,
    };
    let list = vec![TierPolicies {
        name: TierName::default_tier(),
        default_action: TierDefaultAction::Deny,
        ingress: vec![policy.id.clone()],
        egress: vec![policy.id.clone()],
    }];
    let e = HostEndpoint {
        tiers: list.clone(),
        forward: list,
        ..endpoint("e", "eth0", &[])
    };
    let (mut d, mut host) = world(vec![e]);
    d.policies.insert(policy.id.clone(), Arc::new(policy));
    host.failsafe_in = vec![FailsafePort {
        proto: Proto::TCP,
        port: 22,
        net: Some("203.0.113.0/24".parse().unwrap()),
    }];
    let verdict = |way, packet| go(&d, &host, way, packet).verdict;
    assert_eq!(verdict(to_host("eth0"), tcp(22)), Verdict::Allowed);
    assert_eq!(verdict(to_host("eth0"), tcp(23)), Verdict::Blocked);
    let stranger = Packet {
        src: "198.51.100.9".parse().unwrap(),
        ..tcp(22)
    };
    assert_eq!(verdict(to_host("eth0"), stranger), Verdict::Blocked);
    let through = Way::Forward {
        from: "eth0".into(),
        to: "eth1".into(),
    };
    assert_eq!(verdict(through, tcp(22)), Verdict::Blocked);
}

#[test]
fn a_workload_meets_its_own_policy_and_then_the_action_towards_the_host() {
    let (mut d, mut host) = world(vec![endpoint("all", "*", &[])]);
    let name = ProfileName::new("open").unwrap();
    d.profiles.insert(
        name.clone(),
        Arc::new(Profile {
            name: name.clone(),
            ingress: vec![],
            egress: vec![Rule::new(Action::Allow)],
        }),
    );
    let workload = WorkloadEndpoint {
        id: caracal_ids::WorkloadId::new("ns", "w"),
        interface: "cali1".into(),
        container_id: "".into(),
        mac: None,
        addresses: caracal_net::PerFamily {
            v4: vec!["203.0.113.9/32".parse().unwrap()],
            v6: vec![],
        },
        nats: vec![],
        allowed_sources: vec![],
        tiers: vec![],
        profiles: vec![name],
        qos: None,
    };
    d.workloads.insert(workload.id.clone(), Arc::new(workload));
    for (action, verdict) in [
        (ToHost::Drop, Verdict::Blocked),
        (ToHost::Accept, Verdict::Allowed),
        (ToHost::Return, Verdict::Allowed),
    ] {
        host.to_host = action;
        let journey = go(&d, &host, to_host("cali1"), tcp(80));
        assert_eq!(journey.verdict, verdict);
        assert_eq!(asked(&journey), ["Workload(\"ns/w\")", "ToHost"]);
    }
    let out = Way::Out { to: "cali1".into() };
    assert_eq!(
        go(&d, &host, out, tcp(80)).verdict,
        Verdict::Allowed,
        "what the host sends to its workloads is not policed"
    );
    assert_eq!(
        go(&d, &host, Way::Out { to: "lo".into() }, tcp(80)).verdict,
        Verdict::Blocked,
        "an endpoint without policy and profile lets only failsafe ports through"
    );
}
