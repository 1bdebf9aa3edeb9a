//! The plugins' socket: what comes over it may be anything, and whoever comes may go.

use std::path::PathBuf;

use caracal_agent_api::{
    pods,
    v1::{AssignRequest, PodAnswer, PodCall, pod_answer::Answer, pod_call::Ask},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::sleep,
};

use super::*;
use crate::addresses;

/// How many are heard at a time here.
const AT_ONCE: u32 = 8;

struct Heard {
    scene: Scene,
    socket: PathBuf,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn heard() -> Heard {
    let mut scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pods.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let store: Arc<dyn Store> = scene.store.clone();
    let node = NodeName::new("n").unwrap();
    let assigns = addresses::start(&mut scene._tasks, &store, &node, &scene.shutdown);
    let mut calls = Calls::new(scene.service.clone(), assigns);
    calls.at_once = AT_ONCE;
    let shutdown = scene.shutdown.clone();
    let serving = tokio::spawn(async move { calls.serve(listener, &shutdown).await });
    Heard {
        scene,
        socket,
        serving,
        _dir: dir,
    }
}

impl Heard {
    async fn send(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // It may be closed before all of it is read.
        let _ = stream.write_all(bytes).await;
        stream
    }

    async fn ask(&self, ask: Ask) -> UnixStream {
        self.send(&pods::frame(&pods::call(ask)).unwrap()).await
    }

