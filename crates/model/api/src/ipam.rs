use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Condition, Kind, NoStatus, Spec, meta::null_is_default};

/// When a pool's traffic is encapsulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EncapMode {
    /// Never.
    #[default]
    Never,
    /// Between any two nodes.
    Always,
    /// Between nodes of different subnets.
    CrossSubnet,
}

/// What a pool's addresses may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpPoolAllowedUse {
    /// Pods and virtual machines.
    Workload,
    /// Tunnel devices.
    Tunnel,
    /// Services of type LoadBalancer.
    LoadBalancer,
}

/// Whether a pool takes part in automatic assignment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AssignmentMode {
    /// Yes.
    #[default]
    Automatic,
    /// Only when asked for by name.
    Manual,
}

/// A range of addresses for workloads, tunnels or load balancers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolSpec {
    /// The range; cannot be changed.
    pub cidr: String,
    /// VXLAN mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<EncapMode>,
    /// IP-in-IP mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<EncapMode>,
    /// Whether traffic to outside all pools is masqueraded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nat_outgoing: bool,
    /// Whether no new address is taken from the pool.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Whether the pool's routes stay out of BGP.
    #[serde(skip_serializing_if = "std::ops::Not::not", rename = "disableBGPExport")]
    pub disable_bgp_export: bool,
    /// Prefix length of a block; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// The nodes that may use the pool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
    /// The namespaces that may use the pool.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    /// What the addresses are for; workloads and tunnels when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub allowed_uses: Vec<IpPoolAllowedUse>,
    /// Automatic or manual assignment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<AssignmentMode>,
}

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IpPool;
    type Status = IpPoolStatus;
}

/// Status of a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpPoolStatus {
    /// Conditions, `Allocatable` among them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

/// A block of addresses: the unit of allocation and of compare-and-swap. Ordinals count from the block's first address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamBlockSpec {
    /// The block's range.
    pub cidr: String,
    /// Who it belongs to: `host:<node>` or `virtual:<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// When the affinity was claimed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", alias = "affinity_claim_time")]
    pub affinity_claim_time: Option<String>,
    /// Per ordinal: the index of its entry in `attributes`, or none when free.
    #[serde(deserialize_with = "null_is_default")]
    pub allocations: Vec<Option<usize>>,
    /// Free ordinals, the longest idle first.
    #[serde(deserialize_with = "null_is_default")]
    pub unallocated: Vec<usize>,
    /// Who holds addresses, without duplicates.
    #[serde(deserialize_with = "null_is_default")]
    pub attributes: Vec<AllocationAttribute>,
    /// Goes up by one with each write of the block.
    pub sequence_number: u64,
    /// Per allocated ordinal (as text): the block's sequence number when it was allocated.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// Whether the block is on its way out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Deprecated; kept as found.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict_affinity: bool,
}

impl Spec for IpamBlockSpec {
    const KIND: Kind = Kind::IpamBlock;
    type Status = NoStatus;
}

/// Who holds an address of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationAttribute {
    /// The handle; none while the address cools down.
    #[serde(rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// The active owner: pod, namespace, node, type, timestamp.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub secondary: BTreeMap<String, String>,
    /// The owner that takes over at the end of a live migration.
    #[serde(
        rename = "alternateOwnerAttrs",
        alias = "alternate",
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// When the address was given back, RFC 3339; it cools down.
    #[serde(rename = "releasedAt", skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
}

/// A handle: the blocks it holds addresses in, and how many in each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamHandleSpec {
    /// The handle's id.
    #[serde(rename = "handleID")]
    pub handle_id: String,
    /// Addresses per block.
    #[serde(deserialize_with = "null_is_default")]
    pub block: BTreeMap<String, u64>,
    /// Whether the handle is on its way out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Spec for IpamHandleSpec {
    const KIND: Kind = Kind::IpamHandle;
    type Status = NoStatus;
}

/// The claim of a node (or virtual owner) on a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockAffinitySpec {
    /// `confirmed`, `pending`, `pendingDeletion` or empty.
    pub state: String,
    /// The node or virtual owner.
    pub node: String,
    /// `host` or `virtual`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub affinity_type: String,
    /// The block's range.
    pub cidr: String,
    /// Whether the claim is on its way out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl Spec for BlockAffinitySpec {
    const KIND: Kind = Kind::BlockAffinity;
    type Status = NoStatus;
}

/// Addresses that are never assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpReservationSpec {
    /// The ranges.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "reservedCIDRs"
    )]
    pub reserved_cidrs: Vec<String>,
}

impl Spec for IpReservationSpec {
    const KIND: Kind = Kind::IpReservation;
    type Status = NoStatus;
}

/// How addresses are assigned, cluster-wide; the object is named `default`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamConfigurationSpec {
    /// Whether a node takes addresses of its own blocks only.
    pub strict_affinity: bool,
    /// The most blocks a node may have; 0 means the default of 20.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_blocks_per_host: i32,
    /// Whether a node claims new blocks by itself.
    pub auto_allocate_blocks: bool,
    /// `Enabled` or `Disabled`: a KubeVirt machine keeps its address.
    #[serde(
        skip_serializing_if = "Option::is_none",
        rename = "kubeVirtVMAddressPersistence"
    )]
    pub kube_virt_vm_address_persistence: Option<String>,
    /// Seconds an address rests after its release, 0–1200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<i32>,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

impl Default for IpamConfigurationSpec {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            max_blocks_per_host: 0,
            auto_allocate_blocks: true,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: None,
        }
    }
}

impl Spec for IpamConfigurationSpec {
    const KIND: Kind = Kind::IpamConfiguration;
    type Status = NoStatus;
}

fn dashes(cidr: &caracal_net::Cidr) -> String {
    cidr.to_string().replace(['.', ':', '/'], "-")
}

impl IpamBlockSpec {
    /// The name of the object that holds the block: its range with `-` for `.`, `:` and `/`.
    #[must_use]
    pub fn object_name(cidr: &caracal_net::Cidr) -> String {
        dashes(cidr)
    }
}

impl BlockAffinitySpec {
    /// The name of the object that holds an owner's claim on a block.
    #[must_use]
    pub fn object_name(owner: &str, cidr: &caracal_net::Cidr) -> String {
        format!("{owner}-{}", dashes(cidr))
    }
}
