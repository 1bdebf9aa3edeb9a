//! The objects of a cluster: from files and directories, or from the datastore.

use std::io::Read;
use std::path::{Path, PathBuf};

use caracal_analysis::{KINDS, State, give_addresses};
use caracal_store::{ListOptions, Store, StoreError};

use crate::Io;
use crate::failure::Failure;

/// Problems that are told one by one; the others are counted.
const SHOWN: usize = 20;

/// Reads the objects: of `files` if there are any, else of the datastore that `config` names.
pub(crate) fn state(io: &mut Io, files: &[PathBuf], config: Option<&Path>) -> Result<State, Failure> {
    if files.is_empty() {
        // What is missing there denies on the nodes too: nothing is made up.
        return from_datastore(io, config);
    }
    let mut state = from_files(io, files)?;
    state.complete();
    give_addresses(&mut [&mut state]);
    Ok(state)
}

fn from_datastore(io: &mut Io, config: Option<&Path>) -> Result<State, Failure> {
    let store = match &io.store {
        Some(store) => store.clone(),
        None => caracal_datastore::from_process(config)?.1,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (state, malformed) = runtime.map_err(Failure::Start)?.block_on(list(store.as_ref()))?;
    for problem in malformed {
        io.complain(&format!("warning: {problem}"));
    }
    Ok(state)
}

async fn list(store: &dyn Store) -> Result<(State, Vec<String>), Failure> {
    let mut state = State::default();
    let mut malformed = Vec::new();
    for kind in KINDS {
        match store.list_all(*kind, &ListOptions::default()).await {
            Ok(page) => {
                page.items.into_iter().for_each(|object| state.insert(object));
                malformed.extend(page.malformed.into_iter().map(|m| format!("{m}; it is left out")));
            }
            Err(StoreError::Unsupported { .. }) => {}
            Err(source) => return Err(Failure::Store { kind: *kind, source }),
        }
    }
    Ok((state, malformed))
}

fn from_files(io: &mut Io, paths: &[PathBuf]) -> Result<State, Failure> {
    let mut state = State::default();
    let mut problems = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            let read = io.input.read_to_string(&mut text);
            read.map_err(|e| Failure::input(format!("cannot read stdin: {e}")))?;
            state.read("stdin", &text, &mut problems);
            continue;
        }
        for file in manifests(path)? {
            let text = std::fs::read_to_string(&file).map_err(|e| cannot_read(&file, &e))?;
            state.read(&file.display().to_string(), &text, &mut problems);
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

fn cannot_read(path: &Path, e: &std::io::Error) -> Failure {
    Failure::input(format!("cannot read {}: {e}", path.display()))
}

/// The file itself, or the manifests of a directory and those below it, in the order of their names.
fn manifests(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let meta = std::fs::metadata(path).map_err(|e| cannot_read(path, &e))?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, &mut found)?;
    found.sort();
    if found.is_empty() {
        return Err(Failure::input(format!(
            "{} holds no .yaml, .yml or .json file",
            path.display()
        )));
    }
    Ok(found)
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir).map_err(|e| cannot_read(dir, &e))? {
        let entry = entry.map_err(|e| cannot_read(dir, &e))?;
        let path = entry.path();
        // A link is followed to a file, not into a directory: it might lead back here.
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
            && path.is_file()
        {
            found.push(path);
        }
    }
    Ok(())
}
