//! Watches: replay and live, filters, compaction, slow readers, many on a stream.

use std::time::Duration;

use caracal_store_embedded::{Engine, Options};
use caracal_wire::etcdserverpb::watch_request::RequestUnion;
use caracal_wire::etcdserverpb::*;
use caracal_wire::{Bytes, Event};

use crate::api::{Running, put};

const SOON: Duration = Duration::from_secs(20);

fn all(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(b"/"),
        range_end: Bytes::from_static(b"0"),
        start_revision,
        ..Default::default()
    }
}

async fn start(options: Options) -> (Running, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), options).unwrap();
    (Running::start(engine).await, dir)
}

fn revisions(events: &[Event]) -> Vec<i64> {
    events
        .iter()
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_then_live_without_gap_or_duplicate() {
    let (server, _dir) = start(Options::default()).await;
    for n in 0..100 {
        server.engine.put(put("/k", &n.to_string())).await.unwrap();
    }
    let writer = server.engine.clone();
    let writing = tokio::spawn(async move {
        for n in 100..400 {
            writer.put(put("/k", &n.to_string())).await.unwrap();
        }
    });
    let mut watch = server.watch(vec![all(2)]).await;
    let events = watch.events(400, SOON).await;
    writing.await.unwrap();
    assert_eq!(revisions(&events), (2..402).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_reads_on_from_disk_and_delays_nobody() {
    let (server, _dir) = start(Options {
        keep_revisions: 0,
        ..Options::default()
    })
    .await;
    let mut watch = server.watch(vec![all(0)]).await;
    assert!(watch.next(SOON).await.created);
    // More than what is kept in memory and what the connection buffers, while nothing is read.
    let value = "x".repeat(400 << 10);
    for _ in 0..60 {
        server.engine.put(put("/big", &value)).await.unwrap();
    }
    let events = watch.events(60, SOON).await;
    assert_eq!(revisions(&events), (2..62).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_is_one_response_and_filters_filter() {
    let (server, _dir) = start(Options::default()).await;
    let no_puts = WatchCreateRequest {
        filters: vec![0],
        prev_kv: true,
        watch_id: 9,
        ..all(0)
    };
    let mut watch = server.watch(vec![all(0), no_puts]).await;
    assert_eq!(watch.next(SOON).await.watch_id, 0);
    assert_eq!(watch.next(SOON).await.watch_id, 9);
    let ops = |n: i32| RequestOp {
        request: Some(request_op::Request::RequestPut(put(&format!("/{n}"), "v"))),
    };
    server
        .engine
        .txn(TxnRequest {
            success: (0..5).map(ops).collect(),
            ..Default::default()
        })
        .await
        .unwrap();
    let response = watch.next(SOON).await;
    assert_eq!((response.watch_id, response.events.len()), (0, 5));
    let delete = DeleteRangeRequest {
        key: "/3".into(),
        ..Default::default()
    };
    server.engine.delete_range(delete).await.unwrap();
    let (one, other) = (watch.next(SOON).await, watch.next(SOON).await);
    assert_eq!(
        (one.watch_id, one.events.len(), one.events[0].prev_kv.is_some()),
        (0, 1, false)
    );
    assert_eq!((other.watch_id, other.events.len()), (9, 1));
    assert_eq!(other.events[0].prev_kv.as_ref().unwrap().value, "v");
    watch
        .send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 9 }))
        .await;
    let canceled = watch.next(SOON).await;
    assert!(canceled.canceled && canceled.watch_id == 9 && canceled.compact_revision == 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_before_the_compaction_is_canceled_with_its_revision() {
    let (server, dir) = start(Options::default()).await;
    for _ in 0..20 {
        server.engine.put(put("/k", "v")).await.unwrap();
    }
    server
        .engine
        .compact(CompactionRequest {
            revision: 15,
            physical: true,
        })
        .await
        .unwrap();
    canceled_and_shown(&server).await;
    server.stop().await;
    // The same from disk as from memory.
    let server = Running::start(Engine::open(dir.path(), Options::default()).unwrap()).await;
    canceled_and_shown(&server).await;
    server.stop().await;
}

async fn canceled_and_shown(server: &Running) {
    let mut watch = server.watch(vec![all(5), all(15)]).await;
    assert!(watch.next(SOON).await.created);
    let mut seen = Vec::new();
    let mut canceled = None;
    while seen.len() < 7 || canceled.is_none() {
        let response = watch.next(SOON).await;
        if response.canceled {
            assert_eq!(response.cancel_reason, "", "the revision says it");
            canceled = Some((response.watch_id, response.compact_revision));
        }
        seen.extend(revisions(&response.events));
    }
    assert_eq!(canceled, Some((0, 15)));
    assert_eq!(seen, (15..22).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_when_asked_and_when_idle() {
    let (server, _dir) = start(Options {
        progress_interval: Duration::from_millis(50),
        ..Options::default()
    })
    .await;
    server.engine.put(put("/k", "v")).await.unwrap();
    let mut watch = server
        .watch(vec![WatchCreateRequest {
            progress_notify: true,
            ..all(0)
        }])
        .await;
    assert!(watch.next(SOON).await.created);
    let idle = watch.next(SOON).await;
    assert_eq!(
        (idle.watch_id, idle.events.len(), idle.header.unwrap().revision),
        (0, 0, 2)
    );
    watch
        .send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
        .await;
    let asked = loop {
        let response = watch.next(SOON).await;
        if response.watch_id == -1 {
            break response;
        }
    };
    assert_eq!(asked.header.unwrap().revision, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_makes_no_sense_is_refused_and_the_stream_goes_on() {
    let (server, _dir) = start(Options::default()).await;
    let backwards = WatchCreateRequest {
        key: "b".into(),
        range_end: "a".into(),
        ..Default::default()
    };
    let twice = WatchCreateRequest {
        watch_id: 4,
        ..all(0)
    };
    let mut watch = server.watch(vec![backwards, twice.clone(), twice]).await;
    let refused = watch.next(SOON).await;
    assert!(refused.created && refused.canceled && refused.watch_id == -1);
    assert_eq!(watch.next(SOON).await.watch_id, 4);
    assert!(
        watch
            .next(SOON)
            .await
            .cancel_reason
            .contains("duplicate watch ID")
    );
    server.engine.put(put("/k", "v")).await.unwrap();
    assert_eq!(watch.events(1, SOON).await.len(), 1);
    server.stop().await;
}
