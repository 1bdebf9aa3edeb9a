//! The agent API on its unix socket.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use caracal_agent_api::{
    API_VERSION, pods,
    v1::{
        AppliedRevision, AwaitEndpointReply, AwaitEndpointRequest, DeniedPacket, DumpChunk, DumpRequest,
        Endpoint, InfoReply, InfoRequest, InvalidObject, JudgeReply, JudgeRequest, ListCountersReply,
        ListCountersRequest, ListEndpointsReply, ListEndpointsRequest, ListInvalidReply, ListInvalidRequest,
        WatchDeniedRequest,
        agent_server::{Agent, AgentServer},
        dump_request::Table,
    },
};
use caracal_ids::{NodeName, WorkloadId};
use caracal_rules::Counting;
use caracal_runtime::Shutdown;
use tokio::{
    net::UnixListener,
    sync::{broadcast, oneshot},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status as Code};

use crate::{
    counters::Counters,
    denied::{Denied, Told},
    pods::Calls,
    status::{State, Status},
};

/// The longest that one wait may take; a client that wants more asks again.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The size of a part of a dump.
const CHUNK: usize = 256 * 1024;

/// A table that somebody wants to see, and where the text goes.
pub(crate) struct DumpOrder {
    pub(crate) table: Table,
    pub(crate) reply: oneshot::Sender<String>,
}

/// What the owner of the tables is asked.
pub(crate) enum Order {
    /// To show a table.
    Dump(DumpOrder),
    /// What is counted.
    Counted(oneshot::Sender<Arc<Counting>>),
    /// To judge a packet.
    Judge(Box<JudgeRequest>, oneshot::Sender<Result<JudgeReply, String>>),
    /// To say whose packet was denied and by whom, to those who watch.
    Denied(Box<Told>, broadcast::Sender<Arc<DeniedPacket>>),
}

/// The way to the owner of the tables.
pub(crate) type Orders = tokio::sync::mpsc::Sender<Order>;

struct Service {
    node: NodeName,
    status: Arc<Status>,
    orders: Orders,
    counters: Counters,
    denied: Denied,
    shutdown: Shutdown,
}

fn state_text(state: &State) -> (&'static str, String) {
    match state {
        State::Up => ("up", String::new()),
        State::Down(why) => ("down", why.clone()),
        State::Error(why) => ("error", why.clone()),
    }
}

#[tonic::async_trait]
impl Agent for Service {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoReply>, Code> {
        Ok(Response::new(InfoReply {
            api_version: API_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.to_string(),
            in_sync: self.status.in_sync(),
            generation: self.status.generation(),
            pid: std::process::id(),
            applied: self
                .status
                .revisions()
                .into_iter()
                .map(|(kind, revision)| AppliedRevision {
                    kind: kind.to_string(),
                    revision,
                })
                .collect(),
        }))
    }

