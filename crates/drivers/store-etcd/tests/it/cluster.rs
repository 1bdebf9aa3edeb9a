//! Three etcd that are one cluster: members die, the leader changes, one is cut off, space runs out, history goes.

use std::{collections::BTreeSet, time::Duration};

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{ListOptions, Store, StoreError, WatchEvent, WatchFrom};
use caracal_store_etcd::{EtcdSettings, EtcdStore};
use caracal_testkit::{Etcd, EtcdCluster, eventually, needs, netns};
use futures::StreamExt;

use crate::etcd::{runtime, set};

/// Follows a kind as a consumer does: from the last bookmark on after an error, with a list after an expiry.
struct Follower<'a> {
    store: &'a EtcdStore,
    seen: BTreeSet<String>,
    from: Option<WatchFrom>,
}

impl Follower<'_> {
    /// Until the names are there.
    async fn until(&mut self, names: &BTreeSet<String>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !names.is_subset(&self.seen) {
            match tokio::time::timeout_at(deadline, self.follow(names)).await {
                Ok(Ok(())) => {}
                Ok(Err(StoreError::Expired(_))) => self.from = None,
                Ok(Err(error)) => {
                    assert!(error.is_transient(), "{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(_) => panic!(
                    "still missing: {:?}",
                    names.difference(&self.seen).collect::<Vec<_>>()
                ),
            }
        }
    }

    async fn follow(&mut self, names: &BTreeSet<String>) -> Result<(), StoreError> {
        let from = match self.from.clone() {
            Some(from) => from,
            None => {
                let page = self
                    .store
                    .list_all(Kind::NetworkSet, &ListOptions::default())
                    .await?;
                self.seen = page.items.iter().map(|r| r.metadata().name.clone()).collect();
                self.from.insert(page.watch_from).clone()
            }
        };
        let mut watch = self.store.watch(Kind::NetworkSet, &from).await?;
        while !names.is_subset(&self.seen) {
            match watch.next().await {
                Some(Ok(WatchEvent::Set(r))) => drop(self.seen.insert(r.metadata().name.clone())),
                Some(Ok(WatchEvent::Bookmark(place))) => self.from = Some(place),
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Makes an object, trying again as a client must; an answer that was lost may have been a success.
pub(crate) async fn insist(store: &EtcdStore, object: Resource) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match store.create(object.clone()).await {
            Ok(_) | Err(StoreError::AlreadyExists(_)) => return,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(tokio::time::Instant::now() < deadline, "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Asks again as long as there is no answer.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match ask().await {
            Err(error @ StoreError::Unavailable(_)) => {
                assert!(tokio::time::Instant::now() < deadline, "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
}

fn client(endpoints: Vec<String>) -> EtcdStore {
    let mut settings = EtcdSettings::new(endpoints);
    settings.timeout = Duration::from_secs(8);
    EtcdStore::new(&settings).unwrap()
}

#[test]
fn members_die_in_turn_and_nothing_is_missed() {
    needs!("etcd");
    let rt = runtime();
    let mut cluster = EtcdCluster::start(3);
    let store = client(cluster.endpoints());
    let mut follower = Follower {
        store: &store,
        seen: BTreeSet::new(),
        from: None,
    };
    let mut names = BTreeSet::new();
    for member in 0..3 {
        for step in ["dead", "back"] {
            rt.block_on(async {
                for i in 0..20 {
                    let name = format!("{step}{member}-{i}");
                    insist(&store, set(&name)).await;
                    names.insert(name);
                }
                follower.until(&names).await;
            });
            match step {
                "dead" => cluster.members[member].kill(),
                _ => cluster.members[member].restart(),
            }
        }
    }
}

#[test]
fn the_leader_dies_and_another_takes_over() {
    needs!("etcd");
    let rt = runtime();
    let mut cluster = EtcdCluster::start(3);
    let store = client(cluster.endpoints());
    let mut follower = Follower {
        store: &store,
        seen: BTreeSet::new(),
        from: None,
    };
    rt.block_on(insist(&store, set("before")));
    rt.block_on(follower.until(&BTreeSet::from(["before".to_owned()])));
    let leader = eventually(Duration::from_secs(60), || {
        cluster.leader().ok_or_else(|| "no leader".to_owned())
    });
    cluster.members[leader].kill();
    rt.block_on(async {
        insist(&store, set("after")).await;
        follower.until(&BTreeSet::from(["after".to_owned()])).await;
    });
}

#[test]
fn netns_a_client_leaves_the_minority() {
    netns!();
    needs!("etcd");
    needs!("nft");
    let rt = runtime();
    let cluster = EtcdCluster::start(3);
    // The client begins at the member that will be cut off.
    let store = client(cluster.endpoints());
    let mut follower = Follower {
        store: &store,
        seen: BTreeSet::new(),
        from: None,
    };
    rt.block_on(insist(&store, set("before")));
    rt.block_on(follower.until(&BTreeSet::from(["before".to_owned()])));
    cluster.cut_off(0);
    rt.block_on(async {
        insist(&store, set("during")).await;
        follower.until(&BTreeSet::from(["during".to_owned()])).await;
    });
    cluster.heal();
    rt.block_on(async {
        insist(&store, set("healed")).await;
        follower.until(&BTreeSet::from(["healed".to_owned()])).await;
    });
}

#[test]
fn a_full_etcd_says_so_and_serves_again_with_room() {
    needs!("etcd");
    needs!("etcdctl");
    let rt = runtime();
    let etcd = Etcd::start_with(&["--quota-backend-bytes", "2097152"]);
    let store = client(vec![etcd.endpoint()]);
    let filler = |i: usize| {
        let mut r = set(&format!("f{i}"));
        let long = "x".repeat(200_000);
        r.metadata_mut().annotations.insert("filler".to_owned(), long);
        r
    };
    let made = rt.block_on(async {
        let mut made = 0;
        let refused = loop {
            match patiently(async || store.create(filler(made)).await).await {
                // The one before may have been answered too late.
                Ok(_) | Err(StoreError::AlreadyExists(_)) => made += 1,
                Err(error) => break error,
            }
            assert!(made < 100, "the quota is never met");
        };
        assert!(
            matches!(&refused, StoreError::NoSpace(t) if t.contains("quota")),
            "{refused}"
        );
        made
    });
    let list = || {
        rt.block_on(patiently(async || {
            store.list_all(Kind::NetworkSet, &ListOptions::default()).await
        }))
    };
    // Reading goes on.
    let page = list().unwrap();
    let found: BTreeSet<String> = page.items.iter().map(|r| r.metadata().name.clone()).collect();
    // The refused one is there if its first try was answered too late.
    let mut all: BTreeSet<String> = (0..made).map(|i| format!("f{i}")).collect();
    if found.len() > made {
        all.insert(format!("f{made}"));
    }
    assert_eq!(found, all);
    rt.block_on(async {
        for name in &all {
            let key = ResourceKey::namespaced(Kind::NetworkSet, "n", name);
            let gone = patiently(async || store.delete(&key, &Default::default()).await).await;
            assert!(matches!(gone, Ok(_) | Err(StoreError::NotFound(_))), "{gone:?}");
        }
    });
    let revision = list().unwrap().watch_from.0;
    // There is nothing to gain for defrag before the compaction is over, of which only a physical one tells.
    for args in [
        ["compact", "--physical", &revision].as_slice(),
        &["defrag"],
        &["alarm", "disarm"],
    ] {
        etcd.ctl(args);
    }
    rt.block_on(insist(&store, set("room")));
}

#[test]
fn a_watch_whose_history_is_compacted_expires_and_the_follower_lists_again() {
    needs!("etcd");
    needs!("etcdctl");
    let rt = runtime();
    let etcd = Etcd::start();
    let store = client(vec![etcd.endpoint()]);
    let mut follower = Follower {
        store: &store,
        seen: BTreeSet::new(),
        from: None,
    };
    rt.block_on(insist(&store, set("a")));
    rt.block_on(follower.until(&BTreeSet::from(["a".to_owned()])));
    rt.block_on(async {
        for name in ["b", "c", "d"] {
            insist(&store, set(name)).await;
        }
    });
    let page = rt
        .block_on(patiently(async || {
            store.list_all(Kind::NetworkSet, &ListOptions::default()).await
        }))
        .unwrap();
    etcd.ctl(&["compact", &page.watch_from.0]);
    let from = follower.from.clone().unwrap();
    // etcd accepts the watch first and cancels it then.
    let expired = rt.block_on(patiently(async || {
        let mut watch = store.watch(Kind::NetworkSet, &from).await?;
        let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        next.expect("it is told")
            .expect("the watch says why it ends")
            .map(drop)
    }));
    assert!(
        matches!(expired, Err(StoreError::Expired(Kind::NetworkSet))),
        "{expired:?}"
    );
    rt.block_on(follower.until(&["b", "c", "d"].map(str::to_owned).into()));
}
