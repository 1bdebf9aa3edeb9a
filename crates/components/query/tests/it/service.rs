//! Services as the destination of `caracal why`.

use std::sync::Arc;

use caracal_api::{Kind, Resource};
use caracal_query::why_with;
use caracal_store::Store;
use caracal_store_memory::MemoryStore;
use serde_json::{Value, json};

use crate::rig::{Done, data, golden, run, run_over};

fn why(args: &[&str]) -> Done {
    let (shop, services) = (data("shop.yaml"), data("services.yaml"));
    let all: Vec<&str> = ["-f", &shop, "-f", &services]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    run(why_with, &all, "")
}

#[test]
fn a_service_is_judged_pod_by_pod_behind_translation() {
    let done = why(&["shop/web", "svc:shop/cart", "80/tcp"]);
    assert_eq!((done.code, done.errors.as_str()), (0, ""), "{}", done.output);
    golden("service.txt", &done.output);
    // By its address, by the name of its port: the same.
    assert_eq!(why(&["shop/web", "10.96.0.10", "80/tcp"]).output, done.output);
    assert_eq!(why(&["shop/web", "svc:shop/cart", "web/tcp"]).output, done.output);
    // What the policy of the pod behind it blocks, the service does not help.
    let blocked = why(&["shop/web", "svc:shop/cart", "9100/tcp", "-o", "json"]);
    assert_eq!(blocked.code, 1, "{}", blocked.output);
    let read: serde_json::Value = serde_json::from_str(&blocked.output).unwrap();
    assert_eq!(read[0]["destination"]["name"], "shop/cart");
    assert!(
        read[0]["remarks"][0]
            .as_str()
            .unwrap()
            .contains("10.96.0.10:9100 (TCP) is translated to 10.65.1.1:9100"),
        "{read}"
    );
}

#[test]
fn without_an_address_of_its_own_the_pods_are_asked() {
    // `front` is headless, and has no pod of its name: no `svc:` is needed.
    let done = why(&["shop/cart", "front", "-n", "shop", "8080/tcp"]);
    assert!(
        done.output
            .contains("service shop/front has no address of its own"),
        "{done:?}"
    );
    assert!(done.output.contains("shop/web (pod on n1)"), "{done:?}");
}

#[test]
fn rules_may_name_a_service() {
    // The pods behind the service are what the rule allows, by their own ports.
    let done = why(&["default/visitor", "shop/cart", "8081/tcp"]);
    assert!(
        done.output
            .contains("egress of default/visitor: allowed by NetworkPolicy default/visitor egress[0]"),
        "{done:?}"
    );
    let done = why(&["default/visitor", "shop/cart", "8082/tcp"]);
    assert!(
        done.code == 1 && done.output.contains("egress of default/visitor: BLOCKED"),
        "{done:?}"
    );
}

#[test]
fn services_that_cannot_be_asked_say_why() {
    for (args, says) in [
        (
            &["shop/web", "svc:shop/cat", "80/tcp"][..],
            "there is shop/cart, shop/front",
        ),
        (
            &["shop/web", "svc:shop/cart", "81/tcp"],
            "its ports are 80/TCP web, 9100/TCP figures",
        ),
        (&["shop/web", "svc:shop/cart", "icmp"], "does not answer to this"),
        (&["shop/web", "10.96.0.11", "80/tcp"], "no pod behind port 80/TCP"),
    ] {
        let done = why(args);
        assert_eq!((done.code, done.output.as_str()), (2, ""), "{args:?}");
        assert!(done.errors.contains(says), "{args:?}: {}", done.errors);
    }
    let bad =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: here, ports: [{port: 80}]}\n";
    let done = run(why_with, &["-f", "-", "a", "b", "80/tcp"], bad);
    assert!(
        done.code == 2 && done.errors.contains("spec.clusterIP: \"here\" is not an address"),
        "{done:?}"
    );
}

