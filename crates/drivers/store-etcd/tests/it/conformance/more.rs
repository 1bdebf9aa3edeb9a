//! More of what every datastore must do: order, races, places to continue from, words that are kept.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{GlobalNetworkSetSpec, IpamBlockSpec, NetworkPolicySpec};

use super::*;

fn global(name: &str) -> Resource {
    Object::new(name, GlobalNetworkSetSpec::default()).into()
}

pub(super) async fn deleting_twice_is_not_found(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    store
        .delete(&made.key(), &Preconditions::default())
        .await
        .unwrap();
    let e = store
        .delete(&made.key(), &Preconditions::default())
        .await
        .unwrap_err();
    assert!(matches!(e, StoreError::NotFound(_)), "{e}");
}

pub(super) async fn an_object_made_again_has_another_revision(b: &dyn Backend) {
    let store = b.store();
    let first = store.create(set("n", "a", &[])).await.unwrap();
    store
        .delete(&first.key(), &Preconditions::default())
        .await
        .unwrap();
    let second = store.create(set("n", "a", &[])).await.unwrap();
    assert_ne!(version(&first), version(&second));
    let e = store.update(with_nets(first, &["10.0.0.0/8"])).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
}

pub(super) async fn an_update_does_not_make_what_is_gone(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    store
        .delete(&made.key(), &Preconditions::default())
        .await
        .unwrap();
    let e = store.update(made).await.unwrap_err();
    assert!(
        matches!(e, StoreError::NotFound(_) | StoreError::Conflict { .. }),
        "{e}"
    );
    assert!(names(&*store, &ListOptions::default()).await.is_empty());
}

pub(super) async fn a_status_is_not_written_to_what_is_missing(b: &dyn Backend) {
    let pool = Object::new("p", IpPoolSpec::default());
    let e = b.store().update_status(pool.into()).await.unwrap_err();
    assert!(matches!(e, StoreError::NotFound(_)), "{e}");
}

pub(super) async fn the_time_of_creation_cannot_be_changed(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    let mut changed = made.clone();
    changed.metadata_mut().creation_timestamp = Some("2001-01-01T00:00:00Z".into());
    let now = store.update(changed).await.unwrap();
    assert_eq!(
        now.metadata().creation_timestamp,
        made.metadata().creation_timestamp
    );
}

pub(super) async fn labels_that_are_left_out_are_gone(b: &dyn Backend) {
    let store = b.store();
    let mut r = set("n", "a", &[]);
    r.metadata_mut().labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".into(), "2".into())]);
    let mut made = store.create(r).await.unwrap();
    made.metadata_mut().labels.remove("a");
    store.update(made.clone()).await.unwrap();
    let now = store.get(&made.key()).await.unwrap();
    assert_eq!(
        now.metadata().labels,
        BTreeMap::from([("b".to_owned(), "2".to_owned())])
    );
}

pub(super) async fn words_of_every_script_are_kept(b: &dyn Backend) {
    let store = b.store();
    let mut r = set("n", "a", &[]);
    let text = "Zürich – 東京 \"quoted\" \\ \u{1f980}\n\ttab";
    r.metadata_mut()
        .annotations
        .insert("note".to_owned(), text.to_owned());
    let made = store.create(r).await.unwrap();
    let now = store.get(&made.key()).await.unwrap();
    assert_eq!(now.metadata().annotations["note"], text);
}

pub(super) async fn the_longest_names_are_kept(b: &dyn Backend) {
    let store = b.store();
    let name = "x".repeat(253);
    store.create(set("n", &name, &[])).await.unwrap();
    assert_eq!(
        names(&*store, &ListOptions::default()).await,
        [format!("n/{name}")]
    );
}

