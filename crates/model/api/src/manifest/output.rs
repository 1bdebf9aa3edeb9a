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

/// A list in YAML, made item by item: of ten thousand objects only one at a time is there as a value.
#[derive(Debug)]
pub struct YamlList {
    text: String,
    is_empty: bool,
}

impl YamlList {
    /// The list's head; `kind` is what it is a list as, such as `IPPoolList`.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self {
            text: json_to_yaml(&json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {}})),
            is_empty: true,
        }
    }

    /// Adds an object.
    pub fn add(&mut self, resource: &Resource) {
        if std::mem::take(&mut self.is_empty) {
            self.text += "items:\n";
        }
        // An item of the list below `items` is written as one of a list of its own.
        self.text += &json_to_yaml(&Value::Array(vec![resource.to_value()]));
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.is_empty {
            self.text += "items: []\n";
        }
        self.text
    }
}

/// Objects as one list in YAML: `kind` is `<Kind>List` when all are of one kind, else `List`, as `calicoctl get` has it.
#[must_use]
pub fn list_to_yaml(resources: &[Resource]) -> String {
    let first = resources.first().map(Resource::kind);
    let kind = match first {
        Some(kind) if resources.iter().all(|r| r.kind() == kind) => format!("{kind}List"),
        _ => "List".to_owned(),
    };
    let mut list = YamlList::new(&kind);
    resources.iter().for_each(|r| list.add(r));
    list.finish()
}
