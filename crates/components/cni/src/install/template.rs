//! The network configuration and the kubeconfig, from templates with `__NAMES__` in them.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{InstallError, KUBECONFIG, SERVICE_ACCOUNT};

/// Why no configuration can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("the network configuration is not JSON after the values were put in: {0}")]
    NotJson(serde_json::Error),
    #[error("the network configuration has {0}, which is no name that we know; docs/cni.md lists them")]
    Unknown(String),
    #[error(
        "the network configuration is neither a plugin's object with \"type\" nor a list with \"plugins\""
    )]
    Shape,
}

/// How to reach Kubernetes, when we run in a pod of it.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    protocol: String,
    host: String,
    port: String,
    token: String,
    /// A line of the kubeconfig.
    tls: String,
}

impl Kubernetes {
    pub(crate) fn of(
        env: &BTreeMap<String, String>,
        read: impl Fn(&str) -> Result<Option<String>, InstallError>,
    ) -> Result<Option<Self>, InstallError> {
        let get = |name: &str| env.get(name).cloned().filter(|v| !v.is_empty());
        let Some(host) = get("KUBERNETES_SERVICE_HOST") else {
            return Ok(None);
        };
        let token = format!("{SERVICE_ACCOUNT}/token");
        let token = read(&token)?.ok_or(InstallError::Missing {
            path: token,
            why: "KUBERNETES_SERVICE_HOST is set, and the pod has no token of a service account",
        })?;
        let authority = get("KUBE_CA_FILE").unwrap_or_else(|| format!("{SERVICE_ACCOUNT}/ca.crt"));
        let tls = if get("SKIP_TLS_VERIFY").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            "insecure-skip-tls-verify: true".to_owned()
        } else {
            match read(&authority)? {
                Some(text) => format!("certificate-authority-data: {}", STANDARD.encode(text)),
                None => String::new(),
            }
        };
        Ok(Some(Self {
            protocol: get("KUBERNETES_SERVICE_PROTOCOL").unwrap_or_else(|| "https".into()),
            host,
            port: get("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into()),
            token,
            tls,
        }))
    }

    fn endpoint(&self) -> String {
        let host = if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        format!("{}://{host}:{}", self.protocol, self.port)
    }

    /// The kubeconfig's text. JSON is YAML, and quotes every value.
    pub(crate) fn kubeconfig(&self) -> String {
        let mut cluster = json!({ "server": self.endpoint() });
        if let Some((key, value)) = self.tls.split_once(": ") {
            cluster[key] = if value == "true" {
                true.into()
            } else {
                value.into()
            };
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "calico-context",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "calico", "user": {"token": self.token}}],
            "contexts": [{"name": "calico-context", "context": {"cluster": "local", "user": "calico"}}],
        });
        format!("# Written by `caracal cni install` for the CNI plugin; do not edit.\n{config:#}\n")
    }
}

