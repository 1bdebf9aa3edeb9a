//! Writing through the checks and the helpers, on a store in memory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use caracal_api::{
    IpPoolSpec, Kind, NetworkPolicySpec, NetworkSetSpec, Object, Resource, ResourceKey, TierSpec,
};
use caracal_store::{
    Applied, Checked, Preconditions, Reads, Store, StoreError, Write, apply, ensure, modify,
};
use caracal_store_memory::{MemoryStore, Op};

fn checked() -> (MemoryStore, Checked) {
    let memory = MemoryStore::etcd();
    let checked = Checked::new(Arc::new(memory.clone()));
    (memory, checked)
}

fn set(nets: &[&str]) -> Resource {
    let spec = NetworkSetSpec {
        nets: nets.iter().map(|n| (*n).to_owned()).collect(),
    };
    Object::namespaced("n", "a", spec).into()
}

fn pool(name: &str, cidr: &str) -> Resource {
    let spec = IpPoolSpec {
        cidr: cidr.into(),
        ..IpPoolSpec::default()
    };
    Object::new(name, spec).into()
}

fn policy(name: &str, tier: &str) -> Resource {
    let spec = NetworkPolicySpec {
        tier: tier.into(),
        selector: "all()".into(),
        ..NetworkPolicySpec::default()
    };
    Object::namespaced("n", name, spec).into()
}

fn reason(outcome: Result<Resource, StoreError>) -> String {
    match outcome.unwrap_err() {
        e @ StoreError::Invalid { .. } => e.to_string(),
        other => panic!("not refused as invalid: {other}"),
    }
}

#[tokio::test]
async fn defaults_are_stored() {
    let (_, store) = checked();
    let made = store.create(pool("p", "10.0.0.0/16")).await.unwrap();
    assert!(matches!(made, Resource::IpPool(p) if p.spec.block_size == Some(26)));
}

#[tokio::test]
async fn what_is_wrong_alone_is_refused_with_its_field_and_nothing_is_stored() {
    let (memory, store) = checked();
    let text = reason(store.create(set(&["10.0.0.0/33"])).await);
    assert!(
        text.contains("NetworkSet(n/a)") && text.contains("spec.nets"),
        "{text}"
    );
    let felix = r#"{"metadata":{"name":"default"},"spec":{"routeRefreshInterval":7}}"#;
    let felix = Resource::from_slice(Kind::FelixConfiguration, felix.as_bytes()).unwrap();
    let text = reason(store.create(felix).await);
    assert!(text.contains("routeRefreshInterval"), "{text}");
    assert_eq!(memory.calls(Op::Create), 0);
}

#[tokio::test]
async fn pools_keep_clear_of_each_other_and_keep_their_range() {
    let (memory, store) = checked();
    let made = store.create(pool("p", "10.0.0.0/16")).await.unwrap();
    let text = reason(store.create(pool("q", "10.0.128.0/17")).await);
    assert!(text.contains("overlaps") && text.contains("\"p\""), "{text}");
    store.create(pool("r", "fd00::/48")).await.unwrap();
    let text = reason(store.update(pool("p", "10.1.0.0/16")).await);
    assert!(text.contains("cannot be changed"), "{text}");
    assert_eq!(memory.get(&made.key()).await.unwrap(), made);
    store.update(made).await.unwrap();
}

#[tokio::test]
async fn a_policy_needs_its_tier_and_a_tier_goes_when_it_is_empty() {
    let (memory, store) = checked();
    store.create(policy("early", "")).await.unwrap();
    let text = reason(store.create(policy("p", "security")).await);
    assert!(
        text.contains("security") && text.contains("does not exist"),
        "{text}"
    );
    let spec = TierSpec {
        order: Some(10.0),
        ..TierSpec::default()
    };
    let tier = store.create(Object::new("security", spec).into()).await.unwrap();
    store.create(policy("p", "security")).await.unwrap();
    let gets = memory.calls(Op::Get);
    store.create(policy("q", "security")).await.unwrap();
    assert_eq!(memory.calls(Op::Get), gets, "the tier was just seen");
    let text = reason(store.delete(&tier.key(), &Preconditions::default()).await);
    assert!(text.contains("2 policies"), "{text}");
    for name in ["p", "q"] {
        let key = ResourceKey::namespaced(Kind::NetworkPolicy, "n", name);
        store.delete(&key, &Preconditions::default()).await.unwrap();
    }
    store
        .delete(&tier.key(), &Preconditions::default())
        .await
        .unwrap();
    assert!(
        store.create(policy("p", "security")).await.is_err(),
        "the tier is not remembered"
    );
}

