//! The rows that need a node: cold start, restart, one change, idle, CNI, the command line.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use caracal_testkit::find_tool;
use serde_json::Value;

use super::{
    Bench, cni,
    figures::*,
    flow, harness,
    rows::Row,
    world::{NETNS, World, on_node},
};

/// Changes of one pass, as the harness's page says.
const CHANGES: u32 = 120;
const ENDPOINTS: u32 = 60;

/// Every row of this part, in an order that makes each datastore once.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    if wanted(bench, &["binary"]) {
        let size = std::fs::metadata(bench.program())
            .context("looking at the program")?
            .len();
        bench.rows.add(BINARY, vec![size as f64 / (1024.0 * 1024.0)]);
    }
    if wanted(bench, &["idle", "cni"]) {
        let mut world = World::new(bench, 10, 100)?;
        few_objects(bench, &mut world);
    }
    if wanted(bench, &["cold-100"]) {
        let mut world = World::new(bench, 100, 10_000)?;
        start(bench, &mut world, &COLD_100, Start::Cold);
    }
    if wanted(bench, &["cold-1000", "cli"]) {
        let mut world = World::new(bench, 1000, 10_000)?;
        if wanted(bench, &["cold-1000"]) {
            start(bench, &mut world, &COLD_1000, Start::Cold);
        }
        if wanted(bench, &["cli"]) {
            command_line(bench);
        }
    }
    if wanted(
        bench,
        &[
            "cold-10000",
            "change-policy",
            "change-label",
            "change-endpoint",
            "idle",
            "restart",
        ],
    ) {
        let mut world = World::new(bench, 10_000, 10_000)?;
        many_objects(bench, &mut world);
    }
    if wanted(bench, &["cold-10000-100k"]) {
        let mut world = World::new(bench, 10_000, 100_000)?;
        start(bench, &mut world, &COLD_100K, Start::Cold);
    }
    if wanted(bench, &["cli-create"]) {
        creates(bench)?;
    }
    if wanted(bench, &["ipv6"]) {
        let mut world = World::with(bench, 10_000, 10_000, 100, &["--v6"])?;
        start(bench, &mut world, &COLD_V6, Start::Cold);
    }
    if wanted(bench, &["nets"]) {
        let mut world = World::with(bench, 10, 100, 10, &["--nets", "1000000"])?;
        start(bench, &mut world, &NETS, Start::Cold);
    }
    if wanted(bench, &["pods"]) {
        pods(bench)?;
    }
    if wanted(bench, &["flows"]) {
        flows(bench)?;
    }
    Ok(())
}

/// Starts on nodes of more and more pods, and what one pod more costs.
fn pods(bench: &mut Bench) -> Result<()> {
    let mut last: Option<(u32, f64, f64)> = None;
    for (count, rows, more) in &PODS {
        let mut world = World::with(bench, 1000, 1000, *count, &[])?;
        bench.step(&format!("pods: {count}"));
        let runs = starts(bench, &mut world, Start::Cold, bench.options.runs, false);
        let values = runs.map(|runs| ["ready_s", "cpu_ready_s", "rss_mib"].map(|f| harness::field(&runs, f)));
        let median = |values: &[f64]| {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or_default()
        };
        if let Ok([_, cpu, rss]) = &values {
            let now = (*count, median(cpu), median(rss));
            if let Some((before, cpu, rss)) = last {
                let pods = f64::from(count - before);
                bench.rows.add(more[0], vec![(now.1 - cpu) * 1e6 / pods]);
                bench.rows.add(more[1], vec![(now.2 - rss) * 1024.0 / pods]);
            }
            last = Some(now);
        }
        record(bench, rows, values.map(Vec::from));
    }
    Ok(())
}

/// Connections between two pods, without policy and with many.
fn flows(bench: &mut Bench) -> Result<()> {
    for (policies, rows) in [(0, &FLOWS_NONE), (10_000, &FLOWS)] {
        let mut world = World::new(bench, policies, 100)?;
        let outcome = running(bench, &mut world).and_then(|_| flow::measure(bench, policies));
        record(bench, rows, outcome);
    }
    Ok(())
}

