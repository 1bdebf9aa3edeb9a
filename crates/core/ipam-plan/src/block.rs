use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{AllocationAttribute, IpamBlockSpec, Object};
use caracal_net::{Cidr, IfAddr};

use crate::PlanError;

/// Who takes addresses: the handle and what is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The handle.
    pub handle: String,
    /// Attributes such as `pod`, `namespace`, `node`, `type`, `timestamp`.
    pub attributes: BTreeMap<String, String>,
}

/// What became of an address that was to be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// It is free now; the handle that held it.
    Released(Option<String>),
    /// Nobody held it.
    WasFree,
    /// Somebody else holds it by now: the sequence number or the handle differs.
    NotThatOne,
}

/// A block with its range read, and the operations on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    cidr: Cidr,
    object: Object<IpamBlockSpec>,
}

impl Block {
    /// Reads a stored block and checks that its lists fit together.
    ///
    /// # Errors
    /// [`PlanError::Malformed`] naming the block and the field.
    pub fn read(object: Object<IpamBlockSpec>) -> Result<Self, PlanError> {
        let bad = |reason: String| PlanError::Malformed {
            object: format!("IPAM block {}", object.spec.cidr),
            reason,
        };
        let cidr: Cidr = object.spec.cidr.parse().map_err(|e| bad(format!("cidr: {e}")))?;
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
        if let Some(i) = spec
            .allocations
            .iter()
            .flatten()
            .find(|i| **i >= spec.attributes.len())
        {
            return Err(bad(format!("allocations: there is no attribute {i}")));
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
        Ok(Self { cidr, object })
    }

    /// A new block in which every address is free.
    #[must_use]
    pub fn new(cidr: Cidr, affinity: &str, claimed_at: &str) -> Self {
        // A block has at most 65 536 addresses (block sizes are 20–32 and 116–128).
        let size = cidr.size().unwrap_or(0).min(1 << 16) as usize;
        let spec = IpamBlockSpec {
            cidr: cidr.to_string(),
            affinity: Some(affinity.to_owned()),
            affinity_claim_time: Some(claimed_at.to_owned()),
            allocations: vec![None; size],
            unallocated: (0..size).collect(),
            ..IpamBlockSpec::default()
        };
        Self {
            cidr,
            object: Object::new(IpamBlockSpec::object_name(&cidr), spec),
        }
    }

    /// The block's range.
    #[must_use]
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The stored object, changed by what was done since it was read.
    #[must_use]
    pub fn object(&self) -> &Object<IpamBlockSpec> {
        &self.object
    }

    /// The stored object.
    #[must_use]
    pub fn into_object(self) -> Object<IpamBlockSpec> {
        self.object
    }

    /// Whether the block belongs to `affinity` (`host:<node>`).
    #[must_use]
    pub fn belongs_to(&self, affinity: &str) -> bool {
        self.object.spec.affinity.as_deref() == Some(affinity)
    }

    /// Whether nobody holds an address (addresses that cool down count as held).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.object.spec.allocations.iter().all(Option::is_none)
    }

    /// Free addresses that are not reserved.
    pub fn free(&self, reserved: &[Cidr]) -> usize {
        let spec = &self.object.spec;
        spec.unallocated
            .iter()
            .filter(|o| !self.is_reserved(**o, reserved))
            .count()
    }

    fn address(&self, ordinal: usize) -> Option<IpAddr> {
        self.cidr.nth(ordinal as u128)
    }

    fn is_reserved(&self, ordinal: usize, reserved: &[Cidr]) -> bool {
        self.address(ordinal)
            .is_none_or(|a| reserved.iter().any(|r| r.contains(a)))
    }

    fn ordinal(&self, addr: IpAddr) -> Option<usize> {
        self.cidr.offset_of(addr).and_then(|o| usize::try_from(o).ok())
    }

    /// Who holds `addr`.
    #[must_use]
    pub fn holder(&self, addr: IpAddr) -> Option<&AllocationAttribute> {
        let spec = &self.object.spec;
        let index = (*spec.allocations.get(self.ordinal(addr)?)?)?;
        spec.attributes.get(index)
    }

    /// The addresses that `handle` holds.
    #[must_use]
    pub fn held_by(&self, handle: &str) -> Vec<IpAddr> {
        let spec = &self.object.spec;
        let is = |i: usize| spec.attributes.get(i).and_then(|a| a.handle_id.as_deref()) == Some(handle);
        (0..spec.allocations.len())
            .filter(|o| spec.allocations[*o].is_some_and(is))
            .filter_map(|o| self.address(o))
            .collect()
    }

