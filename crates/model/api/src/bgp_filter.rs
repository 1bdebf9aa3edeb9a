use serde::{Deserialize, Serialize};

use crate::{AsNumber, Kind, NoStatus, Spec, meta::null_is_default};

/// Rules for the routes of BGP peers: the first that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BgpFilterSpec {
    /// IPv4 routes that are announced.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "exportV4"
    )]
    pub export_v4: Vec<BgpFilterRule>,
    /// IPv4 routes that are taken.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "importV4"
    )]
    pub import_v4: Vec<BgpFilterRule>,
    /// IPv6 routes that are announced.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "exportV6"
    )]
    pub export_v6: Vec<BgpFilterRule>,
    /// IPv6 routes that are taken.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default",
        rename = "importV6"
    )]
    pub import_v6: Vec<BgpFilterRule>,
}

impl Spec for BgpFilterSpec {
    const KIND: Kind = Kind::BgpFilter;
    type Status = NoStatus;
}

/// A rule on routes. All criteria must match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpFilterRule {
    /// The range that `matchOperator` compares with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cidr: String,
    /// Bounds of the route's prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// Where the route comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RouteSource>,
    /// The route's interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// How the range is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// The kind of peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    /// Communities of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// How the route's AS path starts.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub as_path_prefix: Vec<AsNumber>,
    /// The route's metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// What happens to the route.
    pub action: FilterAction,
    /// What is changed of an accepted route.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub operations: Vec<FilterOperation>,
}

/// Bounds of a prefix length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixLength {
    /// The shortest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteSource {
    /// From other nodes and outside peers.
    RemotePeers,
}

/// How a route's prefix is compared with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchOperator {
    /// It is the range.
    Equal,
    /// It is not the range.
    NotEqual,
    /// It is inside.
    In,
    /// It is not inside.
    NotIn,
}

/// The kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerType {
    /// Of another AS.
    #[serde(rename = "eBGP")]
    External,
    /// Of the same AS.
    #[serde(rename = "iBGP")]
    Internal,
}

/// Communities that a route must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommunityMatch {
    /// Exactly one value.
    #[serde(deserialize_with = "null_is_default")]
    pub values: Vec<String>,
}

/// What happens to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterAction {
    /// It passes.
    Accept,
    /// It does not.
    Reject,
}

/// A change of an accepted route: exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterOperation {
    /// Adds a community.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers before the path.
    #[serde(skip_serializing_if = "Option::is_none", rename = "prependASPath")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// Adds a community.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddCommunity {
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// Puts AS numbers before the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrependAsPath {
    /// One to ten numbers.
    #[serde(deserialize_with = "null_is_default")]
    pub prefix: Vec<AsNumber>,
}

/// Sets the metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPriority {
    /// The metric.
    pub value: i64,
}
