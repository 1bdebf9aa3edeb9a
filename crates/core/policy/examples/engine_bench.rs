//! Figures of the policy engine alone, beside its budgets: `cargo run --release -p caracal-policy --example engine_bench
//! [SHAPE [POLICIES [REMOTE]]]` (`plain`, 10 000 and 100 000 by default). The shapes of the cluster:
//!
//! - `plain`: the reference workload of the agent's benchmarks; remote endpoints differ in address and one of 50 roles.
//! - `kubernetes`: pods in namespaces with profiles, five labels each, one of which is the pod's own.
//!
//! Times are of `apply` and `flush` only; objects are made beside the clock and dropped after `apply`. Memory is the
//! resident set of this process, which holds nothing but the engine when it is read.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use caracal_api::{
    Action, EntityRule, GlobalNetworkPolicySpec, Object, PolicyType, Port, ProfileSpec, Protocol, Resource,
    Rule, TierSpec, WorkloadEndpointSpec,
};
use caracal_desired::{Delta, Desired};
use caracal_ids::NodeName;
use caracal_net::PortRange;
use caracal_policy::Engine;
use caracal_update::Update;

const LOCAL: usize = 100;
const CHANGES: usize = 5_000;

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Plain,
    Kubernetes,
}

fn labels<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn policy(n: usize, port: u16) -> Update {
    let tcp = || Some(Protocol::Name("TCP".to_owned()));
    let from_role = Rule {
        protocol: tcp(),
        source: EntityRule {
            selector: format!("role == 'r{}'", n % 50),
            ..EntityRule::default()
        },
        destination: EntityRule {
            ports: vec![Port::number(port)],
            ..EntityRule::default()
        },
        ..Rule::new(Action::Allow)
    };
    let from_net = Rule {
        protocol: tcp(),
        source: EntityRule {
            nets: vec![format!("172.{}.{}.0/28", 16 + n / 256 % 16, n % 256)],
            ..EntityRule::default()
        },
        ..Rule::new(Action::Allow)
    };
    let to_ports = Rule {
        protocol: tcp(),
        destination: EntityRule {
            ports: vec![Port::Range(PortRange {
                first: 9000,
                last: 9010,
            })],
            ..EntityRule::default()
        },
        ..Rule::new(Action::Allow)
    };
    let spec = GlobalNetworkPolicySpec {
        tier: "default".to_owned(),
        order: Some(n as f64),
        selector: format!("app == 'a{}'", n % 100),
        types: vec![PolicyType::Ingress],
        ingress: vec![from_role, from_net, to_ports],
        ..GlobalNetworkPolicySpec::default()
    };
    Update::set(Object::new(format!("pol-{n}"), spec).into())
}

fn workload(
    name: String,
    node: String,
    ip: Ipv4Addr,
    labels: BTreeMap<String, String>,
    shape: Shape,
) -> Update {
    let namespace = match shape {
        Shape::Plain => "default".to_owned(),
        Shape::Kubernetes => format!("ns-{}", u32::from(ip) % 200),
    };
    let spec = WorkloadEndpointSpec {
        node,
        orchestrator: "k8s".to_owned(),
        interface_name: format!("cali{:x}", u32::from(ip)),
        ip_networks: vec![format!("{ip}/32")],
        profiles: vec![format!("kns.{namespace}"), format!("ksa.{namespace}.default")],
        service_account_name: "default".to_owned(),
        ..WorkloadEndpointSpec::default()
    };
    let mut object = Object::namespaced(namespace, name, spec);
    object.metadata.labels = labels;
    Update::set(object.into())
}

fn local(n: usize, shape: Shape) -> Update {
    let ip = Ipv4Addr::new(10, 0, 0, u8::try_from(n).unwrap_or(u8::MAX));
    workload(
        format!("here-k8s-local--{n}-eth0"),
        "here".to_owned(),
        ip,
        labels([("app", format!("a{n}"))]),
        shape,
    )
}

fn remote(n: usize, role: usize, shape: Shape) -> Update {
    let ip = Ipv4Addr::from(0x0A80_0000 + u32::try_from(n).unwrap_or(u32::MAX));
    let role = ("role", format!("r{role}"));
    let labels = match shape {
        Shape::Plain => labels([role]),
        Shape::Kubernetes => labels([
            role,
            ("pod-template-hash", format!("{:08x}", n / 10)),
            ("statefulset.kubernetes.io/pod-name", format!("pod-{n}")),
        ]),
    };
    workload(
        format!("node--{}-k8s-pod--{n}-eth0", n / 100),
        format!("node-{}", n / 100),
        ip,
        labels,
        shape,
    )
}

