use std::sync::Arc;

use async_trait::async_trait;
use caracal_api::{Kind, ResourceKey};
use caracal_store::{ListOptions, Preconditions, Store};
use caracal_store_etcd::{EtcdSettings, EtcdStore};
use caracal_store_memory::MemoryStore;
use caracal_wire::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, kv_client::KvClient};
use tonic::transport::{Channel, Endpoint};

/// A datastore, and what only its owner can do to it.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    fn store(&self) -> Arc<dyn Store>;

    /// Whether endpoints and profiles can only be read.
    fn derives(&self) -> bool {
        false
    }

    /// Whether it limits the size of an object.
    fn limits_size(&self) -> bool {
        true
    }

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
            for item in all.items {
                let _ = store.delete(&item.key(), &Preconditions::default()).await;
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

    fn derives(&self) -> bool {
        self.0.plays_kubernetes()
    }

    fn limits_size(&self) -> bool {
        false
    }

    async fn compact(&self) {
        self.0.compact();
    }

    async fn spoil_network_set(&self, namespace: &str, name: &str) {
        let key = ResourceKey::namespaced(Kind::NetworkSet, namespace, name);
        self.0.put_malformed(&key, "not JSON");
    }
}

/// Anything that speaks etcd's API.
pub(crate) struct Remote {
    pub(crate) store: EtcdStore,
    raw: KvClient<Channel>,
}

impl Remote {
    pub(crate) fn at(endpoint: &str) -> Self {
        let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect_lazy();
        Self {
            store: EtcdStore::new(&EtcdSettings::new([endpoint])).unwrap(),
            raw: KvClient::new(channel),
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