pub(super) async fn lists_are_sorted(b: &dyn Backend) {
    let store = b.store();
    let given = [("b", "a"), ("a", "z"), ("a", "b"), ("c", "m"), ("a", "a")];
    for (ns, name) in given {
        store.create(set(ns, name, &[])).await.unwrap();
    }
    assert_eq!(
        names(&*store, &ListOptions::default()).await,
        ["a/a", "a/b", "a/z", "b/a", "c/m"]
    );
}

pub(super) async fn a_namespace_is_not_one_that_begins_like_it(b: &dyn Backend) {
    let store = b.store();
    for ns in ["app", "app1", "app-1"] {
        store.create(set(ns, "a", &[])).await.unwrap();
    }
    let of = ListOptions {
        namespace: Some("app".into()),
        ..ListOptions::default()
    };
    assert_eq!(names(&*store, &of).await, ["app/a"]);
}

pub(super) async fn kinds_with_like_names_are_apart(b: &dyn Backend) {
    let store = b.store();
    store.create(set("n", "a", &[])).await.unwrap();
    store.create(global("a")).await.unwrap();
    for (kind, n) in [
        (Kind::NetworkSet, 1),
        (Kind::GlobalNetworkSet, 1),
        (Kind::Tier, 0),
    ] {
        let page = store.list_all(kind, &ListOptions::default()).await.unwrap();
        assert_eq!(page.items.len(), n, "{kind}");
    }
}

pub(super) async fn a_place_to_continue_that_makes_no_sense_is_an_error(b: &dyn Backend) {
    let store = b.store();
    store.create(set("n", "a", &[])).await.unwrap();
    for token in ["nonsense", "-1", "99999999999999999999", "\u{0}"] {
        let options = ListOptions {
            continue_from: Some(token.into()),
            ..ListOptions::default()
        };
        assert!(store.list(Kind::NetworkSet, &options).await.is_err(), "{token:?}");
    }
}

pub(super) async fn a_place_to_watch_from_that_makes_no_sense_expires(b: &dyn Backend) {
    let store = b.store();
    for place in ["nonsense", "-7", "99999999999999999999"] {
        let refused = match store.watch(Kind::NetworkSet, &WatchFrom(place.into())).await {
            Err(e) => e,
            Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
        };
        assert!(matches!(refused, StoreError::Expired(_)), "{place:?}: {refused}");
    }
}

pub(super) async fn a_watch_of_a_younger_store_expires(b: &dyn Backend) {
    let store = b.store();
    // A place that a store before this one gave out.
    let (_, now) = start(&*store, Kind::NetworkSet).await;
    // Places are opaque to users; all end with a number.
    let digits = now.0.len() - now.0.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (form, number) = now.0.split_at(now.0.len() - digits);
    let ahead = WatchFrom(format!("{form}{}", number.parse::<i64>().unwrap() + 1_000_000));
    let refused = match store.watch(Kind::NetworkSet, &ahead).await {
        Err(e) => e,
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
    };
    assert!(matches!(refused, StoreError::Expired(_)), "{refused}");
}

pub(super) async fn a_watch_sees_the_life_of_an_object_in_order(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    for _ in 0..3 {
        let made = store.create(set("n", "a", &[])).await.unwrap();
        let now = store.update(with_nets(made, &["10.0.0.0/8"])).await.unwrap();
        store.delete(&now.key(), &Preconditions::default()).await.unwrap();
    }
    for _ in 0..3 {
        assert!(nets(&*next_set(&mut watch).await).is_empty());
        assert_eq!(nets(&*next_set(&mut watch).await), ["10.0.0.0/8"]);
        let gone = next(&mut watch).await;
        assert!(
            matches!(&gone, WatchEvent::Gone(k) if *k == set_key("n", "a")),
            "{gone:?}"
        );
    }
}

