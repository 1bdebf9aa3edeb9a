use serde::{Deserialize, Serialize};

use crate::{Kind, NoStatus, Spec};

/// A virtual machine that moves from one node to another. The names of the fields are capitalised in the datastore, for
/// that is how Calico stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveMigrationSpec {
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<LiveMigrationSource>,
    /// Where it is going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<LiveMigrationTarget>,
}

impl Spec for LiveMigrationSpec {
    const KIND: Kind = Kind::LiveMigration;
    type Status = NoStatus;
}

/// The machine as it is before: exactly one of the fields says which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveMigrationSource {
    /// All endpoints of a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<MigratingWorkload>,
    /// One endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<MigratingEndpoint>,
}

/// The machine as it will be: exactly one of the fields says which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LiveMigrationTarget {
    /// The endpoints that this selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// One endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<MigratingEndpoint>,
}

/// A workload by its parts; of a pod the node is of no concern.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MigratingWorkload {
    /// The node.
    pub hostname: String,
    /// Who runs it: `k8s`, `openstack`.
    #[serde(rename = "OrchestratorID")]
    pub orchestrator_id: String,
    /// Its name there.
    #[serde(rename = "WorkloadID")]
    pub workload_id: String,
}

/// An endpoint of a workload by its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MigratingEndpoint {
    /// The node.
    pub hostname: String,
    /// Who runs the workload.
    #[serde(rename = "OrchestratorID")]
    pub orchestrator_id: String,
    /// The workload's name there.
    #[serde(rename = "WorkloadID")]
    pub workload_id: String,
    /// The endpoint's name.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
}
