use caracal_api::{
    AllocationAttribute, AssignmentMode, BlockAffinitySpec, EncapMode, IpPoolAllowedUse, IpPoolSpec,
    IpPoolStatus, IpReservationSpec, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
};

use super::SELECTOR;
use crate::{
    Group,
    Reason::{Forbidden, Invalid},
    schema::{Schema, Type},
    shape::{object, words},
};

words! {
    EncapMode { Never, Always, CrossSubnet }
    IpPoolAllowedUse { Workload, Tunnel, LoadBalancer }
    AssignmentMode { Automatic, Manual }
}

object! { IpPoolSpec {
    cidr "cidr" .format("cidr") .chars(48) .must()
        .rule(Invalid, "self == oldSelf", "the range of a pool cannot be changed: make a new pool and move to it");
    vxlan_mode "vxlanMode";
    ipip_mode "ipipMode";
    nat_outgoing "natOutgoing";
    disabled "disabled";
    disable_bgp_export "disableBGPExport";
    block_size "blockSize" .within(0, 128)
        .rule(Invalid, "self == oldSelf", "the block size of a pool cannot be changed: make a new pool and move to it");
    node_selector "nodeSelector" .chars(SELECTOR) .or("all()");
    namespace_selector "namespaceSelector" .chars(SELECTOR);
    allowed_uses "allowedUses" .most(10) .set();
    assignment_mode "assignmentMode" .or("Automatic");
} [
    .rule(Forbidden,
        "!has(self.ipipMode) || !has(self.vxlanMode) || self.ipipMode == 'Never' || self.vxlanMode == 'Never' || size(self.ipipMode) == 0 || size(self.vxlanMode) == 0",
        "a pool has one encapsulation: ipipMode or vxlanMode must be Never")
    .rule(Forbidden,
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer') || (!has(self.ipipMode) || size(self.ipipMode) == 0 || self.ipipMode == 'Never') && (!has(self.vxlanMode) || size(self.vxlanMode) == 0 || self.vxlanMode == 'Never')",
        "a pool for load balancers has no encapsulation: ipipMode and vxlanMode must be Never")
    .rule(Forbidden,
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer') || !self.allowedUses.exists(u, u == 'Workload' || u == 'Tunnel')",
        "a pool for load balancers is for nothing else: make another pool for workloads and tunnels")
    .rule(Forbidden,
        "cidr(self.cidr).ip().family() != 6 || !has(self.ipipMode) || self.ipipMode == 'Never' || size(self.ipipMode) == 0",
        "IP-in-IP carries IPv4 only: ipipMode of an IPv6 pool must be Never")
    .rule(Forbidden,
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer') || !has(self.disableBGPExport) || !self.disableBGPExport",
        "addresses of load balancers are announced by BGP: disableBGPExport must be false")
    .rule(Invalid,
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer') || self.nodeSelector == 'all()'",
        "addresses of load balancers belong to no node: nodeSelector must be all()")
    .rule(Forbidden,
        "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'Tunnel') || !has(self.namespaceSelector) || size(self.namespaceSelector) == 0",
        "tunnels have no namespace: namespaceSelector cannot be with Tunnel among allowedUses")
    .rule(Invalid,
        "!has(self.nodeSelector) || !self.nodeSelector.contains('global(')",
        "nodeSelector cannot use global()")
    .rule(Invalid,
        "!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(')",
        "namespaceSelector cannot use global()")
    .rule(Invalid,
        "cidr(self.cidr) == cidr(self.cidr).masked()",
        "cidr has bits set behind its prefix")
    .rule(Invalid,
        "!cidr('169.254.0.0/16').containsIP(cidr(self.cidr).ip()) && !cidr(self.cidr).containsIP('169.254.0.0')",
        "cidr overlaps with the link-local range 169.254.0.0/16")
    .rule(Invalid,
        "!cidr('fe80::/10').containsIP(cidr(self.cidr).ip()) && !cidr(self.cidr).containsIP('fe80::')",
        "cidr overlaps with the link-local range fe80::/10")
    .rule(Invalid,
        "!has(self.blockSize) || self.blockSize == 0 || (cidr(self.cidr).ip().family() == 4 ? self.blockSize >= 20 && self.blockSize <= 32 : self.blockSize >= 116 && self.blockSize <= 128)",
        "blockSize is a prefix length: 20 to 32 for IPv4, 116 to 128 for IPv6")
    .rule(Invalid,
        "(has(self.disabled) && self.disabled) || cidr(self.cidr).prefixLength() <= (has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (cidr(self.cidr).ip().family() == 4 ? 26 : 122))",
        "the pool is smaller than one of its blocks: take a larger range, or a blockSize not below the range's prefix length")
] }

