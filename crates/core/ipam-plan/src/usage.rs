use std::net::IpAddr;

use caracal_net::Cidr;

use crate::{Allocation, Block, Snapshot, View};

/// How full a pool or block is.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The pool's or block's range.
    pub cidr: Cidr,
    /// The pool's name; none for a block.
    pub pool: Option<String>,
    /// How many addresses there are.
    pub capacity: f64,
    /// Allocated, resting ones included.
    pub in_use: usize,
    /// Reserved by an IPReservation; an allocated one counts in both.
    pub reserved: f64,
    /// Resting.
    pub cooling: usize,
    /// Neither in use nor reserved.
    pub free: f64,
    /// The blocks inside.
    pub blocks: Vec<Usage>,
}

/// How full each pool and its blocks are, by range; last, without a pool's name, the blocks that are in no pool.
#[must_use]
pub fn utilisation(snapshot: &Snapshot) -> Vec<Usage> {
    let view = View::new(snapshot);
    let reserved: Vec<Cidr> = merged(
        snapshot
            .reservations
            .iter()
            .flat_map(|r| &r.spec.reserved_cidrs)
            .filter_map(|c| c.parse().ok())
            .collect(),
    );
    let blocks: Vec<Usage> = view.blocks.iter().map(|b| of_block(b, &reserved)).collect();
    let mut rest: Vec<Usage> = blocks.clone();
    let mut all: Vec<Usage> = Vec::new();
    for p in &snapshot.pools {
        let Ok(cidr) = p.spec.cidr.parse::<Cidr>() else {
            continue;
        };
        rest.retain(|b| !cidr.covers(&b.cidr));
        let inside: Vec<Usage> = blocks.iter().filter(|b| cidr.covers(&b.cidr)).cloned().collect();
        let in_use = inside.iter().map(|b| b.in_use).sum();
        let both: usize = view
            .blocks
            .iter()
            .filter(|b| cidr.covers(&b.cidr()))
            .flat_map(Block::allocations)
            .filter(|a| reserved.iter().any(|r| r.contains(a.addr)))
            .count();
        all.push(usage(
            cidr,
            Some(p.metadata.name.clone()),
            in_use,
            both,
            &reserved,
            inside,
        ));
    }
    all.sort_by_key(|u| u.cidr);
    if !rest.is_empty() {
        let everything = Cidr::new(IpAddr::from([0, 0, 0, 0]), 0);
        all.push(usage(
            everything,
            None,
            rest.iter().map(|b| b.in_use).sum(),
            0,
            &[],
            rest,
        ));
    }
    all
}

fn of_block(b: &Block, reserved: &[Cidr]) -> Usage {
    let in_use = b.allocations().count();
    let both = b
        .allocations()
        .filter(|a| reserved.iter().any(|r| r.contains(a.addr)))
        .count();
    let mut u = usage(b.cidr(), None, in_use, both, reserved, Vec::new());
    u.cooling = b.allocations().filter(Allocation::cools).count();
    u
}

fn usage(
    cidr: Cidr,
    pool: Option<String>,
    in_use: usize,
    both: usize,
    reserved: &[Cidr],
    blocks: Vec<Usage>,
) -> Usage {
    let size = |c: &Cidr| 2f64.powi(i32::from(c.family().bits() - c.len()));
    let inside = |r: &&Cidr| cidr.overlaps(r);
    let kept: f64 = reserved
        .iter()
        .filter(inside)
        .map(|r| size(r).min(size(&cidr)))
        .fold(0.0, |a, b| a + b);
    let capacity = size(&cidr);
    Usage {
        cidr,
        pool,
        capacity,
        in_use,
        reserved: kept,
        cooling: blocks.iter().map(|b| b.cooling).sum(),
        free: (capacity - in_use as f64 - kept + both as f64).max(0.0),
        blocks,
    }
}

/// The ranges without those that others cover.
fn merged(mut ranges: Vec<Cidr>) -> Vec<Cidr> {
    ranges.sort_unstable();
    ranges.dedup();
    let mut kept: Vec<Cidr> = Vec::new();
    for r in ranges {
        if !kept.last().is_some_and(|k| k.covers(&r)) {
            kept.push(r);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use caracal_api::{IpPoolSpec, IpReservationSpec, Object};

    use super::*;
    use crate::{Holder, Owner, Stamp};

    #[test]
    fn allocated_and_reserved_addresses_are_counted_once_as_not_free() {
        let cidr: Cidr = "10.0.0.0/26".parse().unwrap();
        let mut b = Block::new(cidr, &Holder::Host("n".into()), Stamp::default(), None);
        let owner = Owner {
            handle: "h".into(),
            attributes: std::collections::BTreeMap::new(),
        };
        let got = b.assign(3, &owner, &[]);
        b.release(got[2].addr, None, None, Some(Stamp::default()));
        let stray = Block::new(
            "10.9.0.0/26".parse().unwrap(),
            &Holder::Host("n".into()),
            Stamp::default(),
            None,
        );
        let pool = IpPoolSpec {
            cidr: "10.0.0.0/24".into(),
            ..IpPoolSpec::default()
        };
        let reservation = IpReservationSpec {
            reserved_cidrs: vec!["10.0.0.0/30".into(), "10.0.0.1/32".into(), "10.0.0.128/25".into()],
        };
        let snapshot = Snapshot {
            pools: vec![Object::new("p", pool)],
            reservations: vec![Object::new("r", reservation)],
            blocks: vec![b.into_object(), stray.into_object()],
            ..Snapshot::default()
        };
        let [pool, orphans] = &utilisation(&snapshot)[..] else {
            panic!("a pool and the blocks of none")
        };
        let numbers = |u: &Usage| (u.capacity, u.in_use, u.reserved, u.cooling, u.free);
        assert_eq!(numbers(pool), (256.0, 3, 132.0, 1, 124.0));
        assert_eq!(numbers(&pool.blocks[0]), (64.0, 3, 4.0, 1, 60.0));
        assert_eq!((orphans.pool.as_deref(), orphans.blocks.len()), (None, 1));
    }
}
