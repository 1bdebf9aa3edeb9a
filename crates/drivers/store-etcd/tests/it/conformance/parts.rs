//! Parts of a kind, restarts, limits, clocks, errors, reports.

use caracal_store::{ReportKey, Subject};
use serde_json::{Value, json};

use super::*;

fn labelled(ns: &str, name: &str, app: &str) -> Resource {
    let mut r = set(ns, name, &[]);
    r.metadata_mut().labels.insert("app".into(), app.into());
    r
}

fn only(labels: &str) -> ListOptions {
    ListOptions {
        labels: Some(labels.parse().unwrap()),
        ..ListOptions::default()
    }
}

pub(super) async fn lists_filter_by_labels(b: &dyn Backend) {
    let store = b.store();
    for (ns, name, app) in [("a", "x", "web"), ("a", "y", "db"), ("b", "x", "web")] {
        store.create(labelled(ns, name, app)).await.unwrap();
    }
    store.create(set("a", "plain", &[])).await.unwrap();
    for (labels, want) in [
        ("app == 'web'", vec!["a/x", "b/x"]),
        ("app in {'db', 'other'}", vec!["a/y"]),
        ("has(app)", vec!["a/x", "a/y", "b/x"]),
        ("!has(app)", vec!["a/plain"]),
        ("app == 'none'", vec![]),
        ("all()", vec!["a/plain", "a/x", "a/y", "b/x"]),
    ] {
        assert_eq!(names(&*store, &only(labels)).await, want, "{labels}");
    }
    let both = ListOptions {
        namespace: Some("a".into()),
        ..only("app == 'web'")
    };
    assert_eq!(names(&*store, &both).await, ["a/x"]);
}

pub(super) async fn pages_of_a_list_by_labels_give_the_same(b: &dyn Backend) {
    let store = b.store();
    for i in 0..9 {
        let app = if i % 3 == 0 { "web" } else { "db" };
        store.create(labelled("n", &format!("s{i}"), app)).await.unwrap();
    }
    for limit in 1..=10 {
        let options = ListOptions {
            limit,
            ..only("app == 'web'")
        };
        assert_eq!(
            names(&*store, &options).await,
            ["n/s0", "n/s3", "n/s6"],
            "limit {limit}"
        );
        let page = store.list(Kind::NetworkSet, &options).await.unwrap();
        assert!(page.items.len() <= limit);
    }
}

/// What one sees who folds the events of a watch.
async fn fold(watch: &mut WatchStream, seen: &mut BTreeMap<String, Arc<Resource>>, last: &str) {
    loop {
        match next(watch).await {
            WatchEvent::Set(r) => {
                let name = r.metadata().name.clone();
                let done = name == last;
                seen.insert(name, r);
                if done {
                    return;
                }
            }
            WatchEvent::Gone(key) => drop(seen.remove(&*key.name)),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) async fn a_watch_by_labels_follows_them(b: &dyn Backend) {
    let store = b.store();
    store.create(labelled("n", "a", "web")).await.unwrap();
    store.create(labelled("n", "b", "db")).await.unwrap();
    let part = only("app == 'web'");
    let page = store.list_all(Kind::NetworkSet, &part).await.unwrap();
    let mut seen: BTreeMap<_, _> = page
        .items
        .into_iter()
        .map(|r| (r.metadata().name.clone(), Arc::new(r)))
        .collect();
    let mut watch = store
        .watch_part(Kind::NetworkSet, &page.watch_from, &part)
        .await
        .unwrap();
    store.update(labelled("n", "a", "db")).await.unwrap();
    store.update(labelled("n", "b", "web")).await.unwrap();
    store.create(labelled("n", "never", "db")).await.unwrap();
    store.create(labelled("n", "last", "web")).await.unwrap();
    fold(&mut watch, &mut seen, "last").await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["b", "last"]);
}

pub(super) async fn a_watch_of_a_part_sees_that_part(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let part = ListOptions {
        namespace: Some("a".into()),
        name_prefix: Some("x".into()),
        ..ListOptions::default()
    };
    let mut watch = store.watch_part(Kind::NetworkSet, &from, &part).await.unwrap();
    for (ns, name) in [("b", "x1"), ("a-b", "x1"), ("a", "y"), ("a", "x1"), ("a", "x2")] {
        store.create(set(ns, name, &[])).await.unwrap();
    }
    for name in ["x1", "x2"] {
        assert_eq!(next_set(&mut watch).await.key(), set_key("a", name));
    }
}

pub(super) async fn a_restart_loses_nothing(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &["10.0.0.0/8"])).await.unwrap();
    store.create(set("n", "b", &[])).await.unwrap();
    store
        .delete(&set_key("n", "b"), &Preconditions::default())
        .await
        .unwrap();
    b.restart().await;
    let key = made.key();
    assert_eq!(patient(|| store.get(&key)).await, made);
    assert_eq!(names(&*store, &ListOptions::default()).await, ["n/a"]);
    // What was read before is still good for a write.
    let now = store.update(with_nets(made, &[])).await.unwrap();
    assert!(nets(&now).is_empty());
}

