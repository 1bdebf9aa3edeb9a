//! The rules of assignment, each on a small store.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use caracal_api::{
    AssignmentMode, IpPoolAllowedUse, IpReservationSpec, IpamBlockSpec, Kind, Object, ResourceKey,
    read_stored,
};
use caracal_ids::NodeName;
use caracal_ipam::{AssignOptions, IpamError, Memory, OwnerChange};
use caracal_ipam_plan::{Collector, Holder, HostReserved, Life, Owner, PlanError, RESERVED_HANDLE};
use caracal_net::{Cidr, Family};
use caracal_store::Store as _;
use proptest::prelude::*;

use crate::{
    chaos::{Fate, Process},
    world::{World, run, want},
};

fn text(e: &IpamError) -> String {
    e.to_string()
}

async fn addr_of(w: &World, node: &str, container: &str) -> IpAddr {
    let got = w
        .sound()
        .assign(&want(node, container, Family::V4, w.now()))
        .await
        .unwrap();
    got[0].addr
}

#[test]
fn blocks_are_claimed_filled_borrowed_and_limited() {
    run(async {
        let w = World::new(true);
        w.pool("p", "10.0.0.0/28", 30).await;
        // The mask of the block, not a single address.
        let mut a = want("n1", "a", Family::V4, w.now());
        a.count = 9;
        let got = w.sound().assign(&a).await.unwrap();
        assert!(got.iter().all(|g| g.len == 30));
        let snapshot = w.snapshot().await;
        assert_eq!((snapshot.blocks.len(), snapshot.handles.len()), (3, 1));
        assert!(snapshot.affinities.iter().all(|a| a.spec.state == "confirmed"));
        addr_of(&w, "n2", "b").await;
        // Every block is taken: the third node borrows.
        let borrowed = addr_of(&w, "n3", "c").await;
        let found = w
            .check()
            .await
            .allocations
            .into_iter()
            .find(|f| f.addr == borrowed)
            .unwrap();
        assert!(found.borrowed && found.node == "n3");
        w.config(|c| c.strict_affinity = true).await;
        let e = w
            .sound()
            .assign(&want("n4", "d", Family::V4, w.now()))
            .await
            .unwrap_err();
        assert!(
            text(&e).contains("pool p (10.0.0.0/28): every block is taken; strictAffinity forbids borrowing"),
            "{e}"
        );
        w.config(|c| (c.strict_affinity, c.max_blocks_per_host) = (true, 3))
            .await;
        w.pool("q", "10.1.0.0/28", 30).await;
        let mut more = want("n1", "e", Family::V4, w.now());
        more.count = 4;
        let e = w.sound().assign(&more).await.unwrap_err();
        assert!(
            text(&e).contains("n1 has 3 blocks already and may have 3 (maxBlocksPerHost)"),
            "{e}"
        );
        assert!(
            w.sound().addresses_of("net.e").await.unwrap().is_empty(),
            "all or nothing"
        );
        w.config(|c| (c.strict_affinity, c.auto_allocate_blocks) = (true, false))
            .await;
        let e = w
            .sound()
            .assign(&want("n5", "f", Family::V4, w.now()))
            .await
            .unwrap_err();
        assert!(text(&e).contains("autoAllocateBlocks is false"), "{e}");
        w.sound()
            .claim_block(&Holder::Host("n5".into()), &"10.1.0.4/30".parse().unwrap())
            .await
            .unwrap();
        let got = addr_of(&w, "n5", "f").await;
        assert!("10.1.0.4/30".parse::<Cidr>().unwrap().contains(got));
    });
}