    /// The sequence number under which `addr` was allocated.
    #[must_use]
    pub fn sequence_of(&self, addr: IpAddr) -> Option<u64> {
        let key = self.ordinal(addr)?.to_string();
        self.object.spec.sequence_number_for_allocation.get(&key).copied()
    }

    /// Takes up to `count` addresses, the longest idle first. The returned addresses carry the block's prefix length.
    pub fn assign(&mut self, count: usize, owner: &Owner, reserved: &[Cidr]) -> Vec<IfAddr> {
        let free = &self.object.spec.unallocated;
        let taken: Vec<usize> = free
            .iter()
            .copied()
            .filter(|o| !self.is_reserved(*o, reserved))
            .take(count)
            .collect();
        taken.iter().filter_map(|o| self.take(*o, owner)).collect()
    }

    /// Takes one address.
    ///
    /// # Errors
    /// [`PlanError::InUse`] when somebody holds it, [`PlanError::NotInPool`] when it is outside the block.
    pub fn assign_address(&mut self, addr: IpAddr, owner: &Owner) -> Result<IfAddr, PlanError> {
        if let Some(a) = self.holder(addr) {
            let who = a
                .handle_id
                .clone()
                .unwrap_or_else(|| "nobody (it is cooling down)".into());
            let more: Vec<String> = a.secondary.iter().map(|(k, v)| format!("{k}={v}")).collect();
            return Err(PlanError::InUse {
                address: addr,
                holder: format!("{who} {}", more.join(" ")),
            });
        }
        let ordinal = self.ordinal(addr).ok_or(PlanError::NotInPool(addr))?;
        self.take(ordinal, owner).ok_or(PlanError::NotInPool(addr))
    }

    fn take(&mut self, ordinal: usize, owner: &Owner) -> Option<IfAddr> {
        let addr = self.address(ordinal)?;
        let index = self.attribute_index(owner);
        let spec = &mut self.object.spec;
        spec.unallocated.retain(|o| *o != ordinal);
        *spec.allocations.get_mut(ordinal)? = Some(index);
        spec.sequence_number_for_allocation
            .insert(ordinal.to_string(), spec.sequence_number);
        Some(IfAddr {
            addr,
            len: self.cidr.len(),
        })
    }

    fn attribute_index(&mut self, owner: &Owner) -> usize {
        let wanted = AllocationAttribute {
            handle_id: Some(owner.handle.clone()),
            secondary: owner.attributes.clone(),
            ..AllocationAttribute::default()
        };
        let attributes = &mut self.object.spec.attributes;
        attributes.iter().position(|a| *a == wanted).unwrap_or_else(|| {
            attributes.push(wanted);
            attributes.len() - 1
        })
    }

    /// Gives `addr` back. With `handle` only if that handle holds it, with `sequence` only if it was allocated under
    /// that number: a late release must not free what somebody else holds by now.
    pub fn release(&mut self, addr: IpAddr, handle: Option<&str>, sequence: Option<u64>) -> ReleaseOutcome {
        let Some(ordinal) = self.ordinal(addr) else {
            return ReleaseOutcome::WasFree;
        };
        let Some(holder) = self.holder(addr) else {
            return ReleaseOutcome::WasFree;
        };
        let held_by = holder.handle_id.clone();
        if handle.is_some() && held_by.as_deref() != handle {
            return ReleaseOutcome::NotThatOne;
        }
        if sequence.is_some() && self.sequence_of(addr) != sequence {
            return ReleaseOutcome::NotThatOne;
        }
        let spec = &mut self.object.spec;
        spec.allocations[ordinal] = None;
        spec.unallocated.push(ordinal);
        spec.sequence_number_for_allocation.remove(&ordinal.to_string());
        self.drop_unused_attributes();
        ReleaseOutcome::Released(held_by)
    }

    fn drop_unused_attributes(&mut self) {
        let spec = &mut self.object.spec;
        let mut used: Vec<usize> = spec.allocations.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let new_index: BTreeMap<usize, usize> =
            used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        spec.attributes = used
            .iter()
            .filter_map(|o| spec.attributes.get(*o).cloned())
            .collect();
        for index in spec.allocations.iter_mut().flatten() {
            if let Some(new) = new_index.get(index) {
                *index = *new;
            }
        }
    }

