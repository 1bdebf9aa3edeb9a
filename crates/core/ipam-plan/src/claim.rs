//! How a block comes to life, and why no two live blocks overlap.
//!
//! Blocks of different sizes can overlap when a pool is made anew with another block size, for nodes may have different
//! ideas of the pools for a while. One compare-and-swap covers one object, so two nodes cannot claim a range together;
//! instead the block itself says whether it may be used. A block is *fresh* as long as nobody wrote it after it was made
//! (number 0, no address); every other block is *live*. The rules:
//!
//! 1. A block is made fresh, and nothing is ever assigned from a fresh block, by nobody.
//! 2. A fresh block becomes live by one write, its *settling* ([`settle`]): a compare-and-swap against the revision in which
//!    it was seen in a list of **all** blocks that has no other block that overlaps with it.
//! 3. A fresh block may be deleted by anybody at any time (compare and swap): nobody relies on it. Whoever made it begins
//!    again. No other operation writes a fresh block: a release that needs a write deletes it.
//!
//! **No two live blocks overlap.** Let X and Y overlap and both be live at one moment. Each was in its own list when it was
//! settled, and by rule 2's compare-and-swap it has existed since that list was read. Let X's list be the earlier one. Then
//! X existed when Y's list was read, so it was in it, and Y would not have been settled. The argument needs nothing but
//! that a list shows one moment of the datastore and that revisions are never used twice; how many processes of one or of
//! several nodes there are, how old what they read is, whether they die between any two calls or come back after a day,
//! and in which state the claims are, does not enter into it.
//!
//! **Somebody gets on.** Of fresh blocks that overlap the first in the order of ranges wins: the others' owners step back
//! from theirs, and the winner deletes what is left of them, for their owners may be dead.
//!
//! The claim (`BlockAffinity`) tells its node which blocks it has, and the others which routes there are. It is `pending`
//! before the block is made, and `confirmed` just before the write that settles the block. Because claims do not decide
//! whether a block may be used, one that is written late does no harm: a claim without a block makes nobody use anything,
//! and a fresh block without a claim is found by who made it (it reads all blocks until it is done) or by the collector.
//!
//! **A live block has its claim.** Who gives a claim up has read it before it read that the block is not there (or has
//! deleted the block since), and deletes it by compare and swap. A block that is settled afterwards changes its claim from
//! `pending` to `confirmed` first, so the stale deletion fails; or it finds the claim gone, and the block stays fresh.
//!
//! `interleavings.rs` tries every order of the calls of small groups of processes on these functions.

use std::collections::BTreeSet;

use caracal_api::{BlockAffinitySpec, IpamBlockSpec, Object};
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
        let plan = finish_claim(observed, asker, blocks, pools, (affinity, cidr));
        if plan.is_some() {
            return plan;
        }
    }
    // Made by somebody whose claim was given up before, or the claim was lost: nobody else would find it.
    let stray = |b: &&Block| {
        b.belongs_to(&asker.holder)
            && families.contains(&b.cidr().family())
            && observed.affinity(&asker.holder, &b.cidr()).is_none()
    };
    let stray = blocks.iter().filter(|_| observed.all).find(stray)?;
    if stray.is_fresh() {
        return settle(observed, asker, stray);
    }
    let claim = asker.holder.claim(None, &stray.cidr(), "confirmed");
    Some(Plan::Prepare(vec![Step::PutAffinity(claim)]))
}