#[test]
fn pools_are_chosen_by_use_mode_and_selectors() {
    run(async {
        let w = World::new(false);
        w.pool_with("lb", "10.1.0.0/24", 26, |p| {
            p.allowed_uses = vec![IpPoolAllowedUse::LoadBalancer]
        })
        .await;
        w.pool_with("manual", "10.2.0.0/24", 26, |p| {
            p.assignment_mode = Some(AssignmentMode::Manual)
        })
        .await;
        w.pool_with("rack", "10.3.0.0/24", 26, |p| {
            p.node_selector = "rack == 'a'".into()
        })
        .await;
        w.pool_with("team", "10.4.0.0/24", 26, |p| {
            p.namespace_selector = "team == 'red'".into()
        })
        .await;
        w.pool_with("off", "10.5.0.0/24", 26, |p| p.disabled = true).await;
        let mut a = want("n1", "a", Family::V4, w.now());
        let e = text(&w.sound().assign(&a).await.unwrap_err());
        for why in [
            "lb: its allowedUses",
            "manual: its assignmentMode",
            "rack: its nodeSelector",
            "team: its namespaceSelector",
            "off: it is disabled",
        ] {
            assert!(e.contains(why), "{why} is missing in {e}");
        }
        a.namespace_labels = BTreeMap::from([("team".into(), "red".into())]);
        let got = w.sound().assign(&a).await.unwrap();
        assert!(got[0].to_string().starts_with("10.4.0."));
        a.pools = vec!["10.2.0.0/24".into()];
        assert!(
            w.sound().assign(&a).await.unwrap()[0]
                .to_string()
                .starts_with("10.2.0.")
        );
        a.pools = vec!["lb".into()];
        a.usage = IpPoolAllowedUse::LoadBalancer;
        let options = AssignOptions {
            holder: Some(Holder::Virtual("load-balancer".into())),
            ..AssignOptions::default()
        };
        assert!(
            w.sound().assign_with(&a, &options).await.unwrap()[0]
                .to_string()
                .starts_with("10.1.0.")
        );
        let claims = w.snapshot().await.affinities;
        assert!(
            claims
                .iter()
                .any(|c| c.metadata.name.starts_with("virtual-load-balancer-10-1-0-")
                    && c.spec.affinity_type == "virtual")
        );
        assert!(
            w.check()
                .await
                .problems
                .iter()
                .all(|p| !p.message.contains("load-balancer"))
        );
    });
}

#[test]
fn reservations_and_the_hosts_own_addresses_are_passed_over() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/28", 28).await;
        let reserved = IpReservationSpec {
            reserved_cidrs: vec!["10.0.0.5/30".into(), "nonsense".into()],
        };
        w.put(Object::new("r", reserved)).await;
        let options = AssignOptions {
            host_reserved: Some(HostReserved {
                first: 3,
                last: 1,
                owner: Owner {
                    handle: RESERVED_HANDLE.into(),
                    attributes: BTreeMap::new(),
                },
            }),
            ..AssignOptions::default()
        };
        let mut a = want("n1", "a", Family::V4, w.now());
        a.count = 8;
        let got = w.sound().assign_with(&a, &options).await.unwrap();
        let last: Vec<u8> = got
            .iter()
            .map(|g| match g.addr {
                IpAddr::V4(a) => a.octets()[3],
                IpAddr::V6(_) => 0,
            })
            .collect();
        assert_eq!(last, [3, 8, 9, 10, 11, 12, 13, 14]);
        assert!(
            w.sound()
                .assign_with(&want("n1", "b", Family::V4, w.now()), &options)
                .await
                .is_err()
        );
        // Who names a reserved address gets it.
        let named: IpAddr = "10.0.0.5".parse().unwrap();
        w.sound()
            .assign_address(&want("n1", "b", Family::V4, w.now()), named)
            .await
            .unwrap();
        let lives = w
            .check()
            .await
            .allocations
            .iter()
            .filter(|f| f.life == Life::Reserved)
            .count();
        assert_eq!(lives, 4);
    });
}

#[test]
fn released_addresses_rest() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/31", 31).await;
        w.config(|c| c.ip_cooldown_seconds = Some(60)).await;
        addr_of(&w, "n1", "a").await;
        let b = addr_of(&w, "n1", "b").await;
        assert_eq!(w.sound().release_handle("net.b").await.unwrap(), [b]);
        let e = w
            .sound()
            .assign(&want("n1", "c", Family::V4, w.now()))
            .await
            .unwrap_err();
        assert!(matches!(e, IpamError::Plan(PlanError::Exhausted { .. })), "{e}");
        assert!(w.check().await.problems.is_empty());
        w.pass(60);
        assert_eq!(addr_of(&w, "n1", "c").await, b);
        // Where nothing is assigned the collector writes it down.
        w.sound().release_handle("net.c").await.unwrap();
        w.pass(60);
        w.sound().collect(&mut Collector::new(10_000)).await.unwrap();
        assert_eq!(w.check().await.allocations.len(), 1);
    });
}

