//! The program as the CNI plugin `calico`, with the embedded store as a process beside it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod attach;
mod borrowed;
mod bursts;
mod clients;
mod collectors;
mod containerd;
mod proofs;
mod storm;

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use caracal_testkit::{Background, NetNs, eventually, find_tool, needs, netns, private_dir};
use serde_json::{Value, json};

const SOCKET: &str = "/run/calico/store.sock";
const PENDING: &str = "/var/lib/calico/cni-pending";
const POOLS: &str = "
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p4}
spec: {cidr: 10.65.0.0/24}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p6}
spec: {cidr: 'fd65::/120'}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: tiny}
spec: {cidr: 10.66.0.0/32, blockSize: 32}
";

/// A machine with the store and the plugins, all private to the test.
struct Machine {
    dir: tempfile::TempDir,
    store: Option<Background>,
}

impl Machine {
    fn new() -> Self {
        private_dir(Path::new("/var/lib")).unwrap();
        let machine = Self {
            dir: tempfile::tempdir().unwrap(),
            store: None,
        };
        fs::create_dir(machine.bin()).unwrap();
        for name in ["calico", "calico-ipam"] {
            symlink(env!("CARGO_BIN_EXE_caracal"), machine.bin().join(name)).unwrap();
        }
        let mut machine = machine;
        machine.start_store();
        machine.ctl(&["create", "-f", &machine.file("pools.yaml", POOLS)]);
        machine
    }

    /// A file with this text; its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    fn start_store(&mut self) {
        let log = fs::File::create(self.dir.path().join("store.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_caracal"));
        command.args(["store", "serve", "--socket", SOCKET, "--data"]);
        command.arg(self.dir.path().join("data")).stderr(log);
        self.store = Some(Background::spawn(&mut command));
        eventually(Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(SOCKET)
                .map(drop)
                .map_err(|e| e.to_string())
        });
    }

    fn kill_store(&mut self) {
        self.store = None;
    }

    fn ctl(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_caracal"))
            .arg("ctl")
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Names of the pods that have an endpoint.
    fn pods(&self) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.ctl(&["get", "wep", "-A", "-o", "json"])).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|e| e["spec"]["pod"].as_str().unwrap().to_owned())
            .collect()
    }

    fn run(&self, program: &Path, command: &str, pod: &str, stdin: &str) -> Output {
        let mut child = Command::new(program)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", format!("container-of-{pod}"))
            .env("CNI_NETNS", format!("/run/netns/{pod}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.bin())
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The plugin may end before it has read all.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Exit code and answer of the plugin `calico`.
    fn call(&self, command: &str, pod: &str, conf: &Value) -> (i32, Value) {
        let output = self.run(&self.bin().join("calico"), command, pod, &conf.to_string());
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), answer)
    }

    fn ok(&self, command: &str, pod: &str, conf: &Value) -> Value {
        let (code, answer) = self.call(command, pod, conf);
        assert_eq!(code, 0, "{command} {pod}: {answer}");
        answer
    }

    fn fails(&self, command: &str, pod: &str, conf: &Value) -> (u64, String) {
        let (code, answer) = self.call(command, pod, conf);
        assert_eq!(code, 1, "{command} {pod}: {answer}");
        (answer["code"].as_u64().unwrap(), answer.to_string())
    }
}

fn conf() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "net", "type": "calico", "nodename": "node-1",
        "ipam": {"type": "calico-ipam", "assign_ipv6": "true", "ipv4_pools": ["p4"]},
        "args": {"cni": {"labels": [{"key": "app", "value": "web"}], "serviceAccount": "sa"}},
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut conf = conf();
    conf[field] = value;
    conf
}

fn links() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/net/ipv4/conf").unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with("cali")).collect()
}

fn pending() -> usize {
    fs::read_dir(PENDING).map_or(0, |entries| entries.count())
}

