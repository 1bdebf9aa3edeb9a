use std::sync::Arc;

use caracal_store::Store;
use caracal_store_memory::MemoryStore;
use serde_json::Value;
use tempfile::tempdir;

use crate::rig::{changed, example, file, run, run_with};

#[test]
fn equal_states_do_not_differ() {
    let ran = run(&["diff", &example("lab"), &example("lab")]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "No connection is opened or closed.\n"),
        "{}",
        ran.err
    );
}

#[test]
fn what_is_opened_and_closed_is_told() {
    let dir = tempdir().unwrap();
    let new = changed(
        dir.path(),
        &[(
            "app: frontend\n      ports:\n        - port: http",
            "app: frontend\n      ports:\n        - port: 8090",
        )],
    );
    let ran = run(&["diff", &example("lab"), &new]);
    let expected = "shop/frontend -> shop/cart
  - TCP 8081

1 change (+ opened, - closed); 1 pair of endpoints.
";
    assert_eq!((ran.code, ran.out.as_str()), (1, expected), "{}", ran.err);
}

#[test]
fn lost_names_are_a_warning() {
    let dir = tempdir().unwrap();
    let new = changed(
        dir.path(),
        &[(
            "- protocol: UDP\n          port: 53",
            "- protocol: UDP\n          port: 5353",
        )],
    );
    let ran = run(&["diff", &example("lab"), &new]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains(
            "WARNING: this cuts DNS: UDP 53 from shop/cart, shop/frontend, shop/orders to platform/resolver"
        ),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("namespace shop (3) -> platform/resolver\n  + UDP 5353\n  - UDP 53\n"),
        "{}",
        ran.out
    );
}

#[test]
fn json_and_yaml_say_the_same() {
    let dir = tempdir().unwrap();
    let new = changed(dir.path(), &[("quarantine == 'yes'", "quarantine == 'no'")]);
    let json = run(&["diff", &example("lab"), &new, "-o", "json"]);
    let yaml = run(&["diff", &example("lab"), &new, "-o", "yaml"]);
    assert_eq!((json.code, yaml.code), (1, 1));
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value, serde_saphyr::from_str::<Value>(&yaml.out).unwrap());
    let first = &value["changes"][0];
    assert_eq!(first["from"]["members"][0]["workload"], "default/intruder");
    assert_eq!(first["openedText"], "everything");
    assert_eq!(value["pairs"], 7);
}

#[test]
fn an_overlay_says_only_what_is_new_and_reads_standard_input() {
    let policy = "apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: closed, namespace: platform}
spec: {order: 1, selector: app == 'resolver', types: [Ingress], ingress: [{action: Deny, protocol: UDP}]}
";
    let ran = run_with(&["diff", &example("lab"), "-", "--overlay"], policy, None);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("WARNING: this cuts DNS"), "{}", ran.out);
    // In place of everything, the policy alone has nobody to be about.
    let ran = run_with(&["diff", &example("lab"), "-"], policy, None);
    assert!(
        ran.out.contains("only in OLD, not judged: shop/cart"),
        "{}",
        ran.out
    );
}

#[test]
fn the_datastore_is_a_state() {
    let store = Arc::new(MemoryStore::etcd());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let pod = |name: &str, ip: &str| {
        format!(
            "{{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {{namespace: x, name: n1-k8s-{name}-eth0, labels: {{app: {name}}}}}, \
             spec: {{orchestrator: k8s, node: n1, pod: {name}, endpoint: eth0, interfaceName: cali{name}, ipNetworks: [{ip}/32], profiles: [open]}}}}"
        )
    };
    let open = "{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: open}, spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}}";
    let tier =
        "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 1000000}}";
    for text in [
        pod("a", "10.0.0.1"),
        pod("b", "10.0.0.2"),
        open.to_owned(),
        tier.to_owned(),
    ] {
        let document = caracal_api::parse("x", &text).remove(0).unwrap();
        let caracal_api::ManifestObject::Calico(mut resource) = document.object else {
            panic!()
        };
        caracal_api::default_resource(&mut resource);
        runtime.block_on(store.create(resource)).unwrap();
    }
    let store: Arc<dyn Store> = store;
    let dir = tempdir().unwrap();
    let policy = file(
        dir.path(),
        "p.yaml",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: {selector: app == 'a', types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [22]}}]}\n",
    );
    let ran = run_with(&["diff", "live", &policy, "--overlay"], "", Some(store));
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.out
            .starts_with("x/b; outside (0.0.0.0/0) -> x/a\n  - everything but TCP 22\n"),
        "{}",
        ran.out
    );
}

