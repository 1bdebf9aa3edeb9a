//! Many pods on one node with real processes: plugins and the agent are killed at random moments, network namespaces
//! vanish under them. Afterwards nothing is left over.
//!
//! `CARACAL_SIM_SEED` repeats the choices of a run (not the kernel's timing).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use caracal_testkit::{
    Background, CniAttachment, CniFailure, CniRuntime, NetNs, eventually, find_tool, needs, netns,
};
use serde_json::{Value, json};

use super::{
    Machine,
    bursts::{HANDLES, held, node, writes},
    clients::uplink,
    conf, links, pending,
};

pub(super) const AGENT: &str = "/run/calico/agent.sock";

/// How many call the plugin at once.
const WORKERS: usize = 4;
/// Room for all, and for what a killed agent takes for those who ask again.
const POOLS: &str = "
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: storm4}
spec: {cidr: 10.68.0.0/22}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: storm6}
spec: {cidr: 'fd68::/118'}
";

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn seed() -> u64 {
    if let Ok(given) = std::env::var("CARACAL_SIM_SEED") {
        return given.parse().expect("CARACAL_SIM_SEED is a number");
    }
    if std::env::var_os("CARACAL_NIGHTLY").is_none() {
        return 1;
    }
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(super) fn agent(machine: &Machine) -> Background {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(machine.dir.path().join("felix.log"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_caracal"));
    command
        .arg("felix")
        .env("FELIX_FELIXHOSTNAME", "node-1")
        .env("FELIX_LOGSEVERITYSCREEN", "Warning")
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Background::spawn(&mut command)
}

/// A pod is attached, and whoever does it dies now and then; the runtime calls again until it is done.
fn begin(runtime: &CniRuntime, a: &CniAttachment, dice: &mut Dice) {
    NetNs::create(name(a)).unwrap();
    if dice.below(2) == 0 {
        runtime.kill_in("ADD", a, Duration::from_micros(dice.below(60_000)));
    }
    until_done("ADD", a, || runtime.add(a).map(drop));
}

/// Things happen to pods that run: ADD comes again, DEL begins and dies, the namespace vanishes.
fn disturb(runtime: &CniRuntime, a: &CniAttachment, dice: &mut Dice) {
    match dice.below(4) {
        0 => until_done("ADD", a, || runtime.add(a).map(drop)),
        1 => runtime.kill_in("DEL", a, Duration::from_micros(dice.below(60_000))),
        2 => _ = NetNs::delete(name(a)).unwrap(),
        _ => {}
    }
}

/// A pod is detached, whatever is left of it. One that never started as well.
fn end(runtime: &CniRuntime, a: &CniAttachment, dice: &mut Dice) {
    if dice.below(2) == 0 {
        runtime.kill_in("DEL", a, Duration::from_micros(dice.below(60_000)));
    }
    until_done("DEL", a, || runtime.del(a));
    NetNs::delete(name(a)).unwrap();
    if dice.below(4) == 0 {
        NetNs::create(name(a)).unwrap();
        runtime.kill_in("ADD", a, Duration::from_micros(dice.below(60_000)));
        until_done("DEL", a, || runtime.del(a));
        NetNs::delete(name(a)).unwrap();
    }
}

fn name(a: &CniAttachment) -> &str {
    a.netns.rsplit('/').next().unwrap()
}

fn until_done(verb: &str, a: &CniAttachment, mut call: impl FnMut() -> Result<(), CniFailure>) {
    let until = Instant::now() + Duration::from_secs(120);
    while let Err(e) = call() {
        assert!(Instant::now() < until, "{verb} {}: {e:?}", name(a));
    }
}

fn output(program: &str, args: &str) -> String {
    let output = Command::new(find_tool(program).unwrap())
        .args(args.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn files(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, into);
        } else {
            into.insert(format!("file {}", path.display()));
        }
    }
}

/// Everything that pods could leave in a kernel and on a disk: links, addresses, routes, neighbours, rules, files.
fn traces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (program, args) in [
        ("ip", "-br link"),
        ("ip", "-br address"),
        ("ip", "-4 route show table all"),
        ("ip", "-6 route show table all"),
        ("ip", "-4 rule"),
        ("ip", "-6 rule"),
        ("ip", "-4 neighbour show nud permanent"),
        ("ip", "-6 neighbour show nud permanent"),
        ("ip", "-6 neighbour show proxy"),
        ("nft", "-s list ruleset"),
    ] {
        for line in output(program, args).lines() {
            // A table that was loaded anew has another name; the table's age is no trace.
            let line = line
                .trim()
                .replace("caracal-b", "caracal")
                .replace("caracal-c", "caracal");
            found.insert(format!("{program} {args}: {line}"));
        }
    }
    for dir in ["/run/calico", "/var/run/calico", "/var/lib/calico", "/run/netns"] {
        files(Path::new(dir), &mut found);
    }
    found
}

/// What is there and was not before. Blocks that the node keeps have routes, and plugins a file to wait on each other.
fn left(before: &BTreeSet<String>) -> Result<(), String> {
    let kept = |t: &&String| {
        let block = t.contains("blackhole") && (t.contains("/26") || t.contains("/122"));
        // The machine's own link gets its link-local address a second after it was made.
        let uplink = ["up0", "up1"].iter().any(|l| t.contains(&format!(" dev {l} ")));
        block || uplink || t.ends_with("/ipam.lock")
    };
    let now = traces();
    let mut left: Vec<&String> = now.difference(before).filter(|t| !kept(t)).collect();
    if pending() > 0 {
        return Err("releases wait".to_owned());
    }
    left.truncate(20);
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("{left:#?}"))
    }
}

