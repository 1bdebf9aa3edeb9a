//! What every datastore must do, one behaviour a function.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use caracal_api::{
    Condition, IpPoolSpec, IpPoolStatus, Kind, NetworkSetSpec, Object, Resource, ResourceKey, TierSpec,
};
use caracal_store::{
    ListOptions, Preconditions, Store, StoreError, WatchEvent, WatchFrom, WatchStream, unreadable,
};
use futures::StreamExt;

use crate::backend::Backend;

mod more;
mod parts;
mod table;
mod together;

type Check<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Behaviour = (&'static str, for<'a> fn(&'a dyn Backend) -> Check<'a>);

macro_rules! behaviours {
    ($($name:path),* $(,)?) => {
        const ALL: &[Behaviour] = &[$((stringify!($name), |b| Box::pin($name(b)))),*];
    };
}

behaviours![
    create_makes_identity_and_get_reads_it,
    create_twice_is_refused,
    create_keeps_a_given_uid,
    missing_objects_are_named,
    update_keeps_identity_and_moves_the_revision,
    update_of_a_stale_revision_conflicts,
    update_of_another_uid_conflicts,
    update_of_a_foreign_revision_conflicts,
    update_without_a_revision_wins,
    status_is_apart_from_the_spec,
    status_of_a_kind_without_one_is_unsupported,
    delete_gives_back_what_was_there,
    delete_checks_its_preconditions,
    an_object_made_again_is_another,
    list_filters_by_namespace_and_prefix,
    list_of_nothing_is_empty_and_can_be_watched,
    pages_are_of_one_moment,
    pages_of_every_size_give_the_same,
    watch_continues_a_list,
    watch_sees_only_its_kind,
    watch_continues_at_a_bookmark,
    a_list_and_its_watch_have_no_gap,
    every_watcher_sees_every_event_in_order,
    a_watch_from_long_ago_is_told_all,
    compaction_expires_watches_and_pages,
    two_writers_lose_no_update,
    two_creators_have_one_winner,
    special_names_are_kept,
    names_that_cannot_be_stored_are_refused,
    large_values_are_kept,
    too_large_values_are_refused,
    unreadable_values_stand_alone,
    unreadable_values_can_be_repaired_and_deleted,
    every_kind_is_stored,
    labels_owners_and_finalizers_are_kept,
    derived_kinds_are_read_only_or_stored,
    more::deleting_twice_is_not_found,
    more::an_object_made_again_has_another_revision,
    more::an_update_does_not_make_what_is_gone,
    more::a_status_is_not_written_to_what_is_missing,
    more::the_time_of_creation_cannot_be_changed,
    more::labels_that_are_left_out_are_gone,
    more::words_of_every_script_are_kept,
    more::the_longest_names_are_kept,
    more::lists_are_sorted,
    more::a_namespace_is_not_one_that_begins_like_it,
    more::kinds_with_like_names_are_apart,
    more::a_place_to_continue_that_makes_no_sense_is_an_error,
    more::a_place_to_watch_from_that_makes_no_sense_expires,
    more::a_watch_of_a_younger_store_expires,
    more::a_watch_sees_the_life_of_an_object_in_order,
    more::a_watcher_that_does_not_read_stops_nobody,
    more::watches_of_several_kinds_do_not_mix,
    more::an_unreadable_object_is_an_event_of_its_own,
    more::writers_of_different_objects_do_not_conflict,
    more::of_many_who_delete_one_succeeds,
    more::an_update_and_a_delete_of_one_revision_have_one_winner,
    more::a_claim_is_granted_once,
    more::a_delete_by_uid_leaves_a_namesake,
    more::names_of_policies_keep_their_tier,
    more::a_long_list_is_whole,
    more::pages_go_on_while_objects_come_and_go,
    more::what_a_write_answers_is_what_is_stored,
    parts::lists_filter_by_labels,
    parts::pages_of_a_list_by_labels_give_the_same,
    parts::a_watch_by_labels_follows_them,
    parts::a_watch_of_a_part_sees_that_part,
    parts::the_life_of_labels_is_seen_by_every_part,
    parts::a_restart_loses_nothing,
    parts::a_watch_goes_on_across_a_restart,
    parts::a_restart_and_a_compaction_expire_what_is_too_old,
    parts::a_value_at_the_limit_is_kept,
    parts::a_value_over_the_limit_changes_nothing,
    parts::clocks_that_jump_change_no_order,
    parts::every_error_is_its_own_and_names_the_object,
    parts::reports_are_written_listed_and_retracted,
    parts::reports_go_with_their_lease,
    together::a_store_without_transactions_says_so_at_once,
    together::of_several_writes_all_are_done_or_none,
    together::what_is_written_together_is_one_change,
    together::what_is_read_together_is_of_one_moment,
    together::more_than_a_transaction_takes_is_refused_whole,
    together::nothing_to_write_together_is_done,
    together::one_object_twice_in_a_transaction_is_refused,
    together::writes_together_keep_what_single_writes_keep,
    together::of_many_transactions_on_one_object_one_succeeds,
    together::a_transaction_that_a_restart_cuts_off_is_no_refusal,
];

/// Runs every behaviour on a clean store; names all that fail.
pub(crate) async fn run(backend: Arc<dyn Backend>) {
    let mut failed = Vec::new();
    for (name, check) in ALL {
        if table::exempt(name, backend.column()).is_some() {
            continue;
        }
        backend.wipe().await;
        let on = backend.clone();
        let outcome = tokio::spawn(async move { tokio::time::timeout(LIMIT, check(&*on)).await });
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => failed.push(format!("{name}: not done within {LIMIT:?}")),
            Err(e) => failed.push(format!("{name}: {e}")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        ALL.len()
    );
}

const LIMIT: Duration = Duration::from_secs(60);

fn set(ns: &str, name: &str, nets: &[&str]) -> Resource {
    let spec = NetworkSetSpec {
        nets: nets.iter().map(|n| (*n).to_owned()).collect(),
    };
    Object::namespaced(ns, name, spec).into()
}

fn set_key(ns: &str, name: &str) -> ResourceKey {
    ResourceKey::namespaced(Kind::NetworkSet, ns, name)
}

fn nets(resource: &Resource) -> &[String] {
    match resource {
        Resource::NetworkSet(o) => &o.spec.nets,
        other => panic!("no network set: {other:?}"),
    }
}

fn with_nets(mut resource: Resource, new: &[&str]) -> Resource {
    if let Resource::NetworkSet(o) = &mut resource {
        o.spec.nets = new.iter().map(|n| (*n).to_owned()).collect();
    }
    resource
}

fn any_revision(mut resource: Resource) -> Resource {
    resource.metadata_mut().resource_version = None;
    resource
}

fn version(resource: &Resource) -> Option<String> {
    resource.metadata().resource_version.clone()
}

async fn names(store: &dyn Store, options: &ListOptions) -> Vec<String> {
    let page = store.list_all(Kind::NetworkSet, options).await.unwrap();
    page.items
        .iter()
        .map(|r| format!("{}/{}", r.key().namespace, r.key().name))
        .collect()
}

async fn start(store: &dyn Store, kind: Kind) -> (Vec<Resource>, WatchFrom) {
    let page = store.list_all(kind, &ListOptions::default()).await.unwrap();
    (page.items, page.watch_from)
}

/// The next event that is no bookmark.
async fn next(watch: &mut WatchStream) -> WatchEvent {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        match event.expect("an event in time").expect("an open watch").unwrap() {
            WatchEvent::Bookmark(_) => {}
            event => return event,
        }
    }
}

async fn next_set(watch: &mut WatchStream) -> Arc<Resource> {
    match next(watch).await {
        WatchEvent::Set(r) => r,
        other => panic!("not a set: {other:?}"),
    }
}

async fn create_makes_identity_and_get_reads_it(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &["10.0.0.0/8"])).await.unwrap();
    let meta = made.metadata();
    assert!(meta.uid.as_ref().is_some_and(|u| !u.is_empty()));
    assert!(meta.creation_timestamp.is_some() && meta.resource_version.is_some());
    assert_eq!(store.get(&set_key("n", "a")).await.unwrap(), made);
}

