use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AsNumber, Kind, Spec, meta::null_is_default};

/// A node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Addresses and BGP settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgpSpec>,
    /// Address of `vxlan.calico`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv4VXLANTunnelAddr")]
    pub ipv4_vxlan_tunnel_addr: String,
    /// MAC address of `vxlan.calico`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "vxlanTunnelMACAddr")]
    pub vxlan_tunnel_mac_addr: String,
    /// Address of `vxlan-v6.calico`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv6VXLANTunnelAddr")]
    pub ipv6_vxlan_tunnel_addr: String,
    /// MAC address of `vxlan-v6.calico`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "vxlanTunnelMACAddrV6")]
    pub vxlan_tunnel_mac_addr_v6: String,
    /// How orchestrators call the node.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub orch_refs: Vec<OrchRef>,
    /// WireGuard addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<NodeWireguardSpec>,
    /// The node's addresses.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub addresses: Vec<NodeAddress>,
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = NodeStatus;
}

/// Addresses and BGP settings of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgpSpec {
    /// AS number; the cluster's when absent.
    #[serde(skip_serializing_if = "Option::is_none", rename = "asNumber")]
    pub as_number: Option<AsNumber>,
    /// IPv4 address with the prefix length of its subnet.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv4Address")]
    pub ipv4_address: String,
    /// IPv6 address with the prefix length of its subnet.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv6Address")]
    pub ipv6_address: String,
    /// Address of `tunl0`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "ipv4IPIPTunnelAddr")]
    pub ipv4_ipip_tunnel_addr: String,
    /// Cluster id of a route reflector.
    #[serde(skip_serializing_if = "String::is_empty", rename = "routeReflectorClusterID")]
    pub route_reflector_cluster_id: String,
}

/// How an orchestrator calls a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    /// The node's name there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// The orchestrator, for example `k8s`.
    pub orchestrator: String,
}

/// WireGuard addresses of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeWireguardSpec {
    /// IPv4 address of the interface.
    #[serde(skip_serializing_if = "String::is_empty", rename = "interfaceIPv4Address")]
    pub interface_ipv4_address: String,
    /// IPv6 address of the interface.
    #[serde(skip_serializing_if = "String::is_empty", rename = "interfaceIPv6Address")]
    pub interface_ipv6_address: String,
}

/// An address of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// The address, with or without a prefix length.
    pub address: String,
    /// `CalicoNodeIP`, `InternalIP`, `ExternalIP`, …
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub address_type: String,
}

/// Status of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// WireGuard public key for IPv4.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wireguard_public_key: String,
    /// WireGuard public key for IPv6.
    #[serde(skip_serializing_if = "String::is_empty", rename = "wireguardPublicKeyV6")]
    pub wireguard_public_key_v6: String,
    /// Pod ranges that Kubernetes gave the node.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "podCIDRs"
    )]
    pub pod_cidrs: Vec<String>,
    /// Fields of later versions, kept.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}
