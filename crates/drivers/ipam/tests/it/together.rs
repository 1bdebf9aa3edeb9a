//! Addresses and what is written with them, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{
    BlockAffinitySpec, IpPoolSpec, IpReservationSpec, IpamBlockSpec, Kind, NodeSpec, Object, ResourceKey,
};
use caracal_ids::NodeName;
use caracal_ipam::{Assign, Ipam, Memory};
use caracal_net::Family;
use caracal_store::{Store, StoreError, Write};

use crate::world::{World, run, want};

fn ipam(w: &World) -> Ipam {
    w.ipam(w.store(), 0)
}

fn wants(w: &World, names: &[&str]) -> BTreeMap<usize, Vec<Assign>> {
    let one = |n: &&str| {
        let families = [Family::V4, Family::V6];
        families.map(|f| want("n1", n, f, w.now())).to_vec()
    };
    names.iter().map(one).enumerate().collect()
}

fn handles(wants: &BTreeMap<usize, Vec<Assign>>) -> BTreeSet<String> {
    wants.values().flatten().map(|w| w.owner.handle.clone()).collect()
}

/// Something that is written together with addresses.
fn beside(name: &str) -> Write {
    Write::Create(Object::new(name, NodeSpec::default()).into())
}

async fn pools(w: &World) {
    w.pool("p4", "10.0.0.0/16", 30).await;
    w.pool("p6", "fd00::/100", 126).await;
}

#[test]
fn addresses_of_both_families_are_written_with_what_belongs_to_them_or_not_at_all() {
    run(async {
        let w = World::new(false);
        pools(&w).await;
        let (node, mut memory) = (NodeName::new("n1").unwrap(), Memory::default());
        let ipam = ipam(&w);
        let all = wants(&w, &["a", "b", "c", "d", "e"]);
        // No block is there yet: that takes more than one write.
        let sight = ipam
            .look(&node, &handles(&all), vec![], &mut memory)
            .await
            .unwrap();
        assert!(ipam.draw(&sight, &all, &mut memory).given.is_empty());
        for family in [Family::V4, Family::V6] {
            ipam.assign(&want("n1", "first", family, w.now())).await.unwrap();
        }
        let sight = ipam
            .look(&node, &handles(&all), vec![], &mut memory)
            .await
            .unwrap();
        let drawn = ipam.draw(&sight, &all, &mut memory);
        // Three addresses are left in each block, and nobody gets half of what it wants.
        assert_eq!(drawn.given.len(), 3);
        assert!(drawn.given.values().all(|got| got.len() == 2));
        let before = w.snapshot().await;
        let mut writes = drawn.writes;
        writes.push(beside("with"));
        // What is in the way lets nothing be written.
        let mut blocked = writes.clone();
        w.memory
            .create(Object::new("there", NodeSpec::default()).into())
            .await
            .unwrap();
        blocked.push(beside("there"));
        assert!(!ipam.write_together(blocked).await.unwrap());
        assert_eq!(w.snapshot().await.blocks, before.blocks);
        assert!(ipam.write_together(writes.clone()).await.unwrap());
        assert!(!ipam.write_together(writes).await.unwrap(), "it is old now");
        w.memory
            .get(&ResourceKey::global(Kind::Node, "with"))
            .await
            .unwrap();
        // Full blocks are not read again, until something is given back.
        let sight = ipam
            .look(&node, &handles(&all), vec![], &mut memory)
            .await
            .unwrap();
        assert!(sight.has_handle(&all[&0][0].owner.handle));
        let others = wants(&w, &["x"]);
        assert!(ipam.draw(&sight, &others, &mut memory).given.is_empty());

        let gone = handles(&wants(&w, &["a", "c"]));
        let parting = ipam.look_back(&gone, vec![]).await.unwrap();
        let (writes, emptied) = ipam.give_back(&parting, &gone).unwrap();
        assert_eq!((writes.len(), emptied.len()), (4, 0), "two blocks, two handles");
        assert!(ipam.write_together(writes).await.unwrap());
        for name in &gone {
            let found = w.memory.get(&ResourceKey::global(Kind::IpamHandle, name)).await;
            assert!(matches!(found, Err(StoreError::NotFound(_))), "{found:?}");
            assert_eq!(ipam.addresses_of(name).await.unwrap(), []);
        }
        memory.freed();
        let sight = ipam
            .look(&node, &handles(&others), vec![], &mut memory)
            .await
            .unwrap();
        assert_eq!(ipam.draw(&sight, &others, &mut memory).given[&0].len(), 2);
        let b = all[&1][0].owner.handle.clone();
        let kept = ipam.addresses_of(&b).await.unwrap();
        assert_eq!(kept.len(), 2, "{kept:?}");
    });
}