    async fn await_endpoint(
        &self,
        request: Request<AwaitEndpointRequest>,
    ) -> Result<Response<AwaitEndpointReply>, Code> {
        let r = request.into_inner();
        let id = WorkloadId::new(&r.namespace, &r.name);
        let wait = Duration::from_millis(r.timeout_ms.into());
        let outcome = tokio::select! {
            outcome = in_force(&self.status, &id, &r.container_id, wait) => outcome,
            () = self.shutdown.wait() => return Err(Code::unavailable("the agent is ending")),
        };
        Ok(Response::new(AwaitEndpointReply {
            in_force: outcome.is_ok(),
            reason: outcome.err().unwrap_or_default(),
        }))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsReply>, Code> {
        let endpoints = self.status.endpoints().into_iter().map(|(id, s)| {
            let (state, reason) = state_text(&s.state);
            Endpoint {
                namespace: id.namespace.to_string(),
                name: id.name.to_string(),
                interface: s.interface,
                container_id: s.container_id,
                addresses: s.addresses,
                state: state.to_owned(),
                reason,
            }
        });
        Ok(Response::new(ListEndpointsReply {
            endpoints: endpoints.collect(),
        }))
    }

    async fn list_invalid(&self, _: Request<ListInvalidRequest>) -> Result<Response<ListInvalidReply>, Code> {
        let objects = self
            .status
            .invalid()
            .into_iter()
            .map(|(key, reason)| InvalidObject {
                kind: key.kind.to_string(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                reason,
            });
        Ok(Response::new(ListInvalidReply {
            objects: objects.collect(),
        }))
    }

    type DumpStream = ReceiverStream<Result<DumpChunk, Code>>;

    async fn dump(&self, request: Request<DumpRequest>) -> Result<Response<Self::DumpStream>, Code> {
        let text = match request.into_inner().table() {
            Table::Config => self.status.config(),
            table => {
                let (reply, answer) = oneshot::channel();
                let order = DumpOrder { table, reply };
                self.orders
                    .send(Order::Dump(order))
                    .await
                    .map_err(|_| Code::unavailable("the agent is ending"))?;
                answer
                    .await
                    .map_err(|_| Code::unavailable("the agent cannot show this table now"))?
            }
        };
        let (sender, stream) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            for part in text.as_bytes().chunks(CHUNK) {
                // A client that went away wants no more.
                if sender.send(Ok(DumpChunk { data: part.to_vec() })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_counters(
        &self,
        request: Request<ListCountersRequest>,
    ) -> Result<Response<ListCountersReply>, Code> {
        let reply = self.counters.list(&request.into_inner()).await;
        reply.map(Response::new).map_err(Code::unavailable)
    }

    type WatchDeniedStream = ReceiverStream<Result<DeniedPacket, Code>>;

    async fn watch_denied(
        &self,
        request: Request<WatchDeniedRequest>,
    ) -> Result<Response<Self::WatchDeniedStream>, Code> {
        let wish = request.into_inner();
        let mut packets = self.denied.watch().map_err(Code::unavailable)?;
        let (sender, stream) = tokio::sync::mpsc::channel(16);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let mut lost = 0;
            loop {
                let packet = tokio::select! {
                    packet = packets.recv() => packet,
                    () = sender.closed() => return,
                    () = shutdown.wait() => return,
                };
                let mut packet = match packet {
                    Ok(packet) => DeniedPacket::clone(&packet),
                    Err(broadcast::error::RecvError::Lagged(n)) => {
                        lost += n;
                        continue;
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                packet.lost += std::mem::take(&mut lost);
                let fits = |wish: &str, is: &str| wish.is_empty() || wish == is;
                if fits(&wish.namespace, &packet.namespace)
                    && fits(&wish.name, &packet.name)
                    && sender.send(Ok(packet)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn judge(&self, request: Request<JudgeRequest>) -> Result<Response<JudgeReply>, Code> {
        let (reply, answer) = oneshot::channel();
        let ending = || Code::unavailable("the agent is ending");
        self.orders
            .send(Order::Judge(Box::new(request.into_inner()), reply))
            .await
            .map_err(|_| ending())?;
        let reply = answer.await.map_err(|_| ending())?;
        reply.map(Response::new).map_err(Code::invalid_argument)
    }
}

/// Waits until policy and routes of a container's endpoint are in force, at most so long.
pub(crate) async fn in_force(
    status: &Status,
    id: &WorkloadId,
    container: &str,
    wait: Duration,
) -> Result<(), String> {
    let begun = Instant::now();
    let outcome = status.await_endpoint(id, container, wait.min(MAX_WAIT)).await;
    metrics::histogram!("caracal_cni_await_seconds").record(begun.elapsed());
    if outcome.is_err() {
        metrics::counter!("caracal_cni_await_timeouts").increment(1);
    }
    outcome
}

/// Whether an agent answers on the socket.
pub(crate) fn is_running(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

/// Listens on a socket that is root's only.
fn listen(socket: &str) -> anyhow::Result<UnixListener> {
    let path = Path::new(socket);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    // What an agent before this one left behind.
    remove(socket)?;
    let listener = UnixListener::bind(path).with_context(|| format!("listening on {socket}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protecting {socket}"))?;
    Ok(listener)
}

fn remove(socket: &str) -> anyhow::Result<()> {
    caracal_sys::remove_optional(Path::new(socket))
        .map(drop)
        .with_context(|| format!("removing the socket {socket}"))
}

/// Serves the API and plugins until the shutdown; the sockets are root's only and are removed at the end.
///
/// # Errors
/// When a socket cannot be made or the server breaks.
pub(crate) async fn serve(
    socket: String,
    node: NodeName,
    status: Arc<Status>,
    orders: Orders,
    counters: Counters,
    calls: Calls,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let beside = pods::socket(&socket);
    // Whoever sees that the agent answers may count on both.
    let plugins = listen(&beside)?;
    let listener = listen(&socket)?;
    let service = Service {
        node,
        status,
        denied: Denied::new(orders.clone()),
        orders,
        counters,
        shutdown: shutdown.clone(),
    };
    let stop = shutdown.clone();
    let api = tonic::transport::Server::builder()
        .add_service(AgentServer::new(service))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            async move { stop.wait().await },
        );
    let for_plugins = async {
        calls.serve(plugins, &shutdown).await;
        Ok(())
    };
    tokio::try_join!(api, for_plugins).context("the agent API")?;
    remove(&socket)?;
    remove(&beside)
}
