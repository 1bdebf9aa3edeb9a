//! What the agent of a node asks a datastore before all else, for every program that wants to know it too.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_config::{DatastoreType, FelixConfig, FelixObjects};
use caracal_store::{ListOptions, Store, StoreError};
use caracal_store_etcd::{EtcdSettings, Material, Source};

use crate::{DatastoreError, Settings, connect, from_process};

/// The layers of a node's parameters that are in the datastore.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeLayers {
    /// The FelixConfigurations.
    pub objects: FelixObjects,
    /// The node's labels, by which some of them select it; none while there is no such node.
    pub node_labels: BTreeMap<String, String>,
}

impl NodeLayers {
    /// Reads them. An object that cannot be read is passed by, as the agent does.
    ///
    /// # Errors
    /// When the datastore fails.
    pub async fn read(store: &dyn Store, node: &str) -> Result<Self, StoreError> {
        let page = store
            .list_all(Kind::FelixConfiguration, &ListOptions::default())
            .await?;
        let objects = page.items.into_iter().filter_map(|r| match r {
            Resource::FelixConfiguration(o) => Some(*o),
            _ => None,
        });
        let node_labels = match store.get(&ResourceKey::global(Kind::Node, node)).await {
            Ok(r) => r.metadata().labels.clone(),
            Err(StoreError::NotFound(_)) => BTreeMap::new(),
            Err(e) => return Err(e),
        };
        Ok(Self {
            objects: objects.collect(),
            node_labels,
        })
    }
}

/// The datastore that the agent's own parameters name, else the one that every program here uses.
///
/// # Errors
/// [`DatastoreError`] saying what to set.
pub fn of_agent(config: &FelixConfig, file: Option<&Path>) -> Result<Arc<dyn Store>, DatastoreError> {
    if config.datastore_type == Some(DatastoreType::Kubernetes) {
        return Err(DatastoreError::Kubernetes {
            why: "FELIX_DATASTORETYPE=kubernetes".to_owned(),
        });
    }
    if config.etcd_endpoints.is_empty() {
        let (_, store) = from_process(file)?;
        return Ok(store);
    }
    let file = |name, path: &Option<String>| path.as_ref().map(|path| Source::file(name, path));
    let identity = match (
        file("EtcdCertFile", &config.etcd_cert_file),
        file("EtcdKeyFile", &config.etcd_key_file),
    ) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (cert, _) => {
            let [given, missing] = match cert {
                Some(_) => ["EtcdCertFile", "EtcdKeyFile"],
                None => ["EtcdKeyFile", "EtcdCertFile"],
            };
            return Err(DatastoreError::Half {
                given,
                missing: missing.to_owned(),
            });
        }
    };
    let settings = EtcdSettings {
        tls: Material {
            authorities: file("EtcdCaFile", &config.etcd_ca_file),
            identity,
        },
        ..EtcdSettings::new(&config.etcd_endpoints)
    };
    connect(&Settings::Etcd(settings))
}
