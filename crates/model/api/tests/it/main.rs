//! Manifests, defaulting and validation through the public API.

mod defaults;
mod kinds;
mod manifest;
mod updates;
mod validation;
mod validation_policy;

use caracal_api::{FieldError, Kind, Resource, default_resource, validate};
use serde_json::{Value, json};

/// An object of a kind with a fitting name, as it would be stored: read, then defaulted.
fn stored(kind: Kind, name: &str, spec: Value) -> Resource {
    let mut r = raw(kind, name, spec);
    default_resource(&mut r);
    r
}

/// As [`stored`], without the defaults.
fn raw(kind: Kind, name: &str, spec: Value) -> Resource {
    let mut meta = json!({"name": name});
    if kind.namespaced() {
        meta["namespace"] = json!("ns");
    }
    Resource::from_value(kind, json!({"metadata": meta, "spec": spec}))
        .unwrap_or_else(|e| panic!("{kind}: {e}"))
}

/// The errors of a spec, as text.
fn errors(kind: Kind, name: &str, spec: Value) -> Vec<String> {
    validate(&stored(kind, name, spec))
        .iter()
        .map(FieldError::to_string)
        .collect()
}

/// Checks that each spec is taken.
fn accept(kind: Kind, name: &str, specs: &[Value]) {
    for spec in specs {
        let e = errors(kind, name, spec.clone());
        assert!(e.is_empty(), "{kind} {spec}: {e:?}");
    }
}

/// Checks that each spec is refused at exactly the place it says, with the word it says.
fn refuse(kind: Kind, name: &str, cases: &[(Value, &str, &str)]) {
    for (spec, place, word) in cases {
        let e = errors(kind, name, spec.clone());
        let place = format!("{place}: ");
        assert!(
            e.iter().any(|e| e.starts_with(&place) && e.contains(word)),
            "{kind} {spec}: {e:?} lacks {place}{word}"
        );
    }
}