async fn create_twice_is_refused(b: &dyn Backend) {
    let store = b.store();
    store.create(set("n", "a", &["10.0.0.0/8"])).await.unwrap();
    let e = store.create(set("n", "a", &[])).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::AlreadyExists(k) if *k == set_key("n", "a")),
        "{e}"
    );
    assert_eq!(
        nets(&store.get(&set_key("n", "a")).await.unwrap()),
        ["10.0.0.0/8"]
    );
}

async fn create_keeps_a_given_uid(b: &dyn Backend) {
    let mut r = set("n", "a", &[]);
    r.metadata_mut().uid = Some("11111111-2222-4333-8444-555555555555".into());
    r.metadata_mut().resource_version = Some("999".into());
    let made = b.store().create(r.clone()).await.unwrap();
    assert_eq!(made.metadata().uid, r.metadata().uid);
    assert_ne!(version(&made), version(&r));
}

async fn missing_objects_are_named(b: &dyn Backend) {
    let store = b.store();
    let key = set_key("n", "absent");
    let errors = [
        store.get(&key).await.unwrap_err(),
        store.update(set("n", "absent", &[])).await.unwrap_err(),
        store.delete(&key, &Preconditions::default()).await.unwrap_err(),
    ];
    for e in errors {
        assert!(matches!(&e, StoreError::NotFound(k) if *k == key), "{e}");
        assert!(e.to_string().contains("NetworkSet(n/absent)"), "{e}");
    }
}

