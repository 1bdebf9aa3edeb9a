//! Several objects in one request.

use caracal_store::{Reads, Write};

use super::*;

fn made(name: &str) -> Write {
    Write::Create(set("n", name, &["10.0.0.0/8"]))
}

fn delete_of(r: &Resource) -> Write {
    Write::Delete(r.key(), version(r).unwrap())
}

/// Everything that is stored of the kind.
async fn all(store: &dyn Store) -> Vec<Resource> {
    start(store, Kind::NetworkSet).await.0
}

pub(super) async fn a_store_without_transactions_says_so_at_once(b: &dyn Backend) {
    let store = b.store();
    let none = b.column() == crate::backend::Column::MemoryKubernetes;
    assert_eq!(store.writes_together() == 0, none);
    match store.write_together(vec![made("a"), made("b")]).await {
        Err(e @ StoreError::Unsupported { .. }) if none => {
            assert!(e.to_string().contains("NetworkSet"), "{e}");
            assert!(all(&*store).await.is_empty());
        }
        done => assert!(!none && done.unwrap()),
    }
    // Reading together is everywhere.
    store.create(set("n", "c", &[])).await.unwrap();
    let reads = Reads {
        objects: vec![set_key("n", "c"), set_key("n", "none"), set_key("", "wrong")],
        lists: vec![(Kind::NetworkSet, ListOptions::default())],
    };
    let found = store.read_together(&reads).await.unwrap();
    assert_eq!(found.objects[0].as_ref().unwrap().key(), set_key("n", "c"));
    assert!(matches!(found.objects[1], Err(StoreError::NotFound(_))));
    assert!(matches!(found.objects[2], Err(StoreError::Invalid { .. })));
    assert_eq!(found.lists[0].items, all(&*store).await);
}

pub(super) async fn of_several_writes_all_are_done_or_none(b: &dyn Backend) {
    let store = b.store();
    let mut there = Vec::new();
    for name in ["changed", "deleted", "fresh", "old", "gone"] {
        there.push(store.create(set("n", name, &[])).await.unwrap());
    }
    let stale = there[3].clone();
    store
        .update(with_nets(stale.clone(), &["1.0.0.0/8"]))
        .await
        .unwrap();
    store
        .delete(&there[4].key(), &Preconditions::default())
        .await
        .unwrap();
    let mut foreign = there[2].clone();
    foreign.metadata_mut().resource_version = Some("of-another-store".into());
    let mut namesake = there[2].clone();
    namesake.metadata_mut().uid = Some("00000000-0000-4000-8000-000000000000".into());
    let affinity = ResourceKey::global(Kind::BlockAffinity, "n1-10-0-0-0-30");
    let bad = [
        Write::Update(with_nets(stale.clone(), &["2.0.0.0/8"])),
        made("fresh"),
        Write::Delete(stale.key(), version(&stale).unwrap()),
        Write::Update(with_nets(there[4].clone(), &["2.0.0.0/8"])),
        delete_of(&there[4]),
        Write::Delete(affinity, version(&stale).unwrap()),
        Write::Delete(there[2].key(), "of-another-store".into()),
        Write::Update(foreign),
        Write::Update(namesake),
    ];
    let good = || {
        vec![
            made("new"),
            Write::Update(with_nets(there[0].clone(), &["11.0.0.0/8"])),
            delete_of(&there[1]),
        ]
    };
    let before = all(&*store).await;
    for wrong in bad {
        for at in [0, 3] {
            let mut writes = good();
            writes.insert(at, wrong.clone());
            let done = store.write_together(writes).await;
            assert!(!done.unwrap(), "{wrong:?}");
            assert_eq!(all(&*store).await, before, "{wrong:?}");
        }
    }
    assert!(store.write_together(good()).await.unwrap());
    assert_eq!(
        names(&*store, &ListOptions::default()).await,
        ["n/changed", "n/fresh", "n/new", "n/old"]
    );
    assert!(!store.write_together(good()).await.unwrap());
}

pub(super) async fn what_is_written_together_is_one_change(b: &dyn Backend) {
    let store = b.store();
    let old = store.create(set("n", "old", &[])).await.unwrap();
    let (_, sets) = start(&*store, Kind::NetworkSet).await;
    let (_, tiers) = start(&*store, Kind::Tier).await;
    let mut sets = store.watch(Kind::NetworkSet, &sets).await.unwrap();
    let mut tiers = store.watch(Kind::Tier, &tiers).await.unwrap();
    let writes = vec![
        made("a"),
        Write::Create(Object::new("t", TierSpec::default()).into()),
        made("b"),
        delete_of(&old),
    ];
    assert!(store.write_together(writes).await.unwrap());
    let tier = version(&*next_set(&mut tiers).await);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = tokio::time::timeout(Duration::from_secs(20), sets.next()).await;
        match event.expect("an event in time").expect("an open watch").unwrap() {
            WatchEvent::Set(r) => {
                assert_eq!(version(&r), tier, "all have one revision");
                seen.push(r.key().name.to_string());
            }
            WatchEvent::Gone(key) => seen.push(key.name.to_string()),
            WatchEvent::Bookmark(_) => assert!(seen.is_empty(), "a bookmark in the middle: {seen:?}"),
            other => panic!("{other:?}"),
        }
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "old"]);
    for r in all(&*store).await {
        assert_eq!(version(&r), tier);
    }
}