pub(super) async fn a_watcher_that_does_not_read_stops_nobody(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut lazy = store.watch(Kind::NetworkSet, &from).await.unwrap();
    let padding = "x".repeat(60_000);
    for i in 0..100 {
        let mut r = set("n", &format!("s{i:03}"), &[]);
        r.metadata_mut()
            .annotations
            .insert("padding".to_owned(), padding.clone());
        store.create(r).await.unwrap();
    }
    for i in 0..100 {
        assert_eq!(next_set(&mut lazy).await.metadata().name, format!("s{i:03}"));
    }
}

pub(super) async fn watches_of_several_kinds_do_not_mix(b: &dyn Backend) {
    let store = b.store();
    let (_, from_sets) = start(&*store, Kind::NetworkSet).await;
    let (_, from_globals) = start(&*store, Kind::GlobalNetworkSet).await;
    let mut sets = store.watch(Kind::NetworkSet, &from_sets).await.unwrap();
    let mut globals = store.watch(Kind::GlobalNetworkSet, &from_globals).await.unwrap();
    for i in 0..20 {
        store.create(set("n", &format!("{i:02}"), &[])).await.unwrap();
        store.create(global(&format!("g{i:02}"))).await.unwrap();
    }
    for i in 0..20 {
        assert_eq!(next_set(&mut sets).await.metadata().name, format!("{i:02}"));
        assert_eq!(next_set(&mut globals).await.metadata().name, format!("g{i:02}"));
    }
}

pub(super) async fn an_unreadable_object_is_an_event_of_its_own(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    store.create(set("n", "a", &[])).await.unwrap();
    b.spoil_network_set("n", "b").await;
    store.create(set("n", "c", &[])).await.unwrap();
    assert_eq!(next_set(&mut watch).await.metadata().name, "a");
    let spoilt = next(&mut watch).await;
    assert!(
        matches!(&spoilt, WatchEvent::Malformed(k, _) if *k == set_key("n", "b")),
        "{spoilt:?}"
    );
    assert_eq!(next_set(&mut watch).await.metadata().name, "c");
}

pub(super) async fn writers_of_different_objects_do_not_conflict(b: &dyn Backend) {
    let store = b.store();
    let writes = (0..50).map(|i| {
        let store = b.store();
        async move { store.create(set("n", &format!("{i:02}"), &[])).await }
    });
    let made = futures::future::join_all(writes).await;
    let versions: BTreeSet<_> = made.into_iter().map(|r| version(&r.unwrap())).collect();
    assert_eq!(versions.len(), 50, "each write has a revision of its own");
    assert_eq!(names(&*store, &ListOptions::default()).await.len(), 50);
}

pub(super) async fn of_many_who_delete_one_succeeds(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    let deletes = (0..10).map(|_| {
        let (store, key) = (b.store(), made.key());
        async move { store.delete(&key, &Preconditions::default()).await.is_ok() }
    });
    let done = futures::future::join_all(deletes).await;
    assert_eq!(done.iter().filter(|ok| **ok).count(), 1);
}

pub(super) async fn an_update_and_a_delete_of_one_revision_have_one_winner(b: &dyn Backend) {
    let store = b.store();
    for _ in 0..20 {
        let made = store.create(set("n", "a", &[])).await.unwrap();
        let expect = Preconditions::of(&made);
        let key = made.key();
        let (updated, deleted) = tokio::join!(
            store.update(with_nets(made, &["10.0.0.0/8"])),
            store.delete(&key, &expect)
        );
        assert_ne!(updated.is_ok(), deleted.is_ok());
        let _ = store.delete(&key, &Preconditions::default()).await;
    }
}

pub(super) async fn a_claim_is_granted_once(b: &dyn Backend) {
    let claims = (0..8).map(|i| {
        let store = b.store();
        let spec = IpamBlockSpec {
            cidr: "10.0.0.0/26".into(),
            affinity: Some(format!("host:node-{i}")),
            ..IpamBlockSpec::default()
        };
        async move { store.create(Object::new("10-0-0-0-26", spec).into()).await }
    });
    let outcomes = futures::future::join_all(claims).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, StoreError::AlreadyExists(_)), "{refused}");
    }
}