#[test]
fn a_block_that_became_full_does_not_stand_in_the_way_of_one_that_has_room() {
    run(async {
        let w = World::new(false);
        pools(&w).await;
        let (node, mut memory) = (NodeName::new("n1").unwrap(), Memory::default());
        let ipam = ipam(&w);
        // Two blocks with room: five addresses take two of four, and one is given back.
        let mine = |n: usize| want("n1", &format!("p{n}"), Family::V4, w.now());
        for n in 0..5 {
            ipam.assign(&mine(n)).await.unwrap();
        }
        for freed in ipam.release_handles(&[mine(0).owner.handle]).await {
            freed.unwrap();
        }
        for n in 5..9 {
            let wants = BTreeMap::from([(0, vec![mine(n)])]);
            let sight = ipam.look(&node, &handles(&wants), vec![], &mut memory).await;
            let drawn = ipam.draw(&sight.unwrap(), &wants, &mut memory);
            assert_eq!(drawn.given.len(), 1, "p{n}");
            assert!(ipam.write_together(drawn.writes).await.unwrap());
        }
    });
}

#[test]
fn a_handle_that_counts_what_is_not_there_goes_with_the_others() {
    run(async {
        let w = World::new(false);
        pools(&w).await;
        let ipam = ipam(&w);
        let mine = want("n1", "a", Family::V4, w.now());
        ipam.assign(&mine).await.unwrap();
        let names = BTreeSet::from([mine.owner.handle.clone(), "nobody".to_owned()]);
        let parting = ipam.look_back(&names, vec![]).await.unwrap();
        let (writes, emptied) = ipam.give_back(&parting, &names).unwrap();
        assert_eq!((writes.len(), emptied.len()), (2, 1));
        assert!(ipam.write_together(writes).await.unwrap());
        let parting = ipam.look_back(&names, vec![]).await.unwrap();
        let (writes, _) = ipam.give_back(&parting, &names).unwrap();
        assert!(writes.is_empty());
    });
}

async fn change_block(w: &World, change: impl FnOnce(&mut IpamBlockSpec)) {
    let key = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
    let mut block: Object<IpamBlockSpec> = w.memory.get(&key).await.unwrap().try_into().unwrap();
    change(&mut block.spec);
    w.memory.update(block.into()).await.unwrap();
}

async fn change_pool(w: &World, change: impl FnOnce(&mut IpPoolSpec)) {
    let key = ResourceKey::global(Kind::IpPool, "p4");
    let mut pool: Object<IpPoolSpec> = w.memory.get(&key).await.unwrap().try_into().unwrap();
    change(&mut pool.spec);
    w.memory.update(pool.into()).await.unwrap();
}

async fn change_claim(w: &World, change: impl FnOnce(&mut BlockAffinitySpec)) {
    let key = ResourceKey::global(Kind::BlockAffinity, "n1-10-0-0-0-30");
    let mut claim: Object<BlockAffinitySpec> = w.memory.get(&key).await.unwrap().try_into().unwrap();
    change(&mut claim.spec);
    w.memory.update(claim.into()).await.unwrap();
}

/// Something that has changed before it is looked, by its name.
async fn spoil(w: &World, how: &str) {
    match how {
        "nothing" => {}
        "pool disabled" => change_pool(w, |p| p.disabled = true).await,
        "node selector" => change_pool(w, |p| p.node_selector = "rack == 'b'".into()).await,
        "namespace selector" => {
            change_pool(w, |p| p.namespace_selector = "team == 'b'".into()).await;
        }
        "claim pending" => change_claim(w, |c| c.state = "pending".into()).await,
        "claim going" => change_claim(w, |c| c.state = "pendingDeletion".into()).await,
        "another node's" => change_block(w, |b| b.affinity = Some("host:n2".into())).await,
        "reserved" => {
            let spec = IpReservationSpec {
                reserved_cidrs: vec!["10.0.0.0/30".into()],
            };
            w.put(Object::new("r", spec)).await;
        }
        "full, and no more blocks" => {
            w.config(|c| c.max_blocks_per_host = 1).await;
            let mut rest = want("n1", "rest", Family::V4, w.now());
            rest.count = 3;
            w.sound().assign(&rest).await.unwrap();
        }
        "resting" => {
            w.config(|c| {
                c.max_blocks_per_host = 1;
                c.ip_cooldown_seconds = Some(100);
            })
            .await;
            let mut rest = want("n1", "rest", Family::V4, w.now());
            rest.count = 3;
            let ipam = w.sound();
            ipam.assign(&rest).await.unwrap();
            ipam.release_handle(&rest.owner.handle).await.unwrap();
        }
        other => panic!("{other}"),
    }
}

