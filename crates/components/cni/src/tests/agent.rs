//! An agent that answers as a test wants.

use std::{path::PathBuf, sync::mpsc, thread::JoinHandle};

use caracal_agent_api::v1::{
    AwaitEndpointReply, AwaitEndpointRequest, DeniedPacket, DumpChunk, DumpRequest, InfoReply, InfoRequest,
    JudgeReply, JudgeRequest, ListCountersReply, ListCountersRequest, ListEndpointsReply,
    ListEndpointsRequest, ListInvalidReply, ListInvalidRequest, WatchDeniedRequest,
    agent_server::{Agent, AgentServer},
};
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

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
        // The test may not care.
        let _ = self.asked.send(request);
        Ok(Response::new(AwaitEndpointReply {
            in_force,
            reason: "the interface is missing".into(),
        }))
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
