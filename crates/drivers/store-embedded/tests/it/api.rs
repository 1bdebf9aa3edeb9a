//! The server through the client stubs, over its unix socket.

use std::time::Duration;

use caracal_store_embedded::{Engine, Listen, Options, Server};
use caracal_wire::etcdserverpb::cluster_client::ClusterClient;
use caracal_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caracal_wire::etcdserverpb::kv_client::KvClient;
use caracal_wire::etcdserverpb::lease_client::LeaseClient;
use caracal_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::watch_client::WatchClient;
use caracal_wire::etcdserverpb::watch_request::RequestUnion;
use caracal_wire::etcdserverpb::*;
use caracal_wire::{Bytes, Event};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

/// A server on a socket of its own.
pub(crate) struct Running {
    pub(crate) channel: Channel,
    pub(crate) engine: Engine,
    pub(crate) socket: std::path::PathBuf,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

pub(crate) async fn connect(socket: &std::path::Path) -> Channel {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    endpoint.connect().await.unwrap()
}

impl Running {
    pub(crate) async fn start(engine: Engine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("store.sock");
        let listen = Listen {
            socket: Some(socket.clone()),
            tcp: None,
            tls: None,
        };
        let server = Server::bind(engine.clone(), listen).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            server.serve(shutdown).await.unwrap();
        });
        let channel = connect(&socket).await;
        Self {
            channel,
            engine,
            socket,
            stop,
            served,
            _dir: dir,
        }
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    pub(crate) async fn watch(&self, creates: Vec<WatchCreateRequest>) -> Watching {
        let (requests, outgoing) = mpsc::channel(16);
        for create in creates {
            requests
                .send(wrap(RequestUnion::CreateRequest(create)))
                .await
                .unwrap();
        }
        let mut client = WatchClient::new(self.channel.clone());
        let responses = client
            .watch(ReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        Watching { requests, responses }
    }

    /// Stops the server; fails when it does not end.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), self.served)
            .await
            .unwrap()
            .unwrap();
        assert!(!self.socket.exists(), "the socket is removed");
    }
}

fn wrap(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

/// A watch stream.
pub(crate) struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    pub(crate) responses: Streaming<WatchResponse>,
}

impl Watching {
    pub(crate) async fn send(&self, union: RequestUnion) {
        self.requests.send(wrap(union)).await.unwrap();
    }

    pub(crate) async fn next(&mut self, within: Duration) -> WatchResponse {
        tokio::time::timeout(within, self.responses.message())
            .await
            .expect("a response in time")
            .unwrap()
            .unwrap()
    }

    /// The next so many events of the stream, whatever watch they are of.
    pub(crate) async fn events(&mut self, count: usize, within: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next(within).await;
            assert!(!response.canceled, "canceled: {}", response.cancel_reason);
            events.extend(response.events);
        }
        events
    }
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn prefix(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        range_end: end.to_owned().into(),
        ..get(key)
    }
}