async fn update_keeps_identity_and_moves_the_revision(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    let now = store
        .update(with_nets(made.clone(), &["10.0.0.0/8"]))
        .await
        .unwrap();
    assert_eq!(nets(&now), ["10.0.0.0/8"]);
    assert_ne!(version(&now), version(&made));
    assert_eq!(now.metadata().uid, made.metadata().uid);
    assert_eq!(
        now.metadata().creation_timestamp,
        made.metadata().creation_timestamp
    );
    assert_eq!(store.get(&made.key()).await.unwrap(), now);
    let again = store.update(with_nets(now.clone(), &[])).await.unwrap();
    assert_eq!(nets(&again), [""; 0]);
}

async fn update_of_a_stale_revision_conflicts(b: &dyn Backend) {
    let store = b.store();
    let old = store.create(set("n", "a", &[])).await.unwrap();
    store
        .update(with_nets(old.clone(), &["10.0.0.0/8"]))
        .await
        .unwrap();
    let e = store.update(with_nets(old, &["11.0.0.0/8"])).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Conflict { key, .. } if *key == set_key("n", "a")),
        "{e}"
    );
    assert_eq!(
        nets(&store.get(&set_key("n", "a")).await.unwrap()),
        ["10.0.0.0/8"]
    );
}

async fn update_of_another_uid_conflicts(b: &dyn Backend) {
    let store = b.store();
    store.create(set("n", "a", &[])).await.unwrap();
    let mut other = set("n", "a", &["10.0.0.0/8"]);
    other.metadata_mut().uid = Some("00000000-0000-4000-8000-000000000000".into());
    let e = store.update(other).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
}

async fn update_of_a_foreign_revision_conflicts(b: &dyn Backend) {
    let store = b.store();
    let mut r = store.create(set("n", "a", &[])).await.unwrap();
    r.metadata_mut().resource_version = Some("of-another-store".into());
    let e = store.update(r).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
}

async fn update_without_a_revision_wins(b: &dyn Backend) {
    let store = b.store();
    let old = store.create(set("n", "a", &[])).await.unwrap();
    store.update(with_nets(old, &["10.0.0.0/8"])).await.unwrap();
    let now = store.update(set("n", "a", &["11.0.0.0/8"])).await.unwrap();
    assert_eq!(nets(&now), ["11.0.0.0/8"]);
}

async fn status_is_apart_from_the_spec(b: &dyn Backend) {
    let store = b.store();
    let spec = IpPoolSpec {
        cidr: "10.0.0.0/16".into(),
        ..IpPoolSpec::default()
    };
    let made = store.create(Object::new("p", spec).into()).await.unwrap();
    let mut with_status: Object<IpPoolSpec> = made.clone().try_into().unwrap();
    with_status.spec.disabled = true;
    with_status.status = Some(IpPoolStatus {
        conditions: vec![Condition {
            condition_type: "Allocatable".into(),
            status: "True".into(),
            ..Condition::default()
        }],
    });
    let status = with_status.status.clone();
    let now: Object<IpPoolSpec> = store
        .update_status(with_status.into())
        .await
        .unwrap()
        .try_into()
        .unwrap();
    assert!(!now.spec.disabled, "the status alone is written");
    assert_eq!(now.status, status);
    let mut spec_only = now.clone();
    spec_only.spec.disabled = true;
    spec_only.status = None;
    let now: Object<IpPoolSpec> = store.update(spec_only.into()).await.unwrap().try_into().unwrap();
    assert!(now.spec.disabled);
    assert_eq!(now.status, status, "the spec alone is written");
    let stale = store.update_status(made).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { .. }), "{stale}");
}