/// The steps that bring one claim to an end.
pub(crate) fn finish_claim(
    observed: &Observed,
    asker: &Asker,
    blocks: &[Block],
    pools: &[Candidate],
    (affinity, cidr): (&Object<BlockAffinitySpec>, Cidr),
) -> Option<Plan> {
    let give_up = || Some(Plan::Prepare(vec![Step::DeleteAffinity(affinity.clone())]));
    if affinity.spec.deleted {
        return give_up();
    }
    let stored = observed.blocks.iter().find(|b| b.spec.cidr == affinity.spec.cidr);
    if let Some(gone) = stored.filter(|b| b.spec.deleted) {
        return Some(Plan::Prepare(vec![Step::DeleteBlock(gone.clone())]));
    }
    let state = affinity.spec.state.as_str();
    match (blocks.iter().find(|b| b.cidr() == cidr), stored) {
        (Some(b), _) if b.belongs_to(&asker.holder) => match state {
            _ if b.is_fresh() => settle(observed, asker, b),
            "confirmed" => None,
            _ => {
                let claim = asker.holder.claim(Some(affinity), &cidr, "confirmed");
                Some(Plan::Prepare(vec![Step::PutAffinity(claim)]))
            }
        },
        // Another was faster.
        (Some(_), _) => give_up(),
        // The block is there and cannot be read: nothing to be done here.
        (None, Some(_)) => None,
        (None, None) if state == "pendingDeletion" => give_up(),
        (None, None) => make(observed, asker, affinity, (cidr, pools)),
    }
}

/// Settles a fresh block, or steps back from it (the proof is in the head of this module).
fn settle(observed: &Observed, asker: &Asker, block: &Block) -> Option<Plan> {
    if !observed.all {
        return Some(Plan::NeedAll);
    }
    let cidr = block.cidr();
    let stored = observed.affinity(&asker.holder, &cidr);
    let (rivals, others) = around(observed, &cidr);
    if others || rivals.iter().any(|r| *r < cidr) {
        let mut steps = vec![Step::DeleteBlock(block.object().clone())];
        steps.extend(stored.cloned().map(Step::DeleteAffinity));
        return Some(Plan::Prepare(steps));
    }
    if !rivals.is_empty() {
        let left = observed
            .blocks
            .iter()
            .filter(|b| b.spec.cidr.parse().is_ok_and(|c: Cidr| rivals.contains(&c)));
        return Some(Plan::Prepare(
            left.map(|b| Step::DeleteBlock(b.clone())).collect(),
        ));
    }
    let claim = |state| Step::PutAffinity(asker.holder.claim(stored, &cidr, state));
    if stored.is_none_or(|a| a.spec.state != "pending") {
        return Some(Plan::Prepare(vec![claim("pending")]));
    }
    let mut settled = block.clone();
    settled.seal();
    let settled = Step::PutBlock(settled.into_object());
    Some(Plan::Prepare(vec![claim("confirmed"), settled]))
}

fn make(
    observed: &Observed,
    asker: &Asker,
    affinity: &Object<BlockAffinitySpec>,
    (cidr, pools): (Cidr, &[Candidate]),
) -> Option<Plan> {
    // The pool is gone, is made anew with other blocks, or may not be used now: making the block would not help.
    if !pools
        .iter()
        .any(|p| p.cidr.covers(&cidr) && p.block_len == cidr.len())
    {
        return None;
    }
    // Whoever makes a block has to see what becomes of it, and its claim may be gone by then.
    if !observed.all {
        return Some(Plan::NeedAll);
    }
    let (rivals, others) = around(observed, &cidr);
    if others || !rivals.is_empty() {
        return Some(Plan::Prepare(vec![Step::DeleteAffinity(affinity.clone())]));
    }
    let mut steps = Vec::new();
    if affinity.spec.state != "pending" {
        let claim = asker.holder.claim(Some(affinity), &cidr, "pending");
        steps.push(Step::PutAffinity(claim));
    }
    let block = Block::new(cidr, &asker.holder, asker.now, asker.host_reserved.as_ref());
    steps.push(Step::PutBlock(block.into_object()));
    Some(Plan::Prepare(steps))
}

/// The fresh blocks that overlap with the range, and whether others do.
fn around(observed: &Observed, cidr: &Cidr) -> (BTreeSet<Cidr>, bool) {
    let overlaps = |c: &Cidr| c != cidr && c.overlaps(cidr);
    let mut rivals = BTreeSet::new();
    let mut others = observed.unreadable.iter().any(overlaps);
    for b in &observed.blocks {
        let Some(c) = b.spec.cidr.parse().ok().filter(overlaps) else {
            continue;
        };
        let fresh = !b.spec.deleted && Block::read(b.clone()).is_ok_and(|b| b.is_fresh());
        others |= !fresh;
        if fresh {
            rivals.insert(c);
        }
    }
    (rivals, others)
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

#[cfg(test)]
mod interleavings;
