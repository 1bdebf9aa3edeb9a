use std::{collections::BTreeMap, sync::Arc};

use caracal_api::{
    IpamBlockSpec, Kind, Object, Resource, ResourceKey, Unreadable, read_bare_block, read_stored,
};
use caracal_store::{derived_uid, has_status, unreadable};
use caracal_wire::{Bytes, KeyValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::keys;

/// Fields of a block whose names in etcd are not those of the v3 kind.
const BLOCK_NAMES: &[(&str, &str)] = &[("affinityClaimTime", "affinity_claim_time")];
const ATTRIBUTE_NAMES: &[(&str, &str)] = &[("alternateOwnerAttrs", "alternate")];
const CONFIG_NAMES: &[(&str, &str)] = &[
    ("strictAffinity", "strict_affinity"),
    ("autoAllocateBlocks", "auto_allocate_blocks"),
];

/// Whether the kind is stored as its bare content, without metadata.
fn bare(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::IpamBlock | Kind::IpamHandle | Kind::BlockAffinity | Kind::IpamConfiguration
    )
}

/// Version and name of the kinds that are stored as Kubernetes has them.
fn kubernetes(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::KubernetesService => Some(("v1", "Service")),
        Kind::KubernetesEndpointSlice => Some(("discovery.k8s.io/v1", SLICE)),
        _ => None,
    }
}

/// The kind whose content has no `spec` around it.
const SLICE: &str = "EndpointSlice";

fn as_kubernetes((version, name): (&str, &str), mut value: Value) -> Value {
    value["apiVersion"] = version.into();
    value["kind"] = name.into();
    if name == SLICE
        && let Some(fields) = value.as_object_mut()
        && let Some(Value::Object(spec)) = fields.shift_remove("spec")
    {
        fields.extend(spec);
    }
    value
}

/// A slice as it is stored, with a `spec` around its content.
fn slice_of_stored(stored: &[u8]) -> Result<Value, serde_json::Error> {
    let mut fields: Map<String, Value> = serde_json::from_slice(stored)?;
    let metadata = fields.shift_remove("metadata").unwrap_or_else(|| json!({}));
    Ok(json!({ "metadata": metadata, "spec": fields }))
}

/// The JSON that is stored for an object.
pub(crate) fn to_stored(resource: &Resource) -> Value {
    let mut value = resource.to_value();
    if !bare(resource.kind()) {
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.shift_remove("resourceVersion");
        }
        return match kubernetes(resource.kind()) {
            Some(names) => as_kubernetes(names, value),
            None => value,
        };
    }
    let spec = match value.get_mut("spec").map(Value::take) {
        Some(Value::Object(spec)) => spec,
        _ => Map::new(),
    };
    match resource.kind() {
        Kind::IpamBlock => stored_block(spec),
        Kind::IpamHandle => {
            json!({ "block": field(&spec, "block", json!({})), "deleted": field(&spec, "deleted", json!(false)) })
        }
        Kind::BlockAffinity => {
            json!({ "state": field(&spec, "state", json!("")), "deleted": field(&spec, "deleted", json!(false)) })
        }
        _ => stored_config(spec),
    }
}

/// The text that is stored for an object.
pub(crate) fn to_text(resource: &Resource) -> Bytes {
    let text = match resource {
        // Blocks are large and written for each pod.
        Resource::IpamBlock(block) => serde_json::to_string(&StoredBlock::of(&block.spec)).ok(),
        _ => None,
    };
    text.unwrap_or_else(|| to_stored(resource).to_string()).into()
}

/// A block as it is stored.
#[derive(Serialize)]
struct StoredBlock<'a> {
    cidr: &'a str,
    affinity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity_claim_time: Option<&'a str>,
    allocations: &'a [Option<usize>],
    unallocated: &'a [usize],
    attributes: Vec<StoredAttribute<'a>>,
    #[serde(rename = "sequenceNumber")]
    sequence_number: u64,
    #[serde(rename = "sequenceNumberForAllocation")]
    sequence_number_for_allocation: &'a BTreeMap<String, u64>,
    deleted: bool,
    #[serde(rename = "strictAffinity", skip_serializing_if = "std::ops::Not::not")]
    strict_affinity: bool,
}

