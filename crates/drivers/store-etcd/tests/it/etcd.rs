use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use caracal_api::{Kind, NetworkSetSpec, Object, Resource, ResourceKey};
use caracal_store::{ListOptions, Store, StoreError, WatchEvent, Write as Together};
use caracal_store_etcd::{EtcdSettings, EtcdStore};
use caracal_testkit::{Etcd, free_port, needs};
use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{backend::Remote, conformance};

/// Connections live as long as the runtime they were made on.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn run<F: Future>(f: F) -> F::Output {
    runtime().block_on(f)
}

pub(crate) fn set(name: &str) -> Resource {
    Object::namespaced("n", name, NetworkSetSpec::default()).into()
}

#[test]
fn etcd_keeps_the_contract() {
    needs!("etcd");
    let etcd = Etcd::start();
    run(async {
        conformance::run(Arc::new(Remote::etcd(etcd))).await;
    });
}

#[test]
fn what_is_stored_is_calicos_and_unknown_fields_live() {
    needs!("etcd");
    let etcd = Etcd::start();
    run(async {
        let at = Remote::at(&etcd.endpoint());
        let place = "/calico/resources/v3/projectcalico.org/networksets/n/a";
        at.store.create(set("a")).await.unwrap();
        let raw = at.raw_get(place).await.unwrap();
        assert_eq!(
            (&raw["apiVersion"], &raw["kind"]),
            (&json!("projectcalico.org/v3"), &json!("NetworkSet"))
        );
        assert_eq!(
            (&raw["metadata"]["name"], &raw["metadata"]["namespace"]),
            (&json!("a"), &json!("n"))
        );
        assert!(raw["metadata"].get("resourceVersion").is_none());

        at.raw_put(
            place,
            r#"{"kind":"NetworkSet","metadata":{"name":"a","namespace":"n","managed":[1]},"spec":{"nets":["10.0.0.0/8"],"future":{"x":1}},"extra":true}"#,
        )
        .await;
        let with = async |net: &str| {
            let key = ResourceKey::namespaced(Kind::NetworkSet, "n", "a");
            let mut r = at.store.get(&key).await.unwrap();
            if let Resource::NetworkSet(o) = &mut r {
                o.spec.nets.push(net.into());
            }
            r
        };
        at.store.update(with("11.0.0.0/8").await).await.unwrap();
        // With others as alone.
        let changed = with("12.0.0.0/8").await;
        let writes = vec![Together::Update(changed), Together::Create(set("b"))];
        assert!(at.store.write_together(writes).await.unwrap());
        let raw = at.raw_get(place).await.unwrap();
        assert_eq!(
            raw["spec"],
            json!({"nets": ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"], "future": {"x": 1}})
        );
        assert_eq!(
            (&raw["extra"], &raw["metadata"]["managed"]),
            (&json!(true), &json!([1]))
        );

        let block = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";
        at.raw_put(
            block,
            r#"{"cidr":"10.0.0.0/30","affinity":"host:n1","allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":[],"sequenceNumber":1,"sequenceNumberForAllocation":{},"deleted":false,"hostAffinity":null,"new":"x"}"#,
        )
        .await;
        let key = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
        let mut r = at.store.get(&key).await.unwrap();
        if let Resource::IpamBlock(o) = &mut r {
            o.spec.sequence_number = 2;
        }
        at.store.update(r).await.unwrap();
        let raw = at.raw_get(block).await.unwrap();
        assert_eq!((&raw["sequenceNumber"], &raw["new"]), (&json!(2), &json!("x")));
        assert!(raw.get("metadata").is_none() && raw.get("handleID").is_none());
    });
}

#[test]
fn a_watch_survives_a_restart_of_etcd_by_its_bookmark() {
    needs!("etcd");
    let mut etcd = Etcd::start();
    run(async {
        let store = EtcdStore::new(&EtcdSettings::new([etcd.endpoint()])).unwrap();
        let page = store
            .list(Kind::NetworkSet, &ListOptions::default())
            .await
            .unwrap();
        let mut watch = store.watch(Kind::NetworkSet, &page.watch_from).await.unwrap();
        store.create(set("a")).await.unwrap();
        let mut place = page.watch_from;
        while let Some(event) = watch.next().await {
            if let WatchEvent::Bookmark(at) = event.unwrap() {
                place = at;
                break;
            }
        }
        etcd.kill();
        let e = watch.next().await.unwrap().unwrap_err();
        assert!(e.is_transient(), "{e}");
        etcd.restart();
        store.create(set("b")).await.unwrap();
        let mut watch = store.watch(Kind::NetworkSet, &place).await.unwrap();
        let event = watch.next().await.unwrap().unwrap();
        assert!(
            matches!(&event, WatchEvent::Set(r) if r.metadata().name == "b"),
            "{event:?}"
        );
    });
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    needs!("etcd");
    let etcd = Etcd::start();
    run(async {
        let dead = format!("http://127.0.0.1:{}", free_port());
        let store = EtcdStore::new(&EtcdSettings::new([dead, etcd.endpoint()])).unwrap();
        store.create(set("a")).await.unwrap();
        let page = store
            .list(Kind::NetworkSet, &ListOptions::default())
            .await
            .unwrap();
        assert_eq!(page.items.len(), 1);
    });
}

#[test]
fn nobody_there_is_said_soon_and_plainly() {
    run(async {
        let dead = format!("http://127.0.0.1:{}", free_port());
        let store = EtcdStore::new(&EtcdSettings::new([dead.clone()])).unwrap();
        let began = Instant::now();
        let e = store.create(set("a")).await.unwrap_err();
        assert!(
            matches!(&e, StoreError::Unavailable(t) if t.contains(&dead) && t.contains("refused")),
            "{e}"
        );
        assert!(began.elapsed() < Duration::from_secs(5));
        let store = EtcdStore::new(&EtcdSettings::unix("/nonexistent/store.sock")).unwrap();
        let e = store.create(set("a")).await.unwrap_err();
        assert!(
            matches!(&e, StoreError::Unavailable(t) if t.contains("/nonexistent/store.sock") && t.contains("store serve")),
            "{e}"
        );
        assert_eq!(store.describe(), "embedded store at /nonexistent/store.sock");
    });
}

#[test]
fn a_server_that_is_not_etcd_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    run(async {
        let mut settings = EtcdSettings::new([format!("http://127.0.0.1:{port}")]);
        settings.timeout = Duration::from_secs(3);
        let store = EtcdStore::new(&settings).unwrap();
        let e = store.create(set("a")).await.unwrap_err();
        let at = format!("http://127.0.0.1:{port}");
        assert!(
            matches!(&e, StoreError::Unavailable(t) if t.contains(&at) && t.contains("client port")),
            "{e}"
        );
    });
}

#[test]
fn keys_of_others_are_left_alone() {
    needs!("etcd");
    let etcd = Etcd::start();
    run(async {
        let at = Remote::at(&etcd.endpoint());
        let page = at
            .store
            .list(Kind::NetworkSet, &ListOptions::default())
            .await
            .unwrap();
        let mut watch = at.store.watch(Kind::NetworkSet, &page.watch_from).await.unwrap();
        let foreign = [
            "/calico",
            "/calico0",
            "/other/networksets/n/a",
            "/calico/resources/v3/projectcalico.org/networksets",
            "/calico/resources/v3/projectcalico.org/networksets/only-one",
            "/calico/resources/v3/projectcalico.org/networksets/n/a/b",
            "/calico/resources/v3/projectcalico.org/networksetsx/n/a",
            "/calico/resources/v3/projectcalico.org/ofthefuture/a",
            "/calico/ipam/v2/assignment/ipv4/block/nonsense",
        ];
        for key in foreign {
            at.raw_put(key, r#"{"not":"ours"}"#).await;
        }
        at.store.create(set("ours")).await.unwrap();
        let event = loop {
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Bookmark(_) => {}
                event => break event,
            }
        };
        assert!(
            matches!(&event, WatchEvent::Set(r) if r.metadata().name == "ours"),
            "{event:?}"
        );
        for kind in Kind::ALL {
            let page = at.store.list_all(*kind, &ListOptions::default()).await.unwrap();
            let want = usize::from(*kind == Kind::NetworkSet);
            assert_eq!((page.items.len(), page.malformed.len()), (want, 0), "{kind}");
        }
        for key in foreign {
            assert_eq!(at.raw_get(key).await.unwrap(), json!({"not": "ours"}), "{key}");
        }
    });
}

/// Passes bytes on; from some moment on the server's answers go nowhere, and connections end when that is said.
async fn deaf_proxy(server: String) -> (String, tokio::sync::watch::Sender<Hearing>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let (says, hears) = tokio::sync::watch::channel(Hearing::All);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(&server).await.unwrap();
            let hears = hears.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (now, mut until) = (hears.clone(), hears.clone());
                let answers = async {
                    let mut buffer = [0; 4096];
                    while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                        if *now.borrow() == Hearing::All && to_client.write_all(&buffer[..n]).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = answers => {}
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = until.wait_for(|h| *h == Hearing::Ended) => {}
                }
            });
        }
    });
    (at, says)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Hearing {
    All,
    Nothing,
    Ended,
}

