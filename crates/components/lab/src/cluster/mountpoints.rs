//! Directories of the machine that nodes need as mount points and that were not there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use caracal_sys::{MountPlan, read_optional, write_atomic};
use nix::sys::stat::{major, minor};

/// Where they are written down, in the directory of all clusters.
const FILE: &str = "made-directories.json";

/// What a node sees of its own, and the name of the directory behind it.
const OWN: [(&str, &str); 4] = [
    ("run", "/run/calico"),
    ("lib", "/var/lib/calico"),
    ("etc", "/etc/calico"),
    ("cni", "/etc/cni"),
];

/// What a node sees of its own, given its directory.
pub(crate) fn plan(node_dir: &Path) -> MountPlan {
    let bind = |(name, target): (&str, &str)| (node_dir.join(name), PathBuf::from(target));
    MountPlan {
        binds: OWN.map(bind).to_vec(),
        empty: Vec::new(),
    }
}

/// Makes `base`, the directory of all clusters, and the mount points, and notes there which of them were missing.
pub(crate) fn prepare(base: &Path) -> anyhow::Result<()> {
    let mut made = read(base)?;
    let missing: Vec<PathBuf> = OWN
        .iter()
        .map(|(_, target)| PathBuf::from(target))
        .chain([base.to_owned()])
        .flat_map(|path| missing_parts(&path))
        .filter(|path| !made.contains(path))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    made.extend(missing);
    made.sort();
    made.dedup();
    write_atomic(&base.join(FILE), &serde_json::to_vec_pretty(&made)?, 0o600)?;
    for path in &made {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    }
    Ok(())
}

/// Once the last cluster is gone from `base`, removes what was made, if it is empty and nobody uses it as a mount point.
pub(crate) fn tidy(base: &Path) -> anyhow::Result<()> {
    let others = match fs::read_dir(base) {
        Ok(entries) => entries.flatten().any(|e| e.path().is_dir()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("reading {}", base.display())),
    };
    if others {
        return Ok(());
    }
    let mut made = read(base)?;
    caracal_sys::remove_optional(&base.join(FILE))?;
    // What lies deepest goes first.
    made.reverse();
    for path in made {
        if !mounted_anywhere(&path) {
            // Someone has put something there meanwhile: then it is theirs.
            let _ = fs::remove_dir(&path);
        }
    }
    Ok(())
}

fn read(base: &Path) -> anyhow::Result<Vec<PathBuf>> {
    match read_optional(&base.join(FILE))? {
        Some(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("{}", base.join(FILE).display()))
        }
        None => Ok(Vec::new()),
    }
}

/// The path and those of its parents that do not exist, the highest first.
fn missing_parts(path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|p| !p.exists())
        .map(Path::to_path_buf)
        .collect();
    missing.reverse();
    missing
}

/// Whether something is mounted on this very directory in the mount namespace of any process: removing the directory
/// would undo that.
fn mounted_anywhere(path: &Path) -> bool {
    let Ok(meta) = fs::metadata(path) else {
        return false;
    };
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    let device = format!("{}:{}", major(meta.dev()), minor(meta.dev()));
    let wanted = path.as_os_str().to_string_lossy();
    processes
        .flatten()
        .filter_map(|p| fs::read_to_string(p.path().join("mountinfo")).ok())
        .any(|text| is_mount_point(&text, &wanted, &device))
}

/// Whether a `mountinfo` has a mount point of this path on a file system of this device. Elsewhere the same path may be
/// another directory.
fn is_mount_point(mountinfo: &str, path: &str, device: &str) -> bool {
    // Number, parent's number, device, root, mount point; none of ours has a character that would be escaped.
    let mounts = || {
        mountinfo
            .lines()
            .map(|line| line.split(' ').take(5).collect::<Vec<_>>())
    };
    let here = mounts().filter(|m| m.get(4) == Some(&path));
    let on_device = |parent: &str| mounts().any(|m| m.first() == Some(&parent) && m.get(2) == Some(&device));
    here.into_iter()
        .any(|m| m.get(1).is_some_and(|parent| on_device(parent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_come_from_the_top() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert_eq!(missing_parts(&deep), [dir.path().join("a"), deep.clone()]);
        fs::create_dir_all(&deep).unwrap();
        assert!(missing_parts(&deep).is_empty());
    }

    #[test]
    fn a_mount_point_is_one_on_the_same_file_system() {
        let info = "21 1 8:1 / / rw - ext4 /dev/a rw\n\
                    30 21 0:25 / /run rw - tmpfs t rw\n\
                    31 30 8:1 /x /run/calico rw - ext4 /dev/a rw\n";
        assert!(is_mount_point(info, "/run", "8:1"));
        assert!(is_mount_point(info, "/run/calico", "0:25"));
        assert!(!is_mount_point(info, "/run/calico", "0:26"));
        assert!(!is_mount_point(info, "/run/other", "0:25"));
        assert!(!mounted_anywhere(Path::new("/nowhere/at/all")));
    }
}
