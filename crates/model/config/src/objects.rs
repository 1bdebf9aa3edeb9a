//! The FelixConfigurations of a cluster, and which of them are about a node.

use std::collections::BTreeMap;

use caracal_api::{FelixConfigurationSpec, Object};
use caracal_selector::Selector;

use crate::layers::{Sources, SpecLayer, pick_selected};

/// What every node listens to.
const GLOBAL: &str = "default";
/// What precedes a node's name in the name of its own object.
const OF_NODE: &str = "node.";

/// FelixConfigurations by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FelixObjects(BTreeMap<String, Object<FelixConfigurationSpec>>);

impl FelixObjects {
    /// Takes an object; one of the same name gives way.
    pub fn set(&mut self, object: Object<FelixConfigurationSpec>) {
        self.0.insert(object.metadata.name.clone(), object);
    }

    /// Forgets an object; whether it was known.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// The names of the objects.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Fills the layers of a datastore in: the node's own object, the oldest of those whose selector takes the node in by
    /// its labels, and the global one.
    pub fn lay<'a>(&'a self, node: &str, labels: &BTreeMap<String, String>, sources: &mut Sources<'a>) {
        sources.node = self.0.get(&format!("{OF_NODE}{node}")).map(layer);
        sources.global = self.0.get(GLOBAL).map(layer);
        let selected = self.0.values().filter(|o| selects(o, labels));
        sources.selector = pick_selected(selected.map(|o| {
            let created = o.metadata.creation_timestamp.as_deref().unwrap_or_default();
            (created, o.metadata.name.as_str(), o)
        }))
        .map(layer);
    }
}

impl FromIterator<Object<FelixConfigurationSpec>> for FelixObjects {
    fn from_iter<T: IntoIterator<Item = Object<FelixConfigurationSpec>>>(objects: T) -> Self {
        let mut all = Self::default();
        objects.into_iter().for_each(|o| all.set(o));
        all
    }
}

/// An object without a selector is inert; one that cannot be read selects nothing.
fn selects(object: &Object<FelixConfigurationSpec>, labels: &BTreeMap<String, String>) -> bool {
    let name = &object.metadata.name;
    let text = object.spec.fields.get("nodeSelector").and_then(|v| v.as_str());
    name != GLOBAL
        && !name.starts_with(OF_NODE)
        && text.is_some_and(|t| !t.is_empty() && Selector::parse(t).is_ok_and(|s| s.matches_map(labels)))
}

fn layer(object: &Object<FelixConfigurationSpec>) -> SpecLayer<'_> {
    let annotations = object.metadata.annotations.iter();
    SpecLayer {
        name: &object.metadata.name,
        spec: &object.spec.fields,
        annotations: annotations.map(|(k, v)| (k.as_str(), v.as_str())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layers::resolve;

    fn object(name: &str, created: &str, spec: serde_json::Value) -> Object<FelixConfigurationSpec> {
        let fields = spec.as_object().cloned().unwrap_or_default();
        let mut o = Object::new(name, FelixConfigurationSpec { fields });
        o.metadata.creation_timestamp = Some(created.into());
        o
    }

    /// Raw text and source of the severity, as node `me` with these labels has it.
    fn severity(objects: &FelixObjects, labels: &[(&str, &str)]) -> (String, &'static str) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let mut sources = Sources::default();
        objects.lay("me", &labels.collect(), &mut sources);
        let resolved = resolve(&sources);
        let found = resolved.get("LogSeverityScreen").unwrap();
        (found.raw.clone(), found.source.as_str())
    }

    #[test]
    fn layers_in_calicos_order() {
        let mut all = FelixObjects::default();
        let rack = &[("rack", "1")];
        assert_eq!(severity(&all, rack), ("INFO".into(), "default"));
        all.set(object(
            "default",
            "1",
            json!({"logSeverityScreen": "Error", "nodeSelector": "all()"}),
        ));
        assert_eq!(severity(&all, rack), ("Error".into(), "global"));
        for (name, created, spec) in [
            (
                "rack",
                "3",
                json!({"logSeverityScreen": "Debug", "nodeSelector": "rack == '1'"}),
            ),
            (
                "older",
                "2",
                json!({"logSeverityScreen": "Trace", "nodeSelector": "has(rack)"}),
            ),
            ("oldest", "1", json!({"logSeverityScreen": "Warning"})),
            (
                "broken",
                "1",
                json!({"logSeverityScreen": "Warning", "nodeSelector": "rack =="}),
            ),
            (
                "node.other",
                "1",
                json!({"logSeverityScreen": "Warning", "nodeSelector": "all()"}),
            ),
        ] {
            all.set(object(name, created, spec));
        }
        // The oldest that selects, alone: two are not mixed.
        assert_eq!(severity(&all, rack), ("Trace".into(), "selector"));
        assert_eq!(severity(&all, &[]), ("Error".into(), "global"));
        all.set(object("node.me", "9", json!({"logSeverityScreen": "Fatal"})));
        assert_eq!(severity(&all, rack), ("Fatal".into(), "node"));
        assert!(all.remove("node.me") && !all.remove("node.me"));
        assert_eq!(severity(&all, rack), ("Trace".into(), "selector"));
        assert_eq!(all.names().count(), 6);
    }
}
