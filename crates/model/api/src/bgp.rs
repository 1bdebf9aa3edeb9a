use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Kind, NoStatus, Spec, meta::null_is_default};

/// The number of an autonomous system, read from a number or from a text as `64512` or `1.10`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsNumber(pub u32);

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<u32> for AsNumber {
    fn from(n: u32) -> Self {
        Self(n)
    }
}

/// A text that is no AS number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no AS number: 0 to 4294967295, or two halves of 0 to 65535 as in \"1.10\"")]
pub struct BadAsNumber(pub String);

impl FromStr for AsNumber {
    type Err = BadAsNumber;
    fn from_str(text: &str) -> Result<Self, BadAsNumber> {
        let parsed = match text.split_once('.') {
            None => text.parse().ok(),
            Some((high, low)) => match (high.parse::<u16>(), low.parse::<u16>()) {
                (Ok(high), Ok(low)) => Some(u32::from(high) << 16 | u32::from(low)),
                _ => None,
            },
        };
        parsed.map(AsNumber).ok_or_else(|| BadAsNumber(text.to_owned()))
    }
}

impl Serialize for AsNumber {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl de::Visitor<'_> for V {
            type Value = AsNumber;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number from 0 to 4294967295")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<AsNumber, E> {
                u32::try_from(n)
                    .map(AsNumber)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<AsNumber, E> {
                u32::try_from(n)
                    .map(AsNumber)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<AsNumber, E> {
                s.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(V)
    }
}

/// A feature that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Toggle {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}

/// Where a password is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPassword {
    /// A key of a Kubernetes secret in the agent's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
}

/// A key of a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretKeySelector {
    /// The secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// BGP settings of the cluster (`default`) or of one node (`node.<name>`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    /// Severity from which BGP is logged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_severity_screen: String,
    /// Whether every node peers with every other; yes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// The nodes' AS; 64512 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Ranges of LoadBalancer addresses to advertise.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "serviceLoadBalancerIPs"
    )]
    pub service_load_balancer_ips: Vec<ServiceIpBlock>,
    /// Ranges of external addresses to advertise.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "serviceExternalIPs"
    )]
    pub service_external_ips: Vec<ServiceIpBlock>,
    /// Ranges of cluster addresses to advertise.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "serviceClusterIPs"
    )]
    pub service_cluster_ips: Vec<ServiceIpBlock>,
    /// Whether LoadBalancer addresses are advertised as their range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<Toggle>,
    /// Names for community values.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub communities: Vec<Community>,
    /// Communities of prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// The port to listen on; 179 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Password of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,
    /// How long a restarting mesh peer keeps its routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<String>,
    /// The addresses to listen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Interfaces whose routes are not read.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ignored_interfaces: Vec<String>,
    /// The node's IPv4 address in sessions with its own workloads.
    #[serde(skip_serializing_if = "String::is_empty", rename = "localWorkloadPeeringIPV4")]
    pub local_workload_peering_ipv4: String,
    /// The node's IPv6 address in sessions with its own workloads.
    #[serde(skip_serializing_if = "String::is_empty", rename = "localWorkloadPeeringIPV6")]
    pub local_workload_peering_ipv6: String,
    /// Which of the cluster's routes BIRD programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Metric of IPv4 routes.
    #[serde(skip_serializing_if = "Option::is_none", rename = "ipv4NormalRoutePriority")]
    pub ipv4_normal_route_priority: Option<i64>,
    /// Metric of IPv6 routes.
    #[serde(skip_serializing_if = "Option::is_none", rename = "ipv6NormalRoutePriority")]
    pub ipv6_normal_route_priority: Option<i64>,
}

impl Spec for BgpConfigurationSpec {
    const KIND: Kind = Kind::BgpConfiguration;
    type Status = NoStatus;
}

/// A range of service addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceIpBlock {
    /// The range.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cidr: String,
}

/// A name for a community value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Community {
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `aa:nn` or `aa:nn:mm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// Communities of a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixAdvertisement {
    /// The prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cidr: String,
    /// Names or values.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub communities: Vec<String>,
}

/// The addresses that BGP listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BindMode {
    /// All.
    None,
    /// The node's.
    NodeIP,
}

/// Which of the cluster's routes BIRD programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProgramClusterRoutes {
    /// All.
    Enabled,
    /// None.
    Disabled,
    /// Those through IP-in-IP.
    EnabledIPIPOnly,
    /// Those without encapsulation.
    EnabledNoEncapOnly,
}

/// What happens to the next hop of an announced route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NextHopMode {
    /// As BGP has it.
    Auto,
    /// The announcing node.
    #[serde(rename = "Self")]
    Own,
    /// Unchanged.
    Keep,
}

/// The source address of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceAddress {
    /// The node's.
    UseNodeIP,
    /// The kernel picks it.
    None,
}

/// A BGP peer of some nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// The one node that has the peer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The nodes that have the peer; all when neither is set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
    /// The peer's address, with a port as `1.2.3.4:179` or `[fd00::1]:179`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "peerIP")]
    pub peer_ip: String,
    /// The peer's AS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// The AS that the node shows this peer.
    #[serde(skip_serializing_if = "Option::is_none", rename = "localASNumber")]
    pub local_as_number: Option<AsNumber>,
    /// Nodes as peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_selector: String,
    /// Workloads of the node as peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_workload_selector: String,
    /// Deprecated; see `nextHopMode`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_original_next_hop: bool,
    /// What happens to the next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// Password of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,
    /// Source address of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// How long a restarting peer keeps its routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<String>,
    /// How often a sign of life is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    /// How often the own AS may occur in a path.
    #[serde(skip_serializing_if = "Option::is_none", rename = "numAllowedLocalASNumbers")]
    pub num_allowed_local_as_numbers: Option<i32>,
    /// The most hops to the peer, by time to live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// The gateway through which the peer is reached.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reachable_by: String,
    /// Names of BGPFilters, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub filters: Vec<String>,
    /// `Auto` or `Manual`: whether the other side of a peering between nodes is made too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,
}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BgpPeer;
    type Status = NoStatus;
}

/// Whether the other side of a peering between nodes is made too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReversePeering {
    /// Yes.
    Auto,
    /// No.
    Manual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numbers_have_three_forms() {
        for (text, n) in [
            ("64512", 64512),
            ("\"64512\"", 64512),
            ("\"1.10\"", 65546),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(
                serde_json::from_str::<AsNumber>(text).unwrap(),
                AsNumber(n),
                "{text}"
            );
        }
        for text in ["-1", "4294967296", "\"1.65536\"", "\"x\"", "1.5", "true"] {
            assert!(serde_json::from_str::<AsNumber>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&AsNumber(65546)).unwrap(), "65546");
    }
}
