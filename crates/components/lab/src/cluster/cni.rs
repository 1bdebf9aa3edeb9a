//! Attaching pods as a container runtime does: the plugin as a program, environment and standard input in, JSON out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, bail};
use caracal_net::IfAddr;
use caracal_sys::NETNS_DIR;
use serde::Deserialize;
use serde_json::{Value, json};

use super::node::Site;
use super::{mountpoints, process};
use crate::prober::Transport;

/// The network's name.
const NETWORK: &str = "lab";
/// How long the plugin may take: it waits ten seconds for policy.
const LIMIT: Duration = Duration::from_secs(60);

/// A port that policy can name.
#[derive(Debug, Clone)]
pub(crate) struct NamedPort {
    /// The name.
    pub(crate) name: String,
    /// The protocol.
    pub(crate) protocol: Transport,
    /// The number.
    pub(crate) port: u16,
}

/// A pod and its network namespace.
#[derive(Debug, Clone)]
pub(crate) struct PodNet<'a> {
    /// The node.
    pub(crate) site: &'a Site,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// The container.
    pub(crate) container_id: &'a str,
    /// The name of its network namespace.
    pub(crate) netns: &'a str,
    /// Its labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// Its named ports.
    pub(crate) ports: Vec<NamedPort>,
    /// Its service account.
    pub(crate) service_account: &'a str,
    /// Addresses that it has to have; any of the pools when empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it gets an IPv6 address, too.
    pub(crate) dual_stack: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ips: Vec<AnswerIp>,
}

#[derive(Deserialize)]
struct AnswerIp {
    address: IfAddr,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

impl PodNet<'_> {
    /// ADD: gives the pod its interface; its addresses. May be called again for the same container.
    pub(crate) fn add(&self) -> anyhow::Result<Vec<IpAddr>> {
        let output = self.call("ADD")?;
        let answer: Answer = serde_json::from_slice(&output.stdout).context("the CNI plugin's answer")?;
        let mut addresses: Vec<IpAddr> = answer.ips.into_iter().map(|ip| ip.address.addr).collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// DEL: takes it away. Succeeds when it is gone already.
    pub(crate) fn del(&self) -> anyhow::Result<()> {
        self.call("DEL").map(drop)
    }

    fn call(&self, verb: &str) -> anyhow::Result<Output> {
        let mut command = process::caracal();
        command.arg0("calico");
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", self.container_id)
            .env("CNI_NETNS", Path::new(NETNS_DIR).join(self.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
                    self.namespace, self.name, self.container_id
                ),
            );
        let plan = mountpoints::plan(&self.site.dir);
        let input = self.configuration().to_string();
        let output = process::finish(
            &mut command,
            &self.site.open()?,
            Some(&plan),
            input.as_bytes(),
            LIMIT,
        );
        let what = || format!("CNI {verb} of pod {}/{}", self.namespace, self.name);
        let output = output.with_context(what)?;
        if output.status.success() {
            return Ok(output);
        }
        match serde_json::from_slice::<Refusal>(&output.stdout) {
            Ok(r) if r.details.is_empty() => bail!("{}: {} (code {})", what(), r.msg, r.code),
            Ok(r) => bail!("{}: {}: {} (code {})", what(), r.msg, r.details, r.code),
            Err(_) => bail!("{}: {}: {}", what(), output.status, process::said(&output)),
        }
    }

    fn configuration(&self) -> Value {
        let labels = self.labels.iter().map(|(k, v)| json!({"key": k, "value": v}));
        let named = self.ports.iter().filter(|p| !p.name.is_empty());
        let ports = named.map(|p| json!({"name": p.name, "protocol": p.protocol, "port": p.port}));
        let mut cni = json!({
            "labels": labels.collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
            "serviceAccount": self.service_account,
        });
        if !self.addresses.is_empty() {
            cni["ips"] = json!(self.addresses);
        }
        json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "type": "calico",
            "datastore_type": "etcdv3",
            "etcd_endpoints": self.site.endpoints,
            "log_file_path": self.site.log("cni"),
            "ipam": {
                "type": "calico-ipam",
                "assign_ipv4": "true",
                "assign_ipv6": if self.dual_stack { "true" } else { "false" },
            },
            "policy": {"type": "k8s"},
            "args": {"cni": cni},
        })
    }
}
