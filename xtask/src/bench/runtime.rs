//! A container runtime for the CNI plugin: many pods, so many at once, as a kubelet would. It has little work of its own,
//! unlike a program of `bench/`, and looks at the CPU time of the agent and the store besides.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::{
    Bench, harness,
    world::{World, on_node},
};

/// Set for the program inside the node's namespaces; an order as JSON.
pub(super) const INSIDE: &str = "CARACAL_BENCH_RUNTIME";

/// Calls of VERSION.
const STARTS: usize = 40;

/// How many pods a kubelet starts at once, about.
const AT_ONCE: usize = 32;

/// How long the calls of one order may take.
const BOUND: Duration = Duration::from_secs(300);

/// What one order measured.
#[derive(Debug)]
pub(super) struct Phase {
    /// Wall time of all, in seconds.
    pub(super) wall: f64,
    /// The median of one call, in milliseconds.
    pub(super) p50: f64,
    /// CPU time of one call, in milliseconds: the plugin's own, the agent's, the store's.
    pub(super) cpu: [f64; 3],
    /// The peak of the largest plugin process, in MiB; nothing when it was below what this program itself takes.
    pub(super) peak: Option<f64>,
}

/// Starts the plugin so often to ask for its versions.
pub(super) fn versions(bench: &Bench, world: &World) -> Result<Phase> {
    phase(bench, world, "VERSION", "v", STARTS, 1)
}

/// ADD and DEL of so many pods, one after another.
pub(super) fn in_turn(bench: &Bench, world: &World, tag: &str, count: usize) -> Result<[Phase; 2]> {
    pods(bench, world, tag, count, 1)
}

/// ADD and DEL of so many pods, as many at once as a kubelet would.
pub(super) fn curve(bench: &Bench, world: &World, count: usize) -> Result<[Phase; 2]> {
    pods(bench, world, &format!("k{count}-"), count, AT_ONCE)
}

fn pods(bench: &Bench, world: &World, tag: &str, count: usize, at_once: usize) -> Result<[Phase; 2]> {
    namespaces("add", tag, count)?;
    let add = phase(bench, world, "ADD", tag, count, at_once);
    let both = add.and_then(|add| Ok([add, phase(bench, world, "DEL", tag, count, at_once)?]));
    namespaces("delete", tag, count)?;
    both
}

fn pod(tag: &str, number: usize) -> String {
    format!("{tag}{number:04}")
}

/// Makes or deletes the namespaces of pods, which is not what is measured.
fn namespaces(verb: &str, tag: &str, count: usize) -> Result<()> {
    let file = Path::new("/run/caracal-bench").join(format!("{tag}{verb}"));
    let lines: String = (0..count)
        .map(|i| format!("netns {verb} {}\n", pod(tag, i)))
        .collect();
    std::fs::write(&file, lines).context("writing the names of pods")?;
    let mut ip = Command::new("ip");
    ip.arg("-batch").arg(&file);
    harness::output(ip, BOUND).map(drop)
}

fn phase(bench: &Bench, world: &World, verb: &str, tag: &str, count: usize, at_once: usize) -> Result<Phase> {
    let plugins = World::plugins(bench)?;
    let order = json!({
        "verb": verb,
        "tag": tag,
        "count": count,
        "atOnce": at_once,
        "plugins": plugins,
        "conf": bench.root.join("bench/cni-etcd.conf.json"),
        "others": [world.agent(), world.store()],
    });
    let own = std::env::current_exe().context("finding this program")?;
    let mut runtime = on_node(own);
    runtime.arg("bench").env(INSIDE, order.to_string());
    let text = harness::output(runtime, BOUND)?;
    let said: Value =
        serde_json::from_str(text.trim()).with_context(|| format!("the runtime said {text}"))?;
    let number = |name: &str| {
        said[name]
            .as_f64()
            .with_context(|| format!("no {name} in {text}"))
    };
    Ok(Phase {
        wall: number("wall")?,
        p50: number("p50")?,
        cpu: [number("plugin")?, number("agent")?, number("store")?],
        peak: said["peak"].as_f64(),
    })
}

/// What the program does inside the node: the order's calls.
pub(super) fn play(order: &str) -> Result<()> {
    let order: Value = serde_json::from_str(order).context("reading the order")?;
    let text = |name: &str| order[name].as_str().with_context(|| format!("no {name}"));
    let number = |name: &str| {
        let n = order[name].as_u64().with_context(|| format!("no {name}"))?;
        usize::try_from(n).with_context(|| format!("{name} {n}"))
    };
    let (verb, tag, plugins) = (text("verb")?, text("tag")?, Path::new(text("plugins")?));
    let conf = std::fs::read(text("conf")?).context("reading the network configuration")?;
    let (count, at_once) = (number("count")?, number("atOnce")?);
    let others = [0, 1].map(|i| order["others"][i].as_u64());
    let before = others.map(cpu_of);
    let own_before = cpu_of_children()?;
    let next = AtomicUsize::new(0);
    let times = Mutex::new(Vec::with_capacity(count));
    let begin = Instant::now();
    let outcome: Result<()> = std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return Ok(());
                }
                let time = call(plugins, verb, &pod(tag, i), &conf)?;
                times
                    .lock()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
                    .push(time);
            }
        };
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| match t.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread panicked"),
        })
    });
    outcome?;
    let wall = begin.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking for the children's usage")?;
    let mut times = times
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    times.sort_unstable();
    let each = |ms: f64| ms / count as f64;
    let spent = |i: usize| each((cpu_of(others[i]) - before[i]).max(0.0));
    // A child begins as a copy of this process, whose peak counts as its own.
    let own_peak = getrusage(UsageWho::RUSAGE_SELF)
        .context("asking for the own usage")?
        .max_rss();
    let peak = (usage.max_rss() > own_peak).then(|| usage.max_rss() as f64 / 1024.0);
    let said = json!({
        "wall": wall,
        "p50": times.get(count / 2).map(|t| t.as_secs_f64() * 1e3),
        "plugin": each(cpu_of_children()? - own_before),
        "agent": spent(0),
        "store": spent(1),
        "peak": peak,
    });
    println!("{said}");
    Ok(())
}

/// One call of the plugin.
fn call(plugins: &Path, verb: &str, pod: &str, conf: &[u8]) -> Result<Duration> {
    let begin = Instant::now();
    let mut child = Command::new(plugins.join("calico"))
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", pod)
        .env("CNI_NETNS", format!("/run/netns/{pod}"))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", plugins)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("starting the plugin")?;
    let mut stdin = child.stdin.take().context("the plugin's stdin")?;
    stdin
        .write_all(conf)
        .context("writing the network configuration")?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting for the plugin")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{verb} {pod}: {said}");
    Ok(begin.elapsed())
}

/// CPU time of a process with all its threads, in milliseconds.
fn cpu_of(pid: Option<u64>) -> f64 {
    let Some(pid) = pid else { return 0.0 };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let times = threads.into_iter().flatten().flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    times.sum::<f64>() / 1e6
}

/// CPU time of the children that have ended, in milliseconds.
fn cpu_of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking for the children's usage")?;
    let ms = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 * 1e3 + t.tv_usec() as f64 / 1e3;
    Ok(ms(usage.user_time()) + ms(usage.system_time()))
}
