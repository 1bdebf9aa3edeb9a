//! The embedded store beside a real etcd: the same client, the same disk, both sync before they answer.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    Bench, harness,
    rows::Row,
    world::{NETNS, World, on_node},
};

const URL: &str = "http://127.0.0.1:2379";
/// Longest time for one server's work.
const BOUND: Duration = Duration::from_secs(300);

/// Kinds of work as the client names them.
const WORK: [&str; 5] = [
    "put, 1 client",
    "put, 32 clients",
    "get, 32 clients",
    "txn, 32 clients",
    "watch, 100 watches",
];

/// Builds the client; outside the namespaces, where cargo finds its registry.
pub(super) fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--locked"])
        .args(["-p", "caracal-store-embedded", "--example", "store_bench"])
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the example store_bench does not build");
    Ok(())
}

/// Measures both servers.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let node = Node::new(bench)?;
    for etcd in [false, true] {
        let name = if etcd { "etcd" } else { "embedded" };
        bench.step(&format!("store: {name}"));
        let mut runs = Vec::new();
        for _ in 0..bench.options.runs {
            runs.push(node.measure(bench, etcd)?);
        }
        for (row, label, field) in rows(etcd) {
            let values = runs.iter().filter_map(|run| run.figure(label, field)).collect();
            bench.rows.add(row, values);
        }
        bench.step(&format!("store: a snapshot of 100 000 objects from {name}"));
        let ready = node.snapshot(bench, etcd)?;
        let what = said(etcd, "100 k objects: an agent is ready");
        let row = if etcd {
            Row::plain("store", what, "s", "-")
        } else {
            Row::new("store", what, "s", "-", 1.0)
        };
        bench.rows.add(row, ready);
    }
    Ok(())
}

/// A row's text for one of the servers. There are a few rows, made once.
fn said(etcd: bool, what: &str) -> &'static str {
    let who = if etcd { "etcd" } else { "embedded" };
    Box::leak(format!("{who}: {what}").into_boxed_str())
}

/// The rows, with the line and the figure that each is read from.
fn rows(etcd: bool) -> Vec<(Row, &'static str, &'static str)> {
    let mut rows = Vec::new();
    for work in WORK {
        for (field, what, unit) in [
            ("rate", "", "1/s"),
            ("p50", ": p50", "ms"),
            ("p99", ": p99", "ms"),
        ] {
            let row = Row::plain("store", said(etcd, &format!("{work}{what}")), unit, "-");
            rows.push((row, work, field));
        }
    }
    let list = Row::plain("store", said(etcd, "100 k objects read in pages"), "s", "-");
    rows.push((list, "list", "wall"));
    for (field, what) in [("rss", "100 k objects: RSS"), ("peak", "100 k objects: peak RSS")] {
        let what = said(etcd, what);
        let row = if etcd {
            Row::plain("store", what, "MiB", "-")
        } else {
            Row::new("store", what, "MiB", "-", 150.0)
        };
        rows.push((row, "memory", field));
    }
    rows
}

/// What one run printed.
struct Run(String);

impl Run {
    fn figure(&self, label: &str, field: &str) -> Option<f64> {
        harness::percentiles(&self.0, label).ok()?.get(field).copied()
    }
}

/// A network namespace for the servers, and a folder on the disk that is measured.
struct Node {
    dir: PathBuf,
}

impl Node {
    fn new(bench: &Bench) -> Result<Self> {
        let dir = bench.target.join(format!("store-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let node = Self { dir };
        for args in [
            &["netns", "add", NETNS][..],
            &["-n", NETNS, "link", "set", "lo", "up"],
        ] {
            let mut ip = Command::new("ip");
            ip.args(args);
            harness::output(ip, BOUND)?;
        }
        Ok(node)
    }

    fn start(&self, bench: &Bench, etcd: bool) -> Result<Server> {
        let data = self.dir.join(if etcd { "etcd" } else { "store" });
        let mut command = if etcd {
            let mut command = on_node("etcd");
            command
                .args([
                    "--log-level",
                    "error",
                    "--quota-backend-bytes",
                    "4294967296",
                    "--data-dir",
                ])
                .arg(&data);
            command
        } else {
            let mut command = on_node(bench.program());
            command
                .args(["store", "serve", "--listen", "127.0.0.1:2379", "--data"])
                .arg(&data)
                .arg("--socket")
                .arg(self.dir.join("store.sock"));
            command
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting a server")?;
        Ok(Server { child, data })
    }

    fn client(bench: &Bench, args: &[&str]) -> Result<String> {
        let mut client = on_node(bench.target.join("release/examples/store_bench"));
        client.arg(URL).args(args);
        harness::output(client, BOUND)
    }

    fn measure(&self, bench: &Bench, etcd: bool) -> Result<Run> {
        let server = self.start(bench, etcd)?;
        let mut text = Self::client(bench, &["measure"])?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id()))
            .context("reading the server's memory")?;
        let mib = |key: &str| -> Option<f64> {
            let line = status.lines().find_map(|l| l.strip_prefix(key))?;
            Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
        };
        let rss = mib("VmRSS:").context("no VmRSS")?;
        let peak = mib("VmHWM:").context("no VmHWM")?;
        text.push_str(&format!("memory n 1 rss {rss:.1} peak {peak:.1}\n"));
        Ok(Run(text))
    }

    /// How long an agent takes to be ready on a store of 100 000 endpoints of other nodes.
    fn snapshot(&self, bench: &Bench, etcd: bool) -> Result<Vec<f64>> {
        let server = self.start(bench, etcd)?;
        let workload = self.dir.join("workload");
        let mut generate = harness::script(&bench.root, "gen_workload.py");
        generate.args(["--policies", "100", "--remote", "100000", "--local", "0", "--out"]);
        generate.arg(&workload);
        harness::output(generate, BOUND)?;
        Self::client(bench, &["load", &workload.to_string_lossy()])?;
        let mut cold = harness::script(&bench.root, "bench_cold.py");
        cold.args([
            "--netns",
            NETNS,
            "--settle",
            "2",
            "--timeout",
            "120",
            "--poll",
            "0.005",
        ])
        .args([
            "--runs",
            &bench.options.runs.to_string(),
            "--reset",
            "nft flush ruleset",
        ])
        .args(["--cmd", &World::agent_line(bench), "--log"])
        .arg(World::agent_log());
        let text = harness::output(cold, BOUND)
            .with_context(|| std::fs::read_to_string(World::agent_log()).unwrap_or_default())?;
        let (runs, _) = harness::cold_runs(&text)?;
        drop(server);
        Ok(harness::field(&runs, "ready_s"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The namespace ends with the run in any case.
        let _ = Command::new("ip").args(["netns", "delete", NETNS]).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A server; it and its data go together.
struct Server {
    child: Child,
    data: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