/// A datastore with a client whose only way out is a service, and slices that some controller wrote.
fn cluster(slices: &[(&str, Value)]) -> Arc<dyn Store> {
    let store = MemoryStore::etcd();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let pod = |name: &str, app: &str, net: &str| {
        let spec = json!({"orchestrator": "k8s", "node": "n1", "pod": name, "endpoint": "eth0",
            "interfaceName": format!("cali{name}"), "ipNetworks": [net], "profiles": ["open"],
            "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}]});
        (
            Kind::WorkloadEndpoint,
            format!("n1-k8s-{name}-eth0"),
            json!({"app": app}),
            spec,
        )
    };
    let allow = json!([{"action": "Allow"}]);
    let service = json!({"services": {"name": "db"}});
    let mut objects = vec![
        (
            Kind::Profile,
            "open".to_owned(),
            json!({}),
            json!({"ingress": allow, "egress": allow}),
        ),
        pod("client", "client", "10.65.0.1/32"),
        pod("a", "db", "10.65.0.2/32"),
        pod("b", "db", "10.65.0.3/32"),
        (
            Kind::KubernetesService,
            "db".to_owned(),
            json!({}),
            json!({"clusterIP": "10.96.0.10", "selector": {"app": "db"}, "ports": [{"port": 3306, "targetPort": "sql"}]}),
        ),
        (
            Kind::NetworkPolicy,
            "client".to_owned(),
            json!({}),
            json!({"selector": "app == 'client'", "types": ["Egress"],
                "egress": [{"action": "Allow", "destination": service}]}),
        ),
    ];
    for (name, spec) in slices {
        let labels = json!({"kubernetes.io/service-name": "db"});
        objects.push((
            Kind::KubernetesEndpointSlice,
            (*name).to_owned(),
            labels,
            spec.clone(),
        ));
    }
    for (kind, name, labels, spec) in objects {
        let mut meta = json!({"name": name, "labels": labels});
        if kind.namespaced() {
            meta["namespace"] = "shop".into();
        }
        let object = Resource::from_value(kind, json!({"metadata": meta, "spec": spec}))
            .expect("an object of its kind");
        runtime
            .block_on(store.create(object))
            .expect("the store takes it");
    }
    Arc::new(store)
}

#[test]
fn services_of_the_datastore_have_the_endpoints_that_their_slices_say() {
    let slice = |address: &str| json!({"addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": 5432}]});
    let ask = |store: &Arc<dyn Store>, to: &str, port: &str| {
        let args = ["shop/client", to, port, "--kernel", "never"];
        let done = run_over(why_with, &args, "", Some(store.clone()));
        assert_eq!(done.errors, "", "{done:?}");
        done
    };
    let both = cluster(&[("db-1", slice("10.65.0.2")), ("db-2", slice("10.65.0.3"))]);
    let done = ask(&both, "svc:shop/db", "3306/tcp");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.output
            .contains("allowed by NetworkPolicy shop/client egress[0]")
            && done
                .output
                .contains("10.96.0.10:3306 (TCP) is translated to 10.65.0.3:5432, one of 2 pods behind it"),
        "{done:?}"
    );
    assert_eq!(ask(&both, "shop/a", "99/tcp").code, 1);
    // A controller that is behind: the nodes do as it says, and so does the answer.
    let one = cluster(&[("db-1", slice("10.65.0.2"))]);
    assert_eq!(ask(&one, "shop/a", "5432/tcp").code, 0);
    assert_eq!(ask(&one, "shop/b", "5432/tcp").code, 1);
    assert_eq!(ask(&cluster(&[]), "shop/a", "5432/tcp").code, 1);
}

#[test]
fn slices_may_be_among_the_manifests() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: c, labels: {app: c}}\nspec: {containers: [{name: c}]}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: out}\nspec: {ports: [{port: 443}]}\n---\n\
                apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: out-1, labels: {kubernetes.io/service-name: out}}\n\
                addressType: IPv4\nendpoints: [{addresses: [192.0.2.7]}]\nports: [{port: 8443}]\n---\n\
                apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: c, namespace: default}\n\
                spec: {selector: app == 'c', types: [Egress], egress: [{action: Allow, destination: {services: {name: out}}}]}\n";
    let why = |to: &str, port: &str| run(why_with, &["-f", "-", "default/c", to, port], text);
    assert_eq!(
        why("192.0.2.7", "8443/tcp").code,
        0,
        "{:?}",
        why("192.0.2.7", "8443/tcp")
    );
    assert_eq!(why("192.0.2.7", "443/tcp").code, 1);
    assert_eq!(why("192.0.2.8", "8443/tcp").code, 1);
    let bad = text.replace("[{port: 8443}]", "[{port: 8443, protocol: ICMP}]");
    let done = run(why_with, &["-f", "-", "default/c", "192.0.2.7", "1/tcp"], &bad);
    assert!(done.code == 2 && done.errors.contains("ICMP"), "{done:?}");
    let bad = text.replace("labels: {kubernetes.io/service-name: out}", "labels: {}");
    let done = run(why_with, &["-f", "-", "default/c", "192.0.2.7", "1/tcp"], &bad);
    assert!(
        done.code == 2 && done.errors.contains("kubernetes.io/service-name"),
        "{done:?}"
    );
}
