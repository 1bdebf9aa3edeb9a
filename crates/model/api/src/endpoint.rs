use serde::{Deserialize, Serialize};

use crate::{Kind, NoStatus, Protocol, Spec, meta::null_is_default};

/// A workload's interface on a node: a pod's, or a virtual machine's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// `k8s`, `cni`, `openstack`, `libnetwork`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// The workload's name, for orchestrators other than Kubernetes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// The node the workload runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The container's id.
    #[serde(skip_serializing_if = "String::is_empty", rename = "containerID")]
    pub container_id: String,
    /// The pod's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The endpoint's name inside the workload, usually the interface (`eth0`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The name of the pod's service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// The endpoint's addresses as single-address CIDRs.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ip_networks: Vec<String>,
    /// Floating addresses.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "ipNATs"
    )]
    pub ip_nats: Vec<IpNat>,
    /// IPv4 gateway.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv4Gateway")]
    pub ipv4_gateway: String,
    /// IPv6 gateway.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv6Gateway")]
    pub ipv6_gateway: String,
    /// Profiles in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub profiles: Vec<String>,
    /// The host's side of the veth pair.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// The MAC address of the workload's side.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Ports that policy can name.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ports: Vec<WorkloadPort>,
    /// Prefixes that the workload may send from although they are not its own.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Bandwidth, packet rate and connection limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<QosControls>,
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
    type Status = NoStatus;
}

/// A one-to-one address translation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpNat {
    /// The workload's own address.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// The address it is reached at.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
}

/// A port of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// The name that rules use; empty when only a host port is declared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
    /// The host's port that leads to it.
    #[serde(default, skip_serializing_if = "is_zero_port")]
    pub host_port: u16,
    /// The host's address of the host port.
    #[serde(default, skip_serializing_if = "String::is_empty", rename = "hostIP")]
    pub host_ip: String,
}

fn is_zero_port(p: &u16) -> bool {
    *p == 0
}

/// A port of a host endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPort {
    /// The name that rules use.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// Limits of a workload's traffic, per direction; absent means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(
    missing_docs,
    reason = "the names say direction, quantity and unit; bits per second, bits, packets"
)]
pub struct QosControls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_bandwidth: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_bandwidth: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_peakrate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_peakrate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_minburst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_minburst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_packet_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_packet_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_packet_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_packet_burst: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_max_connections: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_max_connections: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "dscp")]
    pub dscp: Option<serde_json::Value>,
}

impl QosControls {
    /// The DSCP that packets are marked with: a number from 0 to 63, or one of its names. Nothing when there is none, or
    /// none that exists.
    #[must_use]
    pub fn dscp_number(&self) -> Option<u8> {
        let value = self.dscp.as_ref()?;
        match value {
            serde_json::Value::String(text) => dscp(text),
            number => u8::try_from(number.as_u64()?).ok().filter(|n| *n < 64),
        }
    }
}

/// Reads a DSCP: a number from 0 to 63, or a name (`DF`, `CS0` to `CS7`, `AF11` to `AF43`, `EF`, `VA`).
#[must_use]
pub fn dscp(text: &str) -> Option<u8> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<u8>() {
        return Some(number).filter(|n| *n < 64);
    }
    let digit = |b: u8, allowed: std::ops::RangeInclusive<u8>| {
        Some(b.wrapping_sub(b'0')).filter(|d| allowed.contains(d))
    };
    match upper.as_bytes() {
        b"DF" => Some(0),
        b"EF" => Some(46),
        b"VA" => Some(44),
        [b'C', b'S', class] => Some(digit(*class, 0..=7)? * 8),
        [b'A', b'F', class, drop] => Some(digit(*class, 1..=4)? * 8 + digit(*drop, 1..=3)? * 2),
        _ => None,
    }
}

/// A host's interface as an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// The node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The interface, or `*` for all that are not workloads'.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Addresses by which the interface is found.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "expectedIPs"
    )]
    pub expected_ips: Vec<String>,
    /// Profiles in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub profiles: Vec<String>,
    /// Ports that policy can name.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ports: Vec<EndpointPort>,
}

impl Spec for HostEndpointSpec {
    const KIND: Kind = Kind::HostEndpoint;
    type Status = NoStatus;
}
