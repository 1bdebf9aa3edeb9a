use caracal_api::{FieldPath, KubernetesEndpointSliceSpec, Object, Problem, Protocol};
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};

use crate::{Converted, error::problem};

/// The label with the name of a slice's service.
pub const LABEL_SERVICE: &str = "kubernetes.io/service-name";

/// A slice as the engine is fed with it (`calico-components.md` §3.8). What is no address (a name) is passed by; a port
/// that is wrong is left out and reported.
#[must_use]
pub fn endpoint_slice(slice: &Object<KubernetesEndpointSliceSpec>) -> Converted<SliceUpdate> {
    let (meta, spec) = (&slice.metadata, &slice.spec);
    let mut problems: Vec<Problem> = Vec::new();
    let mut ports = Vec::new();
    for (i, port) in spec.ports.iter().enumerate() {
        let at = FieldPath::of("ports").index(i);
        let Some(number) = port.port else { continue };
        let name = port
            .protocol
            .as_deref()
            .filter(|n| !n.is_empty())
            .unwrap_or("TCP");
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
    let addresses = spec.endpoints.iter().flat_map(|e| &e.addresses);
    let value = EndpointSlice {
        service: meta.labels.get(LABEL_SERVICE).map_or("", String::as_str).into(),
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
