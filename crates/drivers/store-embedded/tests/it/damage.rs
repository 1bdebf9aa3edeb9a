//! A small file cut at every page, flipped in every page, and disks that are really full.

use std::path::Path;

use caracal_store_embedded::{Engine, OpenError, Options, RequestError};
use caracal_testkit::{needs, netns};
use caracal_wire::Bytes;
use caracal_wire::etcdserverpb::{CompactionRequest, DeleteRangeRequest};

use crate::api::{get, prefix, put};
use crate::dice::{Dice, nightly, seed};

const PAGE: usize = 4096;
const KEYS: i64 = 24;
const FILE: &str = "store.redb";

fn value(n: i64) -> String {
    format!("{n}.{}", "v".repeat(300))
}

/// A small store's file, as a clean end or kill -9 leaves it.
async fn small(clean: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    for n in 0..KEYS {
        engine.put(put(&format!("/k/{n:02}"), &value(n))).await.unwrap();
    }
    let file = dir.path().join(FILE);
    if clean {
        engine.close().await;
        std::fs::read(file).unwrap()
    } else {
        let killed = std::fs::read(file).unwrap();
        engine.close().await;
        killed
    }
}

/// Opens a file: all that was written is there, or all but the last write where that may be torn, or an error that names
/// the file and says what to do.
async fn judge(image: Vec<u8>, may_be_torn: bool, what: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    std::fs::write(&file, image).unwrap();
    let engine = match Engine::open(dir.path(), Options::default()) {
        Ok(engine) => engine,
        Err(error) => {
            assert!(matches!(error, OpenError::Corrupt { .. }), "{what}: {error}");
            let text = error.to_string();
            assert!(
                text.contains(&*file.to_string_lossy()) && text.contains("restore a backup"),
                "{what}: {text}"
            );
            return false;
        }
    };
    let found = engine.range(prefix("/k/", "/k0")).await.unwrap();
    let least = KEYS - i64::from(may_be_torn);
    assert!(
        found.count >= least,
        "{what}: only {} of {KEYS} keys",
        found.count
    );
    for (n, kv) in found.kvs.iter().enumerate() {
        assert_eq!(kv.value, value(n as i64), "{what}");
    }
    assert_eq!(found.header.unwrap().revision, found.count + 1, "{what}");
    assert_eq!(engine.verify().await.unwrap(), Vec::<String>::new(), "{what}");
    engine.put(put("/after", "1")).await.unwrap();
    engine.close().await;
    true
}

#[tokio::test]
async fn a_small_file_cut_at_every_page_opens_whole_or_says_so() {
    for clean in [true, false] {
        let whole = small(clean).await;
        assert!(judge(whole.clone(), false, "whole").await);
        let mut refused = 0;
        for cut in (0..whole.len()).step_by(PAGE) {
            let what = format!("clean {clean}, cut at {cut} of {}", whole.len());
            refused += usize::from(!judge(whole[..cut].to_vec(), !clean, &what).await);
        }
        assert!(refused > 0);
    }
}

#[tokio::test]
async fn flipped_bytes_in_every_page_are_found_or_hit_nothing() {
    let seed = seed("flipped bytes");
    let mut dice = Dice::new(seed);
    let rounds = if nightly() { 40 } else { 3 };
    for clean in [true, false] {
        let whole = small(clean).await;
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() / PAGE + 1;
        let mut refused = 0;
        for page in 0..used {
            for round in 0..rounds {
                let at = page * PAGE + if round == 0 { 0 } else { dice.below(PAGE) };
                let many = [1, 8, 64][dice.below(3)];
                let mut image = whole.clone();
                for byte in image.iter_mut().skip(at).take(many) {
                    *byte ^= 1 + dice.below(255) as u8;
                }
                let what = format!("seed {seed}: clean {clean}, {many} bytes at {at}");
                refused += usize::from(!judge(image, !clean, &what).await);
            }
        }
        assert!(refused > 0);
    }
}

#[tokio::test]
async fn an_empty_file_is_no_empty_store_but_an_interrupted_first_start_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    std::fs::write(&file, "").unwrap();
    let refused = Engine::open(dir.path(), Options::default()).err().unwrap();
    assert!(refused.to_string().contains("it is empty"), "{refused}");
    // What a start that was killed half way leaves.
    std::fs::write(&file, "half a header").unwrap();
    std::fs::write(dir.path().join("making"), "").unwrap();
    let missing = Engine::open_existing(dir.path(), Options::default())
        .err()
        .unwrap();
    assert!(matches!(missing, OpenError::Missing(_)), "{missing}");
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    engine.put(put("/a", "1")).await.unwrap();
    engine.close().await;
    let engine = Engine::open_existing(dir.path(), Options::default()).unwrap();
    assert_eq!(engine.range(get("/a")).await.unwrap().count, 1);
    engine.close().await;
}

fn mount(dir: &Path, options: &str) {
    let mut command = std::process::Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "small"]).arg(dir);
    assert!(command.status().unwrap().success(), "mounting a small disk");
}

#[test]
fn netns_a_full_disk_refuses_puts_and_goes_on_reading() {
    netns!();
    needs!("root", "mount");
    let dir = tempfile::tempdir().unwrap();
    mount(dir.path(), "size=24m");
    tokio::runtime::Runtime::new().unwrap().block_on(full(dir.path()));
}

async fn full(dir: &Path) {
    let options = || Options {
        reserve_bytes: 6 << 20,
        ..Options::default()
    };
    let data = dir.join("data");
    let engine = Engine::open(&data, options()).unwrap();
    let value = "x".repeat(100_000);
    let mut written = 0;
    let refused = loop {
        match engine.put(put(&format!("/{written:03}"), &value)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, RequestError::NoSpace);
    assert!(written > 20 && engine.is_low_on_space(), "{written} puts");
    let all = Bytes::from_static(&[0]);
    let count = async |engine: &Engine| {
        let mut everything = prefix("", "");
        (everything.key, everything.range_end) = (all.clone(), all.clone());
        engine.range(everything).await.map(|found| found.count)
    };
    assert_eq!(count(&engine).await, Ok(written));
    // Somebody else takes the rest: the system refuses writes, too. What was acknowledged stays, through a restart.
    let ballast = dir.join("ballast");
    let filled = std::fs::write(&ballast, vec![1; 64 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert!(engine.put(put("/more", &value)).await.is_err());
    assert_eq!(count(&engine).await, Ok(written));
    engine.close().await;
    drop(engine);
    let engine = Engine::open(&data, options()).unwrap();
    assert_eq!(count(&engine).await, Ok(written));
    assert_eq!(
        engine.put(put("/more", "1")).await.unwrap_err(),
        RequestError::NoSpace
    );
    // Room again: deleting and compacting is possible, and then putting is, without a restart.
    std::fs::remove_file(&ballast).unwrap();
    let delete = DeleteRangeRequest {
        key: all.clone(),
        range_end: all.clone(),
        prev_kv: false,
    };
    let deleted = engine.delete_range(delete).await.unwrap();
    assert_eq!(deleted.deleted, written);
    let compaction = CompactionRequest {
        revision: deleted.header.unwrap().revision,
        physical: true,
    };
    engine.compact(compaction).await.unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = engine.put(put("/again", "1")).await {
        assert_eq!(error, RequestError::NoSpace);
        assert!(std::time::Instant::now() < deadline, "the alarm goes by itself");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!engine.is_low_on_space());
    assert_eq!(engine.verify().await.unwrap(), Vec::<String>::new());
    engine.close().await;
}
