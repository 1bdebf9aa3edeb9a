//! Services and the slices of endpoints that a cluster's controller makes of them.

use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{
    FieldPath, Foreign, IntOrString, KubernetesEndpoint, KubernetesEndpointPort, KubernetesEndpointSliceSpec,
    KubernetesServicePort, KubernetesServiceSpec, Object, ObjectMeta, Problem, WorkloadPort,
};
use caracal_net::{Family, Proto};
use serde::Deserialize;

use crate::{LABEL_SERVICE, error::problem, read_loosely};

/// The label with the name of the program that keeps a slice right.
pub const SLICES_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// The most endpoints of a slice.
const MAX_ENDPOINTS: usize = 100;

/// A Service of a manifest.
///
/// # Errors
/// With the field that cannot be read.
pub fn service(foreign: &Foreign) -> Result<Object<KubernetesServiceSpec>, Problem> {
    #[derive(Deserialize)]
    struct Whole {
        #[serde(default)]
        spec: KubernetesServiceSpec,
    }
    let whole: Whole = read_loosely(foreign)?;
    Ok(Object {
        metadata: foreign.metadata.clone(),
        spec: whole.spec,
        status: None,
    })
}

/// An EndpointSlice of a manifest.
///
/// # Errors
/// With the field that cannot be read, or what is wrong with a port.
pub(crate) fn slice(foreign: &Foreign) -> Result<Object<KubernetesEndpointSliceSpec>, Vec<Problem>> {
    let spec: KubernetesEndpointSliceSpec = read_loosely(foreign).map_err(|p| vec![p])?;
    let object = Object {
        metadata: foreign.metadata.clone(),
        spec,
        status: None,
    };
    let mut problems = crate::endpoint_slice(&object).problems;
    if !object.metadata.labels.contains_key(LABEL_SERVICE) {
        let at = FieldPath::of("metadata").key("labels").key(LABEL_SERVICE);
        problems.push(problem(
            &at,
            "this label names the service: without it the slice is of none",
        ));
    }
    if problems.is_empty() {
        Ok(object)
    } else {
        Err(problems)
    }
}

/// A pod that may be behind services.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The node it is on.
    pub node: &'a str,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// Its ports.
    pub ports: &'a [WorkloadPort],
}

/// Whether the pod is behind the service. Nobody is behind a service that selects by no label.
#[must_use]
pub fn selects(
    service: &Object<KubernetesServiceSpec>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let selector = &service.spec.selector;
    service.metadata.namespace.as_deref() == Some(namespace)
        && !selector.is_empty()
        && selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// The port of a pod that a service's port leads to, if the pod has it.
fn target(port: &KubernetesServicePort, proto: Proto, pod: &[WorkloadPort]) -> Option<u16> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => pod
            .iter()
            .find(|p| p.name == *name && p.protocol.proto() == Some(proto))
            .map(|p| p.port),
    }
}

/// The slices of a service, as a cluster's controller makes them: one for each family and each set of ports that pods have
/// (a named port can be another one of each), with a hundred endpoints at most. None of a service without selector: its
/// slices are somebody else's.
#[must_use]
pub fn endpoint_slices<'a>(
    service: &Object<KubernetesServiceSpec>,
    pods: impl IntoIterator<Item = Behind<'a>>,
    managed_by: &str,
) -> Vec<Object<KubernetesEndpointSliceSpec>> {
    type Ports = Vec<KubernetesEndpointPort>;
    let mut groups: BTreeMap<(Family, Ports), Vec<KubernetesEndpoint>> = BTreeMap::new();
    for pod in pods {
        if !selects(service, pod.namespace, pod.labels) {
            continue;
        }
        let ports = service.spec.ports.iter().filter_map(|p| {
            let name = if p.protocol.is_empty() { "TCP" } else { &p.protocol };
            let number = target(p, Proto::parse(name)?, pod.ports)?;
            Some(KubernetesEndpointPort {
                name: Some(p.name.clone()),
                protocol: Some(name.to_owned()),
                port: Some(number.into()),
            })
        });
        let ports: Ports = ports.collect();
        for family in Family::BOTH {
            let addresses = pod.addresses.iter().filter(|a| Family::of(**a) == family);
            let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
            if addresses.is_empty() {
                continue;
            }
            groups
                .entry((family, ports.clone()))
                .or_default()
                .push(KubernetesEndpoint {
                    addresses,
                    node_name: Some(pod.node.to_owned()).filter(|n| !n.is_empty()),
                });
        }
    }
    let mut slices = Vec::new();
    for ((family, ports), mut endpoints) in groups {
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        for endpoints in endpoints.chunks(MAX_ENDPOINTS) {
            let name = format!("{}-{}", service.metadata.name, slices.len() + 1);
            slices.push(Object {
                metadata: ObjectMeta {
                    namespace: service.metadata.namespace.clone(),
                    labels: BTreeMap::from([
                        (LABEL_SERVICE.to_owned(), service.metadata.name.clone()),
                        (SLICES_MANAGED_BY.to_owned(), managed_by.to_owned()),
                    ]),
                    ..ObjectMeta::named(name)
                },
                spec: KubernetesEndpointSliceSpec {
                    address_type: match family {
                        Family::V4 => "IPv4".to_owned(),
                        Family::V6 => "IPv6".to_owned(),
                    },
                    endpoints: endpoints.to_vec(),
                    ports: ports.clone(),
                },
                status: None,
            });
        }
    }
    slices
}
