//! A file lock that keeps the plugins of one node from trying the same block at the same moment.
//!
//! It only saves wasted tries: what makes an assignment right is the compare-and-swap in the datastore. Without the
//! lock (a read-only disk, a holder that hangs) the call goes on.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

const DEFAULT_FILE: &str = "/var/run/calico/ipam.lock";

/// The longest wait. A holder needs milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct NodeLock(#[allow(dead_code, reason = "closing it unlocks")] Option<File>);

/// Takes the lock whose file the configuration may name.
pub(crate) async fn take(file: &str) -> NodeLock {
    let path = Path::new(if file.is_empty() { DEFAULT_FILE } else { file });
    match wait(path).await {
        Ok(file) => NodeLock(Some(file)),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "going on without the node's lock");
            NodeLock(None)
        }
    }
}

async fn wait(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(e),
    }
    // Not a task of the runtime, whose end would wait for it.
    let (send, receive) = oneshot::channel();
    std::thread::Builder::new()
        .name("node-lock".into())
        .spawn(move || {
            let locked = file.lock().map(|()| file);
            // Nobody listens any more when it took too long.
            let _ = send.send(locked);
        })?;
    timeout(LIMIT, receive)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map_err(io::Error::other)?
}
