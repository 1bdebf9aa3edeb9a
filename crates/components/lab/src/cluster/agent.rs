//! The agents' API.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caracal_agent_api::v1::agent_client::AgentClient;
use caracal_agent_api::v1::dump_request::Table;
use caracal_agent_api::v1::{
    DumpRequest, Endpoint, InfoReply, InfoRequest, InvalidObject, ListEndpointsRequest, ListInvalidRequest,
};
use caracal_desired::WorkloadEndpoint;
use caracal_sys::ProcessId;
use serde::Deserialize;
use tonic::transport::Channel;

use super::process;
use crate::explain::explain;

/// How long an agent may take until it has done everything once.
const SYNC: Duration = Duration::from_secs(180);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// A connection to an agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent(AgentClient<Channel>);

#[derive(Deserialize)]
struct Desired {
    workloads: Vec<WorkloadEndpoint>,
}

impl Agent {
    /// Connects.
    pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let channel = tonic::transport::Endpoint::from_shared(format!("unix://{}", socket.display()))?
            .connect()
            .await?;
        // A table of a large node is one message per part, but lists of endpoints are one.
        let client = AgentClient::new(channel).max_decoding_message_size(64 << 20);
        Ok(Self(client))
    }

    /// Who it is and what it has applied.
    pub(crate) async fn info(&mut self) -> anyhow::Result<InfoReply> {
        Ok(self.0.info(InfoRequest {}).await?.into_inner())
    }

    /// Its endpoints with their state.
    pub(crate) async fn endpoints(&mut self) -> anyhow::Result<Vec<Endpoint>> {
        let reply = self.0.list_endpoints(ListEndpointsRequest {}).await?;
        Ok(reply.into_inner().endpoints)
    }

    /// What it cannot use.
    pub(crate) async fn invalid(&mut self) -> anyhow::Result<Vec<InvalidObject>> {
        let reply = self.0.list_invalid(ListInvalidRequest {}).await?;
        Ok(reply.into_inner().objects)
    }

    /// Its endpoints as it wants them, with the policies of each.
    pub(crate) async fn desired(&mut self) -> anyhow::Result<Vec<WorkloadEndpoint>> {
        let request = DumpRequest {
            table: Table::Desired.into(),
        };
        let mut parts = self.0.dump(request).await?.into_inner();
        let mut text = Vec::new();
        while let Some(part) = parts.message().await? {
            text.extend(part.data);
        }
        let desired: Desired = serde_json::from_slice(&text).context("the agent's table")?;
        Ok(desired.workloads)
    }

    /// The highest revision of each kind that is in force.
    pub(crate) async fn revisions(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        let applied = self.info().await?.applied.into_iter();
        Ok(applied.map(|a| (a.kind, a.revision)).collect())
    }
}

/// Waits until an agent that was started has done everything once.
pub(crate) async fn await_in_sync(socket: &Path, id: ProcessId, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + SYNC;
    loop {
        let state = async {
            let info = Agent::connect(socket).await?.info().await?;
            anyhow::Ok((info.pid == id.pid, info.in_sync))
        };
        let why = match state.await {
            Ok((true, true)) => return Ok(()),
            Ok((true, false)) => "it has not done everything yet".to_owned(),
            Ok((false, _)) => "another one answers".to_owned(),
            Err(e) => explain(&e),
        };
        if !id.is_alive() {
            bail!("it ended:\n{}", process::tail(log));
        }
        if Instant::now() > deadline {
            bail!("it is not in sync after {SYNC:?}: {why}\n{}", process::tail(log));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