object! { IpPoolStatus {
    conditions "conditions" .keyed("type");
} }

object! { IpReservationSpec {
    reserved_cidrs "reservedCIDRs" .of(Schema::string().format("cidr")) .set();
} }

object! { IpamConfigurationSpec {
    strict_affinity "strictAffinity" .must();
    max_blocks_per_host "maxBlocksPerHost";
    auto_allocate_blocks "autoAllocateBlocks" .must();
    kube_virt_vm_address_persistence "kubeVirtVMAddressPersistence" .words(&["Enabled", "Disabled"]);
    ip_cooldown_seconds "ipCooldownSeconds" .within(0, 1200);
} }

/// The two groups differ in defaults and in how many blocks are possible.
pub(super) fn configuration(mut spec: Schema, group: Group) -> Schema {
    let mut change = |field: &str, f: &dyn Fn(Schema) -> Schema| {
        if let Some(s) = spec.properties.get_mut(field) {
            *s = f(s.clone());
        }
    };
    if group == Group::V1 {
        change("maxBlocksPerHost", &|s| s.within(0, i32::MAX.into()));
        return spec;
    }
    change("strictAffinity", &|s| s.or(false));
    change("autoAllocateBlocks", &|s| s.or(true));
    change("maxBlocksPerHost", &|s| {
        s.within(0, 1_000_000).format("int32").or(0)
    });
    change("ipCooldownSeconds", &|s| s.format("int32"));
    spec
}

object! { IpamHandleSpec {
    handle_id "handleID" .must();
    block "block" .must();
    deleted "deleted";
} }

object! { BlockAffinitySpec {
    state "state" .must();
    node "node" .must();
    affinity_type "type";
    cidr "cidr" .must();
    deleted "deleted" .must();
} }

/// In the older group `deleted` is a text and little is checked.
pub(super) fn affinity(mut spec: Schema, group: Group) -> Schema {
    if group == Group::V1 {
        spec.properties.insert("deleted".to_owned(), Schema::string());
        return spec;
    }
    if let Some(s) = spec.properties.get_mut("deleted") {
        s.default = Some(false.into());
    }
    if let Some(s) = spec.properties.get_mut("cidr") {
        s.format = Some("cidr");
    }
    if let Some(s) = spec.properties.get_mut("state") {
        *s = s.clone().words(&["", "confirmed", "pending", "pendingDeletion"]);
    }
    spec
}

object! { IpamBlockSpec {
    cidr "cidr" .must();
    affinity "affinity";
    affinity_claim_time "affinityClaimTime" .format("date-time");
    allocations "allocations" .of(Schema::of_type(Type::Integer).nullable()) .must();
    unallocated "unallocated" .must();
    attributes "attributes" .must();
    sequence_number "sequenceNumber" .format("int64") .or(0);
    sequence_number_for_allocation "sequenceNumberForAllocation";
    deleted "deleted";
    strict_affinity "strictAffinity" .must();
} }

/// In the older group little is checked.
pub(super) fn block(mut spec: Schema, group: Group) -> Schema {
    if let Some(s) = spec.properties.get_mut("sequenceNumberForAllocation") {
        s.additional = Some(Box::new(Schema::of_type(Type::Integer).format("int64")));
    }
    if group == Group::V1 {
        return spec;
    }
    for field in ["allocations", "unallocated", "attributes"] {
        if let Some(s) = spec.properties.get_mut(field) {
            *s = s.clone().whole();
        }
    }
    if let Some(s) = spec.properties.get_mut("affinity") {
        s.pattern = Some(r"^(host|virtual):[a-zA-Z0-9\.\-_]+$".to_owned());
    }
    if let Some(s) = spec.properties.get_mut("cidr") {
        s.format = Some("cidr");
    }
    spec
}

object! { AllocationAttribute {
    handle_id "handle_id";
    secondary "secondary";
    alternate_owner_attrs "alternateOwnerAttrs";
    released_at "releasedAt" .format("date-time");
} }
