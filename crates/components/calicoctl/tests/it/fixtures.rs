//! Objects as Calico's own programs write them: read, shown, changed and written back, with nothing lost.

use std::collections::BTreeSet;

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::modify;
use caracal_testkit::{Etcd, needs};
use serde_json::{Value, json};

use crate::{
    migrate::{Raw, socket},
    rig::Rig,
};

/// What is stored under one key.
struct Fixture {
    kind: Kind,
    namespace: String,
    name: String,
    key: String,
    value: Value,
}

fn fixtures() -> Vec<Fixture> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../fixtures/calico-etcd.json")).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let read = |v: Value| Fixture {
        kind: Kind::parse(v["kind"].as_str().unwrap()).unwrap(),
        namespace: text(&v["namespace"]),
        name: text(&v["name"]),
        key: text(&v["key"]),
        value: v["value"].clone(),
    };
    all.into_iter().map(read).collect()
}

impl Fixture {
    /// Whether it is IPAM's own, which has no metadata in etcd.
    fn is_bare(&self) -> bool {
        self.value.get("metadata").is_none()
    }

    fn words(&self) -> String {
        let namespace = match self.namespace.as_str() {
            "" => String::new(),
            ns => format!(" -n {ns}"),
        };
        format!("{} {}{namespace}", self.kind.plural(), self.name)
    }

    fn resource_key(&self) -> ResourceKey {
        let namespace = Some(self.namespace.as_str()).filter(|ns| !ns.is_empty());
        ResourceKey::of(self.kind, namespace, &self.name)
    }
}

/// Names of IPAM's fields in etcd, and as they are shown.
const SHOWN_AS: &[(&str, &str)] = &[
    ("affinity_claim_time", "affinityClaimTime"),
    ("alternate", "alternateOwnerAttrs"),
    ("strict_affinity", "strictAffinity"),
    ("auto_allocate_blocks", "autoAllocateBlocks"),
];

/// Everything that is stored is shown, but for fields that no version knows, and what is empty.
fn assert_shown(at: &str, stored: &Value, shown: &Value) {
    match stored {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(n, _)| !n.starts_with("future")) {
                let name = SHOWN_AS
                    .iter()
                    .find(|(from, _)| from == name)
                    .map_or(name.as_str(), |(_, to)| to);
                let empty = matches!(value, Value::Null | Value::Bool(false))
                    || *value == json!("")
                    || *value == json!({})
                    || *value == json!(0);
                if !empty {
                    assert_shown(&format!("{at}.{name}"), value, &shown[name]);
                }
            }
        }
        Value::Array(items) => {
            assert_eq!(shown.as_array().map(Vec::len), Some(items.len()), "{at}: {shown}");
            for (i, item) in items.iter().enumerate() {
                assert_shown(&format!("{at}[{i}]"), item, &shown[i]);
            }
        }
        // A number may be shown as what it means, such as an AS number that is a text in etcd.
        other => {
            let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            assert_eq!(plain(other), plain(shown), "{at}");
        }
    }
}

fn shown(rig: &Rig, fixture: &Fixture) -> Value {
    let yaml = rig.run(&format!("get {} -o yaml", fixture.words())).ok();
    serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{}: {e}\n{yaml}", fixture.key))
}

fn stored(raw: &Raw, fixture: &Fixture) -> Value {
    let all = raw.all();
    let text = all
        .get(&fixture.key)
        .unwrap_or_else(|| panic!("{} is gone", fixture.key));
    serde_json::from_str(text).unwrap()
}

/// Where two values differ.
fn differences(at: &str, is: &Value, want: &Value, found: &mut Vec<String>) {
    match (is, want) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                differences(&format!("{at}.{name}"), &is[name], &want[name], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for i in 0..a.len() {
                differences(&format!("{at}[{i}]"), &is[i], &want[i], found);
            }
        }
        _ if is == want => {}
        _ => found.push(format!("{at}: {is} and not {want}")),
    }
}

