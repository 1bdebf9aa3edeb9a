use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A CalicoAPIConfig file, as far as it decides which datastore is used. Every setting has the name that it has in the
/// environment, so that the two are looked up alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiConfig {
    pub(crate) settings: BTreeMap<&'static str, String>,
}

/// Why a CalicoAPIConfig file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// Not YAML, or a field of a wrong type.
    #[error("cannot be read as YAML: {0}")]
    Form(String),
    /// Another kind of file.
    #[error("{field} is {found:?}, it must be {want:?}")]
    Kind {
        /// `apiVersion` or `kind`.
        field: &'static str,
        /// What the file says.
        found: String,
        /// What it must say.
        want: &'static str,
    },
    /// A setting that there is not: a misspelt one must not lead to another datastore.
    #[error("spec.{0} is not a known setting{1}")]
    Unknown(String, String),
    /// A setting that is neither text, number nor yes or no.
    #[error("spec.{0} must be a single value")]
    Shape(String),
}

/// Name in the file and in the environment.
pub(crate) const NAMES: &[(&str, &str)] = &[
    ("datastoreType", "DATASTORE_TYPE"),
    ("etcdEndpoints", "ETCD_ENDPOINTS"),
    ("etcdDiscoverySrv", "ETCD_DISCOVERY_SRV"),
    ("etcdUsername", "ETCD_USERNAME"),
    ("etcdPassword", "ETCD_PASSWORD"),
    ("etcdKeyFile", "ETCD_KEY_FILE"),
    ("etcdCertFile", "ETCD_CERT_FILE"),
    ("etcdCACertFile", "ETCD_CA_CERT_FILE"),
    ("etcdKey", "ETCD_KEY"),
    ("etcdCert", "ETCD_CERT"),
    ("etcdCACert", "ETCD_CA_CERT"),
    ("kubeconfig", "KUBECONFIG"),
    ("kubeconfigInline", "KUBECONFIG_INLINE"),
    ("k8sAPIEndpoint", "K8S_API_ENDPOINT"),
    ("k8sKeyFile", "K8S_KEY_FILE"),
    ("k8sCertFile", "K8S_CERT_FILE"),
    ("k8sCAFile", "K8S_CA_FILE"),
    ("k8sAPIToken", "K8S_API_TOKEN"),
    ("k8sInsecureSkipTLSVerify", "K8S_INSECURE_SKIP_TLS_VERIFY"),
    ("k8sDisableNodePoll", "K8S_DISABLE_NODE_POLL"),
    ("k8sUsePodCIDR", "USE_POD_CIDR"),
    ("k8sClientQPS", "K8S_CLIENT_QPS"),
    ("k8sClientBurst", "K8S_CLIENT_BURST"),
    ("k8sCurrentContext", "K8S_CURRENT_CONTEXT"),
    ("calicoAPIGroup", "CALICO_API_GROUP"),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    spec: Option<BTreeMap<String, Value>>,
}

impl ApiConfig {
    /// Reads the text of a file; an empty one sets nothing.
    ///
    /// # Errors
    /// [`BadConfig`], without the file's name, which the caller knows.
    pub fn parse(text: &str) -> Result<Self, BadConfig> {
        if text
            .lines()
            .all(|l| matches!(l.trim().chars().next(), None | Some('#')) || l.trim() == "---")
        {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).map_err(|e| BadConfig::Form(e.to_string()))?;
        for (field, found, want) in [
            ("apiVersion", &file.api_version, "projectcalico.org/v3"),
            ("kind", &file.kind, "CalicoAPIConfig"),
        ] {
            if found != want {
                return Err(BadConfig::Kind {
                    field,
                    found: found.clone(),
                    want,
                });
            }
        }
        let mut config = Self::default();
        for (field, value) in file.spec.unwrap_or_default() {
            let Some((_, name)) = NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(&field)) else {
                let like = nearest(&field);
                return Err(BadConfig::Unknown(field, like));
            };
            let text = match value {
                Value::Null => continue,
                Value::String(s) => s,
                Value::Bool(b) => b.to_string(),
                Value::Number(n) => n.to_string(),
                Value::Array(_) | Value::Object(_) => return Err(BadConfig::Shape(field)),
            };
            config.settings.insert(name, text);
        }
        Ok(config)
    }
}

/// A hint at the known setting that starts or ends like this one.
fn nearest(field: &str) -> String {
    let field = field.to_ascii_lowercase();
    let common = |name: &str| {
        let name = name.to_ascii_lowercase();
        let same = |(a, b): &(u8, u8)| a == b;
        let front = name.bytes().zip(field.bytes()).take_while(same).count();
        let back = name
            .bytes()
            .rev()
            .zip(field.bytes().rev())
            .take_while(same)
            .count();
        front + back
    };
    match NAMES.iter().map(|(n, _)| (common(n), n)).max() {
        Some((score, name)) if score * 2 > name.len() => format!(": did you mean {name:?}?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_as_in_the_environment() {
        let c = ApiConfig::parse(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n  etcdEndpoints: http://a:1,http://b:2\n  etcdCACertFile: /x\n  k8sClientQPS: 20\n",
        )
        .unwrap();
        assert_eq!(c.settings["DATASTORE_TYPE"], "etcdv3");
        assert_eq!(c.settings["ETCD_ENDPOINTS"], "http://a:1,http://b:2");
        assert_eq!(
            (&*c.settings["ETCD_CA_CERT_FILE"], &*c.settings["K8S_CLIENT_QPS"]),
            ("/x", "20")
        );
    }

    #[test]
    fn every_setting_is_in_the_docs_with_its_name_in_the_environment() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/datastore.md");
        let docs = std::fs::read_to_string(path).unwrap();
        for (field, name) in NAMES {
            let row = format!("| `{field}` | `{name}` |");
            assert!(docs.contains(&row), "docs/datastore.md lacks {row:?}");
        }
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let bad = |text: &str| ApiConfig::parse(text).unwrap_err().to_string();
        assert!(bad("kind: CalicoAPIConfig\nspec: {}\n").contains("apiVersion"));
        assert!(bad("apiVersion: projectcalico.org/v3\nkind: IPPool\n").contains("IPPool"));
        assert!(bad("{").contains("YAML"));
        assert!(bad("just text").contains("YAML"));
        let list = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n  etcdEndpoints: [a]\n";
        assert!(bad(list).contains("spec.etcdEndpoints"));
        let spec = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n";
        let typo = bad(&format!("{spec}  etcdEndpoint: http://a:1\n"));
        assert!(typo.contains("did you mean \"etcdEndpoints\""), "{typo}");
        assert!(bad(&format!("{spec}  bogus: 1\n")).ends_with("known setting"));
        assert_eq!(ApiConfig::parse("---\n# nothing\n\n"), Ok(ApiConfig::default()));
    }
}