/// What the names in a template mean.
#[derive(Debug)]
pub(crate) struct Values(BTreeMap<&'static str, String>);

impl Values {
    pub(crate) fn new(
        env: &BTreeMap<String, String>,
        net_dir: &str,
        kubernetes: Option<&Kubernetes>,
        tls: &[(PathBuf, &'static str)],
    ) -> Self {
        let get = |name: &str| env.get(name).cloned().filter(|v| !v.is_empty());
        let or = |name: &str, otherwise: &str| get(name).unwrap_or_else(|| otherwise.to_owned());
        let file = |variable: &str, name: &str| {
            let copied = tls.iter().any(|(_, n)| *n == name);
            get(variable).unwrap_or_else(|| {
                if copied {
                    format!("{net_dir}/calico-tls/{name}")
                } else {
                    String::new()
                }
            })
        };
        let of = |part: fn(&Kubernetes) -> String| kubernetes.map(part).unwrap_or_default();
        let token = of(|k| k.token.clone());
        Self(BTreeMap::from([
            ("CALICO_API_GROUP", or("CALICO_API_GROUP", "")),
            ("CNI_MTU", or("CNI_MTU", "0")),
            ("DATASTORE_TYPE", or("DATASTORE_TYPE", "etcdv3")),
            ("ETCD_ENDPOINTS", or("ETCD_ENDPOINTS", "")),
            ("ETCD_DISCOVERY_SRV", or("ETCD_DISCOVERY_SRV", "")),
            ("ETCD_KEY_FILE", file("ETCD_KEY_FILE", "etcd-key")),
            ("ETCD_CERT_FILE", file("ETCD_CERT_FILE", "etcd-cert")),
            ("ETCD_CA_CERT_FILE", file("ETCD_CA_CERT_FILE", "etcd-ca")),
            ("KUBECONFIG_FILEPATH", format!("{net_dir}/{KUBECONFIG}")),
            (
                "KUBERNETES_NODE_NAME",
                get("KUBERNETES_NODE_NAME").unwrap_or_else(|| or("NODENAME", "")),
            ),
            ("KUBERNETES_SERVICE_ENDPOINT", of(Kubernetes::endpoint)),
            ("KUBERNETES_SERVICE_HOST", of(|k| k.host.clone())),
            ("KUBERNETES_SERVICE_PORT", of(|k| k.port.clone())),
            ("KUBERNETES_SERVICE_PROTOCOL", of(|k| k.protocol.clone())),
            (
                "LOG_FILE_PATH",
                or("LOG_FILE_PATH", "/var/log/calico/cni/cni.log"),
            ),
            ("LOG_FILE_MAX_SIZE", or("LOG_FILE_MAX_SIZE", "100")),
            ("LOG_FILE_MAX_AGE", or("LOG_FILE_MAX_AGE", "30")),
            ("LOG_FILE_MAX_COUNT", or("LOG_FILE_MAX_COUNT", "10")),
            ("LOG_LEVEL", or("LOG_LEVEL", "info")),
            ("REQUIRE_MTU_FILE", or("REQUIRE_MTU_FILE", "false")),
            ("SERVICEACCOUNT_TOKEN", token.clone()),
            ("TLS_CFG", of(|k| k.tls.clone())),
            ("TOKEN", token),
        ]))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Puts the values in. A name we do not know is an error: the plugin would read it literally.
    pub(crate) fn fill(&self, template: &str) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find("__") {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let name = from[2..].split("__").next().unwrap_or_default();
            let closed = from[2 + name.len()..].starts_with("__");
            let like = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            if !closed || !like {
                out.push_str("__");
                rest = &from[2..];
                continue;
            }
            let Some(value) = self.0.get(name) else {
                return Err(TemplateError::Unknown(format!("__{name}__")));
            };
            out.push_str(value);
            rest = &from[name.len() + 4..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The text of the network configuration: the user's template, or ours.
pub(crate) fn network_config(
    env: &BTreeMap<String, String>,
    values: &Values,
    portmap: bool,
    read: impl Fn(&str) -> Result<String, InstallError>,
) -> Result<String, InstallError> {
    let get = |name: &str| env.get(name).filter(|v| !v.is_empty());
    let text = match (get("CNI_NETWORK_CONFIG_FILE"), get("CNI_NETWORK_CONFIG")) {
        (Some(path), _) => values.fill(&read(path)?)?,
        (None, Some(template)) => values.fill(template)?,
        (None, None) => own_config(env, values, portmap).to_string(),
    };
    let value: Value = serde_json::from_str(&text).map_err(TemplateError::NotJson)?;
    if value.get("plugins").is_none_or(|p| !p.is_array()) && value.get("type").is_none_or(|t| !t.is_string())
    {
        return Err(TemplateError::Shape.into());
    }
    Ok(format!("{value:#}\n"))
}

fn own_config(env: &BTreeMap<String, String>, values: &Values, portmap: bool) -> Value {
    let number = |name: &str| values.get(name).parse::<u64>().unwrap_or_default();
    let mut plugin = json!({
        "type": "calico",
        "log_level": values.get("LOG_LEVEL"),
        "log_file_path": values.get("LOG_FILE_PATH"),
        "log_file_max_size": number("LOG_FILE_MAX_SIZE"),
        "log_file_max_age": number("LOG_FILE_MAX_AGE"),
        "log_file_max_count": number("LOG_FILE_MAX_COUNT"),
        "mtu": number("CNI_MTU"),
        "ipam": {"type": "calico-ipam"},
        "policy": {"type": "k8s"},
    });
    // Which datastore is left to the host (and so to the embedded store's socket) where the environment does not say.
    for (name, field) in [
        ("DATASTORE_TYPE", "datastore_type"),
        ("KUBERNETES_NODE_NAME", "nodename"),
        ("CALICO_API_GROUP", "calico_api_group"),
    ] {
        if env.get(name).is_some_and(|v| !v.is_empty()) {
            plugin[field] = values.get(name).into();
        }
    }
    for (name, field) in [
        ("ETCD_ENDPOINTS", "etcd_endpoints"),
        ("ETCD_DISCOVERY_SRV", "etcd_discovery_srv"),
        ("ETCD_KEY_FILE", "etcd_key_file"),
        ("ETCD_CERT_FILE", "etcd_cert_file"),
        ("ETCD_CA_CERT_FILE", "etcd_ca_cert_file"),
    ] {
        if !values.get(name).is_empty() {
            plugin[field] = values.get(name).into();
        }
    }
    if values.get("REQUIRE_MTU_FILE").eq_ignore_ascii_case("true") {
        plugin["require_mtu_file"] = true.into();
    }
    if !values.get("KUBERNETES_SERVICE_HOST").is_empty() {
        plugin["kubernetes"] = json!({ "kubeconfig": values.get("KUBECONFIG_FILEPATH") });
    }
    let mut plugins = vec![plugin];
    // A plugin that is not there would keep every pod from starting.
    if portmap {
        plugins.push(json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}));
    }
    json!({ "name": "k8s-pod-network", "cniVersion": "1.0.0", "plugins": plugins })
}