#[test]
fn unneeded_blocks_are_given_back_early_but_not_the_last() {
    run(async {
        let w = World::new(true);
        w.pool("p", "10.0.0.0/24", 28).await;
        w.node("n1").await;
        for i in 0..40 {
            addr_of(&w, "n1", &format!("c{i}")).await;
        }
        w.pass(120);
        assert_eq!(w.snapshot().await.blocks.len(), 3);
        for i in 0..40 {
            w.sound().release_handle(&format!("net.c{i}")).await.unwrap();
        }
        let s = w.snapshot().await;
        assert_eq!((s.blocks.len(), s.affinities.len(), s.handles.len()), (1, 1, 0));
        w.sound()
            .release_host_affinities(&Holder::Host("n1".into()), true)
            .await
            .unwrap();
        let s = w.snapshot().await;
        assert_eq!((s.blocks.len(), s.affinities.len()), (0, 0));
    });
}

#[test]
fn an_old_empty_block_of_another_node_is_taken_over() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/29", 29).await;
        w.config(|c| c.strict_affinity = true).await;
        addr_of(&w, "n1", "a").await;
        w.sound().release_handle("net.a").await.unwrap();
        let e = w
            .sound()
            .assign(&want("n2", "b", Family::V4, w.now()))
            .await
            .unwrap_err();
        assert!(text(&e).contains("every block is taken"), "{e}");
        w.pass(61);
        addr_of(&w, "n2", "b").await;
        let s = w.snapshot().await;
        let owners: Vec<&str> = s.affinities.iter().map(|a| a.spec.node.as_str()).collect();
        assert_eq!(owners, ["n2"]);
    });
}

#[test]
fn a_host_that_is_removed_leaves_addresses_in_use_reachable() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/24", 28).await;
        let a = addr_of(&w, "n1", "a").await;
        let e = w
            .sound()
            .release_host_affinities(&Holder::Host("n1".into()), true)
            .await
            .unwrap_err();
        assert!(
            matches!(e, IpamError::Plan(PlanError::NotEmpty { held: 1, .. })),
            "{e}"
        );
        assert_eq!(w.snapshot().await.affinities[0].spec.state, "confirmed");
        w.sound().remove_host("n1").await.unwrap();
        let s = w.snapshot().await;
        assert_eq!((s.blocks.len(), s.affinities.len()), (1, 0));
        assert!(w.sound().release_address(a, Some("net.a"), None).await.unwrap());
        assert!(
            w.snapshot().await.blocks.is_empty(),
            "the block of nobody goes with its last address"
        );
    });
}

#[test]
fn owners_change_hands_and_handles_have_limits() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/24", 28).await;
        let options = AssignOptions {
            max_per_handle: Some(1),
            ..AssignOptions::default()
        };
        let a = want("n1", "vm", Family::V4, w.now());
        let got = w.sound().assign_with(&a, &options).await.unwrap()[0];
        let e = w.sound().assign_with(&a, &options).await.unwrap_err();
        assert!(
            matches!(e, IpamError::Plan(PlanError::HandleFull { held: 1, max: 1, .. })),
            "{e}"
        );
        let next = BTreeMap::from([("node".to_owned(), "n2".to_owned())]);
        let mut change = OwnerChange {
            alternate: Some(next.clone()),
            expect_active: Some(a.owner.attributes.clone()),
            ..OwnerChange::default()
        };
        assert_eq!(w.sound().set_owner("net.vm", &change).await.unwrap(), 1);
        change = OwnerChange {
            active: Some(next.clone()),
            alternate: Some(BTreeMap::new()),
            expect_alternate: Some(next.clone()),
            ..OwnerChange::default()
        };
        assert_eq!(w.sound().set_owner("net.vm", &change).await.unwrap(), 1);
        let e = w.sound().set_owner("net.vm", &change).await.unwrap_err();
        assert!(
            matches!(e, IpamError::Plan(PlanError::OwnerDiffers { .. })),
            "{e}"
        );
        let now = w.sound().attributes_of(got.addr).await.unwrap().unwrap();
        assert_eq!((now.secondary, now.alternate_owner_attrs.len()), (next, 0));
    });
}

