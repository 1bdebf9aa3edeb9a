//! `caracal ipam collect` as processes: two at once and a third that is killed again and again, while pods come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use caracal_testkit::{Background, CniAttachment, CniRuntime, NetNs, eventually, free_port, netns};
use serde_json::{Value, json};

use super::{
    Machine,
    bursts::{BLOCKS, held, ipam, node, put_raw, writes},
    conf, with,
};

const LONG: Duration = Duration::from_secs(120);
/// Far longer than an ADD takes here, from its address to its endpoint.
const GRACE: &str = "10";

struct Collector {
    process: Background,
    printed: PathBuf,
}

fn collector(machine: &Machine, name: &str, more: &[&str]) -> Collector {
    let printed = machine.dir.path().join(name);
    let file = |path: &Path| fs::File::options().create(true).append(true).open(path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_caracal"));
    command
        .args([
            "ipam",
            "collect",
            "--every",
            "1",
            "--grace-period",
            GRACE,
            "-o",
            "json",
        ])
        .args(more)
        .stdout(file(&printed))
        .stderr(file(&printed.with_extension("log")));
    Collector {
        process: Background::spawn(&mut command),
        printed,
    }
}

impl Collector {
    /// Every round in which something was done and that is printed to its end.
    fn rounds(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.printed).unwrap();
        let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        let read = whole.map(serde_json::from_str);
        read.collect::<Result<_, _>>().expect("a line is an object")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.printed.with_extension("log")).unwrap()
    }

    /// Asked to end, it ends in order.
    fn end(&mut self) {
        let pid = self.process.pid().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(asked.success());
        let status = self.process.child().wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

fn texts(rounds: &[Value], field: &str) -> Vec<String> {
    let lists = rounds.iter().map(|r| r[field].as_array().unwrap());
    lists.flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// Addresses that a plugin took and of which nobody has an endpoint.
fn leak(machine: &Machine, pods: &[&str], conf: &Value) -> BTreeSet<String> {
    for pod in pods {
        ipam(machine, "ADD", pod, conf).unwrap();
    }
    let held = held();
    let of = |pod: &&&str| held[&format!("net.container-of-{pod}")].clone();
    pods.iter().flat_map(|pod| of(&pod)).collect()
}

/// The figures of a collector.
fn scrape(port: u16) -> Result<String, String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

#[test]
fn netns_collectors_at_once_free_what_is_leaked_and_nothing_else() {
    netns!(420);
    let machine = Machine::new();
    node(&machine);
    let mut plugin = conf();
    plugin["args"] = json!({});
    let list = json!({"name": "net", "cniVersion": "1.1.0", "plugins": [plugin]});
    let runtime = CniRuntime::new(list, &[&machine.bin()]);
    let attach = |pod: &str| {
        NetNs::create(pod).unwrap();
        let a = CniAttachment::of_pod(pod);
        runtime.add(&a).unwrap_or_else(|e| panic!("{pod}: {e:?}"));
        a
    };
    let living: Vec<CniAttachment> = (0..4).map(|i| attach(&format!("lives-{i}"))).collect();
    // Nobody has these: pods of this node, and those of a node that there is not.
    let mut leaked = leak(&machine, &["leak-a", "leak-b", "leak-c"], &conf());
    let gone = leak(
        &machine,
        &["gone-a", "gone-b"],
        &with("nodename", json!("node-2")),
    );
    leaked.extend(gone.iter().cloned());
    assert_eq!(leaked.len(), 10, "two families");
    // Blocks that nobody can read, one of them in the pool.
    let used = writes(BLOCKS);
    let free = ["0", "64", "128", "192"].map(|n| format!("{BLOCKS}ipv4/block/10.65.0.{n}-26"));
    let free = free
        .iter()
        .find(|key| !used.contains_key(*key))
        .expect("a free range");
    put_raw(free, "{\"cidr\": \"10.65.0.0/26\", \"allocations\": [7]}");
    put_raw(&format!("{BLOCKS}ipv4/block/10.99.0.0-26"), "not JSON");

    let port = free_port();
    let figures = format!("127.0.0.1:{port}");
    let mut first = collector(&machine, "first", &["--metrics", &figures]);
    let mut second = collector(&machine, "second", &[]);
    let over = AtomicBool::new(false);
    let churned = std::thread::scope(|scope| {
        let churn = |w: u32| {
            let mut done = 0;
            while !over.load(Ordering::Relaxed) {
                let a = attach(&format!("churn-{w}-{done}"));
                runtime.check(&a).unwrap();
                runtime.del(&a).unwrap();
                NetNs::delete(a.netns.rsplit('/').next().unwrap()).unwrap();
                done += 1;
            }
            done
        };
        let workers = [0, 1].map(|w| scope.spawn(move || churn(w)));
        scope.spawn(|| mortal(&machine, &over));
        let free = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(LONG, || {
                let there: BTreeSet<String> = held().into_values().flatten().collect();
                match there.intersection(&leaked).count() {
                    0 => Ok(()),
                    n => Err(format!("{n} leaked addresses are still held")),
                }
            });
        }));
        over.store(true, Ordering::Relaxed);
        let done: u32 = workers.map(|w| w.join().unwrap()).iter().sum();
        free.unwrap();
        done
    });
    println!("{churned} pods came and went meanwhile");
    eventually(LONG, || {
        let text = scrape(port)?;
        let shown = [
            "ipam_allocations_gc_reclamations",
            "ipam_blocks{ippool=\"p4\",node=\"node-1\"}",
            "ipam_allocations_in_use{ippool=\"p6\",node=\"node-1\"}",
            "ipam_ippool_size{ippool=\"p4\"} 256",
        ];
        match shown.iter().find(|name| !text.contains(**name)) {
            None => Ok(()),
            Some(name) => Err(format!("{name}: {text}")),
        }
    });
    // What the one that was killed left half done the others finish, one or two rounds later.
    eventually(LONG, || match problems() {
        kinds if kinds == ["unreadable", "unreadable"] => Ok(()),
        kinds => Err(format!("{kinds:?}")),
    });
    for c in [&mut first, &mut second] {
        c.end();
    }
    // What they say they did: each address once, by whoever came first, and only leaked ones.
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    for c in [&first, &second] {
        let rounds = c.rounds();
        assert_eq!(texts(&rounds, "failed"), Vec::<String>::new());
        for address in texts(&rounds, "released") {
            *told.entry(address).or_default() += 1;
        }
    }
    println!("told: {told:?}");
    for (address, times) in &told {
        assert!(
            leaked.contains(address) && *times == 1,
            "{address}: {times} times"
        );
    }
    // The living have what they had.
    for a in &living {
        runtime.check(a).unwrap();
    }
    let handles: BTreeSet<String> = held().into_keys().collect();
    let expected = living.iter().map(|a| format!("net.{}", a.container)).collect();
    assert_eq!(handles, expected);
    assert_eq!(problems(), ["unreadable", "unreadable"]);
}

