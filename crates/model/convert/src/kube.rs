//! What is read of Kubernetes' objects; the rest of their fields is of no concern here.

use caracal_api::{KubeNetworkPolicySpec, ObjectMeta};
use serde::{Deserialize, Serialize};

/// `networking.k8s.io/v1` NetworkPolicy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeNetworkPolicy {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: KubeNetworkPolicySpec,
}

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Metadata.
    pub metadata: ObjectMeta,
}

/// A service account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    /// Metadata.
    pub metadata: ObjectMeta,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// What is wanted of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it was scheduled to; empty before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Whether it uses the node's network instead of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// Its service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Containers that run before them, or beside them as sidecars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The name that policy can use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// TCP, UDP or SCTP; TCP when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The number.
    pub container_port: i64,
    /// The host's port that leads to it; 0 for none.
    pub host_port: i64,
    /// The host's address of the host port.
    #[serde(skip_serializing_if = "String::is_empty", rename = "hostIP")]
    pub host_ip: String,
}

/// What a pod is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Its first address.
    #[serde(skip_serializing_if = "String::is_empty", rename = "podIP")]
    pub pod_ip: String,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// Its containers' states.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// An address of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// The status of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ContainerState,
}

/// The state of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Set once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<serde_json::Value>,
}
