use caracal_api::{FieldPath, ObjectMeta, Problem, Protocol};
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};
use serde::{Deserialize, Serialize};

use crate::{Converted, error::problem};

/// The label with the name of a slice's service.
const SERVICE: &str = "kubernetes.io/service-name";

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeEndpointSlice {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The endpoints.
    pub endpoints: Vec<KubeEndpoint>,
    /// Their ports.
    pub ports: Vec<KubeEndpointPort>,
}

/// An endpoint of a slice. Whether it is ready is of no concern to policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeEndpoint {
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// A port of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeEndpointPort {
    /// TCP, UDP or SCTP; TCP when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The number; absent means that it is not restricted, and then it is none that policy knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
}

/// A slice as the engine is fed with it (`calico-components.md` §3.8). What is no address (a name) is passed by; a port
/// that is wrong is left out and reported.
#[must_use]
pub fn endpoint_slice(slice: &KubeEndpointSlice) -> Converted<SliceUpdate> {
    let meta = &slice.metadata;
    let mut problems: Vec<Problem> = Vec::new();
    let mut ports = Vec::new();
    for (i, port) in slice.ports.iter().enumerate() {
        let at = FieldPath::of("ports").index(i);
        let Some(number) = port.port else { continue };
        let name = port.protocol.as_deref().unwrap_or("TCP");
        let proto = Protocol::Name(name.to_owned()).proto().filter(|p| p.has_ports());
        match (proto, u16::try_from(number).ok().filter(|n| *n > 0)) {
            (Some(proto), Some(port)) => ports.push(SlicePort { proto, port }),
            (None, _) => problems.push(problem(
                &at.key("protocol"),
                format!("{name:?} is not TCP, UDP or SCTP"),
            )),
            (_, None) => problems.push(problem(
                &at.key("port"),
                format!("{number} is not a port: 1 to 65535"),
            )),
        }
    }
    let addresses = slice.endpoints.iter().flat_map(|e| &e.addresses);
    let value = EndpointSlice {
        service: meta.labels.get(SERVICE).map_or("", String::as_str).into(),
        addresses: addresses.filter_map(|a| a.parse().ok()).collect(),
        ports,
    };
    Converted {
        object: SliceUpdate {
            key: SliceKey {
                namespace: meta.namespace.as_deref().unwrap_or("default").into(),
                name: meta.name.as_str().into(),
            },
            value: Some(value.into()),
        },
        problems,
    }
}