async fn status_of_a_kind_without_one_is_unsupported(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    let e = store.update_status(made).await.unwrap_err();
    assert!(matches!(e, StoreError::Unsupported { .. }), "{e}");
}

async fn delete_gives_back_what_was_there(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &["10.0.0.0/8"])).await.unwrap();
    let gone = store
        .delete(&made.key(), &Preconditions::default())
        .await
        .unwrap();
    assert_eq!(nets(&gone), ["10.0.0.0/8"]);
    assert_eq!(gone.metadata().uid, made.metadata().uid);
    let e = store.get(&made.key()).await.unwrap_err();
    assert!(matches!(e, StoreError::NotFound(_)), "{e}");
}

async fn delete_checks_its_preconditions(b: &dyn Backend) {
    let store = b.store();
    let old = store.create(set("n", "a", &[])).await.unwrap();
    let now = store
        .update(with_nets(old.clone(), &["10.0.0.0/8"]))
        .await
        .unwrap();
    let of = |r: &Resource, uid: bool| Preconditions {
        resource_version: version(r),
        uid: r.metadata().uid.clone().filter(|_| uid),
    };
    for stale in [of(&old, true), of(&old, false)] {
        let e = store.delete(&old.key(), &stale).await.unwrap_err();
        assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
    }
    let other = Preconditions {
        uid: Some("00000000-0000-4000-8000-000000000000".into()),
        resource_version: None,
    };
    let e = store.delete(&old.key(), &other).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
    store.delete(&old.key(), &of(&now, false)).await.unwrap();
    let e = store.delete(&old.key(), &of(&now, false)).await.unwrap_err();
    assert!(matches!(e, StoreError::NotFound(_)), "{e}");
}

async fn an_object_made_again_is_another(b: &dyn Backend) {
    let store = b.store();
    let first = store.create(set("n", "a", &[])).await.unwrap();
    store
        .delete(&first.key(), &Preconditions::default())
        .await
        .unwrap();
    let second = store.create(set("n", "a", &[])).await.unwrap();
    assert_ne!(second.metadata().uid, first.metadata().uid);
    let e = store
        .delete(&first.key(), &Preconditions::of(&any_revision(first.clone())))
        .await
        .unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
    assert!(store.update(first).await.is_err());
}

async fn list_filters_by_namespace_and_prefix(b: &dyn Backend) {
    let store = b.store();
    for (ns, name) in [("a", "x1"), ("a", "x2"), ("a", "y"), ("a-b", "x1"), ("b", "x1")] {
        store.create(set(ns, name, &[])).await.unwrap();
    }
    let of = |namespace: Option<&str>, prefix: Option<&str>| ListOptions {
        namespace: namespace.map(str::to_owned),
        name_prefix: prefix.map(str::to_owned),
        ..ListOptions::default()
    };
    assert_eq!(
        names(&*store, &of(Some("a"), None)).await,
        ["a/x1", "a/x2", "a/y"]
    );
    assert_eq!(names(&*store, &of(Some("a"), Some("x"))).await, ["a/x1", "a/x2"]);
    assert_eq!(names(&*store, &of(Some("none"), None)).await, [""; 0]);
    let mut all = names(&*store, &of(None, Some("x1"))).await;
    all.sort();
    assert_eq!(all, ["a-b/x1", "a/x1", "b/x1"]);
}

async fn list_of_nothing_is_empty_and_can_be_watched(b: &dyn Backend) {
    let store = b.store();
    let (items, from) = start(&*store, Kind::NetworkSet).await;
    assert!(items.is_empty());
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    store.create(set("n", "a", &[])).await.unwrap();
    assert_eq!(next_set(&mut watch).await.key(), set_key("n", "a"));
}

async fn pages_are_of_one_moment(b: &dyn Backend) {
    let store = b.store();
    for i in 0..10 {
        store.create(set("n", &format!("s{i}"), &[])).await.unwrap();
    }
    let mut options = ListOptions {
        limit: 4,
        ..ListOptions::default()
    };
    let first = store.list(Kind::NetworkSet, &options).await.unwrap();
    assert_eq!(first.items.len(), 4);
    store
        .delete(&set_key("n", "s9"), &Preconditions::default())
        .await
        .unwrap();
    store.update(set("n", "s8", &["10.0.0.0/8"])).await.unwrap();
    store.create(set("n", "s99", &[])).await.unwrap();
    let mut all: Vec<_> = first.items.iter().map(|r| r.key().name).collect();
    let mut token = first.next;
    while let Some(next) = token {
        options.continue_from = Some(next);
        let page = store.list(Kind::NetworkSet, &options).await.unwrap();
        assert!(page.items.len() <= 4);
        assert_eq!(page.watch_from, first.watch_from);
        assert!(page.items.iter().all(|r| nets(r).is_empty()));
        all.extend(page.items.iter().map(|r| r.key().name));
        token = page.next;
    }
    let want: Vec<_> = (0..10).map(|i| format!("s{i}")).collect();
    assert_eq!(all.iter().map(|n| n.to_string()).collect::<Vec<_>>(), want);
    let mut watch = store.watch(Kind::NetworkSet, &first.watch_from).await.unwrap();
    assert!(matches!(next(&mut watch).await, WatchEvent::Gone(k) if &*k.name == "s9"));
}

