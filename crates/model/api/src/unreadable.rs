//! Objects as a datastore holds them: read, or what is wrong with them and what stands in for them.

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, ClusterInformationSpec, FelixConfigurationSpec,
    GlobalNetworkPolicySpec, GlobalNetworkSetSpec, HostEndpointSpec, IpPoolSpec, IpReservationSpec, Kind,
    NetworkPolicySpec, NetworkSetSpec, Object, Problem, ProfileSpec, Resource, StagedGlobalNetworkPolicySpec,
    StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec, TierSpec, decode, refused::salvage,
};

/// Why an object cannot be read, and what is in force in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub reason: String,
    /// What stands in for it, with a name; nothing where the object is as good as gone.
    pub stand_in: Option<Arc<Resource>>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<String> for Unreadable {
    fn from(reason: String) -> Self {
        Self {
            reason,
            stand_in: None,
        }
    }
}

impl From<&str> for Unreadable {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// Fields that hold lists. Only speed depends on it: a list anywhere else is looked at closely.
const LISTS: &[&[u8]] = &[
    b"ingress",
    b"egress",
    b"types",
    b"nets",
    b"notNets",
    b"ports",
    b"notPorts",
    b"names",
    b"performanceHints",
    b"methods",
    b"paths",
    b"profiles",
    b"expectedIPs",
    b"allowedUses",
    b"policyTypes",
    b"from",
    b"to",
    b"matchExpressions",
    b"values",
    b"except",
    b"conditions",
    b"finalizers",
    b"ownerReferences",
    b"managedFields",
    b"reservedCIDRs",
];

/// Reads an object that a datastore holds. The types alone would take a list of values where an object of fields belongs,
/// each for the field of its place: that is refused as an API server would.
///
/// # Errors
/// With what is wrong, and what stands in for the object.
pub fn read_stored(kind: Kind, json: &[u8]) -> Result<Resource, Unreadable> {
    let read = Resource::from_slice(kind, json);
    let reason = match &read {
        Ok(_) if by_people(kind) && has_odd_lists(json) => misplaced_list(kind, json),
        Ok(_) => None,
        Err(e) => Some(e.to_string()),
    };
    match (read, reason) {
        (Ok(resource), None) => Ok(resource),
        (_, reason) => {
            let value: Option<Value> = serde_json::from_slice(json).ok();
            Err(Unreadable {
                reason: reason.unwrap_or_default(),
                stand_in: value.and_then(|v| salvage(kind, &v)).map(Arc::new),
            })
        }
    }
}

/// Kinds that people write. Programs write the others, and many.
fn by_people(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NetworkPolicy
            | Kind::GlobalNetworkPolicy
            | Kind::StagedNetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
            | Kind::StagedKubernetesNetworkPolicy
            | Kind::Tier
            | Kind::Profile
            | Kind::NetworkSet
            | Kind::GlobalNetworkSet
            | Kind::HostEndpoint
            | Kind::IpPool
            | Kind::IpReservation
            | Kind::ClusterInformation
            | Kind::FelixConfiguration
            | Kind::BgpConfiguration
            | Kind::BgpPeer
            | Kind::BgpFilter
    )
}

/// Whether a list is where none is expected: in another list, or in a field that is none of [`LISTS`]. Of JSON.
fn has_odd_lists(json: &[u8]) -> bool {
    let (mut key, mut is_value, mut at) = (&json[..0], false, 0);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                let start = at + 1;
                at = start;
                while json.get(at).is_some_and(|b| *b != b'"') {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                if !is_value {
                    key = json.get(start..at).unwrap_or_default();
                }
                is_value = false;
            }
            b':' => is_value = true,
            b'[' if !is_value || !LISTS.contains(&key) => return true,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => is_value = false,
        }
        at += 1;
    }
    false
}

