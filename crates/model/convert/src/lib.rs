//! Kubernetes objects to `projectcalico.org/v3`, for every program that needs it.
//!
//! - [`network_policy`]: NetworkPolicy → NetworkPolicy `knp.default.<name>` in tier `default`.
//! - [`cluster_network_policy`]: ClusterNetworkPolicy → GlobalNetworkPolicy `kcnp.<name>` in tier `kube-admin` or
//!   `kube-baseline`; [`staged_network_policy`]: what a StagedKubernetesNetworkPolicy would do.
//! - [`endpoint_slice`]: EndpointSlice → the endpoints of a service that policy matches; [`endpoint_slices`]: a Service and
//!   the pods behind it → its slices, as a cluster's controller makes them.
//! - [`namespace`], [`service_account`]: Namespace → Profile `kns.<name>`, ServiceAccount → Profile
//!   `ksa.<namespace>.<name>`; their labels reach the endpoints through these profiles.
//! - [`pod`]: Pod → WorkloadEndpoint; [`WepName`] is the name of such an endpoint, [`veth_name`] its interface's.
//! - [`foreign`]: any of them, as a manifest holds it.
//!
//! **Invariant:** pure: the result is a function of the one object.
//! **Invariant:** a part that cannot be converted is left out and reported, and only ever makes the result stricter:
//! a rule of a Kubernetes policy allows, so without it less is allowed; in the place of a cluster network policy's rule
//! that does not allow, everything is denied.

mod cluster_network_policy;
mod endpoint_slice;
mod error;
mod foreign;
mod kube;
mod name;
mod network_policy;
mod pod;
mod profile;
mod qos;
mod selector;
mod service;

pub use cluster_network_policy::{
    CLUSTER_POLICY_PREFIX, ClusterEgressRule, ClusterIngressRule, ClusterNetworkPolicy,
    ClusterNetworkPolicySpec, ClusterPeer, ClusterPods, ClusterPort, ClusterPortRange, ClusterPorts,
    ClusterProtocol, cluster_network_policy,
};
pub use endpoint_slice::{LABEL_SERVICE, endpoint_slice};
pub use error::{ConvertError, Converted};
pub use foreign::{foreign, read_loosely, settle_namespace};
pub use kube::{
    Container, ContainerPort, ContainerState, ContainerStatus, KubeNetworkPolicy, Namespace, Pod, PodIp,
    PodSpec, PodStatus, ServiceAccount,
};
pub use name::{BadWepName, WepName, namespace_profile, service_account_profile, veth_name};
pub use network_policy::{POLICY_PREFIX, network_policy, staged_network_policy};
pub use pod::pod;
pub use profile::{namespace, service_account};
pub use selector::{namespace_selector, pod_selector};
pub use service::{Behind, SLICES_MANAGED_BY, endpoint_slices, selects, service};

/// The label with an endpoint's namespace.
pub const LABEL_NAMESPACE: &str = "projectcalico.org/namespace";
/// The label with an endpoint's orchestrator.
pub const LABEL_ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// The label with an endpoint's service account.
pub const LABEL_SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// The label with the name of a namespace or service account, among those its profile passes on.
pub const LABEL_NAME: &str = "projectcalico.org/name";
/// What precedes the labels of a namespace on its endpoints.
pub const NAMESPACE_LABEL_PREFIX: &str = "pcns.";
/// What precedes the labels of a service account on its endpoints.
pub const SERVICE_ACCOUNT_LABEL_PREFIX: &str = "pcsa.";
/// The orchestrator of pods.
pub const ORCHESTRATOR_KUBERNETES: &str = "k8s";
