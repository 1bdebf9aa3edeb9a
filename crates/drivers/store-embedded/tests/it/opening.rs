//! Opening: locks, damaged and foreign files, sockets, full disks.

use std::os::unix::fs::PermissionsExt;

use caracal_store_embedded::{Engine, Listen, OpenError, Options, RequestError, ServeError, Server};
use caracal_wire::etcdserverpb::DeleteRangeRequest;

use crate::api::{Running, get, put};

fn open(dir: &std::path::Path) -> Result<Engine, OpenError> {
    Engine::open(dir, Options::default())
}

#[tokio::test]
async fn a_directory_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Locked(_)), "{refused}");
    engine.close().await;
}

#[tokio::test]
async fn a_file_that_is_not_a_store_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    std::fs::write(&file, vec![b'x'; 10_000]).unwrap();
    let refused = open(dir.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    assert!(refused.to_string().contains("store.redb"));
}

#[tokio::test]
async fn a_damaged_file_never_opens_with_less_than_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    for n in 0..50 {
        engine
            .put(put(&format!("/k/{n}"), &"v".repeat(500)))
            .await
            .unwrap();
    }
    engine.close().await;
    drop(engine);
    let file = dir.path().join("store.redb");
    let whole = std::fs::read(&file).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..used).step_by(used / 40) {
        let mut damaged = whole.clone();
        for byte in damaged.iter_mut().skip(at).take(64) {
            *byte ^= 0x5a;
        }
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("store.redb"), damaged).unwrap();
        match open(other.path()) {
            Err(error) => assert!(matches!(error, OpenError::Corrupt { .. }), "at {at}: {error}"),
            // The damage hit a page that nothing refers to.
            Ok(engine) => {
                for n in 0..50 {
                    assert_eq!(
                        engine.range(get(&format!("/k/{n}"))).await.unwrap().count,
                        1,
                        "at {at}"
                    );
                }
                engine.close().await;
            }
        }
    }
}

#[tokio::test]
async fn a_missing_store_is_not_made_when_it_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Engine::open_existing(&dir.path().join("none"), Options::default())
        .err()
        .unwrap();
    assert!(matches!(refused, OpenError::Missing(_)), "{refused}");
    assert!(!dir.path().join("none").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_private_taken_over_when_dead_and_kept_when_alive() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Running::start(open(one.path()).unwrap()).await;
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let engine = open(two.path()).unwrap();
    let listen = |path: &std::path::Path| Listen {
        socket: Some(path.into()),
        tcp: None,
        tls: None,
    };
    let refused = Server::bind(engine.clone(), listen(&server.socket))
        .await
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("another server is listening"),
        "{refused}"
    );

    let dead = two.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(Server::bind(engine.clone(), listen(&dead)).await.is_ok());

    let file = two.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Server::bind(engine, listen(&file)).await.is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    server.stop().await;
}

#[tokio::test]
async fn tcp_is_for_loopback_only() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    let listen = |addr: &str| Listen {
        socket: None,
        tcp: Some(addr.parse().unwrap()),
        tls: None,
    };
    for outside in ["0.0.0.0:0", "[::]:0", "192.0.2.1:2379"] {
        let refused = Server::bind(engine.clone(), listen(outside)).await.err().unwrap();
        assert!(matches!(refused, ServeError::NotLoopback(_)), "{refused}");
    }
    assert!(
        Server::bind(engine.clone(), listen("127.0.0.1:0"))
            .await
            .unwrap()
            .tcp_addr()
            .is_some()
    );
    assert!(matches!(
        Server::bind(engine, Listen::default()).await.err().unwrap(),
        ServeError::Nothing
    ));
}

#[tokio::test]
async fn little_room_on_the_disk_refuses_puts_but_not_reads_and_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path()).unwrap();
    engine.put(put("/a", "1")).await.unwrap();
    engine.close().await;
    drop(engine);
    let vfs = nix::sys::statvfs::statvfs(dir.path()).unwrap();
    let free = vfs.blocks_available() * vfs.fragment_size();
    let low = Engine::open(
        dir.path(),
        Options {
            reserve_bytes: free * 2,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(low.put(put("/b", "1")).await.unwrap_err(), RequestError::NoSpace);
    assert!(low.is_low_on_space());
    assert_eq!(low.range(get("/a")).await.unwrap().count, 1);
    let delete = DeleteRangeRequest {
        key: "/a".into(),
        ..Default::default()
    };
    assert_eq!(low.delete_range(delete.clone()).await.unwrap().deleted, 1);
    low.close().await;
    drop(low);
    let none = Engine::open(
        dir.path(),
        Options {
            reserve_bytes: u64::MAX,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(
        none.delete_range(delete).await.unwrap_err(),
        RequestError::NoSpace
    );
    none.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_history_survive_a_restart_and_old_history_goes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        keep_revisions: 50,
        ..Options::default()
    };
    let engine = Engine::open(dir.path(), options.clone()).unwrap();
    for n in 0..300 {
        engine.put(put("/k", &n.to_string())).await.unwrap();
    }
    let stats = engine.stats().await.unwrap();
    assert!(
        stats.compacted >= 150 && stats.revision - stats.compacted >= 50,
        "{stats:?}"
    );
    assert!(stats.history <= 110, "{stats:?}");
    engine.close().await;
    drop(engine);
    let engine = Engine::open(dir.path(), options).unwrap();
    assert_eq!(engine.range(get("/k")).await.unwrap().kvs[0].value, "299");
    engine.close().await;
}
