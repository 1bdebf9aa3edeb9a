//! Many pods on one node with real processes: plugins and the agent are killed at random moments, network namespaces
//! vanish under them. Afterwards nothing is left over.
//!
//! `CARACAL_SIM_SEED` repeats the choices of a run (not the kernel's timing).

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use caracal_testkit::{Background, CniAttachment, CniRuntime, NetNs, eventually, find_tool, needs, netns};
use serde_json::{Value, json};

use super::{Machine, clients::uplink, conf, links, pending};

const AGENT: &str = "/run/calico/agent.sock";

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

fn agent(machine: &Machine) -> Background {
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

/// One pod's life: attached and detached a few times, with deaths in between. The runtime calls again until it is done.
fn live(runtime: &CniRuntime, pod: &str, dice: &mut Dice) {
    let a = CniAttachment::of_pod(pod);
    for _ in 0..2 {
        NetNs::create(pod).unwrap();
        if dice.below(2) == 0 {
            runtime.kill_in("ADD", &a, Duration::from_micros(dice.below(60_000)));
        }
        match dice.below(3) {
            // The container never starts: only DEL comes.
            0 => {}
            _ => {
                let until = Instant::now() + Duration::from_secs(60);
                while let Err(e) = runtime.add(&a) {
                    assert!(Instant::now() < until, "ADD {pod}: {e:?}");
                }
            }
        }
        if dice.below(3) == 0 {
            NetNs::delete(pod).unwrap();
        }
        if dice.below(2) == 0 {
            runtime.kill_in("DEL", &a, Duration::from_micros(dice.below(60_000)));
        }
        let until = Instant::now() + Duration::from_secs(60);
        while let Err(e) = runtime.del(&a) {
            assert!(Instant::now() < until, "DEL {pod}: {e:?}");
        }
        NetNs::delete(pod).unwrap();
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(find_tool(program).unwrap())
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that pods leave in a kernel and on a disk.
fn traces() -> Result<(), String> {
    let mut found = links();
    found.extend((pending() > 0).then(|| "releases that wait".to_owned()));
    for (what, text) in [
        ("routes", output("ip", &["route", "show", "table", "all"])),
        ("routes", output("ip", &["-6", "route", "show", "table", "all"])),
        ("rules", output("nft", &["list", "ruleset"])),
    ] {
        let of_pods = |l: &&str| {
            l.contains("10.65.0.") || l.contains("fd65::") || l.contains("\"cali") && !l.contains("\"cali*\"")
        };
        // Ranges of pools and blocks may stay.
        let range =
            |l: &&str| l.contains("/26") || l.contains("/122") || l.contains("/24") || l.contains("/120");
        let mut left = text.lines().filter(of_pods).filter(|l| !range(l));
        found.extend(left.next().map(|l| format!("{what}: {l}")));
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("; "))
    }
}

#[test]
fn netns_a_storm_of_pods_and_deaths_leaves_nothing() {
    netns!(480);
    needs!("ip", "nft");
    let (pods, deaths) = match std::env::var_os("CARACAL_NIGHTLY") {
        Some(_) => (200, 12),
        None => (16, 3),
    };
    let seed = seed();
    println!("CARACAL_SIM_SEED={seed} {pods} pods, the agent dies {deaths} times");
    let machine = Machine::new();
    uplink();
    let startup = Command::new(env!("CARGO_BIN_EXE_caracal"))
        .args([
            "node",
            "startup",
            "--nodename",
            "node-1",
            "--ip",
            "172.30.0.1",
            "--no-default-pools",
        ])
        .output()
        .unwrap();
    assert!(
        startup.status.success(),
        "{}",
        String::from_utf8_lossy(&startup.stderr)
    );
    let mut felix = agent(&machine);
    let up = || {
        std::os::unix::net::UnixStream::connect(AGENT)
            .map(drop)
            .map_err(|e| e.to_string())
    };
    eventually(Duration::from_secs(60), up);
    let mut plugin = conf();
    plugin["args"] = json!({});
    let list = json!({"name": "net", "cniVersion": "1.1.0", "plugins": [plugin]});
    let runtime = CniRuntime::new(list, &[&machine.bin()]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u64)
            .map(|w| {
                let runtime = &runtime;
                scope.spawn(move || {
                    let mut dice = Dice(seed ^ (w << 32));
                    for i in (0..pods).filter(|i| i % 4 == w) {
                        live(runtime, &format!("pod-{i}"), &mut dice);
                    }
                })
            })
            .collect();
        scope.spawn(|| agent_that_dies(&machine, &mut felix, deaths, &mut Dice(seed ^ 0xa9e27), &over));
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
    eventually(Duration::from_secs(60), traces);
    assert_eq!(machine.pods(), Vec::<String>::new());
    let report: Value = serde_json::from_str(&machine.ctl(&["ipam", "check", "-o", "json"])).unwrap();
    assert_eq!(report["problems"], json!([]), "{report}");
    let blocks: Value = serde_json::from_str(&machine.ctl(&["get", "ipamblocks", "-o", "json"])).unwrap();
    for block in blocks["items"].as_array().unwrap() {
        let taken = block["spec"]["attributes"].as_array().into_iter().flatten();
        let of_pods = taken.filter(|a| a["secondary"]["pod"].is_string()).count();
        assert_eq!(of_pods, 0, "{block}");
    }
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
