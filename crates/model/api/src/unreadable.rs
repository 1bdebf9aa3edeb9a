//! Objects as a datastore holds them: read, or what is wrong with them and what stands in for them.

use std::{fmt, sync::Arc};

use serde_json::{Value, json};

use crate::{IpamBlockSpec, Kind, Problem, Resource, manifest::decode_kind, refused::salvage};

/// Why an object cannot be read, and what is in force in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub reason: String,
    /// What stands in for it, with a name; nothing where the object is as good as gone.
    pub stand_in: Option<Arc<Resource>>,
    /// Where nothing stands in for it: its name and its status, so that the status can say what is wrong. It is not in
    /// force. Nothing for what is no object of JSON, and for kinds whose status says no such thing.
    pub bare: Option<Arc<Resource>>,
}

impl Unreadable {
    /// Where the object's status can be written: with what stands in for it, or with what is left of it.
    #[must_use]
    pub fn with_status(&self) -> Option<&Arc<Resource>> {
        self.stand_in.as_ref().or(self.bare.as_ref())
    }
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
            bare: None,
        }
    }
}

impl From<&str> for Unreadable {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// Fields that hold lists, and are objects of fields nowhere. Only speed depends on it: a list anywhere else is looked at
/// closely.
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
    b"ipNetworks",
    b"ipNATs",
    b"allowedUses",
    b"policyTypes",
    b"from",
    b"to",
    b"matchExpressions",
    b"values",
    b"except",
    b"finalizers",
    b"ownerReferences",
    b"managedFields",
    b"reservedCIDRs",
    b"addresses",
    b"orchRefs",
    b"endpoints",
    b"clusterIPs",
    b"externalIPs",
    b"ipFamilies",
    b"allocations",
    b"unallocated",
    b"attributes",
];

/// Reads an object that a datastore holds. The types alone would take a list of values where an object of fields belongs,
/// each for the field of its place: that is refused as an API server would.
///
/// # Errors
/// With what is wrong, and what stands in for the object.
pub fn read_stored(kind: Kind, json: &[u8]) -> Result<Resource, Unreadable> {
    let read = Resource::from_slice(kind, json);
    let reason = match &read {
        Ok(_) if has_odd_lists(json) => misplaced(kind, json),
        Ok(_) => None,
        Err(e) => Some(misplaced(kind, json).unwrap_or_else(|| e.to_string())),
    };
    match (read, reason) {
        (Ok(resource), None) => Ok(resource),
        (_, reason) => {
            let value: Option<Value> = serde_json::from_slice(json).ok();
            let stand_in = value.as_ref().and_then(|v| salvage(kind, v));
            let bare = value.filter(|v| v.is_object() && stand_in.is_none());
            let bare = bare.and_then(|_| bare_of(kind));
            Err(Unreadable {
                reason: shortened(reason.unwrap_or_default()),
                stand_in: stand_in.map(Arc::new),
                bare: bare.map(Arc::new),
            })
        }
    }
}

/// Whoever wrote a value of a megabyte gets its beginning told, and what belongs in its place, which comes last.
fn shortened(reason: String) -> String {
    const HALF: usize = 300;
    if reason.len() <= 2 * HALF {
        return reason;
    }
    let (start, end) = (
        reason.floor_char_boundary(HALF),
        reason.ceil_char_boundary(reason.len() - HALF),
    );
    format!("{}…{}", &reason[..start], &reason[end..])
}

/// Reads a block that is stored without metadata and is quite in order: blocks are read often and are large. Nothing says
/// that somebody has to look closer.
#[must_use]
pub fn read_bare_block(json: &[u8]) -> Option<IpamBlockSpec> {
    let spec: IpamBlockSpec = serde_json::from_slice(json).ok()?;
    (json.trim_ascii_start().starts_with(b"{") && !has_odd_lists(json)).then_some(spec)
}

/// A list of values where an object belongs is read by the types alone, each value for the field of its place. Whether a
/// list is where it may be one: behind another, or in a field that is none of [`LISTS`]. Of JSON; one in a text counts, too.
pub(crate) fn has_odd_lists(json: &[u8]) -> bool {
    memchr::memchr_iter(b'[', json).any(|at| {
        let before = json[..at].trim_ascii_end();
        let key = before
            .strip_suffix(b":")
            .and_then(|rest| rest.trim_ascii_end().strip_suffix(b"\""));
        let Some(key) = key else { return true };
        let start = memchr::memrchr(b'"', key).map_or(0, |quote| quote + 1);
        !LISTS.contains(&&key[start..])
    })
}

/// The first field that does not hold what its type wants, and what that is; nothing for what is no JSON.
fn misplaced(kind: Kind, json: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(json).ok()?;
    // Unknown fields come first, and are no reason to refuse what is stored.
    let Problem { path, message, .. } = decode_kind(kind, &value).err()?.pop()?;
    if path.is_root() {
        return Some(message);
    }
    Some(format!("{path}: {message}"))
}