    /// To be called once before the block is written: every write has its own sequence number.
    pub fn seal(&mut self) {
        self.object.spec.sequence_number += 1;
    }

    /// Gives the block's affinity up.
    pub fn clear_affinity(&mut self) {
        self.object.spec.affinity = None;
        self.object.spec.affinity_claim_time = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(h: &str) -> Owner {
        Owner {
            handle: h.into(),
            attributes: BTreeMap::from([("node".to_owned(), "n".to_owned())]),
        }
    }

    fn check(b: &Block) {
        Block::read(b.object.clone()).expect("the block's lists fit together");
        assert!(
            b.object.spec.attributes.iter().enumerate().all(|(i, _)| b
                .object
                .spec
                .allocations
                .contains(&Some(i)))
        );
    }

    #[test]
    fn the_longest_idle_address_goes_first() {
        let mut b = Block::new("10.0.0.0/30".parse().unwrap(), "host:n", "t");
        let a = b.assign(1, &owner("a"), &[]);
        assert_eq!(a[0].to_string(), "10.0.0.0/30");
        b.release(a[0].addr, None, None);
        let next: Vec<String> = b
            .assign(4, &owner("b"), &[])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(next, ["10.0.0.1/30", "10.0.0.2/30", "10.0.0.3/30", "10.0.0.0/30"]);
        assert!(b.assign(1, &owner("c"), &[]).is_empty());
        check(&b);
    }

    #[test]
    fn a_late_release_frees_nothing_of_others() {
        let mut b = Block::new("fd00::/126".parse().unwrap(), "host:n", "t");
        let a = b.assign(1, &owner("a"), &[])[0].addr;
        let seq = b.sequence_of(a);
        b.seal();
        b.release(a, Some("a"), seq);
        let again = b.assign_address(a, &owner("b")).unwrap().addr;
        assert_eq!(b.release(again, None, seq), ReleaseOutcome::NotThatOne);
        assert_eq!(b.release(again, Some("a"), None), ReleaseOutcome::NotThatOne);
        assert!(matches!(
            b.assign_address(again, &owner("c")),
            Err(PlanError::InUse { .. })
        ));
        check(&b);
    }

    #[test]
    fn reserved_addresses_are_passed_over() {
        let mut b = Block::new("10.0.0.0/30".parse().unwrap(), "host:n", "t");
        let reserved: Vec<Cidr> = vec!["10.0.0.0/31".parse().unwrap()];
        assert_eq!(b.free(&reserved), 2);
        assert_eq!(b.assign(3, &owner("a"), &reserved).len(), 2);
    }

    #[test]
    fn a_block_that_does_not_fit_together_is_refused_by_field() {
        let mut o = Block::new("10.0.0.0/30".parse().unwrap(), "host:n", "t").into_object();
        o.spec.unallocated.push(9);
        assert!(
            Block::read(o.clone())
                .unwrap_err()
                .to_string()
                .contains("unallocated")
        );
        o.spec.unallocated.pop();
        o.spec.allocations[0] = Some(3);
        assert!(Block::read(o).unwrap_err().to_string().contains("allocations"));
    }

    proptest! {
        #[test]
        fn random_work_keeps_the_lists_together(ops in prop::collection::vec((0u8..3, 0usize..8, 0u8..4), 0..60)) {
            let mut b = Block::new("10.0.0.0/29".parse().unwrap(), "host:n", "t");
            let mut held: BTreeMap<IpAddr, String> = BTreeMap::new();
            for (op, n, who) in ops {
                let h = format!("h{who}");
                let addr = b.cidr().nth(n as u128).unwrap();
                match op {
                    0 => for a in b.assign(n % 3, &owner(&h), &[]) { prop_assert!(held.insert(a.addr, h.clone()).is_none()); },
                    1 => if b.assign_address(addr, &owner(&h)).is_ok() { prop_assert!(held.insert(addr, h).is_none()); },
                    _ => if let ReleaseOutcome::Released(w) = b.release(addr, Some(&h), None) { prop_assert_eq!(held.remove(&addr), w); },
                }
                b.seal();
                check(&b);
            }
            for who in 0..4 {
                let h = format!("h{who}");
                let want: Vec<IpAddr> = held.iter().filter(|(_, w)| **w == h).map(|(a, _)| *a).collect();
                prop_assert_eq!(b.held_by(&h), want);
            }
        }
    }
}
