use std::{collections::BTreeMap, net::IpAddr};

use caracal_net::{Cidr, Family};

use crate::{
    Asker, Block, Candidate, Observed, Plan, PlanError, Step, Want,
    assign::{Draft, dying_handles, lends, within_limit},
    claim, pool,
};

/// Plans the assignment of one given address. Reservations, selectors and the assignment mode are for automatic
/// assignment only: who names an address gets it, unless somebody has it.
///
/// # Errors
/// [`PlanError`] when the address is in no open pool, held already, or not to be borrowed.
pub fn plan_address(
    observed: &Observed,
    asker: &Asker,
    want: &Want,
    addr: IpAddr,
) -> Result<Plan, PlanError> {
    let pool = pool_of(observed, addr)?;
    within_limit(observed, want)?;
    if let Some(plan) = dying_handles(observed, std::iter::once(want)) {
        return Ok(plan);
    }
    let blocks = observed.readable(asker.now);
    let family = [Family::of(addr)];
    if let Some(plan) = claim::finish(observed, asker, &blocks, &family, std::slice::from_ref(&pool)) {
        return Ok(plan);
    }
    let around = |b: &&Block| b.cidr().contains(addr);
    let live = blocks.iter().filter(around).find(|b| !b.is_fresh());
    let Some(block) = live.or_else(|| blocks.iter().find(around)) else {
        return address_of_new_block(observed, asker, &pool, addr);
    };
    if block.is_fresh() {
        return Ok(Plan::Wait(format!("the block {} is being made", block.cidr())));
    }
    if !block.belongs_to(&asker.holder) {
        if observed.config.strict_affinity {
            let owner = block
                .holder()
                .map_or_else(|| "nobody".to_owned(), |h| h.to_string());
            return Err(PlanError::Strict { address: addr, owner });
        }
        if !observed.all {
            return Ok(Plan::NeedAll);
        }
        // Who has it is a better answer than why it could not be lent.
        if let (Err(why), None) = (lends(observed, asker, block), block.attribute(addr)) {
            return Ok(Plan::Wait(format!(
                "{addr} is in the block {}: {why}",
                block.cidr()
            )));
        }
    }
    let mut block = block.clone();
    let got = block.assign_address(addr, &want.owner)?;
    let cidr = block.cidr();
    let draft = Draft {
        blocks: BTreeMap::from([(cidr, (block, vec![(0, vec![got])]))]),
    };
    Ok(draft.write(observed, &[(0, want.clone())]))
}

fn pool_of(observed: &Observed, addr: IpAddr) -> Result<Candidate, PlanError> {
    let mut reasons = Vec::new();
    for p in &observed.pools {
        let Ok(c) = pool::candidate(p) else { continue };
        if !c.cidr.contains(addr) {
            continue;
        }
        let why = pool::closed(p).or_else(|| {
            pool::elder(p, c.cidr, &observed.pools)
                .map(|(name, range)| format!("its range overlaps with {range} of the older pool {name}"))
        });
        match why {
            None => return Ok(c),
            Some(why) => reasons.push(format!("pool {}: {why}", c.name)),
        }
    }
    if reasons.is_empty() {
        return Err(PlanError::NotInPool(addr));
    }
    Err(PlanError::NoPool {
        family: Family::of(addr),
        reasons: reasons.join("; "),
    })
}

fn address_of_new_block(
    observed: &Observed,
    asker: &Asker,
    pool: &Candidate,
    addr: IpAddr,
) -> Result<Plan, PlanError> {
    if !observed.all {
        return Ok(Plan::NeedAll);
    }
    let cidr = Cidr::new(addr, pool.block_len);
    let stored = observed
        .blocks
        .iter()
        .filter_map(|b| b.spec.cidr.parse::<Cidr>().ok());
    let known = stored.chain(observed.unreadable.iter().copied());
    if let Some(other) = known.into_iter().find(|c| c.overlaps(&cidr)) {
        return Err(PlanError::Claimed {
            block: cidr,
            by: format!("the block {other}, which cannot be used"),
        });
    }
    let claim = asker
        .holder
        .claim(observed.affinity(&asker.holder, &cidr), &cidr, "pending");
    Ok(Plan::Prepare(vec![Step::PutAffinity(claim)]))
}
