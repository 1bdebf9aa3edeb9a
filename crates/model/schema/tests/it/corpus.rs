//! Objects of every kind, valid and not: each field alone with many values, and random ones.

use caracal_api::Kind;
use caracal_schema::{Group, Schema, Type, schema_of};
use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// Objects of a kind, as a group has them.
pub(crate) fn objects(kind: Kind, group: Group, dice: &mut Dice, random: usize) -> Vec<Value> {
    let schema = schema_of(kind, group).unwrap();
    let wrap = |spec: Value, name: &str| object(kind, group, name, spec);
    let base = spec_skeleton(kind, schema);
    let mut out = vec![wrap(base.clone(), "a")];
    for name in ["default", "node.n1", "kube-admin", "kube-baseline", "-", "A", "ä"] {
        out.push(wrap(base.clone(), name));
    }
    for path in paths(schema) {
        let at = node(schema, &path);
        for value in values(at, name_of(&path)) {
            let mut o = wrap(base.clone(), "a");
            put(&mut o, schema, &path, value);
            out.push(o);
        }
        if at.value_type == Some(Type::Object) && at.additional.is_none() {
            let mut unknown = path.clone();
            unknown.push(Step::Key("unheardOf".to_owned()));
            let mut o = wrap(base.clone(), "a");
            put(&mut o, schema, &unknown, json!("x"));
            out.push(o);
        }
    }
    for required in ["metadata", "spec"] {
        let mut o = wrap(base.clone(), "a");
        o.as_object_mut().unwrap().remove(required);
        out.push(o);
    }
    for (field, value) in metadata() {
        let mut o = wrap(base.clone(), "a");
        o["metadata"][field] = value;
        out.push(o);
    }
    for _ in 0..random {
        let name = *dice.pick(&["a", "a", "a", "default", "node.n1", "kube-admin"]);
        // Few fields are mostly valid, many mostly not.
        let rarity = 2 + dice.below(12);
        let mut spec = random_value(&schema.properties["spec"], "spec", dice, rarity);
        if dice.one_in(2)
            && let (Some(spec), Some(base)) = (spec.as_object_mut(), base.as_object())
        {
            for (k, v) in base {
                spec.entry(k.clone()).or_insert_with(|| v.clone());
            }
        }
        out.push(wrap(spec, name));
    }
    out
}

fn object(kind: Kind, group: Group, name: &str, spec: Value) -> Value {
    let mut metadata = json!({"name": name});
    if kind.namespaced() {
        metadata["namespace"] = json!("ns");
    }
    json!({
        "apiVersion": group.api_version(),
        "kind": group.names(kind).0,
        "metadata": metadata,
        "spec": spec,
    })
}

fn metadata() -> Vec<(&'static str, Value)> {
    vec![
        ("name", json!("a".repeat(253))),
        ("name", json!("a".repeat(254))),
        ("name", json!("a..b")),
        ("name", json!("a.b-c")),
        ("name", json!("")),
        ("labels", json!({"a/b": "c", "d": ""})),
        ("labels", json!({"a": "x y"})),
        ("labels", json!({"a": "ünï"})),
        ("labels", json!({"a/b/c": "x"})),
        ("labels", json!({"a": "x".repeat(64)})),
        ("labels", json!({"": "x"})),
        ("labels", json!({"A.example.com/x": "x"})),
        ("annotations", json!({"a/b": "anything 'at' all \u{1f600}"})),
        ("annotations", json!({"A/b": "x"})),
        ("annotations", json!({"a b": "x"})),
        ("annotations", json!({"a": "x".repeat(256 * 1024)})),
    ]
}

/// What a kind's spec needs at least.
fn spec_skeleton(kind: Kind, schema: &Schema) -> Value {
    let mut spec = skeleton(&schema.properties["spec"], "spec");
    if kind == Kind::HostEndpoint {
        spec = json!({"node": "n1", "interfaceName": "eth0"});
    }
    spec
}