#[test]
fn netns_every_verb_and_version() {
    netns!(120);
    let machine = Machine::new();
    NetNs::create("web").unwrap();
    let versions = machine.ok("VERSION", "web", &json!({"cniVersion": "0.4.0"}));
    assert_eq!(versions["cniVersion"], "0.4.0");
    for version in versions["supportedVersions"].as_array().unwrap() {
        let conf = with("cniVersion", version.clone());
        let text = version.as_str().unwrap();
        let result = machine.ok("ADD", "web", &conf);
        assert_eq!(&result["cniVersion"], version);
        let first = if text < "0.3" {
            &result["ip4"]["ip"]
        } else {
            &result["ips"][0]["address"]
        };
        assert!(first.as_str().unwrap().starts_with("10.65.0."), "{result}");
        assert_eq!(machine.pods(), ["web"]);
        if text >= "0.4" {
            let mut check = conf.clone();
            check["prevResult"] = result;
            machine.ok("CHECK", "web", &check);
        }
        if text >= "1.1" {
            machine.ok("STATUS", "web", &conf);
            let mut gc = conf.clone();
            gc["cni.dev/valid-attachments"] = json!([{"containerID": "container-of-web", "ifname": "eth0"}]);
            machine.ok("GC", "web", &gc);
            assert_eq!(links().len(), 1);
        }
        machine.ok("DEL", "web", &conf);
        assert_eq!((machine.pods(), links()), (vec![], vec![]));
        machine.ok("DEL", "web", &conf);
    }
    let alone = machine.run(
        &machine.bin().join("calico-ipam"),
        "ADD",
        "web",
        &conf().to_string(),
    );
    let answer: Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(answer["ips"].as_array().map(Vec::len), Some(2), "{answer}");
    machine.run(
        &machine.bin().join("calico-ipam"),
        "DEL",
        "web",
        &conf().to_string(),
    );
}

#[test]
fn netns_bad_input_changes_nothing() {
    netns!(120);
    let machine = Machine::new();
    for pod in ["web", "other"] {
        NetNs::create(pod).unwrap();
    }
    let calico = machine.bin().join("calico");
    for text in ["", "not json", "[]", "{\"cniVersion\": "] {
        let output = machine.run(&calico, "ADD", "web", text);
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), &error["code"]),
            (Some(1), &json!(6)),
            "{text}: {error}"
        );
    }
    for (conf, pod, code, hint) in [
        (with("cniVersion", json!("9.0.0")), "web", 1, "9.0.0"),
        (with("mtu", json!("big")), "web", 7, "mtu"),
        (conf(), "nowhere", 3, "/run/netns/nowhere"),
        (
            with("ipam", json!({"type": "calico-ipam", "ipv4_pools": ["nopool"]})),
            "web",
            100,
            "nopool",
        ),
    ] {
        let (found, text) = machine.fails("ADD", pod, &conf);
        assert!(found == code && text.contains(hint), "{text}");
        assert_eq!((machine.pods(), links()), (vec![], vec![]), "{text}");
    }
    let tiny = with("ipam", json!({"type": "calico-ipam", "ipv4_pools": ["tiny"]}));
    machine.ok("ADD", "web", &tiny);
    let (code, text) = machine.fails("ADD", "other", &tiny);
    assert!(code == 100 && text.contains("tiny"), "{text}");
    assert_eq!((machine.pods(), links().len()), (vec!["web".to_owned()], 1));
    machine.ok("DEL", "web", &tiny);
    machine.ok("ADD", "other", &tiny);
}

#[test]
fn netns_the_store_is_killed() {
    netns!(120);
    let mut machine = Machine::new();
    for pod in ["web", "other"] {
        NetNs::create(pod).unwrap();
    }
    machine.ok("ADD", "web", &conf());
    machine.kill_store();
    let (code, text) = machine.fails("ADD", "other", &conf());
    assert!(code == 11 && text.contains(SOCKET), "{text}");
    assert_eq!(links().len(), 1, "the other's");
    let begun = Instant::now();
    machine.ok("DEL", "web", &conf());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((links(), pending()), (vec![], 1));
    machine.start_store();
    assert_eq!(machine.pods(), ["web"], "not told yet");
    machine.ok("ADD", "other", &conf());
    assert_eq!((machine.pods(), pending()), (vec!["other".to_owned()], 0));
    machine.ok("DEL", "other", &conf());
    assert_eq!(machine.pods(), Vec::<String>::new());
}

