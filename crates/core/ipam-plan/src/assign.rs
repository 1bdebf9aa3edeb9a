use std::collections::{BTreeMap, BTreeSet};

use caracal_net::{Cidr, Family, IfAddr};

use crate::{
    Asker, Block, BlockWrite, Candidate, Observed, Plan, PlanError, PoolQuery, Step, Want, claim, counted,
    handle_with, select_pools,
};

/// The default limit of blocks per node, where the configuration has 0.
const DEFAULT_MAX_BLOCKS: usize = 20;

/// What becomes of a group in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    /// What to do for those who are not refused; `None` when all are.
    pub plan: Option<Plan>,
    /// Who gets nothing (more), and why.
    pub refused: Vec<(usize, PlanError)>,
}

/// One of the group with the pools that fit it.
struct Member<'a> {
    index: usize,
    want: &'a Want,
    pools: Vec<Candidate>,
}

/// Who of the group gets which addresses.
pub(crate) type Given = Vec<(usize, Vec<IfAddr>)>;

/// Blocks that change, and who gets what of them.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) blocks: BTreeMap<Cidr, (Block, Given)>,
}

/// Plans automatic assignments for all who wait at one moment: own blocks first, then a new block, then borrowing. Each
/// block is written once, whoever gets addresses of it. An assignment may be smaller than wanted: the rest is for the
/// next round.
#[must_use]
pub fn plan_group(observed: &Observed, asker: &Asker, wants: &[(usize, Want)]) -> GroupPlan {
    let (members, mut refused) = admit(observed, wants);
    if members.is_empty() {
        return GroupPlan { plan: None, refused };
    }
    let go = |plan, refused| GroupPlan {
        plan: Some(plan),
        refused,
    };
    if let Some(plan) = dying_handles(observed, members.iter().map(|m| m.want)) {
        return go(plan, refused);
    }
    let blocks = observed.readable(asker.now);
    let mut families: Vec<Family> = members.iter().map(|m| m.want.family).collect();
    families.sort_unstable();
    families.dedup();
    let pools: Vec<Candidate> = members.iter().flat_map(|m| m.pools.iter().cloned()).collect();
    if let Some(plan) = claim::finish(observed, asker, &blocks, &families, &pools) {
        return go(plan, refused);
    }
    let mut draft = Draft::default();
    let mine: Vec<&Block> = blocks.iter().filter(|b| usable(observed, asker, b)).collect();
    for m in &members {
        draft.serve(m, &mine, &observed.reserved);
    }
    if !draft.blocks.is_empty() {
        return go(draft.write(observed, wants), refused);
    }
    if !observed.all {
        return go(Plan::NeedAll, refused);
    }
    let mut unserved = Vec::new();
    for m in members {
        match new_block(observed, asker, &blocks, &m) {
            Ok(plan) => return go(plan, refused),
            Err(tried) => unserved.push((m, tried)),
        }
    }
    let lendable = lendable(observed, asker, &blocks);
    for (m, mut tried) in unserved {
        if observed.config.strict_affinity {
            tried.push("strictAffinity forbids borrowing".to_owned());
        } else if draft.serve(&m, &lendable, &observed.reserved) {
            continue;
        } else {
            tried.push("no block of another node has a free address to borrow".to_owned());
        }
        tried.extend(crate::pool::passed_over(
            &observed.pools,
            &query(observed, m.want),
        ));
        refused.push((
            m.index,
            PlanError::Exhausted {
                family: m.want.family,
                reasons: tried.join("; "),
            },
        ));
    }
    let plan = (!draft.blocks.is_empty()).then(|| draft.write(observed, wants));
    GroupPlan { plan, refused }
}

fn admit<'a>(observed: &Observed, wants: &'a [(usize, Want)]) -> (Vec<Member<'a>>, Vec<(usize, PlanError)>) {
    let mut members = Vec::new();
    let mut refused = Vec::new();
    for (index, want) in wants {
        let query = query(observed, want);
        match select_pools(&observed.pools, &query).and_then(|p| within_limit(observed, want).map(|()| p)) {
            Ok(pools) => members.push(Member {
                index: *index,
                want,
                pools,
            }),
            Err(e) => refused.push((*index, e)),
        }
    }
    (members, refused)
}

fn query<'a>(observed: &'a Observed, want: &'a Want) -> PoolQuery<'a> {
    PoolQuery {
        family: want.family,
        usage: want.usage,
        requested: &want.pools,
        node_labels: &observed.node_labels,
        namespace_labels: &want.namespace_labels,
    }
}

/// A handle that may hold only so many addresses of a family.
pub(crate) fn within_limit(observed: &Observed, want: &Want) -> Result<(), PlanError> {
    let (Some(max), Some(handle)) = (want.max_per_handle, observed.handles.get(&want.owner.handle)) else {
        return Ok(());
    };
    let blocks = handle.spec.block.keys().filter_map(|c| c.parse::<Cidr>().ok());
    let held: u64 = blocks
        .filter(|c| c.family() == want.family)
        .map(|c| counted(handle, &c))
        .sum();
    if held + want.count as u64 <= max {
        return Ok(());
    }
    Err(PlanError::HandleFull {
        handle: want.owner.handle.clone(),
        held,
        max,
    })
}