/// Two nodes and a pod; failsafe ports are closed, so that policy decides alone.
const NODES: &str = "\
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}
---
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: shop}
spec: {nodeName: n1, containers: [{name: c}]}
status: {podIPs: [{ip: 10.65.0.1}]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1, labels: {role: node}}
spec: {node: n1, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n2, labels: {role: node}}
spec: {node: n2, interfaceName: eth0, expectedIPs: [192.0.2.2]}
---
";

fn nodes_policy(annotations: &str, action: &str) -> String {
    format!(
        "{NODES}apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: nodes\n{annotations}spec:\n  \
         selector: role == 'node'\n  types: [Ingress, Egress]\n  ingress: [{{action: {action}}}]\n  egress: [{{action: Allow}}]\n"
    )
}

#[test]
fn everything_that_a_cluster_lives_by_is_warned_of() {
    let dir = tempdir().unwrap();
    let old = file(dir.path(), "old.yaml", &nodes_policy("", "Allow"));
    let new = file(dir.path(), "new.yaml", &nodes_policy("", "Deny"));
    let ran = run(&["diff", &old, &new]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for what in [
        "the API server: TCP 6443",
        "DNS: TCP 53, UDP 53",
        "the datastore (etcd): TCP 2379, TCP 2380",
        "the datastore (Typha): TCP 5473",
        "BGP: TCP 179",
        "SSH: TCP 22",
    ] {
        assert!(
            ran.out.contains(&format!("WARNING: this cuts {what}")),
            "{what}: {}",
            ran.out
        );
    }
    let back = run(&["diff", &new, &old]);
    assert!(back.code == 1 && !back.out.contains("WARNING"), "{}", back.out);
}

#[test]
fn what_was_not_confirmed_is_what_it_was_before() {
    let dir = tempdir().unwrap();
    let trial = |until: &str| {
        format!(
            "  annotations:\n    confirm.caracal/since: 2020-01-01T00:00:00Z\n    confirm.caracal/until: {until}\n    \
             confirm.caracal/previous: '{{\"spec\":{{\"selector\":\"role == ''node''\",\"types\":[\"Ingress\",\"Egress\"],\
             \"ingress\":[{{\"action\":\"Allow\"}}],\"egress\":[{{\"action\":\"Allow\"}}]}}}}'\n"
        )
    };
    let old = file(dir.path(), "old.yaml", &nodes_policy("", "Allow"));
    let over = trial("2020-01-01T00:01:00Z");
    let over = file(dir.path(), "over.yaml", &nodes_policy(&over, "Deny"));
    let ran = run(&["diff", &old, &over]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "No connection is opened or closed.\n"),
        "{}",
        ran.err
    );
    assert!(
        ran.err
            .contains("GlobalNetworkPolicy(nodes) was not confirmed before 2020-01-01T00:01:00Z"),
        "{}",
        ran.err
    );
    let on = trial("2199-01-01T00:00:00Z");
    let on = file(dir.path(), "on.yaml", &nodes_policy(&on, "Deny"));
    let ran = run(&["diff", &old, &on]);
    assert!(
        ran.code == 1 && ran.out.contains("WARNING: this cuts SSH"),
        "{}{}",
        ran.out,
        ran.err
    );
    assert!(ran.err.contains("is on trial until 2199"), "{}", ran.err);
}
