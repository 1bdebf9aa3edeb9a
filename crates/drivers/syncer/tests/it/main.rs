//! The syncer on the store in memory, in both of its modes, with everything going wrong that can.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod etcd;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use caracal_api::{GlobalNetworkSetSpec, Kind, NetworkSetSpec, Object, Resource, ResourceKey, TierSpec};
use caracal_store::{Backoff, ListOptions, Preconditions, Store, StoreError};
use caracal_store_memory::{MemoryStore, Op};
use caracal_syncer::{Options, Source, Stream, Syncer};
use caracal_update::{Event, Update};
use tokio::sync::mpsc::Receiver;

/// A running syncer and what it delivered so far.
struct Fed {
    events: Receiver<Event>,
    state: BTreeMap<ResourceKey, Arc<Resource>>,
    updates: Vec<Update>,
    in_sync: usize,
    unreadable: Vec<ResourceKey>,
    /// `true` for each loss, `false` for each return.
    lost: Vec<bool>,
}

fn kinds() -> Vec<Source> {
    [Kind::NetworkSet, Kind::GlobalNetworkSet, Kind::Tier]
        .into_iter()
        .map(Source::all)
        .collect()
}

fn options(capacity: usize) -> Options {
    Options {
        capacity,
        backoff: Backoff::new(Duration::from_millis(10), Duration::from_secs(1)),
    }
}

impl Fed {
    fn start(store: &MemoryStore, sources: Vec<Source>, capacity: usize) -> Self {
        let (syncer, events) = Syncer::with_options(Arc::new(store.clone()), sources, options(capacity));
        tokio::spawn(syncer.run());
        Self {
            events,
            state: BTreeMap::new(),
            updates: Vec::new(),
            in_sync: 0,
            unreadable: Vec::new(),
            lost: Vec::new(),
        }
    }

    async fn synced(store: &MemoryStore, sources: Vec<Source>) -> Self {
        let mut fed = Self::start(store, sources, 4);
        fed.until(|f| f.in_sync == 1).await;
        fed.updates.clear();
        fed
    }

    async fn step(&mut self) {
        let event = tokio::time::timeout(Duration::from_secs(3600), self.events.recv()).await;
        match event.expect("an event in time").expect("a living syncer") {
            Event::Updates(updates) => {
                assert!(!updates.is_empty());
                for u in updates {
                    match &u.value {
                        Some(r) => self.state.insert(u.key.clone(), r.clone()),
                        None => self.state.remove(&u.key),
                    };
                    self.updates.push(u);
                }
            }
            Event::InSync(_) => self.in_sync += 1,
            Event::Unreadable { key, .. } => {
                assert!(!self.state.contains_key(&key), "{key} counts as gone");
                self.unreadable.push(key);
            }
            Event::Disconnected(why) => {
                assert!(!why.is_empty());
                self.lost.push(true);
            }
            Event::Reconnected => self.lost.push(false),
        }
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.step().await;
        }
    }

    /// Reads on until an object made now has come through: all before it in its kind came before.
    async fn settle(&mut self, store: &MemoryStore, name: &str) {
        let key = store.create(set(name)).await.unwrap().key();
        self.until(|f| f.state.contains_key(&key)).await;
    }
}

fn set(name: &str) -> Resource {
    Object::namespaced("n", name, NetworkSetSpec::default()).into()
}

fn global(name: &str) -> Resource {
    Object::new(name, GlobalNetworkSetSpec::default()).into()
}

fn tier(name: &str) -> Resource {
    Object::new(name, TierSpec::default()).into()
}

fn with_nets(name: &str, nets: &[&str]) -> Resource {
    let spec = NetworkSetSpec {
        nets: nets.iter().map(|n| (*n).to_owned()).collect(),
    };
    Object::namespaced("n", name, spec).into()
}

fn key(name: &str) -> ResourceKey {
    ResourceKey::namespaced(Kind::NetworkSet, "n", name)
}