async fn pages_of_every_size_give_the_same(b: &dyn Backend) {
    let store = b.store();
    for i in 0..7 {
        store.create(set("n", &format!("s{i}"), &[])).await.unwrap();
    }
    let whole = names(&*store, &ListOptions::default()).await;
    assert_eq!(whole.len(), 7);
    for limit in 1..=8 {
        let options = ListOptions {
            limit,
            ..ListOptions::default()
        };
        assert_eq!(names(&*store, &options).await, whole, "limit {limit}");
    }
}

async fn watch_continues_a_list(b: &dyn Backend) {
    let store = b.store();
    let before = store.create(set("n", "a", &[])).await.unwrap();
    let (items, from) = start(&*store, Kind::NetworkSet).await;
    assert_eq!(items, std::slice::from_ref(&before));
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    let changed = store.update(with_nets(before, &["10.0.0.0/8"])).await.unwrap();
    let made = store.create(set("n", "b", &[])).await.unwrap();
    store
        .delete(&changed.key(), &Preconditions::default())
        .await
        .unwrap();
    assert_eq!(*next_set(&mut watch).await, changed);
    assert_eq!(*next_set(&mut watch).await, made);
    let last = next(&mut watch).await;
    assert!(
        matches!(&last, WatchEvent::Gone(k) if *k == changed.key()),
        "{last:?}"
    );
}

async fn watch_sees_only_its_kind(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    store
        .create(Object::new("g", caracal_api::GlobalNetworkSetSpec::default()).into())
        .await
        .unwrap();
    store
        .create(Object::new("t", TierSpec::default()).into())
        .await
        .unwrap();
    store.create(set("n", "mine", &[])).await.unwrap();
    assert_eq!(next_set(&mut watch).await.key(), set_key("n", "mine"));
}

async fn watch_continues_at_a_bookmark(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    store.create(set("n", "a", &[])).await.unwrap();
    let mut seen = 0;
    let place = loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Bookmark(place) if seen > 0 => break place,
            WatchEvent::Bookmark(_) => {}
            _ => seen += 1,
        }
    };
    drop(watch);
    store.create(set("n", "b", &[])).await.unwrap();
    let mut watch = store.watch(Kind::NetworkSet, &place).await.unwrap();
    assert_eq!(next_set(&mut watch).await.key(), set_key("n", "b"));
}

async fn a_list_and_its_watch_have_no_gap(b: &dyn Backend) {
    let store = b.store();
    let writer = tokio::spawn({
        let store = b.store();
        async move {
            for i in 0..120 {
                let name = format!("s{}", i * 7 % 20);
                match store.create(set("n", &name, &[])).await {
                    Ok(_) => {}
                    Err(StoreError::AlreadyExists(key)) => {
                        store.delete(&key, &Preconditions::default()).await.unwrap();
                    }
                    Err(e) => panic!("{e}"),
                }
                tokio::task::yield_now().await;
            }
        }
    });
    while start(&*store, Kind::NetworkSet).await.0.len() < 5 {
        tokio::task::yield_now().await;
    }
    let mut state: BTreeMap<ResourceKey, Option<String>> = BTreeMap::new();
    let (items, from) = start(&*store, Kind::NetworkSet).await;
    state.extend(items.iter().map(|r| (r.key(), version(r))));
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    writer.await.unwrap();
    store.create(set("n", "last", &[])).await.unwrap();
    loop {
        match next(&mut watch).await {
            WatchEvent::Set(r) => {
                state.insert(r.key(), version(&r));
                if r.key() == set_key("n", "last") {
                    break;
                }
            }
            WatchEvent::Gone(key) => {
                state.remove(&key);
            }
            other => panic!("{other:?}"),
        }
    }
    let (items, _) = start(&*store, Kind::NetworkSet).await;
    let want: BTreeMap<_, _> = items.iter().map(|r| (r.key(), version(r))).collect();
    assert_eq!(state, want);
}

