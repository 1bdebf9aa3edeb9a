use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Kind, NoStatus, Spec};

/// What the cluster is; the object is named `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// A random id made once.
    #[serde(skip_serializing_if = "String::is_empty", rename = "clusterGUID")]
    pub cluster_guid: String,
    /// Comma-separated kinds of cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_type: String,
    /// The version that wrote this last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub calico_version: String,
    /// Whether components may use the datastore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// The product variant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
    type Status = NoStatus;
}

/// Parameters of the node agent by their YAML names. The table in `caracal-config` knows each one's type, range and
/// default, so that there is one list of 209 parameters and not two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FelixConfigurationSpec {
    /// Value by name.
    pub fields: Map<String, Value>,
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
    type Status = NoStatus;
}
