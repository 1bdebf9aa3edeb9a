//! Backups, restores, small files; and TLS on TCP.

use std::{path::Path, sync::Arc};

use caracal_store_embedded::{
    Backup, BackupError, Engine, Listen, Options, ServeError, Server, restore, shrink,
};
use caracal_testkit::{Authority, Issued};
use caracal_tls::{ClientTls, Material, ServerTls, Source};
use caracal_wire::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, RangeRequest, SnapshotRequest, WatchCreateRequest,
    maintenance_client::MaintenanceClient,
};
use tokio::net::TcpStream;

use crate::api::{Running, get, put};

fn open(dir: &Path) -> Engine {
    Engine::open(dir, Options::default()).unwrap()
}

async fn value(engine: &Engine, key: &str) -> Option<String> {
    let found = engine.range(get(key)).await.unwrap().kvs;
    found
        .first()
        .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

#[tokio::test]
async fn a_backup_is_one_moment_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("data"));
    for n in 0..200 {
        engine.put(put(&format!("/k/{n}"), "old")).await.unwrap();
    }
    let running = Running::start(engine.clone()).await;
    // By the file, and by the API while writes go on.
    let by_file = dir.path().join("file.backup");
    let writer = async {
        for n in 0..200 {
            engine.put(put(&format!("/k/{n}"), "new")).await.unwrap();
        }
    };
    let (_, made) = tokio::join!(writer, engine.backup(&by_file));
    let made = made.unwrap();
    let mut parts = MaintenanceClient::new(running.channel.clone())
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let (mut bytes, mut left) = (Vec::new(), 1);
    while let Some(part) = parts.message().await.unwrap() {
        bytes.extend_from_slice(&part.blob);
        left = part.remaining_bytes;
    }
    assert_eq!(left, 0);
    let by_api = dir.path().join("api.backup");
    std::fs::write(&by_api, &bytes).unwrap();
    let again = engine.backup(&by_file).await.unwrap_err();
    assert!(again.to_string().contains("file.backup"), "{again}");
    running.stop().await;

    let first = dir.path().join("first");
    let restored = restore(&by_file, &first).unwrap();
    assert_eq!(restored, made);
    let engine = open(&first);
    // A prefix of the writes: one moment.
    let mut news = 0;
    for n in 0..200 {
        let is_new = value(&engine, &format!("/k/{n}")).await.unwrap() == "new";
        assert!(!is_new || news == n, "/k/{n} is newer than one before it");
        news += usize::from(is_new);
    }
    assert_eq!(made.revision, 201 + i64::try_from(news).unwrap());
    engine.close().await;

    let second = dir.path().join("second");
    restore(&by_api, &second).unwrap();
    let engine = open(&second);
    assert_eq!(value(&engine, "/k/199").await.as_deref(), Some("new"));
    assert!(engine.verify().await.unwrap().is_empty());
    engine.close().await;
}

#[tokio::test]
async fn a_restored_store_is_ahead_of_what_clients_knew() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("data"));
    engine.put(put("/a", "1")).await.unwrap();
    let file = dir.path().join("backup");
    engine.backup(&file).await.unwrap();
    // The history that is lost.
    for n in 0..50 {
        engine.put(put("/lost", &n.to_string())).await.unwrap();
    }
    engine.close().await;
    let data = dir.path().join("restored");
    restore(&file, &data).unwrap();
    let engine = open(&data);
    let running = Running::start(engine.clone()).await;
    let mut watching = running
        .watch(vec![WatchCreateRequest {
            key: b"/a".to_vec().into(),
            start_revision: 40,
            ..WatchCreateRequest::default()
        }])
        .await;
    loop {
        let response = watching.next(std::time::Duration::from_secs(10)).await;
        if response.canceled {
            assert!(response.compact_revision > 40, "{response:?}");
            break;
        }
    }
    let at_40 = RangeRequest {
        revision: 40,
        ..get("/a")
    };
    assert!(
        engine.range(at_40).await.is_err(),
        "the lost history cannot be asked for"
    );
    engine.put(put("/b", "2")).await.unwrap();
    assert_eq!(value(&engine, "/a").await.as_deref(), Some("1"));
    assert!(engine.verify().await.unwrap().is_empty());
    running.stop().await;
    let engine = open(&data);
    assert_eq!(value(&engine, "/b").await.as_deref(), Some("2"));
    assert!(
        engine.verify().await.unwrap().is_empty(),
        "also after the scrub of the start"
    );
    engine.close().await;
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir.path().join("data"));
    engine.put(put("/a", &"v".repeat(3_000))).await.unwrap();
    let file = dir.path().join("backup");
    engine.backup(&file).await.unwrap();
    engine.close().await;
    let whole = std::fs::read(&file).unwrap();
    let data = dir.path().join("restored");
    let bad = dir.path().join("bad");
    for cut in [0, 1, 31, 32, 33, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&bad, &whole[..cut]).unwrap();
        let refused = restore(&bad, &data).unwrap_err();
        assert!(matches!(refused, BackupError::Damaged(_)), "{cut}: {refused}");
        assert!(!data.join("store.redb").exists());
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    std::fs::write(&bad, &flipped).unwrap();
    assert!(matches!(restore(&bad, &data), Err(BackupError::Damaged(_))));
    let missing = restore(&dir.path().join("nowhere"), &data).unwrap_err();
    assert!(missing.to_string().contains("nowhere"), "{missing}");
    restore(&file, &data).unwrap();
    assert!(matches!(restore(&file, &data), Err(BackupError::Occupied(_))));
    let left: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["store.redb"]);
    let Backup { bytes, .. } = restore(&file, &dir.path().join("other")).unwrap();
    assert_eq!(bytes, whole.len() as u64);
}

