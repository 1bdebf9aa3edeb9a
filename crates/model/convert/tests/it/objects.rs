//! Namespace, ServiceAccount and Pod.

use caracal_api::Resource;
use caracal_convert::{Pod, foreign, pod};
use serde_json::{Value, json};

use crate::object;

fn converted(text: &str) -> Value {
    foreign(&object(text))
        .unwrap_or_else(|e| panic!("{e}"))
        .remove(0)
        .to_value()
}

#[test]
fn a_namespace_becomes_a_profile() {
    let p = converted(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, uid: u1, labels: {team: a, projectcalico.org/name: liar}}\nspec: {finalizers: [kubernetes]}\n",
    );
    assert_eq!(p["kind"], "Profile");
    assert_eq!(p["metadata"], json!({"name": "kns.prod", "uid": "u1"}));
    assert_eq!(
        p["spec"],
        json!({
            "ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}],
            "labelsToApply": {"pcns.projectcalico.org/name": "prod", "pcns.team": "a"},
        })
    );
}

#[test]
fn a_service_account_becomes_a_profile_without_rules() {
    let p = converted(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: prod, labels: {role: x}}\nsecrets: []\n",
    );
    assert_eq!(p["metadata"]["name"], "ksa.prod.web");
    assert_eq!(
        p["spec"],
        json!({"labelsToApply": {"pcsa.projectcalico.org/name": "web", "pcsa.role": "x"}})
    );
}

fn base() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "prod", "labels": {"app": "web", "projectcalico.org/namespace": "other"}},
        "spec": {
            "nodeName": "node-1", "serviceAccountName": "web",
            "containers": [{"name": "c", "image": "i", "ports": [
                {"name": "http", "containerPort": 80}, {"containerPort": 81}, {"containerPort": 53, "protocol": "UDP", "hostPort": 5353}]}],
            "initContainers": [{"name": "i", "ports": [{"name": "sync", "containerPort": 9, "protocol": "SCTP"}]}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    })
}

fn with(pointer: &str, value: Value) -> Pod {
    let mut p = base();
    let (parent, field) = pointer.rsplit_once('/').expect("a path");
    p.pointer_mut(parent).expect("a place")[field] = value;
    serde_json::from_value(p).expect("reads")
}

#[test]
fn a_pod_becomes_an_endpoint() {
    let text = serde_json::to_string(&base()).expect("JSON");
    let w = converted(&text);
    assert_eq!(w["kind"], "WorkloadEndpoint");
    assert_eq!(
        w["metadata"],
        json!({
            "name": "node--1-k8s-web--0-eth0", "namespace": "prod",
            "labels": {
                "app": "web", "projectcalico.org/namespace": "prod", "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": "web",
            },
        })
    );
    let mut spec = w["spec"].clone();
    let name = spec["interfaceName"].take();
    assert_eq!(name.as_str().map(str::len), Some(15));
    spec.as_object_mut().expect("a map").remove("interfaceName");
    assert_eq!(
        spec,
        json!({
            "orchestrator": "k8s", "node": "node-1", "pod": "web-0", "endpoint": "eth0", "serviceAccountName": "web",
            "ipNetworks": ["10.0.0.1/32", "fd00::1/128"], "profiles": ["kns.prod", "ksa.prod.web"],
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80},
                {"protocol": "UDP", "port": 53, "hostPort": 5353},
                {"name": "sync", "protocol": "SCTP", "port": 9},
            ],
        })
    );
    let bad = caracal_api::validate(&serde_json::from_value::<Resource>(w).expect("reads"));
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn pods_that_are_no_endpoints() {
    let ended = json!([{"name": "c", "state": {"terminated": {"exitCode": 0}}}]);
    for (at, value, is) in [
        ("/spec/hostNetwork", json!(true), false),
        ("/spec/nodeName", json!(""), false),
        ("/status/phase", json!("Succeeded"), false),
        ("/status/phase", json!("Failed"), false),
        ("/status/phase", json!("Pending"), true),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), true),
        ("/status/containerStatuses", ended.clone(), true),
        (
            "/metadata/annotations",
            json!({"cni.projectcalico.org/podIP": ""}),
            true,
        ),
    ] {
        assert_eq!(pod(&with(at, value.clone())).is_some(), is, "{at} {value}");
    }
    for (field, value) in [("containerStatuses", ended), ("podIP", json!("10.0.0.1"))] {
        let mut p = base();
        p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        p["metadata"]["annotations"] =
            json!({"cni.projectcalico.org/podIP": if field == "podIP" { "" } else { "10.0.0.1/32" }});
        p["status"][field] = value;
        assert!(
            pod(&serde_json::from_value(p).expect("reads")).is_none(),
            "{field}"
        );
    }
}

