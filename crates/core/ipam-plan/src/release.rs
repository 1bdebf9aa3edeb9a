use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_api::{IpamBlockSpec, IpamHandleSpec, Object};
use caracal_net::Cidr;

use crate::{Block, PlanError, ReleaseOutcome, Stamp, Step, counted, handle_exact};

/// What is to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseRequest {
    /// Everything a handle holds.
    Handle(String),
    /// Nothing: only what a handle counts in the block is put right.
    Count(String),
    /// One address.
    Address {
        /// The address.
        addr: IpAddr,
        /// Only if this handle holds it.
        handle: Option<String>,
        /// Only if it was allocated under this number.
        sequence: Option<u64>,
    },
}

/// The way to a release from one block.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasePlan {
    /// The writes, in order: the block first, then the handles.
    pub steps: Vec<Step>,
    /// The addresses that become free (or rest).
    pub released: Vec<IpAddr>,
    /// The addresses asked for that somebody else holds by now.
    pub not_those: Vec<IpAddr>,
    /// The handles that may count too many in this block when the steps are cut off after the first.
    pub handles: BTreeSet<String>,
    /// Whether the block has no address in use afterwards.
    pub emptied: bool,
}

/// The handles that a release from the block is about: to be read before the plan is made.
#[must_use]
pub fn handles_of(block: Option<&Block>, requests: &[ReleaseRequest]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for r in requests {
        match r {
            ReleaseRequest::Handle(h) | ReleaseRequest::Count(h) => {
                names.insert(h.clone());
            }
            ReleaseRequest::Address { addr, handle, .. } => {
                names.extend(handle.clone());
                let holder = block.and_then(|b| b.attribute(*addr));
                names.extend(holder.and_then(|a| a.handle_id.clone()));
            }
        }
    }
    names
}

/// Plans releases from one block. `handles` are those of [`handles_of`], as far as they exist.
///
/// A handle counts less only after the block was written: somebody who assigns an address to the handle meanwhile counts
/// it before they write the block, and one of the two finds the other's write. So when a handle counts addresses that the
/// block does not have, the block is written although nothing in it changes.
///
/// # Errors
/// [`PlanError::Malformed`] when the block cannot be read.
pub fn plan_release(
    block: Option<Object<IpamBlockSpec>>,
    handles: &BTreeMap<String, Object<IpamHandleSpec>>,
    cidr: &Cidr,
    requests: &[ReleaseRequest],
    (now, cooldown): (Stamp, i64),
) -> Result<ReleasePlan, PlanError> {
    let mut block = block.filter(|b| !b.spec.deleted).map(Block::read).transpose()?;
    let mut plan = ReleasePlan {
        steps: Vec::new(),
        released: Vec::new(),
        not_those: Vec::new(),
        handles: handles_of(block.as_ref(), requests),
        emptied: false,
    };
    if let Some(b) = &mut block {
        let cool = (cooldown > 0).then_some(now);
        let fresh = b.is_fresh();
        for r in requests {
            release(b, r, cool, &mut plan);
        }
        b.thaw(now, cooldown);
        let held = |h: &str| b.held_by(h).len() as u64;
        let miscounted = |h: &Object<IpamHandleSpec>| {
            let counts = counted(h, cidr);
            counts > 0 && held(&h.metadata.name) == 0
        };
        if !plan.released.is_empty() || handles.values().any(miscounted) {
            plan.emptied = b.is_empty();
            b.seal();
            // A block without an owner exists only for the addresses in it, and a fresh one would count as settled.
            plan.steps
                .push(if fresh || plan.emptied && b.object().spec.affinity.is_none() {
                    Step::DeleteBlock(b.object().clone())
                } else {
                    Step::PutBlock(b.object().clone())
                });
        }
    }
    let written = !plan.steps.is_empty() || block.is_none();
    for name in plan.handles.iter().filter(|_| written) {
        let Some(handle) = handles.get(name) else { continue };
        let held = block.as_ref().map_or(0, |b| b.held_by(name).len() as u64);
        if counted(handle, cidr) <= held {
            continue;
        }
        plan.steps.push(match handle_exact(handle.clone(), cidr, held) {
            Some(h) => Step::PutHandle(h),
            None => Step::DeleteHandle(handle.clone()),
        });
    }
    Ok(plan)
}

fn release(block: &mut Block, request: &ReleaseRequest, cool: Option<Stamp>, plan: &mut ReleasePlan) {
    let (wanted, handle, sequence) = match request {
        ReleaseRequest::Handle(h) => (block.held_by(h), Some(h.as_str()), None),
        ReleaseRequest::Count(_) => return,
        ReleaseRequest::Address {
            addr,
            handle,
            sequence,
        } => (vec![*addr], handle.as_deref(), *sequence),
    };
    for addr in wanted {
        match block.release(addr, handle, sequence, cool) {
            ReleaseOutcome::Released(_) => plan.released.push(addr),
            ReleaseOutcome::NotThatOne => plan.not_those.push(addr),
            ReleaseOutcome::WasFree => {}
        }
    }
}

