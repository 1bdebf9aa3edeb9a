//! A node with its datastore: a network namespace, an etcd with its data on a tmpfs, the reference workload in it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Bench, harness};

/// The node's network namespace.
pub(super) const NETNS: &str = "bench";

/// The node's name in the workload.
pub(super) const NODE: &str = "node-local";

/// Scratch space; lies on this run's own tmpfs.
const SCRATCH: &str = "/run/caracal-bench";

/// Longest time for anything that only prepares.
const BOUND: Duration = Duration::from_secs(120);

/// Covers the folders that a node's programs write to, so that this machine's own are neither read nor changed.
pub(super) fn own_mounts() -> Result<()> {
    for dir in ["/run", "/var/lib", "/etc/calico", "/etc/cni"] {
        if Path::new(dir).is_dir() {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "mode=0755", "caracal-bench", dir]);
            harness::output(mount, BOUND)?;
        }
    }
    std::fs::create_dir(SCRATCH).with_context(|| format!("making {SCRATCH}"))
}

fn ip(args: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    harness::output(command, BOUND)
}

/// Runs a program in the node's network namespace.
pub(super) fn on_node(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{NETNS}"))
        .arg("--")
        .arg(program);
    command
}

/// Ends a process that is this run's.
fn kill(pid: u32) {
    // It may have ended already.
    let _ = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// The node; everything ends and goes with it.
pub(super) struct World {
    etcd: Child,
    agent: Option<u32>,
    pub(super) policies: u32,
    pub(super) remote: u32,
    /// Pods of the node.
    pub(super) pods: u32,
    /// Other options of the workload.
    more: Vec<String>,
}

impl World {
    /// Makes the node and writes the workload.
    pub(super) fn new(bench: &Bench, policies: u32, remote: u32) -> Result<Self> {
        Self::with(bench, policies, remote, 100, &[])
    }

    /// The same with so many pods, and more options of the workload.
    pub(super) fn with(bench: &Bench, policies: u32, remote: u32, pods: u32, more: &[&str]) -> Result<Self> {
        bench.step(&format!(
            "a node and an etcd with {policies} policies, {remote} remote endpoints"
        ));
        let data = Path::new(SCRATCH).join("etcd");
        let log = std::fs::File::create(Path::new(SCRATCH).join("etcd.log")).context("making etcd's log")?;
        ip(&["netns", "add", NETNS])?;
        for args in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "eth0", "type", "veth", "peer", "name", "uplink"],
            &["link", "set", "uplink", "up"],
            &["link", "set", "eth0", "up"],
            &["address", "add", "172.30.0.1/16", "dev", "eth0"],
            &["address", "add", "fdca::172:30:0:1/112", "dev", "eth0", "nodad"],
        ] {
            ip(&[&["-n", NETNS], args].concat())?;
        }
        let etcd = on_node("etcd")
            .arg("--data-dir")
            .arg(&data)
            .args(["--log-level", "error", "--quota-backend-bytes", "4294967296"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing etcd's log")?)
            .stderr(log)
            .spawn()
            .context("starting etcd")?;
        let world = Self {
            etcd,
            agent: None,
            policies,
            remote,
            pods,
            more: more.iter().map(|m| (*m).to_owned()).collect(),
        };
        let workload = Self::workload();
        let mut generate = harness::script(&bench.root, "gen_workload.py");
        generate.args(world.size()).args(&world.more);
        generate
            .args(["--local", &pods.to_string(), "--out"])
            .arg(&workload);
        harness::output(generate, BOUND)?;
        let mut load = harness::script(&bench.root, "load.py");
        load.args(["--netns", NETNS, "--dir"]).arg(&workload);
        harness::output(load, BOUND)?;
        world.veths(bench, 0, pods)?;
        Ok(world)
    }

    /// Whether the workload has IPv6 addresses.
    pub(super) fn is_v6(&self) -> bool {
        self.more.iter().any(|m| m == "--v6")
    }

    /// The folder of the generated manifests.
    pub(super) fn workload() -> PathBuf {
        Path::new(SCRATCH).join("workload")
    }

    /// The workload's size as the harness's options.
    pub(super) fn size(&self) -> [String; 4] {
        [
            "--policies".into(),
            self.policies.to_string(),
            "--remote".into(),
            self.remote.to_string(),
        ]
    }

    /// Makes the interfaces of local endpoints.
    pub(super) fn veths(&self, bench: &Bench, first: u32, count: u32) -> Result<()> {
        let mut veths = harness::script(&bench.root, "mkveths.sh");
        veths.args([NETNS, &count.to_string(), &first.to_string()]);
        harness::output(veths, BOUND).map(drop)
    }

    /// The agent's start as a shell line that ends in `exec`.
    pub(super) fn agent_line(bench: &Bench) -> String {
        format!(
            "exec env DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://127.0.0.1:2379 FELIX_FELIXHOSTNAME={NODE} \
             FELIX_HEALTHENABLED=true FELIX_LOGSEVERITYSCREEN=Warning '{}' felix",
            bench.program().display()
        )
    }

    /// Where the agent's log of the last start is.
    pub(super) fn agent_log() -> PathBuf {
        Path::new(SCRATCH).join("agent.log")
    }

    /// A command line tool pointed at this datastore.
    pub(super) fn datastore(command: &mut Command) {
        command
            .env("DATASTORE_TYPE", "etcdv3")
            .env("ETCD_ENDPOINTS", "http://127.0.0.1:2379");
    }

    /// An agent that the harness left running.
    pub(super) fn keep(&mut self, pid: Option<u32>) -> Result<u32> {
        self.agent = pid;
        pid.context("the harness did not keep the agent")
    }

    /// The agent's process, if one is running.
    pub(super) fn agent(&self) -> Option<u32> {
        self.agent
    }

    /// The datastore's process.
    pub(super) fn store(&self) -> u32 {
        self.etcd.id()
    }

    /// Kills the agent; what it left in the kernel stays.
    pub(super) fn kill_agent(&mut self) {
        if let Some(pid) = self.agent.take() {
            kill(pid);
        }
    }

    /// A folder with the CNI plugins under their names.
    pub(super) fn plugins(bench: &Bench) -> Result<PathBuf> {
        let dir = Path::new(SCRATCH).join("cni");
        std::fs::create_dir_all(&dir).context("making the folder of the plugins")?;
        for name in ["calico", "calico-ipam"] {
            let link = dir.join(name);
            if !link.exists() {
                std::os::unix::fs::symlink(bench.program(), &link).context("linking a plugin")?;
            }
        }
        ensure!(dir.join("calico").exists(), "the plugin is not there");
        Ok(dir)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_agent();
        // Errors here could only hide the one that matters; the namespaces end with this run in any case.
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        for name in [NETNS.to_owned(), format!("{NETNS}-pods")] {
            let _ = ip(&["netns", "delete", &name]);
        }
        for dir in ["etcd", "workload"] {
            let _ = std::fs::remove_dir_all(Path::new(SCRATCH).join(dir));
        }
    }
}