/// Handles that Calico marked and has not deleted yet: they go first, for an update would not save them.
pub(crate) fn dying_handles<'a>(observed: &Observed, wants: impl Iterator<Item = &'a Want>) -> Option<Plan> {
    let names: BTreeSet<&str> = wants.map(|w| w.owner.handle.as_str()).collect();
    let steps: Vec<Step> = names
        .iter()
        .filter_map(|n| observed.handles.get(*n))
        .filter(|h| h.spec.deleted)
        .map(|h| Step::DeleteHandle(h.clone()))
        .collect();
    (!steps.is_empty()).then_some(Plan::Prepare(steps))
}

/// Whether the asker's own claim on the block is in force.
fn usable(observed: &Observed, asker: &Asker, block: &Block) -> bool {
    block.belongs_to(&asker.holder)
        && !block.is_fresh()
        && observed
            .affinity(&asker.holder, &block.cidr())
            .is_some_and(|a| a.spec.state == "confirmed")
}

/// Blocks of others from which addresses may be borrowed. Different nodes start at different blocks, so that they do not
/// meet at one.
fn lendable<'a>(observed: &Observed, asker: &Asker, blocks: &'a [Block]) -> Vec<&'a Block> {
    let mut others: Vec<&Block> = blocks
        .iter()
        .filter(|b| lends(observed, asker, b) == Ok(()))
        .collect();
    others.sort_by_key(|b| claim::mix(asker.holder.name(), b.cidr()));
    others
}

/// Whether an address of somebody else's block may be taken. One whose claim is not confirmed may still vanish.
pub(crate) fn lends(observed: &Observed, asker: &Asker, block: &Block) -> Result<(), String> {
    match block.holder() {
        _ if block.is_fresh() => Err("it is being made".to_owned()),
        None if block.object().spec.affinity.is_none() => Ok(()),
        None => Err("its affinity cannot be read".to_owned()),
        Some(h) if h == asker.holder => Err("it is the asker's own".to_owned()),
        Some(h) => match observed.affinity(&h, &block.cidr()) {
            Some(a) if a.spec.state == "confirmed" => Ok(()),
            Some(a) => Err(format!("the claim of {h} is {}", a.spec.state)),
            None => Err(format!("{h} has no claim on it")),
        },
    }
}

/// A plan that leads to a new block for the member, or what was tried.
fn new_block(
    observed: &Observed,
    asker: &Asker,
    blocks: &[Block],
    member: &Member<'_>,
) -> Result<Plan, Vec<String>> {
    let family = member.want.family;
    let held = blocks
        .iter()
        .filter(|b| b.belongs_to(&asker.holder) && b.cidr().family() == family)
        .count();
    let configured = usize::try_from(observed.config.max_blocks_per_host)
        .ok()
        .filter(|m| *m > 0)
        .unwrap_or(DEFAULT_MAX_BLOCKS);
    let max = asker.max_blocks.map_or(configured, |m| m.min(configured));
    if !observed.config.auto_allocate_blocks {
        return Err(vec![
            "autoAllocateBlocks is false, so no new block is claimed".to_owned(),
        ]);
    }
    if held >= max {
        return Err(vec![format!(
            "{} has {held} blocks already and may have {max} (maxBlocksPerHost)",
            asker.holder.name()
        )]);
    }
    if let Some(plan) = member.pools.iter().find_map(|p| claim::begin(observed, asker, p)) {
        return Ok(plan);
    }
    let reclaim = |p| claim::reclaim(observed, asker, blocks, p);
    if let Some(plan) = member.pools.iter().find_map(reclaim) {
        return Ok(plan);
    }
    Err(member
        .pools
        .iter()
        .map(|p| format!("pool {} ({}): every block is taken", p.name, p.cidr))
        .collect())
}

impl Draft {
    /// Takes what the blocks have for the member; says whether it got anything.
    fn serve(&mut self, member: &Member<'_>, blocks: &[&Block], reserved: &[Cidr]) -> bool {
        let mut missing = member.want.count;
        for pool in &member.pools {
            for b in blocks.iter().filter(|b| pool.cidr.covers(&b.cidr())) {
                if missing == 0 {
                    return true;
                }
                // A block is copied when the first one takes of it.
                let (mut block, mut given) = match self.blocks.remove(&b.cidr()) {
                    Some(changed) => changed,
                    None if b.has_free(reserved) => ((*b).clone(), Vec::new()),
                    None => continue,
                };
                let got = block.assign(missing, &member.want.owner, reserved);
                missing -= got.len();
                if !got.is_empty() {
                    given.push((member.index, got));
                }
                if !given.is_empty() {
                    self.blocks.insert(block.cidr(), (block, given));
                }
            }
        }
        missing < member.want.count
    }

    pub(crate) fn write(self, observed: &Observed, wants: &[(usize, Want)]) -> Plan {
        let owners: BTreeMap<usize, &str> =
            wants.iter().map(|(i, w)| (*i, w.owner.handle.as_str())).collect();
        let mut handles = BTreeMap::new();
        let mut writes = Vec::new();
        for (cidr, (mut block, assigned)) in self.blocks {
            let names: BTreeSet<&str> = assigned
                .iter()
                .filter_map(|(i, _)| owners.get(i).copied())
                .collect();
            for name in names {
                let so_far = handles
                    .remove(name)
                    .or_else(|| observed.handles.get(name).cloned());
                let count = block.held_by(name).len() as u64;
                handles.insert(name.to_owned(), handle_with(so_far, name, &cidr, count));
            }
            block.seal();
            writes.push(BlockWrite {
                step: Step::PutBlock(block.into_object()),
                assigned,
            });
        }
        Plan::Write {
            handles: handles.into_values().map(Step::PutHandle).collect(),
            blocks: writes,
        }
    }
}

#[cfg(test)]
mod tests;
