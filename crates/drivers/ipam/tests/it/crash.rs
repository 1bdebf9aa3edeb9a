//! Each operation is cut off at each of its calls; whatever is left is harmless, found and cleaned, and the operation
//! can be done again.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use caracal_ipam::{Ipam, IpamError};
use caracal_ipam_plan::{Collector, Holder, PlanError, ProblemKind};
use caracal_net::{Cidr, Family};

use crate::{
    chaos::{Fate, Process},
    world::{World, run, want},
};

type Work = fn(Ipam, World) -> Pin<Box<dyn Future<Output = Result<(), IpamError>>>>;

/// What a container `new` on node `n1` asks for, and other things that happen on it.
const WORK: &[(&str, Work)] = &[
    ("assign into an own block", |ipam, w| {
        Box::pin(async move {
            ipam.assign(&want("n1", "new", Family::V4, w.now()))
                .await
                .map(drop)
        })
    }),
    ("assign several, with a new block", |ipam, w| {
        Box::pin(async move {
            let mut a = want("n1", "new", Family::V4, w.now());
            a.count = 7;
            ipam.assign(&a).await.map(drop)
        })
    }),
    ("assign with a first block", |ipam, w| {
        Box::pin(async move {
            ipam.assign(&want("n1", "new", Family::V6, w.now()))
                .await
                .map(drop)
        })
    }),
    ("assign a group", |ipam, w| {
        Box::pin(async move {
            let group: Vec<_> = (0..6)
                .map(|i| want("n1", &format!("new{i}"), Family::V4, w.now()))
                .collect();
            let answers = ipam.assign_group(&group, &Default::default()).await;
            answers.into_iter().try_for_each(|a| a.map(drop))
        })
    }),
    ("assign an address in a new block", |ipam, w| {
        Box::pin(async move {
            let addr: IpAddr = "10.0.0.61".parse().unwrap();
            match ipam
                .assign_address(&want("n1", "new", Family::V4, w.now()), addr)
                .await
            {
                // Done before the cut.
                Err(IpamError::Plan(PlanError::InUse { holder, .. })) if holder.contains("net.new") => Ok(()),
                other => other.map(drop),
            }
        })
    }),
    ("release by handle", |ipam, _| {
        Box::pin(async move { ipam.release_handle("net.old").await.map(drop) })
    }),
    ("release by address", |ipam, w| {
        Box::pin(async move {
            let held = w.sound().addresses_of("net.old").await?;
            for a in held {
                ipam.release_address(a.addr, None, None).await?;
            }
            Ok(())
        })
    }),
    ("give a block up", |ipam, w| {
        Box::pin(async move {
            for a in w.snapshot().await.affinities {
                let cidr: Cidr = a.spec.cidr.parse().unwrap();
                ipam.release_affinity(&Holder::of_affinity(&a.spec), &cidr, false)
                    .await?;
            }
            Ok(())
        })
    }),
    ("claim a range", |ipam, _| {
        Box::pin(async move {
            let range: Cidr = "10.0.0.48/28".parse().unwrap();
            ipam.claim_affinity(&Holder::Host("n1".into()), &range)
                .await
                .map(drop)
        })
    }),
    ("collect", |ipam, w| {
        Box::pin(async move {
            let mut collector = Collector::new(60);
            w.stops("n2", "there");
            for _ in 0..3 {
                ipam.collect(&mut collector).await?;
                w.pass(200);
            }
            Ok(())
        })
    }),
];

async fn set_up(kubernetes: bool) -> World {
    let w = World::new(kubernetes);
    w.pool("four", "10.0.0.0/26", 30).await;
    w.pool("six", "fd00::/116", 124).await;
    for (node, container) in [("n1", "old"), ("n1", "stays"), ("n2", "there")] {
        w.node(node).await;
        let mut a = want(node, container, Family::V4, w.now());
        a.count = if container == "old" { 2 } else { 1 };
        let got = w.sound().assign(&a).await.unwrap();
        let addresses: Vec<IpAddr> = got.iter().map(|a| a.addr).collect();
        if container != "old" {
            w.runs(node, container, &addresses);
        }
    }
    w.pass(1000);
    w
}