fn skeleton(schema: &Schema, name: &str) -> Value {
    match schema.value_type {
        Some(Type::Object) if schema.bounds.min_properties == Some(1) => {
            let (name, first) = schema.properties.iter().next().unwrap();
            json!({name: skeleton(first, name)})
        }
        Some(Type::Object) => {
            let required = schema.required.iter();
            required
                .map(|r| (r.clone(), skeleton(&schema.properties[r], r)))
                .collect::<Map<_, _>>()
                .into()
        }
        Some(Type::Array) => {
            let n = schema.bounds.min_items.unwrap_or(0);
            (0..n)
                .map(|_| skeleton(schema.items.as_ref().unwrap(), name))
                .collect()
        }
        _ => good(schema, name)[0].clone(),
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Key(String),
    Item,
    Value,
}

/// Where every value of an object below `spec` and `status` is.
pub(crate) fn paths(schema: &Schema) -> Vec<Vec<Step>> {
    fn walk(schema: &Schema, at: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        let mut below = |step: Step, s: &Schema, out: &mut Vec<Vec<Step>>| {
            at.push(step);
            out.push(at.clone());
            walk(s, at, out);
            at.pop();
        };
        for (name, s) in &schema.properties {
            below(Step::Key(name.clone()), s, out);
        }
        if let Some(s) = &schema.items {
            below(Step::Item, s, out);
        }
        if let Some(s) = &schema.additional {
            below(Step::Value, s, out);
        }
    }
    let mut out = Vec::new();
    for top in ["spec", "status"] {
        if let Some(s) = schema.properties.get(top) {
            let mut at = vec![Step::Key(top.to_owned())];
            out.push(at.clone());
            walk(s, &mut at, &mut out);
        }
    }
    out
}

pub(crate) fn node<'s>(schema: &'s Schema, path: &[Step]) -> &'s Schema {
    path.iter().fold(schema, |s, step| match step {
        Step::Key(k) => &s.properties[k],
        Step::Item => s.items.as_ref().unwrap(),
        Step::Value => s.additional.as_ref().unwrap(),
    })
}

fn name_of(path: &[Step]) -> &str {
    let keys = path.iter().rev();
    let mut keys = keys.filter_map(|s| match s {
        Step::Key(k) => Some(k.as_str()),
        _ => None,
    });
    keys.next().unwrap_or_default()
}

