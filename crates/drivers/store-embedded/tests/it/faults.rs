//! Power cuts and disks that fail: on a disk in memory that loses what was not synced.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use caracal_store_embedded::{Disk, Engine, Listen, Options, RequestError, Server};
use caracal_wire::Bytes;
use caracal_wire::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use tokio::task::JoinHandle;

use crate::chaos::{Size, Victim, run};
use crate::dice::{nightly, seed};
use crate::disk::{Faults, SimDisk};

const KEEPS: i64 = 2500;

/// A server in this process on a disk whose power is cut.
struct Machine {
    seed: u64,
    faults: Faults,
    image: Vec<u8>,
    running: Option<(SimDisk, Engine, JoinHandle<()>, tempfile::TempDir)>,
    failed: usize,
}

impl Machine {
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            image: Vec::new(),
            running: None,
            failed: 0,
        }
    }
}

impl Victim for Machine {
    async fn start(&mut self, socket: &Path) {
        self.seed += 1;
        let disk = SimDisk::new(self.seed, std::mem::take(&mut self.image));
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            keep_revisions: KEEPS,
            ..Options::default()
        };
        let engine = Engine::open_on(dir.path(), options, Arc::new(disk.clone())).unwrap();
        let listen = Listen {
            socket: Some(socket.into()),
            tcp: None,
            tls: None,
        };
        let server = Server::bind(engine.clone(), listen).await.unwrap();
        disk.set_faults(self.faults);
        let serving = tokio::spawn(async move { server.serve(std::future::pending()).await.unwrap() });
        self.running = Some((disk, engine, serving, dir));
    }

    async fn kill(&mut self) {
        let (disk, engine, serving, _dir) = self.running.take().unwrap();
        self.image = disk.cut();
        self.failed += disk.failed.load(Ordering::SeqCst);
        serving.abort();
        let _ = serving.await;
        engine.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_lose_nothing_that_was_acknowledged() {
    let seed = seed("power cuts");
    let size = Size {
        seed,
        operations: if nightly() { 60_000 } else { 12_000 },
        kills: if nightly() { 400 } else { 40 },
        clients: 12,
        keeps: KEEPS,
    };
    let proof = run(&mut Machine::new(seed, Faults::default()), size).await;
    assert!(proof.answered > size.operations / 2, "{proof:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_now_and_then_loses_nothing_that_was_acknowledged() {
    let seed = seed("failing disk");
    let faults = Faults {
        read: 20_000,
        write: 2000,
        short: 2000,
        full: 2000,
        sync: 150,
    };
    let size = Size {
        seed,
        operations: if nightly() { 60_000 } else { 8000 },
        kills: if nightly() { 200 } else { 15 },
        clients: 12,
        keeps: KEEPS,
    };
    let mut machine = Machine::new(seed, faults);
    let proof = run(&mut machine, size).await;
    assert!(machine.failed > 10, "the disk failed {} times", machine.failed);
    assert!(proof.answered > size.operations / 2, "{proof:?}");
}

fn put(key: String, bytes: usize) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    }
}

async fn count(engine: &Engine) -> Result<i64, RequestError> {
    let all = Bytes::from_static(&[0]);
    let request = RangeRequest {
        key: all.clone(),
        range_end: all,
        count_only: true,
        ..Default::default()
    };
    Ok(engine.range(request).await?.count)
}

fn open(disk: &SimDisk) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open_on(dir.path(), Options::default(), Arc::new(disk.clone())).unwrap();
    (engine, dir)
}

