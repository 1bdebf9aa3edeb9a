use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{ListOptions, Preconditions, Store, StoreError};
use caracal_store_embedded::{Engine, Listen, Options, Server};
use caracal_store_etcd::{EtcdSettings, EtcdStore};
use caracal_store_memory::MemoryStore;
use caracal_testkit::Etcd;
use caracal_wire::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, kv_client::KvClient};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

/// A column of the table of behaviours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    MemoryEtcd,
    MemoryKubernetes,
    Embedded,
    Etcd,
}

impl Column {
    pub(crate) const ALL: [Self; 4] = [
        Self::MemoryEtcd,
        Self::MemoryKubernetes,
        Self::Embedded,
        Self::Etcd,
    ];

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::MemoryEtcd => "memory as etcd",
            Self::MemoryKubernetes => "memory as Kubernetes",
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        }
    }

    /// Whether endpoints and profiles can only be read.
    pub(crate) fn derives(self) -> bool {
        self == Self::MemoryKubernetes
    }
}

/// A datastore, and what only its owner can do to it.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    fn store(&self) -> Arc<dyn Store>;

    fn column(&self) -> Column;

    /// Ends it and starts it again, or what comes nearest.
    async fn restart(&self);

    /// Forgets all history.
    async fn compact(&self);

    /// Puts a value that cannot be read under a network set's key.
    async fn spoil_network_set(&self, namespace: &str, name: &str);

    /// Deletes everything.
    async fn wipe(&self) {
        let store = self.store();
        for kind in Kind::ALL {
            let Ok(all) = store.list_all(*kind, &ListOptions::default()).await else {
                continue;
            };
            let unreadable = all.malformed.into_iter().filter_map(|e| match e {
                StoreError::Malformed { key, .. } => Some(key),
                _ => None,
            });
            for key in all.items.iter().map(Resource::key).chain(unreadable) {
                let _ = store.delete(&key, &Preconditions::default()).await;
            }
        }
    }
}

pub(crate) struct Memory(pub(crate) MemoryStore);

#[async_trait]
impl Backend for Memory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    fn column(&self) -> Column {
        if self.0.plays_kubernetes() {
            Column::MemoryKubernetes
        } else {
            Column::MemoryEtcd
        }
    }

    async fn restart(&self) {
        self.0.drop_watches();
    }

    async fn compact(&self) {
        self.0.compact();
    }

    async fn spoil_network_set(&self, namespace: &str, name: &str) {
        let key = ResourceKey::namespaced(Kind::NetworkSet, namespace, name);
        self.0.put_malformed(&key, "not JSON");
    }
}

/// The embedded store, served by this process.
pub(crate) struct Embedded {
    data: PathBuf,
    socket: PathBuf,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Embedded {
    pub(crate) async fn start(dir: &Path) -> Self {
        let mut embedded = Self {
            data: dir.join("data"),
            socket: dir.join("s.sock"),
            running: None,
        };
        embedded.serve().await;
        embedded
    }

    async fn serve(&mut self) {
        let engine = Engine::open(&self.data, Options::default()).unwrap();
        let listen = Listen {
            socket: Some(self.socket.clone()),
            ..Listen::default()
        };
        let server = Server::bind(engine, listen).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve(stopped).await.unwrap();
        });
        self.running = Some((stop, served));
    }

    async fn restart(&mut self) {
        if let Some((stop, served)) = self.running.take() {
            drop(stop);
            served.await.unwrap();
        }
        self.serve().await;
    }
}

/// What runs at the other end.
pub(crate) enum Host {
    Embedded(tokio::sync::Mutex<Embedded>),
    Etcd(Mutex<Etcd>),
}

/// Anything that speaks etcd's API.
pub(crate) struct Remote {
    pub(crate) store: EtcdStore,
    raw: KvClient<Channel>,
    server: Option<Host>,
}

impl Remote {
    pub(crate) fn embedded(server: Embedded) -> Self {
        let mut remote = Self::at(&format!("unix://{}", server.socket.display()));
        remote.server = Some(Host::Embedded(tokio::sync::Mutex::new(server)));
        remote
    }

    pub(crate) fn etcd(server: Etcd) -> Self {
        let mut remote = Self::at(&server.endpoint());
        remote.server = Some(Host::Etcd(Mutex::new(server)));
        remote
    }

    pub(crate) fn at(endpoint: &str) -> Self {
        let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect_lazy();
        Self {
            store: EtcdStore::new(&EtcdSettings::new([endpoint])).unwrap(),
            raw: KvClient::new(channel),
            server: None,
        }
    }

    pub(crate) async fn raw_put(&self, key: &str, value: &str) {
        let request = PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            ..PutRequest::default()
        };
        self.raw.clone().put(request).await.unwrap();
    }

    pub(crate) async fn raw_get(&self, key: &str) -> Option<serde_json::Value> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec().into(),
            ..RangeRequest::default()
        };
        let answer = self.raw.clone().range(request).await.unwrap().into_inner();
        answer
            .kvs
            .first()
            .map(|kv| serde_json::from_slice(&kv.value).unwrap())
    }
}

#[async_trait]
impl Backend for Remote {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn column(&self) -> Column {
        match self.server {
            Some(Host::Embedded(_)) => Column::Embedded,
            _ => Column::Etcd,
        }
    }

    async fn restart(&self) {
        match &self.server {
            Some(Host::Embedded(server)) => server.lock().await.restart().await,
            Some(Host::Etcd(server)) => server.lock().unwrap().restart(),
            None => panic!("this server belongs to somebody else"),
        }
    }

    async fn compact(&self) {
        let mut raw = self.raw.clone();
        let now = raw
            .range(RangeRequest {
                key: "/".into(),
                ..RangeRequest::default()
            })
            .await
            .unwrap()
            .into_inner();
        let request = CompactionRequest {
            revision: now.header.unwrap().revision,
            physical: true,
        };
        raw.compact(request).await.unwrap();
    }

    async fn spoil_network_set(&self, namespace: &str, name: &str) {
        let key = format!("/calico/resources/v3/projectcalico.org/networksets/{namespace}/{name}");
        self.raw_put(&key, "{\"spec\":{\"nets\":7}}").await;
    }
}
