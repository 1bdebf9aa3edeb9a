//! Kubernetes' Service and EndpointSlice, as far as policy and the questions about it need them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{IntOrString, Kind, NoStatus, Spec, meta::null_is_default};

/// What is wanted of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesServiceSpec {
    /// Its address; `None` for a service without one.
    #[serde(rename = "clusterIP", skip_serializing_if = "String::is_empty")]
    pub cluster_ip: String,
    /// Its addresses, of both families.
    #[serde(
        rename = "clusterIPs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub cluster_ips: Vec<String>,
    /// Addresses of others that lead to it too.
    #[serde(
        rename = "externalIPs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub external_ips: Vec<String>,
    /// The labels of the pods behind it; nobody is behind a service without, unless slices say so.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ports: Vec<KubernetesServicePort>,
}

impl Spec for KubernetesServiceSpec {
    const KIND: Kind = Kind::KubernetesService;
    type Status = NoStatus;
}

/// A port of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesServicePort {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// TCP, UDP or SCTP; TCP when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The port at the service's address.
    pub port: u16,
    /// The port of the pods, by number or by name; as at the service's address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
}

/// Some endpoints of the service that the label `kubernetes.io/service-name` names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesEndpointSliceSpec {
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address_type: String,
    /// The endpoints.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoints: Vec<KubernetesEndpoint>,
    /// Their ports; every endpoint has all of them.
    #[serde(deserialize_with = "null_is_default")]
    pub ports: Vec<KubernetesEndpointPort>,
}

impl Spec for KubernetesEndpointSliceSpec {
    const KIND: Kind = Kind::KubernetesEndpointSlice;
    type Status = NoStatus;
}

/// An endpoint of a slice. Whether it is ready is of no concern to policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesEndpoint {
    /// Its addresses.
    #[serde(deserialize_with = "null_is_default")]
    pub addresses: Vec<String>,
    /// The node it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

/// A port of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesEndpointPort {
    /// Its name in the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// TCP, UDP or SCTP; TCP when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The number; absent means that it is not restricted, and then it is none that policy knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
}
