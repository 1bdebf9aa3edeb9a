//! Slices of services' endpoints, kept as a cluster's controller keeps them: whenever pods or services change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use caracal_api::{Kind, KubernetesServiceSpec, Object, Protocol, Resource, ResourceKey, WorkloadPort};
use caracal_convert::{Behind, SLICES_MANAGED_BY, endpoint_slices};
use caracal_store::{ListOptions, Preconditions, Store, StoreError, apply};

use super::parallel::block_on;
use super::state::{Lab, Pod};

/// Who keeps the slices; those of others are left alone.
const US: &str = "caracal-lab";

/// Makes the slices of all services what the lab's pods are now.
pub(super) fn reconcile(lab: &Lab) -> anyhow::Result<()> {
    let store = lab.datastore().connect()?;
    let pods: Vec<Seen> = lab.state.pods.values().map(Seen::of).collect();
    block_on(write(store.as_ref(), &pods)).context("endpoint slices of services")
}

/// A pod as a controller sees it.
struct Seen {
    namespace: String,
    labels: BTreeMap<String, String>,
    node: String,
    addresses: Vec<IpAddr>,
    ports: Vec<WorkloadPort>,
}

impl Seen {
    fn of(pod: &Pod) -> Self {
        let ports = pod.ports.iter().map(|p| WorkloadPort {
            name: p.name.clone(),
            protocol: Protocol::Name(p.protocol.to_string()),
            port: p.port,
            host_port: 0,
            host_ip: String::new(),
        });
        Self {
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            node: pod.node.clone(),
            addresses: pod.addresses.clone(),
            ports: ports.collect(),
        }
    }

    fn behind(&self) -> Behind<'_> {
        Behind {
            namespace: &self.namespace,
            labels: &self.labels,
            node: &self.node,
            addresses: &self.addresses,
            ports: &self.ports,
        }
    }
}

async fn write(store: &dyn Store, pods: &[Seen]) -> anyhow::Result<()> {
    let services = store
        .list_all(Kind::KubernetesService, &ListOptions::default())
        .await?;
    let there = store
        .list_all(Kind::KubernetesEndpointSlice, &ListOptions::default())
        .await?;
    let mut old: BTreeMap<ResourceKey, Resource> = there
        .items
        .into_iter()
        .filter(|r| {
            r.metadata()
                .labels
                .get(SLICES_MANAGED_BY)
                .is_some_and(|by| by == US)
        })
        .map(|r| (r.key(), r))
        .collect();
    for service in &services.items {
        let Resource::KubernetesService(service) = service else {
            continue;
        };
        for slice in wanted(service, pods) {
            old.remove(&slice.key());
            apply(store, slice).await?;
        }
    }
    for key in old.into_keys() {
        match store.delete(&key, &Preconditions::default()).await {
            Ok(_) | Err(StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn wanted(service: &Object<KubernetesServiceSpec>, pods: &[Seen]) -> Vec<Resource> {
    let slices = endpoint_slices(service, pods.iter().map(Seen::behind), US);
    slices.into_iter().map(Resource::from).collect()
}

#[cfg(test)]
mod tests {
    use caracal_store_memory::MemoryStore;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, addresses: &[&str], port: u16) -> Seen {
        Seen {
            namespace: "shop".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
            node: format!("of-{name}"),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ports: vec![WorkloadPort {
                name: "sql".to_owned(),
                protocol: Protocol::Name("TCP".to_owned()),
                port,
                host_port: 0,
                host_ip: String::new(),
            }],
        }
    }

    async fn slices(store: &MemoryStore) -> Vec<String> {
        let page = store
            .list_all(Kind::KubernetesEndpointSlice, &ListOptions::default())
            .await
            .unwrap();
        let line = |r: &Resource| {
            let Resource::KubernetesEndpointSlice(s) = r else {
                panic!("{r:?}")
            };
            let addresses: Vec<&str> = s
                .spec
                .endpoints
                .iter()
                .flat_map(|e| &e.addresses)
                .map(String::as_str)
                .collect();
            let ports: Vec<i64> = s.spec.ports.iter().filter_map(|p| p.port).collect();
            format!(
                "{} {} {addresses:?} {ports:?}",
                s.metadata.name, s.spec.address_type
            )
        };
        page.items.iter().map(line).collect()
    }

    #[test]
    fn slices_follow_pods_and_services_and_leave_those_of_others() {
        let store = MemoryStore::etcd();
        block_on(async {
            let spec = json!({"selector": {"app": "db"}, "ports": [{"port": 5432, "targetPort": "sql"}, {"port": 80}]});
            let service = |spec| {
                let object = json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": spec});
                Resource::from_value(Kind::KubernetesService, object).unwrap()
            };
            store.create(service(spec)).await?;
            let theirs = json!({"metadata": {"name": "other", "namespace": "shop"}, "spec": {"addressType": "IPv4"}});
            store.create(Resource::from_value(Kind::KubernetesEndpointSlice, theirs)?).await?;
            let pods = [
                pod("a", "db", &["10.0.0.2", "fd00::2"], 5432),
                pod("b", "db", &["10.0.0.1"], 5432),
                pod("c", "db", &["10.0.0.3"], 6000),
                pod("d", "web", &["10.0.0.4"], 5432),
            ];
            write(&store, &pods).await?;
            let first = [
                r#"db-1 IPv4 ["10.0.0.1", "10.0.0.2"] [5432, 80]"#,
                r#"db-2 IPv4 ["10.0.0.3"] [6000, 80]"#,
                r#"db-3 IPv6 ["fd00::2"] [5432, 80]"#,
                "other IPv4 [] []",
            ];
            assert_eq!(slices(&store).await, first);
            write(&store, &pods[1..2]).await?;
            assert_eq!(slices(&store).await, [r#"db-1 IPv4 ["10.0.0.1"] [5432, 80]"#, "other IPv4 [] []"]);
            // A service without selector has the slices that somebody gives it.
            apply(&store, service(json!({"ports": [{"port": 80}]}))).await?;
            write(&store, &pods).await?;
            assert_eq!(slices(&store).await, ["other IPv4 [] []"]);
            Ok(())
        })
        .unwrap();
    }
}
