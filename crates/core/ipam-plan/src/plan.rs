use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{
    BlockAffinitySpec, IpPoolAllowedUse, IpPoolSpec, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
    Object,
};
use caracal_ids::NodeName;
use caracal_net::{Cidr, Family, IfAddr};

use crate::{Block, Candidate, Owner, PlanError, PoolQuery, handle_with, select_pools};

/// The default limit of blocks per node, where the configuration has 0.
const DEFAULT_MAX_BLOCKS: usize = 20;

/// What an executor read before it plans. Everything is as stored, revisions included.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// All pools.
    pub pools: Vec<Object<IpPoolSpec>>,
    /// The configuration.
    pub config: IpamConfigurationSpec,
    /// Affinities of this node, of either family.
    pub affinities: Vec<Object<BlockAffinitySpec>>,
    /// Blocks that were read; at least those of the node's affinities.
    pub blocks: Vec<Object<IpamBlockSpec>>,
    /// Whether `blocks` holds every block there is: needed before a new block is claimed or an address borrowed.
    pub all_blocks: bool,
    /// The handle, if it exists.
    pub handle: Option<Object<IpamHandleSpec>>,
    /// Ranges that are never assigned.
    pub reserved: Vec<Cidr>,
    /// Labels of the node.
    pub node_labels: BTreeMap<String, String>,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct AssignRequest {
    /// The node.
    pub node: NodeName,
    /// The family.
    pub family: Family,
    /// How many addresses.
    pub count: usize,
    /// For whom.
    pub owner: Owner,
    /// Pools asked for, by name or CIDR.
    pub pools: Vec<String>,
    /// What the address is for.
    pub usage: IpPoolAllowedUse,
    /// The time now, RFC 3339.
    pub now: String,
}

/// One write. An executor does it and, on a conflict, observes and plans again.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Create or, when it has a revision, update the affinity.
    PutAffinity(Object<BlockAffinitySpec>),
    /// Delete the affinity.
    DeleteAffinity(Object<BlockAffinitySpec>),
    /// Create or, when it has a revision, update the block.
    PutBlock(Object<IpamBlockSpec>),
    /// Delete the block.
    DeleteBlock(Object<IpamBlockSpec>),
    /// Create or, when it has a revision, update the handle.
    PutHandle(Object<IpamHandleSpec>),
    /// Delete the handle.
    DeleteHandle(Object<IpamHandleSpec>),
}

/// The way to addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum AssignPlan {
    /// Do the steps; these addresses are assigned then. There may be fewer than asked for: plan again for the rest.
    Assign {
        /// The writes, in order.
        steps: Vec<Step>,
        /// The addresses, with their block's prefix length.
        addresses: Vec<IfAddr>,
    },
    /// Do the steps (a block is claimed), then observe and plan again.
    Prepare(Vec<Step>),
    /// Read all blocks, then plan again.
    NeedAllBlocks,
}

fn affinity_of(node: &NodeName) -> String {
    format!("host:{node}")
}

