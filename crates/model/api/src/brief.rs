//! Workload endpoints as the agents of other nodes read them: there are a hundred thousand, and only a few fields of each
//! matter there.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny},
};

use crate::{Object, ObjectMeta, Resource, WorkloadEndpointSpec, unreadable::has_odd_lists};

/// Reads the workload endpoint of another node than `node` as far as policy looks at it: labels, node, orchestrator, service
/// account, profiles and addresses. The rest is held to its types and left out; the object has no name yet.
///
/// Nothing for an endpoint of `node`, for one with anything that is not usual, and for what cannot be read: then
/// [`read_stored`](crate::read_stored) tells. So what is read here is what that would have read, and nothing else.
#[must_use]
pub fn read_brief_endpoint(json: &[u8], node: &str) -> Option<Resource> {
    let Brief { metadata, spec } = serde_json::from_slice(json).ok()?;
    if spec.node == node || has_odd_lists(json) {
        return None;
    }
    let metadata = ObjectMeta {
        labels: metadata.labels.unwrap_or_default(),
        ..ObjectMeta::default()
    };
    let spec = WorkloadEndpointSpec {
        orchestrator: spec.orchestrator.into_owned(),
        node: spec.node.into_owned(),
        service_account_name: spec.service_account_name.into_owned(),
        ip_networks: spec.ip_networks.unwrap_or_default(),
        profiles: spec.profiles.unwrap_or_default(),
        ..WorkloadEndpointSpec::default()
    };
    Some(Resource::WorkloadEndpoint(Box::new(Object {
        metadata,
        spec,
        status: None,
    })))
}

/// A field that is seldom there, and then looked at closely.
#[derive(Default)]
struct Rare;

impl<'de> Deserialize<'de> for Rare {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(d)?;
        Err(D::Error::custom("read it whole"))
    }
}

