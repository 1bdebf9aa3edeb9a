use proptest::prelude::*;

use super::*;

fn host() -> Holder {
    Holder::Host("n".into())
}

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
    let mut b = Block::new("10.0.0.0/30".parse().unwrap(), &host(), Stamp::default(), None);
    let a = b.assign(1, &owner("a"), &[]);
    assert_eq!(a[0].to_string(), "10.0.0.0/30");
    b.release(a[0].addr, None, None, None);
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
    let mut b = Block::new("fd00::/126".parse().unwrap(), &host(), Stamp::default(), None);
    let a = b.assign(1, &owner("a"), &[])[0].addr;
    let seq = b.sequence_of(a);
    b.seal();
    b.release(a, Some("a"), seq, None);
    let again = b.assign_address(a, &owner("b")).unwrap().addr;
    assert_eq!(b.release(again, None, seq, None), ReleaseOutcome::NotThatOne);
    assert_eq!(
        b.release(again, Some("a"), None, None),
        ReleaseOutcome::NotThatOne
    );
    assert!(matches!(
        b.assign_address(again, &owner("c")),
        Err(PlanError::InUse { .. })
    ));
    check(&b);
}

#[test]
fn reserved_addresses_are_passed_over() {
    let mut b = Block::new("10.0.0.0/30".parse().unwrap(), &host(), Stamp::default(), None);
    let reserved: Vec<Cidr> = vec!["10.0.0.0/31".parse().unwrap()];
    assert_eq!(b.free(&reserved), 2);
    assert_eq!(b.assign(3, &owner("a"), &reserved).len(), 2);
}

#[test]
fn a_block_that_does_not_fit_together_is_refused_by_field() {
    let mut o = Block::new("10.0.0.0/30".parse().unwrap(), &host(), Stamp::default(), None).into_object();
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
        let mut b = Block::new("10.0.0.0/29".parse().unwrap(), &host(), Stamp::default(), None);
        let mut held: BTreeMap<IpAddr, String> = BTreeMap::new();
        for (op, n, who) in ops {
            let h = format!("h{who}");
            let addr = b.cidr().nth(n as u128).unwrap();
            match op {
                0 => for a in b.assign(n % 3, &owner(&h), &[]) { prop_assert!(held.insert(a.addr, h.clone()).is_none()); },
                1 => if b.assign_address(addr, &owner(&h)).is_ok() { prop_assert!(held.insert(addr, h).is_none()); },
                _ => if let ReleaseOutcome::Released(w) = b.release(addr, Some(&h), None, None) { prop_assert_eq!(held.remove(&addr), w); },
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

#[test]
fn a_released_address_rests_and_goes_to_the_end_of_the_queue() {
    let mut b = Block::new("10.0.0.0/31".parse().unwrap(), &host(), Stamp::default(), None);
    let a = b.assign(1, &owner("a"), &[])[0].addr;
    let at = Stamp::from_seconds(1000);
    let seq = b.sequence_of(a);
    assert_eq!(
        b.release(a, Some("a"), seq, Some(at)),
        ReleaseOutcome::Released(Some("a".into()))
    );
    check(&b);
    assert!(b.held_by("a").is_empty() && !b.is_empty());
    assert_eq!(b.release(a, None, None, Some(at)), ReleaseOutcome::WasFree);
    let e = b.assign_address(a, &owner("b")).unwrap_err().to_string();
    assert!(e.contains("rests"), "{e}");
    assert_eq!(b.thaw(Stamp::from_seconds(1029), 30), 0);
    assert_eq!(b.thaw(Stamp::from_seconds(1030), 30), 1);
    check(&b);
    assert!(b.is_empty());
    assert_ne!(b.assign(1, &owner("b"), &[])[0].addr, a);
}

#[test]
fn a_host_keeps_addresses_of_a_new_block_for_itself() {
    let reserved = HostReserved {
        first: 3,
        last: 1,
        owner: owner(RESERVED_HANDLE),
    };
    let mut b = Block::new(
        "10.0.0.0/28".parse().unwrap(),
        &host(),
        Stamp::default(),
        Some(&reserved),
    );
    check(&b);
    assert!(b.is_empty());
    let got = b.assign(16, &owner("a"), &[]);
    assert_eq!((got.len(), got[0].to_string()), (12, "10.0.0.3/28".to_owned()));
    // A block that would have nothing left stays whole.
    let b = Block::new(
        "10.0.0.0/30".parse().unwrap(),
        &host(),
        Stamp::default(),
        Some(&reserved),
    );
    assert_eq!(b.free(&[]), 4);
}

#[test]
fn an_address_that_no_list_has_is_free() {
    let mut o = Block::new("10.0.0.0/30".parse().unwrap(), &host(), Stamp::default(), None).into_object();
    o.spec.unallocated = vec![3, 1];
    let b = Block::read(o).unwrap();
    assert_eq!(b.object().spec.unallocated, [3, 1, 0, 2]);
}

#[test]
fn attributes_change_without_a_new_allocation() {
    let mut b = Block::new("10.0.0.0/30".parse().unwrap(), &host(), Stamp::default(), None);
    let a = b.assign(2, &owner("a"), &[])[1].addr;
    b.assign(1, &owner("b"), &[]);
    b.seal();
    let seq = b.sequence_of(a);
    let n = b.change_attributes("a", |addr, attr| {
        if addr == a {
            attr.secondary.insert("node".into(), "m".into());
        }
    });
    assert_eq!((n, b.sequence_of(a)), (1, seq));
    assert_eq!(b.attribute(a).unwrap().secondary["node"], "m");
    assert_eq!(b.held_by("a").len(), 2);
    check(&b);
}
