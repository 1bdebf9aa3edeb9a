//! One node's agent.

use anyhow::Context;

use super::parallel::block_on;
use super::state::{Lab, Node, Process};
use crate::cluster::{agent, process};

/// Kills a node's agent.
pub(super) fn kill(lab: &str, node: &str) -> anyhow::Result<i32> {
    let mut lab = Lab::open(lab)?;
    let Some(running) = lab.node(node)?.agent.filter(|a| a.is_alive()) else {
        println!("{node}: its agent does not run");
        return Ok(0);
    };
    process::end(&[running.id()], false)?;
    lab.node_mut(node)?.agent = None;
    lab.save()?;
    println!(
        "{node}: agent {} killed; what it put into the kernel stays",
        running.pid
    );
    Ok(0)
}

/// Starts a node's agent and waits until it is in sync.
pub(super) fn start(lab: &str, node: &str) -> anyhow::Result<i32> {
    let mut lab = Lab::open(lab)?;
    if let Some(running) = lab.node(node)?.agent.filter(|a| a.is_alive()) {
        println!("{node}: its agent runs already, process {}", running.pid);
        return Ok(0);
    }
    let started = spawn(&lab, lab.node(node)?)?;
    lab.node_mut(node)?.agent = Some(started);
    lab.save()?;
    await_agent(&lab, lab.node(node)?)?;
    println!("{node}: agent {} started and in sync", started.pid);
    Ok(0)
}

/// Starts a node's agent unless it runs.
pub(super) fn spawn(lab: &Lab, node: &Node) -> anyhow::Result<Process> {
    match node.agent.filter(|a| a.is_alive()) {
        Some(running) => Ok(running),
        None => Ok(lab.site(node).start_agent()?.into()),
    }
}

/// Waits until a node's agent is in sync.
pub(super) fn await_agent(lab: &Lab, node: &Node) -> anyhow::Result<()> {
    let site = lab.site(node);
    let running = node.agent.context("its agent was not started")?;
    block_on(agent::await_in_sync(
        &site.agent_socket(),
        running.id(),
        &site.agent_log(),
    ))
    .with_context(|| format!("the agent of {}", node.name))
}