async fn every_watcher_sees_every_event_in_order(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(store.watch(Kind::NetworkSet, &from).await.unwrap());
    }
    let mut versions = vec![store.create(set("n", "a", &[])).await.unwrap()];
    for i in 0..30 {
        let net = format!("10.0.{i}.0/24");
        let now = store.update(any_revision(set("n", "a", &[&net]))).await.unwrap();
        versions.push(now);
    }
    for watch in &mut watches {
        for want in &versions {
            assert_eq!(version(&*next_set(watch).await), version(want));
        }
    }
}

async fn a_watch_from_long_ago_is_told_all(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    for i in 0..50 {
        store.create(set("n", &format!("s{i}"), &[])).await.unwrap();
    }
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    for i in 0..50 {
        assert_eq!(next_set(&mut watch).await.key(), set_key("n", &format!("s{i}")));
    }
}

async fn compaction_expires_watches_and_pages(b: &dyn Backend) {
    let store = b.store();
    for i in 0..4 {
        store.create(set("n", &format!("s{i}"), &[])).await.unwrap();
    }
    let options = ListOptions {
        limit: 2,
        ..ListOptions::default()
    };
    let page = store.list(Kind::NetworkSet, &options).await.unwrap();
    for i in 0..3 {
        store
            .update(set("n", "s1", &[&format!("10.{i}.0.0/16")]))
            .await
            .unwrap();
    }
    b.compact().await;
    let opened = store.watch(Kind::NetworkSet, &page.watch_from).await;
    let e = match opened {
        Err(e) => e,
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
    };
    assert!(matches!(e, StoreError::Expired(Kind::NetworkSet)), "{e}");
    let rest = ListOptions {
        continue_from: page.next,
        ..options
    };
    let e = store.list(Kind::NetworkSet, &rest).await.unwrap_err();
    assert!(matches!(e, StoreError::Expired(Kind::NetworkSet)), "{e}");
    let (items, from) = start(&*store, Kind::NetworkSet).await;
    assert_eq!(items.len(), 4);
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    store.create(set("n", "after", &[])).await.unwrap();
    assert_eq!(next_set(&mut watch).await.key(), set_key("n", "after"));
}

async fn two_writers_lose_no_update(b: &dyn Backend) {
    let store = b.store();
    store.create(set("n", "counter", &[])).await.unwrap();
    let writers: Vec<_> = (0..2)
        .map(|w| {
            let store = b.store();
            tokio::spawn(async move {
                for i in 0..15 {
                    loop {
                        let mut r = store.get(&set_key("n", "counter")).await.unwrap();
                        if let Resource::NetworkSet(o) = &mut r {
                            o.spec.nets.push(format!("10.{w}.{i}.0/24"));
                        }
                        match store.update(r).await {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            })
        })
        .collect();
    for w in writers {
        w.await.unwrap();
    }
    let r = store.get(&set_key("n", "counter")).await.unwrap();
    let mut all = nets(&r).to_vec();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), nets(&r).len()), (30, 30));
}