/// What is asked until the datastore is back.
async fn patient<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match ask().await {
            Err(e) if e.is_transient() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome.unwrap(),
        }
    }
}

pub(super) async fn a_watch_goes_on_across_a_restart(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    store.create(set("n", "a", &[])).await.unwrap();
    let mut place = from;
    let mut seen = Vec::new();
    while let Some(event) = watch.next().await {
        match event.unwrap() {
            WatchEvent::Set(r) => seen.push(r.metadata().name.clone()),
            WatchEvent::Bookmark(at) => {
                place = at;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    b.restart().await;
    let ended = tokio::time::timeout(Duration::from_secs(30), watch.next())
        .await
        .unwrap();
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    patient(|| store.create(set("n", "b", &[]))).await;
    let mut watch = patient(|| store.watch(Kind::NetworkSet, &place)).await;
    seen.push(next_set(&mut watch).await.metadata().name.clone());
    assert_eq!(seen, ["a", "b"], "each once");
}

pub(super) async fn a_restart_and_a_compaction_expire_what_is_too_old(b: &dyn Backend) {
    let store = b.store();
    let (_, old) = start(&*store, Kind::NetworkSet).await;
    for i in 0..3 {
        store.create(set("n", &format!("s{i}"), &[])).await.unwrap();
    }
    b.compact().await;
    b.restart().await;
    let all = ListOptions::default();
    patient(|| store.list(Kind::NetworkSet, &all)).await;
    let outcome = match store.watch(Kind::NetworkSet, &old).await {
        Err(e) => e,
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
    };
    assert!(matches!(outcome, StoreError::Expired(_)), "{outcome}");
    assert_eq!(names(&*store, &ListOptions::default()).await.len(), 3);
}

/// etcd's own limit for a request.
const LIMIT_BYTES: usize = 1_572_864;

fn of_size(name: &str, bytes: usize) -> Resource {
    let mut r = set("n", name, &[]);
    r.metadata_mut()
        .annotations
        .insert("filler".into(), "x".repeat(bytes));
    r
}

pub(super) async fn a_value_at_the_limit_is_kept(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(of_size("a", LIMIT_BYTES - 2_000)).await.unwrap();
    assert_eq!(store.get(&made.key()).await.unwrap(), made);
    let (items, from) = start(&*store, Kind::NetworkSet).await;
    assert_eq!(items, std::slice::from_ref(&made));
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    let now = store.update(of_size("a", LIMIT_BYTES - 2_001)).await.unwrap();
    assert_eq!(*next_set(&mut watch).await, now);
}

pub(super) async fn a_value_over_the_limit_changes_nothing(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(of_size("a", 10)).await.unwrap();
    let e = store.update(of_size("a", LIMIT_BYTES)).await.unwrap_err();
    assert!(
        matches!(&e, StoreError::Invalid { key, reason } if *key == made.key() && reason.contains("larger")),
        "{e}"
    );
    assert_eq!(store.get(&made.key()).await.unwrap(), made);
}

pub(super) async fn clocks_that_jump_change_no_order(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    // As programs write whose clocks are a lifetime apart.
    let times = [
        "2099-01-01T00:00:00Z",
        "1970-01-01T00:00:01Z",
        "2038-01-19T03:14:08Z",
    ];
    for (name, time) in ["a", "b", "c"].into_iter().zip(times) {
        let mut r = set("n", name, &[]);
        r.metadata_mut().creation_timestamp = Some(time.into());
        store.create(r).await.unwrap();
    }
    let b_now = store.update(set("n", "b", &["10.0.0.0/8"])).await.unwrap();
    assert_eq!(b_now.metadata().creation_timestamp.as_deref(), Some(times[1]));
    let mut watch = store.watch(Kind::NetworkSet, &from).await.unwrap();
    for name in ["a", "b", "c", "b"] {
        assert_eq!(next_set(&mut watch).await.metadata().name, name);
    }
    let stale = store.update(any_revision(set("n", "a", &[]))).await.unwrap();
    store.update(set("n", "a", &["10.0.0.0/8"])).await.unwrap();
    assert!(matches!(
        store.update(stale).await,
        Err(StoreError::Conflict { .. })
    ));
    assert_eq!(
        names(&*store, &ListOptions::default()).await,
        ["n/a", "n/b", "n/c"]
    );
}

pub(super) async fn every_error_is_its_own_and_names_the_object(b: &dyn Backend) {
    let store = b.store();
    let made = store.create(set("n", "a", &[])).await.unwrap();
    store.update(any_revision(made.clone())).await.unwrap();
    let changed = store
        .update(with_nets(any_revision(made.clone()), &["10.0.0.0/8"]))
        .await
        .unwrap();
    assert_ne!(version(&changed), version(&made));
    let key = made.key();
    let exists = store.create(set("n", "a", &[])).await.unwrap_err();
    let conflict = store.update(made.clone()).await.unwrap_err();
    let missing = store.get(&set_key("n", "none")).await.unwrap_err();
    let invalid = store.get(&set_key("n", "a/b")).await.unwrap_err();
    let unsupported = store.update_status(made).await.unwrap_err();
    b.spoil_network_set("n", "bad").await;
    let malformed = store.get(&set_key("n", "bad")).await.unwrap_err();
    let expired = store
        .watch(Kind::NetworkSet, &WatchFrom("nonsense".into()))
        .await
        .err()
        .unwrap();
    assert!(matches!(&exists, StoreError::AlreadyExists(k) if *k == key));
    assert!(matches!(&conflict, StoreError::Conflict { key: k, .. } if *k == key));
    assert!(matches!(&missing, StoreError::NotFound(k) if *k == set_key("n", "none")));
    assert!(matches!(&invalid, StoreError::Invalid { key: k, .. } if *k == set_key("n", "a/b")));
    assert!(matches!(
        &unsupported,
        StoreError::Unsupported {
            kind: Kind::NetworkSet,
            ..
        }
    ));
    assert!(matches!(&malformed, StoreError::Malformed { key: k, .. } if *k == set_key("n", "bad")));
    assert!(matches!(&expired, StoreError::Expired(Kind::NetworkSet)));
    for e in [
        exists,
        conflict,
        missing,
        invalid,
        unsupported,
        malformed,
        expired,
    ] {
        assert!(!e.is_transient(), "{e}");
        assert!(e.to_string().contains("NetworkSet"), "{e}");
    }
}

pub(super) async fn the_life_of_labels_is_seen_by_every_part(b: &dyn Backend) {
    let store = b.store();
    let (_, from) = start(&*store, Kind::NetworkSet).await;
    let parts = [only("app == 'a'"), only("app == 'b'"), ListOptions::default()];
    let mut watches = Vec::new();
    for part in &parts {
        watches.push(store.watch_part(Kind::NetworkSet, &from, part).await.unwrap());
    }
    for app in ["a", "b", "a"] {
        caracal_store::apply(&*store, labelled("n", "moves", app))
            .await
            .unwrap();
    }
    for app in ["a", "b"] {
        store
            .create(labelled("n", &format!("end-{app}"), app))
            .await
            .unwrap();
    }
    for (watch, last, want) in [
        (0, "end-a", vec!["end-a", "moves"]),
        (1, "end-b", vec!["end-b"]),
        (2, "end-b", vec!["end-a", "end-b", "moves"]),
    ] {
        let mut seen = BTreeMap::new();
        fold(&mut watches[watch], &mut seen, last).await;
        assert_eq!(seen.keys().collect::<Vec<_>>(), want);
    }
}

fn report(node: &str, subject: Subject) -> ReportKey {
    ReportKey {
        region: String::new(),
        node: node.into(),
        subject,
    }
}

fn workload(name: &str) -> Subject {
    Subject::Workload {
        orchestrator: "k8s".into(),
        workload: format!("shop/{name}"),
        endpoint: "eth0".into(),
    }
}

pub(super) async fn reports_are_written_listed_and_retracted(b: &dyn Backend) {
    let store = b.store();
    let reports = store.reports().unwrap();
    let lease = reports.grant(Duration::from_secs(60)).await.unwrap();
    let keys = [
        report("n1", Subject::Agent),
        report("n1", workload("w")),
        report("n2", workload("w")),
    ];
    for key in &keys {
        assert!(
            reports
                .report(key, &json!({ "status": "up" }), Some(lease))
                .await
                .unwrap()
        );
    }
    let of = |found: Vec<(ReportKey, Value)>| found.into_iter().map(|(k, _)| k).collect::<Vec<_>>();
    assert_eq!(of(reports.reported(Some("n1")).await.unwrap()), keys[..2]);
    assert_eq!(reports.reported(None).await.unwrap().len(), 3);
    assert!(
        reports
            .report(&keys[1], &json!({ "status": "down" }), Some(lease))
            .await
            .unwrap()
    );
    reports.retract(&keys[0]).await.unwrap();
    reports.retract(&keys[0]).await.unwrap();
    let left = reports.reported(Some("n1")).await.unwrap();
    assert_eq!(left, [(keys[1].clone(), json!({ "status": "down" }))]);
    assert!(reports.keep(lease).await.unwrap());
    reports.revoke(lease).await.unwrap();
    reports.revoke(lease).await.unwrap();
    assert!(reports.reported(None).await.unwrap().is_empty());
    assert!(!reports.keep(lease).await.unwrap());
    assert!(
        !reports.report(&keys[0], &json!({}), Some(lease)).await.unwrap(),
        "the lease is gone"
    );
}

pub(super) async fn reports_go_with_their_lease(b: &dyn Backend) {
    let store = b.store();
    let reports = store.reports().unwrap();
    let lease = reports.grant(Duration::from_secs(1)).await.unwrap();
    let (alive, stays) = (report("n1", Subject::Agent), report("n1", Subject::LastSeen));
    assert!(
        reports
            .report(&alive, &json!({ "uptime": 1 }), Some(lease))
            .await
            .unwrap()
    );
    assert!(
        reports
            .report(&stays, &json!({ "uptime": 1 }), None)
            .await
            .unwrap()
    );
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    loop {
        let left: Vec<_> = reports
            .reported(None)
            .await
            .unwrap()
            .into_iter()
            .map(|(k, _)| k)
            .collect();
        if left == [stays.clone()] {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reports.retract(&stays).await.unwrap();
}
