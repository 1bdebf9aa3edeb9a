//! Addresses and what is written with them, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{Kind, NodeSpec, Object, ResourceKey};
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
