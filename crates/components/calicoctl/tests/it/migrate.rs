//! Everything from one datastore into another, by a program that is killed again and again.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write,
    process::{Command, Stdio},
    time::Duration,
};

use caracal_testkit::{Authority, Background, Etcd, EtcdCluster, eventually, needs};
use caracal_wire::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use tonic::transport::{Channel, Endpoint};

use crate::rig::Rig;

/// Names the arguments of the program that the test is to be.
const ROLE: &str = "CARACAL_TEST_CALICOCTL";

pub(crate) fn play_role() {
    if let Ok(line) = std::env::var(ROLE) {
        let args = line.split_whitespace().map(OsString::from).collect();
        std::process::exit(caracal_calicoctl::run(args));
    }
}

/// The program as a process, not waited for.
fn start(line: &str) -> Background {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]);
    command.env(ROLE, format!("calicoctl {line}"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Background::spawn(&mut command)
}

const CLUSTER: &str = "\
apiVersion: projectcalico.org/v3
kind: ClusterInformation
metadata: {name: default}
spec: {clusterGUID: abc, datastoreReady: true}
";

const BLOCK: (&str, &str) = (
    "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30",
    r#"{"cidr":"10.0.0.0/30","affinity":"host:n1","allocations":[0,null,null,null],"unallocated":[1,2,3],"attributes":[{"handle_id":"h","secondary":{}}],"sequenceNumber":7,"sequenceNumberForAllocation":{"0":7},"deleted":false,"ofTheFuture":{"x":[1]}}"#,
);
const FOREIGN: (&str, &str) = ("/calico/bgp/v1/global/custom", "not JSON at all");

fn sets(n: usize) -> String {
    let mut text = String::new();
    for i in 0..n {
        let _ = write!(
            text,
            "---\napiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {{name: s{i}, namespace: shop}}\nspec: \
             {{nets: [10.{}.{}.0/24]}}\n",
            i / 250,
            i % 250
        );
    }
    text
}

/// What is stored, as it is.
pub(crate) struct Raw {
    runtime: tokio::runtime::Runtime,
    kv: KvClient<Channel>,
}

impl Raw {
    pub(crate) fn at(endpoint: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let kv = runtime.block_on(async {
            KvClient::new(Endpoint::from_shared(endpoint.to_owned()).unwrap().connect_lazy())
                .max_decoding_message_size(64 << 20)
        });
        Self { runtime, kv }
    }

    fn of(rig: &Rig) -> Self {
        Self::at(&socket(rig))
    }

    pub(crate) fn put(&self, (key, value): (&str, &str)) {
        let request = PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            ..PutRequest::default()
        };
        self.runtime.block_on(self.kv.clone().put(request)).unwrap();
    }

    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        let request = RangeRequest {
            key: "/calico/".into(),
            range_end: "/calico0".into(),
            ..RangeRequest::default()
        };
        let answer = self.runtime.block_on(self.kv.clone().range(request)).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = answer.into_inner().kvs.into_iter();
        pairs.map(|kv| (text(&kv.key), text(&kv.value))).collect()
    }
}

pub(crate) fn socket(rig: &Rig) -> String {
    format!("unix://{}", rig.path("s.sock").display())
}

/// A cluster with `n` objects, some that only Calico's own programs write, locked.
fn furnished(n: usize) -> Rig {
    let rig = Rig::new();
    rig.run_reading("apply -f -", &format!("{CLUSTER}{}", sets(n)))
        .ok();
    let raw = Raw::of(&rig);
    raw.put(BLOCK);
    raw.put(FOREIGN);
    rig.run("datastore migrate lock").ok();
    rig
}

/// A number that is the same all day, or as told.
fn seed() -> u64 {
    let told = std::env::var("CARACAL_SEED").ok().and_then(|t| t.parse().ok());
    let seed = told.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_secs() / 86_400
    });
    println!("CARACAL_SEED={seed}");
    seed
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn nightly() -> bool {
    std::env::var_os("CARACAL_NIGHTLY").is_some()
}

/// Lets the program begin, and kills it at some moment; a moment later each time, so that all steps are met.
fn begin_and_kill(line: &str, dice: &mut Dice, times: u64) {
    for n in 0..times {
        let mut program = start(line);
        let wait = dice.roll(20 + 400 * (n + 1) / times);
        std::thread::sleep(Duration::from_millis(wait));
        program.kill();
    }
}

