//! Clocks that jump: leases end neither early nor late by them, and revisions know no time.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use caracal_api::Kind;
use caracal_store::{Lease, ReportKey, Reports, Store, Subject};
use caracal_testkit::{Background, eventually, needs};
use serde_json::json;

use super::{LONG, command, object};

fn key() -> ReportKey {
    ReportKey {
        region: String::new(),
        node: "n".into(),
        subject: Subject::Agent,
    }
}

struct World {
    dir: tempfile::TempDir,
    store: std::sync::Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = format!("unix://{}", dir.path().join("s.sock").display());
        let store = std::sync::Arc::new(caracal_datastore::named(&socket).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self { dir, store, runtime }
    }

    /// Serves with the steady clocks so many seconds ahead of this machine's.
    fn serve(&self, ahead: i64) -> Background {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let line = format!("serve --data {} --socket {}", at("data"), at("s.sock"));
        let reach = || std::os::unix::net::UnixStream::connect(at("s.sock")).map(drop);
        // The one before it is not our child: it ends a moment after its parent.
        eventually(LONG, || match reach() {
            Ok(()) => Err("the old server is still there".to_owned()),
            Err(_) => Ok(()),
        });
        let mut served: Option<Background> = None;
        eventually(LONG, || {
            let ended = |s: &mut Background| s.child().try_wait().is_ok_and(|end| end.is_some());
            if served.as_mut().is_none_or(ended) {
                served = Some(Self::spawn(&line, ahead));
            }
            reach().map_err(|e| e.to_string())
        });
        served.expect("it was reached")
    }

    fn spawn(line: &str, ahead: i64) -> Background {
        let plain = command(line, "");
        let mut shifted = Command::new("unshare");
        shifted.args(["--time", "--fork", "--kill-child"]);
        shifted.args([format!("--monotonic={ahead}"), format!("--boottime={ahead}")]);
        shifted.arg(plain.get_program()).args(plain.get_args());
        shifted.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shifted
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Background::spawn(&mut shifted)
    }

    fn reports(&self) -> &dyn Reports {
        self.store.reports().unwrap()
    }

    fn grant(&self, seconds: u64) -> Lease {
        let granted = self.reports().grant(Duration::from_secs(seconds));
        let lease = self.runtime.block_on(granted).unwrap();
        let written = self
            .runtime
            .block_on(self.reports().report(&key(), &json!({}), Some(lease)));
        assert!(written.unwrap());
        lease
    }

    fn is_there(&self) -> bool {
        let found = self.runtime.block_on(self.reports().reported(None)).unwrap();
        found.iter().any(|(k, _)| *k == key())
    }

    fn keep(&self, lease: Lease) -> bool {
        self.runtime.block_on(self.reports().keep(lease)).unwrap()
    }

    fn revision(&self, name: &str) -> i64 {
        let pool = object(Kind::GlobalNetworkSet, name, &json!({}));
        let made = self.runtime.block_on(self.store.create(pool)).unwrap();
        made.metadata()
            .resource_version
            .as_ref()
            .unwrap()
            .parse()
            .unwrap()
    }
}

fn has_time_namespaces() -> bool {
    let mut tried = Command::new("unshare");
    tried
        .args(["--time", "--fork", "--monotonic=1000", "true"])
        .stderr(Stdio::null());
    Path::new("/proc/self/ns/time").exists() && tried.status().is_ok_and(|status| status.success())
}

#[test]
fn a_steady_clock_that_is_another_after_a_restart_ends_no_lease() {
    needs!("root", "unshare");
    needs!(if has_time_namespaces(), "time namespaces");
    let world = World::new();
    let mut served = world.serve(0);
    let lease = world.grant(600);
    let mut last = world.revision("a");
    // Twelve days later, as after a reboot of another machine; back again, and before the first.
    for (ahead, name) in [(1_000_000, "b"), (10, "c"), (5_000_000, "d"), (0, "e")] {
        served.kill();
        served = world.serve(ahead);
        assert!(world.is_there() && world.keep(lease), "{ahead} s ahead");
        let now = world.revision(name);
        assert!(now > last, "{ahead} s ahead: {now} after {last}");
        last = now;
    }
}

#[test]
fn a_server_that_stood_still_takes_nothing_from_those_who_could_not_reach_it() {
    let world = World::new();
    let served = super::serve(world.dir.path());
    let lease = world.grant(3);
    let signal = |name: &str| {
        let sent = Command::new("kill")
            .args([name, &served.pid().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    };
    for _ in 0..2 {
        assert!(world.keep(lease));
        signal("-STOP");
        // That is what is tested: time passes, for all but the server.
        let over = Instant::now() + Duration::from_secs(5);
        while Instant::now() < over {
            std::thread::sleep(Duration::from_millis(100));
        }
        signal("-CONT");
        assert!(world.keep(lease), "the lease is there still");
        assert!(world.is_there());
    }
    // Whoever does not keep it loses it nevertheless.
    eventually(LONG, || {
        if world.is_there() {
            Err("it is there".to_owned())
        } else {
            Ok(())
        }
    });
    assert!(!world.keep(lease));
}
