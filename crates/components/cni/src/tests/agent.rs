//! An agent that answers as a test wants.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener as Listener,
    path::PathBuf,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use caracal_agent_api::v1::{
    AwaitEndpointReply, AwaitEndpointRequest, DeniedPacket, DumpChunk, DumpRequest, InfoReply, InfoRequest,
    JudgeReply, JudgeRequest, ListCountersReply, ListCountersRequest, ListEndpointsReply,
    ListEndpointsRequest, ListInvalidReply, ListInvalidRequest, WatchDeniedRequest,
    agent_server::{Agent, AgentServer},
};
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::{agent::Agent as Client, env::Env};

/// The container for which the agent answers with an error, and what it says.
const REFUSED: &str = "refused";
const ODD_TEXT: &str = "not \"now\": 50 % of <those> {who} wait|ask [at] C:\\x, ä ~ 日本\n^`@#$;'";

/// The container of which the agent has more to say than may be sent without leave.
const LONG: &str = "long";

struct Service {
    /// The container whose policy is in force; others never are.
    container: String,
    asked: mpsc::Sender<AwaitEndpointRequest>,
}

#[tonic::async_trait]
impl Agent for Service {
    async fn await_endpoint(
        &self,
        request: Request<AwaitEndpointRequest>,
    ) -> Result<Response<AwaitEndpointReply>, Status> {
        let request = request.into_inner();
        let in_force = request.container_id == self.container;
        let reason = match request.container_id.as_str() {
            REFUSED => return Err(Status::failed_precondition(ODD_TEXT)),
            LONG => "of many words ".repeat(20_000),
            _ => "the interface is missing".into(),
        };
        // The test may not care.
        let _ = self.asked.send(request);
        Ok(Response::new(AwaitEndpointReply { in_force, reason }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_invalid(
        &self,
        _: Request<ListInvalidRequest>,
    ) -> Result<Response<ListInvalidReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type DumpStream = tokio_stream::Empty<Result<DumpChunk, Status>>;

    async fn dump(&self, _: Request<DumpRequest>) -> Result<Response<Self::DumpStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_counters(
        &self,
        _: Request<ListCountersRequest>,
    ) -> Result<Response<ListCountersReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type WatchDeniedStream = tokio_stream::Empty<Result<DeniedPacket, Status>>;

    async fn watch_denied(
        &self,
        _: Request<WatchDeniedRequest>,
    ) -> Result<Response<Self::WatchDeniedStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn judge(&self, _: Request<JudgeRequest>) -> Result<Response<JudgeReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// Runs until it is dropped.
pub(super) struct FakeAgent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(super) asked: mpsc::Receiver<AwaitEndpointRequest>,
}

impl FakeAgent {
    /// Listens before it returns.
    pub(super) fn start(socket: PathBuf, container: &str) -> Self {
        let (asked_in, asked) = mpsc::channel();
        let (ready_in, ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let service = Service {
            container: container.to_owned(),
            asked: asked_in,
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(socket).unwrap();
                ready_in.send(()).unwrap();
                tonic::transport::Server::builder()
                    .add_service(AgentServer::new(service))
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                        let _ = stopped.await;
                    })
                    .await
                    .unwrap();
            });
        });
        ready.recv().unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
            asked,
        }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn client(socket: &std::path::Path) -> Client {
    let socket = socket.to_string_lossy().into_owned();
    let all = [(caracal_agent_api::SOCKET_ENV.to_owned(), socket)];
    Client::new(&Env::read(all.into()).unwrap())
}

fn about(container: &str) -> AwaitEndpointRequest {
    AwaitEndpointRequest {
        container_id: container.to_owned(),
        // More than one frame of HTTP/2 holds.
        name: "n".repeat(40_000),
        ..AwaitEndpointRequest::default()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[test]
fn what_a_server_of_grpc_answers_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let server = FakeAgent::start(socket.clone(), "c1");
    let client = client(&socket);
    let good = client.await_endpoint(&about("c1"), soon()).unwrap();
    assert!(good.in_force);
    assert_eq!(server.asked.try_recv().unwrap(), about("c1"));
    let other = client.await_endpoint(&about("c2"), soon()).unwrap();
    assert!(!other.in_force && other.reason == "the interface is missing");
    let long = client.await_endpoint(&about(LONG), soon()).unwrap();
    assert_eq!(long.reason.len(), 280_000);
    assert_eq!(
        client.await_endpoint(&about(REFUSED), soon()).unwrap_err(),
        ODD_TEXT
    );
    // A service that it does not have, and a request that is larger than may be sent without leave.
    assert!(client.detach(&Default::default()).is_none());
    let mut large = about("c1");
    large.namespace = "n".repeat(40_000);
    let error = client.await_endpoint(&large, soon()).unwrap_err();
    assert!(error.contains("60000"), "{error}");
}

#[test]
fn who_does_not_answer_or_makes_no_sense_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let none = client(&dir.path().join("none.sock"));
    let error = none.await_endpoint(&about("c1"), soon()).unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");
    let silent = dir.path().join("silent.sock");
    let _listener = Listener::bind(&silent).unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    let error = client(&silent)
        .await_endpoint(&about("c1"), deadline)
        .unwrap_err();
    assert_eq!(error, "the agent did not answer");
    for (nonsense, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "more than is asked for"),
        (b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07", "error 7"),
        (b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0", "about to end"),
        (b"\0\0\x01\x01\x05\0\0\0\x01\x8d", "does not speak gRPC"),
        (b"\0\0\x02\x01\x04\0\0\0\x01\0\x7f", "malformed headers"),
        (b"\0\0\x01\0\x08\0\0\0\x01\x05", "malformed data"),
        (b"\0\0\0\0\x01\0\0\0\x01", "without a verdict"),
        (b"", "connection"),
    ] {
        let socket = dir.path().join("odd.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = Listener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(nonsense).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let error = client(&socket).await_endpoint(&about("c1"), soon()).unwrap_err();
        server.join().unwrap();
        assert!(error.contains(expected), "{nonsense:?}: {error}");
    }
}
