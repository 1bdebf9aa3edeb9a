//! The kinds of `projectcalico.org/v3`: types, serde, defaulting and validation.
//!
//! Every kind is an [`Object`] of its spec; [`Resource`] is any of them, [`Kind`] its name and [`ResourceKey`] its
//! identity. A new kind is a spec type, a line in `kind.rs` and one in `resource.rs`, and its rules in `validate/`.
//!
//! - [`parse`] reads manifests of YAML or JSON: [`Document`]s, or a [`ManifestError`] that names file, document, line,
//!   kind, name, field and what is allowed; [`to_yaml`] and [`list_to_yaml`] write them.
//! - [`default_resource`] fills in what an object leaves out; [`validate`] says what is wrong with it then.
//! - [`read_stored`] reads what a datastore holds; [`refusals`] says why a stored object is refused,
//!   and [`stand_in`] what is in force of it then.
//! - [`in_force`] says what of an object on [`Trial`] holds at a time.
//! - [`validate_update`], [`validate_pool_among`], [`validate_tier_exists`] and [`validate_tier_deletion`] hold an
//!   object against others.
//!
//! **Invariant:** what is read is written back: serde here is lossless for every field Calico's v3 defines.
//! **Invariant:** pure, and no input makes it panic.

mod bgp;
mod bgp_filter;
mod brief;
mod cluster;
mod controllers;
mod default;
mod endpoint;
mod ipam;
mod kind;
mod kube;
mod kube_service;
mod live_migration;
mod manifest;
mod meta;
mod node;
mod node_status;
mod object;
mod path;
mod policy;
mod refused;
mod resource;
mod rule;
mod scalar;
mod stamp;
mod suggest;
mod trial;
mod unreadable;
mod validate;

pub use bgp::{
    AsNumber, BadAsNumber, BgpConfigurationSpec, BgpPassword, BgpPeerSpec, BindMode, Community, NextHopMode,
    PrefixAdvertisement, ProgramClusterRoutes, ReversePeering, SecretKeySelector, ServiceIpBlock,
    SourceAddress, Toggle,
};
pub use bgp_filter::{
    AddCommunity, BgpFilterRule, BgpFilterSpec, CommunityMatch, FilterAction, FilterOperation, MatchOperator,
    PeerType, PrefixLength, PrependAsPath, RouteSource, SetPriority,
};
pub use brief::read_brief_endpoint;
pub use cluster::{ClusterInformationSpec, FelixConfigurationSpec};
pub use controllers::{
    AssignIps, AutoHostEndpointConfig, ControllersConfig, HostEndpointTemplate,
    KubeControllersConfigurationSpec, KubeControllersConfigurationStatus, LoadBalancerControllerConfig,
    MigrationControllerConfig, NodeControllerConfig, ReconcilerConfig,
};
pub use default::{LABEL_TIER, default_block_size, default_resource, fixed_tier};
pub use endpoint::{
    EndpointPort, HostEndpointSpec, IpNat, QosControls, WorkloadEndpointSpec, WorkloadPort, dscp,
};
pub use ipam::{
    AllocationAttribute, AssignmentMode, BlockAffinitySpec, EncapMode, IpPoolAllowedUse, IpPoolSpec,
    IpPoolStatus, IpReservationSpec, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
};
pub use kind::{Kind, ResourceKey};
pub use kube::{
    IntOrString, KubeEgressRule, KubeIngressRule, KubeIpBlock, KubeNetworkPolicySpec, KubePeer,
    KubePolicyPort, LabelOperator, LabelRequirement, LabelSelector,
};
pub use kube_service::{
    KubernetesEndpoint, KubernetesEndpointPort, KubernetesEndpointSliceSpec, KubernetesServicePort,
    KubernetesServiceSpec,
};
pub use live_migration::{
    LiveMigrationSource, LiveMigrationSpec, LiveMigrationTarget, MigratingEndpoint, MigratingWorkload,
};
pub use manifest::{
    Document, Foreign, ManifestError, ManifestObject, Origin, Problem, Written, YamlList, decode,
    json_to_yaml, list_to_yaml, parse, parse_value, to_yaml, value_to_yaml, written,
};
pub use meta::{Condition, ObjectMeta, OwnerReference};
pub use node::{NodeAddress, NodeBgpSpec, NodeSpec, NodeStatus, NodeWireguardSpec, OrchRef};
pub use node_status::{
    AgentReport, BgpDaemonStatus, BgpReport, CalicoNodeStatusSpec, CalicoNodeStatusStatus, LearnedFrom,
    PeerReport, ReportedRoute, RouteReport, StatusClass,
};
pub use object::{NoStatus, Object, Spec};
pub use path::{FieldPath, Step};
pub use policy::{
    GlobalNetworkPolicySpec, GlobalNetworkSetSpec, NetworkPolicySpec, NetworkSetSpec, PolicyType,
    ProfileSpec, StagedAction, StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec,
    StagedNetworkPolicySpec, TierDefaultAction, TierSpec, TierStatus,
};
pub use refused::{StandIn, refusals, stand_in};
pub use resource::{API_VERSION, Resource};
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, Icmp, Rule, RuleMetadata, ServiceAccountMatch, ServiceMatch,
};
pub use scalar::{Port, Protocol};
pub use stamp::Stamp;
pub use suggest::nearest;
pub use trial::{
    BadTrial, InForce, TRIAL_ALLOWANCE, TRIAL_KINDS, TRIAL_PREVIOUS, TRIAL_SINCE, TRIAL_UNTIL, Trial,
    begin_trial, end_trial, in_force,
};
pub use unreadable::{Unreadable, read_bare_block, read_stored};
pub use validate::{
    FieldError, policy_tier, validate, validate_pool_among, validate_spec, validate_tier_deletion,
    validate_tier_exists, validate_update,
};
