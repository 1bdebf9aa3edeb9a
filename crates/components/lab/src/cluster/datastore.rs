//! The datastore of a cluster: `caracal store serve`, or a real etcd.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caracal_api::Kind;
use caracal_datastore::Settings;
use caracal_net::Family;
use caracal_store::{ListOptions, Store};
use caracal_sys::{NetNs, ProcessId};

use super::{fabric, process};

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(30);
/// Between two looks whether it answers.
const PAUSE: Duration = Duration::from_millis(5);
/// The port of etcd on the fabric.
const ETCD_PORT: u16 = 2379;

/// Which datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Our own store.
    Embedded,
    /// A real etcd, which must be installed.
    Etcd,
}

/// A datastore in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Datastore {
    backend: Backend,
    dir: PathBuf,
}

impl Datastore {
    /// The datastore whose files are in `dir`.
    pub(crate) fn new(backend: Backend, dir: &Path) -> Self {
        Self {
            backend,
            dir: dir.to_owned(),
        }
    }

    /// The unix socket: it belongs to no network namespace, so this machine reaches it, too.
    fn socket(&self) -> PathBuf {
        self.dir.join(match self.backend {
            Backend::Embedded => "store.sock",
            // Up to 3.4 etcd wants a host and a port here, and makes a file of that name in its working directory.
            Backend::Etcd => "etcd:1",
        })
    }

    /// What `ETCD_ENDPOINTS` says on this machine.
    pub(crate) fn local_endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What `ETCD_ENDPOINTS` says on the nodes.
    pub(crate) fn node_endpoint(&self) -> String {
        match self.backend {
            Backend::Embedded => self.local_endpoint(),
            Backend::Etcd => format!("http://{}:{ETCD_PORT}", fabric::gateway(Family::V4).addr),
        }
    }

    /// A connection from this machine; nothing is sent yet.
    pub(crate) fn connect(&self) -> anyhow::Result<Arc<dyn Store>> {
        let socket = self.socket().display().to_string();
        Ok(caracal_datastore::connect(&Settings::Embedded { socket })?)
    }

    /// Starts it on the fabric.
    pub(crate) fn start(&self, fabric: &NetNs, log: &Path) -> anyhow::Result<ProcessId> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        caracal_sys::remove_optional(&self.socket())?;
        let mut command = match self.backend {
            Backend::Embedded => self.embedded(),
            Backend::Etcd => self.etcd()?,
        };
        process::start(&mut command, fabric, None, log, false).context("starting the datastore")
    }

    fn embedded(&self) -> Command {
        let mut command = process::caracal();
        command
            .args(["store", "serve", "--data"])
            .arg(self.dir.join("data"));
        command.arg("--socket").arg(self.socket());
        command
    }

    fn etcd(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(find_etcd()?);
        process::clean(&mut command);
        let client = self.node_endpoint();
        let peer = "http://127.0.0.1:2380";
        command
            .current_dir(&self.dir)
            .args(["--name", "lab", "--data-dir", "data"])
            .args(["--listen-client-urls", &format!("{client},unix://etcd:1")])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", &format!("lab={peer}")]);
        Ok(command)
    }

    /// Waits until it answers.
    pub(crate) async fn wait(&self, id: ProcessId, log: &Path) -> anyhow::Result<Arc<dyn Store>> {
        let store = self.connect()?;
        let deadline = Instant::now() + START;
        let look = ListOptions {
            limit: 1,
            ..ListOptions::default()
        };
        loop {
            let error = if self.socket().exists() {
                match store.list(Kind::Tier, &look).await {
                    Ok(_) => return Ok(store),
                    Err(e) => e.to_string(),
                }
            } else {
                "its socket is not there".to_owned()
            };
            if !id.is_alive() {
                bail!("the datastore ended:\n{}", process::tail(log));
            }
            if Instant::now() > deadline {
                bail!("the datastore does not answer: {error}\n{}", process::tail(log));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn find_etcd() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&path)
        .map(|dir| dir.join("etcd"))
        .find(|file| file.is_file())
        .context("etcd is not installed (on Debian: apt install etcd-server), or use --datastore embedded")
}
