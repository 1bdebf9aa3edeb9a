//! An agent that answers as a test wants.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use caracal_agent_api::{
    SOCKET_ENV,
    pods::{self, LARGEST},
    v1::{
        AttachReply, AttachRequest, AwaitEndpointReply, AwaitEndpointRequest, PodAnswer, PodCall, Refused,
        pod_answer::Answer, pod_call::Ask, refused::Code,
    },
};
use caracal_net::PerFamily;

use crate::{agent::Agent as Client, env::Env};

/// The container for which the agent answers with an error, and what it says.
const REFUSED: &str = "refused";
const ODD_TEXT: &str = "not \"now\": 50 % of <those> {who} wait|ask [at] C:\\x, ä ~ 日本\n^`@#$;'";

/// The container of which the agent has much to say.
const LONG: &str = "long";

fn refused(code: Code, message: &str) -> Answer {
    Answer::Refused(Refused {
        code: code.into(),
        message: message.to_owned(),
    })
}

pub(super) fn frame(answer: Answer) -> Vec<u8> {
    let answer = Some(answer);
    pods::frame(&PodAnswer { answer }).unwrap()
}

/// Runs until it is dropped.
pub(super) struct FakeAgent {
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
    pub(super) asked: mpsc::Receiver<AwaitEndpointRequest>,
}

impl FakeAgent {
    /// Says that the policy of this container is in force, and that of others never is. Listens before it returns.
    pub(super) fn start(socket: &Path, container: &str) -> Self {
        let (asked_in, asked) = mpsc::channel();
        let socket = PathBuf::from(pods::socket(socket.to_str().unwrap()));
        let listener = UnixListener::bind(&socket).unwrap();
        let own = container.to_owned();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let call = match pods::read::<PodCall>(&mut stream) {
                    Ok(Some(call)) => call,
                    // Whoever drops this comes without a word.
                    Ok(None) => return,
                    Err(e) => panic!("{e}"),
                };
                assert_eq!(call.version, pods::VERSION);
                let answer = match call.ask.unwrap() {
                    Ask::AwaitEndpoint(r) => {
                        let answer = about_endpoint(&own, &r);
                        // The test may not care.
                        let _ = asked_in.send(r);
                        answer
                    }
                    _ => refused(Code::Wrong, "not here"),
                };
                // Whoever asked may have given up.
                let _ = stream.write_all(&frame(answer));
            }
        });
        Self {
            socket,
            thread: Some(thread),
            asked,
        }
    }
}

