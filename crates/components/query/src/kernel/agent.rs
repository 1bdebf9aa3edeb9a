//! Asks the agent of this node who it is.

use crate::agent;

pub(super) use agent::is_expected;

/// The node that this machine is.
pub(super) fn node() -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime
        .map_err(|e| e.to_string())?
        .block_on(agent::connect(&agent::socket()));
    asked.map(|a| a.node).map_err(|e| e.to_string())
}
