//! What a lab is made of, on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use caracal_sys::{NetNs, ProcessId, read_optional, write_atomic};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cluster::cni::{NamedPort, PodNet};
use crate::cluster::datastore;
use crate::cluster::node::{Encap, Pools, Site};
use crate::prober::{FIRST_PORT, Listen, Transport};

/// The directory of all labs, unless the environment says otherwise.
const BASE: &str = "/var/lib/caracal/lab";
/// The environment variable that names another directory.
const BASE_ENV: &str = "CARACAL_LAB_DIR";
/// The shape of `state.json`.
const VERSION: u32 = 1;

/// Where the objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Datastore {
    /// `caracal store serve`.
    Embedded,
    /// A real etcd.
    Etcd,
}

/// What `up` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    pub(super) nodes: u16,
    pub(super) pods_per_node: u16,
    pub(super) encap: Encap,
    pub(super) datastore: Datastore,
    pub(super) dual_stack: bool,
}

impl Settings {
    /// As the command line has them.
    pub(super) fn flags(&self) -> String {
        format!(
            "--nodes {} --pods-per-node {} --encap {} --datastore {}{}",
            self.nodes,
            self.pods_per_node,
            word(self.encap),
            word(self.datastore),
            if self.dual_stack { " --dual-stack" } else { "" }
        )
    }
}

fn word(value: impl ValueEnum) -> String {
    let known = value.to_possible_value();
    known.map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// Where a lab is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// `up` has not come to its end.
    Starting,
    /// All there.
    Up,
    /// `down` has not come to its end.
    Ending,
}

/// A process that the lab started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) start_time: u64,
}

impl Process {
    pub(super) fn id(self) -> ProcessId {
        ProcessId {
            pid: self.pid,
            start_time: self.start_time,
        }
    }

    pub(super) fn is_alive(self) -> bool {
        self.id().is_alive()
    }
}

impl From<ProcessId> for Process {
    fn from(id: ProcessId) -> Self {
        Self {
            pid: id.pid,
            start_time: id.start_time,
        }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) name: String,
    /// From 1: the last part of its addresses.
    pub(super) index: u16,
    /// Whether its object is in the datastore.
    pub(super) prepared: bool,
    pub(super) agent: Option<Process>,
}

impl Node {
    /// Whether `name` means this node: its name, or its number alone.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name || name.parse() == Ok(self.index)
    }

    pub(super) fn agent_runs(&self) -> bool {
        self.agent.is_some_and(Process::is_alive)
    }
}

/// A port of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PodPort {
    pub(super) name: String,
    pub(super) protocol: Transport,
    pub(super) port: u16,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) service_account: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ports: Vec<PodPort>,
    pub(super) container_id: String,
    /// Given by the CNI plugin; empty before.
    pub(super) addresses: Vec<IpAddr>,
    /// The process that answers in it.
    pub(super) responder: Option<Process>,
    /// The source port of its next probe: see `prober`.
    pub(super) next_port: u16,
}

impl Pod {
    pub(super) fn new(namespace: &str, name: &str, node: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
            service_account: "default".to_owned(),
            labels: BTreeMap::new(),
            ports: Vec::new(),
            container_id: String::new(),
            addresses: Vec::new(),
            responder: None,
            next_port: FIRST_PORT,
        }
    }

    /// `namespace/name`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Gives it a container id that no other has had.
    pub(super) fn new_container(&mut self) {
        use sha1::{Digest, Sha1};
        use std::time::SystemTime;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let text = format!("{} {:?} {}", self.id(), now, std::process::id());
        self.container_id = Sha1::digest(text).iter().map(|b| format!("{b:02x}")).collect();
        self.addresses.clear();
        self.responder = None;
        self.next_port = FIRST_PORT;
    }

    pub(super) fn listen(&self) -> Vec<Listen> {
        let listen = |p: &PodPort| Listen {
            protocol: p.protocol,
            port: p.port,
        };
        let mut all: Vec<Listen> = self.ports.iter().map(listen).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// All of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    version: u32,
    pub(super) name: String,
    pub(super) phase: Phase,
    pub(super) settings: Settings,
    pub(super) datastore: Option<Process>,
    pub(super) nodes: Vec<Node>,
    /// By `namespace/name`.
    pub(super) pods: BTreeMap<String, Pod>,
}

