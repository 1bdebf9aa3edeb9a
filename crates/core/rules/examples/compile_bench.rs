//! What compiling costs on the reference workload (`bench/`): `cargo run --release -p caracal-rules --example compile_bench [POLICIES] [REMOTE]`.
#![allow(clippy::expect_used, reason = "a program for people, not for nodes")]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{
    Delta, IpSet, IpSetKind, IpSetMember, Policy, Profile, Rule, TierPolicies, WorkloadEndpoint,
};
use caracal_ids::{IpSetId, PolicyId, PolicyKind, ProfileName, TierName, WorkloadId};
use caracal_net::{Cidr, PerFamily, PortRange, Proto};
use caracal_rules::{Compiler, RulesConfig, ir::TableDelta};

const APPS: usize = 100;
const ROLES: usize = 50;
const ROUNDS: usize = 300;

fn v4(n: usize) -> IpAddr {
    Ipv4Addr::from(u32::try_from(n).expect("an address's number fits")).into()
}

fn port(n: usize) -> PortRange {
    let first = u16::try_from(n).expect("a port's number fits");
    PortRange {
        first,
        last: first + 10,
    }
}

fn policy_id(i: usize) -> PolicyId {
    PolicyId::global(PolicyKind::GlobalNetworkPolicy, &format!("pol-{i:06}"))
}

fn role(i: usize) -> IpSetId {
    IpSetId::new(format!("s:role{}", i % ROLES))
}

fn policy(i: usize, ports: PortRange) -> Delta {
    let tcp = || Rule {
        protocol: Some(Proto::TCP),
        ..Rule::new(Action::Allow)
    };
    let (mut first, mut second, mut third) = (tcp(), tcp(), tcp());
    first.src.ip_sets = [role(i)].into();
    first.dst.ports = [PortRange::single(8080)].into();
    let net = v4(0xac10_0000 + (((i >> 12) % 16) << 16) + (((i >> 4) % 256) << 8) + i % 16 * 16);
    second.src.nets = [Cidr::new(net, 28)].into();
    third.dst.ports = [ports].into();
    Delta::Policy(Arc::new(Policy {
        id: policy_id(i),
        tier: TierName::default_tier(),
        ingress: vec![first, second, third],
        egress: vec![],
        untracked: false,
        pre_dnat: false,
    }))
}

fn endpoint(i: usize, lists: &[Vec<PolicyId>]) -> Delta {
    let mut addresses = PerFamily::<Vec<Cidr>>::default();
    addresses.v4.push(Cidr::host(v4(0x0a41_0000 + i)));
    Delta::Workload(Arc::new(WorkloadEndpoint {
        id: WorkloadId::new("default", &format!("node--local-k8s-local{i:06}-eth0")),
        interface: format!("cali{i:08}").into(),
        container_id: "".into(),
        mac: None,
        addresses,
        nats: vec![],
        allowed_sources: vec![],
        tiers: vec![TierPolicies {
            name: TierName::default_tier(),
            default_action: TierDefaultAction::Deny,
            ingress: lists[i % APPS].clone(),
            egress: vec![],
        }],
        profiles: vec![ProfileName::new("kns.default").expect("a valid name")],
        qos: None,
    }))
}

fn workload(policies: usize, remote: usize) -> (Vec<Delta>, Vec<Vec<PolicyId>>) {
    let mut lists = vec![Vec::new(); APPS];
    (0..policies).for_each(|i| lists[i % APPS].push(policy_id(i)));
    let mut deltas = Vec::new();
    for k in 0..ROLES {
        let remotes = (k..remote).step_by(ROLES);
        let members = remotes
            .map(|j| IpSetMember::Net(Cidr::host(v4(0x0a42_0000 + j))))
            .collect();
        let kind = IpSetKind::Net;
        deltas.push(Delta::IpSet(
            role(k),
            IpSet {
                kind,
                members,
                about: Arc::default(),
            },
        ));
    }
    deltas.extend((0..policies).map(|i| policy(i, port(1024 + i % 20000))));
    deltas.push(Delta::Profile(Arc::new(Profile {
        name: ProfileName::new("kns.default").expect("a valid name"),
        ingress: vec![Rule::new(Action::Allow)],
        egress: vec![Rule::new(Action::Allow)],
    })));
    deltas.extend((0..APPS).map(|i| endpoint(i, &lists)));
    (deltas, lists)
}

