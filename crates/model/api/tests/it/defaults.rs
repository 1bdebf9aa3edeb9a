//! What is filled in.

use caracal_api::{Kind, default_resource};
use serde_json::{Value, json};

use crate::{raw, stored};

/// The spec after the defaults.
fn spec(kind: Kind, name: &str, spec: Value) -> Value {
    stored(kind, name, spec).to_value()["spec"].take()
}

#[test]
fn directions_follow_the_rules() {
    let rule = json!([{"action": "Allow"}]);
    for kind in [
        Kind::NetworkPolicy,
        Kind::GlobalNetworkPolicy,
        Kind::StagedNetworkPolicy,
        Kind::StagedGlobalNetworkPolicy,
    ] {
        for (given, types) in [
            (json!({}), json!(["Ingress"])),
            (json!({"ingress": rule}), json!(["Ingress"])),
            (json!({"egress": rule}), json!(["Egress"])),
            (
                json!({"ingress": rule, "egress": rule}),
                json!(["Ingress", "Egress"]),
            ),
            (json!({"ingress": rule, "types": ["Egress"]}), json!(["Egress"])),
        ] {
            assert_eq!(spec(kind, "p", given.clone())["types"], types, "{kind} {given}");
        }
    }
    for (given, types) in [
        (json!({}), json!(["Ingress"])),
        (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
        (
            json!({"egress": [{}], "policyTypes": ["Egress"]}),
            json!(["Egress"]),
        ),
    ] {
        assert_eq!(
            spec(Kind::StagedKubernetesNetworkPolicy, "p", given)["policyTypes"],
            types
        );
    }
}

#[test]
fn a_policy_gets_its_tier_and_the_label_of_it() {
    let p = stored(Kind::NetworkPolicy, "p", json!({}));
    assert_eq!(p.to_value()["spec"]["tier"], "default");
    assert_eq!(p.metadata().labels["projectcalico.org/tier"], "default");
    let p = stored(Kind::GlobalNetworkPolicy, "p", json!({"tier": "sec"}));
    assert_eq!(p.metadata().labels["projectcalico.org/tier"], "sec");
}

#[test]
fn a_staged_policy_sets_unless_it_says_otherwise() {
    assert_eq!(
        spec(Kind::StagedNetworkPolicy, "p", json!({}))["stagedAction"],
        "Set"
    );
    let deletion = spec(Kind::StagedNetworkPolicy, "p", json!({"stagedAction": "Delete"}));
    assert_eq!(deletion, json!({"stagedAction": "Delete", "tier": "default"}));
}

#[test]
fn pools() {
    assert_eq!(
        spec(Kind::IpPool, "p", json!({"cidr": "10.0.0.0/16"})),
        json!({
            "cidr": "10.0.0.0/16", "vxlanMode": "Never", "ipipMode": "Never", "blockSize": 26,
            "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"], "assignmentMode": "Automatic",
        })
    );
    let v6 = spec(
        Kind::IpPool,
        "p",
        json!({"cidr": "fd00::/48", "vxlanMode": "Always", "blockSize": 0}),
    );
    assert_eq!(
        (&v6["blockSize"], &v6["vxlanMode"]),
        (&json!(122), &json!("Always"))
    );
    let own = spec(
        Kind::IpPool,
        "p",
        json!({"cidr": "10.0.0.0/16", "blockSize": 28, "nodeSelector": "has(a)", "namespaceSelector": "has(b)"}),
    );
    assert_eq!(
        (&own["blockSize"], &own["nodeSelector"], &own["allowedUses"]),
        (&json!(28), &json!("has(a)"), &json!(["Workload"]))
    );
}

#[test]
fn tiers_and_the_rest() {
    assert_eq!(spec(Kind::Tier, "a", json!({})), json!({"defaultAction": "Deny"}));
    assert_eq!(
        spec(Kind::Tier, "kube-admin", json!({})),
        json!({"order": 1000, "defaultAction": "Pass"})
    );
    assert_eq!(
        spec(Kind::Tier, "default", json!({})),
        json!({"order": 1_000_000, "defaultAction": "Deny"})
    );
    assert_eq!(
        spec(Kind::Tier, "kube-baseline", json!({})),
        json!({"order": 10_000_000, "defaultAction": "Pass"})
    );
    assert_eq!(
        spec(Kind::IpamConfiguration, "default", json!({})),
        json!({"strictAffinity": false, "autoAllocateBlocks": true})
    );
    let bgp = spec(Kind::BgpConfiguration, "default", json!({}));
    assert_eq!(
        bgp,
        json!({"logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"})
    );
    let kcc = spec(
        Kind::KubeControllersConfiguration,
        "default",
        json!({"controllers": {"loadBalancer": {}, "migration": {}}}),
    );
    assert_eq!(
        kcc,
        json!({"healthChecks": "Enabled", "controllers": {"loadBalancer": {"assignIPs": "AllServices"}, "migration": {"policyNameMigrator": "Enabled"}}})
    );
}

#[test]
fn twice_is_as_once() {
    for kind in Kind::ALL {
        let mut once = raw(
            *kind,
            "default",
            if *kind == Kind::IpPool {
                json!({"cidr": "fd00::/64"})
            } else {
                json!({})
            },
        );
        default_resource(&mut once);
        let mut twice = once.clone();
        default_resource(&mut twice);
        assert_eq!(once, twice, "{kind}");
    }
}