#[derive(Serialize)]
struct StoredAttribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    handle_id: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secondary: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alternate: &'a BTreeMap<String, String>,
    #[serde(rename = "releasedAt", skip_serializing_if = "Option::is_none")]
    released_at: Option<&'a str>,
}

impl<'a> StoredBlock<'a> {
    fn of(spec: &'a IpamBlockSpec) -> Self {
        let attributes = spec.attributes.iter().map(|a| StoredAttribute {
            handle_id: a.handle_id.as_deref(),
            secondary: &a.secondary,
            alternate: &a.alternate_owner_attrs,
            released_at: a.released_at.as_deref(),
        });
        Self {
            cidr: &spec.cidr,
            affinity: spec.affinity.as_deref(),
            affinity_claim_time: spec.affinity_claim_time.as_deref(),
            allocations: &spec.allocations,
            unallocated: &spec.unallocated,
            attributes: attributes.collect(),
            sequence_number: spec.sequence_number,
            sequence_number_for_allocation: &spec.sequence_number_for_allocation,
            deleted: spec.deleted,
            strict_affinity: spec.strict_affinity,
        }
    }
}

fn field(spec: &Map<String, Value>, name: &str, default: Value) -> Value {
    spec.get(name).cloned().unwrap_or(default)
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.shift_remove(from) {
        map.entry(to).or_insert(value);
    }
}