/// A lab's directory, locked, with its state.
#[derive(Debug)]
pub(super) struct Lab {
    dir: PathBuf,
    pub(super) state: State,
    /// Held as long as this value: one command at a time works on a lab.
    _lock: File,
}

/// The directory of all labs.
pub(super) fn base() -> PathBuf {
    std::env::var_os(BASE_ENV).map_or_else(|| PathBuf::from(BASE), PathBuf::from)
}

fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    file.lock()?;
    Ok(file)
}

impl Lab {
    /// Opens a lab that exists; none if it does not.
    pub(super) fn find(name: &str) -> anyhow::Result<Option<Self>> {
        let dir = base().join(name);
        let lock = match lock(&dir) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("locking {}", dir.display())),
        };
        let path = dir.join("state.json");
        let Some(bytes) = read_optional(&path)? else {
            return Ok(None);
        };
        let state: State = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} cannot be read: remove the lab's parts by hand",
                path.display()
            )
        })?;
        if state.version != VERSION {
            bail!(
                "{} has version {}, this program knows {VERSION}: use the program that made the lab",
                path.display(),
                state.version
            );
        }
        Ok(Some(Self {
            dir,
            state,
            _lock: lock,
        }))
    }

    /// Opens a lab that has to be up.
    pub(super) fn open(name: &str) -> anyhow::Result<Self> {
        let Some(lab) = Self::find(name)? else {
            bail!("there is none: 'caracal lab up --name {name}' makes one");
        };
        if lab.state.phase == Phase::Ending {
            bail!("'lab down' was interrupted: run it again");
        }
        if lab.state.phase == Phase::Starting {
            bail!(
                "'lab up' has not come to its end: run it again with the same settings ({})",
                lab.state.settings.flags()
            );
        }
        Ok(lab)
    }

    /// Makes the directory and the first state of a new lab.
    pub(super) fn create(name: &str, settings: Settings) -> anyhow::Result<Self> {
        let dir = base().join(name);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let lock = lock(&dir).with_context(|| format!("locking {}", dir.display()))?;
        let nodes = (1..=settings.nodes).map(|index| Node {
            name: format!("node-{index}"),
            index,
            prepared: false,
            agent: None,
        });
        let mut lab = Self {
            dir,
            state: State {
                version: VERSION,
                name: name.to_owned(),
                phase: Phase::Starting,
                nodes: nodes.collect(),
                settings,
                datastore: None,
                pods: BTreeMap::new(),
            },
            _lock: lock,
        };
        lab.first_pods();
        lab.save()?;
        Ok(lab)
    }

    /// The pods that a new lab has.
    fn first_pods(&mut self) {
        let mut n = 0;
        let nodes: Vec<String> = self.state.nodes.iter().map(|n| n.name.clone()).collect();
        for node in nodes {
            for _ in 0..self.state.settings.pods_per_node {
                n += 1;
                let mut pod = Pod::new("default", &format!("pod-{n}"), &node);
                pod.labels.insert("app".to_owned(), pod.name.clone());
                pod.ports.push(PodPort {
                    name: "http".to_owned(),
                    protocol: Transport::Tcp,
                    port: 80,
                });
                pod.new_container();
                self.state.pods.insert(pod.id(), pod);
            }
        }
    }

    /// Writes the state.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(&self.state)?;
        write_atomic(&self.dir.join("state.json"), &json, 0o600)?;
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Where a process writes what it has to say.
    pub(super) fn log(&self, of: &str) -> PathBuf {
        self.logs().join(format!("{of}.log"))
    }

    /// What the names of all its network namespaces begin with. Names of labs have no dot, so it is no other lab's.
    pub(super) fn netns_prefix(&self) -> String {
        format!("{}.", self.state.name)
    }

    /// The namespace that joins the nodes.
    pub(super) fn fabric_netns(&self) -> String {
        format!("{}.fabric", self.state.name)
    }

    pub(super) fn datastore(&self) -> datastore::Datastore {
        let backend = match self.state.settings.datastore {
            Datastore::Embedded => datastore::Backend::Embedded,
            Datastore::Etcd => datastore::Backend::Etcd,
        };
        datastore::Datastore::new(backend, &self.dir.join("store"))
    }

    pub(super) fn pools(&self) -> Pools {
        Pools {
            encap: self.state.settings.encap,
            dual_stack: self.state.settings.dual_stack,
        }
    }

    /// A node as its programs see it.
    pub(super) fn site(&self, node: &Node) -> Site {
        Site {
            name: node.name.clone(),
            index: node.index,
            dir: self.dir.join("nodes").join(&node.name),
            logs: self.logs(),
            netns: format!("{}.{}", self.state.name, node.name),
            endpoints: self.datastore().node_endpoint(),
        }
    }

    /// A pod as the CNI plugin sees it.
    pub(super) fn with_net<T>(&self, pod: &Pod, work: impl FnOnce(&PodNet<'_>) -> T) -> anyhow::Result<T> {
        let site = self.site(self.node(&pod.node)?);
        let netns = self.pod_netns(pod);
        let named = |p: &PodPort| NamedPort {
            name: p.name.clone(),
            protocol: p.protocol,
            port: p.port,
        };
        Ok(work(&PodNet {
            site: &site,
            namespace: &pod.namespace,
            name: &pod.name,
            container_id: &pod.container_id,
            netns: &netns,
            labels: &pod.labels,
            ports: pod.ports.iter().map(named).collect(),
            service_account: &pod.service_account,
            addresses: Vec::new(),
            dual_stack: self.state.settings.dual_stack,
        }))
    }

    /// No namespace of Kubernetes has a dot, so this is no other pod's. A pod's name may be long, a file's may not.
    pub(super) fn pod_netns(&self, pod: &Pod) -> String {
        let name: String = pod.name.chars().take(150).collect();
        let id: String = pod.container_id.chars().take(6).collect();
        format!("{}.{}.{name}.{id}", self.state.name, pod.namespace)
    }

    /// The node of this name, or of this number.
    pub(super) fn node(&self, name: &str) -> anyhow::Result<&Node> {
        self.state.nodes.iter().find(|n| n.is(name)).ok_or_else(|| {
            let all: Vec<&str> = self.state.nodes.iter().map(|n| n.name.as_str()).collect();
            anyhow::anyhow!("there is no node {name:?}; there is {}", all.join(", "))
        })
    }

    pub(super) fn node_mut(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.node(name)?;
        let found = self.state.nodes.iter_mut().find(|n| n.is(name));
        Ok(found.expect("it was found a line above"))
    }

    /// The pod of `name` or `namespace/name`.
    pub(super) fn pod(&self, name: &str) -> anyhow::Result<&Pod> {
        if name.contains('/') {
            return (self.state.pods.get(name)).ok_or_else(|| anyhow::anyhow!("there is no pod {name:?}"));
        }
        let named: Vec<&Pod> = self.state.pods.values().filter(|p| p.name == name).collect();
        match named.as_slice() {
            [pod] => Ok(pod),
            [] => bail!("there is no pod {name:?}"),
            many => {
                let all: Vec<String> = many.iter().map(|p| p.id()).collect();
                bail!("there are several: {}", all.join(", "))
            }
        }
    }

    pub(super) fn open_pod(&self, pod: &Pod) -> anyhow::Result<NetNs> {
        Ok(NetNs::named(&self.pod_netns(pod))?)
    }
}
