//! Every kind's schema and rules are Calico's, but for the differences that `explained.json` explains.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::Kind;
use caracal_schema::{Group, cluster_network_policy, crd, describe_nothing};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::testdata::definitions;

/// A difference that is meant.
#[derive(Debug, Deserialize)]
struct Explained {
    /// `GROUP KIND /path/in/the/definition`, or `*` for the kind where it is so for several.
    at: String,
    /// Why it is so.
    why: String,
}

fn explained() -> Vec<Explained> {
    serde_json::from_str(include_str!("explained.json")).unwrap()
}

/// What a definition means, whatever the order and the words of what has none:
/// descriptions and messages go; enums, required fields and rules have no order; an enum inside an enum is what both have;
/// words in any case (`^(?i)(…)?$`) have no order and no case; an empty `subresources` says nothing.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => object(fields),
        Value::Array(items) => items.iter().map(normal).collect(),
        other => other.clone(),
    }
}

fn object(fields: &Map<String, Value>) -> Value {
    let mut out = BTreeMap::new();
    let is_rule = fields.contains_key("rule");
    for (key, value) in fields {
        let text = value.as_str();
        match key.as_str() {
            "description" if text.is_some() => {}
            "message" if is_rule => {}
            "subresources" if value == &json!({}) => {}
            "enum" | "required" | "x-kubernetes-validations" if value.is_array() => {
                out.insert(key.clone(), sorted(value));
            }
            "pattern" if text.is_some() => {
                out.insert(key.clone(), any_case(text.unwrap()).into());
            }
            "allOf" if value.is_array() => {
                out.insert("enum".to_owned(), in_all(value.as_array().unwrap()));
            }
            _ => {
                out.insert(key.clone(), normal(value));
            }
        }
    }
    Value::Object(out.into_iter().collect())
}

fn sorted(list: &Value) -> Value {
    let mut items: Vec<Value> = list.as_array().unwrap().iter().map(normal).collect();
    items.sort_by_key(Value::to_string);
    items.into()
}

fn any_case(pattern: &str) -> String {
    let Some(words) = pattern.strip_prefix("^(?i)(").and_then(|p| p.strip_suffix(")?$")) else {
        return pattern.to_owned();
    };
    let words: BTreeSet<String> = words.split('|').map(str::to_lowercase).collect();
    format!("any case: {words:?}")
}

fn in_all(enums: &[Value]) -> Value {
    let mut sets = enums.iter().map(|e| {
        let words = e["enum"]
            .as_array()
            .unwrap_or_else(|| panic!("allOf of something else: {e}"));
        words.iter().map(Value::to_string).collect::<BTreeSet<_>>()
    });
    let first = sets.next().unwrap();
    let both = sets.fold(first, |a, b| &a & &b);
    both.iter()
        .map(|w| serde_json::from_str::<Value>(w).unwrap())
        .collect()
}

/// Where two values differ: path and the two sides.
fn differences(ours: &Value, theirs: &Value, at: &str, out: &mut BTreeMap<String, (Value, Value)>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (x, y) = (
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                );
                differences(x, y, &format!("{at}/{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(x, y, &format!("{at}/{i}"), out);
            }
        }
        (a, b) if a == b => {}
        _ => {
            out.insert(at.to_owned(), (ours.clone(), theirs.clone()));
        }
    }
}

/// `/spec/versions/0/schema/openAPIV3Schema/properties/spec/…` in fewer words.
fn short(path: &str) -> String {
    path.replace("/spec/versions/0/schema/openAPIV3Schema", "/schema")
        .replace("/properties/", ".")
}

fn all_differences() -> BTreeMap<String, (Value, Value)> {
    let mut out = BTreeMap::new();
    for group in Group::ALL {
        let theirs = definitions(group.name());
        assert_eq!(theirs.len(), 22, "{}", group.name());
        let mut seen = BTreeSet::new();
        for theirs in &theirs {
            let name = theirs["spec"]["names"]["kind"].as_str().unwrap();
            let Some(kind) = group.kind(name) else {
                panic!("{} {name}: there is no such kind here", group.name());
            };
            seen.insert(kind);
            let ours = crd(kind, group, &describe_nothing).unwrap();
            let mut found = BTreeMap::new();
            differences(&normal(&ours), &normal(theirs), "", &mut found);
            out.extend(
                found
                    .into_iter()
                    .map(|(path, sides)| (format!("{} {name} {}", group.name(), short(&path)), sides)),
            );
        }
        for kind in Kind::ALL {
            let ours = crd(*kind, group, &describe_nothing);
            assert_eq!(ours.is_some(), seen.contains(kind), "{kind} of {}", group.name());
        }
    }
    let theirs = &definitions("policy.networking.k8s.io")[0];
    let ours = cluster_network_policy().to_json(&describe_nothing);
    let mut found = BTreeMap::new();
    let theirs = &theirs["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    differences(&normal(&ours), &normal(theirs), "/schema", &mut found);
    out.extend(found.into_iter().map(|(path, sides)| {
        (
            format!("policy.networking.k8s.io ClusterNetworkPolicy {}", short(&path)),
            sides,
        )
    }));
    out
}

#[test]
fn schemas_and_rules_are_calicos_but_for_what_is_explained() {
    let found = all_differences();
    let explained = explained();
    let unexplained: Vec<String> = found
        .iter()
        .filter(|(at, _)| !explained.iter().any(|e| e.at == **at))
        .map(|(at, (ours, theirs))| format!("{at}\n    ours:   {ours}\n    theirs: {theirs}"))
        .collect();
    assert!(
        unexplained.is_empty(),
        "{} unexplained differences:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    for e in explained {
        assert!(
            found.contains_key(&e.at),
            "no longer needed: {} ({})",
            e.at,
            e.why
        );
        assert!(e.why.len() > 20, "{} is not explained", e.at);
    }
}

#[test]
fn the_comparison_sees_a_change_of_each_sort() {
    let ours = normal(&crd(Kind::IpPool, Group::V3, &describe_nothing).unwrap());
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    for (pointer, value) in [
        ("/properties/blockSize/maximum", json!(129)),
        ("/properties/vxlanMode/enum", json!(["Never"])),
        ("/properties/cidr/format", json!("ipv4")),
        ("/x-kubernetes-validations/0/rule", json!("true")),
        ("/x-kubernetes-validations/0/reason", json!("FieldValueRequired")),
        ("/properties/allowedUses/x-kubernetes-list-type", json!("atomic")),
        ("/required", json!([])),
        ("/properties/assignmentMode/default", json!("Manual")),
    ] {
        let mut changed = ours.clone();
        *changed.pointer_mut(&format!("{spec}{pointer}")).expect(pointer) = value;
        let mut found = BTreeMap::new();
        differences(&ours, &changed, "", &mut found);
        assert_eq!(found.len(), 1, "{pointer}");
    }
}