#[tokio::test]
async fn apply_says_what_it_did() {
    let (memory, store) = checked();
    assert!(matches!(
        apply(&store, set(&[])).await.unwrap(),
        Applied::Created(_)
    ));
    let same = apply(&store, set(&[])).await.unwrap();
    assert!(!same.changed());
    assert_eq!(memory.calls(Op::Update), 0);
    let now = apply(&store, set(&["10.0.0.0/8"])).await.unwrap();
    assert!(matches!(now, Applied::Updated(_)));
    let mut stale = same.into_resource();
    let e = apply(&store, stale.clone()).await.unwrap_err();
    assert!(matches!(e, StoreError::Conflict { .. }), "{e}");
    stale.metadata_mut().resource_version = None;
    assert!(matches!(apply(&store, stale).await.unwrap(), Applied::Updated(_)));
}

#[tokio::test]
async fn apply_and_ensure_survive_a_race() {
    let (memory, store) = checked();
    // The object comes into being between the look and the creation.
    memory.create(set(&["10.0.0.0/8"])).await.unwrap();
    let absent = StoreError::NotFound(set(&[]).key());
    memory.fail_next_on(Op::Get, 1, &absent);
    assert!(matches!(
        apply(&store, set(&[])).await.unwrap(),
        Applied::Updated(_)
    ));
    memory.fail_next_on(Op::Get, 1, &absent);
    let kept = ensure(&store, set(&["11.0.0.0/8"])).await.unwrap();
    assert!(matches!(&kept, Applied::Unchanged(Resource::NetworkSet(o)) if o.spec.nets.is_empty()));
    memory
        .delete(&kept.resource().key(), &Preconditions::default())
        .await
        .unwrap();
    assert!(matches!(
        ensure(&store, set(&[])).await.unwrap(),
        Applied::Created(_)
    ));
}

#[tokio::test]
async fn modify_starts_again_on_a_conflict_and_writes_only_changes() {
    let (memory, store) = checked();
    let key = store.create(set(&[])).await.unwrap().key();
    let conflict = StoreError::Conflict {
        key: key.clone(),
        why: "a test says so".into(),
    };
    memory.fail_next_on(Op::Update, 2, &conflict);
    let add = |r: &mut Resource| {
        if let Resource::NetworkSet(o) = r {
            o.spec.nets = vec!["10.0.0.0/8".into()];
        }
    };
    assert!(modify(&store, &key, add).await.unwrap().changed());
    assert_eq!(memory.calls(Op::Update), 3);
    assert!(!modify(&store, &key, add).await.unwrap().changed());
    assert_eq!(memory.calls(Op::Update), 3);
    memory.fail_next_on(Op::Update, 100, &conflict);
    let e = modify(&store, &key, |r| r.metadata_mut().labels.clear()).await;
    assert!(!e.unwrap().changed());
    let label = |r: &mut Resource| {
        r.metadata_mut().labels.insert("a".into(), "b".into());
    };
    assert!(matches!(
        modify(&store, &key, label).await,
        Err(StoreError::Conflict { .. })
    ));
}

#[tokio::test]
async fn a_field_of_a_newer_version_may_stay_but_not_come() {
    let (memory, store) = checked();
    let felix = |spec: &str| {
        let text = format!(r#"{{"metadata":{{"name":"default"}},"spec":{spec}}}"#);
        Resource::from_slice(Kind::FelixConfiguration, text.as_bytes()).unwrap()
    };
    let newer = memory.create(felix(r#"{"ofTheFuture":{"x":1}}"#)).await.unwrap();
    let mut labelled = newer.clone();
    labelled.metadata_mut().labels.insert("a".into(), "b".into());
    store.update(labelled).await.unwrap();
    for wrong in [
        r#"{"ofTheFuture":{"x":2}}"#,
        r#"{"ofTheFuture":{"x":1},"another":1}"#,
    ] {
        let text = reason(store.update(felix(wrong)).await);
        assert!(text.contains("no such field"), "{text}");
    }
}

#[tokio::test]
async fn nothing_gets_around_the_checks_by_a_transaction() {
    let (memory, store) = checked();
    assert!(memory.writes_together() > 0);
    assert_eq!(store.writes_together(), 0);
    let wrong = vec![Write::Create(set(&["10.0.0.0/33"]))];
    let e = store.write_together(wrong).await.unwrap_err();
    assert!(
        matches!(
            e,
            StoreError::Unsupported {
                kind: Kind::NetworkSet,
                ..
            }
        ),
        "{e}"
    );
    let key = set(&[]).key();
    let reads = Reads {
        objects: vec![key.clone()],
        lists: Vec::new(),
    };
    let found = store.read_together(&reads).await.unwrap();
    assert!(matches!(&found.objects[..], [Err(StoreError::NotFound(k))] if *k == key));
}
