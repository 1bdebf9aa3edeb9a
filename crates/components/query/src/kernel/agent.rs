//! Asks the agent of this node who it is.

use std::time::Duration;

use caracal_agent_api::v1::{InfoRequest, agent_client::AgentClient};
use caracal_agent_api::{DEFAULT_SOCKET, SOCKET_ENV};
use tonic::transport::Endpoint;

/// An agent that is alive answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// The node that this machine is.
pub(super) fn node() -> Result<String, String> {
    let socket = socket();
    if !std::path::Path::new(&socket).exists() {
        return Err(format!(
            "no agent runs here: there is no socket {socket} ({SOCKET_ENV} names another)"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = async {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(|e| e.to_string())?;
        let channel = endpoint.connect().await.map_err(|e| innermost(&e))?;
        let reply = AgentClient::new(channel).info(InfoRequest {}).await;
        Ok::<_, String>(reply.map_err(|e| e.message().to_owned())?.into_inner().node)
    };
    let answer = runtime
        .map_err(|e| e.to_string())?
        .block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    match answer {
        Ok(node) => node.map_err(|e| format!("the agent at {socket}: {e}")),
        Err(_) => Err(format!("the agent at {socket} does not answer")),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether something is there that could be an agent's socket.
pub(super) fn is_expected() -> bool {
    std::path::Path::new(&socket()).exists()
}

fn socket() -> String {
    std::env::var(SOCKET_ENV).unwrap_or_else(|_| DEFAULT_SOCKET.to_owned())
}