/// Sets a value, making what is above it.
fn put(at: &mut Value, schema: &Schema, path: &[Step], value: Value) {
    let Some((step, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    let (key, below) = match step {
        Step::Key(k) => (k.as_str(), schema.properties.get(k)),
        Step::Value => ("k", schema.additional.as_deref()),
        Step::Item => {
            if at.as_array().is_none_or(Vec::is_empty) {
                let items = schema.items.as_ref().unwrap();
                *at = json!([skeleton(items, "")]);
            }
            return put(&mut at[0], schema.items.as_ref().unwrap(), rest, value);
        }
    };
    let one_field = schema.bounds.max_properties == Some(1);
    if !at.is_object() || (one_field && at.get(key).is_none()) {
        *at = json!({});
    }
    let Some(below) = below else {
        at[key] = value;
        return;
    };
    if at.get(key).is_none() {
        at[key] = skeleton(below, key);
    }
    put(&mut at[key], below, rest, value);
}

/// Values that a field probably takes: the first one always.
fn good(schema: &Schema, name: &str) -> Vec<Value> {
    if !schema.words.is_empty() {
        return schema.words.clone();
    }
    if schema.int_or_string {
        return match name {
            "protocol" | "notProtocol" => [
                json!("TCP"),
                json!(6),
                json!("ICMP"),
                json!("ICMPv6"),
                json!(1),
                json!(58),
            ]
            .into(),
            _ => [json!(80), json!("1:2"), json!("http"), json!(0), json!("80")].into(),
        };
    }
    match schema.value_type {
        Some(Type::Boolean) => [json!(true), json!(false)].into(),
        Some(Type::Integer) => {
            let low = schema.bounds.minimum.unwrap_or(1).max(0);
            let high = schema.bounds.maximum.unwrap_or(low + 20);
            [
                json!(low),
                json!(high),
                json!(low.midpoint(high)),
                json!(26),
                json!(122),
            ]
            .into()
        }
        Some(Type::Number) => [json!(1), json!(1.5), json!(1000), json!(1_000_000.0), json!(-5)].into(),
        _ => texts(schema, name),
    }
}

fn texts(schema: &Schema, name: &str) -> Vec<Value> {
    let lower = name.to_lowercase();
    let all: &[&str] = match (schema.format, schema.pattern.as_deref()) {
        (Some("cidr"), _) => &[
            "10.0.0.0/16",
            "fd00::/64",
            "10.0.0.0/26",
            "169.254.1.0/24",
            "10.0.0.0/27",
            "fd00::/122",
        ],
        (Some("date-time"), _) => &["2026-01-02T03:04:05Z", "2024-02-29t23:59:59.5+01:00"],
        (_, Some(p)) if p.contains("(ms|s") => &["90s", "1m30s", "0"],
        (_, Some(p)) if p.starts_with("^(?i)") => {
            let words = p.trim_start_matches("^(?i)(").trim_end_matches(")?$");
            let words: Vec<&str> = words.split('|').collect();
            return vec![json!(words[0]), json!(words[0].to_uppercase()), json!("")];
        }
        (_, Some(p)) if p.contains("65535") || p.contains("(\\d+):") || p.contains("6553[0-5]") => {
            &["1:2", "65535:65535", "1:2:3", "4294967295:1:1"]
        }
        (_, Some(p)) if p.starts_with("^(host") => &["host:a", "virtual:b"],
        (_, Some(p)) if p.starts_with("^[1-9]") => &["5/second", "9999/day"],
        (_, Some(p)) if p.contains("=(true") => &["a=true,b=false", ""],
        (_, Some(p)) if p.contains("=([^=]+)") => &["a=b", ""],
        (_, Some(p)) if p.starts_with("^([a-z0-9]") => &["Ready", "a.b/C"],
        _ if lower.contains("selector") => &["all()", "a == 'b'", "", "global()", "has(x) && global()"],
        _ if lower.contains("address") || lower.ends_with("ip") || lower.ends_with("ips") => {
            &["10.0.0.1", "fd00::1", "", "::ffff:1.2.3.4", "1.2.3.04"]
        }
        _ if lower.ends_with("nets") || lower == "networks" => &["10.0.0.0/8", "fd00::/8", "10.0.0.1"],
        _ => &["a", "", "eth0", "x y"],
    };
    all.iter().map(|t| json!(t)).collect()
}

/// Good values and bad ones.
fn values(schema: &Schema, name: &str) -> Vec<Value> {
    let mut out = match schema.value_type {
        Some(Type::Object) => vec![skeleton(schema, name)],
        Some(Type::Array) => lists(schema, name),
        _ => good(schema, name),
    };
    out.extend([
        json!("text"),
        json!(""),
        json!(7),
        json!(-1),
        json!(5.0),
        json!(0.5),
        json!(1e300),
        json!(4_294_967_296_i64),
        json!(i64::MAX),
        json!(true),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({"x": "y"}),
        Value::Null,
        json!("ünï😀'\"\n"),
        json!("global("),
    ]);
    let b = &schema.bounds;
    out.extend(b.minimum.map(|m| json!(m - 1)));
    out.extend(b.minimum.map(|m| json!(m)));
    out.extend(b.maximum.map(|m| json!(m + 1)));
    out.extend(b.maximum.map(|m| json!(m)));
    if let Some(max) = b.max_length {
        out.extend([json!("ä".repeat(max)), json!("ä".repeat(max + 1))]);
    }
    for word in schema.words.iter().filter_map(Value::as_str) {
        out.extend([json!(word.to_lowercase()), json!(format!("{word}x"))]);
    }
    if schema.pattern.is_some() || schema.format.is_some() {
        out.extend(TEXTS.iter().map(|t| json!(t)));
    }
    out
}

/// What forms and patterns are tried with.
const TEXTS: &[&str] = &[
    "1.5s",
    "90",
    "1h",
    "5us",
    "Auto",
    "s",
    "1:2:3:4",
    "65536:1",
    "4294967296:1:1",
    "01:1",
    "1:",
    ":",
    "host:",
    "host:a b",
    "10.0.0.0/33",
    "10.0.0.0",
    "010.0.0.0/8",
    "10.0.0/8",
    "fd00::/129",
    "::ffff:1.2.3.4/120",
    "1.2.3.4/08",
    "fe80::/10",
    "fe80::1/128",
    "169.254.0.0/16",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.1/16",
    "10.0.0.0/-1",
    "10.0.0.0/+8",
    "fd00::%eth0/64",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01 00:00:00Z",
    "2026-01-01T00:00:00",
    "T",
    "10000/day",
    "0/day",
    "a=b=c",
    "a=true,",
    "=",
    "disabled",
    "DISABLED",
    "a/b/c",
    "٣/day",
    "٣:٣",
];

fn lists(schema: &Schema, name: &str) -> Vec<Value> {
    let items = schema.items.as_ref().unwrap();
    let one = skeleton(items, name);
    let mut out = vec![json!([one]), json!([one, one]), json!([Value::Null])];
    let all: Vec<Value> = match items.value_type {
        Some(Type::Object | Type::Array) => vec![one.clone()],
        _ => good(items, name),
    };
    out.push(all.clone().into());
    out.extend(all.iter().map(|v| json!([v])));
    for n in [schema.bounds.max_items, schema.bounds.max_items.map(|n| n + 1)]
        .into_iter()
        .flatten()
    {
        let many = (0..n).map(|i| match &one {
            Value::String(_) if items.words.is_empty() => json!(format!("v{i}")),
            other => other.clone(),
        });
        out.push(many.collect());
    }
    out
}

fn random_value(schema: &Schema, name: &str, dice: &mut Dice, rarity: usize) -> Value {
    match schema.value_type {
        Some(Type::Object) if schema.additional.is_some() => {
            let value = random_value(schema.additional.as_ref().unwrap(), name, dice, rarity);
            json!({"k": value})
        }
        Some(Type::Object) => {
            let mut out = Map::new();
            let only = (schema.bounds.max_properties == Some(1)).then(|| dice.below(schema.properties.len()));
            for (i, (name, s)) in schema.properties.iter().enumerate() {
                let wanted = match only {
                    Some(n) => i == n,
                    None => schema.required.contains(name) || dice.one_in(rarity),
                };
                if wanted {
                    out.insert(name.clone(), random_value(s, name, dice, rarity.min(6)));
                }
            }
            out.into()
        }
        Some(Type::Array) => {
            let most = schema.bounds.max_items.unwrap_or(3).min(3);
            let least = schema.bounds.min_items.unwrap_or(0);
            let n = (least + dice.below(most + 1)).min(most.max(least));
            let items = schema.items.as_ref().unwrap();
            (0..n).map(|_| random_value(items, name, dice, rarity)).collect()
        }
        _ => {
            let good = good(schema, name);
            // The first values are the ones that go well with others.
            let n = if dice.one_in(3) {
                good.len()
            } else {
                good.len().min(2)
            };
            good[dice.below(n)].clone()
        }
    }
}

/// Objects of ClusterNetworkPolicy.
pub(crate) fn cluster_network_policies(dice: &mut Dice, random: usize) -> Vec<Value> {
    let schema = caracal_schema::cluster_network_policy();
    let wrap = |spec: Value| {
        let (api_version, kind) = caracal_schema::CLUSTER_NETWORK_POLICY;
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec})
    };
    let base = skeleton(&schema.properties["spec"], "spec");
    let mut out = vec![wrap(base.clone())];
    for path in paths(schema) {
        for value in values(node(schema, &path), name_of(&path)) {
            let mut o = wrap(base.clone());
            put(&mut o, schema, &path, value);
            out.push(o);
        }
    }
    out.extend((0..random).map(|_| {
        let rarity = 2 + dice.below(6);
        wrap(random_value(&schema.properties["spec"], "spec", dice, rarity))
    }));
    out
}
