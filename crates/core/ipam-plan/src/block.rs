use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{AllocationAttribute, IpamBlockSpec, Object};
use caracal_net::{Cidr, IfAddr};

use crate::{Holder, PlanError, Stamp};

mod read;

/// The handle under which a host keeps addresses of its blocks for itself (Windows needs some).
pub const RESERVED_HANDLE: &str = "windows-reserved-ipam-handle";

/// Who takes addresses: the handle and what is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The handle.
    pub handle: String,
    /// Attributes such as `pod`, `namespace`, `node`, `type`, `timestamp`.
    pub attributes: BTreeMap<String, String>,
}

/// Addresses at both ends of each new block that the host keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReserved {
    /// How many at the block's start.
    pub first: usize,
    /// How many at its end.
    pub last: usize,
    /// The handle and attributes they get; no handle object counts them.
    pub owner: Owner,
}

/// What became of an address that was to be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// It is free now (or rests); the handle that held it.
    Released(Option<String>),
    /// Nobody held it.
    WasFree,
    /// Somebody else holds it by now: the sequence number or the handle differs.
    NotThatOne,
}

/// An address that is not free, as its block has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allocation<'a> {
    /// The address.
    pub addr: IpAddr,
    /// Who holds it.
    pub attribute: &'a AllocationAttribute,
    /// The sequence number under which it was allocated; 0 where none is stored.
    pub sequence: u64,
}

impl Allocation<'_> {
    /// Whether it was given back and rests.
    #[must_use]
    pub fn cools(&self) -> bool {
        cools(self.attribute)
    }
}

fn cools(attribute: &AllocationAttribute) -> bool {
    attribute.handle_id.is_none() && attribute.released_at.is_some()
}

/// A block with its range read, and the operations on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    cidr: Cidr,
    object: Object<IpamBlockSpec>,
}

impl Block {
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