#[test]
fn a_block_that_cannot_be_read_is_left_alone() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/28", 29).await;
        for name in ["10-0-0-0-29", "10-0-0-8-29"] {
            w.memory
                .put_malformed(&ResourceKey::global(Kind::IpamBlock, name), "not JSON");
        }
        let e = w
            .sound()
            .assign(&want("n1", "a", Family::V4, w.now()))
            .await
            .unwrap_err();
        assert!(text(&e).contains("every block is taken"), "{e}");
        let addr: IpAddr = "10.0.0.3".parse().unwrap();
        let e = w
            .sound()
            .assign_address(&want("n1", "a", Family::V4, w.now()), addr)
            .await
            .unwrap_err();
        assert!(text(&e).contains("which cannot be used"), "{e}");
        w.pool("q", "10.1.0.0/28", 29).await;
        assert!(addr_of(&w, "n1", "a").await.to_string().starts_with("10.1.0."));
        let done = w.sound().collect(&mut Collector::new(0)).await.unwrap();
        assert!(done.failed.is_empty());
        assert_eq!(w.check().await.problems.len(), 2);
    });
}

#[test]
fn what_can_be_read_of_a_bad_reservation_stays_reserved_and_the_rest_is_served() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/29", 29).await;
        let key = |name: &str| ResourceKey::global(Kind::IpReservation, name);
        let stored = |spec: &str| {
            let text = format!(r#"{{"metadata":{{"name":"r"}},"spec":{spec}}}"#);
            read_stored(Kind::IpReservation, text.as_bytes()).unwrap_err()
        };
        w.memory
            .put_malformed(&key("some"), stored(r#"{"reservedCIDRs":["10.0.0.0/30",5]}"#));
        w.memory
            .put_malformed(&key("one"), stored(r#"{"reservedCIDRs":"10.0.0.4/31"}"#));
        w.memory.put_malformed(&key("nothing"), stored("[]"));
        w.memory.put_malformed(&key("no-json"), "not JSON");
        // One of the two that are left step by step, the other one together with what belongs to it.
        let first = addr_of(&w, "n1", "a").await;
        let ipam = w.sound();
        let (node, mut memory) = (NodeName::new("n1").unwrap(), Memory::default());
        let wants = BTreeMap::from([(0, vec![want("n1", "b", Family::V4, w.now())])]);
        let sight = ipam
            .look(&node, &BTreeSet::new(), vec![], &mut memory)
            .await
            .unwrap();
        let drawn = ipam.draw(&sight, &wants, &mut memory);
        let second = drawn.given[&0][0].addr;
        assert!(ipam.write_together(drawn.writes).await.unwrap());
        let left: [IpAddr; 2] = ["10.0.0.6", "10.0.0.7"].map(|t| t.parse().unwrap());
        assert_eq!(BTreeSet::from([first, second]), BTreeSet::from(left));
        let e = ipam
            .assign(&want("n1", "c", Family::V4, w.now()))
            .await
            .unwrap_err();
        assert!(text(&e).contains("no free IPv4 address"), "{e}");
        let problems = w.check().await.problems;
        let told: Vec<String> = problems.iter().map(|p| format!("{} {p:?}", p.message)).collect();
        assert_eq!(told.len(), 4, "{told:#?}");
        for (name, field) in [
            ("some", "reservedCIDRs[1]"),
            ("one", "reservedCIDRs"),
            ("nothing", "spec"),
            ("no-json", "JSON"),
        ] {
            let named = |t: &&String| {
                t.contains(&format!("({name})")) && t.contains(field) && t.contains("calicoctl replace")
            };
            assert!(told.iter().any(|t| named(&t)), "{name}: {told:#?}");
        }
    });
}

#[test]
fn the_collector_frees_nothing_of_a_block_with_a_bad_entry_and_goes_on() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/28", 30).await;
        w.node("n2").await;
        // Leaked, all of them: the node is gone and nobody has an endpoint.
        let bad = addr_of(&w, "n1", "a").await;
        let good = addr_of(&w, "n2", "b").await;
        let key = ResourceKey::global(Kind::IpamBlock, &IpamBlockSpec::object_name(&Cidr::new(bad, 30)));
        let stored = w.memory.get(&key).await.unwrap();
        let mut block = Object::<IpamBlockSpec>::try_from(stored).unwrap();
        let free = block.spec.unallocated.pop().unwrap();
        block.spec.allocations[free] = Some(7);
        let before = block.spec.clone();
        w.put(block).await;
        let mut collector = Collector::new(60);
        let mut freed = Vec::new();
        for _ in 0..6 {
            w.pass(100);
            let done = w.sound().collect(&mut collector).await.unwrap();
            freed.extend(done.released);
            for (chore, e) in &done.failed {
                assert!(
                    text(e).contains(&Cidr::new(bad, 30).to_string()),
                    "{chore:?}: {e}"
                );
            }
        }
        assert_eq!(freed, [good], "the neighbour's only");
        let after = Object::<IpamBlockSpec>::try_from(w.memory.get(&key).await.unwrap()).unwrap();
        assert_eq!(after.spec, before);
        let handle = ResourceKey::global(Kind::IpamHandle, "net.a");
        w.memory.get(&handle).await.unwrap();
        let report = w.check().await;
        let named = report
            .problems
            .iter()
            .any(|p| p.message.contains("has attribute 7"));
        assert!(named, "{:#?}", report.problems);
    });
}

