//! Paths to states.

use std::path::Path;

use anyhow::{Context, bail};
use caracal_analysis::State;
use caracal_api::Stamp;
use caracal_manifests::{Depth, live};
use caracal_store::clock;

use super::Io;

/// The word for the datastore in the place of a path.
const LIVE: &str = "live";

/// Reads states; the datastore is read once.
pub(super) struct Reader<'a> {
    config: Option<&'a Path>,
    live: Option<State>,
    /// All states are those of one moment.
    now: Stamp,
}

impl<'a> Reader<'a> {
    pub(super) fn new(config: Option<&'a Path>) -> Self {
        Self {
            config,
            live: None,
            now: clock(),
        }
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
        for note in state.settle_trials(self.now) {
            io.remark(&note);
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
        let live = runtime
            .block_on(live(&*store))
            .with_context(|| format!("reading {}", store.describe()))?;
        for one in live.unreadable {
            io.remark(&format!("left out, since it cannot be read: {one}"));
        }
        Ok(self.live.insert(live.state).clone())
    }
}

/// The texts behind a path, with their names.
pub(super) fn texts(path: &Path, io: &mut Io<'_>) -> anyhow::Result<Vec<(String, String)>> {
    Ok(caracal_manifests::texts(path, Depth::Flat, &mut io.input)?)
}
