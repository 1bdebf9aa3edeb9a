//! The agent's socket. One connection serves all that a call asks of the agent.

use std::{path::Path, time::Duration};

use caracal_agent_api::{
    DEFAULT_SOCKET, SOCKET_ENV,
    v1::{
        AssignRequest, AttachReply, AttachRequest, AwaitEndpointReply, AwaitEndpointRequest, DetachReply,
        DetachRequest, addresses_client::AddressesClient, agent_client::AgentClient, pods_client::PodsClient,
    },
};
use caracal_ipam::Assign;
use caracal_net::{Family, IfAddr, PerFamily};
use tokio::sync::Mutex;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::env::Env;

/// How long the agent may take for an address; then the datastore is asked without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the agent may take for the end of a container. It gives up on its datastore before.
const DETACH_PATIENCE: Duration = Duration::from_millis(2500);

/// The agent of this node, if there is one.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: String,
    channel: Mutex<Option<Channel>>,
}

impl Agent {
    pub(crate) fn new(env: &Env) -> Self {
        let said = env.all.get(SOCKET_ENV).filter(|s| !s.is_empty());
        Self {
            socket: said.map_or(DEFAULT_SOCKET, String::as_str).to_owned(),
            channel: Mutex::default(),
        }
    }

    /// Where the agent listens.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    /// Whether there is an agent, as far as its socket tells.
    pub(crate) fn is_there(&self) -> bool {
        Path::new(&self.socket).exists()
    }

    async fn channel(&self) -> Result<Channel, String> {
        let mut kept = self.channel.lock().await;
        if let Some(channel) = kept.as_ref() {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket))
            .map_err(|e| format!("{} cannot be a socket's path: {e}", self.socket))?;
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|e| format!("the agent cannot be reached: {}", innermost(&e)))?;
        Ok(kept.insert(channel).clone())
    }

    /// What the agent says; after a failure the next question begins with a new connection.
    async fn answer<T>(&self, reply: Result<tonic::Response<T>, tonic::Status>) -> Result<T, String> {
        match reply {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) => {
                *self.channel.lock().await = None;
                Err(status.message().to_owned())
            }
        }
    }

    /// An address from the agent. None when there is no agent, or it cannot: then the datastore itself says what is wrong.
    /// An address that the agent assigned and nobody was told of is under the container's handle: DEL gives it back.
    pub(crate) async fn assign(&self, datastore: &str, want: &Assign) -> Option<IfAddr> {
        if !self.is_there() {
            return None;
        }
        match tokio::time::timeout(PATIENCE, self.ask_address(datastore, want)).await {
            Ok(Ok(address)) => Some(address),
            Ok(Err(why)) => {
                tracing::debug!(why, "the agent assigns no address; asking the datastore");
                None
            }
            Err(_) => {
                tracing::warn!(
                    ?PATIENCE,
                    "the agent did not answer; asking the datastore for an address"
                );
                None
            }
        }
    }

    async fn ask_address(&self, datastore: &str, want: &Assign) -> Result<IfAddr, String> {
        let request = AssignRequest {
            datastore: datastore.to_owned(),
            node: want.node.to_string(),
            handle: want.owner.handle.clone(),
            attributes: want.owner.attributes.clone().into_iter().collect(),
            ipv6: want.family == Family::V6,
            pools: want.pools.clone(),
            namespace_labels: want.namespace_labels.clone().into_iter().collect(),
        };
        let reply = AddressesClient::new(self.channel().await?).assign(request).await;
        let reply = self.answer(reply).await?;
        let address: IfAddr = reply
            .address
            .parse()
            .map_err(|e| format!("{}: {e}", reply.address))?;
        if Family::of(address.addr) == want.family {
            Ok(address)
        } else {
            Err(format!("{address} is not of the family asked for"))
        }
    }

    /// Lets the agent assign addresses and write the endpoint: the addresses, when both are in the datastore, and the stream
    /// whose next message says whether policy is in force. None when there is no agent, or it cannot.
    pub(crate) async fn attach(
        &self,
        request: AttachRequest,
        families: PerFamily<bool>,
    ) -> Option<(Vec<IfAddr>, Streaming<AttachReply>)> {
        let ask = async {
            let reply = PodsClient::new(self.channel().await?).attach(request).await;
            let mut stream = self.answer(reply).await?;
            let first = stream.message().await.map_err(|e| e.message().to_owned())?;
            let first = first.ok_or("the agent ended without an answer")?;
            let parse = |a: &String| a.parse::<IfAddr>().map_err(|e| format!("{a}: {e}"));
            let addresses: Vec<IfAddr> = first.addresses.iter().map(parse).collect::<Result<_, _>>()?;
            let has = |family| addresses.iter().any(|a| Family::of(a.addr) == family);
            if families.iter().any(|(family, wanted)| *wanted != has(family)) {
                return Err(format!("{addresses:?} are not of the families asked for"));
            }
            Ok::<_, String>((addresses, stream))
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(why)) => {
                tracing::debug!(why, "the agent attaches nothing; doing it here");
                None
            }
            Err(_) => {
                tracing::warn!(?PATIENCE, "the agent did not answer; attaching without it");
                None
            }
        }
    }

    /// Asks whether the policy of an endpoint is in force; the answer comes when it is, or when the time in the request is
    /// up.
    pub(crate) async fn await_endpoint(
        &self,
        request: AwaitEndpointRequest,
    ) -> Result<AwaitEndpointReply, String> {
        let reply = AgentClient::new(self.channel().await?)
            .await_endpoint(request)
            .await;
        self.answer(reply).await
    }

    /// Lets the agent take away what belongs to a container, together with those of others that end at this moment. None
    /// when there is no agent or it does not answer.
    pub(crate) async fn detach(&self, request: DetachRequest) -> Option<DetachReply> {
        if !self.is_there() {
            return None;
        }
        let ask = async {
            let reply = PodsClient::new(self.channel().await?).detach(request).await;
            self.answer(reply).await
        };
        match tokio::time::timeout(DETACH_PATIENCE, ask).await {
            Ok(Ok(reply)) => Some(reply),
            Ok(Err(why)) => {
                tracing::debug!(why, "the agent detaches nothing; doing it here");
                None
            }
            Err(_) => {
                tracing::warn!(?DETACH_PATIENCE, "the agent did not answer; detaching without it");
                None
            }
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