#[test]
fn addresses_come_from_the_annotations_first() {
    for (annotations, nets) in [
        (
            json!({"cni.projectcalico.org/podIPs": "10.9.0.1/32,fd09::1/128", "cni.projectcalico.org/podIP": "10.8.0.1/32"}),
            json!(["10.9.0.1/32", "fd09::1/128"]),
        ),
        (
            json!({"cni.projectcalico.org/podIP": "10.8.0.1/32"}),
            json!(["10.8.0.1/32"]),
        ),
        (
            json!({"vpc.amazonaws.com/pod-ips": "10.7.0.1"}),
            json!(["10.7.0.1/32"]),
        ),
        (
            json!({"cni.projectcalico.org/podIP": ""}),
            json!(["10.0.0.1/32", "fd00::1/128"]),
        ),
    ] {
        let w = pod(&with("/metadata/annotations", annotations.clone())).expect("an endpoint");
        assert!(w.problems.is_empty());
        assert_eq!(json!(w.object.spec.ip_networks), nets, "{annotations}");
    }
    let w = pod(&with("/status/podIPs", Value::Array(vec![]))).expect("an endpoint");
    assert_eq!(w.object.spec.ip_networks, ["10.0.0.1/32"]);
}

#[test]
fn other_annotations() {
    let w = pod(&with(
        "/metadata/annotations",
        json!({
            "cni.projectcalico.org/containerID": "abc",
            "cni.projectcalico.org/floatingIPs": "[\"192.0.2.1\", \"2001:db8::1\"]",
            "cni.projectcalico.org/allowedSourcePrefixes": "[\"192.0.2.0/24\"]",
        }),
    ))
    .expect("an endpoint");
    assert!(w.problems.is_empty(), "{:?}", w.problems);
    let spec = &w.object.spec;
    assert_eq!(
        (
            spec.container_id.as_str(),
            spec.allow_spoofed_source_prefixes.as_slice()
        ),
        ("abc", &["192.0.2.0/24".to_owned()][..])
    );
    let nats: Vec<(&str, &str)> = spec
        .ip_nats
        .iter()
        .map(|n| (n.internal_ip.as_str(), n.external_ip.as_str()))
        .collect();
    assert_eq!(nats, [("10.0.0.1", "192.0.2.1"), ("fd00::1", "2001:db8::1")]);
}

#[test]
fn what_is_wrong_with_a_pod_is_named_and_left_out() {
    for (at, value, place) in [
        (
            "/metadata/annotations",
            json!({"cni.projectcalico.org/podIPs": "10.0.0.0/24"}),
            "podIPs",
        ),
        (
            "/metadata/annotations",
            json!({"cni.projectcalico.org/podIPs": "x"}),
            "podIPs",
        ),
        (
            "/metadata/annotations",
            json!({"cni.projectcalico.org/floatingIPs": "192.0.2.1"}),
            "floatingIPs",
        ),
        (
            "/metadata/annotations",
            json!({"cni.projectcalico.org/allowedSourcePrefixes": "[\"x\"]"}),
            "allowedSourcePrefixes",
        ),
        ("/status/podIPs", json!([{"ip": "nope"}]), "status.podIPs[0].ip"),
        (
            "/spec/containers",
            json!([{"ports": [{"name": "a", "containerPort": 0}]}]),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            "/spec/containers",
            json!([{"ports": [{"name": "a", "containerPort": 70000}]}]),
            "containerPort",
        ),
        (
            "/spec/containers",
            json!([{"ports": [{"name": "a", "containerPort": 1, "protocol": "X"}]}]),
            "protocol",
        ),
        (
            "/spec/initContainers",
            json!([{"ports": [{"hostPort": -1, "containerPort": 1}]}]),
            "spec.initContainers[0].ports[0].hostPort",
        ),
    ] {
        let w = pod(&with(at, value.clone())).expect("an endpoint");
        assert_eq!(w.problems.len(), 1, "{value}: {:?}", w.problems);
        assert!(w.problems[0].to_string().contains(place), "{:?}", w.problems);
    }
}

#[test]
fn a_pod_without_an_account_cannot_claim_one() {
    let mut p = base();
    p["spec"]["serviceAccountName"] = json!("");
    p["metadata"]["labels"]["projectcalico.org/serviceaccount"] = json!("admin");
    let w = pod(&serde_json::from_value(p).expect("reads")).expect("an endpoint");
    assert_eq!(
        w.object.metadata.labels.get("projectcalico.org/serviceaccount"),
        None
    );
    assert_eq!(w.object.spec.profiles, ["kns.prod"]);
}

#[test]
fn kinds_without_a_counterpart() {
    let mut other = object("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    other.kind = "ConfigMap".to_owned();
    let e = foreign(&other).expect_err("refused").to_string();
    assert!(e.contains("ConfigMap of v1 has no counterpart"), "{e}");
}