    async fn refused(&self, call: &PodCall) -> (Code, String) {
        let mut stream = self.send(&pods::frame(call).unwrap()).await;
        match &all(&mut stream).await[..] {
            [Answer::Refused(r)] => (r.code(), r.message.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn assign(&self, handle: &str) -> AssignRequest {
        AssignRequest {
            datastore: self.scene.store.describe(),
            node: "n".into(),
            handle: handle.into(),
            ..AssignRequest::default()
        }
    }
}

async fn next(stream: &mut UnixStream) -> Option<Answer> {
    let read = async {
        let mut bytes = vec![0; 4];
        match stream.read(&mut bytes[..1]).await {
            // A connection with something unread is reset when it is closed.
            Ok(0) | Err(_) => return None,
            Ok(_) => stream.read_exact(&mut bytes[1..]).await.unwrap(),
        };
        let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        bytes.resize(4 + length as usize, 0);
        stream.read_exact(&mut bytes[4..]).await.unwrap();
        pods::read::<PodAnswer>(&mut &bytes[..]).unwrap().unwrap().answer
    };
    timeout(LIMIT, read).await.unwrap()
}

/// The answers up to the end.
async fn all(stream: &mut UnixStream) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(answer) = next(stream).await {
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn each_call_is_answered_and_the_connection_is_closed() {
    let heard = heard().await;
    let mut assigned = heard.ask(Ask::Assign(heard.assign("net.a"))).await;
    let answers = all(&mut assigned).await;
    assert!(
        matches!(&answers[..], [Answer::Assign(a)] if a.address.starts_with("10.0.0.")),
        "{answers:?}"
    );
    let mut attached = heard.ask(Ask::Attach(heard.scene.comes("c", 0))).await;
    let answers = all(&mut attached).await;
    assert!(
        matches!(&answers[..], [Answer::Attach(a)] if a.addresses.len() == 1),
        "{answers:?}"
    );
    let mut waiting = heard.ask(Ask::Attach(heard.scene.comes("d", 1))).await;
    let answers = all(&mut waiting).await;
    assert!(
        matches!(&answers[..], [_, Answer::Attach(a)] if !a.in_force && !a.reason.is_empty()),
        "{answers:?}"
    );
    let about = AwaitEndpointRequest {
        timeout_ms: 1,
        ..AwaitEndpointRequest::default()
    };
    let mut asked = heard.ask(Ask::AwaitEndpoint(about)).await;
    let answers = all(&mut asked).await;
    assert!(
        matches!(&answers[..], [Answer::AwaitEndpoint(a)] if !a.in_force),
        "{answers:?}"
    );
    let mut detached = heard.ask(Ask::Detach(heard.scene.goes("c"))).await;
    assert_eq!(all(&mut detached).await, [Answer::Detach(DetachReply::default())]);
    assert_eq!(heard.scene.stored("c").await, [false, false]);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let heard = heard().await;
    let mut newer = pods::call(Ask::Assign(heard.assign("net.a")));
    newer.version = 7;
    let (code, why) = heard.refused(&newer).await;
    assert!(code == Code::Version && why.ends_with("calls, not 7"), "{why}");
    let unknown = PodCall {
        version: pods::VERSION,
        ask: None,
    };
    assert_eq!(heard.refused(&unknown).await.0, Code::Wrong);
    // An empty message is one of version 0.
    assert_eq!(heard.refused(&PodCall::default()).await.0, Code::Version);
    let mut elsewhere = heard.scene.comes("c", 0);
    elsewhere.node = "another".into();
    let (code, why) = heard.refused(&pods::call(Ask::Attach(elsewhere))).await;
    assert_eq!((code, &*why), (Code::NotHere, "this is node n"));
    let mut odd = heard.scene.comes("c", 0);
    odd.endpoint = b"{".to_vec();
    // Also one that is larger than what a socket takes at once.
    odd.attributes = HashMap::from([("a".to_owned(), "x".repeat(700_000))]);
    let (code, why) = heard.refused(&pods::call(Ask::Attach(odd))).await;
    assert!(code == Code::Wrong && why.starts_with("endpoint:"), "{why}");
}

#[tokio::test]
async fn who_makes_no_sense_is_left_and_disturbs_nobody() {
    let heard = heard().await;
    let call = pods::frame(&pods::call(Ask::Assign(heard.assign("net.a")))).unwrap();
    let silent = heard.send(b"").await;
    let half = heard.send(&call[..call.len() - 1]).await;
    for odd in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\xff\xff\xff\xff",
        b"\0\x10\0\x01",
        b"\0\0\0\x02\x0a\x7f",
    ] {
        let mut stream = heard.send(odd).await;
        assert_eq!(all(&mut stream).await, [], "{odd:?}");
    }
    // More than one call on a connection is none that counts.
    let wait = Ask::AwaitEndpoint(AwaitEndpointRequest {
        timeout_ms: 300_000,
        ..AwaitEndpointRequest::default()
    });
    let mut twice = heard.ask(wait).await;
    twice.write_all(&call).await.unwrap();
    assert_eq!(all(&mut twice).await, []);
    let mut good = heard.send(&call).await;
    assert_eq!(all(&mut good).await.len(), 1);
    // These have not come to their end yet. The time of a call that does not come is up some day.
    drop(half);
    tokio::time::pause();
    let mut silent = silent;
    assert_eq!(all(&mut silent).await, []);
}

#[tokio::test]
async fn more_than_are_heard_at_a_time_wait_for_their_turn() {
    let heard = heard().await;
    let wait = AwaitEndpointRequest {
        timeout_ms: 300_000,
        ..AwaitEndpointRequest::default()
    };
    let mut full = Vec::new();
    for _ in 0..AT_ONCE {
        full.push(heard.ask(Ask::AwaitEndpoint(wait.clone())).await);
    }
    let mut next_one = heard.ask(Ask::Assign(heard.assign("net.a"))).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(timeout(Duration::ZERO, next_one.readable()).await.is_err());
    full.pop();
    assert_eq!(all(&mut next_one).await.len(), 1);
}

#[tokio::test]
async fn what_somebody_wanted_who_has_gone_is_not_begun() {
    let heard = heard().await;
    let coming = heard.scene.service.coming.clone();
    heard.scene.store.closed.store(true, Ordering::SeqCst);
    let first = heard.ask(Ask::Attach(heard.scene.comes("a", 0))).await;
    timeout(LIMIT, heard.scene.store.came.notified()).await.unwrap();
    // The next one waits for its turn, and its plugin is killed.
    let second = heard.ask(Ask::Attach(heard.scene.comes("b", 30_000))).await;
    until(|| coming.load(Ordering::Relaxed) == 2).await;
    drop(second);
    until(|| coming.load(Ordering::Relaxed) == 1).await;
    heard.scene.store.closed.store(false, Ordering::SeqCst);
    heard.scene.store.gate.close();
    let mut first = first;
    assert_eq!(all(&mut first).await.len(), 1);
    // Served after it.
    heard.scene.attach("last", 0).await.unwrap();
    assert_eq!(heard.scene.stored("b").await, [false, false]);
    // One who has an answer, and wants no second one.
    let mut third = heard.ask(Ask::Attach(heard.scene.comes("c", 300_000))).await;
    assert!(next(&mut third).await.is_some());
    assert_eq!(coming.load(Ordering::Relaxed), 1);
    drop(third);
    until(|| coming.load(Ordering::Relaxed) == 0).await;
}

async fn until(is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, wait).await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_agent_ends_all_calls_without_an_answer() {
    let heard = heard().await;
    let mut silent = heard.send(b"").await;
    let mut attached = heard.ask(Ask::Attach(heard.scene.comes("c", 300_000))).await;
    assert!(next(&mut attached).await.is_some());
    heard.scene.shutdown.request();
    assert_eq!(all(&mut attached).await, []);
    assert_eq!(all(&mut silent).await, []);
    timeout(LIMIT, heard.serving).await.unwrap().unwrap();
    assert!(UnixStream::connect(&heard.socket).await.is_err());
}
