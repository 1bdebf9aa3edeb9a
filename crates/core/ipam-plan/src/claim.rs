use std::collections::BTreeSet;

use caracal_api::{IpamBlockSpec, Object};
use caracal_net::{Cidr, Family};

use crate::{Asker, Block, Candidate, Holder, Observed, Plan, Step};

/// How long an empty block stays with its host before others may take it, in seconds.
const RECLAIM_AGE: i64 = 60;

/// The steps that bring the asker's half-done claims to an end, if there are any in the families and pools at hand.
pub(crate) fn finish(
    observed: &Observed,
    asker: &Asker,
    blocks: &[Block],
    families: &[Family],
    pools: &[Candidate],
) -> Option<Plan> {
    let own = observed
        .affinities
        .iter()
        .filter(|a| Holder::of_affinity(&a.spec) == asker.holder);
    for affinity in own {
        let Ok(cidr) = affinity.spec.cidr.parse::<Cidr>() else {
            continue;
        };
        if !families.contains(&cidr.family()) || observed.unreadable.contains(&cidr) {
            continue;
        }
        if affinity.spec.deleted {
            return Some(Plan::Prepare(vec![Step::DeleteAffinity(affinity.clone())]));
        }
        let stored = observed.blocks.iter().find(|b| b.spec.cidr == affinity.spec.cidr);
        if let Some(gone) = stored.filter(|b| b.spec.deleted) {
            return Some(Plan::Prepare(vec![Step::DeleteBlock(gone.clone())]));
        }
        let state = affinity.spec.state.as_str();
        let give_up = || Some(Plan::Prepare(vec![Step::DeleteAffinity(affinity.clone())]));
        let plan = match (blocks.iter().find(|b| b.cidr() == cidr), stored) {
            (Some(b), _) if b.belongs_to(&asker.holder) => match state {
                "confirmed" => None,
                _ => confirm(observed, asker, b),
            },
            // Another was faster.
            (Some(_), _) => give_up(),
            // The block is there and cannot be read: nothing to be done here.
            (None, Some(_)) => None,
            (None, None) if state == "pendingDeletion" => give_up(),
            (None, None) => make(observed, asker, cidr, pools),
        };
        if plan.is_some() {
            return plan;
        }
    }
    None
}

/// A new block counts from the moment its claim is confirmed. Before that, whoever made it looks whether another block
/// that overlaps was made at the same time, by somebody with another idea of the pools: who sees one steps back, and of
/// two at least one sees the other.
fn confirm(observed: &Observed, asker: &Asker, block: &Block) -> Option<Plan> {
    if !observed.all {
        return Some(Plan::NeedAll);
    }
    let cidr = block.cidr();
    let stored = observed.affinity(&asker.holder, &cidr);
    if !overlapped(observed, &cidr) {
        let claim = asker.holder.claim(stored, &cidr, "confirmed");
        return Some(Plan::Prepare(vec![Step::PutAffinity(claim)]));
    }
    if !block.is_empty() {
        // Made by hand: the check of the whole database names it. Nothing is taken from it.
        return None;
    }
    let mut steps = vec![Step::DeleteBlock(block.object().clone())];
    steps.extend(stored.cloned().map(Step::DeleteAffinity));
    Some(Plan::Prepare(steps))
}

fn make(observed: &Observed, asker: &Asker, cidr: Cidr, pools: &[Candidate]) -> Option<Plan> {
    // The pool is gone, is made anew with other blocks, or may not be used now: making the block would not help.
    if !pools
        .iter()
        .any(|p| p.cidr.covers(&cidr) && p.block_len == cidr.len())
    {
        return None;
    }
    let block = Block::new(cidr, &asker.holder, asker.now, asker.host_reserved.as_ref());
    let stored = observed.affinity(&asker.holder, &cidr);
    let mut steps = Vec::new();
    // Nobody may rely on the block before it was compared with all others.
    if stored.is_none_or(|a| a.spec.state != "pending") {
        steps.push(Step::PutAffinity(asker.holder.claim(stored, &cidr, "pending")));
    }
    steps.push(Step::PutBlock(block.into_object()));
    Some(Plan::Prepare(steps))
}

