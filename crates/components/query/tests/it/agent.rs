//! An agent that tells what a test wants.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use caracal_agent_api::v1::agent_server::{Agent, AgentServer};
use caracal_agent_api::v1::{
    AwaitEndpointReply, AwaitEndpointRequest, DeniedPacket, DumpChunk, DumpRequest, InfoReply, InfoRequest,
    JudgeReply, JudgeRequest, ListCountersReply, ListCountersRequest, ListEndpointsReply,
    ListEndpointsRequest, ListInvalidReply, ListInvalidRequest, RuleCounter, WatchDeniedRequest,
};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// What the agent knows.
#[derive(Clone, Default)]
pub(crate) struct Knows {
    pub(crate) node: String,
    pub(crate) packets: Vec<DeniedPacket>,
    pub(crate) counters: Vec<RuleCounter>,
    /// An agent of a version before these questions.
    pub(crate) old: bool,
    /// How often it lists its counters before it is away.
    pub(crate) fails_after: Option<usize>,
    /// How often it was asked to tell denied packets.
    pub(crate) watched: Arc<AtomicUsize>,
}

struct Service(Knows, AtomicUsize);

impl Service {
    fn is_new(&self) -> Result<(), Status> {
        if self.0.old {
            return Err(Status::unimplemented("unknown method"));
        }
        Ok(())
    }
}

type Chunks = tokio_stream::Empty<Result<DumpChunk, Status>>;
type Packets = tokio_stream::Iter<std::vec::IntoIter<Result<DeniedPacket, Status>>>;

#[tonic::async_trait]
impl Agent for Service {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoReply>, Status> {
        Ok(Response::new(InfoReply {
            node: self.0.node.clone(),
            ..InfoReply::default()
        }))
    }

    async fn list_counters(
        &self,
        request: Request<ListCountersRequest>,
    ) -> Result<Response<ListCountersReply>, Status> {
        self.is_new()?;
        let asked = self.1.fetch_add(1, Ordering::Relaxed);
        if self.0.fails_after.is_some_and(|n| asked >= n) {
            return Err(Status::unavailable("away for a moment"));
        }
        let wanted = request.into_inner();
        let fits = |c: &RuleCounter| {
            let d = c.decider.clone().unwrap_or_default();
            (!wanted.never_hit || c.never_hit)
                && (wanted.namespace.is_empty() || d.namespace == wanted.namespace)
                && (wanted.name.is_empty() || d.name == wanted.name)
        };
        Ok(Response::new(ListCountersReply {
            counters: self.0.counters.iter().filter(|c| fits(c)).cloned().collect(),
            since: 1_800_000_000,
        }))
    }

    type WatchDeniedStream = Packets;

    async fn watch_denied(
        &self,
        _: Request<WatchDeniedRequest>,
    ) -> Result<Response<Self::WatchDeniedStream>, Status> {
        self.is_new()?;
        self.0.watched.fetch_add(1, Ordering::Relaxed);
        let packets: Vec<_> = self.0.packets.iter().cloned().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(packets)))
    }

    async fn await_endpoint(
        &self,
        _: Request<AwaitEndpointRequest>,
    ) -> Result<Response<AwaitEndpointReply>, Status> {
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

    type DumpStream = Chunks;

    async fn dump(&self, _: Request<DumpRequest>) -> Result<Response<Self::DumpStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn judge(&self, _: Request<JudgeRequest>) -> Result<Response<JudgeReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// An agent that answers until it is dropped.
pub(crate) struct Running {
    dir: Option<tempfile::TempDir>,
    knows: Knows,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(knows: Knows) -> Self {
        Self::at(tempfile::tempdir().expect("a directory"), knows)
    }

    fn at(dir: tempfile::TempDir, knows: Knows) -> Self {
        let path = socket_in(&dir);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let served = knows.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let _ = std::fs::remove_file(&path);
                let listener = UnixListener::bind(path).expect("a socket");
                ready.send(()).expect("the test waits");
                let service = Service(served, AtomicUsize::new(0));
                let server = tonic::transport::Server::builder().add_service(AgentServer::new(service));
                let served = server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                    let _ = stopped.await;
                });
                served.await.expect("it serves until it is stopped");
            });
        });
        is_ready.recv().expect("the agent starts");
        Self {
            dir: Some(dir),
            knows,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Ends it, and starts it again at the same socket.
    pub(crate) fn restart(mut self) -> Self {
        self.end();
        let dir = self.dir.take().expect("it has one until it is dropped");
        Self::at(dir, self.knows.clone())
    }

    fn end(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    pub(crate) fn socket(&self) -> String {
        let dir = self.dir.as_ref().expect("it has one until it is dropped");
        socket_in(dir).display().to_string()
    }
}

fn socket_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("agent.sock")
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
