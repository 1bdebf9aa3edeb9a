use std::net::IpAddr;

use caracal_api::{IpamBlockSpec, IpamHandleSpec, Object};

use crate::{Block, PlanError, ReleaseOutcome, Step, handle_without};

/// What is to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseRequest {
    /// Everything a handle holds.
    Handle(String),
    /// One address; with a sequence number only if it was allocated under it.
    Address {
        /// The address.
        addr: IpAddr,
        /// Only if this handle holds it.
        handle: Option<String>,
        /// Only if it was allocated under this number.
        sequence: Option<u64>,
    },
}

/// The way to a release, block by block.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasePlan {
    /// The writes, in order: blocks first, then the handle.
    pub steps: Vec<Step>,
    /// The addresses that become free.
    pub released: Vec<IpAddr>,
}

/// Plans a release from one block. `handle` is the stored handle of what is released, if there is one; with
/// [`ReleaseRequest::Handle`] the block's whole count leaves it, also when the block holds fewer (a crash between the
/// handle's write and the block's leaves a count that is too high).
///
/// # Errors
/// [`PlanError::Malformed`] when the block cannot be read.
pub fn plan_release(
    block: Option<Object<IpamBlockSpec>>,
    handle: Option<Object<IpamHandleSpec>>,
    cidr: &caracal_net::Cidr,
    request: &ReleaseRequest,
) -> Result<ReleasePlan, PlanError> {
    let mut steps = Vec::new();
    let mut released = Vec::new();
    if let Some(object) = block {
        let mut block = Block::read(object)?;
        let wanted = match request {
            ReleaseRequest::Handle(h) => block.held_by(h),
            ReleaseRequest::Address { addr, .. } => vec![*addr],
        };
        for addr in wanted {
            let outcome = match request {
                ReleaseRequest::Handle(h) => block.release(addr, Some(h), None),
                ReleaseRequest::Address { handle, sequence, .. } => {
                    block.release(addr, handle.as_deref(), *sequence)
                }
            };
            if matches!(outcome, ReleaseOutcome::Released(_)) {
                released.push(addr);
            }
        }
        if !released.is_empty() {
            block.seal();
            // A block without an owner exists only for the addresses in it.
            if block.is_empty() && block.object().spec.affinity.is_none() {
                steps.push(Step::DeleteBlock(block.into_object()));
            } else {
                steps.push(Step::PutBlock(block.into_object()));
            }
        }
    }
    let less = match request {
        ReleaseRequest::Handle(_) => u64::MAX,
        ReleaseRequest::Address { .. } => released.len() as u64,
    };
    if let Some(handle) = handle.filter(|h| less > 0 && h.spec.block.contains_key(&cidr.to_string())) {
        steps.push(match handle_without(handle.clone(), cidr, less) {
            Some(h) => Step::PutHandle(h),
            None => Step::DeleteHandle(handle),
        });
    }
    Ok(ReleasePlan { steps, released })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Owner, handle_with};

    #[test]
    fn a_handle_that_counts_too_many_is_still_removed() {
        let cidr: caracal_net::Cidr = "10.0.0.0/30".parse().unwrap();
        let mut b = Block::new(cidr, "host:n", "t");
        let owner = Owner {
            handle: "h".into(),
            attributes: BTreeMap::new(),
        };
        let got = b.assign(1, &owner, &[])[0].addr;
        let handle = handle_with(None, "h", &cidr, 3);
        let plan = plan_release(
            Some(b.into_object()),
            Some(handle),
            &cidr,
            &ReleaseRequest::Handle("h".into()),
        )
        .unwrap();
        assert_eq!(plan.released, [got]);
        assert!(
            matches!(plan.steps[..], [Step::PutBlock(_), Step::DeleteHandle(_)]),
            "{:?}",
            plan.steps
        );
    }

    #[test]
    fn a_block_that_is_gone_only_cleans_the_handle() {
        let cidr: caracal_net::Cidr = "10.0.0.0/30".parse().unwrap();
        let handle = handle_with(None, "h", &cidr, 1);
        let plan = plan_release(None, Some(handle), &cidr, &ReleaseRequest::Handle("h".into())).unwrap();
        assert!(matches!(plan.steps[..], [Step::DeleteHandle(_)]));
        let plan = plan_release(None, None, &cidr, &ReleaseRequest::Handle("h".into())).unwrap();
        assert!(plan.steps.is_empty());
    }
}
