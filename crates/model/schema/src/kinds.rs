//! What each kind's spec and status must be.

mod bgp;
mod cluster_network_policy;
mod controllers;
mod endpoint;
mod felix;
mod filter;
mod ipam;
mod kube;
mod node_status;
mod policy;
mod rule;
mod staged;

use caracal_api::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, BlockAffinitySpec, CalicoNodeStatusSpec,
    CalicoNodeStatusStatus, ClusterInformationSpec, GlobalNetworkPolicySpec, GlobalNetworkSetSpec,
    HostEndpointSpec, IpPoolSpec, IpPoolStatus, IpReservationSpec, IpamBlockSpec, IpamConfigurationSpec,
    IpamHandleSpec, Kind, KubeControllersConfigurationSpec, KubeControllersConfigurationStatus,
    NetworkPolicySpec, NetworkSetSpec, StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec,
    StagedNetworkPolicySpec, TierSpec, TierStatus,
};

pub(crate) use cluster_network_policy::cluster_network_policy;

use crate::{
    Group, Reason,
    schema::{Schema, Type},
    shape::Shape,
};

/// The longest selector.
const SELECTOR: usize = 1024;
/// The longest name.
const NAME: usize = 253;

/// The schema of a kind's objects, where it has one: Node, Profile and WorkloadEndpoint are never stored in Kubernetes as
/// such.
pub(crate) fn object_schema(kind: Kind, group: Group) -> Option<Schema> {
    let spec = spec(kind, group)?;
    let mut object = Schema::object()
        .with("apiVersion", Schema::string().documented("", "apiVersion"))
        .with("kind", Schema::string().documented("", "kind"))
        .with("metadata", Schema::object())
        .with("spec", spec.documented("", "spec"));
    // Tiers had these two from the beginning, the older group's other kinds never.
    if group == Group::V3 || kind == Kind::Tier {
        object.required = vec!["metadata".to_owned(), "spec".to_owned()];
    }
    if let Some(status) = status(kind) {
        object = object.with("status", status.documented("", "status"));
    }
    Some(match kind {
        Kind::Tier => fixed_tiers(object),
        Kind::FelixConfiguration => object.rule(
            Reason::Forbidden,
            "self.metadata.name == 'default' || self.metadata.name.startsWith('node.') ? !has(self.spec.nodeSelector) : true",
            "an object whose name says its nodes ('default', 'node.…') must not have spec.nodeSelector",
        ),
        _ => object,
    })
}

fn spec(kind: Kind, group: Group) -> Option<Schema> {
    Some(match kind {
        Kind::NetworkPolicy => NetworkPolicySpec::shape(),
        Kind::GlobalNetworkPolicy => GlobalNetworkPolicySpec::shape(),
        Kind::Tier => TierSpec::shape(),
        Kind::NetworkSet => NetworkSetSpec::shape(),
        Kind::GlobalNetworkSet => GlobalNetworkSetSpec::shape(),
        Kind::HostEndpoint => HostEndpointSpec::shape(),
        Kind::IpPool => IpPoolSpec::shape(),
        Kind::IpamBlock => ipam::block(IpamBlockSpec::shape(), group),
        Kind::IpamHandle => IpamHandleSpec::shape(),
        Kind::BlockAffinity => ipam::affinity(BlockAffinitySpec::shape(), group),
        Kind::IpamConfiguration => ipam::configuration(IpamConfigurationSpec::shape(), group),
        Kind::ClusterInformation => ClusterInformationSpec::shape(),
        Kind::StagedNetworkPolicy => StagedNetworkPolicySpec::shape(),
        Kind::StagedGlobalNetworkPolicy => StagedGlobalNetworkPolicySpec::shape(),
        Kind::StagedKubernetesNetworkPolicy => StagedKubernetesNetworkPolicySpec::shape(),
        Kind::BgpConfiguration => BgpConfigurationSpec::shape(),
        Kind::BgpPeer => BgpPeerSpec::shape(),
        Kind::BgpFilter => BgpFilterSpec::shape(),
        Kind::IpReservation => IpReservationSpec::shape(),
        Kind::KubeControllersConfiguration => KubeControllersConfigurationSpec::shape(),
        Kind::CalicoNodeStatus => CalicoNodeStatusSpec::shape(),
        Kind::FelixConfiguration => felix::spec(),
        Kind::Profile
        | Kind::WorkloadEndpoint
        | Kind::Node
        | Kind::KubernetesService
        | Kind::KubernetesEndpointSlice
        | Kind::LiveMigration => return None,
    })
}

fn status(kind: Kind) -> Option<Schema> {
    Some(match kind {
        Kind::Tier => TierStatus::shape(),
        Kind::IpPool => IpPoolStatus::shape(),
        Kind::KubeControllersConfiguration => KubeControllersConfigurationStatus::shape(),
        Kind::CalicoNodeStatus => CalicoNodeStatusStatus::shape(),
        _ => return None,
    })
}

fn fixed_tiers(object: Schema) -> Schema {
    use Reason::Invalid;
    object
        .rule(
            Invalid,
            "self.metadata.name == 'kube-admin' ? (has(self.spec.defaultAction) && self.spec.defaultAction == 'Pass') : true",
            "the tier kube-admin always ends with Pass",
        )
        .rule(
            Invalid,
            "self.metadata.name == 'kube-baseline' ? (has(self.spec.defaultAction) && self.spec.defaultAction == 'Pass') : true",
            "the tier kube-baseline always ends with Pass",
        )
        .rule(
            Invalid,
            "self.metadata.name == 'default' ? (has(self.spec.defaultAction) && self.spec.defaultAction == 'Deny') : true",
            "the tier default always ends with Deny",
        )
        .rule(
            Invalid,
            "self.metadata.name != 'default' || (has(self.spec.order) && self.spec.order == 1000000.0)",
            "the tier default always has order 1000000",
        )
        .rule(
            Invalid,
            "self.metadata.name != 'kube-admin' || (has(self.spec.order) && self.spec.order == 1000.0)",
            "the tier kube-admin always has order 1000",
        )
        .rule(
            Invalid,
            "self.metadata.name != 'kube-baseline' || (has(self.spec.order) && self.spec.order == 10000000.0)",
            "the tier kube-baseline always has order 10000000",
        )
}

/// The conditions of a status, as Kubernetes has them.
fn condition() -> Schema {
    const WORD: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
    const QUALIFIED: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
    Schema::object()
        .with("lastTransitionTime", Schema::string().format("date-time").must())
        .with("message", Schema::string().chars(32768).must())
        .with(
            "observedGeneration",
            Schema::of_type(Type::Integer).format("int64").at_least(0),
        )
        .with(
            "reason",
            Schema::string().min_chars(1).chars(1024).pattern(WORD).must(),
        )
        .with(
            "status",
            Schema::string().words(&["True", "False", "Unknown"]).must(),
        )
        .with("type", Schema::string().chars(316).pattern(QUALIFIED).must())
}