fn profile(namespace: usize, env: &str) -> Update {
    let allow = || vec![Rule::new(Action::Allow)];
    let spec = ProfileSpec {
        ingress: allow(),
        egress: allow(),
        labels_to_apply: labels([
            ("pcns.env", env.to_owned()),
            ("pcns.name", format!("ns-{namespace}")),
        ]),
    };
    Update::set(Object::new(format!("kns.ns-{namespace}"), spec).into())
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

struct Bench {
    engine: Engine,
    spent: Duration,
}

impl Bench {
    fn apply(&mut self, updates: impl Iterator<Item = Update>) {
        for update in updates {
            let start = Instant::now();
            self.engine.apply(&update);
            self.spent += start.elapsed();
        }
    }

    fn flush(&mut self) -> Vec<Delta> {
        let start = Instant::now();
        let deltas = self.engine.flush();
        self.spent += start.elapsed();
        deltas
    }

    /// Times single changes, each flushed.
    fn changes(&mut self, what: &str, budget: &str, change: impl Fn(usize) -> Update) {
        let mut times = Vec::with_capacity(CHANGES);
        let mut deltas = 0;
        for n in 0..CHANGES {
            let update = change(n);
            let start = Instant::now();
            self.engine.apply(&update);
            let out = self.engine.flush();
            times.push(start.elapsed());
            deltas += out.len();
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!(
            "  {what:<28} p50 {:>9.1?}  p99 {:>9.1?}  worst {:>9.1?}  {:.1} deltas each{budget}",
            at(50),
            at(99),
            at(100),
            deltas as f64 / CHANGES as f64,
        );
    }
}

fn run(shape: Shape, policies: usize, remotes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let name = match shape {
        Shape::Plain => "plain",
        Shape::Kubernetes => "kubernetes",
    };
    println!("{name}: {policies} policies, {remotes} remote endpoints, {LOCAL} local endpoints");
    let empty = resident();
    let mut bench = Bench {
        engine: Engine::new(NodeName::new("here")?),
        spent: Duration::ZERO,
    };
    let tier = TierSpec {
        order: Some(1e6),
        ..TierSpec::default()
    };
    bench.apply(std::iter::once(Update::set(Object::new("default", tier).into())));
    bench.apply((0..200).map(|n| profile(n, "prod")));
    bench.apply((0..policies).map(|n| policy(n, 8080)));
    bench.apply((0..LOCAL).map(|n| local(n, shape)));
    let others = resident();
    bench.apply((0..remotes).map(|n| remote(n, n % 50, shape)));
    let with_remotes = resident();
    let fed = bench.spent;
    let deltas = bench.flush();
    let (peak, count) = (resident(), deltas.len());
    println!(
        "  cold                         {:.3} s (apply {:.3} s, flush {:.3} s, {count} deltas)      budget 1 s",
        bench.spent.as_secs_f64(),
        fed.as_secs_f64(),
        (bench.spent - fed).as_secs_f64(),
    );
    println!(
        "  memory                       {:.1} MiB with the deltas of the first flush, {:.1} MiB before it   budget 75 MB",
        mib(peak - empty),
        mib(with_remotes - empty),
    );
    println!(
        "  per remote endpoint          {} bytes                                                budget 500 bytes",
        with_remotes.saturating_sub(others) / remotes.max(1),
    );
    let mut desired = Desired::default();
    desired.apply_all(deltas);
    println!(
        "  memory with a replica        {:.1} MiB",
        mib(resident() - empty)
    );
    bench.changes("a remote endpoint's label", "   budget 100 µs", |n| {
        remote(n * 7919 % remotes.max(1), n % 49, shape)
    });
    bench.changes("a rule of a policy", "", |n| {
        policy(n % policies.max(1), 8081 + u16::from(n % 2 == 0))
    });
    bench.changes("a local endpoint's address", "", |n| {
        let update = local(n % LOCAL, shape);
        let mut resource = update.value.as_deref().cloned();
        if let Some(Resource::WorkloadEndpoint(w)) = &mut resource {
            w.spec.ip_networks = vec![format!("10.0.1.{}/32", n % 251)];
        }
        resource.map_or(update, Update::set)
    });
    bench.changes("a namespace's label", "", |n| {
        profile(n % 200, if n % 400 < 200 { "test" } else { "prod" })
    });
    println!("  {:?}", bench.engine.counts());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let shape = match args.next().as_deref() {
        None | Some("plain") => Shape::Plain,
        Some("kubernetes") => Shape::Kubernetes,
        Some(other) => return Err(format!("shape {other:?} is not known: plain or kubernetes").into()),
    };
    let mut numbers = args.map(|a| a.parse::<usize>());
    let policies = numbers.next().transpose()?.unwrap_or(10_000);
    let remotes = numbers.next().transpose()?.unwrap_or(100_000);
    run(shape, policies, remotes)
}
