//! Who the workload is: everything that follows from environment and configuration alone.

use std::collections::BTreeMap;

use caracal_api::{Kind, ResourceKey};
use caracal_convert::{
    LABEL_NAMESPACE, LABEL_ORCHESTRATOR, LABEL_SERVICE_ACCOUNT, ORCHESTRATOR_KUBERNETES, WepName,
    namespace_profile, service_account_profile, veth_name,
};
use caracal_ids::NodeName;
use caracal_net::MacAddr;
use sha1::{Digest, Sha1};

use crate::{
    annotations::{Annotations, can_be_a_station},
    env::Env,
    error::CniError,
    netconf::NetConf,
};

/// What precedes the host's side of a veth pair.
const VETH_PREFIX: &str = "cali";
/// The orchestrator of containers that are no pods.
const ORCHESTRATOR_CNI: &str = "cni";
/// The namespace of endpoints that are no pods.
const DEFAULT_NAMESPACE: &str = "default";
/// What is kept beside the addresses of interfaces that are not the first.
pub(crate) const INTERFACE_ATTRIBUTE: &str = "interface";
/// How many digits of a container id name its interface.
const ID_DIGITS: usize = 11;
/// The interface that every container has. Others get names of their own on the host and handles of their own.
pub(crate) const FIRST_INTERFACE: &str = "eth0";
/// The longest alias of a link.
const MAX_ALIAS: usize = 255;

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeName,
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// The interface inside.
    pub ifname: String,
    /// The pod's namespace and name; none for containers that are no pods.
    pub pod: Option<(String, String)>,
    /// The pod's service account.
    pub service_account: String,
    /// The MAC address asked for.
    pub hardware_address: Option<MacAddr>,
}

impl Identity {
    /// Reads it.
    pub(crate) fn new(env: &Env, conf: &NetConf, node: NodeName) -> Result<Self, CniError> {
        let pod = match (env.arg("K8S_POD_NAMESPACE"), env.arg("K8S_POD_NAME")) {
            (Some(namespace), Some(name)) => {
                for (arg, text) in [("K8S_POD_NAMESPACE", namespace), ("K8S_POD_NAME", name)] {
                    check_name(arg, text)?;
                }
                Some((namespace.to_owned(), name.to_owned()))
            }
            (None, None) => None,
            (Some(_), None) => return Err(half("K8S_POD_NAMESPACE", "K8S_POD_NAME")),
            (None, Some(_)) => return Err(half("K8S_POD_NAME", "K8S_POD_NAMESPACE")),
        };
        Ok(Self {
            node,
            network: conf.name.clone(),
            container_id: env.container_id.clone(),
            ifname: env.ifname.clone(),
            pod,
            service_account: conf.args.cni.service_account.clone(),
            hardware_address: hardware_address(env, conf)?,
        })
    }

    /// Whether it is the interface that every container has.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.ifname == FIRST_INTERFACE
    }

    /// What only interfaces beside the first one have in their names.
    fn further(&self) -> Option<&str> {
        (!self.is_first()).then_some(self.ifname.as_str())
    }

    /// The handle that holds its addresses.
    #[must_use]
    pub fn handle(&self) -> String {
        match self.further() {
            None => self.container_handle(),
            Some(ifname) => format!("{}.{ifname}", self.container_handle()),
        }
    }

    /// The handle of the container's first interface; with Calico, of whichever it has.
    #[must_use]
    pub fn container_handle(&self) -> String {
        format!("{}.{}", self.network, self.container_id)
    }

    /// The handle that very old versions used, which DEL gives back as well.
    #[must_use]
    pub fn old_handle(&self) -> Option<String> {
        self.pod
            .as_ref()
            .map(|(namespace, name)| format!("{namespace}.{name}"))
    }

    /// The namespace of its endpoint.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.pod
            .as_ref()
            .map_or(DEFAULT_NAMESPACE, |(namespace, _)| namespace)
    }

    /// `k8s` or `cni`.
    #[must_use]
    pub fn orchestrator(&self) -> &'static str {
        if self.pod.is_some() {
            ORCHESTRATOR_KUBERNETES
        } else {
            ORCHESTRATOR_CNI
        }
    }

    /// The name of its endpoint.
    #[must_use]
    pub fn endpoint_name(&self) -> String {
        let workload = self.pod.as_ref().map_or(&self.container_id, |(_, name)| name);
        WepName::new(self.node.as_str(), self.orchestrator(), workload, &self.ifname).to_string()
    }

    /// Its endpoint in the datastore.
    #[must_use]
    pub fn endpoint_key(&self) -> ResourceKey {
        ResourceKey::namespaced(Kind::WorkloadEndpoint, self.namespace(), &self.endpoint_name())
    }

    /// The host's side of its veth pair.
    #[must_use]
    pub fn host_interface(&self) -> String {
        match (&self.pod, self.further()) {
            (Some((namespace, name)), None) => veth_name(VETH_PREFIX, namespace, name),
            // No pod's name has a slash.
            (Some((namespace, name)), Some(ifname)) => {
                veth_name(VETH_PREFIX, namespace, &format!("{name}/{ifname}"))
            }
            (None, None) => match short_name(&self.container_id) {
                Some(short) => format!("{VETH_PREFIX}{short}"),
                None => veth_name(VETH_PREFIX, "", &self.container_id),
            },
            (None, Some(ifname)) => veth_name(VETH_PREFIX, "", &format!("{}/{ifname}", self.container_id)),
        }
    }

    /// The alias of the host's side, `<container>/<interface>/<network>`: tells whose the pair is even when the
    /// datastore is away, and an older container of a pod from a newer one, for both have the same interface name.
    #[must_use]
    pub fn alias(&self) -> String {
        let whole = format!("{}/{}/{}", self.container_id, self.ifname, self.network);
        if whole.len() <= MAX_ALIAS {
            return whole;
        }
        let digest: String = Sha1::digest(&self.network)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("{}/{}/{digest}", self.container_id, self.ifname)
    }

    /// The MAC address inside, as asked for; otherwise the same each time that ADD is called for this container.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        if let Some(wanted) = self.hardware_address {
            return wanted;
        }
        let digest = Sha1::digest(format!("{}/{}", self.container_id, self.ifname));
        let mut mac = [0; 6];
        mac.copy_from_slice(&digest[..6]);
        // Locally administered, and of one station.
        mac[0] = (mac[0] & 0xfc) | 0x02;
        MacAddr(mac)
    }

    /// Its profiles, in order.
    #[must_use]
    pub fn profiles(&self) -> Vec<String> {
        let Some((namespace, _)) = &self.pod else {
            return vec![self.network.clone()];
        };
        let mut profiles = vec![namespace_profile(namespace)];
        if !self.service_account.is_empty() {
            profiles.push(service_account_profile(namespace, &self.service_account));
        }
        profiles
    }

    /// Labels that no workload chooses for itself.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (LABEL_NAMESPACE.to_owned(), self.namespace().to_owned()),
            (LABEL_ORCHESTRATOR.to_owned(), self.orchestrator().to_owned()),
        ]);
        if !self.service_account.is_empty() {
            labels.insert(LABEL_SERVICE_ACCOUNT.to_owned(), self.service_account.clone());
        }
        labels
    }

    /// What is kept beside its addresses.
    #[must_use]
    pub fn attributes(&self, timestamp: String) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::from([
            ("node".to_owned(), self.node.to_string()),
            ("timestamp".to_owned(), timestamp),
        ]);
        if let Some((namespace, name)) = &self.pod {
            attributes.insert("namespace".to_owned(), namespace.clone());
            attributes.insert("pod".to_owned(), name.clone());
        }
        if let Some(ifname) = self.further() {
            attributes.insert(INTERFACE_ATTRIBUTE.to_owned(), ifname.to_owned());
        }
        attributes
    }
}

