use serde::{Deserialize, Serialize};

use crate::{Kind, Spec, meta::null_is_default};

/// A request for a node's own report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    /// The node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// What to report.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub classes: Vec<StatusClass>,
    /// How often; 0 means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<i64>,
}

impl Spec for CalicoNodeStatusSpec {
    const KIND: Kind = Kind::CalicoNodeStatus;
    type Status = CalicoNodeStatusStatus;
}

/// A part of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StatusClass {
    /// The BGP daemons.
    Agent,
    /// The sessions.
    BGP,
    /// The routes.
    Routes,
}

/// The report of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatus {
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// The BGP daemons.
    pub agent: AgentReport,
    /// The sessions.
    pub bgp: BgpReport,
    /// The routes.
    pub routes: RouteReport,
}

/// The BGP daemons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentReport {
    /// For IPv4.
    #[serde(rename = "birdV4")]
    pub bird_v4: BgpDaemonStatus,
    /// For IPv6.
    #[serde(rename = "birdV6")]
    pub bird_v6: BgpDaemonStatus,
}

/// A BGP daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpDaemonStatus {
    /// `Ready` or `NotReady`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its router id.
    #[serde(skip_serializing_if = "String::is_empty", rename = "routerID")]
    pub router_id: String,
    /// When it started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_boot_time: String,
    /// When it read its configuration last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_reconfiguration_time: String,
}

/// The sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say what is counted")]
pub struct BgpReport {
    #[serde(rename = "numberEstablishedV4")]
    pub number_established_v4: i64,
    #[serde(rename = "numberNotEstablishedV4")]
    pub number_not_established_v4: i64,
    #[serde(rename = "numberEstablishedV6")]
    pub number_established_v6: i64,
    #[serde(rename = "numberNotEstablishedV6")]
    pub number_not_established_v6: i64,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "peersV4"
    )]
    pub peers_v4: Vec<PeerReport>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "peersV6"
    )]
    pub peers_v6: Vec<PeerReport>,
}

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerReport {
    /// The peer's address.
    #[serde(skip_serializing_if = "String::is_empty", rename = "peerIP")]
    pub peer_ip: String,
    /// `NodeMesh`, `NodePeer` or `GlobalPeer`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "type")]
    pub peer_type: String,
    /// The state by BGP's names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Since when.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
}

/// The routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteReport {
    /// For IPv4.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "routesV4"
    )]
    pub routes_v4: Vec<ReportedRoute>,
    /// For IPv6.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "routesV6"
    )]
    pub routes_v6: Vec<ReportedRoute>,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportedRoute {
    /// `FIB` or `RIB`.
    #[serde(skip_serializing_if = "String::is_empty", rename = "type")]
    pub route_type: String,
    /// Where it leads.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// Through whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Through which interface.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// From whom it is known.
    pub learned_from: LearnedFrom,
}

/// From whom a route is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LearnedFrom {
    /// `Kernel`, `Static`, `Direct`, `NodeMesh` or `BGPPeer`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_type: String,
    /// The peer's address.
    #[serde(skip_serializing_if = "String::is_empty", rename = "peerIP")]
    pub peer_ip: String,
}