#[tokio::test]
async fn a_write_that_fails_half_way_is_refused_and_leaves_what_was_there() {
    let disk = SimDisk::new(1, Vec::new());
    let (engine, _dir) = open(&disk);
    for n in 0..20 {
        engine.put(put(format!("/{n}"), 1000)).await.unwrap();
    }
    disk.set_end(disk.len().unwrap());
    let mut written = 20;
    let refused = loop {
        match engine.put(put(format!("/{written}"), 200_000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk is full some time");
    };
    assert_eq!(refused, RequestError::NoSpace);
    assert_eq!(count(&engine).await, Ok(written), "reads go on");
    let revision = engine.stats().await.unwrap().revision;
    assert_eq!(revision, written + 1, "the refused write is no revision");
    disk.set_end(u64::MAX);
    engine.put(put("/after".into(), 200_000)).await.unwrap();
    assert_eq!(count(&engine).await, Ok(written + 1));
    engine.close().await;
    let (engine, _dir) = open(&disk);
    assert_eq!(count(&engine).await, Ok(written + 1));
    engine.close().await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_at_all_stops_the_store_until_it_does_again() {
    let disk = SimDisk::new(1, Vec::new());
    let (engine, _dir) = open(&disk);
    engine.put(put("/a".into(), 10)).await.unwrap();
    disk.set_end(0);
    assert!(engine.put(put("/b".into(), 10)).await.is_err());
    assert!(engine.put(put("/c".into(), 10)).await.is_err());
    disk.set_end(u64::MAX);
    // The first write after that finds the database closed and opens it.
    let mut left = 3;
    while engine.put(put("/d".into(), 10)).await.is_err() {
        left -= 1;
        assert!(left > 0, "the store comes back");
    }
    assert_eq!(count(&engine).await, Ok(2));
    engine.close().await;
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_refuses_writes_and_is_read() {
    let disk = SimDisk::new(1, Vec::new());
    let (engine, _dir) = open(&disk);
    for n in 0..20 {
        engine.put(put(format!("/{n}"), 1000)).await.unwrap();
    }
    let before = engine.stats().await.unwrap().revision;
    disk.set_read_only(true);
    // The first finds it out, the others know it.
    for n in 0..5 {
        let refused = engine.put(put(format!("/r{n}"), 1000)).await.unwrap_err();
        assert!(refused.to_string().contains("read-only") || n == 0, "{refused}");
        assert_eq!(count(&engine).await, Ok(20), "reads go on");
    }
    let compact = CompactionRequest {
        revision: before,
        physical: true,
    };
    assert_eq!(engine.compact(compact).await.unwrap_err(), RequestError::ReadOnly);
    assert_eq!(engine.stats().await.unwrap().revision, before);
    assert_eq!(engine.verify().await.unwrap(), Vec::<String>::new());
    disk.set_read_only(false);
    // The first write after that finds it out, too.
    let mut left = 3;
    while engine.put(put("/after".into(), 1000)).await.is_err() {
        left -= 1;
        assert!(left > 0, "the store comes back");
    }
    assert_eq!(count(&engine).await, Ok(21));
    engine.close().await;
    let (engine, _dir) = open(&disk);
    assert_eq!(count(&engine).await, Ok(21), "what was written is on the disk");
    engine.close().await;
}

#[tokio::test]
async fn what_a_failed_sync_left_in_memory_only_is_written_again() {
    for round in 0..20 {
        let disk = SimDisk::new(round, Vec::new());
        let (engine, _dir) = open(&disk);
        engine.put(put("/before".into(), 3000)).await.unwrap();
        disk.fail_sync.store(true, Ordering::SeqCst);
        let failed = engine.put(put("/failed".into(), 3000)).await.unwrap_err();
        assert!(matches!(failed, RequestError::Storage(_)), "{failed}");
        // Acknowledged on top of what the failed sync left, whatever that is.
        let after = engine.put(put("/after".into(), 3000)).await.unwrap();
        let shown = count(&engine).await.unwrap();
        let image = disk.cut();
        engine.close().await;
        let (engine, _dir) = open(&SimDisk::new(round, image));
        assert_eq!(count(&engine).await.unwrap(), shown, "round {round}");
        let stats = engine.stats().await.unwrap();
        assert_eq!(stats.revision, after.header.unwrap().revision, "round {round}");
        engine.close().await;
    }
}