/// Kills the program once so much is there, more each time; then a part is there, unless it was quicker.
fn begin_and_kill_in_the_middle(line: &str, destination: &Raw, whole: usize, dice: &mut Dice, times: u64) {
    let mut parts = 0;
    for n in 1..=times {
        let most = u64::try_from(whole).unwrap() * n / (times + 1);
        let enough = usize::try_from(dice.roll(most.max(1))).unwrap();
        let mut program = start(line);
        eventually(Duration::from_secs(60), || {
            let there = destination.all().len();
            let ended = program.child().try_wait().unwrap().is_some();
            if there > enough || ended {
                Ok(())
            } else {
                Err(format!("{there} keys"))
            }
        });
        program.kill();
        parts += usize::from(destination.all().len() < whole);
    }
    println!("{parts} of {times} deaths left a part");
}

#[test]
fn from_embedded_to_three_etcd_with_tls_and_back_and_killed_meanwhile() {
    needs!("etcd");
    let (times, objects) = if nightly() { (60, 5_000) } else { (6, 800) };
    let mut dice = Dice(seed());
    let old = furnished(objects);
    let stored = Raw::of(&old).all();
    assert_eq!(stored.len(), objects + 3);

    let authority = Authority::new("ours");
    let mut etcd = EtcdCluster::start_secure(3, &authority);
    let there = Rig::over("http://127.0.0.1:1");
    let (cert, key) = authority.issue(&["calico"]).write(there.dir.path(), "client");
    let ca = there.file("ca.crt", &authority.pem());
    let config = there.file(
        "calicoctl.cfg",
        &format!(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n  etcdEndpoints: {}\n  etcdCACertFile: \
             {ca}\n  etcdCertFile: {}\n  etcdKeyFile: {}\n",
            etcd.endpoints().join(","),
            cert.display(),
            key.display()
        ),
    );
    let to_etcd = format!("datastore migrate copy --from {} --to {config}", socket(&old));
    begin_and_kill(&to_etcd, &mut dice, times / 2);
    let leader = etcd.leader().unwrap_or_default();
    etcd.members[leader].kill();
    begin_and_kill(&to_etcd, &mut dice, times / 2);
    let done = there.run(&to_etcd).ok();
    assert!(
        done.contains(&format!("{} objects and 1 other keys", objects + 2)),
        "{done}"
    );
    etcd.members[leader].restart();
    // Once more changes nothing and says so.
    let again = there.run(&format!("{to_etcd} -o json")).ok();
    assert!(
        again.contains("\"written\": 0") && again.contains("\"verified\": true"),
        "{again}"
    );
    assert_eq!(Raw::of(&old).all(), stored, "the source is as it was");

    // Life goes on there, and all of it comes back.
    there.run("datastore migrate unlock").ok();
    there.run("delete networkset s1 -n shop").ok();
    there.run_reading("apply -f -", &sets(objects + 5)).ok();
    there.run("datastore migrate lock").ok();
    let back = Rig::new();
    let home = format!("datastore migrate copy --from {config} --to {}", socket(&back));
    begin_and_kill_in_the_middle(&home, &Raw::of(&back), objects + 8, &mut dice, times);
    back.run(&home).ok();
    let mut want = stored.clone();
    let now = Raw::of(&back).all();
    for (key, value) in &now {
        if !want.contains_key(key) || key.ends_with("/s1") || key.contains("clusterinformations") {
            want.insert(key.clone(), value.clone());
        }
    }
    assert_eq!(
        now, want,
        "what nobody touched is byte for byte as it was at the start"
    );
    assert_eq!(now.len(), objects + 8);
    assert_eq!(now[BLOCK.0], BLOCK.1);
    assert!(
        !now.values().any(|v| v.contains("migrated-from")),
        "no mark is left"
    );
    let listed = |rig: &Rig| {
        rig.run("get networksets -A -o yaml")
            .ok()
            .matches("kind: NetworkSet\n")
            .count()
    };
    assert_eq!((listed(&there), listed(&back)), (objects + 5, objects + 5));
}

