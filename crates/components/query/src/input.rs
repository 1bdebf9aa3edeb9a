//! The objects of a cluster: from files and directories, or from the datastore.

use std::path::{Path, PathBuf};

use caracal_analysis::{State, give_addresses};
use caracal_manifests::{Depth, live};
use caracal_store::clock;

use crate::Io;
use crate::failure::Failure;

/// Problems that are told one by one; the others are counted.
const SHOWN: usize = 20;

/// Reads the objects: of `files` if there are any, else of the datastore that `config` names.
pub(crate) fn state(io: &mut Io, files: &[PathBuf], config: Option<&Path>) -> Result<State, Failure> {
    let mut state = if files.is_empty() {
        // What is missing there denies on the nodes too: nothing is made up.
        from_datastore(io, config)?
    } else {
        from_files(io, files)?
    };
    for note in state.settle_trials(clock()) {
        io.complain(&format!("note: {note}"));
    }
    if !files.is_empty() {
        state.complete();
        give_addresses(&mut [&mut state]);
    }
    Ok(state)
}

fn from_datastore(io: &mut Io, config: Option<&Path>) -> Result<State, Failure> {
    let store = match &io.store {
        Some(store) => store.clone(),
        None => caracal_datastore::from_process(config)?.1,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let live = runtime.map_err(Failure::Start)?.block_on(live(store.as_ref()))?;
    for problem in live.unreadable {
        io.complain(&format!("warning: {problem}; it is left out"));
    }
    Ok(live.state)
}

fn from_files(io: &mut Io, paths: &[PathBuf]) -> Result<State, Failure> {
    let mut state = State::default();
    let mut problems = Vec::new();
    for path in paths {
        let texts = caracal_manifests::texts(path, Depth::Recursive, &mut io.input);
        for (source, text) in texts.map_err(|e| Failure::input(e.to_string()))? {
            state.read(&source, &text, &mut problems);
        }
    }
    if problems.is_empty() {
        return Ok(state);
    }
    let mut text = problems
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n");
    if problems.len() > SHOWN {
        text += &format!("\n… and {} more problems", problems.len() - SHOWN);
    }
    Err(Failure::Input(text))
}
