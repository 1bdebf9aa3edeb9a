use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs, statfs};

use crate::SysError;

/// Where named network namespaces live, for us as for iproute2.
pub const NETNS_DIR: &str = "/run/netns";

/// The namespace of the calling thread; `/proc/self` would be that of the main thread.
const OWN: &str = "/proc/thread-self/ns/net";

const NO_TEXT: Option<&str> = None;

/// What tells two network namespaces apart: device and inode of their nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetNsId {
    /// Device of the nsfs file system.
    pub device: u64,
    /// Inode in it; the number that `lsns` prints.
    pub inode: u64,
}

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    id: NetNsId,
    name: String,
}

impl NetNs {
    /// Makes a new namespace that stays until [`NetNs::delete`], under `/run/netns/NAME`, as
    /// `ip netns add` would. Everything in it is down, the loopback device included.
    pub fn create(name: &str) -> Result<Self, SysError> {
        let path = path_of(name)?;
        prepare_dir()?;
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
        {
            Ok(_) => {}
            // A file without a namespace on it is what an interrupted create or delete left.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !is_nsfs(&path) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(SysError::NetNsExists(name.to_owned()));
            }
            Err(e) => return Err(SysError::file("create", &path, e)),
        }
        let made = on_thread("netns-create", || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| SysError::netns("make", name, e))?;
            mount(Some(OWN), &path, NO_TEXT, MsFlags::MS_BIND, NO_TEXT)
                .map_err(|e| SysError::netns("keep", name, e))
        });
        if let Err(error) = made {
            // The first error is the one to report.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Self::named(name)
    }

    /// Makes a new namespace without a name: it ends with this value and the last process in it.
    pub fn anonymous() -> Result<Self, SysError> {
        on_thread("netns-create", || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| SysError::netns("make", "(unnamed)", e))?;
            Self::current()
        })
    }

    /// Removes the name; the namespace ends when nobody uses it any more. Tells whether it was there.
    pub fn delete(name: &str) -> Result<bool, SysError> {
        let path = path_of(name)?;
        match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: a plain file, left by an interrupted create.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(e) => return Err(SysError::netns("unmount", name, e)),
        }
        crate::remove_optional(&path)
    }

    /// The names under `/run/netns`, sorted.
    pub fn list() -> Result<Vec<String>, SysError> {
        let entries = match fs::read_dir(NETNS_DIR) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(SysError::file("read", NETNS_DIR, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| SysError::file("read", NETNS_DIR, e))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// Opens a namespace by its name under `/run/netns`.
    pub fn named(name: &str) -> Result<Self, SysError> {
        match Self::open(&path_of(name)?) {
            Ok(ns) => Ok(Self {
                name: name.to_owned(),
                ..ns
            }),
            Err(SysError::NetNsMissing(_)) => Err(SysError::NetNsMissing(name.to_owned())),
            Err(e) => Err(e),
        }
    }

    /// Opens a namespace by any path that stands for one, as `CNI_NETNS` does.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => SysError::NetNsMissing(name.clone()),
            _ => SysError::netns("open", &name, e),
        })?;
        let kind = fstatfs(&file).map_err(|e| SysError::netns("inspect", &name, e))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(SysError::NotNetNs(path.to_owned()));
        }
        let meta = file
            .metadata()
            .map_err(|e| SysError::netns("inspect", &name, e))?;
        Ok(Self {
            file,
            id: NetNsId {
                device: meta.dev(),
                inode: meta.ino(),
            },
            name,
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, SysError> {
        Self::open(Path::new(OWN))
    }

    /// The namespace of another process.
    pub fn of_process(pid: u32) -> Result<Self, SysError> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// The name or path it was opened by, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into this namespace for the rest of its life. Threads and processes
    /// that it starts are born there.
    pub fn enter(&self) -> Result<(), SysError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| SysError::netns("enter", &self.name, e))
    }

    /// Does `work` inside this namespace, on the calling thread, and comes back to the namespace in which that was. Much
    /// cheaper than [`NetNs::run`]; only for what is short, starts nothing that lives on, and does not end the process.
    ///
    /// # Errors
    /// When the thread's own namespace cannot be looked at, or this one not be entered; then `work` was not begun.
    ///
    /// # Panics
    /// When the way back is barred: whatever the thread did next would be done in the wrong place.
    pub fn visit<T>(&self, work: impl FnOnce() -> T) -> Result<T, SysError> {
        let own = File::open(OWN).map_err(|e| SysError::netns("open", OWN, e))?;
        self.enter()?;
        let _back = Back(own);
        Ok(work())
    }

    /// Runs `work` inside this namespace, on a thread of its own, and waits for it. Sockets it opens
    /// and processes it starts belong to this namespace. A panic in `work` is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SysError> {
        on_thread("netns-run", || {
            self.enter()?;
            Ok(work())
        })
    }
}

/// Brings the thread back, also when `work` panics.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .expect("the right to enter the other namespace is the right to enter the thread's own");
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn path_of(name: &str) -> Result<PathBuf, SysError> {
    let usable = !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']);
    if !usable || name == "." || name == ".." {
        return Err(SysError::NetNsName(name.to_owned()));
    }
    Ok(Path::new(NETNS_DIR).join(name))
}

fn is_nsfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == NSFS_MAGIC)
}

/// Makes `/run/netns` a shared mount, as iproute2 does: else a mount namespace that was copied while a
/// name existed would keep that network namespace alive after its deletion.
fn prepare_dir() -> Result<(), SysError> {
    let dir = Path::new(NETNS_DIR);
    fs::create_dir_all(dir).map_err(|e| SysError::file("create", dir, e))?;
    let share = || {
        mount(
            NO_TEXT,
            dir,
            NO_TEXT,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            NO_TEXT,
        )
    };
    match share() {
        Err(nix::Error::EINVAL) => {
            mount(
                Some(dir),
                dir,
                NO_TEXT,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                NO_TEXT,
            )
            .map_err(|e| SysError::mount("bind", dir, e))?;
            share().map_err(|e| SysError::mount("share mounts", dir, e))
        }
        Err(e) => Err(SysError::mount("share mounts", dir, e)),
        Ok(()) => Ok(()),
    }
}

/// Runs `work` on a new thread, so that what it does to its namespaces dies with it.
pub(crate) fn on_thread<T: Send>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, SysError> + Send,
) -> Result<T, SysError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| SysError::Thread { name, source })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