#[test]
fn netns_a_disk_that_takes_no_writes() {
    netns!(180);
    needs!("root", "mount");
    let mut machine = Machine::new();
    NetNs::create("web").unwrap();
    let mount = Command::new(find_tool("mount").unwrap())
        .args(["-o", "remount,ro", "/var/lib"])
        .status()
        .unwrap();
    assert!(mount.success() && fs::write("/var/lib/file", "").is_err());
    // Logs and journal cannot be written; pods start and stop all the same.
    let conf = with("log_file_path", json!("/var/lib/calico/log/cni.log"));
    for _ in 0..2 {
        machine.ok("ADD", "web", &conf);
        machine.ok("DEL", "web", &conf);
        assert_eq!((machine.pods(), links()), (vec![], vec![]));
    }
    machine.ok("ADD", "web", &conf);
    machine.kill_store();
    // What can be done neither now nor later is an error, and the runtime calls again.
    let (code, text) = machine.fails("DEL", "web", &conf);
    assert!(
        code == 11 && text.contains(PENDING) && text.contains(SOCKET),
        "{text}"
    );
    assert_eq!(links(), Vec::<String>::new());
    machine.start_store();
    machine.ok("DEL", "web", &conf);
    assert_eq!(machine.pods(), Vec::<String>::new());
}

#[test]
fn netns_the_log_tells_what_the_plugin_did() {
    netns!(120);
    let machine = Machine::new();
    NetNs::create("web").unwrap();
    let path = machine.dir.path().join("log/cni.log");
    let mut debug = with("log_level", json!("debug"));
    debug["log_file_path"] = path.display().to_string().into();
    machine.ok("ADD", "web", &debug);
    let log = fs::read_to_string(&path).unwrap();
    assert!(
        log.contains("create veth") && log.contains("container-of-web"),
        "{log}"
    );
    assert!(!log.contains("frame"), "libraries are silent: {log}");
    debug["log_level"] = "none".into();
    machine.ok("DEL", "web", &debug);
    assert_eq!(fs::read_to_string(&path).unwrap(), log);
}

#[test]
fn netns_many_at_once_get_different_addresses() {
    netns!(120);
    let machine = Machine::new();
    let pods: Vec<String> = (0..20).map(|i| format!("pod-{i}")).collect();
    for pod in &pods {
        NetNs::create(pod).unwrap();
    }
    let all = |command: &str| -> Vec<Value> {
        std::thread::scope(|scope| {
            let started: Vec<_> = pods
                .iter()
                .map(|pod| scope.spawn(|| machine.ok(command, pod, &conf())))
                .collect();
            started.into_iter().map(|t| t.join().unwrap()).collect()
        })
    };
    let results = all("ADD");
    let ips = results.iter().flat_map(|r| r["ips"].as_array().unwrap());
    let different: std::collections::BTreeSet<&str> = ips.map(|ip| ip["address"].as_str().unwrap()).collect();
    assert_eq!(different.len(), 40, "{different:?}");
    assert_eq!((machine.pods().len(), links().len()), (20, 20));
    all("DEL");
    assert_eq!((machine.pods(), links()), (vec![], vec![]));
}

#[test]
fn netns_killed_in_the_middle_and_called_again() {
    netns!(120);
    let machine = Machine::new();
    NetNs::create("web").unwrap();
    // Killed after a longer and longer time, so at ever later steps; whatever is left, ADD repairs and DEL removes.
    for step in 0..40u64 {
        let mut child = Command::new(machine.bin().join("calico"))
            .env_clear()
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "container-of-web")
            .env("CNI_NETNS", "/run/netns/web")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf().to_string().as_bytes())
            .unwrap();
        let until = Instant::now() + Duration::from_micros(500 * step);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        if step % 2 == 0 {
            let result = machine.ok("ADD", "web", &conf());
            machine.ok("CHECK", "web", &with("prevResult", result));
        }
        machine.ok("DEL", "web", &conf());
        assert_eq!(
            (machine.pods(), links()),
            (vec![], vec![]),
            "killed after {step} half milliseconds"
        );
    }
    // Every address is free again: as many pods as the range has addresses would fit.
    let blocks = machine.ctl(&["get", "ipamblocks", "-o", "json"]);
    let blocks: Value = serde_json::from_str(&blocks).unwrap();
    for block in blocks["items"].as_array().unwrap() {
        let taken = block["spec"]["allocations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|a| !a.is_null());
        assert_eq!(taken.count(), 0, "{block}");
    }
}