fn overlapped(observed: &Observed, cidr: &Cidr) -> bool {
    let parsed = observed.blocks.iter().filter_map(|b| b.spec.cidr.parse().ok());
    parsed
        .chain(observed.unreadable.iter().copied())
        .any(|c: Cidr| c != *cidr && c.overlaps(cidr))
}

/// The first step towards a new block of the pool, if there is room.
pub(crate) fn begin(observed: &Observed, asker: &Asker, pool: &Candidate) -> Option<Plan> {
    let cidr = free_block(observed, asker, pool)?;
    let stored = observed.affinity(&asker.holder, &cidr);
    let claim = asker.holder.claim(stored, &cidr, "pending");
    Some(Plan::Prepare(vec![Step::PutAffinity(claim)]))
}

/// Takes an empty block of the pool from another host, so that its range is free.
pub(crate) fn reclaim(
    observed: &Observed,
    asker: &Asker,
    blocks: &[Block],
    pool: &Candidate,
) -> Option<Plan> {
    let old = |b: &&Block| b.claimed_at().is_none_or(|t| asker.now.since(t) >= RECLAIM_AGE);
    blocks
        .iter()
        .filter(|b| pool.cidr.covers(&b.cidr()) && b.is_empty())
        .filter(old)
        .find_map(|b| match b.holder() {
            Some(h @ Holder::Host(_)) if h != asker.holder => {
                let claim = observed.affinity(&h, &b.cidr());
                crate::affinity::take_away(&h, claim, Some(b)).map(Plan::Prepare)
            }
            _ => None,
        })
}

/// A block of the pool that does not exist yet; different nodes look in different places first.
fn free_block(observed: &Observed, asker: &Asker, pool: &Candidate) -> Option<Cidr> {
    let in_pool = |c: &Cidr| pool.cidr.overlaps(c);
    let range = |b: &Object<IpamBlockSpec>| b.spec.cidr.parse::<Cidr>().ok();
    let taken: BTreeSet<Cidr> = observed
        .blocks
        .iter()
        .filter_map(range)
        .chain(observed.unreadable.iter().copied())
        .filter(in_pool)
        .collect();
    let claimed = observed
        .affinities
        .iter()
        .filter(|a| Holder::of_affinity(&a.spec) != asker.holder)
        .filter_map(|a| a.spec.cidr.parse::<Cidr>().ok())
        .filter(in_pool);
    let avoided: BTreeSet<Cidr> = taken.iter().copied().chain(claimed).collect();
    // What others claimed and have not made is left to them as long as there is anything else.
    search(pool, &avoided, asker.holder.name()).or_else(|| search(pool, &taken, asker.holder.name()))
}

fn search(pool: &Candidate, taken: &BTreeSet<Cidr>, node: &str) -> Option<Cidr> {
    let count = 1u128 << u32::from(pool.block_len - pool.cidr.len()).min(100);
    let start = u128::from(mix(node, pool.cidr)) % count;
    let step = 1u128 << u32::from(pool.cidr.family().bits() - pool.block_len);
    let candidate = |i: u128| {
        pool.cidr
            .nth(((start + i) % count) * step)
            .map(|a| Cidr::new(a, pool.block_len))
    };
    let is_free = |c: &Cidr| {
        // Blocks of another size may overlap after a pool was made anew with another block size: one that is wider begins
        // before or with it, one that is narrower begins in it.
        let outer = (pool.cidr.len()..=c.len()).any(|len| taken.contains(&Cidr::new(c.addr(), len)));
        let inner = || taken.range(*c..).next().is_some_and(|t| c.covers(t));
        !outer && !inner()
    };
    // Each taken range keeps at most so many candidates from being free.
    let blocked: u128 = taken
        .iter()
        .map(|t| 1u128 << u32::from(pool.block_len.saturating_sub(t.len())).min(64))
        .sum();
    (0..blocked.saturating_add(1).min(count))
        .filter_map(candidate)
        .find(is_free)
}

/// A number that spreads (node, range) pairs; stable over versions.
pub(crate) fn mix(node: &str, cidr: Cidr) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(node)
        .chain_update(cidr.to_string())
        .finalize();
    digest.iter().take(8).fold(0, |n, b| (n << 8) | u64::from(*b))
}
