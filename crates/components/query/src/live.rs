//! What agents tell of packets: `caracal watch drops` (those that policy denies, as they come) and `caracal top` (what
//! each rule decided).
//!
//! `decider` names who decided, `names` gives addresses the names of pods, `drops` and `top` are the programs.

mod cli;
mod decider;
mod drops;
mod names;
mod top;

use std::ffi::OsString;

use crate::Io;
use crate::agent::{self, Agent};
use crate::failure::Failure;
use crate::io::start;
use cli::{Agents, Top, Watch, WatchWhat};

/// The command line of `caracal watch`; `args[0]` is the program's name. The result is the exit code: 0, or 1 on any
/// error.
#[must_use]
pub fn watch(args: Vec<OsString>) -> i32 {
    watch_with(args, Io::process())
}

/// As [`watch`], reading and writing through `io`.
#[must_use]
pub fn watch_with(args: Vec<OsString>, io: Io) -> i32 {
    start::<Watch>("caracal watch", args, io, |cli, io| match cli.what {
        WatchWhat::Drops(drops) => block_on(drops::drops(&drops, io)),
    })
}

/// The command line of `caracal top`; `args[0]` is the program's name. The result is the exit code: 0, or 1 on any error.
#[must_use]
pub fn top(args: Vec<OsString>) -> i32 {
    top_with(args, Io::process())
}

/// As [`top`], reading and writing through `io`.
#[must_use]
pub fn top_with(args: Vec<OsString>, io: Io) -> i32 {
    start::<Top>("caracal top", args, io, |cli, io| block_on(top::top(&cli, io)))
}

fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::Start)?.block_on(task)
}

/// The agents that are asked: this node's, or those of `--agent`, as far as `--node` wants them.
async fn agents(of: &Agents) -> Result<Vec<Agent>, Failure> {
    let sockets = if of.agent.is_empty() {
        vec![agent::socket()]
    } else {
        of.agent.clone()
    };
    let mut found = Vec::new();
    for socket in &sockets {
        found.push(agent::connect(socket).await?);
    }
    let known: Vec<String> = found.iter().map(|a| a.node.clone()).collect();
    for wanted in &of.node {
        if !known.contains(wanted) {
            return Err(Failure::input(format!(
                "--node {wanted}: the agents asked are those of {}; --agent names the socket of another",
                known.join(", ")
            )));
        }
    }
    if !of.node.is_empty() {
        found.retain(|a| of.node.contains(&a.node));
    }
    Ok(found)
}
