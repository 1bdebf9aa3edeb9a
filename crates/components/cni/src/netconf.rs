//! The network configuration: every field that Calico knows, typed. Fields that nobody knows are accepted, as the
//! specification lets runtimes and chained plugins add their own.

use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::WorkloadPort;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::error::{CniError, Code};

/// What a runtime passes on stdin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct NetConf {
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    pub name: String,
    #[serde(rename = "type")]
    pub plugin_type: String,
    pub mode: String,
    pub vxlan_mac_prefix: String,
    pub vxlan_vni: u64,
    pub ipam: IpamConf,
    pub qps: Option<f64>,
    pub burst: Option<i64>,
    pub mtu: u32,
    pub num_queues: u32,
    pub nodename: String,
    pub nodename_file: String,
    pub nodename_file_optional: bool,
    pub ipam_lock_file: String,
    pub datastore_type: String,
    pub etcd_endpoints: String,
    pub etcd_discovery_srv: String,
    pub etcd_key_file: String,
    pub etcd_cert_file: String,
    pub etcd_ca_cert_file: String,
    pub etcd_authority: String,
    pub etcd_scheme: String,
    pub hostname: String,
    pub log_level: String,
    pub log_file_path: String,
    pub log_file_max_size: Option<i64>,
    pub log_file_max_age: Option<i64>,
    pub log_file_max_count: Option<i64>,
    pub policy: PolicyConf,
    pub kubernetes: KubernetesConf,
    pub feature_control: FeatureControl,
    pub container_settings: ContainerSettings,
    pub include_default_routes: Option<bool>,
    pub dataplane_options: Option<Value>,
    pub device_type: String,
    pub windows_use_single_network: bool,
    pub windows_disable_host_subnet_nat_exclusion: bool,
    pub windows_pause_container_restart: bool,
    #[serde(rename = "runtimeConfig")]
    pub runtime_config: RuntimeConfig,
    pub readiness_gates: Vec<String>,
    pub policy_setup_timeout_seconds: Option<u32>,
    pub endpoint_status_dir: String,
    pub require_mtu_file: bool,
    pub calico_api_group: String,
    pub dns: Option<Value>,
    pub args: Args,
    #[serde(rename = "prevResult")]
    pub prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<Attachment>>,
}

/// One attachment that lives, in a GC request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

/// The part `ipam`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct IpamConf {
    #[serde(rename = "type")]
    pub plugin_type: String,
    pub subnet: String,
    #[serde(deserialize_with = "flag")]
    pub assign_ipv4: Option<bool>,
    #[serde(deserialize_with = "flag")]
    pub assign_ipv6: Option<bool>,
    pub ipv4_pools: Vec<String>,
    pub ipv6_pools: Vec<String>,
    pub ranges: Option<Value>,
    pub name: String,
}

/// The part `policy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct PolicyConf {
    #[serde(rename = "type")]
    pub policy_type: String,
    pub k8s_api_root: String,
    pub k8s_auth_token: String,
    pub k8s_client_certificate: String,
    pub k8s_client_key: String,
    pub k8s_certificate_authority: String,
}

/// The part `kubernetes`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct KubernetesConf {
    pub k8s_api_root: String,
    pub kubeconfig: String,
    pub node_name: String,
}

/// The part `feature_control`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct FeatureControl {
    pub ip_addrs_no_ipam: bool,
    pub floating_ips: bool,
}

/// The part `container_settings`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct ContainerSettings {
    pub allow_ip_forwarding: bool,
}

/// The part `runtimeConfig`, as far as we have the capability.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the CNI conventions'")]
pub struct RuntimeConfig {
    pub dns: Option<Value>,
    pub ips: Vec<String>,
    pub mac: String,
    #[serde(rename = "io.kubernetes.cri.pod-annotations")]
    pub pod_annotations: BTreeMap<String, String>,
}

/// The part `args`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the CNI conventions'")]
pub struct Args {
    pub cni: CniArgs,
}

/// `args.cni`: what describes the workload where no Kubernetes does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "docs/cni.md is the reference of the fields, under the same names"
)]
pub struct CniArgs {
    pub labels: Vec<Label>,
    pub ports: Vec<WorkloadPort>,
    #[serde(rename = "serviceAccount")]
    pub service_account: String,
    pub ips: Vec<String>,
    pub annotations: BTreeMap<String, String>,
}

/// A label of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the CNI conventions'")]
pub struct Label {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

/// Reads `"true"`, `"false"` (Calico has them as texts), `true` and `false`.
fn flag<'de, D: Deserializer<'de>>(d: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(d)? {
        Value::Null => Ok(None),
        Value::Bool(b) => Ok(Some(b)),
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "true" | "1" | "t" => Ok(Some(true)),
            "false" | "0" | "f" => Ok(Some(false)),
            _ => Err(de::Error::custom(format!(
                "{s:?} is not allowed: true or false is"
            ))),
        },
        other => Err(de::Error::custom(format!(
            "{other} is not allowed: true or false is"
        ))),
    }
}