    /// Whom the block belongs to; none when it has no owner or one that cannot be read.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        Holder::of_block(self.object.spec.affinity.as_deref()?)
    }

    /// Whether the block belongs to `holder`.
    #[must_use]
    pub fn belongs_to(&self, holder: &Holder) -> bool {
        self.holder().as_ref() == Some(holder)
    }

    /// When it was claimed.
    #[must_use]
    pub fn claimed_at(&self) -> Option<Stamp> {
        Stamp::parse(self.object.spec.affinity_claim_time.as_deref()?)
    }

    /// Whether nobody holds an address: addresses that rest count as held, those that the host keeps do not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allocations()
            .all(|a| a.attribute.handle_id.as_deref() == Some(RESERVED_HANDLE))
    }

    /// Whether nobody wrote the block since it was made: until it was compared with all others nothing may be taken from it.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.object.spec.sequence_number == 0 && self.is_empty()
    }

    /// The addresses that are not free.
    pub fn allocations(&self) -> impl Iterator<Item = Allocation<'_>> {
        let spec = &self.object.spec;
        spec.allocations
            .iter()
            .enumerate()
            .filter_map(move |(ordinal, index)| {
                Some(Allocation {
                    addr: self.address(ordinal)?,
                    attribute: spec.attributes.get((*index)?)?,
                    sequence: self.sequence(ordinal),
                })
            })
    }

    /// Free addresses that are not reserved.
    #[must_use]
    pub fn free(&self, reserved: &[Cidr]) -> usize {
        let spec = &self.object.spec;
        spec.unallocated
            .iter()
            .filter(|o| !self.is_reserved(**o, reserved))
            .count()
    }

    /// Whether there is one.
    #[must_use]
    pub(crate) fn has_free(&self, reserved: &[Cidr]) -> bool {
        let mut free = self.object.spec.unallocated.iter();
        free.any(|o| !self.is_reserved(*o, reserved))
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

    fn sequence(&self, ordinal: usize) -> u64 {
        let numbers = &self.object.spec.sequence_number_for_allocation;
        numbers.get(&ordinal.to_string()).copied().unwrap_or(0)
    }

    /// Who holds `addr`.
    #[must_use]
    pub fn attribute(&self, addr: IpAddr) -> Option<&AllocationAttribute> {
        let spec = &self.object.spec;
        let index = (*spec.allocations.get(self.ordinal(addr)?)?)?;
        spec.attributes.get(index)
    }

    /// The addresses that `handle` holds.
    #[must_use]
    pub fn held_by(&self, handle: &str) -> Vec<IpAddr> {
        self.allocations()
            .filter(|a| a.attribute.handle_id.as_deref() == Some(handle))
            .map(|a| a.addr)
            .collect()
    }

    /// The sequence number under which `addr` was allocated.
    #[must_use]
    pub fn sequence_of(&self, addr: IpAddr) -> Option<u64> {
        self.attribute(addr)?;
        self.ordinal(addr).map(|o| self.sequence(o))
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
        if let Some(a) = self.attribute(addr) {
            return Err(PlanError::InUse {
                address: addr,
                holder: describe(a),
            });
        }
        let ordinal = self.ordinal(addr).ok_or(PlanError::NotInPool(addr))?;
        self.take(ordinal, owner).ok_or(PlanError::NotInPool(addr))
    }

    fn take(&mut self, ordinal: usize, owner: &Owner) -> Option<IfAddr> {
        self.put(
            ordinal,
            AllocationAttribute {
                handle_id: Some(owner.handle.clone()),
                secondary: owner.attributes.clone(),
                ..AllocationAttribute::default()
            },
        )
    }

    /// Gives a free address the holder that it has in another block.
    pub fn adopt(&mut self, addr: IpAddr, attribute: AllocationAttribute) -> bool {
        match self.ordinal(addr) {
            Some(o) if self.attribute(addr).is_none() => self.put(o, attribute).is_some(),
            _ => false,
        }
    }

    fn put(&mut self, ordinal: usize, attribute: AllocationAttribute) -> Option<IfAddr> {
        let addr = self.address(ordinal)?;
        let index = self.attribute_index(attribute);
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

    fn attribute_index(&mut self, wanted: AllocationAttribute) -> usize {
        let attributes = &mut self.object.spec.attributes;
        attributes.iter().position(|a| *a == wanted).unwrap_or_else(|| {
            attributes.push(wanted);
            attributes.len() - 1
        })
    }

    /// Gives `addr` back. With `handle` only if that handle holds it, with `sequence` only if it was allocated under
    /// that number: a late release must not free what somebody else holds by now. With `cool_from` it rests first.
    pub fn release(
        &mut self,
        addr: IpAddr,
        handle: Option<&str>,
        sequence: Option<u64>,
        cool_from: Option<Stamp>,
    ) -> ReleaseOutcome {
        let (Some(ordinal), Some(holder)) = (self.ordinal(addr), self.attribute(addr)) else {
            return ReleaseOutcome::WasFree;
        };
        let held_by = holder.handle_id.clone();
        if cools(holder) && cool_from.is_some() {
            return ReleaseOutcome::WasFree;
        }
        if handle.is_some() && held_by.as_deref() != handle {
            return ReleaseOutcome::NotThatOne;
        }
        if sequence.is_some_and(|s| s != self.sequence(ordinal)) {
            return ReleaseOutcome::NotThatOne;
        }
        match cool_from {
            Some(since) => {
                let resting = AllocationAttribute {
                    handle_id: None,
                    secondary: holder.secondary.clone(),
                    released_at: Some(since.to_string()),
                    ..AllocationAttribute::default()
                };
                let index = self.attribute_index(resting);
                self.object.spec.allocations[ordinal] = Some(index);
            }
            None => self.free_ordinal(ordinal),
        }
        self.drop_unused_attributes();
        ReleaseOutcome::Released(held_by)
    }

    fn free_ordinal(&mut self, ordinal: usize) {
        let spec = &mut self.object.spec;
        spec.allocations[ordinal] = None;
        spec.unallocated.push(ordinal);
        spec.sequence_number_for_allocation.remove(&ordinal.to_string());
    }

    /// Frees the addresses that have rested for `cooldown` seconds; says how many. One whose time of release cannot be
    /// read has rested long enough.
    pub fn thaw(&mut self, now: Stamp, cooldown: i64) -> usize {
        let rested = |a: &AllocationAttribute| {
            let since = a.released_at.as_deref().and_then(Stamp::parse);
            cools(a) && since.is_none_or(|s| now.since(s) >= cooldown)
        };
        let mut due: Vec<(Option<Stamp>, usize)> = self
            .allocations()
            .filter(|a| rested(a.attribute))
            .filter_map(|a| {
                let since = a.attribute.released_at.as_deref().and_then(Stamp::parse);
                Some((since, self.ordinal(a.addr)?))
            })
            .collect();
        // The queue stays one of the longest idle first.
        due.sort_unstable();
        for (_, ordinal) in &due {
            self.free_ordinal(*ordinal);
        }
        if !due.is_empty() {
            self.drop_unused_attributes();
        }
        due.len()
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

    /// Replaces the attributes of the handle's addresses through `change`; says how many addresses changed.
    pub fn change_attributes(
        &mut self,
        handle: &str,
        change: impl Fn(IpAddr, &mut AllocationAttribute),
    ) -> usize {
        let mut changed = 0;
        for addr in self.held_by(handle) {
            let (Some(ordinal), Some(old)) = (self.ordinal(addr), self.attribute(addr)) else {
                continue;
            };
            let mut new = old.clone();
            change(addr, &mut new);
            if new != *old {
                let index = self.attribute_index(new);
                self.object.spec.allocations[ordinal] = Some(index);
                changed += 1;
            }
        }
        self.drop_unused_attributes();
        changed
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

fn describe(a: &AllocationAttribute) -> String {
    let who = match &a.handle_id {
        Some(h) => format!("handle {h}"),
        None if a.released_at.is_some() => "nobody (it rests after its release)".to_owned(),
        None => "somebody without a handle".to_owned(),
    };
    let more: Vec<String> = a.secondary.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if more.is_empty() {
        who
    } else {
        format!("{who} ({})", more.join(", "))
    }
}

#[cfg(test)]
mod tests;
