//! The agent's parameters over its lifetime: environment and file once, the datastore's objects as they change.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{FelixConfigurationSpec, Kind, Object, Resource, ResourceKey};
use caracal_config::{FelixConfig, Problem, Resolved, Sources, SpecLayer, pick_selected, resolve};
use caracal_ids::NodeName;
use caracal_selector::Selector;
use caracal_store::{Store, StoreError};
use caracal_update::Update;

/// Where the configuration file is unless told otherwise.
pub(crate) const DEFAULT_FILE: &str = "/etc/calico/felix.cfg";

/// All layers of configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    node: NodeName,
    env: Vec<(String, String)>,
    file: Option<String>,
    objects: BTreeMap<String, Object<FelixConfigurationSpec>>,
    node_labels: BTreeMap<String, String>,
    resolved: Resolved,
    /// Objects that were read at the start and that the feed has not delivered yet.
    unseen: BTreeSet<String>,
    /// What has been logged, so that it is not logged again.
    told: BTreeSet<String>,
}

impl Settings {
    /// Only environment and file; the datastore's objects come by [`Settings::load`] and [`Settings::apply`].
    pub(crate) fn local(node: NodeName, env: Vec<(String, String)>, file: Option<String>) -> Self {
        let resolved = resolve(&Sources {
            env: env.clone(),
            file: file.as_deref(),
            ..Sources::default()
        });
        Self {
            node,
            env,
            file,
            objects: BTreeMap::new(),
            node_labels: BTreeMap::new(),
            resolved,
            unseen: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// Reads the FelixConfiguration objects and the node's labels.
    ///
    /// # Errors
    /// When the datastore fails.
    pub(crate) async fn load(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let page = store
            .list_all(Kind::FelixConfiguration, &caracal_store::ListOptions::default())
            .await?;
        self.objects.clear();
        for resource in page.items {
            if let Resource::FelixConfiguration(o) = resource {
                self.objects.insert(o.metadata.name.clone(), *o);
            }
        }
        self.unseen = self.objects.keys().cloned().collect();
        match store
            .get(&ResourceKey::global(Kind::Node, self.node.as_str()))
            .await
        {
            Ok(r) => self.node_labels.clone_from(&r.metadata().labels),
            Err(StoreError::NotFound(_)) => {}
            Err(e) => return Err(e),
        }
        self.refresh();
        Ok(())
    }

    /// The feed has delivered everything: what it did not deliver went away since [`Settings::load`]. Tells whether
    /// there is such a thing.
    pub(crate) fn complete(&mut self) -> bool {
        let gone = std::mem::take(&mut self.unseen);
        gone.iter()
            .filter(|name| self.objects.remove(*name).is_some())
            .count()
            > 0
    }

    /// Takes an update of the datastore; tells whether it concerned the configuration.
    pub(crate) fn apply(&mut self, update: &Update) -> bool {
        if update.key.kind == Kind::FelixConfiguration {
            self.unseen.remove(&*update.key.name);
        }
        match (&update.key.kind, update.value.as_deref()) {
            (Kind::FelixConfiguration, Some(Resource::FelixConfiguration(o))) => {
                self.objects.insert(o.metadata.name.clone(), (**o).clone());
            }
            (Kind::FelixConfiguration, _) => {
                self.objects.remove(&*update.key.name);
            }
            (Kind::Node, Some(r)) if *update.key.name == *self.node.as_str() => {
                if self.node_labels == r.metadata().labels {
                    return false;
                }
                self.node_labels.clone_from(&r.metadata().labels);
            }
            _ => return false,
        }
        true
    }

    /// Resolves all layers again; the names of the parameters whose value changed.
    pub(crate) fn refresh(&mut self) -> Vec<&'static str> {
        let own = format!("node.{}", self.node);
        let layer = |o: &'_ Object<FelixConfigurationSpec>| -> LayerParts {
            let annotations = o
                .metadata
                .annotations
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            LayerParts {
                name: o.metadata.name.clone(),
                spec: o.spec.fields.clone(),
                annotations,
            }
        };
        let selected = self
            .objects
            .values()
            .filter(|o| o.metadata.name != "default" && !is_per_node(o))
            .filter(|o| {
                let text = o
                    .spec
                    .fields
                    .get("nodeSelector")
                    .and_then(|v| v.as_str())
                    .unwrap_or_default();
                // An object without a selector is inert; one that cannot be read selects nothing.
                !text.is_empty() && Selector::parse(text).is_ok_and(|s| s.matches_map(&self.node_labels))
            });
        let selected = pick_selected(selected.map(|o| {
            let created = o.metadata.creation_timestamp.as_deref().unwrap_or_default();
            (created, o.metadata.name.as_str(), o)
        }));
        let parts = [
            self.objects.get(&own).map(layer),
            selected.map(layer),
            self.objects.get("default").map(layer),
        ];
        let [node, selector, global] = parts.each_ref().map(|p| p.as_ref().map(LayerParts::borrow));
        let resolved = resolve(&Sources {
            env: self.env.clone(),
            file: self.file.as_deref(),
            node,
            selector,
            global,
            ..Sources::default()
        });
        let changed = resolved.changed_since(&self.resolved);
        self.resolved = resolved;
        changed
    }

