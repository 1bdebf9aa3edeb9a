//! `cargo xtask bench`: the figures that the project is judged by, measured now on this machine.
//!
//! The cores alone run as examples of their crates. The agent, the CNI plugin and the command line are black boxes to the
//! programs in `bench/`, on a real etcd, in network, mount and process namespaces of this run: whatever ends it, nothing
//! of it stays.

mod cni;
mod cores;
mod figures;
mod flow;
mod harness;
mod rows;
mod runtime;
mod scenarios;
mod store;
mod world;

use std::{
    io::IsTerminal,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use caracal_testkit::find_tool;

use rows::Rows;

/// Set for the run inside the namespaces.
const INSIDE: &str = "CARACAL_BENCH_INSIDE";

const USAGE: &str = "\
Usage: cargo xtask bench [NAME] [--json FILE] [--runs N]

  NAME         only rows whose name begins so: engine, compiler, binary, cold, cold-100, cold-1000,
               cold-10000, cold-10000-100k, ipv6, nets, pods, flows, change, change-policy, change-label, change-endpoint,
               restart, idle, cni, cli, cli-create, store
  --json FILE  the rows also as JSON
  --runs N     runs of each start, passes of each change (3)

It measures target/release/caracal as `make build` leaves it; `make bench ARGS='…'` builds it first.
Needs root, etcd, python3, ip (iproute2), nft and unshare. A whole run takes about 15 minutes.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    only: String,
    json: Option<PathBuf>,
    runs: u32,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            only: String::new(),
            json: None,
            runs: 3,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => options.json = Some(args.next().context("--json needs a file's name")?.into()),
                "--runs" => {
                    let n = args.next().context("--runs needs a number")?;
                    options.runs = n.parse().with_context(|| format!("--runs {n}"))?;
                    ensure!((1..=100).contains(&options.runs), "--runs {n}: 1 to 100");
                }
                name if options.only.is_empty() && rows::NAMES.iter().any(|n| n.starts_with(name)) => {
                    name.clone_into(&mut options.only);
                }
                other => bail!("{other:?} is not known\n{USAGE}"),
            }
        }
        Ok(options)
    }

    /// Whether a row of this name is asked for.
    fn wants(&self, name: &str) -> bool {
        let exact = rows::NAMES.contains(&self.only.as_str());
        if exact {
            name == self.only
        } else {
            name.starts_with(&self.only)
        }
    }
}

/// What a run needs at hand.
struct Bench {
    root: PathBuf,
    target: PathBuf,
    options: Options,
    start: Instant,
    rows: Rows,
}

impl Bench {
    /// Tells whoever watches what is going on.
    fn step(&self, what: &str) {
        let now = self.start.elapsed().as_secs();
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{now:5} s  {what}");
        } else {
            eprintln!("{now:5} s  {what}");
        }
    }

    fn program(&self) -> PathBuf {
        self.target.join("release/caracal")
    }
}

/// Measures, prints the rows and writes them as JSON. Rows that miss their goal are no failure.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    if let Ok(role) = std::env::var(flow::INSIDE) {
        return flow::play(&role).map(|()| true);
    }
    if let Ok(order) = std::env::var(runtime::INSIDE) {
        return runtime::play(&order).map(|()| true);
    }
    if args.iter().any(|a| a == "--help" || a == "-h") {
        print!("{USAGE}");
        return Ok(true);
    }
    let options = Options::parse(args)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |t| root.join(t));
    let mut bench = Bench {
        root: root.to_owned(),
        target,
        options,
        start: Instant::now(),
        rows: Rows::default(),
    };
    if std::env::var_os(INSIDE).is_none() {
        bench.prepare()?;
        return Err(enter(args));
    }
    let outcome = bench.measure();
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    // What has been measured is shown even if a later part failed.
    bench.rows.print();
    if let Some(file) = &bench.options.json {
        let json = bench.rows.to_json();
        std::fs::write(file, format!("{json:#}\n")).with_context(|| format!("writing {}", file.display()))?;
    }
    outcome.map(|()| true)
}

/// Replaces this process by itself in namespaces of its own. A shell is the first process there, because the first one
/// gets only the signals it has a handler for, and all others end with it.
fn enter(args: &[String]) -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(p) => p,
        Err(e) => return anyhow::Error::new(e).context("finding this program"),
    };
    let error = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .args([
            "sh",
            "-c",
            r#"trap 'exit 130' INT TERM HUP; "$@" & wait $!"#,
            "sh",
        ])
        .arg(program)
        .arg("bench")
        .args(args)
        .env(INSIDE, "1")
        .exec();
    anyhow::Error::new(error).context("starting unshare (util-linux)")
}

impl Bench {
    /// Says what is missing before anything is started, and builds the examples.
    fn prepare(&self) -> Result<()> {
        let user = std::fs::read_to_string("/proc/self/status").context("reading who runs this")?;
        let root = user
            .lines()
            .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"));
        ensure!(
            root,
            "root is needed: the agent programs a kernel, if only that of a namespace"
        );
        let tools = [
            ("etcd", "etcd-server"),
            ("python3", "python3"),
            ("ip", "iproute2"),
            ("nft", "nftables"),
            ("unshare", "util-linux"),
            ("nsenter", "util-linux"),
        ];
        for (tool, package) in tools {
            ensure!(
                find_tool(tool).is_some(),
                "{tool} is not installed (Debian: apt-get install {package})"
            );
        }
        ensure!(
            self.program().is_file(),
            "{} is not there: `make build` makes it, `make bench` does both",
            self.program().display()
        );
        if self.options.wants("engine") || self.options.wants("compiler") || self.options.wants("diff") {
            cores::build(&self.root)?;
        }
        if self.options.wants("store") {
            store::build(&self.root)?;
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<()> {
        cores::measure(self)?;
        if rows::NAMES
            .iter()
            .any(|n| self.options.wants(n) && !["engine", "compiler", "diff"].contains(n))
        {
            world::own_mounts()?;
            scenarios::measure(self)?;
        }
        if self.options.wants("store") {
            store::measure(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options() {
        let all = parse(&[]).unwrap();
        assert_eq!((all.only.as_str(), all.runs), ("", 3));
        assert!(all.wants("cold-100"));
        let some = parse(&["change", "--json", "x.json", "--runs", "1"]).unwrap();
        assert_eq!((some.json, some.runs), (Some("x.json".into()), 1));
        assert!(parse(&["cold"]).unwrap().wants("cold-10000"));
        let one = parse(&["cold-1000"]).unwrap();
        assert!(one.wants("cold-1000") && !one.wants("cold-10000"));
        for bad in [
            &["nothing"][..],
            &["--runs"],
            &["--runs", "0"],
            &["--json"],
            &["cold", "cni"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