/// Plans an automatic assignment: own blocks first, then a new block, then borrowing.
///
/// # Errors
/// [`PlanError`] when no pool fits or nothing is free.
pub fn plan_assign(observed: &Observed, request: &AssignRequest) -> Result<AssignPlan, PlanError> {
    let query = PoolQuery {
        family: request.family,
        usage: request.usage,
        requested: &request.pools,
        node_labels: &observed.node_labels,
        namespace_labels: &observed.namespace_labels,
    };
    let pools = select_pools(&observed.pools, &query)?;
    let own = affinity_of(&request.node);
    let blocks = readable(observed);
    let in_pools = |c: Cidr| pools.iter().any(|p| p.cidr.covers(&c));

    // An affinity without its block, or not confirmed: finish what was begun.
    if let Some(steps) = finish_claim(observed, request, &blocks, &own, &pools) {
        return Ok(AssignPlan::Prepare(steps));
    }
    let mine = blocks.iter().filter(|b| b.belongs_to(&own) && in_pools(b.cidr()));
    if let Some(plan) = take_from(mine, observed, request) {
        return Ok(plan);
    }
    if !observed.all_blocks {
        return Ok(AssignPlan::NeedAllBlocks);
    }
    let mut tried = Vec::new();
    let held = blocks.iter().filter(|b| b.belongs_to(&own)).count();
    let max = usize::try_from(observed.config.max_blocks_per_host)
        .ok()
        .filter(|m| *m > 0)
        .unwrap_or(DEFAULT_MAX_BLOCKS);
    if !observed.config.auto_allocate_blocks {
        tried.push("autoAllocateBlocks is false, so no new block is claimed".to_owned());
    } else if held >= max {
        tried.push(format!("the node has {held} blocks already and may have {max}"));
    } else {
        for pool in &pools {
            if let Some(cidr) = free_block(pool, &observed.blocks, request) {
                return Ok(AssignPlan::Prepare(vec![claim(
                    observed, request, cidr, "pending",
                )]));
            }
            tried.push(format!(
                "pool {} ({}): every block is taken",
                pool.name, pool.cidr
            ));
        }
    }
    if observed.config.strict_affinity {
        tried.push("strictAffinity forbids borrowing".to_owned());
    } else {
        let mut others: Vec<&Block> = blocks
            .iter()
            .filter(|b| !b.belongs_to(&own) && in_pools(b.cidr()))
            .collect();
        // Different nodes start at different blocks, so that they do not meet at one.
        others.sort_by_key(|b| mix(request.node.as_str(), b.cidr()));
        if let Some(plan) = take_from(others.into_iter(), observed, request) {
            return Ok(plan);
        }
        tried.push("no block of another node has a free address to borrow".to_owned());
    }
    Err(PlanError::Exhausted {
        family: request.family,
        reasons: tried.join("; "),
    })
}

/// Plans the assignment of one given address.
///
/// # Errors
/// [`PlanError`] when the address is in no pool, held already, or not to be borrowed.
pub fn plan_assign_address(
    observed: &Observed,
    request: &AssignRequest,
    addr: IpAddr,
) -> Result<AssignPlan, PlanError> {
    let covers = |p: &&Object<IpPoolSpec>| {
        p.spec.cidr.parse::<Cidr>().is_ok_and(|c| c.contains(addr)) && !p.spec.disabled
    };
    let pool = observed
        .pools
        .iter()
        .find(covers)
        .ok_or(PlanError::NotInPool(addr))?;
    let own = affinity_of(&request.node);
    if let Some(mut block) = readable(observed).into_iter().find(|b| b.cidr().contains(addr)) {
        if observed.config.strict_affinity && !block.belongs_to(&own) {
            let owner = block
                .object()
                .spec
                .affinity
                .clone()
                .unwrap_or_else(|| "nobody".into());
            return Err(PlanError::Strict { address: addr, owner });
        }
        let got = block.assign_address(addr, &request.owner)?;
        return Ok(write(observed, request, block, vec![got]));
    }
    let query = PoolQuery {
        family: Family::of(addr),
        usage: request.usage,
        requested: std::slice::from_ref(&pool.metadata.name),
        node_labels: &observed.node_labels,
        namespace_labels: &observed.namespace_labels,
    };
    let candidate = select_pools(&observed.pools, &query)?;
    let len = candidate.first().map_or(Family::of(addr).bits(), |c| c.block_len);
    let cidr = Cidr::new(addr, len);
    let blocks = readable(observed);
    if let Some(steps) = finish_claim(observed, request, &blocks, &own, &candidate) {
        return Ok(AssignPlan::Prepare(steps));
    }
    Ok(AssignPlan::Prepare(vec![claim(
        observed, request, cidr, "pending",
    )]))
}

fn readable(observed: &Observed) -> Vec<Block> {
    // A block that cannot be read is never written to; the check of the whole database names it.
    observed
        .blocks
        .iter()
        .filter(|b| !b.spec.deleted)
        .filter_map(|b| Block::read(b.clone()).ok())
        .collect()
}

fn take_from<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    observed: &Observed,
    request: &AssignRequest,
) -> Option<AssignPlan> {
    for block in blocks {
        let mut block = block.clone();
        let got = block.assign(request.count, &request.owner, &observed.reserved);
        if !got.is_empty() {
            return Some(write(observed, request, block, got));
        }
    }
    None
}

