use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::netns::on_thread;
use crate::{NetNs, SysError};

const NO_TEXT: Option<&str> = None;

/// What a mount namespace of its own shows differently from the machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPlan {
    /// `(directory outside, where it appears inside)`; the outside directory is created if missing.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Directories that become empty and private. They come before the binds, so a bind may lie in one.
    pub empty: Vec<PathBuf>,
}

impl MountPlan {
    /// Gives the calling thread a mount namespace of its own with this plan applied. What is mounted
    /// later does not reach the machine; the machine's later mounts do not come in, except below
    /// `/run/netns`, so that a deleted network namespace is not kept alive.
    ///
    /// Mount points that are missing are created in the file system they fall into: put them below an
    /// `empty` directory if the machine's should stay as it is.
    pub fn enter(&self) -> Result<(), SysError> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| SysError::mount("make a mount namespace", "/", e))?;
        // Slave, not private: an unmount outside (a deleted namespace's name) must be seen in here.
        mount(
            NO_TEXT,
            "/",
            NO_TEXT,
            MsFlags::MS_SLAVE | MsFlags::MS_REC,
            NO_TEXT,
        )
        .map_err(|e| SysError::mount("separate mounts", "/", e))?;
        for target in &self.empty {
            mount_empty(target)?;
        }
        for (source, target) in &self.binds {
            fs::create_dir_all(source).map_err(|e| SysError::file("create", source, e))?;
            fs::create_dir_all(target).map_err(|e| SysError::file("create", target, e))?;
            mount(
                Some(source.as_path()),
                target.as_path(),
                NO_TEXT,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                NO_TEXT,
            )
            .map_err(|e| SysError::mount("bind", target, e))?;
        }
        Ok(())
    }
}

fn mount_empty(target: &Path) -> Result<(), SysError> {
    fs::create_dir_all(target).map_err(|e| SysError::file("create", target, e))?;
    mount(
        Some("caracal"),
        target,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755"),
    )
    .map_err(|e| SysError::mount("mount a tmpfs", target, e))
}

/// Starts `command` in another network namespace, in a mount namespace of its own, or both. The calling
/// thread stays where it is.
pub fn spawn_in(
    command: &mut Command,
    netns: Option<&NetNs>,
    mounts: Option<&MountPlan>,
) -> Result<Child, SysError> {
    on_thread("spawn", || {
        if let Some(mounts) = mounts {
            mounts.enter()?;
        }
        if let Some(netns) = netns {
            netns.enter()?;
        }
        command.spawn().map_err(|source| SysError::Spawn {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })
    })
}
