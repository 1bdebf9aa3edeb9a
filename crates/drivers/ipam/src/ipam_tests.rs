use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{IpPoolAllowedUse, IpPoolSpec, Kind, Object};
use caracal_ids::NodeName;
use caracal_ipam_plan::{Owner, PlanError};
use caracal_net::Family;
use caracal_store::ListOptions;
use caracal_store_memory::MemoryStore;

use super::*;
use crate::Assign;

async fn store_with_pool(cidr: &str, block: u8) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::etcd());
    let spec = IpPoolSpec {
        cidr: cidr.into(),
        block_size: Some(block),
        ..IpPoolSpec::default()
    };
    store.create(Object::new("p", spec).into()).await.unwrap();
    store
}

fn want(node: &str, handle: &str, count: usize) -> Assign {
    Assign {
        node: NodeName::new(node).unwrap(),
        family: Family::V4,
        count,
        owner: Owner {
            handle: handle.into(),
            attributes: BTreeMap::from([("node".into(), node.into())]),
        },
        pools: vec![],
        usage: IpPoolAllowedUse::Workload,
        namespace_labels: BTreeMap::new(),
    }
}

async fn count(store: &Arc<dyn Store>, kind: Kind) -> usize {
    store
        .list_all(kind, &ListOptions::default())
        .await
        .unwrap()
        .items
        .len()
}

#[tokio::test]
async fn many_writers_never_get_one_address_twice() {
    let store = store_with_pool("10.0.0.0/25", 28).await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..100 {
        let ipam = Ipam::new(store.clone());
        tasks.spawn(async move {
            ipam.assign(&want(&format!("n{}", i % 5), &format!("h{i}"), 1))
                .await
        });
    }
    let mut seen = std::collections::BTreeSet::new();
    while let Some(r) = tasks.join_next().await {
        for a in r.unwrap().unwrap() {
            assert!(seen.insert(a.addr), "{a} was given out twice");
        }
    }
    assert_eq!(seen.len(), 100);
    let ipam = Ipam::new(store.clone());
    for i in 0..100 {
        assert_eq!(ipam.release_handle(&format!("h{i}")).await.unwrap().len(), 1);
    }
    assert_eq!(count(&store, Kind::IpamHandle).await, 0);
    assert_eq!(ipam.assign(&want("n0", "again", 128)).await.unwrap().len(), 128);
}

#[tokio::test]
async fn what_cannot_be_given_whole_is_given_back() {
    let store = store_with_pool("10.0.0.0/30", 30).await;
    let ipam = Ipam::new(store.clone());
    let e = ipam.assign(&want("n", "h", 5)).await.unwrap_err();
    assert!(matches!(e, IpamError::Plan(PlanError::Exhausted { .. })), "{e}");
    assert!(ipam.addresses_of("h").await.unwrap().is_empty());
    assert_eq!(ipam.assign(&want("n", "h", 4)).await.unwrap().len(), 4);
    assert_eq!(ipam.addresses_of("h").await.unwrap().len(), 4);
    assert!(ipam.release_handle("nobody").await.unwrap().is_empty());
}

#[tokio::test]
async fn one_address_by_name() {
    let store = store_with_pool("10.0.0.0/24", 26).await;
    let ipam = Ipam::new(store.clone());
    let addr: IpAddr = "10.0.0.70".parse().unwrap();
    assert_eq!(
        ipam.assign_address(&want("n", "h", 1), addr).await.unwrap().addr,
        addr
    );
    let e = ipam
        .assign_address(&want("m", "other", 1), addr)
        .await
        .unwrap_err()
        .to_string();
    assert!(e.contains("10.0.0.70") && e.contains('h'), "{e}");
    assert!(!ipam.release_address(addr, Some("other"), None).await.unwrap());
    assert!(ipam.release_address(addr, None, None).await.unwrap());
    assert_eq!(count(&store, Kind::IpamHandle).await, 0);
}
