use std::{collections::BTreeMap, sync::Arc};

use caracal_api::{EncapMode, Kind, NodeSpec, Object, ResourceKey};
use caracal_ids::NodeName;
use caracal_net::{Family, IfAddr, PerFamily};
use caracal_store::{ListOptions, Store};
use caracal_store_memory::MemoryStore;

use crate::{
    cluster::{ClusterDefaults, ensure_cluster},
    startup::{NodeFacts, ensure_node, node_address},
    tunnel::ensure_tunnel_addresses,
};

fn defaults() -> ClusterDefaults {
    ClusterDefaults {
        make_pools: true,
        pool_v4: Some("10.0.0.0/24".into()),
        pool_v6: Some("fd00:10::/112".into()),
        vxlan: EncapMode::Always,
        nat_outgoing: true,
        cluster_type: "k8s".into(),
    }
}

fn facts(name: &str, v4: &str) -> NodeFacts {
    NodeFacts {
        name: NodeName::new(name).unwrap(),
        addr: PerFamily {
            v4: Some(v4.parse().unwrap()),
            v6: None,
        },
        as_number: None,
        labels: BTreeMap::new(),
    }
}

async fn names(store: &Arc<dyn Store>, kind: Kind) -> Vec<String> {
    let page = store.list_all(kind, &ListOptions::default()).await.unwrap();
    page.items.iter().map(|r| r.metadata().name.clone()).collect()
}

#[tokio::test]
async fn whoever_comes_first_makes_the_cluster_and_nobody_makes_it_twice() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::etcd());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        all.spawn(async move { ensure_cluster(store.as_ref(), &defaults()).await });
    }
    while let Some(r) = all.join_next().await {
        r.unwrap().unwrap();
    }
    assert_eq!(
        names(&store, Kind::Tier).await,
        ["default", "kube-admin", "kube-baseline"]
    );
    assert_eq!(
        names(&store, Kind::IpPool).await,
        ["default-ipv4-ippool", "default-ipv6-ippool"]
    );
    let key = ResourceKey::global(Kind::ClusterInformation, "default");
    let first = store.get(&key).await.unwrap();
    ensure_cluster(store.as_ref(), &defaults()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), first);
}

#[tokio::test]
async fn a_node_gets_its_object_and_tunnel_addresses_and_keeps_them() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::etcd());
    ensure_cluster(store.as_ref(), &defaults()).await.unwrap();
    let me = facts("n1", "172.30.0.1/24");
    ensure_node(store.as_ref(), &me).await.unwrap();
    ensure_tunnel_addresses(&store, &me.name).await.unwrap();
    let read = async || -> Object<NodeSpec> {
        store
            .get(&ResourceKey::global(Kind::Node, "n1"))
            .await
            .unwrap()
            .try_into()
            .unwrap()
    };
    let first = read().await;
    assert!(!first.spec.ipv4_vxlan_tunnel_addr.is_empty() && !first.spec.ipv6_vxlan_tunnel_addr.is_empty());
    ensure_node(store.as_ref(), &me).await.unwrap();
    ensure_tunnel_addresses(&store, &me.name).await.unwrap();
    assert_eq!(read().await, first);
    let e = ensure_node(store.as_ref(), &facts("n2", "172.30.0.1/24"))
        .await
        .unwrap_err()
        .to_string();
    assert!(e.contains("172.30.0.1/24") && e.contains("n1"), "{e}");
}

#[test]
fn addresses_from_the_environment() {
    let interfaces: Vec<(String, IfAddr)> = [
        ("lo", "127.0.0.1/8"),
        ("cali1", "10.9.9.9/32"),
        ("eth0", "172.30.0.5/24"),
    ]
    .iter()
    .map(|(n, a)| ((*n).to_owned(), a.parse().unwrap()))
    .collect();
    let read =
        |text: &str| node_address("IP", text, Family::V4, &interfaces).map(|a| a.map(|a| a.to_string()));
    assert_eq!(read("autodetect").unwrap().as_deref(), Some("172.30.0.5/24"));
    assert_eq!(read("172.30.0.5").unwrap().as_deref(), Some("172.30.0.5/24"));
    assert_eq!(read("172.30.0.9/16").unwrap().as_deref(), Some("172.30.0.9/16"));
    assert_eq!(read("none").unwrap(), None);
    assert!(read("fd00::1").is_err() && read("nonsense").is_err());
    assert!(node_address("IP6", "autodetect", Family::V6, &interfaces).is_err());
}