fn nothing_is_lost(rig: &Rig, raw: &Raw, store: &str) {
    let all = fixtures();
    let kinds: BTreeSet<_> = all.iter().map(|f| f.kind).collect();
    let missing: Vec<_> = Kind::ALL.iter().filter(|k| !kinds.contains(k)).collect();
    assert!(missing.is_empty(), "kinds without a fixture: {missing:?}");
    for f in &all {
        raw.put((&f.key, &f.value.to_string()));
    }
    for f in &all {
        let seen = shown(rig, f);
        assert_eq!(seen["kind"], f.kind.as_str());
        assert_eq!(seen["metadata"]["name"], f.name.as_str());
        if f.kind == Kind::KubernetesEndpointSlice {
            // As Kubernetes has it, without a `spec` around its content.
            let mut content = f.value.clone();
            let content = content.as_object_mut().unwrap();
            content.retain(|name, _| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
            assert_shown(&f.key, &Value::Object(content.clone()), &seen["spec"]);
        } else if f.kind == Kind::KubernetesService {
            assert_shown(&f.key, &f.value["spec"], &seen["spec"]);
        } else if f.is_bare() {
            assert_shown(&f.key, &f.value, &seen["spec"]);
        } else {
            assert_shown(&f.key, &f.value, &seen);
        }
    }
    let mut lost = Vec::new();
    for f in all.iter().filter(|f| f.kind.public()) {
        // Written back as it was shown: nothing changes, fields that nobody knows included.
        let show = || rig.run(&format!("get {} -o yaml", f.words())).ok();
        for verb in ["replace", "apply"] {
            let yaml = show();
            rig.run_reading(&format!("{verb} -f -"), &yaml).ok();
        }
        if f.kind == Kind::FelixConfiguration {
            // Its spec is shown with what nobody knows. What is not stored may be a mistake.
            for change in [
                ("futureField:", "futureFeild:"),
                ("futureField:", "logSeverityScren: Info\n  futureField:"),
            ] {
                let yaml = show().replacen(change.0, change.1, 1);
                let refused = rig.run_reading("replace -f -", &yaml).failed();
                assert!(
                    refused.contains("futureFeild") || refused.contains("logSeverityScren"),
                    "{refused}"
                );
            }
        }
        differences(
            &format!("{} replaced: ", f.key),
            &stored(raw, f),
            &f.value,
            &mut lost,
        );
        if !f.is_bare() {
            rig.run(&format!("label {} changed=yes", f.words())).ok();
            let mut want = f.value.clone();
            want["metadata"]["labels"]["changed"] = "yes".into();
            differences(
                &format!("{} labelled: ", f.key),
                &stored(raw, f),
                &want,
                &mut lost,
            );
        }
    }
    // What only IPAM changes.
    let client = caracal_datastore::named(store).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for f in all.iter().filter(|f| f.is_bare()) {
        let mut want = f.value.clone();
        let change = |r: &mut Resource| match r {
            Resource::IpamBlock(o) => o.spec.sequence_number += 1,
            Resource::IpamHandle(o) => *o.spec.block.values_mut().next().unwrap() += 1,
            Resource::BlockAffinity(o) => o.spec.state = "pendingDeletion".into(),
            Resource::IpamConfiguration(o) => o.spec.max_blocks_per_host = 9,
            other => panic!("{other:?}"),
        };
        runtime
            .block_on(modify(&client, &f.resource_key(), change))
            .unwrap();
        match f.kind {
            Kind::IpamBlock => want["sequenceNumber"] = (want["sequenceNumber"].as_u64().unwrap() + 1).into(),
            Kind::IpamHandle => {
                let (_, n) = want["block"].as_object_mut().unwrap().iter_mut().next().unwrap();
                *n = (n.as_u64().unwrap() + 1).into();
            }
            Kind::BlockAffinity => want["state"] = "pendingDeletion".into(),
            _ => want["maxBlocksPerHost"] = 9.into(),
        }
        differences(&f.key, &stored(raw, f), &want, &mut lost);
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn nothing_of_calicos_is_lost_on_the_embedded_store() {
    let rig = Rig::new();
    nothing_is_lost(&rig, &Raw::at(&socket(&rig)), &socket(&rig));
}

#[test]
fn nothing_of_calicos_is_lost_on_etcd() {
    needs!("etcd");
    let etcd = Etcd::start();
    let rig = Rig::over(&etcd.endpoint());
    let config = rig.path("calicoctl.cfg").display().to_string();
    nothing_is_lost(&rig, &Raw::at(&etcd.endpoint()), &config);
}

#[test]
fn what_is_no_json_is_named_and_its_neighbours_are_shown() {
    let rig = Rig::new();
    let raw = Raw::at(&socket(&rig));
    let at = |name: &str| format!("/calico/resources/v3/projectcalico.org/networksets/shop/{name}");
    let set = "apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: good, namespace: shop}\nspec: {nets: [10.0.0.0/8]}\n";
    rig.run_reading("apply -f -", set).ok();
    raw.put((&at("bad"), "{\"spec\": oops"));
    raw.put(("/outside/of/calico", "whatever"));
    let ran = rig.run("get networksets -A");
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("good") && !ran.out.contains("outside"),
        "{}",
        ran.out
    );
    for e in [ran.err, rig.run("get networkset bad -n shop").failed()] {
        assert!(
            e.contains("NetworkSet(shop/bad) cannot be read") && e.contains("replace it or delete it"),
            "{e}"
        );
    }
    rig.run_reading("replace -f -", &set.replace("good", "bad")).ok();
    raw.put((&at("bad"), "no"));
    rig.run("delete networkset bad -n shop").ok();
    assert!(rig.run("get networksets -A").ok().contains("good"));
    assert_eq!(raw.all().len(), 1);
}

#[test]
fn objects_are_listed_by_labels() {
    let rig = Rig::new();
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec: {{nets: [10.0.0.0/8]}}\n"
        );
        rig.run_reading("apply -f -", &text).ok();
    }
    let listed = |selector: &str| {
        let words = [
            "get",
            "globalnetworksets",
            "--selector",
            selector,
            "-o",
            "custom-columns=NAME",
        ];
        let out = rig.run_words(&words, "").ok();
        out.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("app == 'web'"), ["a", "c"]);
    assert_eq!(listed("app != 'web'"), ["b"]);
    let e = rig.run_words(&["get", "tiers", "--selector", "app =="], "").err;
    assert!(e.contains("--selector"), "{e}");
    let e = rig
        .run_words(&["get", "tiers", "t", "--selector", "all()"], "")
        .err;
    assert!(e.contains("--selector"), "{e}");
}
