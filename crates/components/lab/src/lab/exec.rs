//! Commands inside pods and on nodes.

use std::ffi::OsString;
use std::process::Command;

use super::state::Lab;
use crate::cluster::process;
use crate::explain::explain;

fn command(words: &[OsString]) -> anyhow::Result<Command> {
    let (program, args) = words
        .split_first()
        .ok_or_else(|| anyhow::anyhow!("no command is given"))?;
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

/// Runs a command in a pod's network; its exit code.
pub(super) fn in_pod(lab: &str, pod: &str, words: &[OsString]) -> anyhow::Result<i32> {
    let lab = Lab::open(lab)?;
    let netns = lab.open_pod(lab.pod(pod)?)?;
    // The lab is free for others while the command runs.
    drop(lab);
    Ok(ended(process::attend(&mut command(words)?, &netns, None)))
}

/// Runs a command on a node: in its network, with its directories, and with the datastore in its environment.
pub(super) fn on_node(lab: &str, node: &str, words: &[OsString]) -> anyhow::Result<i32> {
    let lab = Lab::open(lab)?;
    let site = lab.site(lab.node(node)?);
    drop(lab);
    Ok(ended(site.run(&mut command(words)?)))
}

/// As shells have it: 127 for what cannot be started.
fn ended(outcome: anyhow::Result<i32>) -> i32 {
    outcome.unwrap_or_else(|e| {
        eprintln!("caracal lab: {}", explain(&e));
        127
    })
}