/// A text that is a text, and not kept.
#[derive(Default)]
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl serde::de::Visitor<'_> for Any {
            type Value = Text;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        d.deserialize_str(Any)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Brief<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Text,
    generate_name: Rare,
    namespace: Option<Text>,
    uid: Option<Text>,
    resource_version: Option<Text>,
    generation: Rare,
    creation_timestamp: Option<Text>,
    deletion_timestamp: Rare,
    labels: Option<BTreeMap<String, String>>,
    annotations: Rare,
    finalizers: Rare,
    owner_references: Rare,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    orchestrator: Cow<'a, str>,
    workload: Text,
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(rename = "containerID")]
    container_id: Text,
    pod: Text,
    endpoint: Text,
    #[serde(borrow)]
    service_account_name: Cow<'a, str>,
    ip_networks: Option<Vec<String>>,
    #[serde(rename = "ipNATs")]
    ip_nats: Rare,
    #[serde(rename = "ipv4Gateway")]
    ipv4_gateway: Text,
    #[serde(rename = "ipv6Gateway")]
    ipv6_gateway: Text,
    profiles: Option<Vec<String>>,
    interface_name: Text,
    mac: Text,
    ports: Rare,
    allow_spoofed_source_prefixes: Rare,
    qos_controls: Rare,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Kind, read_stored};

    fn usual() -> Value {
        json!({
            "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"name": "n2-k8s-p-eth0", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"a": "b", "\"c\"": "d\n"}, "managedFields": [{"x": 1}], "unknown": {"y": 1}},
            "spec": {"node": "n\"2\"", "orchestrator": "k8s", "pod": "p", "endpoint": "eth0", "containerID": "c",
                "interfaceName": "cali1", "mac": "ee:ee:ee:ee:ee:ee", "serviceAccountName": "s", "workload": "",
                "ipv4Gateway": "", "profiles": ["kns.ns"], "ipNetworks": ["10.0.0.1/32", "fd00::1/128"], "more": {"z": null}},
        })
    }

    fn brief(value: &Value) -> Option<Resource> {
        read_brief_endpoint(value.to_string().as_bytes(), "n1")
    }

    /// What is read whole, without what is left out.
    fn cut(value: &Value) -> Option<Resource> {
        let Ok(Resource::WorkloadEndpoint(mut o)) =
            read_stored(Kind::WorkloadEndpoint, value.to_string().as_bytes())
        else {
            return None;
        };
        let spec = &o.spec;
        o.spec = WorkloadEndpointSpec {
            orchestrator: spec.orchestrator.clone(),
            node: spec.node.clone(),
            service_account_name: spec.service_account_name.clone(),
            ip_networks: spec.ip_networks.clone(),
            profiles: spec.profiles.clone(),
            ..WorkloadEndpointSpec::default()
        };
        o.metadata = ObjectMeta {
            labels: o.metadata.labels.clone(),
            ..ObjectMeta::default()
        };
        Some(Resource::WorkloadEndpoint(o))
    }

    #[test]
    fn what_is_usual_is_read_as_the_whole_is() {
        let value = usual();
        assert!(brief(&value).is_some());
        assert_eq!(brief(&value), cut(&value));
        for bare in [
            json!({}),
            json!({"spec": {"profiles": null}, "metadata": {"labels": null, "uid": null}}),
        ] {
            assert_eq!(brief(&bare), cut(&bare));
            assert!(brief(&bare).is_some());
        }
    }

    #[test]
    fn an_endpoint_of_the_node_is_read_whole() {
        let mut value = usual();
        value["spec"]["node"] = "n1".into();
        assert_eq!(brief(&value), None);
    }

    /// A field of another type, or gone, or of a value that is seldom there: read alike, or left to who reads it whole.
    #[test]
    fn whatever_a_field_holds_nothing_is_read_that_the_whole_would_not_be() {
        let odd = [
            json!(null),
            json!(5),
            json!(true),
            json!("x"),
            json!([]),
            json!(["x"]),
            json!([["x"]]),
            json!({}),
            json!({"a": 1}),
            json!({"a": "b"}),
            json!([{"name": "http", "protocol": "TCP", "port": 80}]),
        ];
        let fields = [
            "/metadata",
            "/spec",
            "/metadata/name",
            "/metadata/generateName",
            "/metadata/namespace",
            "/metadata/uid",
            "/metadata/resourceVersion",
            "/metadata/generation",
            "/metadata/creationTimestamp",
            "/metadata/deletionTimestamp",
            "/metadata/labels",
            "/metadata/labels/a",
            "/metadata/annotations",
            "/metadata/finalizers",
            "/metadata/ownerReferences",
            "/metadata/managedFields",
            "/spec/orchestrator",
            "/spec/workload",
            "/spec/node",
            "/spec/containerID",
            "/spec/pod",
            "/spec/endpoint",
            "/spec/serviceAccountName",
            "/spec/ipNetworks",
            "/spec/ipNATs",
            "/spec/ipv4Gateway",
            "/spec/ipv6Gateway",
            "/spec/profiles",
            "/spec/interfaceName",
            "/spec/mac",
            "/spec/ports",
            "/spec/allowSpoofedSourcePrefixes",
            "/spec/qosControls",
            "/spec/more",
        ];
        let mut both = 0;
        for field in fields {
            for odd in &odd {
                let mut value = usual();
                let (parent, name) = field.rsplit_once('/').unwrap();
                value.pointer_mut(parent).unwrap()[name] = odd.clone();
                if let Some(read) = brief(&value) {
                    assert_eq!(Some(read), cut(&value), "{field} {odd}");
                    both += 1;
                }
            }
        }
        assert!(both > 50, "{both}");
        // What policy looks at and is seldom there is not lost.
        for field in ["ports", "ipNATs", "allowSpoofedSourcePrefixes", "qosControls"] {
            let mut value = usual();
            value["spec"][field] = json!([{"name": "http", "protocol": "TCP", "port": 80}]);
            assert_eq!(brief(&value), None, "{field}");
        }
    }
}