async fn two_creators_have_one_winner(b: &dyn Backend) {
    let tries: Vec<_> = (0..8)
        .map(|i| {
            let store = b.store();
            tokio::spawn(async move { store.create(set("n", "a", &[&format!("10.{i}.0.0/16")])).await })
        })
        .collect();
    let mut won = Vec::new();
    for t in tries {
        match t.await.unwrap() {
            Ok(r) => won.push(r),
            Err(StoreError::AlreadyExists(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(b.store().get(&set_key("n", "a")).await.unwrap(), won[0]);
}

async fn special_names_are_kept(b: &dyn Backend) {
    let store = b.store();
    let long = "x".repeat(253);
    let all = [
        "a.b.c", "a-b", "a_b", "A", "a:b", "a%2Fb", "ü", "..", "a\\b", "a\"b", &long,
    ];
    for name in all {
        store.create(set("n.s", name, &[])).await.unwrap();
        let got = store.get(&set_key("n.s", name)).await.unwrap();
        assert_eq!(got.metadata().name, name);
    }
    assert_eq!(names(&*store, &ListOptions::default()).await.len(), all.len());
    for name in all {
        store
            .delete(&set_key("n.s", name), &Preconditions::default())
            .await
            .unwrap();
    }
}

async fn names_that_cannot_be_stored_are_refused(b: &dyn Backend) {
    let store = b.store();
    let long = "x".repeat(254);
    for (ns, name) in [
        ("n", ""),
        ("n", "a/b"),
        ("n/m", "a"),
        ("", "a"),
        ("n", "a b"),
        ("n", &*long),
    ] {
        let e = store.create(set(ns, name, &[])).await.unwrap_err();
        assert!(matches!(e, StoreError::Invalid { .. }), "{ns}/{name}: {e}");
        assert!(store.get(&set_key(ns, name)).await.is_err());
    }
    let mut tier = Resource::from(Object::new("t", TierSpec::default()));
    tier.metadata_mut().namespace = Some("n".into());
    let e = store.create(tier).await.unwrap_err();
    assert!(matches!(e, StoreError::Invalid { .. }), "{e}");
}

fn large(objects: usize) -> Resource {
    let nets: Vec<_> = (0..objects)
        .map(|i| format!("10.{}.{}.{}/32", i >> 16 & 255, i >> 8 & 255, i & 255))
        .collect();
    Object::namespaced("n", "large", NetworkSetSpec { nets }).into()
}

async fn large_values_are_kept(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(large(60_000)).await.unwrap();
    assert_eq!(nets(&made).len(), 60_000);
    assert_eq!(store.get(&made.key()).await.unwrap(), made);
    let (items, from) = start(&*store, Kind::NetworkSet).await;
    assert_eq!(items, std::slice::from_ref(&made));
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    let now = store.update(with_nets(made, &["10.0.0.0/8"])).await.unwrap();
    assert_eq!(*next_set(&mut watch).await, now);
}

async fn too_large_values_are_refused(b: &dyn Backend) {
    let store = b.store();
    let e = store.create(large(300_000)).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Invalid { key, .. } if &*key.name == "large"),
        "{e}"
    );
    assert!(store.create(set("n", "small", &[])).await.is_ok());
}

async fn unreadable_values_stand_alone(b: &dyn Backend) {
    let store = b.store();
    store.create(set("n", "a", &[])).await.unwrap();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    b.spoil_network_set("n", "bad").await;
    store.create(set("n", "c", &[])).await.unwrap();
    let e = store.get(&set_key("n", "bad")).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Malformed { key, .. } if *key == set_key("n", "bad")),
        "{e}"
    );
    let page = store
        .list_all(Kind::NetworkSet, &ListOptions::default())
        .await
        .unwrap();
    assert_eq!(page.items.len(), 2);
    assert!(
        matches!(&page.malformed[..], [StoreError::Malformed { key, .. }] if *key == set_key("n", "bad"))
    );
    assert!(matches!(next(&mut watch).await, WatchEvent::Malformed(k, _) if k == set_key("n", "bad")));
    assert_eq!(next_set(&mut watch).await.key(), set_key("n", "c"));
}

async fn unreadable_values_can_be_repaired_and_deleted(b: &dyn Backend) {
    let store = b.store();
    b.spoil_network_set("n", "bad").await;
    let e = store.create(set("n", "bad", &[])).await.unwrap_err();
    assert!(matches!(e, StoreError::AlreadyExists(_)), "{e}");
    let now = store.update(set("n", "bad", &["10.0.0.0/8"])).await.unwrap();
    assert!(now.metadata().uid.is_some());
    assert_eq!(nets(&store.get(&now.key()).await.unwrap()), ["10.0.0.0/8"]);
    b.spoil_network_set("n", "bad").await;
    let gone = store.delete(&now.key(), &Preconditions::default()).await.unwrap();
    assert_eq!(gone.key(), now.key());
    assert!(matches!(
        store.get(&now.key()).await,
        Err(StoreError::NotFound(_))
    ));
}

