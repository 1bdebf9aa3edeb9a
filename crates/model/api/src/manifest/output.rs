use serde::Serialize;
use serde_json::{Value, json};

use crate::{API_VERSION, Resource};

/// Anything as YAML; long strings stay on one line.
#[must_use]
pub fn value_to_yaml(value: &impl Serialize) -> String {
    // By way of a value, so that the program holds one writer of YAML and not one for each type.
    serde_json::to_value(value).map_or_else(|_| String::new(), |v| json_to_yaml(&v))
}

/// A value as YAML; long strings stay on one line.
#[must_use]
pub fn json_to_yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! {
        folded_wrap_chars: usize::MAX,
        compact_list_indent: true,
    };
    // What is written here comes from JSON: string keys and plain scalars, which YAML can always hold.
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}

/// One object as YAML.
#[must_use]
pub fn to_yaml(resource: &Resource) -> String {
    json_to_yaml(&resource.to_value())
}

/// Objects as one list: `kind` is `<Kind>List` when all are of one kind, else `List`, as `calicoctl get` has it.
#[must_use]
pub fn list_value(resources: &[Resource]) -> Value {
    let first = resources.first().map(Resource::kind);
    let kind = match first {
        Some(kind) if resources.iter().all(|r| r.kind() == kind) => format!("{kind}List"),
        _ => "List".to_owned(),
    };
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {},
        "items": resources.iter().map(Resource::to_value).collect::<Vec<_>>(),
    })
}

/// Objects as one list in YAML.
#[must_use]
pub fn list_to_yaml(resources: &[Resource]) -> String {
    json_to_yaml(&list_value(resources))
}
