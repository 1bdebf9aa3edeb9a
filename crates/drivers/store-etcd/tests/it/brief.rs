use caracal_api::{Kind, Resource};
use caracal_store::{ListOptions, Store};
use caracal_testkit::{Etcd, needs};
use serde_json::json;

use crate::{
    backend::Remote,
    etcd::{run, set},
};

#[test]
fn an_agents_list_has_its_own_endpoints_whole_and_of_the_others_what_counts_there() {
    needs!("etcd");
    let etcd = Etcd::start();
    run(async {
        let at = Remote::at(&etcd.endpoint());
        let value = |n: usize, spec: serde_json::Value| {
            let mut value = json!({"metadata": {"name": format!("e{n:03}"), "namespace": "n", "labels": {"app": "a"}},
                "spec": {"node": format!("n{}", n % 5), "orchestrator": "k8s", "pod": "p", "containerID": "c",
                    "interfaceName": "cali1", "ipNetworks": [format!("10.0.{}.{}/32", n / 250, n % 250)]}});
            for (field, v) in spec.as_object().unwrap() {
                value["spec"][field] = v.clone();
            }
            value.to_string()
        };
        // More than a piece of a page, and two that are not usual.
        for n in 0..600 {
            let more = match n {
                7 => json!({"ports": [{"name": "http", "protocol": "TCP", "port": 80}]}),
                8 => json!({"mac": 5}),
                _ => json!({}),
            };
            let place = format!("/calico/resources/v3/projectcalico.org/workloadendpoints/n/e{n:03}");
            at.raw_put(&place, &value(n, more)).await;
        }
        let options = ListOptions {
            for_node: Some("n0".into()),
            ..ListOptions::default()
        };
        let kind = Kind::WorkloadEndpoint;
        let whole = at.store.list_all(kind, &ListOptions::default()).await.unwrap();
        at.store.prefetch(kind, &options);
        let brief = at.store.list_all(kind, &options).await.unwrap();
        assert_eq!((whole.items.len(), brief.items.len()), (599, 599));
        assert_eq!(format!("{:?}", brief.malformed), format!("{:?}", whole.malformed));
        assert_eq!(brief.malformed.len(), 1);
        assert_eq!(brief.watch_from, whole.watch_from);
        for (whole, brief) in whole.items.into_iter().zip(brief.items) {
            let (Resource::WorkloadEndpoint(mut whole), Resource::WorkloadEndpoint(brief)) = (whole, brief)
            else {
                panic!("another kind")
            };
            if whole.spec.node != "n0" && whole.spec.ports.is_empty() {
                let spec = &mut whole.spec;
                for left_out in [&mut spec.pod, &mut spec.container_id, &mut spec.interface_name] {
                    left_out.clear();
                }
                whole.metadata.uid = None;
            }
            assert_eq!(whole, brief);
        }
        // A list that was asked for ahead is used once: the next one sees what was written since.
        at.store.create(set("a")).await.unwrap();
        let again = at.store.list_all(kind, &options).await.unwrap();
        assert_ne!(again.watch_from, brief.watch_from);
    });
}