fn example(kind: Kind) -> Resource {
    let text = match kind {
        Kind::IpamBlock => {
            r#"{"metadata":{"name":"fd00---122"},"spec":{"cidr":"fd00::/122","affinity":"host:n-1","allocations":[0,null],"unallocated":[1],"attributes":[{"handle_id":"h","secondary":{"pod":"p"}}],"sequenceNumber":3}}"#
        }
        Kind::IpamHandle => {
            r#"{"metadata":{"name":"net.x"},"spec":{"handleID":"net.x","block":{"10.0.0.0/26":1}}}"#
        }
        Kind::BlockAffinity => {
            r#"{"metadata":{"name":"n-1-10-0-0-0-26"},"spec":{"state":"confirmed","node":"n-1","type":"host","cidr":"10.0.0.0/26"}}"#
        }
        Kind::IpamConfiguration => {
            r#"{"metadata":{"name":"default"},"spec":{"strictAffinity":true,"autoAllocateBlocks":false,"maxBlocksPerHost":4}}"#
        }
        Kind::FelixConfiguration => {
            r#"{"metadata":{"name":"default"},"spec":{"logSeverityScreen":"Info","routeTableRange":{"min":1,"max":9}}}"#
        }
        Kind::KubernetesService => {
            r#"{"metadata":{"name":"db","namespace":"n"},"spec":{"clusterIP":"10.96.0.1","selector":{"app":"db"},"ports":[{"port":5432,"targetPort":"sql"}]}}"#
        }
        Kind::KubernetesEndpointSlice => {
            r#"{"metadata":{"name":"db-1","namespace":"n","labels":{"kubernetes.io/service-name":"db"}},"spec":{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"name":"sql","port":5432}]}}"#
        }
        Kind::LiveMigration => {
            r#"{"metadata":{"name":"vm","namespace":"n"},"spec":{"Source":{"Workload":{"Hostname":"","OrchestratorID":"k8s","WorkloadID":"n/vm"}},"Target":{"Selector":"all()"}}}"#
        }
        other => {
            let key = ResourceKey::of(other, other.namespaced().then_some("n"), "a");
            return unreadable(&key).unwrap();
        }
    };
    Resource::from_slice(kind, text.as_bytes()).unwrap()
}

async fn every_kind_is_stored(b: &dyn Backend) {
    let store = b.store();
    for kind in Kind::ALL {
        if b.column().derives() && matches!(kind, Kind::WorkloadEndpoint | Kind::Profile) {
            continue;
        }
        let wanted = example(*kind);
        let (_, from) = start(&*store, *kind).await;
        let mut watch = store.watch(*kind, &from).await.unwrap();
        let made = store.create(wanted.clone()).await.unwrap();
        assert_eq!(made.to_value()["spec"], wanted.to_value()["spec"]);
        assert_eq!(store.get(&wanted.key()).await.unwrap(), made);
        assert_eq!(*next_set(&mut watch).await, made);
        let (items, _) = start(&*store, *kind).await;
        assert_eq!(items, std::slice::from_ref(&made));
        let prefix = ListOptions {
            name_prefix: Some(made.metadata().name[..1].to_owned()),
            ..ListOptions::default()
        };
        assert_eq!(store.list_all(*kind, &prefix).await.unwrap().items.len(), 1);
        let updated = store.update(made).await.unwrap();
        let expect = Preconditions::of(&updated);
        store.delete(&updated.key(), &expect).await.unwrap();
        loop {
            if matches!(next(&mut watch).await, WatchEvent::Gone(k) if k == updated.key()) {
                break;
            }
        }
    }
}

async fn labels_owners_and_finalizers_are_kept(b: &dyn Backend) {
    let store = b.store();
    let text = r#"{"metadata":{"name":"a","namespace":"n","labels":{"x":"1"},"annotations":{"y":"2"},"finalizers":["f"],"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":true}]},"spec":{}}"#;
    let r = Resource::from_slice(Kind::NetworkSet, text.as_bytes()).unwrap();
    let made = store.create(r.clone()).await.unwrap();
    let strip = |r: &Resource| {
        let mut m = r.metadata().clone();
        (m.uid, m.resource_version, m.creation_timestamp) = (None, None, None);
        m
    };
    assert_eq!(strip(&made), strip(&r));
    let mut changed = made.clone();
    changed.metadata_mut().labels.clear();
    changed.metadata_mut().finalizers.clear();
    let now = store.update(changed).await.unwrap();
    assert!(now.metadata().labels.is_empty() && now.metadata().finalizers.is_empty());
    assert_eq!(now.metadata().annotations["y"], "2");
}

async fn derived_kinds_are_read_only_or_stored(b: &dyn Backend) {
    let store = b.store();
    for kind in [Kind::WorkloadEndpoint, Kind::Profile] {
        let outcome = store.create(example(kind)).await;
        if b.column().derives() {
            let e = outcome.unwrap_err();
            assert!(matches!(&e, StoreError::Unsupported { .. }), "{e}");
            assert!(e.to_string().contains(kind.as_str()), "{e}");
        } else {
            assert!(outcome.is_ok());
        }
    }
}
