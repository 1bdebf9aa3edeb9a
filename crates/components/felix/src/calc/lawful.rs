//! What the rules of a kind forbid and nobody held an object to, because it was written past the API server.
//!
//! Such an object is refused: it is named, and what is in force is what stands in for it
//! ([`stand_in`](caracal_api::stand_in)): it lets nothing through, and opens nothing that it may have kept closed. What an
//! older version of it said does not count: after a restart nobody would know that.

use std::{borrow::Cow, sync::Arc};

use caracal_api::{Resource, StandIn, fixed_tier, refusals, stand_in};
use caracal_config::{Severity, validate_spec};
use caracal_update::Update;

/// The mistakes that are told; there may be a million.
const TOLD: usize = 5;

/// What is in force of an object that is refused.
pub(super) fn instead(update: &Update) -> Cow<'_, Update> {
    let value = match update.value.as_deref().map(stand_in) {
        None | Some(StandIn::Itself) => return Cow::Borrowed(update),
        Some(StandIn::Other(other)) => Some(Arc::from(other)),
        Some(StandIn::Nothing) => None,
    };
    Cow::Owned(Update {
        key: update.key.clone(),
        value,
    })
}

/// A tier that always exists as it always is, where somebody wrote another order or end: `default` with a Pass at its end
/// would open what nobody allowed.
pub(super) fn as_fixed(update: &Update) -> Option<Update> {
    let Some(Resource::Tier(tier)) = update.value.as_deref() else {
        return None;
    };
    let (order, action) = fixed_tier(&tier.metadata.name)?;
    if tier.spec.order == Some(order) && tier.spec.default_action.unwrap_or_default() == action {
        return None;
    }
    let mut tier = tier.clone();
    tier.spec.order = Some(order);
    tier.spec.default_action = Some(action);
    Some(Update::set(Resource::Tier(tier)))
}

/// What is wrong with an object that was read.
pub(super) fn broken(resource: &Resource) -> Option<String> {
    let mut all: Vec<String> = refusals(resource).iter().map(ToString::to_string).collect();
    if let Resource::FelixConfiguration(o) = resource {
        let problems = validate_spec(&o.spec.fields);
        let errors = problems.iter().filter(|p| p.severity == Severity::Error);
        all.extend(errors.map(ToString::to_string));
    }
    let more = match all.len().saturating_sub(TOLD) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    all.truncate(TOLD);
    (!all.is_empty()).then(|| all.join("; ") + &more)
}

#[cfg(test)]
mod tests {
    use caracal_api::{Kind, TierDefaultAction};
    use serde_json::json;

    use super::*;

    fn of(kind: Kind, name: &str, spec: serde_json::Value) -> Option<String> {
        let value = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        broken(&Resource::from_value(kind, value).unwrap())
    }

    #[test]
    fn what_the_schema_forbids_is_named() {
        let many: Vec<_> = (0..257)
            .map(|n| format!("10.0.{}.{}/32", n / 256, n % 256))
            .collect();
        let ports: Vec<_> = (1..=51).collect();
        let rules: Vec<_> = (0..1025).map(|_| json!({"action": "Deny"})).collect();
        for (kind, spec, field) in [
            (
                Kind::GlobalNetworkPolicy,
                json!({"doNotTrack": true, "preDNAT": true, "applyOnForward": true}),
                "spec.preDNAT",
            ),
            (
                Kind::GlobalNetworkPolicy,
                json!({"preDNAT": true}),
                "spec.applyOnForward",
            ),
            (
                Kind::NetworkPolicy,
                json!({"selector": format!("has({})", "a".repeat(1100))}),
                "spec.selector",
            ),
            (Kind::NetworkPolicy, json!({"ingress": rules}), "spec.ingress"),
            (
                Kind::NetworkPolicy,
                json!({"ingress": [{"action": "Deny", "source": {"nets": many}}]}),
                "spec.ingress[0].source.nets",
            ),
            (
                Kind::NetworkPolicy,
                json!({"ingress": [{"action": "Deny", "protocol": "TCP", "destination": {"ports": ports}}]}),
                "spec.ingress[0].destination.ports",
            ),
            (
                Kind::NetworkPolicy,
                json!({"types": ["Ingress", "Ingress"]}),
                "spec.types",
            ),
            (
                Kind::Tier,
                json!({"order": 5, "defaultAction": "Pass"}),
                "spec.order",
            ),
            (Kind::HostEndpoint, json!({"node": "n"}), "spec.interfaceName"),
            (Kind::IpPool, json!({"cidr": "10.0.0.1/16"}), "spec.cidr"),
            (
                Kind::FelixConfiguration,
                json!({"natOutgoingAddress": "fd00::1"}),
                "spec.natOutgoingAddress",
            ),
        ] {
            let name = if kind == Kind::Tier { "default" } else { "a" };
            let reason = of(kind, name, spec.clone()).unwrap_or_else(|| panic!("{kind} {spec}"));
            assert!(reason.contains(field), "{reason}");
        }
    }

    #[test]
    fn what_is_in_order_is_not() {
        assert_eq!(of(Kind::Tier, "default", json!({})), None);
        assert_eq!(
            of(
                Kind::NetworkPolicy,
                "default.old-name",
                json!({"selector": "all()"})
            ),
            None
        );
        assert_eq!(
            of(Kind::StagedNetworkPolicy, "a", json!({"stagedAction": "Delete"})),
            None
        );
        let ports: Vec<_> = (1..=51).collect();
        let spec =
            json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": ports}}]});
        assert_eq!(of(Kind::NetworkPolicy, "knp.default.a", spec), None);
    }

    #[test]
    fn fixed_tiers_stay_what_they_are() {
        let of = |name: &str, spec: serde_json::Value| {
            let value = json!({"metadata": {"name": name}, "spec": spec});
            let update = Update::set(Resource::from_value(Kind::Tier, value).unwrap());
            let fixed = as_fixed(&update)?;
            let Some(Resource::Tier(t)) = fixed.value.as_deref() else {
                panic!("{fixed:?}")
            };
            Some((t.spec.order, t.spec.default_action))
        };
        let deny = Some((Some(1_000_000.0), Some(TierDefaultAction::Deny)));
        assert_eq!(of("default", json!({"order": 5, "defaultAction": "Pass"})), deny);
        assert_eq!(of("default", json!({})), deny);
        assert_eq!(
            of("default", json!({"order": 1_000_000, "defaultAction": "Deny"})),
            None
        );
        assert_eq!(of("mine", json!({"order": 5, "defaultAction": "Pass"})), None);
    }

    #[test]
    fn few_of_many_mistakes_are_told() {
        let rules: Vec<_> = (0..20)
            .map(|_| json!({"action": "Deny", "ipVersion": 5}))
            .collect();
        let reason = of(Kind::NetworkPolicy, "a", json!({"ingress": rules})).unwrap();
        assert!(reason.ends_with("and 15 more"), "{reason}");
    }
}