/// What is left of an object whose status can say what is wrong with it. Who reads it from a datastore adds its identity
/// and its status.
fn bare_of(kind: Kind) -> Option<Resource> {
    match kind {
        Kind::Tier | Kind::IpPool => Resource::from_value(kind, json!({"metadata": {}})).ok(),
        _ => None,
    }
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
    fn kinds_that_programs_write_are_not_read_by_place_either() {
        for (kind, spec, reason) in [
            (Kind::KubernetesService, r#"["10.0.0.1"]"#, "spec: found a list"),
            (
                Kind::KubernetesService,
                r#"{"ports":[["web","TCP",80]]}"#,
                "spec.ports[0]: found a list",
            ),
            (
                Kind::KubernetesEndpointSlice,
                r#"{"addressType":"IPv4","endpoints":[[["10.0.0.1"]]],"ports":[]}"#,
                "spec.endpoints[0]: found a list",
            ),
            (
                Kind::KubernetesEndpointSlice,
                r#"{"endpoints":[],"ports":[{"port":80},["web","TCP",80]]}"#,
                "spec.ports[1]: found a list",
            ),
            (
                Kind::WorkloadEndpoint,
                r#"{"node":"n","ports":[["web","TCP",80]]}"#,
                "spec.ports[0]: found a list",
            ),
            (Kind::Node, r#"{"bgp":["10.0.0.1"]}"#, "spec.bgp: found a list"),
        ] {
            let error = read(kind, spec).unwrap_err();
            assert!(error.reason.starts_with(reason), "{spec}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_names_the_field_and_what_belongs_there() {
        for (kind, spec, field, belongs) in [
            (
                Kind::IpPool,
                r#"{"cidr":"10.0.0.0/8","vxlanMode":"always"}"#,
                "spec.vxlanMode: ",
                "Always",
            ),
            (Kind::IpPool, r#"{"cidr":5}"#, "spec.cidr: ", "string"),
            (Kind::Tier, r#"{"order":"first"}"#, "spec.order: ", "f64"),
            (Kind::Tier, "[5]", "spec: ", "a map of fields"),
            (
                Kind::GlobalNetworkPolicy,
                r#"{"ingress":[{"action":"Allow"},{"action":"Drop"}]}"#,
                "spec.ingress[1].action: ",
                "Allow, Deny, Log, Pass",
            ),
            (
                Kind::HostEndpoint,
                r#"{"node":"n","expectedIPs":"10.0.0.1"}"#,
                "spec.expectedIPs: ",
                "sequence",
            ),
        ] {
            let error = read(kind, spec).unwrap_err();
            assert!(
                error.reason.starts_with(field) && error.reason.contains(belongs),
                "{error}"
            );
        }
    }

    #[test]
    fn a_value_without_end_is_not_told_whole() {
        let spec = format!(r#"{{"ingress":[{{"action":"{}"}}]}}"#, "é".repeat(500_000));
        let reason = read(Kind::GlobalNetworkPolicy, &spec).unwrap_err().reason;
        assert!(reason.starts_with("spec.ingress[0].action: "), "{reason}");
        assert!(
            reason.ends_with("allowed are Allow, Deny, Log, Pass, next-tier"),
            "{reason}"
        );
        assert!(
            reason.contains("é…é") && reason.len() < 700,
            "{} bytes",
            reason.len()
        );
    }

    #[test]
    fn of_what_nothing_stands_in_for_something_is_left_that_has_a_status() {
        let bad = |kind, text: &str| read_stored(kind, text.as_bytes()).unwrap_err();
        for (kind, spec) in [
            (Kind::IpPool, r#"{"cidr":5}"#),
            (Kind::IpPool, "5"),
            (Kind::Tier, r#"{"order":"x"}"#),
            (Kind::Tier, "[]"),
        ] {
            let error = bad(kind, &format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#));
            assert_eq!(error.stand_in, None, "{spec}");
            assert_eq!(error.with_status().map(|r| r.kind()), Some(kind));
        }
        for error in [
            bad(Kind::IpPool, "{"),
            bad(Kind::IpPool, "[]"),
            bad(Kind::Profile, r#"{"metadata":{"name":"a"},"spec":5}"#),
        ] {
            assert_eq!(error.with_status(), None, "{error}");
        }
        // What is in force is not left, too.
        let some = read(Kind::IpPool, r#"{"cidr":"10.0.0.0/8","blockSize":"x"}"#).unwrap_err();
        assert!(some.stand_in.is_some() && some.bare.is_none());
        assert_eq!(some.with_status(), some.stand_in.as_ref());
    }

    #[test]
    fn what_is_not_known_is_no_reason() {
        for spec in [
            r#"{"future":[[1],[2]],"ingress":[{"action":"Allow","more":["x"]}]}"#,
            r#"{"ingress":null,"selector":"a in {'[','\"['}"}"#,
            r#"{"selector":"a == 'nets\":['","future":{"nets":[{}]}}"#,
            r#"{ "ingress" : [ {"action" : "Deny" , "source":{"nets" : [ "10.0.0.0/8" ]} } ] }"#,
        ] {
            read(Kind::GlobalNetworkPolicy, spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
        }
    }

    #[test]
    fn only_odd_lists_are_looked_at_closely() {
        for (odd, text) in [
            (true, r#"{"nets":["["],"types":[]}"#),
            (
                false,
                r#"{"nets":["x"],"types" : [ ], "ports":
                []}"#,
            ),
            (true, r#"{"x":[]}"#),
            (true, r#"{"nets":[[]]}"#),
            (true, r#"{"nets":[{},[]]}"#),
            (true, "[]"),
            (false, r#"{"nets":["a\\"],"ports":[1]}"#),
            (true, r#"{"nets":"x","y":[1]}"#),
            (true, r#"{"conditions":[]}"#),
            (true, r#"{"x":"nets\":["}"#),
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
