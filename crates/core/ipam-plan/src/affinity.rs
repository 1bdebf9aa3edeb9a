use caracal_api::{BlockAffinitySpec, Object};
use caracal_net::Cidr;

use crate::{Block, Holder, PlanError, Step};

/// The next steps to take `holder`'s block away, in two phases: its claim is marked first, so that routes to the block
/// are withdrawn and its owner notices; then the block goes and the claim. `None` when nothing is left to do. After the
/// steps: observe and plan again.
pub(crate) fn take_away(
    holder: &Holder,
    claim: Option<&Object<BlockAffinitySpec>>,
    block: Option<&Block>,
) -> Option<Vec<Step>> {
    let block = block.filter(|b| b.belongs_to(holder));
    let mut steps = Vec::new();
    match claim {
        Some(a) if block.is_some() && a.spec.state != "pendingDeletion" => {
            let cidr = block.map(Block::cidr)?;
            return Some(vec![Step::PutAffinity(holder.claim(
                Some(a),
                &cidr,
                "pendingDeletion",
            ))]);
        }
        _ => {}
    }
    if let Some(b) = block {
        if b.is_empty() {
            steps.push(Step::DeleteBlock(b.object().clone()));
        } else {
            let mut b = b.clone();
            b.clear_affinity();
            b.seal();
            steps.push(Step::PutBlock(b.into_object()));
        }
    }
    steps.extend(claim.cloned().map(Step::DeleteAffinity));
    (!steps.is_empty()).then_some(steps)
}

/// The next steps towards `holder` giving up its block. An empty block vanishes; one with addresses stays, without an
/// owner, until the last address is given back. An empty list: nothing is left to do. After steps: observe and plan
/// again.
///
/// # Errors
/// [`PlanError::NotEmpty`] when `must_be_empty` and it is not; then `Err` comes before anything is marked, or after the
/// steps that unmark it.
pub fn plan_release_affinity(
    holder: &Holder,
    cidr: &Cidr,
    claim: Option<&Object<BlockAffinitySpec>>,
    block: Option<&Block>,
    must_be_empty: bool,
) -> Result<Vec<Step>, PlanError> {
    let own = block.filter(|b| b.belongs_to(holder));
    if must_be_empty && own.is_some_and(|b| !b.is_empty()) {
        // Somebody took an address after the claim was marked: the block stays.
        return match claim {
            Some(a) if a.spec.state == "pendingDeletion" => {
                Ok(vec![Step::PutAffinity(holder.claim(Some(a), cidr, "confirmed"))])
            }
            _ => Err(PlanError::NotEmpty {
                block: *cidr,
                held: own.map_or(0, |b| b.allocations().count()),
            }),
        };
    }
    Ok(take_away(holder, claim, block).unwrap_or_default())
}

/// The next steps towards `holder` owning the block `cidr` without an address in it. An empty list: it does. After steps:
/// observe and plan again.
///
/// # Errors
/// [`PlanError::Claimed`] when the block belongs to somebody else, or when another block overlaps.
pub fn plan_claim_affinity(
    observed: &crate::Observed,
    asker: &crate::Asker,
    pool: &crate::Candidate,
    cidr: &Cidr,
) -> Result<crate::Plan, PlanError> {
    if !observed.all {
        return Ok(crate::Plan::NeedAll);
    }
    let blocks = observed.readable(asker.now);
    let claimed = |by: String| PlanError::Claimed { block: *cidr, by };
    if let Some(b) = blocks.iter().find(|b| b.cidr() == *cidr)
        && !b.belongs_to(&asker.holder)
    {
        let by = b
            .holder()
            .map_or_else(|| "nobody, with addresses in use".to_owned(), |h| h.to_string());
        return Err(claimed(by));
    }
    let other = |c: &Cidr| c != cidr && c.overlaps(cidr);
    let ranges = observed
        .blocks
        .iter()
        .filter_map(|b| b.spec.cidr.parse::<Cidr>().ok());
    if let Some(c) = ranges.chain(observed.unreadable.iter().copied()).find(other) {
        return Err(claimed(format!("the block {c}, which overlaps")));
    }
    if observed.unreadable.contains(cidr) {
        return Err(claimed("a block that cannot be read".to_owned()));
    }
    let Some(stored) = observed.affinity(&asker.holder, cidr) else {
        let claim = asker.holder.claim(None, cidr, "pending");
        return Ok(crate::Plan::Prepare(vec![Step::PutAffinity(claim)]));
    };
    let pools = std::slice::from_ref(pool);
    Ok(
        crate::claim::finish_claim(observed, asker, &blocks, pools, (stored, *cidr))
            .unwrap_or(crate::Plan::Prepare(Vec::new())),
    )
}
