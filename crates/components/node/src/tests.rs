use std::{collections::BTreeMap, sync::Arc};

use caracal_api::{
    AllocationAttribute, EncapMode, IpPoolAllowedUse, IpPoolSpec, IpamBlockSpec, Kind, NodeSpec, Object,
    Resource, ResourceKey,
};
use caracal_ids::NodeName;
use caracal_ipam::Ipam;
use caracal_net::{Family, IfAddr, PerFamily};
use caracal_store::{ListOptions, Store};
use caracal_store_memory::MemoryStore;

use crate::{
    cli::vxlan_modes,
    cluster::{ClusterDefaults, ensure_cluster},
    startup::{NodeFacts, ensure_node, node_address},
    tunnel::ensure_tunnel_addresses,
};

fn defaults() -> ClusterDefaults {
    ClusterDefaults {
        make_pools: true,
        pool_v4: Some("10.0.0.0/24".into()),
        pool_v6: Some("fd00:10::/112".into()),
        vxlan: PerFamily::new(|_| EncapMode::Always),
        ipip: EncapMode::Never,
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

fn ipip_pool(name: &str, cidr: &str, mode: EncapMode, change: impl FnOnce(&mut IpPoolSpec)) -> Resource {
    let mut spec = IpPoolSpec {
        cidr: cidr.into(),
        ipip_mode: Some(mode),
        block_size: Some(28),
        node_selector: "all()".into(),
        ..IpPoolSpec::default()
    };
    change(&mut spec);
    Object::new(name, spec).into()
}

#[tokio::test]
async fn a_node_has_an_address_for_ip_in_ip_as_long_as_a_pool_asks_for_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::etcd());
    let me = facts("n1", "172.30.0.1/24");
    ensure_node(store.as_ref(), &me).await.unwrap();
    let ipam = Ipam::new(store.clone());
    let handle = "ipip-tunnel-addr-n1";
    let state = async || -> (String, Vec<String>) {
        ensure_tunnel_addresses(&store, &me.name).await.unwrap();
        let key = ResourceKey::global(Kind::Node, "n1");
        let node: Object<NodeSpec> = store.get(&key).await.unwrap().try_into().unwrap();
        assert_eq!(node.spec.bgp.as_ref().unwrap().ipv4_address, "172.30.0.1/24");
        let held = ipam.addresses_of(handle).await.unwrap();
        let held = held.iter().map(|a| a.addr.to_string()).collect();
        (node.spec.bgp.unwrap().ipv4_ipip_tunnel_addr, held)
    };
    let put = async |pool: Resource| drop(caracal_store::apply(store.as_ref(), pool).await.unwrap());
    assert_eq!(state().await, (String::new(), vec![]), "no pool asks for it");
    // One that cannot be used: for other nodes, for pods only, of the other family.
    put(ipip_pool("rack", "10.1.0.0/24", EncapMode::Always, |s| {
        s.node_selector = "rack == '7'".into();
    }))
    .await;
    put(ipip_pool("pods", "10.2.0.0/24", EncapMode::Always, |s| {
        s.allowed_uses = vec![IpPoolAllowedUse::Workload];
    }))
    .await;
    assert_eq!(state().await, (String::new(), vec![]));
    put(ipip_pool("p", "10.3.0.0/24", EncapMode::CrossSubnet, |_| ())).await;
    let (addr, held) = state().await;
    assert!(addr.starts_with("10.3.0."), "{addr}");
    assert_eq!(held, std::slice::from_ref(&addr));
    // Its owner is known to the proof of addresses, and its attributes are Calico's.
    let blocks = store
        .list_all(Kind::IpamBlock, &ListOptions::default())
        .await
        .unwrap();
    let attributes: Vec<AllocationAttribute> = blocks
        .items
        .into_iter()
        .flat_map(|b| Object::<IpamBlockSpec>::try_from(b).unwrap().spec.attributes)
        .collect();
    assert_eq!(attributes[0].handle_id.as_deref(), Some(handle));
    let secondary = [("node", "n1"), ("type", "ipipTunnelAddress")];
    let secondary = secondary.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(attributes[0].secondary, BTreeMap::from(secondary));
    // It stays, also when somebody empties the field, and moves when its pool does without IP-in-IP.
    assert_eq!(state().await, (addr.clone(), vec![addr.clone()]));
    put(ipip_pool("q", "10.4.0.0/24", EncapMode::Always, |_| ())).await;
    assert_eq!(state().await, (addr.clone(), vec![addr.clone()]));
    put(ipip_pool("p", "10.3.0.0/24", EncapMode::Never, |_| ())).await;
    let (moved, held) = state().await;
    assert!(moved.starts_with("10.4.0."), "{moved}");
    assert_eq!(held, [moved]);
    put(ipip_pool("q", "10.4.0.0/24", EncapMode::Always, |s| {
        s.disabled = true
    }))
    .await;
    assert_eq!(state().await, (String::new(), vec![]), "the last pool went");
}

#[test]
fn modes_of_the_default_pools() {
    use EncapMode::{Always, CrossSubnet, Never};
    let modes = |v4, v6, ipip| vxlan_modes(v4, v6, ipip).map(|m| (m.v4, m.v6)).ok();
    assert_eq!(modes(None, None, Never), Some((Always, Always)));
    assert_eq!(
        modes(Some(CrossSubnet), None, Never),
        Some((CrossSubnet, CrossSubnet))
    );
    assert_eq!(modes(Some(Never), Some(Always), Never), Some((Never, Always)));
    assert_eq!(modes(None, None, Always), Some((Never, Always)));
    assert_eq!(modes(Some(Never), None, CrossSubnet), Some((Never, Never)));
    assert_eq!(modes(Some(Always), None, Always), None, "both at once");
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
