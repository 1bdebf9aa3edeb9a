//! The commands that look at a datastore, as processes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "it/clock.rs"]
mod clock;
#[path = "it/disk.rs"]
mod disk;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{ChildStdout, Command, Stdio},
    time::Duration,
};

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{Preconditions, ReportKey, Store, Subject};
use caracal_testkit::{Background, eventually};
use serde_json::{Value, json};

/// The arguments of the program that the test is to be.
const ROLE: &str = "CARACAL_TEST_STORE";
const LONG: Duration = Duration::from_secs(60);

/// Not a test: the program as a process of its own, of this very build.
#[test]
fn role() {
    if let Ok(line) = std::env::var(ROLE) {
        let args = line.split(' ').map(OsString::from).collect();
        std::process::exit(caracal_store_server::run(args));
    }
}

fn command(line: &str, endpoint: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]);
    command
        .env(ROLE, format!("store {line}"))
        .env("ETCD_ENDPOINTS", endpoint);
    command.stdin(Stdio::null());
    command
}

/// What the program prints that is JSON, and its exit code.
fn run(line: &str, endpoint: &str) -> (Vec<Value>, String, i32) {
    let done = command(line, endpoint).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let json = text.lines().filter_map(|l| serde_json::from_str(l).ok());
    let errors = String::from_utf8(done.stderr).unwrap();
    (json.collect(), errors, done.status.code().unwrap())
}

fn serve(dir: &Path) -> Background {
    let socket = dir.join("s.sock");
    let line = format!(
        "serve --data {} --socket {}",
        dir.join("data").display(),
        socket.display()
    );
    let mut command = command(&line, "");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let served = Background::spawn(&mut command);
    eventually(LONG, || {
        std::os::unix::net::UnixStream::connect(&socket)
            .map(drop)
            .map_err(|e| e.to_string())
    });
    served
}

fn object(kind: Kind, name: &str, spec: &Value) -> Resource {
    Resource::from_value(kind, json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}

fn pool(name: &str, n: u8) -> Resource {
    object(Kind::IpPool, name, &json!({ "cidr": format!("10.{n}.0.0/16") }))
}

/// Follows a program's lines.
struct Follower {
    _program: Background,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(line: &str, endpoint: &str) -> Self {
        let mut command = command(line, endpoint);
        let mut program = Background::spawn(command.stdout(Stdio::piped()));
        let out = program.child().stdout.take().unwrap();
        Self {
            _program: program,
            lines: BufReader::new(out).lines(),
        }
    }

    fn next(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("the program goes on").unwrap();
            if let Ok(value) = serde_json::from_str(&line) {
                return value;
            }
        }
    }
}

#[test]
fn streams_are_followed_through_a_death_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path());
    let endpoint = format!("unix://{}", dir.path().join("s.sock").display());
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = caracal_datastore::named(&endpoint).unwrap();
    for r in [
        pool("p", 1),
        object(Kind::Node, "n1", &json!({})),
        object(Kind::Node, "n2", &json!({})),
    ] {
        rt.block_on(store.create(r)).unwrap();
    }
    let (events, e, code) = run("watch --stream tunnel --node n1 --once -o json", &endpoint);
    assert_eq!(code, 0, "{e}");
    let mut names: Vec<_> = events.iter().filter_map(|v| v["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["n1", "p"]);
    assert_eq!(
        events.last().unwrap(),
        &json!({ "event": "inSync", "objects": 2 })
    );
    let (events, _, _) = run(
        "watch --kind nodes,pools --selector !has(x) --once -o json",
        &endpoint,
    );
    assert_eq!(events.len(), 4);

    let mut follower = Follower::start("watch --stream tunnel --node n1 -o json", &endpoint);
    while follower.next()["event"] != "inSync" {}
    rt.block_on(store.create(pool("q", 2))).unwrap();
    let event = follower.next();
    assert_eq!((&event["event"], &event["name"]), (&json!("set"), &json!("q")));
    assert_eq!(event["object"]["spec"]["cidr"], "10.2.0.0/16");
    served.kill();
    assert_eq!(follower.next()["event"], "disconnected");
    let _served = serve(dir.path());
    eventually(LONG, || {
        let key = ResourceKey::global(Kind::IpPool, "q");
        rt.block_on(store.delete(&key, &Preconditions::default()))
            .map(drop)
            .map_err(|e| e.to_string())
    });
    // Nothing is told again.
    let mut rest = vec![follower.next(), follower.next()];
    rest.sort_by_key(|v| v["event"].to_string());
    let gone = json!({ "event": "gone", "kind": "IPPool", "name": "q" });
    assert_eq!(rest, [gone, json!({ "event": "reconnected" })]);
}

#[test]
fn reports_are_shown_and_a_datastore_that_is_away_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let endpoint = format!("unix://{}", dir.path().join("s.sock").display());
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = caracal_datastore::named(&endpoint).unwrap();
    for node in ["n1", "n2"] {
        let key = ReportKey {
            region: String::new(),
            node: node.into(),
            subject: Subject::LastSeen,
        };
        let value = json!({ "uptime": 1 });
        let reports = store.reports().unwrap();
        assert!(rt.block_on(reports.report(&key, &value, None)).unwrap());
    }
    let (shown, e, code) = run("reports --node n2 -o json", &endpoint);
    assert_eq!(code, 0, "{e}");
    let want = json!([{ "node": "n2", "about": "last seen", "report": { "uptime": 1 } }]);
    assert_eq!(shown, [want]);
    drop(served);
    let (_, e, code) = run("watch --stream felix --timeout 1", &endpoint);
    assert_eq!(code, 1);
    assert!(
        e.contains("no complete snapshot within 1 s") && e.contains("s.sock"),
        "{e}"
    );
    let (_, e, code) = run("reports", &endpoint);
    assert_eq!(code, 1);
    assert!(e.contains("is the embedded store running"), "{e}");
    let (_, _, code) = run("watch --kind nonsense", &endpoint);
    assert_eq!(code, 1);
    let (_, _, code) = run("watch", &endpoint);
    assert_eq!(code, 2);
}
