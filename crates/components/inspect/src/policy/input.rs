//! Paths to states.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use caracal_analysis::{KINDS, State};
use caracal_store::{ListOptions, Store, StoreError};

use super::Io;

/// The word for the datastore in the place of a path.
const LIVE: &str = "live";

/// Reads states; the datastore is read once.
pub(super) struct Reader<'a> {
    config: Option<&'a Path>,
    live: Option<State>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(config: Option<&'a Path>) -> Self {
        Self { config, live: None }
    }

    /// One state of several paths, later ones over earlier ones. What every cluster has is added, but to the datastore
    /// alone: that is taken as it is.
    pub(super) fn state(&mut self, paths: &[&Path], io: &mut Io<'_>) -> anyhow::Result<State> {
        let mut state = State::default();
        let mut problems = Vec::new();
        for path in paths {
            if path.as_os_str() == LIVE {
                state.overlay(self.live(io)?);
                continue;
            }
            let mut own = State::default();
            for (source, text) in texts(path, io)? {
                own.read(&source, &text, &mut problems);
            }
            state.overlay(own);
        }
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        if paths.iter().any(|p| p.as_os_str() != LIVE) {
            state.complete();
        }
        let skipped: Vec<&str> = state.skipped().collect();
        if !skipped.is_empty() {
            io.remark(&format!(
                "left out, since they say nothing about policy: {}",
                skipped.join(", ")
            ));
        }
        Ok(state)
    }

    fn live(&mut self, io: &mut Io<'_>) -> anyhow::Result<State> {
        if let Some(state) = &self.live {
            return Ok(state.clone());
        }
        let store = match &io.store {
            Some(store) => store.clone(),
            None => caracal_datastore::from_process(self.config)?.1,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (state, malformed) = runtime
            .block_on(read_store(&*store))
            .with_context(|| format!("reading {}", store.describe()))?;
        for one in malformed {
            io.remark(&format!("left out, since it cannot be read: {one}"));
        }
        Ok(self.live.insert(state).clone())
    }
}

async fn read_store(store: &dyn Store) -> Result<(State, Vec<String>), StoreError> {
    let mut state = State::default();
    let mut malformed = Vec::new();
    for kind in KINDS {
        let page = match store.list_all(*kind, &ListOptions::default()).await {
            Err(StoreError::Unsupported { .. }) => continue,
            other => other?,
        };
        page.items.into_iter().for_each(|o| state.insert(o));
        malformed.extend(page.malformed.iter().map(ToString::to_string));
    }
    Ok((state, malformed))
}

/// The texts behind a path, with their names.
pub(super) fn texts(path: &Path, io: &mut Io<'_>) -> anyhow::Result<Vec<(String, String)>> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        io.input
            .read_to_string(&mut text)
            .context("reading standard input")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let files = if path.is_dir() {
        manifests_in(path)?
    } else {
        vec![path.to_owned()]
    };
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(read).collect()
}

fn manifests_in(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = || format!("reading {}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(name)? {
        let path = entry.with_context(name)?.path();
        let known = |e: &std::ffi::OsStr| e == "yaml" || e == "yml" || e == "json";
        if path.is_file() && path.extension().is_some_and(known) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{}: no file ends in .yaml, .yml or .json", dir.display());
    }
    found.sort();
    Ok(found)
}
