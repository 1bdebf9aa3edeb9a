//! What a run makes and takes away again: network namespaces and a directory, both named after the run's process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use caracal_sys::{NetNs, ProcessId, processes_in};

use super::{mountpoints, process};

/// The names of a run.
pub(crate) struct Temporary {
    base: &'static str,
    prefix: &'static str,
    /// Process number and start time.
    run: String,
}

impl Temporary {
    /// Makes the run's directory under `base`, and removes what killed runs left there and of namespaces whose names
    /// begin with `prefix`.
    pub(crate) fn start(base: &'static str, prefix: &'static str) -> anyhow::Result<Self> {
        fs::create_dir_all(base).with_context(|| format!("making {base}"))?;
        let own = ProcessId::own()?;
        let run = format!("{}-{}", own.pid, own.start_time);
        let temporary = Self { base, prefix, run };
        temporary.sweep().context("removing what an earlier run left")?;
        let dir = temporary.dir();
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        mountpoints::prepare(Path::new(base))?;
        Ok(temporary)
    }

    /// The run's directory.
    pub(crate) fn dir(&self) -> PathBuf {
        Path::new(self.base).join(&self.run)
    }

    /// A name for a network namespace.
    pub(crate) fn netns(&self, of: &str) -> String {
        self.netns_of(&self.run, of)
    }

    fn netns_of(&self, run: &str, of: &str) -> String {
        format!("{}-{run}-{of}", self.prefix)
    }

    /// Ends the programs, the first ones first, and removes everything.
    pub(crate) fn end(&self, programs: &[&[ProcessId]]) {
        let ended = programs.iter().try_for_each(|ids| process::end(ids, true));
        let outcome = ended
            .context("ending the programs")
            .and_then(|()| self.remove(&self.run))
            .and_then(|()| mountpoints::tidy(Path::new(self.base)));
        if let Err(e) = outcome {
            eprintln!("warning: the network could not be removed: {e:#}; the next run tries again");
        }
        // Another run may still be there.
        let _ = fs::remove_dir(self.base);
    }

    /// Removes the namespaces and files of a run.
    fn remove(&self, run: &str) -> anyhow::Result<()> {
        let prefix = self.netns_of(run, "");
        for name in NetNs::list()?.iter().filter(|n| n.starts_with(&prefix)) {
            if let Ok(netns) = NetNs::named(name) {
                process::end(&processes_in(netns.id())?, false)?;
            }
            NetNs::delete(name)?;
        }
        let dir = Path::new(self.base).join(run);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("removing {}", dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes what runs left whose process is gone.
    fn sweep(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.base)
            .with_context(|| format!("reading {}", self.base))?
            .flatten()
        {
            let Ok(run) = entry.file_name().into_string() else {
                continue;
            };
            let Some((Ok(pid), Ok(start_time))) = run.split_once('-').map(|(p, s)| (p.parse(), s.parse()))
            else {
                continue;
            };
            if !(ProcessId { pid, start_time }).is_alive() {
                self.remove(&run)?;
            }
        }
        Ok(())
    }
}
