//! When the agents have done what the datastore says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use caracal_desired::WorkloadEndpoint;
use caracal_ids::WorkloadId;

use super::expected::World;
use super::pods::endpoint_key;
use super::state::{Lab, Node};
use crate::cluster::agent::Agent;
use crate::explain::explain;

/// How long they may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits for every agent; what is still missing when the time is up, or cannot be known.
pub(super) async fn wait(lab: &Lab, world: &World) -> Vec<String> {
    let deadline = Instant::now() + LIMIT;
    let mut complaints = Vec::new();
    for node in &lab.state.nodes {
        if !node.agent_runs() {
            complaints.push(format!(
                "{}: its agent does not run, so what it enforces may be old",
                node.name
            ));
            continue;
        }
        while let Err(why) = look(lab, world, node).await {
            if Instant::now() > deadline {
                complaints.push(format!("{}: {}", node.name, explain(&why)));
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    complaints
}

/// An error says what is missing on a node.
async fn look(lab: &Lab, world: &World, node: &Node) -> anyhow::Result<()> {
    let mut agent = Agent::connect(&lab.site(node).agent_socket()).await?;
    let applied = agent.revisions().await?;
    for (kind, wanted) in &world.revisions {
        let has = applied.get(kind.as_str()).copied().unwrap_or_default();
        anyhow::ensure!(
            has >= *wanted,
            "{kind} is in force up to revision {has}, not {wanted} yet"
        );
    }
    // A deleted object has no revision any more: that shows here.
    let has = by_id(agent.desired().await?);
    let wants = by_id(world.endpoints(&node.name).cloned());
    for (id, wanted) in &wants {
        let Some(found) = has.get(id) else {
            anyhow::bail!("it does not know endpoint {id} yet");
        };
        let same = found.tiers == wanted.tiers && found.profiles == wanted.profiles;
        anyhow::ensure!(same, "endpoint {id} has other policies");
    }
    if let Some(id) = has.keys().find(|id| !wants.contains_key(id)) {
        anyhow::bail!("it still has endpoint {id}");
    }
    let states = agent.endpoints().await?;
    for pod in lab.state.pods.values().filter(|p| p.node == node.name) {
        let key = endpoint_key(pod);
        let state = states
            .iter()
            .find(|e| *e.namespace == *key.namespace && *e.name == *key.name);
        if let Some(s) = state.filter(|s| s.state != "up") {
            anyhow::bail!("endpoint {} is {}: {}", pod.id(), s.state, s.reason);
        }
    }
    Ok(())
}

fn by_id(endpoints: impl IntoIterator<Item = WorkloadEndpoint>) -> BTreeMap<WorkloadId, WorkloadEndpoint> {
    endpoints.into_iter().map(|e| (e.id.clone(), e)).collect()
}