fn write(
    observed: &Observed,
    request: &AssignRequest,
    mut block: Block,
    addresses: Vec<IfAddr>,
) -> AssignPlan {
    let handle = handle_with(
        observed.handle.clone(),
        &request.owner.handle,
        &block.cidr(),
        addresses.len() as u64,
    );
    block.seal();
    AssignPlan::Assign {
        steps: vec![Step::PutHandle(handle), Step::PutBlock(block.into_object())],
        addresses,
    }
}

/// The steps that bring this node's half-done claims to an end: `pending` without a block makes the block, `pending`
/// with its own block is confirmed, a claim on a block that another node got is given up.
fn finish_claim(
    observed: &Observed,
    request: &AssignRequest,
    blocks: &[Block],
    own: &str,
    pools: &[Candidate],
) -> Option<Vec<Step>> {
    for affinity in &observed.affinities {
        let cidr: Cidr = affinity.spec.cidr.parse().ok()?;
        let state = affinity.spec.state.as_str();
        if cidr.family() != request.family || affinity.spec.deleted || state == "pendingDeletion" {
            continue;
        }
        let exists = blocks.iter().find(|b| b.cidr() == cidr);
        match exists {
            Some(b) if b.belongs_to(own) && state == "confirmed" => {}
            Some(b) if b.belongs_to(own) => return Some(vec![claim(observed, request, cidr, "confirmed")]),
            Some(_) => return Some(vec![Step::DeleteAffinity(affinity.clone())]),
            // The pool is gone or may not be used now: making the block would not help.
            None if !pools.iter().any(|p| p.cidr.covers(&cidr)) => {}
            None if observed.blocks.iter().any(|b| b.spec.cidr == affinity.spec.cidr) => {}
            None => {
                let block = Block::new(cidr, own, &request.now);
                return Some(vec![
                    Step::PutBlock(block.into_object()),
                    claim(observed, request, cidr, "confirmed"),
                ]);
            }
        }
    }
    None
}

fn claim(observed: &Observed, request: &AssignRequest, cidr: Cidr, state: &str) -> Step {
    let name = BlockAffinitySpec::object_name(request.node.as_str(), &cidr);
    let stored = observed
        .affinities
        .iter()
        .find(|a| a.spec.cidr == cidr.to_string());
    let mut affinity = stored
        .cloned()
        .unwrap_or_else(|| Object::new(name, BlockAffinitySpec::default()));
    affinity.spec = BlockAffinitySpec {
        state: state.to_owned(),
        node: request.node.to_string(),
        affinity_type: "host".to_owned(),
        cidr: cidr.to_string(),
        deleted: false,
    };
    Step::PutAffinity(affinity)
}

/// A block of the pool that does not exist yet; different nodes look in different places first.
fn free_block(pool: &Candidate, blocks: &[Object<IpamBlockSpec>], request: &AssignRequest) -> Option<Cidr> {
    let taken: Vec<Cidr> = blocks.iter().filter_map(|b| b.spec.cidr.parse().ok()).collect();
    let taken: std::collections::BTreeSet<Cidr> =
        taken.into_iter().filter(|c| pool.cidr.overlaps(c)).collect();
    let count = 1u128 << u32::from(pool.block_len - pool.cidr.len()).min(100);
    let start = u128::from(mix(request.node.as_str(), pool.cidr)) % count;
    // Among `taken + 1` different candidates one must be free.
    let tries = (taken.len() as u128 + 1).min(count);
    let step = 1u128 << u32::from(pool.cidr.family().bits() - pool.block_len);
    let candidate = |i: u128| {
        pool.cidr
            .nth(((start + i) % count) * step)
            .map(|a| Cidr::new(a, pool.block_len))
    };
    let is_free = |c: &Cidr| {
        // Blocks of another size may overlap after a pool was made anew with another block size.
        let before = taken.range(..=*c).next_back().is_some_and(|t| t.overlaps(c));
        !before && taken.range(*c..).next().is_none_or(|t| !t.overlaps(c))
    };
    (0..tries.saturating_mul(2).min(count))
        .filter_map(candidate)
        .find(is_free)
}

/// A number that spreads (node, range) pairs; stable over versions.
fn mix(node: &str, cidr: Cidr) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(node)
        .chain_update(cidr.to_string())
        .finalize();
    digest.iter().take(8).fold(0, |n, b| (n << 8) | u64::from(*b))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