    /// This node.
    pub(crate) fn node(&self) -> &NodeName {
        &self.node
    }

    /// The parameters as typed fields.
    pub(crate) fn config(&self) -> FelixConfig {
        FelixConfig::new(&self.resolved)
    }

    /// Every parameter with its value and source, as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.resolved
            .params()
            .iter()
            .chain(self.resolved.own())
            .map(caracal_config::ResolvedParam::to_json)
            .collect()
    }

    /// Logs what is wrong with the parameters, and those that this version does not act on: each once.
    pub(crate) fn log_news(&mut self) {
        let problems = self.resolved.problems.iter().map(Problem::to_string);
        let unsupported = self.unsupported().into_iter();
        let unsupported = unsupported.map(|p| format!("{p} is set, but this version does not act upon it"));
        let news: Vec<String> = problems.chain(unsupported).collect();
        for text in news {
            if !self.told.contains(&text) {
                tracing::warn!("{text}");
                self.told.insert(text);
            }
        }
    }

    /// Those of them that must end the program.
    pub(crate) fn fatal(&self) -> Vec<String> {
        self.resolved.fatal().map(ToString::to_string).collect()
    }

    /// Parameters that are set and that this version does not act on.
    fn unsupported(&self) -> Vec<String> {
        self.resolved
            .unsupported()
            .map(|p| format!("{} ({})", p.param.name, p.source))
            .collect()
    }
}

fn is_per_node(o: &Object<FelixConfigurationSpec>) -> bool {
    o.metadata.name.starts_with("node.")
}

/// What a layer borrows from.
struct LayerParts {
    name: String,
    spec: serde_json::Map<String, serde_json::Value>,
    annotations: Vec<(String, String)>,
}

impl LayerParts {
    fn borrow(&self) -> SpecLayer<'_> {
        SpecLayer {
            name: &self.name,
            spec: &self.spec,
            annotations: self
                .annotations
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, spec: serde_json::Value, created: &str) -> Update {
        let fields = spec.as_object().cloned().unwrap_or_default();
        let mut o = Object::new(name, FelixConfigurationSpec { fields });
        o.metadata.creation_timestamp = Some(created.into());
        Update::set(o.into())
    }

    fn level(s: &mut Settings) -> String {
        s.refresh();
        format!("{:?}", s.config().log_severity_screen)
    }

    #[test]
    fn layers_in_calicos_order() {
        let env = vec![("FELIX_HEALTHPORT".to_owned(), "1234".to_owned())];
        let mut s = Settings::local(NodeName::new("me").unwrap(), env, None);
        assert!(s.apply(&object(
            "default",
            json!({"logSeverityScreen": "Error", "healthPort": 5}),
            "1"
        )));
        assert_eq!(level(&mut s), "Some(Error)");
        assert_eq!(s.config().health_port, 1234);
        s.apply(&object(
            "rack",
            json!({"logSeverityScreen": "Debug", "nodeSelector": "rack == '1'"}),
            "3",
        ));
        s.apply(&object(
            "older",
            json!({"logSeverityScreen": "Trace", "nodeSelector": "has(rack)"}),
            "2",
        ));
        assert_eq!(level(&mut s), "Some(Error)");
        s.node_labels.insert("rack".into(), "1".into());
        assert_eq!(level(&mut s), "Some(Trace)");
        s.apply(&object("node.me", json!({"logSeverityScreen": "Fatal"}), "9"));
        assert_eq!(level(&mut s), "Some(Fatal)");
        s.apply(&Update::gone(ResourceKey::global(
            Kind::FelixConfiguration,
            "node.me",
        )));
        assert_eq!(level(&mut s), "Some(Trace)");
    }

    #[test]
    fn an_object_that_goes_away_while_the_agent_starts_is_gone() {
        let mut s = Settings::local(NodeName::new("me").unwrap(), vec![], None);
        for name in ["default", "node.me"] {
            s.apply(&object(name, json!({"logSeverityScreen": "Error"}), "1"));
        }
        s.unseen = s.objects.keys().cloned().collect();
        s.apply(&object("default", json!({"logSeverityScreen": "Debug"}), "1"));
        assert_eq!(level(&mut s), "Some(Error)");
        assert!(s.complete());
        assert_eq!(level(&mut s), "Some(Debug)");
        assert!(!s.complete());
    }

    #[test]
    fn what_is_wrong_is_told_once() {
        let mut s = Settings::local(NodeName::new("me").unwrap(), vec![], None);
        let spec = json!({"bpfEnabled": true, "healthPort": 123_456});
        s.apply(&object("default", spec.clone(), "1"));
        s.refresh();
        s.log_news();
        let told = s.told.clone();
        assert!(told.iter().any(|t| t.contains("BPFEnabled")), "{told:?}");
        assert!(told.iter().any(|t| t.contains("healthPort")), "{told:?}");
        s.apply(&object("default", spec, "2"));
        s.refresh();
        s.log_news();
        assert_eq!(s.told, told);
    }
}