#[test]
fn netns_a_storm_of_pods_and_deaths_leaves_nothing() {
    netns!(480);
    needs!("ip", "nft");
    let (pods, deaths) = match std::env::var_os("CARACAL_NIGHTLY") {
        Some(_) => (200, 12),
        None => (40, 3),
    };
    let seed = seed();
    println!("CARACAL_SIM_SEED={seed} {pods} pods, the agent dies {deaths} times");
    let machine = Machine::new();
    machine.ctl(&["create", "-f", &machine.file("storm.yaml", POOLS)]);
    uplink();
    node(&machine);
    let mut felix = agent(&machine);
    let up = || {
        std::os::unix::net::UnixStream::connect(AGENT)
            .map(drop)
            .map_err(|e| e.to_string())
    };
    eventually(Duration::from_secs(60), up);
    let in_force = || {
        let tables = output("nft", "list tables");
        if tables.contains("caracal") {
            Ok(())
        } else {
            Err(tables)
        }
    };
    eventually(Duration::from_secs(60), in_force);
    let before = traces();
    let mut plugin = conf();
    plugin["args"] = json!({});
    plugin["ipam"]["ipv4_pools"] = json!(["storm4"]);
    plugin["ipam"]["ipv6_pools"] = json!(["storm6"]);
    let list = json!({"name": "net", "cniVersion": "1.1.0", "plugins": [plugin]});
    let runtime = CniRuntime::new(list, &[&machine.bin()]);
    let (over, all_there) = (AtomicBool::new(false), Barrier::new(WORKERS));
    std::thread::scope(|scope| {
        let (runtime, machine, all_there) = (&runtime, &machine, &all_there);
        let workers: Vec<_> = (0..WORKERS)
            .map(|w| {
                scope.spawn(move || {
                    let mut dice = Dice(seed ^ ((w as u64) << 32));
                    let mine: Vec<CniAttachment> = (0..pods)
                        .filter(|i| i % WORKERS == w)
                        .map(|i| CniAttachment::of_pod(&format!("pod-{i}")))
                        .collect();
                    mine.iter().for_each(|a| begin(runtime, a, &mut dice));
                    if all_there.wait().is_leader() {
                        assert_eq!(
                            (machine.pods().len(), links().len()),
                            (pods, pods),
                            "all run at once"
                        );
                    }
                    all_there.wait();
                    mine.iter().for_each(|a| disturb(runtime, a, &mut dice));
                    mine.iter().for_each(|a| end(runtime, a, &mut dice));
                })
            })
            .collect();
        scope.spawn(|| agent_that_dies(machine, &mut felix, deaths, &mut Dice(seed ^ 0xa9e27), &over));
        let ended: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Relaxed);
        for e in ended {
            e.unwrap();
        }
    });
    felix.kill();
    let felix = agent(&machine);
    eventually(Duration::from_secs(60), up);
    // What a runtime does from time to time: it knows of no container any more.
    runtime.gc(&[]).unwrap();
    eventually(Duration::from_secs(60), || left(&before));
    assert_eq!(machine.pods(), Vec::<String>::new());
    let report: Value = serde_json::from_str(&machine.ctl(&["ipam", "check", "-o", "json"])).unwrap();
    assert_eq!(report["problems"], json!([]), "{report}");
    assert_eq!(held(), BTreeMap::new());
    assert_eq!(writes(HANDLES), BTreeMap::new());
    drop(felix);
}

/// Kills the agent now and then, and starts it again, until all pods are done.
fn agent_that_dies(
    machine: &Machine,
    felix: &mut Background,
    deaths: u32,
    dice: &mut Dice,
    over: &AtomicBool,
) {
    for _ in 0..deaths {
        let until = Instant::now() + Duration::from_millis(200 + dice.below(3_000));
        while Instant::now() < until && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        felix.kill();
        *felix = agent(machine);
    }
}
