//! Many at once: one write per block.

use caracal_api::Kind;
use caracal_ipam::{AssignOptions, Grouped};
use caracal_net::Family;
use caracal_store::{ListOptions, Store};
use caracal_store_memory::Op;

use crate::world::{World, run, want};

#[test]
fn a_burst_writes_each_block_once() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/16", 26).await;
        // The node's first block is there.
        w.sound()
            .assign(&want("n1", "first", Family::V4, w.now()))
            .await
            .unwrap();
        let before = w.memory.calls(Op::Update);
        let group: Vec<_> = (0..50)
            .map(|i| want("n1", &format!("c{i}"), Family::V4, w.now()))
            .collect();
        let answers = w.sound().assign_group(&group, &AssignOptions::default()).await;
        let mut got: Vec<_> = answers.into_iter().map(|a| a.unwrap()[0].addr).collect();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), 50);
        assert_eq!(w.memory.calls(Op::Update) - before, 1, "one block, one write");
        assert!(w.check().await.problems.is_empty());
    });
}

#[test]
fn members_fail_alone() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/24", 26).await;
        let mut group: Vec<_> = (0..3)
            .map(|i| want("n1", &format!("c{i}"), Family::V4, w.now()))
            .collect();
        group[1].pools = vec!["nowhere".into()];
        group[2].family = Family::V6;
        let answers = w.sound().assign_group(&group, &AssignOptions::default()).await;
        assert_eq!(answers[0].as_ref().unwrap().len(), 1);
        let e = answers[1].as_ref().unwrap_err().to_string();
        assert!(e.contains("pool nowhere: there is no such pool"), "{e}");
        assert!(answers[2].is_err());
    });
}

#[test]
fn requests_that_wait_together_are_served_together() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/16", 26).await;
        let (grouped, serve) = Grouped::new(w.sound(), AssignOptions::default());
        let server = tokio::spawn(serve);
        let mut asking = tokio::task::JoinSet::new();
        for i in 0..200 {
            let (grouped, now) = (grouped.clone(), w.now());
            asking.spawn(async move {
                grouped
                    .assign(want("n1", &format!("c{i}"), Family::V4, now))
                    .await
            });
        }
        let mut seen = std::collections::BTreeSet::new();
        while let Some(got) = asking.join_next().await {
            for a in got.unwrap().unwrap() {
                assert!(seen.insert(a.addr), "{a} twice");
            }
        }
        assert_eq!(seen.len(), 200);
        let writes = w.memory.calls(Op::Update);
        assert!(writes < 40, "{writes} updates for 200 addresses in 4 blocks");
        drop(grouped);
        server.await.unwrap();
        assert!(w.check().await.problems.is_empty());
    });
}

#[test]
fn who_has_gone_gets_nothing() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/24", 26).await;
        let (grouped, serve) = Grouped::new(w.sound(), AssignOptions::default());
        {
            // Asks, and is killed before it is served.
            let ask = grouped.assign(want("n1", "gone", Family::V4, w.now()));
            let mut ask = std::pin::pin!(ask);
            assert!(futures::poll!(ask.as_mut()).is_pending());
        }
        let stays = tokio::spawn(async move {
            grouped
                .assign(want("n1", "stays", Family::V4, w.now()))
                .await
                .map(|a| (a, w))
        });
        serve.await;
        let (got, w) = stays.await.unwrap().unwrap();
        assert_eq!(got.len(), 1);
        let all = ListOptions::default();
        let handles = w.memory.list_all(Kind::IpamHandle, &all).await.unwrap().items;
        let names: Vec<&str> = handles.iter().map(|h| h.metadata().name.as_str()).collect();
        assert_eq!(names, ["net.stays"]);
    });
}

#[test]
fn a_burst_of_releases_writes_each_block_once() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/16", 26).await;
        let group: Vec<_> = (0..100)
            .map(|i| want("n1", &format!("c{i}"), Family::V4, w.now()))
            .collect();
        let sound = w.sound();
        for answer in sound.assign_group(&group, &AssignOptions::default()).await {
            answer.unwrap();
        }
        // One that holds nothing is no error, and those not named keep theirs.
        let mut handles: Vec<String> = group[..90].iter().map(|g| g.owner.handle.clone()).collect();
        handles.push("net.nobody".into());
        let before = w.memory.calls(Op::Update);
        let done = sound.release_handles(&handles).await;
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        assert_eq!(done.len(), 91);
        let writes = w.memory.calls(Op::Update) - before;
        assert!(writes <= 2, "{writes} updates for two blocks");
        for (i, g) in group.iter().enumerate() {
            let held = sound.addresses_of(&g.owner.handle).await.unwrap().len();
            assert_eq!(held, usize::from(i >= 90), "{}", g.owner.handle);
        }
        assert!(w.check().await.problems.is_empty());
    });
}
