//! kill -9: what was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use caracal_store_embedded::{Engine, Listen, Options, Server};
use caracal_wire::etcdserverpb::kv_client::KvClient;
use tokio::sync::Notify;
use tonic::transport::Channel;

use crate::api::{connect, get, put};

/// Names the folder of a server; set only for the child.
const CHILD: &str = "CARACAL_STORE_CRASH_DIR";
const ROUNDS: usize = 20;
const WRITERS: usize = 4;

/// What a writer was told: key, value, revision.
type Acknowledged = Mutex<Vec<(String, String, i64)>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_loses_no_acknowledged_write() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return serve(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut last = 1;
    for round in 0..ROUNDS {
        let mut server = spawn(dir.path());
        let channel = up(dir.path()).await;
        last = check(channel.clone(), &known, last).await;

        let acknowledged: Arc<Acknowledged> = Arc::default();
        let (count, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        // Somewhere among the writes, another place every round.
        let kill_after = 3 + (round * 37) % 101;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (acknowledged, count, enough) = (acknowledged.clone(), count.clone(), enough.clone());
                let mut kv = KvClient::new(channel.clone());
                tokio::spawn(async move {
                    let mut previous = 0;
                    for n in 0.. {
                        // A key of its own, and one that is overwritten all the time.
                        let own = (
                            format!("/own/{round}/{writer}/{n}"),
                            "x".repeat(1 + n * 37 % 5000),
                        );
                        let shared = (format!("/shared/{writer}"), format!("{round:04}/{n:08}"));
                        for (key, value) in [own, shared] {
                            let Ok(response) = kv.put(put(&key, &value)).await else {
                                return;
                            };
                            let revision = response.into_inner().header.unwrap().revision;
                            assert!(revision > previous, "revisions grow");
                            previous = revision;
                            acknowledged.lock().unwrap().push((key, value, revision));
                            if count.fetch_add(1, Ordering::SeqCst) >= kill_after {
                                enough.notify_one();
                            }
                        }
                    }
                })
            })
            .collect();
        tokio::time::timeout(Duration::from_secs(30), enough.notified())
            .await
            .expect("writes are acknowledged");
        server.0.kill().unwrap();
        server.0.wait().unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
        let mut revisions = Vec::new();
        for (key, value, revision) in acknowledged.lock().unwrap().drain(..) {
            revisions.push(revision);
            known.insert(key, value);
        }
        revisions.sort_unstable();
        assert!(
            revisions.windows(2).all(|pair| pair[0] < pair[1]),
            "every write has a revision of its own"
        );
        assert!(revisions[0] > last, "revisions go on after a restart");
        last = revisions[revisions.len() - 1];
    }
    let server = spawn(dir.path());
    check(up(dir.path()).await, &known, last).await;
    drop(server);
    let engine = Engine::open_existing(&dir.path().join("data"), Options::default()).unwrap();
    assert_eq!(engine.verify().await.unwrap(), Vec::<String>::new());
    engine.close().await;
}

/// Every acknowledged write is there (or a later one of the same writer); returns the store's revision.
async fn check(channel: Channel, known: &BTreeMap<String, String>, last: i64) -> i64 {
    let mut kv = KvClient::new(channel);
    let mut revision = last;
    for (key, value) in known {
        let found = kv.range(get(key)).await.unwrap().into_inner();
        let kept = found
            .kvs
            .first()
            .unwrap_or_else(|| panic!("{key} was acknowledged and is gone"));
        if key.starts_with("/shared/") {
            assert!(kept.value.as_ref() >= value.as_bytes(), "{key} went back");
        } else {
            assert_eq!(kept.value, value.as_bytes(), "{key}");
        }
        revision = found.header.unwrap().revision;
    }
    assert!(
        revision >= last,
        "the revision went back from {last} to {revision}"
    );
    revision
}

/// A server process that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(dir: &Path) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::kill_nine_loses_no_acknowledged_write"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

async fn serve(dir: &Path) {
    let options = Options {
        keep_revisions: 100,
        ..Options::default()
    };
    let engine = Engine::open(&dir.join("data"), options).unwrap();
    let listen = Listen {
        socket: Some(dir.join("sock")),
        tcp: None,
        tls: None,
    };
    Server::bind(engine, listen)
        .await
        .unwrap()
        .serve(std::future::pending())
        .await
        .unwrap();
}

/// Waits until the server takes connections.
async fn up(dir: &Path) -> Channel {
    let socket = dir.join("sock");
    let deadline = Instant::now() + Duration::from_secs(30);
    while tokio::net::UnixStream::connect(&socket).await.is_err() {
        assert!(Instant::now() < deadline, "the server comes up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connect(&socket).await
}
