//! Figures of the diff, beside its budget: `cargo run --release -p caracal-analysis --example diff_bench
//! [WORKLOADS [POLICIES]]` (10 000 and 1 000 by default). Pods are in 200 namespaces, five apps each, with five policies
//! for each namespace, and a tier of the platform before them. Times are of [`diff`] alone, from objects in memory to the
//! result; memory is the most that this process ever held, its objects included.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use caracal_analysis::{Diff, State, diff};
use caracal_api::{
    Action, EntityRule, GlobalNetworkPolicySpec, NetworkPolicySpec, Object, PolicyType, Port, Protocol,
    Resource, Rule, TierSpec, WorkloadEndpointSpec, default_resource,
};

const NAMESPACES: usize = 200;
const APPS: usize = 5;

fn labels<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn pod(n: usize) -> Resource {
    let namespace = format!("ns-{}", n % NAMESPACES);
    let ip = Ipv4Addr::from(0x0A40_0000 + u32::try_from(n).unwrap_or_default());
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".to_owned(),
        node: format!("node-{}", n / 100),
        pod: format!("pod-{n}"),
        endpoint: "eth0".to_owned(),
        interface_name: format!("cali{n:x}"),
        ip_networks: vec![format!("{ip}/32")],
        profiles: vec![format!("kns.{namespace}")],
        ..WorkloadEndpointSpec::default()
    };
    let mut object = Object::namespaced(namespace, format!("node-k8s-pod--{n}-eth0"), spec);
    object.metadata.labels = labels([
        ("app", format!("a{}", n / NAMESPACES % APPS)),
        ("pod-template-hash", format!("{:x}", n / 10)),
        ("statefulset.kubernetes.io/pod-name", format!("pod-{n}")),
    ]);
    object.into()
}

fn allow(source: &str, namespaces: &str, port: u16) -> Rule {
    Rule {
        protocol: Some(Protocol::Name("TCP".to_owned())),
        source: EntityRule {
            selector: source.to_owned(),
            namespace_selector: namespaces.to_owned(),
            ..EntityRule::default()
        },
        destination: EntityRule {
            ports: vec![Port::number(port)],
            ..EntityRule::default()
        },
        ..Rule::new(Action::Allow)
    }
}

/// Policy `n`: of an app of a namespace. `extra` is a port that it opens beside its own.
fn policy(n: usize, extra: Option<u16>) -> Resource {
    let app = n / NAMESPACES % APPS;
    let mut ingress = vec![
        allow(
            &format!("app == 'a{}'", (app + 1) % APPS),
            "",
            8000 + u16::try_from(n % 1000).unwrap_or_default(),
        ),
        Rule {
            source: EntityRule {
                nets: vec![format!("172.{}.{}.0/28", 16 + n / 256 % 16, n % 256)],
                ..EntityRule::default()
            },
            ..Rule::new(Action::Allow)
        },
    ];
    ingress.extend(extra.map(|port| allow("", "", port)));
    let spec = NetworkPolicySpec {
        order: Some(n as f64),
        selector: format!("app == 'a{app}'"),
        types: vec![PolicyType::Ingress],
        ingress,
        ..NetworkPolicySpec::default()
    };
    let name = format!("policy-{}", n / NAMESPACES);
    Object::namespaced(format!("ns-{}", n % NAMESPACES), name, spec).into()
}

fn platform(action: Action) -> Resource {
    let quarantine = Rule {
        source: EntityRule {
            nets: vec!["203.0.113.0/24".to_owned()],
            ..EntityRule::default()
        },
        ..Rule::new(action)
    };
    let spec = GlobalNetworkPolicySpec {
        tier: "platform".to_owned(),
        selector: "all()".to_owned(),
        types: vec![PolicyType::Ingress],
        ingress: vec![quarantine, Rule::new(Action::Pass)],
        ..GlobalNetworkPolicySpec::default()
    };
    Object::new("platform.first", spec).into()
}

fn put(state: &mut State, mut resource: Resource) {
    default_resource(&mut resource);
    state.insert(resource);
}

fn base(workloads: usize, policies: usize) -> State {
    let mut state = State::default();
    let tier = |order| TierSpec {
        order: Some(order),
        ..TierSpec::default()
    };
    put(&mut state, Object::new("platform", tier(10.0)).into());
    put(&mut state, platform(Action::Deny));
    (0..workloads).for_each(|n| put(&mut state, pod(n)));
    (0..policies).for_each(|n| put(&mut state, policy(n, None)));
    state.complete();
    state
}

/// The most memory that this process ever held, in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let workloads = numbers.next().transpose()?.unwrap_or(10_000);
    let policies = numbers.next().transpose()?.unwrap_or(1_000);
    let old = base(workloads, policies);
    println!(
        "{workloads} workloads, {policies} policies: objects {:.0} MiB",
        peak()
    );
    let show = |what: &str, spent: Duration, result: &Diff| {
        println!(
            "  {what:<44} {:>8.1} ms   {:>6} changes, {:>10} pairs, peak {:.0} MiB   budget 1 s",
            spent.as_secs_f64() * 1e3,
            result.changes.len(),
            result.pairs,
            peak()
        );
    };
    let run = |what: &str, change: &dyn Fn(&mut State)| {
        let mut new = old.clone();
        change(&mut new);
        let start = Instant::now();
        let result = diff(&old, &new);
        show(what, start.elapsed(), &result);
    };
    run("nothing", &|_| {});
    run("a port of one policy", &|s| put(s, policy(7, Some(9999))));
    run("a port of each policy", &|s| {
        (0..policies).for_each(|n| put(s, policy(n, Some(9999))))
    });
    run("another port of each policy", &|s| {
        (0..policies).for_each(|n| put(s, policy(n, Some(20_000 + u16::try_from(n).unwrap_or_default()))));
    });
    run("the platform's policy for everybody", &|s| {
        put(s, platform(Action::Allow))
    });
    Ok(())
}
