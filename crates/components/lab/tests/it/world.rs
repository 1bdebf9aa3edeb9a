//! A machine of its own for a lab: the test's namespaces, and directories that nobody else sees.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use caracal_sys::processes_in;
use caracal_testkit::{NetNs, private_dir};
use serde_json::Value;

/// The directory of this test's labs; no other test's has its name, so processes can be told apart.
pub(crate) fn labs() -> String {
    format!("/run/labs-{}", std::process::id())
}

/// The program under test: `CARACAL_BIN`, or what `cargo build` makes.
pub(crate) fn program() -> PathBuf {
    match std::env::var_os("CARACAL_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            // This test is target/PROFILE/deps/it-HASH.
            let test = std::env::current_exe().unwrap();
            test.ancestors().nth(2).unwrap().join("caracal")
        }
    }
}

/// Starts a test: alone on a machine, with the program.
macro_rules! machine {
    ($seconds:expr) => {
        caracal_testkit::netns!($seconds);
        caracal_testkit::needs!(
            if $crate::world::program().is_file(), "the program caracal (CARACAL_BIN, or cargo build)"
        );
        let _machine = $crate::world::cover();
    };
}
pub(crate) use machine;

/// Removes the lab when a test fails: its processes would outlive the test.
pub(crate) struct Machine(());

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = lab(&["down"]);
            println!("{}{}", said.out, said.err);
        }
    }
}

/// Covers the directories in which nodes have files of their own, so that the machine's stay as they are.
#[must_use]
pub(crate) fn cover() -> Machine {
    let keep: Vec<(PathBuf, Vec<u8>)> = ["hosts", "nsswitch.conf", "passwd"]
        .iter()
        .map(|name| Path::new("/etc").join(name))
        .filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?)))
        .collect();
    for dir in ["/etc", "/var/lib"] {
        private_dir(Path::new(dir)).unwrap();
    }
    for (path, content) in keep {
        std::fs::write(path, content).unwrap();
    }
    Machine(())
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(o: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: o.status.code(),
            out: text(o.stdout),
            err: text(o.stderr),
        }
    }
}

/// `caracal lab …`, not started yet.
pub(crate) fn lab_command(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("lab").args(args).env("CARACAL_LAB_DIR", labs());
    command
}

/// Runs `caracal lab …` to its end.
pub(crate) fn lab(args: &[&str]) -> Said {
    lab_command(args).output().unwrap().into()
}

/// Runs `caracal lab …`, which has to succeed; what it printed.
#[track_caller]
pub(crate) fn good(args: &[&str]) -> String {
    let said = lab(args);
    assert_eq!(said.code, Some(0), "lab {args:?}: {}{}", said.out, said.err);
    said.out
}

/// From, to, protocol, port, expected, measured.
pub(crate) type Probe = (String, String, String, u64, String, String);

/// The probes, and how many differ.
#[track_caller]
pub(crate) fn probe() -> (Vec<Probe>, u64) {
    let said = lab(&["probe", "-o", "json"]);
    let result: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.err));
    let text = |p: &Value, field: &str| p[field].as_str().unwrap_or_else(|| panic!("{p}")).to_owned();
    let probes = result["probes"].as_array().unwrap().iter().map(|p| {
        let (from, to, protocol) = (text(p, "from"), text(p, "to"), text(p, "protocol"));
        let port = p["port"].as_u64().unwrap();
        (from, to, protocol, port, text(p, "expected"), text(p, "measured"))
    });
    let differences = result["differences"].as_u64().unwrap();
    assert_eq!(said.code, Some(i32::from(differences > 0)), "{}", said.err);
    (probes.collect(), differences)
}

/// All probes are as expected; how many were allowed and how many blocked.
#[track_caller]
pub(crate) fn as_expected() -> (usize, usize) {
    let (probes, differences) = probe();
    let wrong: Vec<_> = probes.iter().filter(|p| p.4 != p.5).collect();
    assert!(wrong.is_empty() && differences == 0, "{wrong:#?}");
    let allowed = probes.iter().filter(|p| p.5 == "allowed").count();
    (allowed, probes.len() - allowed)
}

/// The state of the lab.
pub(crate) fn status() -> Value {
    serde_json::from_str(&good(&["status", "-o", "json"])).unwrap()
}

/// `lab down`, after which nothing is left: no network namespace, no process, no link, no file.
#[track_caller]
pub(crate) fn down() {
    let namespaces: Vec<_> = NetNs::list()
        .unwrap()
        .iter()
        .filter_map(|name| Some(NetNs::named(name).ok()?.id()))
        .collect();
    good(&["down"]);
    assert_eq!(NetNs::list().unwrap(), Vec::<String>::new());
    for id in namespaces {
        assert_eq!(processes_in(id).unwrap(), [], "{id:?}");
    }
    let labs = labs();
    for path in [
        labs.as_str(),
        "/run/calico",
        "/var/lib/calico",
        "/etc/calico",
        "/etc/cni",
    ] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    let links = caracal_link::Rtnl::open().unwrap().links().unwrap();
    let names: Vec<_> = links.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["lo"]);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let ours = line.windows(labs.len()).any(|w| w == labs.as_bytes());
        assert!(!ours, "process {}", String::from_utf8_lossy(&line));
    }
}