#[test]
fn a_lost_reply_of_a_transaction_is_an_error_and_no_refusal() {
    needs!("etcd");
    let etcd = Etcd::start();
    run(async {
        let direct = Remote::at(&etcd.endpoint());
        let (at, hearing) = deaf_proxy(etcd.endpoint().replace("http://", "")).await;
        let store = EtcdStore::new(&EtcdSettings::new([at])).unwrap();
        store.create(set("before")).await.unwrap();
        hearing.send(Hearing::Nothing).unwrap();
        let writes = vec![Together::Create(set("a")), Together::Create(set("b"))];
        let asked = tokio::spawn({
            let (store, writes) = (store.clone(), writes.clone());
            async move { store.write_together(writes).await }
        });
        let key = set("a").key();
        let deadline = Instant::now() + Duration::from_secs(30);
        while direct.store.get(&key).await.is_err() {
            assert!(Instant::now() < deadline, "the transaction arrives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hearing.send(Hearing::Ended).unwrap();
        let e = asked.await.unwrap().unwrap_err();
        assert!(matches!(e, StoreError::Unavailable(_)), "{e}");
        direct.store.get(&set("b").key()).await.unwrap();
        // Who asks again is refused, for it is done.
        assert!(!direct.store.write_together(writes).await.unwrap());
    });
}