#[tokio::test]
async fn a_file_shrinks_to_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for n in 0..30 {
        engine
            .put(put(&format!("/{n}"), &"v".repeat(200_000)))
            .await
            .unwrap();
    }
    engine.put(put("/stays", "here")).await.unwrap();
    let all_but_one = DeleteRangeRequest {
        key: b"/0".to_vec().into(),
        range_end: b"/s".to_vec().into(),
        prev_kv: false,
    };
    let header = engine.delete_range(all_but_one).await.unwrap().header.unwrap();
    let compact = CompactionRequest {
        revision: header.revision,
        physical: true,
    };
    engine.compact(compact).await.unwrap();
    engine.close().await;
    drop(engine);
    let (before, after) = shrink(dir.path()).unwrap();
    assert!(after < 1_000_000 && after < before, "{before} {after}");
    let engine = open(dir.path());
    assert_eq!(value(&engine, "/stays").await.as_deref(), Some("here"));
    assert!(engine.verify().await.unwrap().is_empty());
    let busy = shrink(dir.path()).unwrap_err();
    assert!(busy.to_string().contains("in use"), "{busy}");
    engine.close().await;
}

fn identity(issued: &Issued) -> Option<(Source, Source)> {
    Some((
        Source::text("CERT", &issued.chain),
        Source::text("KEY", &issued.key),
    ))
}

#[tokio::test]
async fn tcp_beyond_loopback_needs_certificates_on_both_sides() {
    let authority = Authority::new("store");
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let any = || Some("0.0.0.0:0".parse().unwrap());
    let listen = Listen {
        socket: None,
        tcp: any(),
        tls: None,
    };
    let refused = Server::bind(engine.clone(), listen).await.err().unwrap();
    assert!(matches!(refused, ServeError::NotLoopback(_)), "{refused}");
    let material = Material {
        authorities: Some(Source::text("CA", authority.pem())),
        identity: identity(&authority.issue(&["127.0.0.1"])),
    };
    let listen = Listen {
        socket: None,
        tcp: any(),
        tls: Some(Arc::new(ServerTls::new(material, &["h2"], "CERT").unwrap())),
    };
    let server = Server::bind(engine.clone(), listen).await.unwrap();
    let port = server.tcp_addr().unwrap().port();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    let greet = async |who: Option<&Issued>| {
        let material = Material {
            authorities: Some(Source::text("CA", authority.pem())),
            identity: who.and_then(identity),
        };
        let tls = ClientTls::new(material, &["h2"], "CA").unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut stream = tls.connect("127.0.0.1", stream).await?;
        // HTTP/2's first words: a server that is content answers with its settings.
        tokio::io::AsyncWriteExt::write_all(
            &mut stream,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        )
        .await?;
        tokio::io::AsyncReadExt::read_u8(&mut stream).await
    };
    assert!(greet(Some(&authority.issue(&["client"]))).await.is_ok());
    assert!(greet(None).await.is_err());
    assert!(
        greet(Some(&Authority::new("other").issue(&["client"])))
            .await
            .is_err()
    );
    drop(stop);
    served.await.unwrap().unwrap();
}
