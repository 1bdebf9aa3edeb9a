//! What a workload asks for by annotations, under the names that Calico gave them.
//!
//! Without Kubernetes they come from the network configuration: `args.cni.annotations`, or the runtime's own copy of
//! the pod's (`runtimeConfig`, capability `io.kubernetes.cri.pod-annotations`, which containerd offers).

use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{IpNat, ObjectMeta, QosControls};
use caracal_convert::{Pod, PodSpec, pod};
use caracal_net::{Family, MacAddr};

use crate::{
    error::{CniError, Code},
    netconf::NetConf,
};

const IP_ADDRS: &str = "cni.projectcalico.org/ipAddrs";
const IP_ADDRS_NO_IPAM: &str = "cni.projectcalico.org/ipAddrsNoIpam";
const IPV4_POOLS: &str = "cni.projectcalico.org/ipv4pools";
const IPV6_POOLS: &str = "cni.projectcalico.org/ipv6pools";
const HARDWARE_ADDRESS: &str = "cni.projectcalico.org/hwAddr";
const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
const POD_IPS: &str = "cni.projectcalico.org/podIPs";

/// The annotations of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Annotations(BTreeMap<String, String>);

/// What goes into the endpoint as it is.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extras {
    pub(crate) ip_nats: Vec<IpNat>,
    pub(crate) source_prefixes: Vec<String>,
    pub(crate) qos: Option<QosControls>,
}

fn wrong(key: &str, why: impl std::fmt::Display) -> CniError {
    CniError::config(&format!("args.cni.annotations, {key}"), why)
}

fn not_enabled(key: &str, feature: &str) -> CniError {
    CniError::new(
        Code::UnsupportedField,
        format!("annotation {key}"),
        format!("set feature_control.{feature} to true in the network configuration to allow it"),
    )
}

impl Annotations {
    pub(crate) fn of(conf: &NetConf) -> Self {
        let mut all = conf.runtime_config.pod_annotations.clone();
        all.extend(conf.args.cni.annotations.clone());
        Self(all)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// A list of texts as JSON.
    fn list(&self, key: &str, example: &str) -> Result<Option<Vec<String>>, CniError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let list = serde_json::from_str(text).map_err(|e| {
            wrong(
                key,
                format!("not a list of texts in JSON, such as {example}: {e}"),
            )
        })?;
        Ok(Some(list))
    }

    /// Addresses, at most one of each family.
    fn addresses(&self, key: &str) -> Result<Option<Vec<IpAddr>>, CniError> {
        let Some(texts) = self.list(key, r#"["10.0.0.1"]"#)? else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for text in texts {
            let address: IpAddr = text
                .parse()
                .map_err(|_| wrong(key, format!("{text:?} is not an IP address")))?;
            if found.iter().any(|f| Family::of(*f) == Family::of(address)) {
                let why = "more than one address of a family: at most one IPv4 and one IPv6 address";
                return Err(wrong(key, why));
            }
            found.push(address);
        }
        if found.is_empty() {
            return Err(wrong(key, "the list is empty"));
        }
        Ok(Some(found))
    }

    /// The addresses that IPAM shall assign.
    pub(crate) fn ip_addrs(&self) -> Result<Option<Vec<IpAddr>>, CniError> {
        self.addresses(IP_ADDRS)
    }

    /// The addresses that are used without IPAM.
    pub(crate) fn ip_addrs_no_ipam(&self, conf: &NetConf) -> Result<Option<Vec<IpAddr>>, CniError> {
        let found = self.addresses(IP_ADDRS_NO_IPAM)?;
        if found.is_some() {
            if !conf.feature_control.ip_addrs_no_ipam {
                return Err(not_enabled(IP_ADDRS_NO_IPAM, "ip_addrs_no_ipam"));
            }
            if self.get(IP_ADDRS).is_some() {
                let why = format!("{IP_ADDRS} is there as well: only one of them can say the addresses");
                return Err(wrong(IP_ADDRS_NO_IPAM, why));
            }
        }
        Ok(found)
    }

    /// The pools to take addresses from, instead of the configuration's.
    pub(crate) fn pools(&self, family: Family) -> Result<Option<Vec<String>>, CniError> {
        let key = match family {
            Family::V4 => IPV4_POOLS,
            Family::V6 => IPV6_POOLS,
        };
        self.list(key, r#"["pool-1"]"#)
    }

    /// The MAC address inside.
    pub(crate) fn hardware_address(&self) -> Result<Option<MacAddr>, CniError> {
        let Some(text) = self.get(HARDWARE_ADDRESS) else {
            return Ok(None);
        };
        let mac: MacAddr = text.parse().map_err(|e| wrong(HARDWARE_ADDRESS, e))?;
        if !can_be_a_station(mac) {
            let why = format!("{text:?} is a group address: no interface can have it");
            return Err(wrong(HARDWARE_ADDRESS, why));
        }
        Ok(Some(mac))
    }

    /// What goes into the endpoint, for a workload with these addresses.
    pub(crate) fn extras(&self, conf: &NetConf, addresses: &[IpAddr]) -> Result<Extras, CniError> {
        if self.get(FLOATING_IPS).is_some() && !conf.feature_control.floating_ips {
            return Err(not_enabled(FLOATING_IPS, "floating_ips"));
        }
        if self.0.is_empty() {
            return Ok(Extras::default());
        }
        // The same reading as of a pod in Kubernetes.
        let mut annotations = self.0.clone();
        let own: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        annotations.insert(POD_IPS.to_owned(), own.join(","));
        let like = Pod {
            metadata: ObjectMeta {
                name: "workload".to_owned(),
                annotations,
                ..ObjectMeta::default()
            },
            spec: PodSpec {
                node_name: "node".to_owned(),
                ..PodSpec::default()
            },
            ..Pod::default()
        };
        let Some(read) = pod(&like) else {
            return Ok(Extras::default());
        };
        if let Some(problem) = read.problems.first() {
            return Err(CniError::config("args.cni.annotations", problem));
        }
        let spec = read.object.spec;
        Ok(Extras {
            ip_nats: spec.ip_nats,
            source_prefixes: spec.allow_spoofed_source_prefixes,
            qos: spec.qos_controls,
        })
    }
}

/// Whether a MAC address is of one station, and not zero.
pub(crate) fn can_be_a_station(mac: MacAddr) -> bool {
    mac.0[0] & 1 == 0 && mac.0 != [0; 6]
}