#[test]
fn only_what_a_single_assignment_would_take_is_drawn() {
    for how in [
        "nothing",
        "pool disabled",
        "node selector",
        "namespace selector",
        "claim pending",
        "claim going",
        "another node's",
        "reserved",
        "full, and no more blocks",
        "resting",
    ] {
        run(async {
            let w = World::new(false);
            w.pool("p4", "10.0.0.0/30", 30).await;
            w.node("n1").await;
            let ipam = ipam(&w);
            let first = want("n1", "first", Family::V4, w.now());
            ipam.assign(&first).await.unwrap();
            let (node, mut memory) = (NodeName::new("n1").unwrap(), Memory::default());
            let all = BTreeMap::from([(0, vec![want("n1", "a", Family::V4, w.now())])]);
            // What was remembered from before does not help.
            ipam.look(&node, &handles(&all), vec![], &mut memory)
                .await
                .unwrap();
            spoil(&w, how).await;
            let sight = ipam.look(&node, &handles(&all), vec![], &mut memory).await;
            let drawn = ipam.draw(&sight.unwrap(), &all, &mut memory);
            assert_eq!(drawn.given.len(), usize::from(how == "nothing"), "{how}");
            assert_eq!(drawn.writes.is_empty(), how != "nothing", "{how}");
        });
    }
}

#[test]
fn nothing_is_borrowed_in_a_transaction() {
    run(async {
        let w = World::new(false);
        w.pool("p4", "10.0.0.0/30", 30).await;
        let ipam = ipam(&w);
        ipam.assign(&want("n1", "first", Family::V4, w.now()))
            .await
            .unwrap();
        for strict in [false, true] {
            w.config(|c| c.strict_affinity = strict).await;
            let one = want("n2", "b", Family::V4, w.now());
            let all = BTreeMap::from([(0, vec![one.clone()])]);
            let (node, mut memory) = (NodeName::new("n2").unwrap(), Memory::default());
            let sight = ipam.look(&node, &handles(&all), vec![], &mut memory).await;
            let drawn = ipam.draw(&sight.unwrap(), &all, &mut memory);
            assert!(drawn.given.is_empty() && drawn.writes.is_empty());
            assert_eq!(
                ipam.assign(&one).await.is_err(),
                strict,
                "the single path decides"
            );
            ipam.release_handle(&one.owner.handle).await.unwrap();
        }
    });
}

#[test]
fn a_block_that_changes_after_the_look_is_not_written() {
    for how in ["another node's", "full, and no more blocks", "resting", "gone"] {
        run(async {
            let w = World::new(false);
            w.pool("p4", "10.0.0.0/30", 30).await;
            let ipam = ipam(&w);
            let first = want("n1", "first", Family::V4, w.now());
            ipam.assign(&first).await.unwrap();
            let (node, mut memory) = (NodeName::new("n1").unwrap(), Memory::default());
            let all = BTreeMap::from([(0, vec![want("n1", "a", Family::V4, w.now())])]);
            let sight = ipam.look(&node, &handles(&all), vec![], &mut memory).await;
            let drawn = ipam.draw(&sight.unwrap(), &all, &mut memory);
            assert_eq!(drawn.given.len(), 1);
            if how == "gone" {
                w.memory
                    .underive(&ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30"));
            } else {
                spoil(&w, how).await;
            }
            assert!(!ipam.write_together(drawn.writes).await.unwrap(), "{how}");
            let handle = ResourceKey::global(Kind::IpamHandle, &all[&0][0].owner.handle);
            assert!(w.memory.get(&handle).await.is_err(), "{how}");
        });
    }
}
