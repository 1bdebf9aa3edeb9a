//! The agent's parameters over its lifetime: environment and file once, the datastore's objects as they change.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{Kind, Resource};
use caracal_config::{FelixConfig, FelixObjects, Problem, Resolved, Sources, resolve};
use caracal_datastore::NodeLayers;
use caracal_ids::NodeName;
use caracal_store::{Store, StoreError};
use caracal_update::Update;

/// Where the configuration file is unless told otherwise.
pub(crate) const DEFAULT_FILE: &str = "/etc/calico/felix.cfg";

/// The ClusterInformation of the cluster.
const CLUSTER: &str = "default";

/// All layers of configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    node: NodeName,
    env: Vec<(String, String)>,
    file: Option<String>,
    objects: FelixObjects,
    node_labels: BTreeMap<String, String>,
    /// Of ClusterInformation, and whether it changed since the last look.
    cluster_type: (String, bool),
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
            objects: FelixObjects::default(),
            node_labels: BTreeMap::new(),
            cluster_type: (String::new(), false),
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
        let NodeLayers { objects, node_labels } = NodeLayers::read(store, self.node.as_str()).await?;
        self.unseen = objects.names().map(str::to_owned).collect();
        self.objects = objects;
        self.node_labels = node_labels;
        self.refresh();
        Ok(())
    }

    /// The feed has delivered everything: what it did not deliver went away since [`Settings::load`]. Tells whether
    /// there is such a thing.
    pub(crate) fn complete(&mut self) -> bool {
        let gone = std::mem::take(&mut self.unseen);
        gone.iter().filter(|name| self.objects.remove(name)).count() > 0
    }

    /// Takes an update of the datastore; tells whether it concerned the configuration.
    pub(crate) fn apply(&mut self, update: &Update) -> bool {
        if update.key.kind == Kind::FelixConfiguration {
            self.unseen.remove(&*update.key.name);
        }
        match (&update.key.kind, update.value.as_deref()) {
            (Kind::FelixConfiguration, Some(Resource::FelixConfiguration(o))) => {
                self.objects.set((**o).clone());
            }
            (Kind::FelixConfiguration, _) => {
                self.objects.remove(&update.key.name);
            }
            (Kind::Node, Some(r)) if *update.key.name == *self.node.as_str() => {
                if self.node_labels == r.metadata().labels {
                    return false;
                }
                self.node_labels.clone_from(&r.metadata().labels);
            }
            (Kind::ClusterInformation, value) if &*update.key.name == CLUSTER => {
                let now = match value {
                    Some(Resource::ClusterInformation(o)) => o.spec.cluster_type.as_str(),
                    _ => "",
                };
                if self.cluster_type.0 == now {
                    return false;
                }
                self.cluster_type = (now.to_owned(), true);
            }
            _ => return false,
        }
        true
    }

    /// Resolves all layers again; the names of the parameters whose value changed.
    pub(crate) fn refresh(&mut self) -> Vec<&'static str> {
        let mut sources = Sources {
            env: self.env.clone(),
            file: self.file.as_deref(),
            ..Sources::default()
        };
        self.objects
            .lay(self.node.as_str(), &self.node_labels, &mut sources);
        let resolved = resolve(&sources);
        let mut changed = resolved.changed_since(&self.resolved);
        if std::mem::take(&mut self.cluster_type.1) {
            changed.push("ClusterType");
        }
        self.resolved = resolved;
        changed
    }

    /// This node.
    pub(crate) fn node(&self) -> &NodeName {
        &self.node
    }

    /// The parameters as typed fields.
    pub(crate) fn config(&self) -> FelixConfig {
        FelixConfig::new(&self.resolved).in_cluster(&self.cluster_type.0)
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
        let noted = self.resolved.noted();
        let noted = noted.map(|p| format!("{} ({}): {}", p.param.name, p.source, p.param.note));
        let news: Vec<String> = problems.chain(unsupported).chain(noted).collect();
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

#[cfg(test)]
mod tests {
    use caracal_api::{FelixConfigurationSpec, NodeSpec, Object, ResourceKey};
    use caracal_config::{Applies, Param};
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
    fn objects_of_the_datastore_come_and_go() {
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
        assert_eq!(level(&mut s), "Some(Error)");
        let mut node = Object::new("me", NodeSpec::default());
        node.metadata.labels.insert("rack".into(), "1".into());
        assert!(s.apply(&Update::set(node.clone().into())));
        assert!(!s.apply(&Update::set(node.into())));
        assert_eq!(level(&mut s), "Some(Debug)");
        s.apply(&object("node.me", json!({"logSeverityScreen": "Fatal"}), "9"));
        assert_eq!(level(&mut s), "Some(Fatal)");
        s.apply(&Update::gone(ResourceKey::global(
            Kind::FelixConfiguration,
            "node.me",
        )));
        assert_eq!(level(&mut s), "Some(Debug)");
    }

    #[test]
    fn the_type_of_the_cluster_says_whether_it_is_openstack() {
        let mut s = Settings::local(NodeName::new("me").unwrap(), vec![], None);
        let cluster = |name: &str, kind: &str| {
            let spec = caracal_api::ClusterInformationSpec {
                cluster_type: kind.into(),
                ..Default::default()
            };
            Update::set(Object::new(name, spec).into())
        };
        assert!(!s.apply(&cluster("default", "")) && !s.apply(&cluster("other", "openstack")));
        assert!(!s.config().openstack);
        assert!(s.apply(&cluster("default", "k8s,OpenStack")));
        assert_eq!(s.refresh(), ["ClusterType"]);
        assert!(s.config().openstack);
        assert!(!s.apply(&cluster("default", "k8s,OpenStack")));
        assert!(s.refresh().is_empty());
        assert!(s.apply(&Update::gone(ResourceKey::global(
            Kind::ClusterInformation,
            "default"
        ))));
        assert_eq!(s.refresh(), ["ClusterType"]);
        assert!(!s.config().openstack);
    }

    #[test]
    fn an_object_that_goes_away_while_the_agent_starts_is_gone() {
        let mut s = Settings::local(NodeName::new("me").unwrap(), vec![], None);
        for name in ["default", "node.me"] {
            s.apply(&object(name, json!({"logSeverityScreen": "Error"}), "1"));
        }
        s.unseen = s.objects.names().map(str::to_owned).collect();
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

    #[test]
    fn every_parameter_without_effect_is_named_once() {
        let env = Param::all().filter(|p| !p.supported).map(|p| {
            let other = match p.default {
                "false" => "true",
                _ => "false",
            };
            (p.env(), other.to_owned())
        });
        let mut s = Settings::local(NodeName::new("me").unwrap(), env.collect(), None);
        let named = s.unsupported();
        assert!(named.len() > 30, "{named:?}");
        s.log_news();
        let told = s.told.len();
        for name in &named {
            let lines = s
                .told
                .iter()
                .filter(|t| t.contains("does not act upon it") && t.starts_with(name));
            assert_eq!(lines.count(), 1, "{name}");
        }
        s.refresh();
        s.log_news();
        assert_eq!(s.told.len(), told);
    }

    /// The text of every file below a directory.
    fn sources(dir: &std::path::Path, except: &str) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                text += &sources(&path, except);
            } else if !path.ends_with(except) {
                text += &std::fs::read_to_string(&path).unwrap();
            }
        }
        text
    }

    /// The names that follow `before` in a text.
    fn names_after<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
        let end = |rest: &'a str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let parts = text.split(before).skip(1);
        parts
            .map(|rest| &rest[..end(rest).unwrap_or(rest.len())])
            .collect()
    }

    #[test]
    fn what_is_read_of_the_parameters_is_acted_on() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let model = src.join("../../../model/config/src/felix.rs");
        let model = std::fs::read_to_string(model).unwrap();
        let (_, fields) = model.split_once("pub struct FelixConfig {").unwrap();
        let (fields, _) = fields.split_once("\n}").unwrap();
        let fields = names_after(fields, "    pub ");
        assert!(fields.len() > 40, "{fields:?}");
        let datastore = src.join("../../../drivers/datastore/src");
        let text = sources(&src, "settings.rs") + &sources(&datastore, "lib.rs");
        let used = |field: &&&str| names_after(&text, &format!(".{field}")).contains("");
        let idle: Vec<_> = fields.iter().filter(|f| !used(f)).collect();
        assert!(idle.is_empty(), "read and used nowhere: {idle:?}");
    }

    #[test]
    fn what_is_read_at_the_start_is_said_to_be() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut seen = 0;
        for file in ["start.rs", "cli.rs", "agent.rs"] {
            let text = std::fs::read_to_string(src.join(file)).unwrap();
            let names = ["config.", "local.", "probe."].map(|of| names_after(&text, of));
            for field in names.iter().flatten() {
                let plain = field.replace('_', "");
                // The calculation takes the severity of the log on while it runs.
                if plain.is_empty() || *field == "log_severity_screen" {
                    continue;
                }
                let of_field = |p: &&Param| p.name.to_lowercase().starts_with(&plain);
                for param in Param::all().chain(Param::own()).filter(of_field) {
                    seen += usize::from(param.supported);
                    let at_once = param.supported && param.applies == Applies::AtOnce;
                    assert!(!at_once, "{file} reads {} once", param.name);
                }
            }
        }
        assert!(seen > 10, "{seen}");
    }
}
