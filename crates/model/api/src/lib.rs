//! The kinds of `projectcalico.org/v3`: types, serde, defaulting and validation.
//!
//! Every kind is an [`Object`] of its spec; [`Resource`] is any of them, [`Kind`] its name and [`ResourceKey`] its
//! identity. The generic shape is all that a new kind follows: a spec type, a line in `kind.rs`.
//!
//! **Invariant:** what is read is written back: serde here is lossless for every field Calico's v3 defines.

mod cluster;
mod endpoint;
mod ipam;
mod kind;
mod kube;
mod manifest;
mod meta;
mod node;
mod object;
mod path;
mod policy;
mod resource;
mod rule;
mod scalar;
mod suggest;

pub use cluster::{ClusterInformationSpec, FelixConfigurationSpec};
pub use endpoint::{EndpointPort, HostEndpointSpec, IpNat, QosControls, WorkloadEndpointSpec, WorkloadPort};
pub use ipam::{
    AllocationAttribute, AssignmentMode, BlockAffinitySpec, EncapMode, IpPoolAllowedUse, IpPoolSpec,
    IpPoolStatus, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
};
pub use kind::{Kind, ResourceKey};
pub use kube::{
    IntOrString, KubeEgressRule, KubeIngressRule, KubeIpBlock, KubeNetworkPolicySpec, KubePeer,
    KubePolicyPort, LabelOperator, LabelRequirement, LabelSelector,
};
pub use manifest::{
    Document, Foreign, ManifestError, ManifestObject, Origin, Problem, decode, list_to_yaml, list_value,
    parse, parse_value, to_yaml, value_to_yaml,
};
pub use meta::{Condition, ObjectMeta, OwnerReference};
pub use node::{NodeAddress, NodeBgpSpec, NodeSpec, NodeStatus, NodeWireguardSpec, OrchRef};
pub use object::{NoStatus, Object, Spec};
pub use path::{FieldPath, Step};
pub use policy::{
    GlobalNetworkPolicySpec, GlobalNetworkSetSpec, NetworkPolicySpec, NetworkSetSpec, PolicyType,
    ProfileSpec, TierDefaultAction, TierSpec, TierStatus,
};
pub use resource::{API_VERSION, Resource};
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, Icmp, Rule, RuleMetadata, ServiceAccountMatch, ServiceMatch,
};
pub use scalar::{Port, Protocol};
pub use suggest::nearest;
