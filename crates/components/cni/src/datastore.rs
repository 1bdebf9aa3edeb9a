//! Which datastore: the configuration's fields first, then the environment, then the embedded store's socket.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use caracal_api::{Kind, Resource, ResourceKey};
use caracal_datastore::{DatastoreError, Settings};
use caracal_store::{ListOptions, Page, Preconditions, Store, StoreError, WatchFrom, WatchStream};

use crate::{
    error::{CniError, Code},
    netconf::NetConf,
};

/// The environment with the configuration's fields in it.
fn settings_env(conf: &NetConf, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let authority = if conf.etcd_authority.is_empty() {
        String::new()
    } else {
        let scheme = if conf.etcd_scheme.is_empty() {
            "http"
        } else {
            &conf.etcd_scheme
        };
        format!("{scheme}://{}", conf.etcd_authority)
    };
    let endpoints = if conf.etcd_endpoints.is_empty() {
        &authority
    } else {
        &conf.etcd_endpoints
    };
    let own = [
        ("DATASTORE_TYPE", &conf.datastore_type),
        ("ETCD_ENDPOINTS", endpoints),
        ("ETCD_DISCOVERY_SRV", &conf.etcd_discovery_srv),
        ("ETCD_KEY_FILE", &conf.etcd_key_file),
        ("ETCD_CERT_FILE", &conf.etcd_cert_file),
        ("ETCD_CA_CERT_FILE", &conf.etcd_ca_cert_file),
        ("KUBECONFIG", &conf.kubernetes.kubeconfig),
    ];
    let mut env = env.clone();
    for (name, value) in own.into_iter().filter(|(_, v)| !v.is_empty()) {
        env.remove(&format!("CALICO_{name}"));
        env.insert(name.to_owned(), value.clone());
    }
    env
}

/// Decides which datastore is used.
pub(crate) fn settings(
    conf: &NetConf,
    env: &BTreeMap<String, String>,
    exists: impl Fn(&str) -> bool,
) -> Result<Settings, CniError> {
    caracal_datastore::resolve(&settings_env(conf, env), None, exists).map_err(refused)
}

/// Makes the store; nothing is sent yet.
pub(crate) fn connect(conf: &NetConf, env: &BTreeMap<String, String>) -> Result<Arc<dyn Store>, CniError> {
    let settings = settings(conf, env, |path| Path::new(path).exists())?;
    caracal_datastore::connect(&settings).map_err(refused)
}

fn refused(error: DatastoreError) -> CniError {
    let code = match error {
        DatastoreError::NotSupported { .. } | DatastoreError::Kubernetes { .. } => Code::UnsupportedField,
        // The embedded store's socket may appear.
        DatastoreError::None { .. } | DatastoreError::NoEndpoints { .. } => Code::TryAgain,
        _ => Code::InvalidConfig,
    };
    CniError::new(code, "choice of the datastore", error)
}

/// Stands for a datastore that is not there (yet): nothing can be asked.
#[derive(Debug)]
pub(crate) struct Absent(pub(crate) CniError);

impl Absent {
    fn away(&self) -> StoreError {
        StoreError::Unavailable(self.0.to_string())
    }
}

#[async_trait]
impl Store for Absent {
    fn describe(&self) -> String {
        "no datastore".to_owned()
    }
    async fn get(&self, _: &ResourceKey) -> Result<Resource, StoreError> {
        Err(self.away())
    }
    async fn list(&self, _: Kind, _: &ListOptions) -> Result<Page, StoreError> {
        Err(self.away())
    }
    async fn create(&self, _: Resource) -> Result<Resource, StoreError> {
        Err(self.away())
    }
    async fn update(&self, _: Resource) -> Result<Resource, StoreError> {
        Err(self.away())
    }
    async fn update_status(&self, _: Resource) -> Result<Resource, StoreError> {
        Err(self.away())
    }
    async fn delete(&self, _: &ResourceKey, _: &Preconditions) -> Result<Resource, StoreError> {
        Err(self.away())
    }
    async fn watch(&self, _: Kind, _: &WatchFrom) -> Result<WatchStream, StoreError> {
        Err(self.away())
    }
}
