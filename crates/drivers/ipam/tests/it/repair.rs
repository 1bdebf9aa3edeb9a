//! Repairs cut off at each of their calls: they are done again, and every pod keeps its address.

use std::{net::IpAddr, sync::Arc};

use caracal_ipam_plan::{Block, Collector, Holder, Stamp, handle_with};
use caracal_net::Cidr;

use crate::{
    chaos::{Fate, Process},
    world::{World, owner, run},
};

/// Overlapping blocks, a missing claim, a missing and a stale handle, a leak: with pods that live in all of it.
async fn broken() -> World {
    let w = World::new(false);
    w.pool("p", "10.0.0.0/16", 26).await;
    for n in ["n1", "n2"] {
        w.node(n).await;
    }
    let long_ago = Stamp::from_seconds(0);
    let mut pods: Vec<(&str, &str, IpAddr)> = Vec::new();
    for (cidr, node, containers) in [
        ("10.0.0.0/26", "n1", &["ghost", "a"][..]),
        ("10.0.0.0/28", "n2", &["b", "pad", "c", "d"][..]),
        ("10.0.1.0/26", "n2", &["e", "leak"][..]),
    ] {
        let cidr: Cidr = cidr.parse().unwrap();
        let mut block = Block::new(cidr, &Holder::Host(node.into()), long_ago, None);
        for c in containers {
            let got = block.assign(1, &owner(node, c, long_ago), &[])[0];
            w.put(handle_with(None, &format!("net.{c}"), &cidr, 1)).await;
            if !["ghost", "pad", "leak"].contains(c) {
                pods.push((node, c, got.addr));
            }
        }
        w.put(block.into_object()).await;
        w.put(Holder::Host(node.into()).claim(None, &cidr, "confirmed"))
            .await;
    }
    for (node, c, addr) in pods {
        w.runs(node, c, &[addr]);
    }
    let cidr: Cidr = "10.0.1.0/26".parse().unwrap();
    w.memory
        .underive(&Holder::Host("n2".into()).claim(None, &cidr, "").key());
    w.put(handle_with(None, "net.stale", &cidr, 3)).await;
    let e = caracal_api::ResourceKey::global(caracal_api::Kind::IpamHandle, "net.e");
    w.memory.underive(&e);
    w
}

async fn repaired(w: &World) {
    for _ in 0..6 {
        let report = w.check().await;
        for p in &report.problems {
            w.sound()
                .repair(p.fix.as_ref().unwrap_or_else(|| panic!("{p:?}")))
                .await
                .unwrap();
        }
    }
    let report = w.check().await;
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    let mut held: Vec<(String, String)> = report
        .allocations
        .iter()
        .map(|f| (f.addr.to_string(), f.handle.clone().unwrap_or_default()))
        .collect();
    held.sort();
    let want = [
        ("10.0.0.0", "net.b"),
        ("10.0.0.1", "net.a"),
        ("10.0.0.2", "net.c"),
        ("10.0.0.3", "net.d"),
        ("10.0.1.0", "net.e"),
    ];
    assert_eq!(held, want.map(|(a, h)| (a.to_owned(), h.to_owned())));
}

#[test]
fn repairs_may_be_cut_off_anywhere() {
    for call in 0.. {
        let cut = run(async {
            let w = broken().await;
            let fate = Fate {
                dies_at: Some(call),
                last_is_done: call % 2 == 0,
                ..Fate::default()
            };
            let process = Arc::new(Process::new(w.store(), fate, 7));
            let ipam = w.ipam(process.clone(), 0);
            for _ in 0..4 {
                for p in w.check().await.problems {
                    if let Some(fix) = &p.fix {
                        // It may be cut off here.
                        let _ = ipam.repair(fix).await;
                    }
                }
            }
            repaired(&w).await;
            process.is_dead()
        });
        if !cut {
            assert!(call > 30, "only {call} calls");
            return;
        }
    }
}

#[test]
fn the_collector_and_repairs_do_not_disturb_each_other() {
    run(async {
        let w = broken().await;
        let mut collector = Collector::new(60);
        for _ in 0..3 {
            w.sound().collect(&mut collector).await.unwrap();
            w.pass(100);
        }
        repaired(&w).await;
    });
}