#[test]
fn what_may_not_be_copied_is_refused_with_what_to_do() {
    let (old, new) = (furnished(3), Rig::new());
    let copy = |from: &Rig, to: &Rig, more: &str| {
        old.run(&format!(
            "datastore migrate copy --from {} --to {} {more}",
            socket(from),
            socket(to)
        ))
    };
    let e = copy(&old, &old, "").failed();
    assert!(e.contains("are the same"), "{e}");
    let e = copy(&new, &old, "").failed();
    assert!(e.contains("is not locked") && e.contains("migrate lock"), "{e}");
    // A cluster in use.
    new.run_reading("apply -f -", CLUSTER).ok();
    let e = copy(&old, &new, "--overwrite").failed();
    assert!(e.contains("a cluster uses"), "{e}");
    // Another cluster's, locked.
    new.run_reading("apply -f -", &sets(5)).ok();
    new.run("datastore migrate lock").ok();
    let e = copy(&old, &new, "").failed();
    assert!(e.contains("6 other keys") && e.contains("--overwrite"), "{e}");
    let done = copy(&old, &new, "--overwrite -o yaml").ok();
    assert!(
        done.contains("deleted: 2") && done.contains("NetworkSet: 3"),
        "{done}"
    );
    assert_eq!(Raw::of(&old).all(), Raw::of(&new).all());
    // What is half done from elsewhere.
    let third = furnished(1);
    let mark = |raw: &Raw| {
        let (key, value) = raw
            .all()
            .into_iter()
            .find(|(k, _)| k.contains("clusterinfo"))
            .unwrap();
        let marked = value.replacen(
            "\"metadata\":{",
            "\"metadata\":{\"annotations\":{\"caracal.projectcalico.org/migrated-from\":\"etcd at elsewhere\"},",
            1,
        );
        raw.put((&key, &marked));
    };
    mark(&Raw::of(&third));
    for e in [copy(&old, &third, "").failed(), copy(&third, &new, "").failed()] {
        assert!(e.contains("a part of what was at etcd at elsewhere"), "{e}");
    }
    copy(&old, &third, "--overwrite").ok();
    let e = old
        .run(&format!(
            "datastore migrate copy --from {} --to /nonexistent.cfg",
            socket(&old)
        ))
        .failed();
    assert!(e.contains("/nonexistent.cfg"), "{e}");
    let e = old
        .run(&format!(
            "datastore migrate copy --from {} --to unix:///nonexistent/s",
            socket(&old)
        ))
        .failed();
    assert!(
        e.contains("/nonexistent/s") && e.contains("nothing is lost"),
        "{e}"
    );
}

const POLICIES: &str = "/calico/resources/v3/projectcalico.org/";

/// A policy as releases before 3.32 wrote it.
fn old_policy(plural: &str, key: &str, name: &str, namespace: &str, tier: &str) -> (String, String) {
    let value = format!(
        r#"{{"kind":"{plural}","metadata":{{"name":"{name}","namespace":"{namespace}","uid":"u-{name}","ofTheFuture":1}},"spec":{{"tier":"{tier}","selector":"all()"}}}}"#
    );
    (format!("{POLICIES}{plural}/{key}"), value)
}

#[test]
fn policies_of_old_releases_get_the_names_that_they_have() {
    needs!("etcd");
    let embedded = Rig::new();
    let etcd = Etcd::start();
    let remote = Rig::over(&etcd.endpoint());
    let before = [
        old_policy("networkpolicies", "shop/default.web", "web", "shop", "default"),
        old_policy("stagednetworkpolicies", "shop/default.web", "web", "shop", ""),
        old_policy("globalnetworkpolicies", "default.all", "all", "", "default"),
        old_policy("stagedglobalnetworkpolicies", "default.all", "all", "", "default"),
        // These have the names that they have: one says so, one is of another tier, one is new.
        old_policy("globalnetworkpolicies", "default.so", "default.so", "", "default"),
        old_policy("globalnetworkpolicies", "platform.x", "x", "", "platform"),
        old_policy("networkpolicies", "shop/new", "new", "shop", "default"),
    ];
    for (rig, raw) in [
        (&embedded, Raw::of(&embedded)),
        (&remote, Raw::at(&etcd.endpoint())),
    ] {
        for (key, value) in &before {
            raw.put((key, value));
        }
        let migrated = rig.run("datastore migrate-policy-names").ok();
        assert_eq!(migrated, "Policy name migration complete, migrated 4 policies.\n");
        let moved = |(key, value): &(String, String)| {
            let new = key.replace("default.web", "web").replace("default.all", "all");
            (new, value.clone())
        };
        let wanted: BTreeMap<String, String> = before.iter().map(moved).collect();
        assert_eq!(raw.all(), wanted, "all else is as it was, to the byte");
        let listed = rig.run("get np -A").ok();
        assert!(listed.contains("shop        web    default"), "{listed}");
        // Again there is nothing to do.
        let again = rig.run("datastore migrate-policy-names").ok();
        assert!(again.contains("migrated 0 policies"), "{again}");
        // Where both names are taken a person must decide.
        let (key, value) = &before[0];
        raw.put((key, value));
        let ran = rig.run("datastore migrate-policy-names");
        assert!(ran.out.contains("migrated 0 policies"), "{ran:?}");
        assert!(
            ran.failed()
                .contains("NetworkPolicy(shop/default.web) keeps its name")
        );
        rig.run("delete np web -n shop").ok();
        let done = rig.run("datastore migrate-policy-names").ok();
        assert!(done.contains("migrated 1 policies"), "{done}");
    }
}