/// The start of a container's id, where it tells the container from others: ids of runtimes are random digits.
fn short_name(id: &str) -> Option<&str> {
    let random = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if id.len() <= ID_DIGITS {
        return Some(id);
    }
    id.bytes().all(random).then(|| &id[..ID_DIGITS])
}

/// The MAC address that an annotation, the runtime or its arguments ask for.
fn hardware_address(env: &Env, conf: &NetConf) -> Result<Option<MacAddr>, CniError> {
    if let Some(mac) = Annotations::of(conf).hardware_address()? {
        return Ok(Some(mac));
    }
    let read = |text: &str, wrong: &dyn Fn(String) -> CniError| {
        let mac: MacAddr = text.parse().map_err(|e| wrong(format!("{e}")))?;
        if can_be_a_station(mac) {
            Ok(Some(mac))
        } else {
            Err(wrong(format!(
                "{text:?} is a group address: no interface can have it"
            )))
        }
    };
    let capability = conf.runtime_config.mac.as_str();
    match env.arg("MAC") {
        _ if !capability.is_empty() => read(capability, &|why| CniError::config("runtimeConfig.mac", why)),
        Some(text) => read(text, &|why| CniError::env("CNI_ARGS", format!("MAC: {why}"))),
        None => Ok(None),
    }
}

fn half(there: &str, missing: &str) -> CniError {
    CniError::env(
        "CNI_ARGS",
        format!("{there} is set, but {missing} is not: a pod needs both"),
    )
}

/// A name that becomes part of a key and of labels.
fn check_name(arg: &str, text: &str) -> Result<(), CniError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if text.len() <= 253 && text.bytes().all(good) && end(text.bytes().next()) && end(text.bytes().last()) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(CniError::env(
        "CNI_ARGS",
        format!(
            "{arg}={shown}: not a name of Kubernetes: lower-case letters, digits, '-' and '.', at most 253"
        ),
    ))
}

/// The node's name: from the configuration, its file, or the host's name.
pub(crate) fn node_name(
    conf: &NetConf,
    file: impl FnOnce(&str) -> Result<Option<String>, CniError>,
    host: impl FnOnce() -> Result<String, CniError>,
) -> Result<NodeName, CniError> {
    const FILE: &str = "/var/lib/calico/nodename";
    let said = [&conf.nodename, &conf.kubernetes.node_name, &conf.hostname];
    if let Some(name) = said.into_iter().find(|n| !n.is_empty()) {
        return NodeName::new(name).map_err(|e| CniError::config("nodename", e));
    }
    let path = if conf.nodename_file.is_empty() {
        FILE
    } else {
        &conf.nodename_file
    };
    let name = match file(path)?
        .map(|text| text.trim().to_owned())
        .filter(|t| !t.is_empty())
    {
        Some(name) => name,
        None if conf.nodename_file_optional => host()?.trim().to_lowercase(),
        None => {
            return Err(CniError::new(
                crate::error::Code::TryAgain,
                "the node's name is not known",
                format!(
                    "{path} does not exist: start the node agent, which writes it, or set nodename, or \
                     nodename_file_optional to take the host's name"
                ),
            ));
        }
    };
    NodeName::new(&name).map_err(|e| CniError::config("nodename_file", e))
}
