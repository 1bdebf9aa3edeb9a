//! The agent's socket.

use std::{path::Path, time::Duration};

use caracal_agent_api::{
    DEFAULT_SOCKET, SOCKET_ENV,
    v1::{AssignRequest, addresses_client::AddressesClient},
};
use caracal_ipam::Assign;
use caracal_net::{Family, IfAddr};
use tonic::transport::{Channel, Endpoint};

use crate::env::Env;

/// How long the agent may take for an address; then the datastore is asked without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the agent listens.
pub(crate) fn socket(env: &Env) -> String {
    let said = env.all.get(SOCKET_ENV).filter(|s| !s.is_empty());
    said.map_or(DEFAULT_SOCKET, String::as_str).to_owned()
}

pub(crate) async fn connect(socket: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("unix://{socket}"))
        .map_err(|e| format!("{socket} cannot be a socket's path: {e}"))?;
    let channel = endpoint.connect().await;
    channel.map_err(|e| format!("the agent cannot be reached: {}", innermost(&e)))
}

/// An address from the agent. None when there is no agent, or it cannot: then the datastore itself says what is wrong.
/// An address that the agent assigned and nobody was told of is under the container's handle: DEL gives it back.
pub(crate) async fn assign(socket: &str, datastore: &str, want: &Assign) -> Option<IfAddr> {
    if !Path::new(socket).exists() {
        return None;
    }
    match tokio::time::timeout(PATIENCE, ask(socket, datastore, want)).await {
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

async fn ask(socket: &str, datastore: &str, want: &Assign) -> Result<IfAddr, String> {
    let request = AssignRequest {
        datastore: datastore.to_owned(),
        node: want.node.to_string(),
        handle: want.owner.handle.clone(),
        attributes: want.owner.attributes.clone().into_iter().collect(),
        ipv6: want.family == Family::V6,
        pools: want.pools.clone(),
        namespace_labels: want.namespace_labels.clone().into_iter().collect(),
    };
    let mut client = AddressesClient::new(connect(socket).await?);
    let reply = client.assign(request).await;
    let reply = reply.map_err(|e| e.message().to_owned())?.into_inner();
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

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
