use caracal_net::{Cidr, Family};

use crate::{
    BlockAffinitySpec, EncapMode, IpPoolAllowedUse, IpPoolSpec, IpReservationSpec, IpamBlockSpec,
    IpamConfigurationSpec, IpamHandleSpec, default_block_size,
    validate::{
        check::{Check, Range},
        text,
    },
};

/// Addresses that hosts give themselves: nothing can be routed there.
fn link_local(family: Family) -> Cidr {
    match family {
        Family::V4 => Cidr::new(std::net::Ipv4Addr::new(169, 254, 0, 0).into(), 16),
        Family::V6 => Cidr::new(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10),
    }
}

pub(super) fn pool(c: &mut Check, spec: &IpPoolSpec) {
    if spec.cidr.is_empty() {
        c.fail_at("cidr", "", "a pool needs a range, for example 10.244.0.0/16");
    } else if let Some(cidr) = c.field("cidr", |c| c.cidr(&spec.cidr, Range::Strict)) {
        pool_range(c, spec, cidr);
    }
    let encapsulates = |m: Option<EncapMode>| m.is_some_and(|m| m != EncapMode::Never);
    let (ipip, vxlan) = (encapsulates(spec.ipip_mode), encapsulates(spec.vxlan_mode));
    let shown = |m: Option<EncapMode>| m.map_or_else(String::new, |m| format!("{m:?}"));
    c.require(
        !(ipip && vxlan),
        "ipipMode",
        shown(spec.ipip_mode),
        "cannot be with vxlanMode: one must be Never",
    );
    c.plain_selector("nodeSelector", &spec.node_selector);
    c.plain_selector("namespaceSelector", &spec.namespace_selector);
    c.count("allowedUses", spec.allowed_uses.len(), 10);
    let uses: Vec<String> = spec.allowed_uses.iter().map(|u| format!("{u:?}")).collect();
    c.unique("allowedUses", &uses);

    let has = |u| spec.allowed_uses.contains(&u);
    if has(IpPoolAllowedUse::LoadBalancer) {
        let alone = !has(IpPoolAllowedUse::Workload) && !has(IpPoolAllowedUse::Tunnel);
        c.require(
            alone,
            "allowedUses",
            "LoadBalancer",
            "cannot be with Workload or Tunnel: make a pool of its own",
        );
        c.require(
            !ipip,
            "ipipMode",
            shown(spec.ipip_mode),
            "must be Never for a LoadBalancer pool",
        );
        c.require(
            !vxlan,
            "vxlanMode",
            shown(spec.vxlan_mode),
            "must be Never for a LoadBalancer pool",
        );
        c.require(
            !spec.disable_bgp_export,
            "disableBGPExport",
            "true",
            "is not possible for a LoadBalancer pool",
        );
        let everywhere = matches!(spec.node_selector.as_str(), "" | "all()");
        c.require(
            everywhere,
            "nodeSelector",
            &spec.node_selector,
            "must be all() for a LoadBalancer pool",
        );
    }
    if has(IpPoolAllowedUse::Tunnel) {
        c.require(
            spec.namespace_selector.is_empty(),
            "namespaceSelector",
            &spec.namespace_selector,
            "is not possible for a pool whose allowedUses has Tunnel",
        );
    }
}

fn pool_range(c: &mut Check, spec: &IpPoolSpec, cidr: Cidr) {
    let family = cidr.family();
    let reserved = link_local(family);
    if cidr.overlaps(&reserved) {
        c.fail_at(
            "cidr",
            cidr,
            format!("overlaps with the link-local range {reserved}"),
        );
    }
    if family == Family::V6 && spec.ipip_mode.is_some_and(|m| m != EncapMode::Never) {
        c.fail_at(
            "ipipMode",
            format!("{:?}", spec.ipip_mode.unwrap_or_default()),
            "is not possible with IPv6",
        );
    }
    let (min, max) = match family {
        Family::V4 => (20, 32),
        Family::V6 => (116, 128),
    };
    let size = spec
        .block_size
        .filter(|s| *s != 0)
        .unwrap_or(default_block_size(family));
    c.bounds("blockSize", size.into(), min, max);
    if !spec.disabled && cidr.len() > size {
        c.field("cidr", |c| {
            c.fail_allowed(
                cidr,
                "is smaller than one block",
                format!("a prefix of {size} bits at most"),
            );
        });
    }
}

pub(super) fn reservation(c: &mut Check, spec: &IpReservationSpec) {
    c.unique("reservedCIDRs", &spec.reserved_cidrs);
    c.each("reservedCIDRs", &spec.reserved_cidrs, |c, r| {
        c.cidr(r, Range::Loose);
    });
}

pub(super) fn configuration(c: &mut Check, spec: &IpamConfigurationSpec) {
    c.bounds("maxBlocksPerHost", spec.max_blocks_per_host.into(), 0, 1_000_000);
    if let Some(p) = &spec.kube_virt_vm_address_persistence {
        c.one_of("kubeVirtVMAddressPersistence", p, &["Enabled", "Disabled"]);
    }
    if let Some(n) = spec.ip_cooldown_seconds {
        c.bounds("ipCooldownSeconds", n.into(), 0, 1200);
    }
    // Without blocks of others and without new ones a node could never assign anything.
    if spec.strict_affinity || spec.auto_allocate_blocks {
        return;
    }
    c.fail_at(
        "autoAllocateBlocks",
        "false",
        "is only possible with strictAffinity true",
    );
}

pub(super) fn affinity(c: &mut Check, spec: &BlockAffinitySpec) {
    c.field("cidr", |c| c.cidr(&spec.cidr, Range::Strict));
    c.require(!spec.node.is_empty(), "node", "", "an affinity needs its owner");
    c.one_of(
        "state",
        &spec.state,
        &["", "confirmed", "pending", "pendingDeletion"],
    );
    if !spec.affinity_type.is_empty() {
        c.one_of("type", &spec.affinity_type, &["host", "virtual"]);
    }
}

pub(super) fn handle(c: &mut Check, spec: &IpamHandleSpec) {
    c.require(
        !spec.handle_id.is_empty(),
        "handleID",
        "",
        "a handle needs its id",
    );
    c.field("block", |c| {
        for block in spec.block.keys() {
            c.field(block, |c| c.cidr(block, Range::Strict));
        }
    });
}

pub(super) fn block(c: &mut Check, spec: &IpamBlockSpec) {
    let cidr = c.field("cidr", |c| c.cidr(&spec.cidr, Range::Strict));
    if let Some(a) = spec.affinity.as_deref().filter(|a| !a.is_empty()) {
        let owner = a.strip_prefix("host:").or_else(|| a.strip_prefix("virtual:"));
        let good = owner.is_some_and(|o| text::is_made_of(o, "._-", 253));
        c.require(good, "affinity", a, "is no owner: host:<node> or virtual:<name>");
    }
    let size = spec.allocations.len();
    if let Some(expected) = cidr.and_then(|r| r.size()).filter(|n| *n != size as u128) {
        c.fail_at(
            "allocations",
            size,
            format!("a block of {} has {expected} entries", spec.cidr),
        );
    }
    c.each("allocations", &spec.allocations, |c, a| {
        if let Some(i) = a.filter(|i| *i >= spec.attributes.len()) {
            c.fail(
                i,
                format!("is no entry of attributes, which has {}", spec.attributes.len()),
            );
        }
    });
    c.unique("unallocated", &spec.unallocated);
    c.each("unallocated", &spec.unallocated, |c, n| {
        if *n >= size {
            c.fail(n, format!("is not in the block, which has {size} addresses"));
        }
    });
}