fn about_endpoint(own: &str, r: &AwaitEndpointRequest) -> Answer {
    let reason = match r.container_id.as_str() {
        REFUSED => return refused(Code::NotNow, ODD_TEXT),
        LONG => "of many words ".repeat(20_000),
        _ => "the interface is missing".into(),
    };
    Answer::AwaitEndpoint(AwaitEndpointReply {
        in_force: r.container_id == own,
        reason,
    })
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn client(socket: &Path) -> Client {
    let socket = socket.to_string_lossy().into_owned();
    let all = [(SOCKET_ENV.to_owned(), socket)];
    Client::new(&Env::read(all.into()).unwrap())
}

fn about(container: &str) -> AwaitEndpointRequest {
    AwaitEndpointRequest {
        container_id: container.to_owned(),
        // More than a socket takes at once.
        name: "n".repeat(500_000),
        ..AwaitEndpointRequest::default()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[test]
fn what_the_agent_answers_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let server = FakeAgent::start(&socket, "c1");
    let client = client(&socket);
    let good = client.await_endpoint(about("c1"), soon()).unwrap();
    assert!(good.in_force);
    assert_eq!(server.asked.try_recv().unwrap(), about("c1"));
    let other = client.await_endpoint(about("c2"), soon()).unwrap();
    assert!(!other.in_force && other.reason == "the interface is missing");
    let long = client.await_endpoint(about(LONG), soon()).unwrap();
    assert_eq!(long.reason.len(), 280_000);
    let error = client.await_endpoint(about(REFUSED), soon()).unwrap_err();
    assert!(error.why == ODD_TEXT && !error.foreign, "{error:?}");
    // What it does not have, and a request that is larger than it takes.
    assert!(client.detach(&Default::default()).is_none());
    let mut large = about("c1");
    large.namespace = "n".repeat(LARGEST);
    let error = client.await_endpoint(large, soon()).unwrap_err();
    assert!(error.why.contains("more than 1048576"), "{error:?}");
}

/// Takes one call, writes this, and goes when the other side has gone.
pub(super) fn says(socket: &Path, bytes: &[u8]) -> JoinHandle<()> {
    let socket = pods::socket(socket.to_str().unwrap());
    let _ = std::fs::remove_file(&socket);
    let (listener, bytes) = (UnixListener::bind(socket).unwrap(), bytes.to_owned());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        pods::read::<PodCall>(&mut stream).unwrap().unwrap();
        // One that is refused goes before it has read all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

#[test]
fn who_does_not_answer_or_makes_no_sense_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let none = client(&dir.path().join("none.sock"));
    let error = none.await_endpoint(about("c1"), soon()).unwrap_err();
    assert!(error.why.contains("cannot be reached"), "{error:?}");
    let silent = dir.path().join("silent.sock");
    let _listener = UnixListener::bind(pods::socket(silent.to_str().unwrap())).unwrap();
    let deadline = || Instant::now() + Duration::from_millis(20);
    let short = AwaitEndpointRequest::default;
    let error = client(&silent).await_endpoint(short(), deadline()).unwrap_err();
    assert_eq!(error.why, "the agent did not answer");
    // Nor does it read.
    let error = client(&silent)
        .await_endpoint(about("c1"), deadline())
        .unwrap_err();
    assert!(error.why.contains("cannot be reached"), "{error:?}");
    let whole = frame(refused(Code::NotNow, "no"));
    let cut_off = &whole[..whole.len() - 1];
    let other_version = frame(refused(Code::Version, "version 7 only"));
    let other_kind = frame(Answer::Attach(AttachReply::default()));
    let cases: [(&[u8], &str, bool); 8] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "more than 1048576", false),
        (b"\xff\xff\xff\xff", "4294967295 bytes", false),
        (b"\0\0\0\x02\x0a\x7f", "connection", false),
        (b"\0\0\0\0", "not known here", false),
        (b"", "ended without an answer", false),
        (cut_off, "connection", false),
        (&other_kind, "something else", false),
        (&other_version, "version 7 only", true),
    ];
    for (bytes, expected, foreign) in cases {
        let socket = dir.path().join("odd.sock");
        let server = says(&socket, bytes);
        let error = client(&socket).await_endpoint(short(), soon()).unwrap_err();
        server.join().unwrap();
        assert!(
            error.why.contains(expected) && error.foreign == foreign,
            "{bytes:?}: {error:?}"
        );
    }
}

#[test]
fn an_agent_that_ends_before_it_told_of_policy_says_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let both = PerFamily { v4: true, v6: true };
    let first = frame(Answer::Attach(AttachReply {
        addresses: vec!["10.0.0.1/26".into(), "fd00::1/122".into()],
        ..AttachReply::default()
    }));
    let second = frame(Answer::Attach(AttachReply {
        reason: "the interface is missing".into(),
        ..AttachReply::default()
    }));
    let why = "the agent: the interface is missing".to_owned();
    let cut_off = second[..9].to_vec();
    for (rest, expected) in [(second, Some(Err(why))), (cut_off, None), (Vec::new(), None)] {
        let server = says(&socket, &[first.clone(), rest].concat());
        let mut attaching = client(&socket).attach(AttachRequest::default()).unwrap();
        let addresses = attaching.addresses(both).unwrap();
        assert_eq!(addresses.len(), 2);
        assert_eq!(attaching.told(soon()), expected);
        drop(attaching);
        server.join().unwrap();
    }
    // Addresses that were not asked for are none.
    let server = says(&socket, &first);
    let mut attaching = client(&socket).attach(AttachRequest::default()).unwrap();
    assert_eq!(attaching.addresses(PerFamily { v4: true, v6: false }), None);
    drop(attaching);
    server.join().unwrap();
}
