//! `lab down`.

use std::fs;
use std::io;

use anyhow::Context;
use caracal_sys::{NetNs, ProcessId, SysError, processes_in};

use super::progress::Progress;
use super::state::{Lab, Phase, Process, base};
use crate::cluster::{mountpoints, process};

/// Removes all of a lab; does nothing when there is none.
pub(super) fn down(name: &str) -> anyhow::Result<i32> {
    let Some(mut lab) = Lab::find(name)? else {
        // What an interrupted first or last step left.
        remove_dir(&base().join(name))?;
        mountpoints::tidy(&base())?;
        println!("lab {name:?} does not exist");
        return Ok(0);
    };
    let progress = Progress::new();
    lab.state.phase = Phase::Ending;
    lab.save()?;
    let names = namespaces(&lab)?;
    progress.step("ending processes");
    process::end(&processes(&lab, &names)?, false)?;
    progress.step(format!("removing {} network namespaces", names.len()));
    for netns in &names {
        NetNs::delete(netns)?;
    }
    progress.step("removing files");
    // The state goes last, so that this can be run again until then.
    for entry in fs::read_dir(lab.dir())?.flatten() {
        if entry.file_name() != "state.json" {
            let path = entry.path();
            let removed = if path.is_dir() {
                remove_dir(&path)
            } else {
                Ok(fs::remove_file(&path)?)
            };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
    }
    remove_dir(lab.dir())?;
    mountpoints::tidy(&base())?;
    drop(progress);
    println!("lab {name:?} is gone");
    Ok(0)
}

fn remove_dir(path: &std::path::Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn namespaces(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let prefix = lab.netns_prefix();
    let mut names = NetNs::list()?;
    names.retain(|n| n.starts_with(&prefix));
    Ok(names)
}

/// What the state knows of, and whoever else is in the lab's namespaces: what an interrupted `up` had no time to write
/// down, and commands of `lab exec`.
fn processes(lab: &Lab, netns: &[String]) -> anyhow::Result<Vec<ProcessId>> {
    let state = &lab.state;
    let known = state.nodes.iter().filter_map(|n| n.agent).chain(state.datastore);
    let known = known.chain(state.pods.values().filter_map(|p| p.responder));
    let mut all: Vec<ProcessId> = known.map(Process::id).collect();
    for name in netns {
        match NetNs::named(name) {
            Ok(netns) => all.extend(processes_in(netns.id())?),
            Err(SysError::NetNsMissing(_) | SysError::NotNetNs(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