/// The kinds of what `ipam check` finds.
fn problems() -> Vec<String> {
    let report = Command::new(env!("CARGO_BIN_EXE_caracal"))
        .args(["ctl", "ipam", "check", "-o", "json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let found = report["problems"].as_array().unwrap().iter();
    found.map(|p| p["kind"].as_str().unwrap().to_owned()).collect()
}

/// A collector that is killed (-9) and started anew.
fn mortal(machine: &Machine, over: &AtomicBool) {
    let mut life = Duration::from_millis(700);
    while !over.load(Ordering::Relaxed) {
        let mut third = collector(machine, "third", &[]);
        let until = Instant::now() + life;
        while Instant::now() < until && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        third.process.kill();
        life += Duration::from_millis(900);
    }
}

#[test]
fn netns_a_collector_without_a_datastore_says_so() {
    netns!(120);
    let mut machine = Machine::new();
    let collect = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_caracal"))
            .args(["ipam", "collect"])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let nothing = collect(&["--rounds", "1", "-o", "json"]);
    assert_eq!(
        (nothing.status.code(), said(&nothing.stdout)),
        (Some(0), String::new())
    );
    let help = collect(&["--help"]);
    let text = said(&help.stdout);
    for option in [
        "--every",
        "--grace-period",
        "--rounds",
        "--metrics",
        "--output",
        "--config",
    ] {
        assert!(text.contains(option), "{option}: {text}");
    }
    for bad in [&["--every", "0"][..], &["-o", "xml"], &["--metrics", "here"]] {
        let refused = collect(bad);
        assert_eq!(refused.status.code(), Some(2), "{bad:?}");
        assert!(
            said(&refused.stderr).contains(bad[1]),
            "{}",
            said(&refused.stderr)
        );
    }
    machine.kill_store();
    let away = collect(&["--rounds", "1"]);
    assert_eq!(away.status.code(), Some(1));
    assert!(said(&away.stderr).contains("reading"), "{}", said(&away.stderr));
    // It waits for a store that comes later.
    let mut waits = collector(&machine, "waits", &[]);
    eventually(LONG, || {
        let log = waits.log();
        if log.contains("has to wait") {
            Ok(())
        } else {
            Err(log)
        }
    });
    machine.start_store();
    ipam(&machine, "ADD", "leak", &conf()).unwrap();
    // An address is free before the round that freed it is told.
    eventually(LONG, || match texts(&waits.rounds(), "released").len() {
        2 => Ok(()),
        n => Err(format!("{n} are told, held: {:?}", held())),
    });
    assert_eq!(held(), BTreeMap::new());
    waits.end();
    assert_eq!(texts(&waits.rounds(), "released").len(), 2);
}