fn wanted(bench: &Bench, names: &[&str]) -> bool {
    names.iter().any(|n| bench.options.wants(n))
}

/// Adds the figures of a part, or says in each of its rows why there are none.
pub(super) fn record(bench: &mut Bench, rows: &[Row], outcome: Result<Vec<Vec<f64>>>) {
    let outcome = outcome.and_then(|values| {
        ensure!(
            values.iter().all(|v| !v.is_empty()),
            "the harness printed no figure for a row"
        );
        Ok(values)
    });
    match outcome {
        Ok(values) => rows
            .iter()
            .zip(values)
            .for_each(|(row, v)| bench.rows.add(*row, v)),
        Err(e) => {
            eprintln!("\n{}: {e:#}", rows[0].name);
            let text = e.to_string();
            // The first line is the command; what it says of the failure follows.
            let mut lines = text.lines();
            let first = lines.next().unwrap_or_default();
            let why = lines.find(|l| !l.trim().is_empty()).unwrap_or(first).trim();
            rows.iter().for_each(|row| bench.rows.missing(*row, why));
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// From an empty kernel.
    Cold,
    /// Over what the agent before left.
    Over,
}

/// Roles of the workload's remote endpoints.
const ROLES: u32 = 50;

/// What counts addresses in the kernel's sets, and how many there must be.
fn proof(world: &World) -> Option<(&'static str, u64)> {
    // Every remote endpoint that a policy names is a member of a set of its own role.
    let seen = if world.is_v6() {
        r"nft list ruleset | grep -oE '\bfdca::10:(6[6-9]|[7-9][0-9]):[0-9]+:[0-9]+\b' | sort -u | wc -l"
    } else {
        r"nft list ruleset | grep -oE '\b10\.(6[6-9]|[7-9][0-9])\.[0-9]+\.[0-9]+\b' | sort -u | wc -l"
    };
    // Fewer pods than roles: only as many roles are named.
    let expected = world.remote * world.pods.min(ROLES) / ROLES;
    (world.policies >= 100).then_some((seen, expected.into()))
}

/// Starts the agent `runs` times and returns what the harness says of each; `keep` leaves the last one running.
fn starts(bench: &Bench, world: &mut World, how: Start, runs: u32, keep: bool) -> Result<Vec<Value>> {
    let mut cold = harness::script(&bench.root, "bench_cold.py");
    cold.args([
        "--netns",
        NETNS,
        "--settle",
        "4",
        "--timeout",
        "120",
        "--poll",
        "0.005",
    ])
    .args([
        "--runs",
        &runs.to_string(),
        "--cmd",
        &World::agent_line(bench),
        "--log",
    ])
    .arg(World::agent_log());
    if how == Start::Cold {
        cold.args(["--reset", "nft flush ruleset"]);
    }
    let proof = proof(world);
    if let Some((seen, expected)) = &proof {
        cold.args(["--verify", seen, "--expect", &expected.to_string()]);
    }
    if keep {
        cold.arg("--keep");
    }
    let text = harness::output(cold, Duration::from_secs(180) * runs)
        .with_context(|| std::fs::read_to_string(World::agent_log()).unwrap_or_default())?;
    let (found, kept) = harness::cold_runs(&text)?;
    if keep {
        world.keep(kept)?;
    }
    let expected = proof.map(|(_, expected)| expected);
    if let Some(run) = found
        .iter()
        .find(|r| !r["verify"].is_null() && r["verify"].as_u64() != expected)
    {
        anyhow::bail!(
            "the kernel has {} of {} addresses when the agent says it is ready",
            run["verify"],
            expected.unwrap_or_default()
        );
    }
    Ok(found)
}

fn start(bench: &mut Bench, world: &mut World, rows: &[Row; 4], how: Start) {
    let keep = how == Start::Cold && world.policies == 10_000 && world.remote == 10_000;
    bench.step(&format!("{}: {} runs", rows[0].name, bench.options.runs));
    let outcome = starts(bench, world, how, bench.options.runs, keep).map(|runs| {
        let (own, children) = (
            harness::field(&runs, "cpu_ready_s"),
            harness::field(&runs, "cpu_ready_children_s"),
        );
        let cpu = own.iter().zip(children).map(|(a, b)| a + b).collect();
        vec![
            harness::field(&runs, "ready_s"),
            cpu,
            harness::field(&runs, "rss_mib"),
            harness::field(&runs, "tree_peak_mib"),
        ]
    });
    record(bench, rows, outcome);
}

/// Makes sure that an agent runs and is ready.
pub(super) fn running(bench: &Bench, world: &mut World) -> Result<u32> {
    match world.agent() {
        Some(pid) => Ok(pid),
        None => {
            starts(bench, world, Start::Cold, 1, true)?;
            world.agent().context("the agent does not run")
        }
    }
}

fn many_objects(bench: &mut Bench, world: &mut World) {
    if bench.options.wants("cold-10000") {
        start(bench, world, &COLD_10000, Start::Cold);
    }
    if bench.options.wants("change-policy") {
        let outcome = changes(bench, world, "policy", CHANGES, &["policy last event, from ack"]);
        record(bench, &POLICY, outcome);
    }
    if bench.options.wants("change-label") {
        let outcome = changes(bench, world, "label", CHANGES, &["label last event, from ack"]);
        record(bench, &LABEL, outcome);
    }
    if bench.options.wants("change-endpoint") {
        let labels = ["wep last event, from ack", "wep delete, last event, from ack"];
        let outcome = world
            .veths(bench, 100, ENDPOINTS * bench.options.runs)
            .and_then(|()| changes(bench, world, "wep", ENDPOINTS, &labels));
        record(bench, &ENDPOINT, outcome);
    }
    if bench.options.wants("idle") {
        let outcome = idle(bench, world);
        record(bench, &IDLE_MANY, outcome);
    }
    if bench.options.wants("restart") {
        match running(bench, world) {
            Ok(_) => {
                world.kill_agent();
                start(bench, world, &RESTART, Start::Over);
            }
            Err(e) => record(bench, &RESTART, Err(e)),
        }
    }
}

/// One change at a time; p50, p99 and worst of each pass for each of the labels.
fn changes(
    bench: &Bench,
    world: &mut World,
    what: &str,
    count: u32,
    labels: &[&str],
) -> Result<Vec<Vec<f64>>> {
    running(bench, world)?;
    let mut columns = vec![Vec::new(); labels.len() * 3];
    for pass in 0..bench.options.runs {
        bench.step(&format!(
            "change-{what}: pass {} of {}",
            pass + 1,
            bench.options.runs
        ));
        let mut incr = harness::script(&bench.root, "bench_incr.py");
        incr.args(world.size())
            .args(["--netns", NETNS, "--what", what, "--gap", "0.15"])
            .args([
                "--count",
                &count.to_string(),
                "--first",
                &(pass * count).to_string(),
            ]);
        let text = harness::output(incr, Duration::from_secs(u64::from(count) * 45))?;
        ensure!(
            text.contains("missed 0 lost 0"),
            "changes that were not seen in the kernel:\n{text}"
        );
        for (k, label) in labels.iter().enumerate() {
            let p = harness::percentiles(&text, label)?;
            for (i, name) in ["p50", "p99", "max"].iter().enumerate() {
                columns[k * 3 + i].push(*p.get(*name).with_context(|| format!("no {name}"))?);
            }
        }
    }
    Ok(columns)
}

fn few_objects(bench: &mut Bench, world: &mut World) {
    if bench.options.wants("idle") {
        let outcome = idle(bench, world);
        record(bench, &IDLE_FEW, outcome);
    }
    if bench.options.wants("cni") {
        cni::measure(bench, world);
    }
}

/// CPU and memory over a minute without a change.
fn idle(bench: &Bench, world: &mut World) -> Result<Vec<Vec<f64>>> {
    let pid = running(bench, world)?;
    bench.step("idle: a minute");
    let mut watch = harness::script(&bench.root, "idle_watch.py");
    watch.args([&pid.to_string(), "60"]);
    let text = harness::output(watch, Duration::from_secs(90))?;
    let summary = text
        .lines()
        .find(|l| l.starts_with("SUMMARY"))
        .context("no summary")?;
    let number = |after: &str| -> Option<f64> {
        let rest = summary.split_once(after)?.1.trim_start();
        rest.split([' ', ',']).next()?.parse().ok()
    };
    let cpu = number("cpu (").with_context(|| summary.to_owned())?;
    let rss = number("end ").with_context(|| summary.to_owned())?;
    Ok(vec![vec![cpu], vec![rss]])
}

fn command_line(bench: &mut Bench) {
    for (row, peak, args) in COMMANDS {
        bench.step(&format!("cli: {}", args.join(" ")));
        let rows: Vec<Row> = [row].into_iter().chain(peak).collect();
        let outcome = command(bench, args);
        record(bench, &rows, outcome);
    }
}

/// The most memory that a command held, in MiB, as a small parent sees it: what a large one holds when it starts a program
/// counts for the program.
fn memory(bench: &Bench, args: &[&str]) -> Result<Vec<f64>> {
    ensure!(
        find_tool("time").is_some(),
        "time is not installed (Debian: apt-get install time)"
    );
    let mut command = on_node("time");
    command
        .args(["-f", "%M"])
        .arg(bench.program())
        .arg("ctl")
        .args(args);
    World::datastore(&mut command);
    let text = harness::output(command, Duration::from_secs(60))?;
    let kib = text
        .lines()
        .next_back()
        .and_then(|l| l.trim().parse::<f64>().ok());
    Ok(vec![kib.context("time printed no number")? / 1024.0])
}

/// Makes ten thousand objects of a file, and takes them away again.
fn creates(bench: &mut Bench) -> Result<()> {
    let _world = World::new(bench, 10, 50)?;
    let folder = World::workload().with_extension("create");
    let mut generate = harness::script(&bench.root, "gen_workload.py");
    generate
        .args(["--policies", "10000", "--remote", "10000", "--out"])
        .arg(&folder);
    harness::output(generate, Duration::from_secs(120))?;
    for (row, file) in CREATES {
        bench.step(&format!("cli-create: {file}"));
        let outcome = create(bench, &folder.join(file));
        record(bench, &[row], outcome);
    }
    std::fs::remove_dir_all(&folder).context("removing the files of objects")
}

fn create(bench: &Bench, file: &Path) -> Result<Vec<Vec<f64>>> {
    let ctl = |verb: &[&str]| -> Result<f64> {
        let mut command = on_node(bench.program());
        command.arg("ctl").args(verb).arg("-f").arg(file);
        World::datastore(&mut command);
        let start = Instant::now();
        harness::output(command, Duration::from_secs(240))?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut seconds = Vec::new();
    // The workload that is there already has some of the names.
    ctl(&["delete", "--skip-not-exists"])?;
    for _ in 0..bench.options.runs {
        seconds.push(ctl(&["create"])?);
        ctl(&["delete"])?;
    }
    Ok(vec![seconds])
}

/// The median time of one command over 20 starts, and the most memory that one held.
fn command(bench: &Bench, args: &[&str]) -> Result<Vec<Vec<f64>>> {
    let check = |mut c: std::process::Command| {
        c.arg("ctl").args(args);
        World::datastore(&mut c);
        harness::output(c, Duration::from_secs(60))
    };
    check(on_node(bench.program()))?;
    let mut startup = harness::script(&bench.root, "startup.py");
    World::datastore(&mut startup);
    startup
        .args([NETNS, "20"])
        .arg(bench.program())
        .arg("ctl")
        .args(args);
    let text = harness::output(startup, Duration::from_secs(120))?;
    ensure!(text.contains(" rc 0 "), "{}", text.trim());
    let label = text.split_once(" n 20 ").context("no figures")?.0;
    let p50 = harness::percentiles(&text, label)?.get("p50").copied();
    Ok(vec![p50.into_iter().collect(), memory(bench, args)?])
}