impl NetConf {
    /// Reads stdin.
    pub(crate) fn read(stdin: &[u8]) -> Result<Self, CniError> {
        // A list of fields would be taken for an object otherwise.
        if stdin.trim_ascii_start().first() == Some(&b'[') {
            return Err(not_json(&de::Error::custom("it is a list")));
        }
        let mut json: Value = serde_json::from_slice(stdin).map_err(|e| not_json(&e))?;
        drop_nulls(&mut json);
        check_shapes(&json)?;
        serde_path_to_error::deserialize(json).map_err(|e| {
            let (field, inner) = (e.path().to_string(), e.into_inner());
            if field == "." {
                not_json(&inner)
            } else {
                CniError::config(&field, inner)
            }
        })
    }

    /// Checks what every verb needs.
    pub(crate) fn check(&self) -> Result<(), CniError> {
        if self.name.is_empty() {
            return Err(CniError::config("name", "it is missing: a network needs a name"));
        }
        if !is_identifier(&self.name) {
            return Err(CniError::config(
                "name",
                format!(
                    "{:?} is not allowed: a letter or digit, then letters, digits, '_', '.' and '-'",
                    self.name
                ),
            ));
        }
        if !matches!(self.device_type.as_str(), "" | "veth") {
            return Err(CniError::new(
                Code::UnsupportedField,
                format!("network configuration, field device_type: {:?}", self.device_type),
                "only \"veth\" is supported",
            ));
        }
        Ok(())
    }

    /// Whether the IPAM plugin shall take the range that Kubernetes gave the node.
    pub(crate) fn uses_pod_cidr(&self) -> bool {
        let said = |text: &str| {
            text.eq_ignore_ascii_case("usePodCidr") || text.eq_ignore_ascii_case("usePodCidrIPv6")
        };
        let ranges = self.ipam.ranges.as_ref().and_then(Value::as_array);
        let sets = ranges.into_iter().flatten().filter_map(Value::as_array).flatten();
        said(&self.ipam.subnet) || sets.filter_map(|range| range.get("subnet")?.as_str()).any(said)
    }

    /// The addresses that the configuration asks for, from `runtimeConfig.ips` or else `args.cni.ips`.
    pub(crate) fn requested_ips(&self) -> Result<Vec<IpAddr>, CniError> {
        let (field, list) = if self.runtime_config.ips.is_empty() {
            ("args.cni.ips", &self.args.cni.ips)
        } else {
            ("runtimeConfig.ips", &self.runtime_config.ips)
        };
        list.iter()
            .map(|text| {
                parse_ip(text)
                    .ok_or_else(|| CniError::config(field, format!("{text:?} is not an IP address")))
            })
            .collect()
    }
}

/// An address, with or without a prefix length, which we do not need.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    let address = text.trim().split_once('/').map_or(text.trim(), |(a, _)| a);
    address.parse().ok()
}

/// Whether a text is a container id or network name by the specification.
pub(crate) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// To runtimes and configurations written in Go, null is the same as nothing: containerd gives a pod without annotations
/// `"io.kubernetes.cri.pod-annotations": null`.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Parts that are objects, and lists of objects: a list in place of an object would be read by position.
const OBJECTS: [&[&str]; 11] = [
    &["ipam"],
    &["policy"],
    &["kubernetes"],
    &["feature_control"],
    &["container_settings"],
    &["dataplane_options"],
    &["dns"],
    &["runtimeConfig"],
    &["runtimeConfig", "dns"],
    &["args"],
    &["args", "cni"],
];
/// See [`OBJECTS`].
const LISTS: [&[&str]; 3] = [
    &["args", "cni", "labels"],
    &["args", "cni", "ports"],
    &["cni.dev/valid-attachments"],
];

fn check_shapes(json: &Value) -> Result<(), CniError> {
    let at = |path: &[&str]| path.iter().try_fold(json, |v, key| v.get(key));
    let refuse = |field: String, what: &str| Err(CniError::config(&field, format!("{what} is expected")));
    for path in OBJECTS {
        if at(path).is_some_and(|v| !v.is_object()) {
            return refuse(path.join("."), "an object");
        }
    }
    for path in LISTS {
        let items = at(path).and_then(Value::as_array).into_iter().flatten();
        if let Some(i) = items.into_iter().position(|v| !v.is_object()) {
            return refuse(format!("{}[{i}]", path.join(".")), "an object");
        }
    }
    if let Some(sets) = at(&["ipam", "ranges"]) {
        let whole = |set: &Value| {
            set.as_array()
                .is_some_and(|ranges| ranges.iter().all(Value::is_object))
        };
        if !sets.as_array().is_some_and(|s| s.iter().all(whole)) {
            return refuse("ipam.ranges".to_owned(), "a list of lists of objects");
        }
    }
    Ok(())
}

fn not_json(error: &serde_json::Error) -> CniError {
    CniError::new(
        Code::Decode,
        "the network configuration on stdin cannot be decoded",
        format!("{error}; a JSON object is expected"),
    )
}