pub(super) async fn what_is_read_together_is_of_one_moment(b: &dyn Backend) {
    let store = b.store();
    let writer = tokio::spawn({
        let store = b.store();
        async move {
            for i in 0..60 {
                let net = format!("10.{i}.0.0/16");
                let mut writes = Vec::new();
                for name in ["a", "b"] {
                    writes.push(match store.get(&set_key("n", name)).await {
                        Ok(r) if i % 7 == 6 => delete_of(&r),
                        Ok(r) => Write::Update(with_nets(r, &[&net])),
                        Err(_) => Write::Create(set("n", name, &[&net])),
                    });
                }
                assert!(store.write_together(writes).await.unwrap(), "nobody else writes");
            }
        }
    });
    let reads = Reads {
        objects: vec![set_key("n", "a"), set_key("n", "b")],
        lists: Vec::new(),
    };
    let mut states = 0;
    let mut last = None;
    while !writer.is_finished() {
        let found = store.read_together(&reads).await.unwrap().objects;
        let said: Vec<Option<(Vec<String>, Option<String>)>> = found
            .into_iter()
            .map(|f| f.ok().map(|r| (nets(&r).to_vec(), version(&r))))
            .collect();
        assert_eq!(said[0], said[1]);
        states += usize::from(last.as_ref() != Some(&said));
        last = Some(said);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(states > 0);
}

pub(super) async fn more_than_a_transaction_takes_is_refused_whole(b: &dyn Backend) {
    let store = b.store();
    let most = store.writes_together();
    let many = |n: usize| (0..n).map(|i| made(&format!("s{i}"))).collect::<Vec<_>>();
    let e = store.write_together(many(most + 1)).await.unwrap_err();
    let last = set_key("n", &format!("s{most}"));
    assert!(
        matches!(&e, StoreError::Invalid { key, reason } if *key == last && reason.contains(&most.to_string())),
        "{e}"
    );
    assert!(all(&*store).await.is_empty());
    assert!(store.write_together(many(most)).await.unwrap());
    assert_eq!(all(&*store).await.len(), most);
}

pub(super) async fn nothing_to_write_together_is_done(b: &dyn Backend) {
    let store = b.store();
    let (_, before) = start(&*store, Kind::NetworkSet).await;
    assert!(store.write_together(Vec::new()).await.unwrap());
    assert_eq!(start(&*store, Kind::NetworkSet).await.1, before);
    let found = store.read_together(&Reads::default()).await.unwrap();
    assert!(found.objects.is_empty() && found.lists.is_empty());
}

pub(super) async fn one_object_twice_in_a_transaction_is_refused(b: &dyn Backend) {
    let store = b.store();
    let there = store.create(set("n", "a", &[])).await.unwrap();
    let twice = [
        vec![made("x"), made("b"), made("x")],
        vec![Write::Update(there.clone()), made("x"), delete_of(&there)],
    ];
    for writes in twice {
        let e = store.write_together(writes).await.unwrap_err();
        assert!(
            matches!(&e, StoreError::Invalid { reason, .. } if reason.contains("twice")),
            "{e}"
        );
        assert_eq!(all(&*store).await, std::slice::from_ref(&there));
    }
}

pub(super) async fn writes_together_keep_what_single_writes_keep(b: &dyn Backend) {
    let store = b.store();
    let spec = IpPoolSpec {
        cidr: "10.0.0.0/16".into(),
        ..IpPoolSpec::default()
    };
    let mut labelled = Resource::from(Object::new("p", spec));
    labelled.metadata_mut().labels.insert("a".into(), "b".into());
    assert!(
        store
            .write_together(vec![Write::Create(labelled.clone()), made("a")])
            .await
            .unwrap()
    );
    let made: Object<IpPoolSpec> = store.get(&labelled.key()).await.unwrap().try_into().unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(made.metadata.labels, labelled.metadata().labels);
    let mut with_status = made.clone();
    with_status.status = Some(IpPoolStatus {
        conditions: vec![Condition {
            condition_type: "Allocatable".into(),
            status: "True".into(),
            ..Condition::default()
        }],
    });
    let stored: Object<IpPoolSpec> = store
        .update_status(with_status.into())
        .await
        .unwrap()
        .try_into()
        .unwrap();
    let mut change = stored.clone();
    change.status = None;
    change.spec.disabled = true;
    change.metadata.creation_timestamp = Some("2001-01-01T00:00:00Z".into());
    assert!(
        store
            .write_together(vec![Write::Update(change.into())])
            .await
            .unwrap()
    );
    let now: Object<IpPoolSpec> = store.get(&labelled.key()).await.unwrap().try_into().unwrap();
    assert!(now.spec.disabled);
    assert_eq!(now.status, stored.status, "the status is apart");
    assert_eq!(now.metadata.uid, made.metadata.uid);
    assert_eq!(now.metadata.creation_timestamp, made.metadata.creation_timestamp);
    // What cannot be stored alone cannot be stored with others, and neither can a change of no certain revision.
    let mut nameless = Resource::from(now.clone());
    nameless.metadata_mut().name = String::new();
    let unsure = any_revision(with_nets(store.get(&set_key("n", "a")).await.unwrap(), &[]));
    for wrong in [
        Write::Create(any_revision(nameless)),
        Write::Create(set("n", "x y", &[])),
        Write::Update(unsure),
    ] {
        let more = Write::Create(set("n", "more", &[]));
        let e = store.write_together(vec![more, wrong]).await.unwrap_err();
        assert!(matches!(e, StoreError::Invalid { .. }), "{e}");
    }
    assert_eq!(names(&*store, &ListOptions::default()).await, ["n/a"]);
    // A value that cannot be read is replaced or deleted as one that can.
    b.spoil_network_set("n", "bad").await;
    let e = store.get(&set_key("n", "bad")).await.unwrap_err();
    assert!(matches!(e, StoreError::Malformed { .. }), "{e}");
    let whole = Reads {
        objects: vec![set_key("n", "bad")],
        lists: vec![(Kind::NetworkSet, ListOptions::default())],
    };
    let found = store.read_together(&whole).await.unwrap();
    assert!(matches!(found.objects[0], Err(StoreError::Malformed { .. })));
    assert_eq!(
        (found.lists[0].items.len(), found.lists[0].malformed.len()),
        (1, 1)
    );
}

pub(super) async fn of_many_transactions_on_one_object_one_succeeds(b: &dyn Backend) {
    let first = b.store().create(set("n", "shared", &[])).await.unwrap();
    let tries: Vec<_> = (0..8)
        .map(|i| {
            let (store, first) = (b.store(), first.clone());
            tokio::spawn(async move {
                let change = Write::Update(with_nets(first, &[&format!("10.{i}.0.0/16")]));
                let writes = vec![made(&format!("of-{i}")), change];
                (i, store.write_together(writes).await.unwrap())
            })
        })
        .collect();
    let mut won = Vec::new();
    for t in tries {
        let (i, done) = t.await.unwrap();
        won.extend(done.then_some(i));
    }
    assert_eq!(won.len(), 1);
    let store = b.store();
    assert_eq!(
        names(&*store, &ListOptions::default()).await,
        [format!("n/of-{}", won[0]), "n/shared".into()]
    );
    let shared = store.get(&first.key()).await.unwrap();
    assert_eq!(nets(&shared), [format!("10.{}.0.0/16", won[0])]);
}

/// Nobody else writes, so nothing may be refused: a reply that is lost is an error of its own, and what it was about is
/// done whole or not at all.
pub(super) async fn a_transaction_that_a_restart_cuts_off_is_no_refusal(b: &dyn Backend) {
    let store = b.store();
    let writer = tokio::spawn({
        let store = b.store();
        async move {
            let mut outcomes = Vec::new();
            let mut done_after = 0;
            for i in 0..10_000 {
                let writes = ["a", "b", "c"].map(|n| made(&format!("{n}-{i}"))).to_vec();
                let outcome = store.write_together(writes).await;
                let failed = outcomes.iter().any(|o: &Result<bool, StoreError>| o.is_err());
                done_after += usize::from(outcome.is_ok() && (failed || i > 40));
                outcomes.push(outcome);
                if done_after > 3 {
                    break;
                }
                tokio::task::yield_now().await;
            }
            outcomes
        }
    });
    while all(&*store).await.is_empty() {
        tokio::task::yield_now().await;
    }
    b.restart().await;
    let outcomes = writer.await.unwrap();
    let there: std::collections::BTreeSet<String> = names(&*store, &ListOptions::default())
        .await
        .into_iter()
        .collect();
    for (i, outcome) in outcomes.into_iter().enumerate() {
        let count = ["a", "b", "c"]
            .iter()
            .filter(|n| there.contains(&format!("n/{n}-{i}")))
            .count();
        match outcome {
            Ok(done) => assert!(done && count == 3, "{i}: {done}, {count} are there"),
            Err(e) => assert!(
                e.is_transient() && (count == 0 || count == 3),
                "{i}: {e}, {count}"
            ),
        }
    }
}