fn attributes(map: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    map.get_mut("attributes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

fn stored_block(mut spec: Map<String, Value>) -> Value {
    for (ours, theirs) in BLOCK_NAMES {
        rename(&mut spec, ours, theirs);
    }
    for attribute in attributes(&mut spec) {
        for (ours, theirs) in ATTRIBUTE_NAMES {
            rename(attribute, ours, theirs);
        }
    }
    // Calico writes these whether they say something or not.
    spec.entry("affinity").or_insert(Value::Null);
    spec.entry("sequenceNumberForAllocation").or_insert(json!({}));
    spec.entry("deleted").or_insert(json!(false));
    Value::Object(spec)
}

fn stored_config(mut spec: Map<String, Value>) -> Value {
    for (ours, theirs) in CONFIG_NAMES {
        rename(&mut spec, ours, theirs);
    }
    // Calico leaves false out, and reads what is left out as false.
    spec.retain(|_, v| *v != json!(false));
    Value::Object(spec)
}

/// Reads a stored value; the error says what is wrong with it.
pub(crate) fn from_stored(key: &ResourceKey, kv: &KeyValue) -> Result<Resource, Unreadable> {
    // One of nobody may have its owner in a field of old.
    let block = (key.kind == Kind::IpamBlock)
        .then(|| read_bare_block(&kv.value).filter(|b| b.affinity.is_some()))
        .flatten();
    let mut resource = if let Some(block) = block {
        Object::new(&*key.name, block).into()
    } else if bare(key.kind) {
        let value: Value = serde_json::from_slice(&kv.value).map_err(|e| e.to_string())?;
        let Value::Object(content) = value else {
            return Err("the value is not a JSON object".into());
        };
        let spec = spec_of_stored(key, &kv.key, content)?;
        let text = json!({ "spec": spec }).to_string();
        read_stored(key.kind, text.as_bytes()).map_err(|mut e| {
            e.reason = e.reason.strip_prefix("spec.").unwrap_or(&e.reason).to_owned();
            if let Some(rest) = &mut e.stand_in {
                identify(Arc::make_mut(rest), key, kv);
            }
            e
        })?
    } else if key.kind == Kind::KubernetesEndpointSlice {
        let value = slice_of_stored(&kv.value).map_err(|e| e.to_string())?;
        // What is its spec here stands beside its metadata there.
        read_stored(key.kind, value.to_string().as_bytes()).map_err(|mut e| {
            e.reason = e.reason.strip_prefix("spec.").unwrap_or(&e.reason).to_owned();
            e
        })?
    } else {
        read_stored(key.kind, &kv.value).map_err(|mut e| {
            for rest in [&mut e.stand_in, &mut e.bare].into_iter().flatten() {
                let rest = Arc::make_mut(rest);
                keep_status(rest, kv);
                identify(rest, key, kv);
            }
            e
        })?
    };
    identify(&mut resource, key, kv);
    Ok(resource)
}

/// What is left of an object that cannot be read when its status is to be written: all but its spec.
pub(crate) fn without_spec(key: &ResourceKey, kv: &KeyValue) -> Option<Resource> {
    let mut rest = unreadable(key)?;
    keep_status(&mut rest, kv);
    identify(&mut rest, key, kv);
    Some(rest)
}

fn keep_status(resource: &mut Resource, kv: &KeyValue) {
    let kind = resource.kind();
    if !has_status(kind) {
        return;
    }
    let stored: Option<Value> = serde_json::from_slice(&kv.value).ok();
    let status = stored.and_then(|mut v| v.get_mut("status").map(Value::take));
    let alone = status.and_then(|s| Resource::from_value(kind, json!({"metadata": {}, "status": s})).ok());
    if let Some(alone) = alone {
        resource.copy_status_from(&alone);
    }
}

/// Gives an object the name and what etcd keeps beside its value.
pub(crate) fn identify(resource: &mut Resource, key: &ResourceKey, kv: &KeyValue) {
    let meta = resource.metadata_mut();
    // The key decides; the value may be a copy made by hand.
    if *meta.name != *key.name {
        meta.name = key.name.to_string();
    }
    if meta.namespace.as_deref() != key.namespace() {
        meta.namespace = key.namespace().map(str::to_owned);
    }
    if meta.uid.as_ref().is_none_or(String::is_empty) {
        meta.uid = Some(derived_uid(key, &kv.create_revision.to_string()));
    }
    meta.resource_version = Some(kv.mod_revision.to_string());
}

fn spec_of_stored(
    key: &ResourceKey,
    etcd_key: &[u8],
    mut content: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    match key.kind {
        Kind::IpamBlock => {
            for (ours, theirs) in BLOCK_NAMES {
                rename(&mut content, theirs, ours);
            }
            for attribute in attributes(&mut content) {
                for (ours, theirs) in ATTRIBUTE_NAMES {
                    rename(attribute, theirs, ours);
                }
            }
            // What Calico before v3 wrote instead of the affinity.
            let host = content.get("hostAffinity").and_then(Value::as_str);
            if let Some(host) = host
                && content.get("affinity").is_none_or(Value::is_null)
            {
                let affinity = format!("host:{host}");
                content.insert("affinity".to_owned(), affinity.into());
            }
        }
        Kind::IpamHandle => {
            content.insert("handleID".to_owned(), key.name.as_ref().into());
        }
        Kind::BlockAffinity => {
            let text = std::str::from_utf8(etcd_key).unwrap_or_default();
            let (owner, node, (addr, len)) =
                keys::affinity_parts(text).ok_or_else(|| "the key names no node and no CIDR".to_owned())?;
            content.insert("type".to_owned(), owner.into());
            content.insert("node".to_owned(), node.into());
            content.insert("cidr".to_owned(), format!("{addr}/{len}").into());
        }
        _ => {
            for (ours, theirs) in CONFIG_NAMES {
                rename(&mut content, theirs, ours);
                content.entry(*ours).or_insert(json!(false));
            }
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use caracal_api::{IpamBlockSpec, IpamConfigurationSpec, Object};
    use caracal_wire::Bytes;

    use super::*;

    fn kv(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            create_revision: 3,
            mod_revision: 9,
            ..KeyValue::default()
        }
    }

    const BLOCK: &str = r#"{"cidr":"10.0.0.0/30","affinity":"host:n1","affinity_claim_time":"2026-01-02T03:04:05Z","allocations":[0,null,null,1],"unallocated":[1,2],"attributes":[{"handle_id":"h","secondary":{"node":"n1"},"alternate":{"pod":"p"}},{}],"sequenceNumber":7,"sequenceNumberForAllocation":{"0":6},"deleted":false}"#;

    #[test]
    fn a_block_is_raw_json_with_calicos_names() {
        let at = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";
        let key = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
        let r = from_stored(&key, &kv(at, BLOCK)).unwrap();
        let Resource::IpamBlock(b) = &r else {
            panic!("{r:?}")
        };
        assert_eq!(
            b.spec.affinity_claim_time.as_deref(),
            Some("2026-01-02T03:04:05Z")
        );
        assert_eq!(b.spec.attributes[0].alternate_owner_attrs["pod"], "p");
        assert_eq!(b.metadata.resource_version.as_deref(), Some("9"));
        assert!(b.metadata.uid.is_some());
        let stored = to_stored(&r);
        assert_eq!(stored, serde_json::from_str::<Value>(BLOCK).unwrap());
    }

    /// Both ways to write a block, and both to read it.
    #[test]
    fn a_block_is_the_same_whichever_way() {
        let key = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
        let odd = r#"{"cidr":"10.0.0.0/30","affinity":null,"strictAffinity":true,"allocations":null,"unallocated":[],"attributes":[{"handle_id":null,"secondary":{"\"[":"["},"releasedAt":"t"},{"secondary":null,"alternate":null}],"sequenceNumber":7,"deleted":true,"future":[[1]]}"#;
        for text in [BLOCK, odd, r#"{"cidr":"10.0.0.0/30","affinity":"host:n"}"#] {
            let read = from_stored(&key, &kv("", text)).unwrap();
            let written: Value = serde_json::from_slice(&to_text(&read)).unwrap();
            assert_eq!(written, to_stored(&read));
            let again = from_stored(&key, &kv("", &written.to_string())).unwrap();
            assert_eq!(again, read);
        }
        let mut as_kind = serde_json::from_str::<Value>(BLOCK).unwrap();
        let time = as_kind["affinity_claim_time"].take();
        as_kind["affinityClaimTime"] = time;
        as_kind
            .as_object_mut()
            .unwrap()
            .shift_remove("affinity_claim_time");
        let ours = from_stored(&key, &kv("", &as_kind.to_string())).unwrap();
        assert_eq!(ours, from_stored(&key, &kv("", BLOCK)).unwrap());
    }

    #[test]
    fn a_list_in_the_place_of_an_object_is_refused_in_ipam_too() {
        for (kind, name, stored, field) in [
            (
                Kind::IpamBlock,
                "10-0-0-0-30",
                r#"{"cidr":"10.0.0.0/30","affinity":"host:n","attributes":[["h"]]}"#,
                "attributes[0]: found a list",
            ),
            (Kind::IpamHandle, "h", r#"{"block":["10.0.0.0/26"]}"#, "block: "),
            (
                Kind::IpamBlock,
                "10-0-0-0-30",
                r#"["10.0.0.0/30"]"#,
                "the value is not",
            ),
        ] {
            let key = ResourceKey::global(kind, name);
            let error = from_stored(&key, &kv("", stored)).unwrap_err();
            assert!(error.reason.starts_with(field), "{error}");
        }
    }

    #[test]
    fn of_a_block_and_a_node_with_a_bad_field_the_rest_is_followed() {
        let key = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
        for (good, bad, field) in [
            (
                r#""handle_id":"h""#,
                r#""handle_id":5"#,
                "attributes[0].handle_id: ",
            ),
            (r#""node":"n1""#, r#""node":7"#, "attributes[0].secondary.node: "),
            ("[0,null,null,1]", r#"["0",null,null,1]"#, "allocations[0]: "),
        ] {
            let text = BLOCK.replace(good, bad);
            assert_ne!(text, BLOCK);
            let error = from_stored(&key, &kv("", &text)).unwrap_err();
            assert!(error.reason.starts_with(field), "{error}");
            let Some(Resource::IpamBlock(rest)) = error.stand_in.as_deref() else {
                panic!("{error:?}")
            };
            assert_eq!(rest.metadata.name, "10-0-0-0-30");
            assert_eq!(rest.metadata.resource_version.as_deref(), Some("9"));
            assert_eq!(rest.spec.affinity.as_deref(), Some("host:n1"));
            assert_eq!(
                (rest.spec.allocations[3], rest.spec.attributes.len()),
                (Some(1), 2)
            );
        }
        let key = ResourceKey::global(Kind::Node, "n1");
        let text = r#"{"metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"192.0.2.1/24"},"ipv4VXLANTunnelAddr":5}}"#;
        let error = from_stored(&key, &kv("", text)).unwrap_err();
        assert!(error.reason.starts_with("spec.ipv4VXLANTunnelAddr: "), "{error}");
        let Some(Resource::Node(rest)) = error.stand_in.as_deref() else {
            panic!("{error:?}")
        };
        assert_eq!(rest.metadata.name, "n1");
        assert_eq!(rest.spec.bgp.as_ref().unwrap().ipv4_address, "192.0.2.1/24");
    }

    #[test]
    fn an_old_host_affinity_is_understood() {
        let key = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
        let r = from_stored(
            &key,
            &kv(
                "",
                r#"{"cidr":"10.0.0.0/30","hostAffinity":"n2","affinity":null}"#,
            ),
        );
        assert!(matches!(r, Ok(Resource::IpamBlock(b)) if b.spec.affinity.as_deref() == Some("host:n2")));
    }

    #[test]
    fn an_empty_block_has_the_fields_calico_always_writes() {
        let r = Object::new("x", IpamBlockSpec::default()).into();
        let v = to_stored(&r);
        assert_eq!(v["affinity"], Value::Null);
        assert_eq!(v["deleted"], json!(false));
        assert_eq!(v["sequenceNumberForAllocation"], json!({}));
        assert_eq!(v["allocations"], json!([]));
    }

    #[test]
    fn handle_affinity_and_config_take_what_the_key_says() {
        let key = ResourceKey::global(Kind::IpamHandle, "h.1");
        let r = from_stored(&key, &kv("", r#"{"block":{"10.0.0.0/26":2},"deleted":false}"#)).unwrap();
        assert!(matches!(&r, Resource::IpamHandle(h) if h.spec.handle_id == "h.1"));
        assert_eq!(
            to_stored(&r),
            json!({"block": {"10.0.0.0/26": 2}, "deleted": false})
        );

        let key = ResourceKey::global(Kind::BlockAffinity, "n-1-10-0-0-0-26");
        let at = "/calico/ipam/v2/host/n-1/ipv4/block/10.0.0.0-26";
        let r = from_stored(&key, &kv(at, r#"{"state":"confirmed"}"#)).unwrap();
        assert!(matches!(&r, Resource::BlockAffinity(a)
            if (a.spec.node.as_str(), a.spec.cidr.as_str(), a.spec.affinity_type.as_str()) == ("n-1", "10.0.0.0/26", "host")));
        assert_eq!(to_stored(&r), json!({"state": "confirmed", "deleted": false}));

        let key = ResourceKey::global(Kind::IpamConfiguration, "default");
        let r = from_stored(&key, &kv("", r#"{"strict_affinity":true}"#)).unwrap();
        assert!(
            matches!(&r, Resource::IpamConfiguration(c) if c.spec.strict_affinity && !c.spec.auto_allocate_blocks)
        );
        let r = Object::new("default", IpamConfigurationSpec::default()).into();
        assert_eq!(to_stored(&r), json!({"auto_allocate_blocks": true}));
    }

    #[test]
    fn services_are_stored_as_kubernetes_has_them() {
        for (kind, stored) in [
            (
                Kind::KubernetesService,
                r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"db","namespace":"shop"},"spec":{"clusterIP":"10.96.0.1","selector":{"app":"db"},"ports":[{"port":5432,"targetPort":"sql"}]}}"#,
            ),
            (
                Kind::KubernetesEndpointSlice,
                r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"db","namespace":"shop","labels":{"kubernetes.io/service-name":"db"}},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"nodeName":"n1"}],"ports":[{"name":"sql","port":5432}]}"#,
            ),
        ] {
            let key = ResourceKey::namespaced(kind, "shop", "db");
            let mut r = from_stored(&key, &kv("", stored)).unwrap();
            r.metadata_mut().uid = None;
            assert_eq!(to_stored(&r), serde_json::from_str::<Value>(stored).unwrap());
            assert!(from_stored(&key, &kv("", "{")).is_err());
        }
    }

    #[test]
    fn the_key_names_the_object_and_garbage_says_why() {
        let key = ResourceKey::global(Kind::Tier, "t");
        let r = from_stored(&key, &kv("", r#"{"metadata":{"name":"other","namespace":"x"}}"#)).unwrap();
        assert_eq!(r.key(), key);
        assert!(from_stored(&key, &kv("", "{")).is_err());
        assert!(from_stored(&key, &kv("", r#"{"spec":{"order":"x"}}"#)).is_err());
        let block = ResourceKey::global(Kind::IpamBlock, "10-0-0-0-30");
        assert!(from_stored(&block, &kv("", "[]")).is_err());
    }

    #[test]
    fn the_status_of_what_cannot_be_read_can() {
        let key = ResourceKey::global(Kind::IpPool, "p");
        let stored = kv(
            "",
            r#"{"spec":{"cidr":"10.0.0.0/16","vxlanMode":"always"},"status":{"conditions":[{"type":"T"}]}}"#,
        );
        let unreadable = from_stored(&key, &stored).unwrap_err();
        for rest in [
            unreadable.stand_in.as_deref(),
            without_spec(&key, &stored).as_ref(),
        ] {
            let Some(Resource::IpPool(pool)) = rest else {
                panic!("{rest:?}")
            };
            assert_eq!(pool.status.as_ref().unwrap().conditions[0].condition_type, "T");
            assert_eq!(pool.metadata.resource_version.as_deref(), Some("9"));
        }
    }

    #[test]
    fn of_what_nothing_stands_in_for_name_and_status_are_left() {
        let key = ResourceKey::global(Kind::Tier, "t");
        let stored = kv(
            "",
            r#"{"spec":{"order":"first"},"status":{"conditions":[{"type":"T"}]}}"#,
        );
        let unreadable = from_stored(&key, &stored).unwrap_err();
        assert!(unreadable.reason.starts_with("spec.order: "), "{unreadable}");
        assert_eq!(unreadable.stand_in, None);
        let Some(Resource::Tier(tier)) = unreadable.with_status().map(|r| &**r) else {
            panic!("{unreadable:?}")
        };
        assert_eq!((tier.metadata.name.as_str(), tier.spec.order), ("t", None));
        assert_eq!(tier.metadata.resource_version.as_deref(), Some("9"));
        assert_eq!(tier.status.as_ref().unwrap().conditions[0].condition_type, "T");
    }

    #[test]
    fn a_slice_with_lists_in_the_place_of_objects_is_refused_by_its_own_fields() {
        let key = ResourceKey::namespaced(Kind::KubernetesEndpointSlice, "n", "s");
        for (stored, field) in [
            (
                r#"{"metadata":{"name":"s"},"endpoints":[],"ports":[["web","TCP",80]]}"#,
                "ports[0]: found a list",
            ),
            (
                r#"{"metadata":{"name":"s"},"endpoints":[[["10.0.0.1"]]],"ports":[]}"#,
                "endpoints[0]: found a list",
            ),
            (
                r#"{"metadata":["s"],"endpoints":[],"ports":[]}"#,
                "metadata: found a list",
            ),
        ] {
            let error = from_stored(&key, &kv("", stored)).unwrap_err();
            assert!(error.reason.starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_resource_is_stored_whole_without_its_revision() {
        let mut r: Resource = Object::new("t", caracal_api::TierSpec::default()).into();
        r.metadata_mut().resource_version = Some("5".into());
        let v = to_stored(&r);
        assert_eq!(
            (&v["apiVersion"], &v["kind"]),
            (&json!("projectcalico.org/v3"), &json!("Tier"))
        );
        assert_eq!(v["metadata"], json!({"name": "t"}));
    }
}
