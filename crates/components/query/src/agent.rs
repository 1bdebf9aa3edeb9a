//! The agents of nodes, by their sockets.

use std::time::Duration;

use caracal_agent_api::v1::{InfoRequest, agent_client::AgentClient};
use caracal_agent_api::{DEFAULT_SOCKET, SOCKET_ENV};
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;

/// An agent that is alive answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// An agent that answers.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) node: String,
    pub(crate) client: AgentClient<Channel>,
}

/// Where the agent of this node listens.
pub(crate) fn socket() -> String {
    std::env::var(SOCKET_ENV).unwrap_or_else(|_| DEFAULT_SOCKET.to_owned())
}

/// Whether something is there that could be the socket of this node's agent.
pub(crate) fn is_expected() -> bool {
    std::path::Path::new(&socket()).exists()
}

/// Connects to an agent and asks whose it is.
pub(crate) async fn connect(socket: &str) -> Result<Agent, Failure> {
    let refuse = |why: String| Failure::input(format!("the agent at {socket} {why}"));
    if !std::path::Path::new(socket).exists() {
        return Err(Failure::input(format!(
            "no agent runs here: there is no socket {socket} ({SOCKET_ENV} names another)"
        )));
    }
    let asked = async {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(|e| e.to_string())?;
        let channel = endpoint.connect().await.map_err(|e| innermost(&e))?;
        let mut client = AgentClient::new(channel);
        let reply = client.info(InfoRequest {}).await;
        let node = reply.map_err(|e| e.message().to_owned())?.into_inner().node;
        Ok::<_, String>(Agent { node, client })
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(agent) => agent.map_err(|e| refuse(format!("cannot be asked: {e}"))),
        Err(_) => Err(refuse("does not answer".to_owned())),
    }
}

/// What an agent said instead of an answer.
pub(crate) fn refused(node: &str, status: &tonic::Status) -> Failure {
    match status.code() {
        tonic::Code::Unimplemented => Failure::input(format!(
            "the agent of {node} is older than this program and cannot answer this"
        )),
        _ => Failure::input(format!("the agent of {node}: {}", status.message())),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
