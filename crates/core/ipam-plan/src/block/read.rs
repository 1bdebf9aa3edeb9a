use caracal_api::{IpamBlockSpec, Object};
use caracal_net::Cidr;

use super::{Block, HostReserved};
use crate::{Holder, PlanError, Stamp};

impl Block {
    /// Reads a stored block and checks that its lists fit together. An address that is neither allocated nor listed as
    /// free is free: it goes to the end of the queue.
    ///
    /// # Errors
    /// [`PlanError::Malformed`] naming the block and the field.
    pub fn read(mut object: Object<IpamBlockSpec>) -> Result<Self, PlanError> {
        let bad = |reason: String| PlanError::Malformed {
            object: format!("IPAM block {}", object.spec.cidr),
            reason,
        };
        let cidr: Cidr = object.spec.cidr.parse().map_err(|e| bad(format!("cidr: {e}")))?;
        let named = &object.metadata.name;
        if !named.is_empty() && *named != IpamBlockSpec::object_name(&cidr) {
            return Err(bad(format!(
                "cidr: the block's name is {named}: nobody finds it by its range"
            )));
        }
        let size = cidr
            .size()
            .filter(|s| *s <= 1 << 16)
            .ok_or_else(|| bad("cidr: the block is too large".into()))?;
        let spec = &object.spec;
        if spec.allocations.len() as u128 != size {
            return Err(bad(format!(
                "allocations: {size} entries are expected, not {}",
                spec.allocations.len()
            )));
        }
        let known = spec.attributes.len();
        let mut lost = (0u128..).zip(&spec.allocations).filter_map(|(o, i)| {
            let index = i.filter(|i| *i >= known)?;
            Some((cidr.nth(o)?, index))
        });
        if let Some((addr, index)) = lost.next() {
            let more = match lost.count() {
                0 => String::new(),
                n => format!("; and {n} more"),
            };
            return Err(bad(format!(
                "allocations: {addr} has attribute {index}, and there are {known}{more}"
            )));
        }
        let mut seen = vec![false; spec.allocations.len()];
        for &o in &spec.unallocated {
            match spec.allocations.get(o) {
                Some(None) if !seen[o] => seen[o] = true,
                Some(None) => return Err(bad(format!("unallocated: ordinal {o} is listed twice"))),
                Some(Some(_)) => return Err(bad(format!("unallocated: ordinal {o} is allocated"))),
                None => return Err(bad(format!("unallocated: ordinal {o} is outside the block"))),
            }
        }
        let lost: Vec<usize> = (0..seen.len())
            .filter(|o| !seen[*o] && spec.allocations[*o].is_none())
            .collect();
        object.spec.unallocated.extend(lost);
        Ok(Self { cidr, object })
    }

    /// A new block in which every address is free, but those that the host keeps for itself.
    #[must_use]
    pub fn new(cidr: Cidr, holder: &Holder, claimed_at: Stamp, reserved: Option<&HostReserved>) -> Self {
        // A block has at most 65 536 addresses (block sizes are 20–32 and 116–128).
        let size = cidr.size().unwrap_or(0).min(1 << 16) as usize;
        let spec = IpamBlockSpec {
            cidr: cidr.to_string(),
            affinity: Some(holder.to_string()),
            affinity_claim_time: Some(claimed_at.to_string()),
            allocations: vec![None; size],
            unallocated: (0..size).collect(),
            ..IpamBlockSpec::default()
        };
        let mut block = Self {
            cidr,
            object: Object::new(IpamBlockSpec::object_name(&cidr), spec),
        };
        if let Some(r) = reserved.filter(|r| r.first + r.last < size) {
            for ordinal in (0..r.first).chain(size - r.last..size) {
                block.take(ordinal, &r.owner);
            }
        }
        block
    }
}