fn names(updates: &[Update]) -> Vec<(String, bool)> {
    updates
        .iter()
        .map(|u| (u.key.name.to_string(), u.value.is_some()))
        .collect()
}

fn lost() -> StoreError {
    StoreError::Unavailable("a test says so".into())
}

fn modes() -> [MemoryStore; 2] {
    [MemoryStore::etcd(), MemoryStore::kubernetes()]
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_then_one_token_then_changes() {
    for store in modes() {
        for i in 0..7 {
            store.create(set(&format!("s{i}"))).await.unwrap();
        }
        store.create(tier("t")).await.unwrap();
        let store = store.with_page(2);
        let mut fed = Fed::start(&store, kinds(), 4);
        fed.until(|f| f.in_sync == 1).await;
        assert_eq!(fed.state.len(), 8, "all was there before the token");
        assert_eq!(fed.updates.len(), 8);
        fed.updates.clear();
        store.create(set("new")).await.unwrap();
        store.delete(&key("s3"), &Preconditions::default()).await.unwrap();
        fed.until(|f| f.updates.len() == 2).await;
        assert_eq!(
            names(&fed.updates),
            [("new".to_owned(), true), ("s3".to_owned(), false)]
        );
        assert_eq!((fed.in_sync, fed.lost.len()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_and_no_kinds_are_in_sync() {
    let store = MemoryStore::etcd();
    Fed::synced(&store, Stream::Felix.sources(None)).await;
    Fed::synced(&store, Vec::new()).await;
}

#[tokio::test(start_paused = true)]
async fn the_token_waits_for_every_kind() {
    let store = MemoryStore::etcd();
    store.create(tier("t")).await.unwrap();
    store.fail_next_on(Op::List, 4, &lost());
    let mut fed = Fed::start(&store, kinds(), 4);
    fed.until(|f| f.in_sync == 1).await;
    assert_eq!(fed.state.len(), 1);
    fed.settle(&store, "s").await;
    assert_eq!(fed.lost, [true, false], "lost once, back once");
    assert_eq!(fed.in_sync, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_watch_goes_on_where_it_stopped() {
    for store in modes() {
        store.create(set("a")).await.unwrap();
        let mut fed = Fed::synced(&store, kinds()).await;
        fed.settle(&store, "b").await;
        let lists = store.calls(Op::List);
        store.drop_watches();
        store.create(set("c")).await.unwrap();
        store.delete(&key("a"), &Preconditions::default()).await.unwrap();
        fed.settle(&store, "d").await;
        let want = [("b", true), ("c", true), ("a", false), ("d", true)];
        assert_eq!(names(&fed.updates), want.map(|(n, set)| (n.to_owned(), set)));
        assert_eq!(store.calls(Op::List), lists, "nothing was listed again");
        store.end_watches();
        fed.settle(&store, "e").await;
        assert_eq!(store.calls(Op::List), lists);
        assert_eq!(fed.in_sync, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_expiry_only_the_difference_comes() {
    for store in modes() {
        for name in ["a", "b", "c"] {
            store.create(set(name)).await.unwrap();
        }
        let mut fed = Fed::synced(&store, kinds()).await;
        store.hold_watches(Kind::NetworkSet, true);
        store.update(with_nets("b", &["10.0.0.0/8"])).await.unwrap();
        store.delete(&key("c"), &Preconditions::default()).await.unwrap();
        store.create(set("d")).await.unwrap();
        store.expire();
        store.hold_watches(Kind::NetworkSet, false);
        fed.settle(&store, "last").await;
        let mut got = names(&fed.updates);
        got.sort();
        let want = [("b", true), ("c", false), ("d", true), ("last", true)];
        assert_eq!(got, want.map(|(n, set)| (n.to_owned(), set)));
        assert!(fed.lost.is_empty(), "being too old is no loss");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_nothing_is_forgotten() {
    for store in modes() {
        store.create(set("a")).await.unwrap();
        let mut fed = Fed::synced(&store, kinds()).await;
        store.fail_next_on(Op::Watch, 30, &lost());
        store.fail_next_on(Op::List, 10, &lost());
        store.drop_watches();
        store.create(set("b")).await.unwrap();
        store.compact();
        fed.until(|f| f.lost == [true]).await;
        assert!(fed.state.contains_key(&key("a")), "what was delivered stays");
        store.delete(&key("a"), &Preconditions::default()).await.unwrap();
        fed.until(|f| f.lost == [true, false]).await;
        fed.settle(&store, "c").await;
        let left: Vec<_> = fed.state.keys().map(|k| k.name.to_string()).collect();
        assert_eq!(left, ["b", "c"]);
        assert_eq!(fed.in_sync, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_is_gone_and_reported_until_repaired() {
    for store in modes() {
        store.put_malformed(&key("old"), "not JSON");
        store.create(set("a")).await.unwrap();
        let mut fed = Fed::start(&store, kinds(), 4);
        fed.until(|f| f.in_sync == 1).await;
        assert_eq!(fed.unreadable, [key("old")]);
        store.put_malformed(&key("a"), "broken");
        fed.until(|f| f.unreadable.len() == 2).await;
        assert!(!fed.state.contains_key(&key("a")));
        store.update(set("a")).await.unwrap();
        fed.until(|f| f.state.contains_key(&key("a"))).await;
        fed.updates.clear();
        store
            .delete(&key("old"), &Preconditions::default())
            .await
            .unwrap();
        fed.settle(&store, "last").await;
        assert_eq!(
            names(&fed.updates)[0],
            ("old".to_owned(), false),
            "the end of it is told"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_works_at_the_source() {
    let store = MemoryStore::etcd();
    store.create(with_nets("mine", &["10.0.0.0/8"])).await.unwrap();
    store.create(set("other")).await.unwrap();
    let keep = |r: &Resource| !matches!(r, Resource::NetworkSet(o) if o.spec.nets.is_empty());
    let mut fed = Fed::synced(&store, vec![Source::all(Kind::NetworkSet).only(keep)]).await;
    assert_eq!(fed.state.len(), 1);
    store.update(with_nets("other", &["11.0.0.0/8"])).await.unwrap();
    store.update(set("mine")).await.unwrap();
    store.create(set("never")).await.unwrap();
    fed.until(|f| f.updates.len() == 2).await;
    assert_eq!(
        names(&fed.updates),
        [("other".to_owned(), true), ("mine".to_owned(), false)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_the_store_lacks_is_empty() {
    let store = MemoryStore::etcd();
    let unsupported = StoreError::Unsupported {
        operation: "list",
        kind: Kind::NetworkSet,
        why: "a test says so".into(),
    };
    store.create(set("a")).await.unwrap();
    store.fail_next_on(Op::List, 1, &unsupported);
    let mut fed = Fed::synced(&store, vec![Source::all(Kind::NetworkSet)]).await;
    assert!(fed.state.is_empty() && fed.lost.is_empty());
    fed.until(|f| f.state.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_loses_nothing() {
    let store = MemoryStore::etcd();
    let mut fed = Fed::start(&store, kinds(), 1);
    for i in 0..500 {
        store.create(set(&format!("s{i}"))).await.unwrap();
        if i % 50 == 0 {
            fed.step().await;
        }
    }
    fed.until(|f| f.state.len() == 500 && f.in_sync == 1).await;
    assert_eq!(fed.updates.len(), 500, "each came once");
}

#[tokio::test(start_paused = true)]
async fn kinds_do_not_wait_for_each_other() {
    let store = MemoryStore::etcd();
    let mut fed = Fed::synced(&store, kinds()).await;
    store.hold_watches(Kind::NetworkSet, true);
    store.create(set("first")).await.unwrap();
    store.create(tier("second")).await.unwrap();
    fed.until(|f| !f.updates.is_empty()).await;
    assert_eq!(names(&fed.updates), [("second".to_owned(), true)]);
    store.hold_watches(Kind::NetworkSet, false);
    fed.until(|f| f.updates.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_listens() {
    let store = MemoryStore::etcd();
    let (syncer, events) = Syncer::new(Arc::new(store), kinds());
    let task = tokio::spawn(syncer.run());
    drop(events);
    tokio::time::timeout(Duration::from_secs(60), task)
        .await
        .unwrap()
        .unwrap();
}

/// A small generator: the run is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn something_happens(store: &MemoryStore, dice: &mut Dice) {
    let name = format!("x{}", dice.roll(12));
    match dice.roll(16) {
        0 => store.drop_watches(),
        1 => store.expire(),
        2 => store.end_watches(),
        3 => store.fail_next(dice.roll(4) as usize, &lost()),
        4 => store.fail_next_on(Op::List, 2, &StoreError::Expired(Kind::NetworkSet)),
        5 => store.put_malformed(&key(&name), "broken"),
        6 => store.hold_watches(Kind::NetworkSet, true),
        7 => store.hold_watches(Kind::NetworkSet, false),
        8 => store.send_bookmarks(),
        9 => {
            let _ = store.create(global(&name)).await;
        }
        10 | 11 => {
            let _ = store.delete(&key(&name), &Preconditions::default()).await;
        }
        12 | 13 => {
            let net = format!("10.{}.0.0/16", dice.roll(250));
            let _ = store.update(with_nets(&name, &[&net])).await;
        }
        _ => {
            let _ = store.create(set(&name)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_the_fold_is_the_store() {
    for seed in 0..60 {
        for store in modes() {
            let store = store
                .with_page(3)
                .with_history(if seed % 2 == 0 { 5 } else { 1000 });
            let mut dice = Dice(seed);
            let mut fed = Fed::start(&store, kinds(), 1 + (seed % 3) as usize);
            for _ in 0..120 {
                something_happens(&store, &mut dice).await;
                if dice.roll(3) == 0 {
                    tokio::task::yield_now().await;
                }
                while let Ok(()) =
                    tokio::time::timeout(Duration::from_millis(dice.roll(20)), fed.step()).await
                {
                }
            }
            store.clear_faults();
            store.hold_watches(Kind::NetworkSet, false);
            fed.until(|f| f.in_sync == 1).await;
            let mut want = BTreeMap::new();
            for kind in [Kind::NetworkSet, Kind::GlobalNetworkSet, Kind::Tier] {
                let page = store.list_all(kind, &ListOptions::default()).await.unwrap();
                want.extend(page.items.into_iter().map(|r| (r.key(), Arc::new(r))));
            }
            fed.until(|f| f.state == want).await;
            assert_eq!(fed.in_sync, 1);
            assert!(
                fed.lost.chunks(2).all(|c| c[0] && c.get(1) != Some(&true)),
                "{:?}",
                fed.lost
            );
        }
    }
}

/// Something of every kind that the streams of a node tell apart.
async fn furnish(store: &MemoryStore) {
    let of = |kind: Kind, name: &str, spec: serde_json::Value| {
        let value = serde_json::json!({ "metadata": { "name": name }, "spec": spec });
        Resource::from_value(kind, value).unwrap()
    };
    let affinity = |name: &str, owner: &str, node: &str, cidr: &str| {
        let spec = serde_json::json!({ "type": owner, "node": node, "cidr": cidr, "state": "confirmed" });
        of(Kind::BlockAffinity, name, spec)
    };
    let asks = |name: &str, node: &str| of(Kind::CalicoNodeStatus, name, serde_json::json!({ "node": node }));
    let nothing = || serde_json::json!({});
    for object in [
        of(Kind::Node, "n1", nothing()),
        of(Kind::Node, "n1-b", nothing()),
        of(Kind::Node, "n2", nothing()),
        of(Kind::IpPool, "p", serde_json::json!({ "cidr": "10.0.0.0/16" })),
        of(Kind::BgpConfiguration, "default", nothing()),
        of(Kind::BgpPeer, "peer", nothing()),
        of(Kind::BgpFilter, "filter", nothing()),
        affinity("n1-10-0-0-0-26", "host", "n1", "10.0.0.0/26"),
        affinity("n1-b-10-0-1-0-26", "host", "n1-b", "10.0.1.0/26"),
        affinity("virtual-n1-10-0-2-0-26", "virtual", "n1", "10.0.2.0/26"),
        asks("a", "n1"),
        asks("b", "n2"),
        tier("t"),
        set("s"),
    ] {
        store.create(object).await.unwrap();
    }
}

fn shown(fed: &Fed) -> Vec<String> {
    fed.state.keys().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn each_stream_brings_what_its_program_needs_and_no_more() {
    for store in modes() {
        furnish(&store).await;
        let mut want = BTreeMap::from([
            ("tunnel", vec!["IPPool(p)", "Node(n1)"]),
            ("status", vec!["CalicoNodeStatus(a)"]),
            (
                "bgp",
                vec![
                    "BGPConfiguration(default)",
                    "BGPFilter(filter)",
                    "BGPPeer(peer)",
                    "BlockAffinity(n1-10-0-0-0-26)",
                    "IPPool(p)",
                    "Node(n1)",
                    "Node(n1-b)",
                    "Node(n2)",
                ],
            ),
        ]);
        for (name, stream) in [
            ("tunnel", Stream::Tunnel),
            ("status", Stream::NodeStatus),
            ("bgp", Stream::Bgp),
        ] {
            let fed = Fed::synced(&store, stream.sources(Some("n1"))).await;
            let mut seen = shown(&fed);
            seen.sort();
            assert_eq!(seen, want.remove(name).unwrap(), "{name}");
        }
        // Without a node, those of all.
        let fed = Fed::synced(&store, Stream::NodeStatus.sources(None)).await;
        assert_eq!(fed.state.len(), 2);
        let fed = Fed::synced(&store, Stream::Bgp.sources(None)).await;
        assert_eq!(fed.state.len(), 9, "{:?}", shown(&fed));
        let fed = Fed::synced(&store, Stream::Felix.sources(None)).await;
        assert!(
            fed.state
                .keys()
                .all(|k| k.kind != Kind::CalicoNodeStatus && k.kind != Kind::BlockAffinity)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_moves_into_a_stream_comes_and_what_leaves_it_is_gone() {
    for store in modes() {
        furnish(&store).await;
        let mut fed = Fed::synced(&store, Stream::NodeStatus.sources(Some("n1"))).await;
        let key = |name: &str| ResourceKey::global(Kind::CalicoNodeStatus, name);
        for (name, node) in [("a", "n2"), ("b", "n1")] {
            caracal_store::modify(&store, &key(name), |r| {
                if let Resource::CalicoNodeStatus(o) = r {
                    o.spec.node = node.into();
                }
            })
            .await
            .unwrap();
        }
        fed.until(|f| f.state.contains_key(&key("b"))).await;
        assert_eq!(
            names(&fed.updates),
            [("a".to_owned(), false), ("b".to_owned(), true)]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_by_labels_follows_the_labels() {
    for store in modes() {
        let labelled = |name: &str, value: &str| {
            let mut r = set(name);
            r.metadata_mut().labels.insert("app".into(), value.into());
            r
        };
        store.create(labelled("a", "web")).await.unwrap();
        store.create(labelled("b", "db")).await.unwrap();
        let part = ListOptions {
            labels: Some("app == 'web'".parse().unwrap()),
            ..ListOptions::default()
        };
        let mut fed = Fed::synced(&store, vec![Source::part(Kind::NetworkSet, part)]).await;
        assert_eq!(shown(&fed), ["NetworkSet(n/a)"]);
        store.update(labelled("a", "db")).await.unwrap();
        store.update(labelled("b", "web")).await.unwrap();
        fed.until(|f| f.state.contains_key(&key("b"))).await;
        assert_eq!(shown(&fed), ["NetworkSet(n/b)"]);
        store.expire();
        store.update(labelled("b", "db")).await.unwrap();
        fed.until(|f| f.state.is_empty()).await;
    }
}
