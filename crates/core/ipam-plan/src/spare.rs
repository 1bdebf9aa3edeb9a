use caracal_net::Cidr;

use crate::{Block, Candidate, Holder, Observed, Stamp, pool};

/// Blocks that `holder` does not need: empty ones, claimed more than a minute ago, without its last of a family, as long
/// as its other blocks of the same pool keep free addresses for a quarter of a block. Empty blocks from which nothing may
/// be taken any more are not needed at all.
#[must_use]
pub fn spare_blocks(observed: &Observed, holder: &Holder, now: Stamp) -> Vec<Cidr> {
    const AGE: i64 = 60;
    let blocks = observed.readable(now);
    let own: Vec<&Block> = blocks.iter().filter(|b| b.belongs_to(holder)).collect();
    let pools: Vec<Candidate> = observed
        .pools
        .iter()
        .filter_map(|p| pool::candidate(p).ok())
        .collect();
    let pool_of = |c: Cidr| pools.iter().position(|p| p.cidr.covers(&c));
    let useful = |b: &&Block| !b.is_empty() && pool_of(b.cidr()).is_some();
    let mut kept: Vec<&Block> = own.iter().copied().filter(useful).collect();
    let mut spare = Vec::new();
    for b in own.iter().filter(|b| b.is_empty()) {
        let cidr = b.cidr();
        let young = b.claimed_at().is_some_and(|t| now.since(t) < AGE);
        let last = !kept.iter().any(|k| k.cidr().family() == cidr.family());
        let free: usize = kept
            .iter()
            .filter(|k| pool_of(k.cidr()) == pool_of(cidr))
            .map(|k| k.free(&observed.reserved))
            .sum();
        let wanted = (b.free(&[]) / 4).max(1);
        let useful = pool_of(cidr).is_some();
        if young || useful && (last || free < wanted) {
            kept.push(b);
        } else {
            spare.push(cidr);
        }
    }
    spare
}
