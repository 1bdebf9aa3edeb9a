use std::sync::Arc;

use caracal_api::{QosControls, TierDefaultAction};
use caracal_ids::{PolicyId, ProfileName, TierName, WorkloadId};
use caracal_net::{Cidr, MacAddr, PerFamily};
use serde::{Deserialize, Serialize};

/// The policies of one tier that select an endpoint, in order, per direction. A staged policy is listed too (its id
/// says so); it is never enforced and does not count for the end of the tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TierPolicies {
    /// The tier.
    pub name: TierName,
    /// What happens at its end: applies in a direction only if a policy that is not staged is listed for it.
    pub default_action: TierDefaultAction,
    /// Policies that govern traffic to the endpoint.
    pub ingress: Vec<PolicyId>,
    /// Policies that govern traffic from the endpoint.
    pub egress: Vec<PolicyId>,
}

/// A workload's interface on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadEndpoint {
    /// Identity.
    pub id: WorkloadId,
    /// The host's interface.
    pub interface: Arc<str>,
    /// The container it belongs to, as the CNI plugin wrote it; empty for others.
    pub container_id: Arc<str>,
    /// MAC address of the workload's side, where known.
    pub mac: Option<MacAddr>,
    /// Its addresses.
    pub addresses: PerFamily<Vec<Cidr>>,
    /// Floating addresses: (external, internal).
    pub nats: Vec<(std::net::IpAddr, std::net::IpAddr)>,
    /// Prefixes it may send from besides its addresses.
    pub allowed_sources: Vec<Cidr>,
    /// Policies by tier, tiers in order.
    pub tiers: Vec<TierPolicies>,
    /// Profiles in order.
    pub profiles: Vec<ProfileName>,
    /// Limits.
    pub qos: Option<QosControls>,
}

/// A host's interface. Resolution of the interface is the driver's: it depends on links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostEndpoint {
    /// Identity.
    pub name: Arc<str>,
    /// The interface, `*` for all that are not workloads', or empty when found by address.
    pub interface: Arc<str>,
    /// Addresses by which the interface is found.
    pub expected_ips: Vec<std::net::IpAddr>,
    /// Policies for traffic of the host itself.
    pub tiers: Vec<TierPolicies>,
    /// doNotTrack policies; the end of these tiers always passes.
    pub untracked: Vec<TierPolicies>,
    /// preDNAT policies, ingress only; the end of these tiers always passes.
    pub pre_dnat: Vec<TierPolicies>,
    /// applyOnForward policies.
    pub forward: Vec<TierPolicies>,
    /// Profiles in order.
    pub profiles: Vec<ProfileName>,
}