fn describe(deltas: &PerFamily<Vec<TableDelta>>) -> String {
    let (mut chains, mut rules, mut sets, mut elements) = (0, 0, 0, 0);
    for delta in deltas.v4.iter().chain(&deltas.v6) {
        match delta {
            TableDelta::PutChain(_, c) => {
                chains += 1;
                rules += c.rules.len();
            }
            TableDelta::PutSet(..) => sets += 1,
            TableDelta::AddElements(_, e) | TableDelta::ReplaceElements(_, e) => elements += e.len(),
            TableDelta::DeleteElements(_, k) => elements += k.len(),
            TableDelta::RemoveChain(_)
            | TableDelta::RemoveSet(_)
            | TableDelta::PutCounter(_)
            | TableDelta::RemoveCounter(_) => {}
        }
    }
    format!("{chains} chains with {rules} rules, {sets} sets, {elements} elements")
}

fn show(what: &str, mut times: Vec<Duration>, last: &PerFamily<Vec<TableDelta>>) {
    times.sort();
    let us = |d: Duration| d.as_secs_f64() * 1e6;
    println!(
        "{what:<34} p50 {:>9.1} µs  p99 {:>9.1} µs   {}",
        us(times[times.len() / 2]),
        us(times[times.len() * 99 / 100]),
        describe(last)
    );
}

fn changes(what: &str, compiler: &mut Compiler, change: impl Fn(usize) -> Delta) {
    let mut times = Vec::new();
    let mut last = PerFamily::default();
    for k in 0..ROUNDS {
        let delta = change(k);
        let start = Instant::now();
        compiler.apply(&delta);
        last = black_box(compiler.flush());
        times.push(start.elapsed());
    }
    show(what, times, &last);
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let policies = args.next().unwrap_or(10_000);
    let remote = args.next().unwrap_or(10_000);
    let (deltas, lists) = workload(policies, remote);
    let mut times = Vec::new();
    let mut first = PerFamily::default();
    let mut compiler = Compiler::new(RulesConfig::default());
    for _ in 0..5 {
        compiler = Compiler::new(RulesConfig::default());
        let start = Instant::now();
        compiler.apply_all(&deltas);
        first = black_box(compiler.flush());
        times.push(start.elapsed());
    }
    println!("{policies} policies, {remote} remote endpoints, {APPS} local endpoints");
    show("cold", times, &first);
    changes("one port range of one policy", &mut compiler, |k| {
        policy(k * 97 % policies, port(30_000 + k))
    });
    changes("one member of one set", &mut compiler, |k| {
        let member = IpSetMember::Net(Cidr::host(v4(0x0b00_0000 + k)));
        let (added, removed) = (vec![member], vec![]);
        Delta::IpSetMembers {
            id: role(k),
            added,
            removed,
        }
    });
    changes("a new endpoint of a known list", &mut compiler, |k| {
        endpoint(APPS + k, &lists)
    });
    changes("an endpoint gone", &mut compiler, |k| {
        Delta::WorkloadGone(WorkloadId::new(
            "default",
            &format!("node--local-k8s-local{:06}-eth0", APPS + k),
        ))
    });
    let mut grown = lists.clone();
    for (k, list) in grown.iter_mut().enumerate() {
        list.push(policy_id(k + 1));
    }
    changes("a list gets one policy more", &mut compiler, |k| {
        endpoint(
            k % APPS,
            if (k / APPS).is_multiple_of(2) {
                &grown
            } else {
                &lists
            },
        )
    });
}
