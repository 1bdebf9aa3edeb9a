use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Kind, Spec, Toggle, meta::null_is_default};

/// Settings of the controllers; the object is named `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationSpec {
    /// Severity from which is logged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_severity_screen: String,
    /// Whether health is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<Toggle>,
    /// How often etcd's history is cut.
    #[serde(skip_serializing_if = "Option::is_none", rename = "etcdV3CompactionPeriod")]
    pub etcd_v3_compaction_period: Option<String>,
    /// Port of the metrics; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<i64>,
    /// Port of the profiler; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<i64>,
    /// The controllers that run.
    pub controllers: ControllersConfig,
}

impl Spec for KubeControllersConfigurationSpec {
    const KIND: Kind = Kind::KubeControllersConfiguration;
    type Status = KubeControllersConfigurationStatus;
}

/// What the controllers run with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatus {
    /// The settings in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_config: Option<KubeControllersConfigurationSpec>,
    /// The variables that changed them.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub environment_vars: BTreeMap<String, String>,
}

/// The controllers that run; one that is absent does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControllersConfig {
    /// Cleans up after nodes and keeps their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeControllerConfig>,
    /// Copies Kubernetes' policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ReconcilerConfig>,
    /// Keeps the labels of endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<ReconcilerConfig>,
    /// Copies service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ReconcilerConfig>,
    /// Copies namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ReconcilerConfig>,
    /// Gives addresses to services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerControllerConfig>,
    /// Renames old objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationControllerConfig>,
}

/// A controller that compares all now and then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconcilerConfig {
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
}

/// Cleans up after nodes and keeps their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeControllerConfig {
    /// How often all is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<String>,
    /// Whether Kubernetes' node labels are copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_labels: Option<Toggle>,
    /// Host endpoints made for nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<AutoHostEndpointConfig>,
    /// How long an address may seem lost before it is freed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<String>,
}

/// Host endpoints made for nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoHostEndpointConfig {
    /// Whether they are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<Toggle>,
    /// Whether the one for all interfaces is among them: `Enabled` or `Disabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_default_host_endpoint: Option<Toggle>,
    /// Further ones.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub templates: Vec<HostEndpointTemplate>,
}

/// A shape of host endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointTemplate {
    /// How their names start.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generate_name: String,
    /// The addresses an interface must have one of.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "interfaceCIDRs"
    )]
    pub interface_cidrs: Vec<String>,
    /// A regular expression on the interface's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_pattern: String,
    /// The nodes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
    /// Labels to put on them.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations to put on them.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// Gives addresses to services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancerControllerConfig {
    /// To which.
    #[serde(rename = "assignIPs", skip_serializing_if = "Option::is_none")]
    pub assign_ips: Option<AssignIps>,
}

/// The services that get addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AssignIps {
    /// All of type LoadBalancer.
    AllServices,
    /// Those that ask by annotation.
    RequestedServicesOnly,
}

/// Renames old objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationControllerConfig {
    /// Whether policies are renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name_migrator: Option<Toggle>,
}
