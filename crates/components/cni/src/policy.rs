//! Waiting until the agent says that the policy of this container is in force.

use std::time::Duration;

use caracal_agent_api::v1::AwaitEndpointRequest;
use tokio::time::{Instant, sleep};

use crate::{
    agent::{Agent, Unanswered},
    error::{CniError, Code},
    identity::Identity,
    on_demand,
    plan::Wait,
};

/// How long ADD waits when the configuration does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// How much later than its time the answer of a busy agent may come, which says what is missing.
pub(crate) const LATE: Duration = Duration::from_millis(500);

/// The pause after the agent could not be asked.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the configuration wants ADD to wait.
pub(crate) fn wait(seconds: Option<u32>) -> Wait {
    match seconds {
        None => Wait::OrFail(DEFAULT_WAIT),
        Some(0) => Wait::No,
        Some(n) => Wait::AtMost(Duration::from_secs(n.into())),
    }
}

/// Waits as `wait` says. Tells whether policy and routes are in force.
pub(crate) async fn await_policy(agent: &Agent, id: &Identity, wait: Wait) -> Result<bool, CniError> {
    let socket = agent.socket();
    let limit = match wait {
        Wait::No => return Ok(false),
        Wait::OrFail(_) if !agent.is_there() => {
            tracing::debug!(
                socket,
                "no agent to wait for; its static rule keeps the pod closed"
            );
            return Ok(false);
        }
        Wait::OrFail(limit) | Wait::AtMost(limit) => limit,
    };
    let told = match ask_until(agent, id, Instant::now() + limit).await {
        Err(Unanswered { why, foreign: true }) => {
            tracing::warn!(why, socket, "not waiting: as without an agent");
            return Ok(false);
        }
        told => told.map_err(|e| e.why),
    };
    settle(told, agent, id, wait)
}

/// What follows from the agent's answer: whether policy and routes are in force, or that ADD fails.
pub(crate) fn settle(
    told: Result<(), String>,
    agent: &Agent,
    id: &Identity,
    wait: Wait,
) -> Result<bool, CniError> {
    match (told, wait) {
        (Ok(()), _) => Ok(true),
        (Err(why), Wait::OrFail(limit)) => Err(CniError::new(
            Code::TryAgain,
            format!("policy is not in force after {limit:?}"),
            format!(
                "{why}; agent at {}, endpoint {}",
                agent.socket(),
                id.endpoint_key()
            ),
        )),
        (Err(why), wait) => {
            tracing::warn!(%why, ?wait, "policy is not in force yet; going on as policy_setup_timeout_seconds says");
            Ok(false)
        }
    }
}

/// How long the agent is to wait, where there is one: milliseconds, 0 for not at all.
pub(crate) fn wait_ms(wait: Wait) -> u32 {
    match wait {
        Wait::No => 0,
        Wait::AtMost(limit) | Wait::OrFail(limit) => u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
    }
}

/// Asks again and again; what was wrong last when the time is up.
async fn ask_until(agent: &Agent, id: &Identity, deadline: Instant) -> Result<(), Unanswered> {
    on_demand::runtime().await;
    loop {
        let Err(e) = ask(agent, id, deadline) else {
            return Ok(());
        };
        if e.foreign || Instant::now() + PAUSE >= deadline {
            return Err(e);
        }
        sleep(PAUSE).await;
    }
}

fn ask(agent: &Agent, id: &Identity, deadline: Instant) -> Result<(), Unanswered> {
    // The agent's own limit ends first, so that it can say what is missing.
    let left = deadline
        .saturating_duration_since(Instant::now())
        .saturating_sub(PAUSE);
    let request = AwaitEndpointRequest {
        namespace: id.namespace().to_owned(),
        name: id.endpoint_name(),
        container_id: id.container_id.clone(),
        timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
    };
    let reply = agent
        .await_endpoint(request, (deadline + LATE).into_std())
        .map_err(|e| Unanswered {
            why: format!("the agent: {}", e.why),
            ..e
        })?;
    if reply.in_force {
        return Ok(());
    }
    Err(format!("the agent: {}", reply.reason).into())
}