/// What may be there after a crash: addresses and counts that are collected later. Nothing that could hurt.
fn harmless(kind: ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::Leaked | ProblemKind::HandleLeaked | ProblemKind::BlockOrphan
    )
}

async fn cut_off_at(kubernetes: bool, name: &str, work: Work, fate: Fate) -> Option<()> {
    let w = set_up(kubernetes).await;
    let process = Arc::new(Process::new(w.store(), fate, 1));
    let result = work(w.ipam(process.clone(), 0), w.clone()).await;
    if !process.is_dead() {
        result.unwrap_or_else(|e| panic!("{name} without a crash: {e}"));
        return None;
    }
    let at = format!("{name}, cut off: {fate:?}, kubernetes: {kubernetes}");
    w.pass(1000);
    for p in w.check().await.problems {
        assert!(harmless(p.kind), "{at}: {p:?}");
    }
    // Another process does it again.
    work(w.sound(), w.clone())
        .await
        .unwrap_or_else(|e| panic!("{at}, again: {e}"));
    clean(&w, &at).await;
    Some(())
}

/// The runtime's DEL of everything that has no endpoint, and the collector: nothing is left over.
async fn clean(w: &World, at: &str) {
    for h in [
        "net.new", "net.old", "net.new0", "net.new1", "net.new2", "net.new3", "net.new4", "net.new5",
    ] {
        w.sound().release_handle(h).await.unwrap();
    }
    let mut collector = Collector::new(60);
    for _ in 0..4 {
        w.pass(200);
        let done = w.sound().collect(&mut collector).await.unwrap();
        assert!(done.failed.is_empty(), "{at}: {done:?}");
    }
    let report = w.check().await;
    assert!(report.problems.is_empty(), "{at}: {:#?}", report.problems);
    assert!(report.notes.is_empty(), "{at}: {:?}", report.notes);
    let left: Vec<_> = report
        .allocations
        .iter()
        .filter_map(|a| a.handle.as_deref())
        .collect();
    assert!(
        left.iter().all(|h| matches!(*h, "net.stays" | "net.there")),
        "{at}: {left:?}"
    );
    assert!(left.contains(&"net.stays"), "{at}: {left:?}");
}

#[test]
fn a_crash_at_any_call_is_harmless() {
    for kubernetes in [false, true] {
        for (name, work) in WORK {
            for last_is_done in [false, true] {
                let mut cuts = 0;
                for call in 0.. {
                    let fate = Fate {
                        dies_at: Some(call),
                        last_is_done,
                        ..Fate::default()
                    };
                    if run(cut_off_at(kubernetes, name, *work, fate)).is_none() {
                        break;
                    }
                    cuts += 1;
                }
                assert!(cuts > 2, "{name} has only {cuts} calls");
            }
        }
    }
}

#[test]
fn a_lost_reply_at_any_call_is_harmless() {
    for (name, work) in WORK {
        for call in 0..60 {
            let fate = Fate {
                loses: Some(call),
                ..Fate::default()
            };
            run(async {
                let w = set_up(false).await;
                let process = Arc::new(Process::new(w.store(), fate, 1));
                let lost = work(w.ipam(process.clone(), 0), w.clone()).await.is_err();
                let at = format!("{name}, reply {call} lost");
                w.pass(1000);
                for p in w.check().await.problems {
                    assert!(harmless(p.kind), "{at}: {p:?}");
                }
                if lost {
                    work(w.sound(), w.clone())
                        .await
                        .unwrap_or_else(|e| panic!("{at}, again: {e}"));
                }
                clean(&w, &at).await;
            });
        }
    }
}