pub(super) async fn a_delete_by_uid_leaves_a_namesake(b: &dyn Backend) {
    let store = b.store();
    let first = store.create(set("n", "a", &[])).await.unwrap();
    store
        .delete(&first.key(), &Preconditions::default())
        .await
        .unwrap();
    store.create(set("n", "a", &[])).await.unwrap();
    let old = Preconditions {
        uid: first.metadata().uid.clone(),
        resource_version: None,
    };
    let e = store.delete(&first.key(), &old).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
    assert_eq!(names(&*store, &ListOptions::default()).await, ["n/a"]);
}

pub(super) async fn names_of_policies_keep_their_tier(b: &dyn Backend) {
    let store = b.store();
    for name in ["platform.metrics", "knp.default.deny", "plain"] {
        let policy = Object::namespaced("n", name, NetworkPolicySpec::default());
        let made = store.create(policy.into()).await.unwrap();
        assert_eq!(made.metadata().name, name);
        assert_eq!(store.get(&made.key()).await.unwrap().metadata().name, name);
    }
    let page = store
        .list_all(Kind::NetworkPolicy, &ListOptions::default())
        .await
        .unwrap();
    assert_eq!(page.items.len(), 3);
}

pub(super) async fn a_long_list_is_whole(b: &dyn Backend) {
    let store = b.store();
    let writes = (0..2_100).map(|i| {
        let store = b.store();
        async move { store.create(set("n", &format!("{i:04}"), &[])).await.map(drop) }
    });
    let done: Vec<_> = futures::stream::iter(writes).buffer_unordered(64).collect().await;
    assert!(done.into_iter().all(|r| r.is_ok()));
    let all = names(&*store, &ListOptions::default()).await;
    assert_eq!(all.len(), 2_100);
    assert_eq!((all[0].as_str(), all[2_099].as_str()), ("n/0000", "n/2099"));
}

pub(super) async fn pages_go_on_while_objects_come_and_go(b: &dyn Backend) {
    let store = b.store();
    for i in 0..20 {
        store.create(set("n", &format!("{i:02}"), &[])).await.unwrap();
    }
    let mut options = ListOptions {
        limit: 7,
        ..ListOptions::default()
    };
    let mut seen = Vec::new();
    let mut place;
    loop {
        let page = store.list(Kind::NetworkSet, &options).await.unwrap();
        seen.extend(page.items.iter().map(|r| r.metadata().name.clone()));
        place = page.watch_from;
        let Some(next) = page.next else { break };
        options.continue_from = Some(next);
        let last = seen.last().unwrap().clone();
        store
            .delete(&set_key("n", &last), &Preconditions::default())
            .await
            .unwrap();
        store.create(set("n", &format!("{last}-new"), &[])).await.unwrap();
    }
    assert_eq!(
        seen,
        (0..20).map(|i| format!("{i:02}")).collect::<Vec<_>>(),
        "the list is of its first moment"
    );
    // What changed meanwhile comes with the watch.
    let mut watch = store.watch(Kind::NetworkSet, &place).await.unwrap();
    let gone = next(&mut watch).await;
    assert!(
        matches!(&gone, WatchEvent::Gone(k) if *k == set_key("n", "06")),
        "{gone:?}"
    );
    assert_eq!(next_set(&mut watch).await.metadata().name, "06-new");
}

pub(super) async fn what_a_write_answers_is_what_is_stored(b: &dyn Backend) {
    let store = b.store();
    let made = store
        .create(set("n", "a", &["10.0.0.0/8", "::/0"]))
        .await
        .unwrap();
    let listed = store
        .list_all(Kind::NetworkSet, &ListOptions::default())
        .await
        .unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&made));
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    let now = store.update(with_nets(made, &["11.0.0.0/8"])).await.unwrap();
    assert_eq!(*next_set(&mut watch).await, now);
}
