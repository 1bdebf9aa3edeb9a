//! Names of endpoints that mean the same in two states.

use caracal_api::{Object, WorkloadEndpointSpec};

/// `namespace/pod`, or for other workloads than pods `namespace/name of the object`. Unlike the name of the object it
/// does not depend on the node.
#[must_use]
pub fn endpoint_name(object: &Object<WorkloadEndpointSpec>) -> String {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let spec = &object.spec;
    if spec.orchestrator != caracal_convert::ORCHESTRATOR_KUBERNETES || spec.pod.is_empty() {
        return format!("{namespace}/{}", object.metadata.name);
    }
    match spec.endpoint.as_str() {
        "" | "eth0" => format!("{namespace}/{}", spec.pod),
        other => format!("{namespace}/{}:{other}", spec.pod),
    }
}