#[test]
fn of_two_who_give_one_address_back_one_says_so() {
    for seed in 0..200 {
        run(async {
            let w = World::new(seed % 2 == 0);
            w.pool("p", "10.0.0.0/28", 30).await;
            let addr = addr_of(&w, "n1", "a").await;
            // Nobody owns the block: it goes with its last address.
            let holder = Holder::Host("n1".into());
            let block = Cidr::new(addr, 30);
            w.sound().release_affinity(&holder, &block, false).await.unwrap();
            let release = |n: u64| {
                let process = Process::new(w.store(), Fate::default(), seed * 2 + n);
                let ipam = w.ipam(Arc::new(process), 0);
                async move { ipam.release_address(addr, Some("net.a"), None).await.unwrap() }
            };
            let told = tokio::join!(release(0), release(1));
            assert!(told.0 != told.1, "seed {seed}: {told:?}");
            let left = w.snapshot().await;
            assert_eq!((left.blocks.len(), left.handles.len()), (0, 0), "seed {seed}");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Writers in any order and number, on blocks of any size: never one address twice, and all comes back.
    #[test]
    fn many_writers_share_a_pool(
        writers in prop::collection::vec((0u8..6, 1usize..5), 1..40),
        block in 27u8..=32,
        kubernetes: bool,
        seed: u64,
    ) {
        run(async {
            let w = World::new(kubernetes);
            w.pool("p", "10.0.0.0/26", block).await;
            let mut tasks = tokio::task::JoinSet::new();
            for (i, (node, count)) in writers.iter().enumerate() {
                let process = Process::new(w.store(), Fate::default(), seed ^ i as u64);
                let ipam = w.ipam(Arc::new(process), 0);
                let mut a = want(&format!("n{node}"), &format!("c{i}"), Family::V4, w.now());
                a.count = *count;
                tasks.spawn(async move { (i, ipam.assign(&a).await) });
            }
            let mut held: BTreeMap<IpAddr, usize> = BTreeMap::new();
            while let Some(done) = tasks.join_next().await {
                let (i, result) = done.unwrap();
                match result {
                    Ok(got) => for a in got {
                        assert_eq!(held.insert(a.addr, i), None, "{a} twice");
                    },
                    Err(e) => assert!(matches!(e, IpamError::Plan(PlanError::Exhausted { .. }) | IpamError::Contention(_)), "{e}"),
                }
            }
            let report = w.check().await;
            assert!(report.problems.is_empty(), "{:#?}", report.problems);
            assert_eq!(report.allocations.len(), held.len());
            for i in 0..writers.len() {
                w.sound().release_handle(&format!("net.c{i}")).await.unwrap();
            }
            let s = w.snapshot().await;
            assert_eq!(s.handles.len(), 0);
            assert!(w.check().await.allocations.is_empty());
        });
    }
}