/// Frees what has rested in a block; `None` when nothing has, or the block cannot be read.
#[must_use]
pub fn plan_thaw(block: &Object<IpamBlockSpec>, now: Stamp, cooldown: i64) -> Option<Step> {
    let mut b = Block::read(block.clone()).ok()?;
    if b.thaw(now, cooldown) == 0 {
        return None;
    }
    b.seal();
    Some(if b.is_empty() && b.object().spec.affinity.is_none() {
        Step::DeleteBlock(b.into_object())
    } else {
        Step::PutBlock(b.into_object())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Holder, Owner, handle_with};

    const NOW: (Stamp, i64) = (Stamp::from_seconds(0), 0);

    fn block(cidr: &Cidr) -> Block {
        Block::new(*cidr, &Holder::Host("n".into()), Stamp::default(), None)
    }

    fn owner(handle: &str) -> Owner {
        Owner {
            handle: handle.into(),
            attributes: BTreeMap::new(),
        }
    }

    fn all(handles: &[Object<IpamHandleSpec>]) -> BTreeMap<String, Object<IpamHandleSpec>> {
        handles
            .iter()
            .map(|h| (h.metadata.name.clone(), h.clone()))
            .collect()
    }

    #[test]
    fn a_handle_that_counts_too_many_is_still_removed() {
        let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
        let mut b = block(&cidr);
        let got = b.assign(1, &owner("h"), &[])[0].addr;
        let handles = all(&[handle_with(None, "h", &cidr, 3)]);
        let request = [ReleaseRequest::Handle("h".into())];
        let plan = plan_release(Some(b.into_object()), &handles, &cidr, &request, NOW).unwrap();
        assert_eq!(plan.released, [got]);
        assert!(
            matches!(plan.steps[..], [Step::PutBlock(_), Step::DeleteHandle(_)]),
            "{:?}",
            plan.steps
        );
    }

    #[test]
    fn a_count_without_an_address_goes_only_after_a_write_of_the_block() {
        let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
        let mut b = block(&cidr);
        b.seal();
        let b = b.into_object();
        let handles = all(&[handle_with(None, "h", &cidr, 1)]);
        let request = [ReleaseRequest::Handle("h".into())];
        let plan = plan_release(Some(b.clone()), &handles, &cidr, &request, NOW).unwrap();
        let [Step::PutBlock(written), Step::DeleteHandle(_)] = &plan.steps[..] else {
            panic!("{:?}", plan.steps)
        };
        assert_eq!(written.spec.sequence_number, b.spec.sequence_number + 1);
    }

    #[test]
    fn a_count_in_a_fresh_block_takes_the_block_with_it() {
        let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
        let b = block(&cidr).into_object();
        let handles = all(&[handle_with(None, "h", &cidr, 1)]);
        let request = [ReleaseRequest::Count("h".into())];
        let plan = plan_release(Some(b), &handles, &cidr, &request, NOW).unwrap();
        assert!(
            matches!(plan.steps[..], [Step::DeleteBlock(_), Step::DeleteHandle(_)]),
            "{:?}",
            plan.steps
        );
    }

    #[test]
    fn a_block_that_is_gone_only_cleans_the_handle() {
        let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
        let handles = all(&[handle_with(None, "h", &cidr, 1)]);
        let request = [ReleaseRequest::Handle("h".into())];
        let plan = plan_release(None, &handles, &cidr, &request, NOW).unwrap();
        assert!(matches!(plan.steps[..], [Step::DeleteHandle(_)]));
        let plan = plan_release(None, &BTreeMap::new(), &cidr, &request, NOW).unwrap();
        assert!(plan.steps.is_empty());
    }

    #[test]
    fn many_are_released_with_one_write_and_each_only_if_it_is_the_one_meant() {
        let cidr: Cidr = "fd00::/122".parse().unwrap();
        let mut b = block(&cidr);
        let a = b.assign(1, &owner("a"), &[])[0].addr;
        let c = b.assign(2, &owner("c"), &[])[0].addr;
        b.seal();
        let handles = all(&[handle_with(None, "a", &cidr, 1), handle_with(None, "c", &cidr, 2)]);
        let one = |addr, handle: Option<&str>, sequence| ReleaseRequest::Address {
            addr,
            handle: handle.map(str::to_owned),
            sequence,
        };
        let requests = [
            one(a, None, Some(0)),
            one(c, Some("a"), None),
            one(c, None, Some(0)),
        ];
        let plan = plan_release(Some(b.into_object()), &handles, &cidr, &requests, NOW).unwrap();
        assert_eq!((plan.released, plan.not_those), (vec![a, c], vec![c]));
        let [Step::PutBlock(_), Step::DeleteHandle(gone), Step::PutHandle(less)] = &plan.steps[..] else {
            panic!("{:?}", plan.steps)
        };
        assert_eq!(gone.metadata.name, "a");
        assert_eq!(counted(less, &cidr), 1);
    }

    #[test]
    fn a_block_of_nobody_goes_with_its_last_address_once_it_has_rested() {
        let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
        let mut b = block(&cidr);
        b.assign(1, &owner("h"), &[]);
        b.clear_affinity();
        let handles = all(&[handle_with(None, "h", &cidr, 1)]);
        let request = [ReleaseRequest::Handle("h".into())];
        let at = Stamp::from_seconds(50);
        let plan = plan_release(Some(b.into_object()), &handles, &cidr, &request, (at, 60)).unwrap();
        let [Step::PutBlock(b), Step::DeleteHandle(_)] = &plan.steps[..] else {
            panic!("{:?}", plan.steps)
        };
        assert!(!plan.emptied);
        assert_eq!(plan_thaw(b, Stamp::from_seconds(109), 60), None);
        assert!(matches!(
            plan_thaw(b, Stamp::from_seconds(110), 60),
            Some(Step::DeleteBlock(_))
        ));
    }
}