async fn fresh() -> (Running, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    (Running::start(engine).await, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_and_errors_as_etcd_says_them() {
    let (server, _dir) = fresh().await;
    let mut kv = server.kv();
    let first = kv.put(put("/a", "1")).await.unwrap().into_inner();
    assert_eq!(first.header.unwrap().revision, 2);
    let found = kv.range(get("/a")).await.unwrap().into_inner();
    assert_eq!(
        (found.count, found.kvs[0].value.as_ref(), found.kvs[0].version),
        (1, b"1".as_ref(), 1)
    );

    let cases = [
        (
            kv.range(RangeRequest::default()).await.unwrap_err(),
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        ),
        (
            kv.range(RangeRequest {
                revision: 99,
                ..get("/a")
            })
            .await
            .unwrap_err(),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            kv.put(PutRequest {
                lease: 5,
                ..put("/a", "2")
            })
            .await
            .unwrap_err(),
            Code::NotFound,
            "etcdserver: requested lease not found",
        ),
        (
            kv.put(PutRequest {
                ignore_value: true,
                ..put("/none", "")
            })
            .await
            .unwrap_err(),
            Code::InvalidArgument,
            "etcdserver: key not found",
        ),
        (
            kv.put(put("/big", &"x".repeat(2 << 19 | 1 << 19)))
                .await
                .unwrap_err(),
            Code::InvalidArgument,
            "etcdserver: request is too large",
        ),
        (
            kv.compact(CompactionRequest {
                revision: 9,
                physical: false,
            })
            .await
            .unwrap_err(),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            kv.txn(TxnRequest {
                success: vec![op(put("/x", "1")), op(put("/x", "2"))],
                ..Default::default()
            })
            .await
            .unwrap_err(),
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        (
            kv.txn(TxnRequest {
                success: (0..129).map(|n| op(put(&format!("/{n}"), ""))).collect(),
                ..Default::default()
            })
            .await
            .unwrap_err(),
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
    ];
    for (status, code, text) in cases {
        assert_eq!((status.code(), status.message()), (code, text));
    }
    assert_eq!(
        kv.range(get("/a"))
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision,
        2,
        "nothing was written"
    );
    server.stop().await;
}

fn op(put: PutRequest) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_only_txn_happens_once() {
    let (server, _dir) = fresh().await;
    let create = |value: &str| TxnRequest {
        compare: vec![Compare {
            key: "/a".into(),
            target: CompareTarget::Version.into(),
            result: CompareResult::Equal.into(),
            target_union: Some(TargetUnion::Version(0)),
            ..Default::default()
        }],
        success: vec![op(put("/a", value))],
        failure: vec![RequestOp {
            request: Some(Request::RequestRange(get("/a"))),
        }],
    };
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (mut kv, create) = (server.kv(), create(&n.to_string()));
            tokio::spawn(async move { kv.txn(create).await.unwrap().into_inner().succeeded })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_pinned_revision_are_whole_while_keys_change() {
    let (server, _dir) = fresh().await;
    let mut kv = server.kv();
    for n in 0..25 {
        kv.put(put(&format!("/k/{n:02}"), "old")).await.unwrap();
    }
    let mut request = RangeRequest {
        limit: 10,
        ..prefix("/k/", "/k0")
    };
    let (mut keys, mut counts) = (Vec::new(), Vec::new());
    loop {
        let page = kv.range(request.clone()).await.unwrap().into_inner();
        counts.push((page.kvs.len(), page.count, page.more));
        assert!(page.kvs.iter().all(|kv| kv.value == "old"));
        let last = page.kvs.last().unwrap().key.clone();
        keys.extend(page.kvs.into_iter().map(|kv| kv.key));
        if !page.more {
            break;
        }
        request.revision = if request.revision == 0 {
            page.header.unwrap().revision
        } else {
            request.revision
        };
        request.key = [last.as_ref(), b"\0"].concat().into();
        for n in 0..25 {
            kv.put(put(&format!("/k/{n:02}"), "new")).await.unwrap();
        }
        kv.put(put("/k/99", "new")).await.unwrap();
        kv.delete_range(DeleteRangeRequest {
            key: "/k/24".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    }
    assert_eq!(counts, [(10, 25, true), (10, 15, true), (5, 5, false)]);
    assert_eq!(keys.len(), 25);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_end_with_their_keys() {
    let (server, _dir) = fresh().await;
    let mut kv = server.kv();
    let mut leases = LeaseClient::new(server.channel.clone());
    let grant = |ttl, id| LeaseGrantRequest { ttl, id };
    assert_eq!(
        leases.lease_grant(grant(100, 7)).await.unwrap().into_inner().ttl,
        100
    );
    assert_eq!(
        leases.lease_grant(grant(100, 7)).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    for key in ["/l/1", "/l/2", "/l/3"] {
        kv.put(PutRequest {
            lease: 7,
            ..put(key, "")
        })
        .await
        .unwrap();
    }
    // A put without the lease takes the key out of it.
    kv.put(put("/l/3", "")).await.unwrap();
    let left = leases
        .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: true })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (left.granted_ttl, left.keys),
        (100, vec![Bytes::from("/l/1"), Bytes::from("/l/2")])
    );
    leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    assert_eq!(
        leases
            .lease_revoke(LeaseRevokeRequest { id: 7 })
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let gone = leases
        .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: false })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(gone.ttl, -1);
    let rest = kv.range(prefix("/l/", "/l0")).await.unwrap().into_inner();
    assert_eq!(
        rest.kvs.iter().map(|kv| kv.key.as_ref()).collect::<Vec<_>>(),
        [b"/l/3"]
    );

    // One that nobody keeps alive ends by itself, one that is kept alive does not.
    leases.lease_grant(grant(4, 8)).await.unwrap();
    leases.lease_grant(grant(4, 9)).await.unwrap();
    kv.put(PutRequest {
        lease: 8,
        ..put("/short", "")
    })
    .await
    .unwrap();
    kv.put(PutRequest {
        lease: 9,
        ..put("/kept", "")
    })
    .await
    .unwrap();
    let (alive, requests) = mpsc::channel(1);
    let mut answers = leases
        .lease_keep_alive(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while kv.range(get("/short")).await.unwrap().into_inner().count == 1 {
        assert!(tokio::time::Instant::now() < deadline, "the lease ends");
        alive.send(LeaseKeepAliveRequest { id: 9 }).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl, 4);
    }
    assert_eq!(kv.range(get("/kept")).await.unwrap().into_inner().count, 1);
    alive.send(LeaseKeepAliveRequest { id: 8 }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_members_and_what_is_not_spoken() {
    let (server, _dir) = fresh().await;
    server.kv().put(put("/a", "1")).await.unwrap();
    let status = MaintenanceClient::new(server.channel.clone())
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.raft_index, status.leader),
        (2, status.header.unwrap().member_id)
    );
    let members = ClusterClient::new(server.channel.clone())
        .member_list(MemberListRequest::default())
        .await
        .unwrap();
    assert_eq!(members.into_inner().members[0].id, status.leader);
    let mut raw = tonic::client::Grpc::new(server.channel.clone());
    raw.ready().await.unwrap();
    let path = "/etcdserverpb.Maintenance/Defragment".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<StatusRequest, StatusResponse>::default();
    let refused = raw
        .unary(tonic::Request::new(StatusRequest {}), path, codec)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let text = refused.message();
    assert!(
        text.starts_with("etcdserverpb.Maintenance/Defragment is not spoken")
            && text.contains("docs/store.md"),
        "{text}"
    );
    let path = "/v3lockpb.Lock/Lock".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<StatusRequest, StatusResponse>::default();
    raw.ready().await.unwrap();
    let refused = raw
        .unary(tonic::Request::new(StatusRequest {}), path, codec)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("v3lockpb.Lock/Lock"), "{refused}");
    server.stop().await;
}

/// One HTTP/1.1 call of the JSON gateway: status and body.
async fn post(addr: std::net::SocketAddr, path: &str, body: &str) -> (u16, serde_json::Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let len = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_json_gateway_answers_on_tcp_beside_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    let listen = Listen {
        socket: None,
        tcp: Some("127.0.0.1:0".parse().unwrap()),
        tls: None,
    };
    let server = Server::bind(engine, listen).await.unwrap();
    let addr = server.tcp_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(server.serve(async move { stopped.await.unwrap() }));
    // "/k" and "v" in base64.
    let (status, answer) = post(addr, "/v3/kv/put", r#"{"key":"L2s=","value":"dg==","lease":"0"}"#).await;
    assert_eq!((status, answer["header"]["revision"].as_str()), (200, Some("2")));
    let (_, answer) = post(
        addr,
        "/v3/kv/range",
        r#"{"key":"L2s=","limit":"5","sort_order":"ASCEND"}"#,
    )
    .await;
    assert_eq!(
        (answer["count"].as_str(), answer["kvs"][0]["value"].as_str()),
        (Some("1"), Some("dg=="))
    );
    let channel = Endpoint::from_shared(format!("http://{addr}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    assert_eq!(
        KvClient::new(channel)
            .range(get("/k"))
            .await
            .unwrap()
            .into_inner()
            .kvs[0]
            .value,
        "v"
    );
    let (_, answer) = post(addr, "/v3/kv/deleterange", r#"{"key":"L2s=","prev_kv":true}"#).await;
    assert_eq!(
        (answer["deleted"].as_str(), answer["prev_kvs"][0]["key"].as_str()),
        (Some("1"), Some("L2s="))
    );
    for (body, names) in [
        ("[]", "object"),
        ("{", "JSON"),
        (r#"{"key":"?"}"#, "base64"),
        (r#"{"kee":""}"#, "kee"),
    ] {
        let (status, answer) = post(addr, "/v3/kv/range", body).await;
        assert!(
            status == 400 && answer["error"].as_str().unwrap().contains(names),
            "{body}: {answer}"
        );
    }
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}