/// What is wrong with a list where an object belongs.
fn misplaced_list(kind: Kind, json: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let problems = match kind {
        Kind::NetworkPolicy => decode::<Object<NetworkPolicySpec>>(&value).err(),
        Kind::GlobalNetworkPolicy => decode::<Object<GlobalNetworkPolicySpec>>(&value).err(),
        Kind::StagedNetworkPolicy => decode::<Object<StagedNetworkPolicySpec>>(&value).err(),
        Kind::StagedGlobalNetworkPolicy => decode::<Object<StagedGlobalNetworkPolicySpec>>(&value).err(),
        Kind::StagedKubernetesNetworkPolicy => {
            decode::<Object<StagedKubernetesNetworkPolicySpec>>(&value).err()
        }
        Kind::Tier => decode::<Object<TierSpec>>(&value).err(),
        Kind::Profile => decode::<Object<ProfileSpec>>(&value).err(),
        Kind::NetworkSet => decode::<Object<NetworkSetSpec>>(&value).err(),
        Kind::GlobalNetworkSet => decode::<Object<GlobalNetworkSetSpec>>(&value).err(),
        Kind::HostEndpoint => decode::<Object<HostEndpointSpec>>(&value).err(),
        Kind::IpPool => decode::<Object<IpPoolSpec>>(&value).err(),
        Kind::IpReservation => decode::<Object<IpReservationSpec>>(&value).err(),
        Kind::ClusterInformation => decode::<Object<ClusterInformationSpec>>(&value).err(),
        Kind::FelixConfiguration => decode::<Object<FelixConfigurationSpec>>(&value).err(),
        Kind::BgpConfiguration => decode::<Object<BgpConfigurationSpec>>(&value).err(),
        Kind::BgpPeer => decode::<Object<BgpPeerSpec>>(&value).err(),
        Kind::BgpFilter => decode::<Object<BgpFilterSpec>>(&value).err(),
        _ => None,
    };
    // Unknown fields come first, and are no reason to refuse what is stored.
    let Problem { path, message, .. } = problems?.pop()?;
    Some(format!("{path}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, spec: &str) -> Result<Resource, Unreadable> {
        let text = format!(
            r#"{{"apiVersion":"projectcalico.org/v3","kind":"x","metadata":{{"name":"a","finalizers":["f"]}},"spec":{spec}}}"#
        );
        read_stored(kind, text.as_bytes())
    }

    #[test]
    fn a_list_where_an_object_belongs_is_refused() {
        for (kind, spec, reason) in [
            (
                Kind::GlobalNetworkPolicy,
                r#"{"ingress":[["Allow"]]}"#,
                "spec.ingress[0]: found a list",
            ),
            (
                Kind::NetworkPolicy,
                r#"{"egress":[{"action":"Allow","source":[["10.0.0.0/8"]]}]}"#,
                "spec.egress[0].source: found a list",
            ),
            (Kind::Tier, "[5]", "spec: found a list"),
            (
                Kind::HostEndpoint,
                r#"{"node":"n","ports":[["a","TCP",5]]}"#,
                "spec.ports[0]: found a list",
            ),
        ] {
            let error = read(kind, spec).unwrap_err();
            assert!(error.reason.starts_with(reason), "{spec}: {error}");
        }
        let error = read(Kind::GlobalNetworkPolicy, r#"{"ingress":[["Allow"]]}"#).unwrap_err();
        let Some(Resource::GlobalNetworkPolicy(rest)) = error.stand_in.as_deref() else {
            panic!("{error:?}")
        };
        assert_eq!(rest.spec.ingress.len(), 1);
    }

    #[test]
    fn what_is_not_known_is_no_reason() {
        for spec in [
            r#"{"future":[[1],[2]],"ingress":[{"action":"Allow","more":["x"]}]}"#,
            r#"{"ingress":null,"selector":"a in {'[','\"['}"}"#,
            r#"{ "ingress" : [ {"action" : "Deny" , "source":{"nets" : [ "10.0.0.0/8" ]} } ] }"#,
        ] {
            read(Kind::GlobalNetworkPolicy, spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
        }
    }

    #[test]
    fn only_odd_lists_are_looked_at_closely() {
        for (odd, text) in [
            (false, r#"{"nets":["[","\"["],"x":"[","types": []}"#),
            (true, r#"{"x":[]}"#),
            (true, r#"{"nets":[[]]}"#),
            (true, r#"{"nets":[{},[]]}"#),
            (true, "[]"),
            (false, r#"{"nets":["a\\"],"ports":[1]}"#),
            (true, r#"{"nets":"x","y":[1]}"#),
            (false, r#"{"a":"unended \"#),
        ] {
            assert_eq!(has_odd_lists(text.as_bytes()), odd, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_as_good_as_gone() {
        let error = read_stored(Kind::Tier, b"{").unwrap_err();
        assert_eq!(error.stand_in, None);
        assert_eq!(error.to_string(), error.reason);
    }
}
