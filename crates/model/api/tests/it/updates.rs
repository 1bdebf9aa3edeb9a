//! Rules that need a second object.

use caracal_api::{
    FieldError, IpPoolSpec, Kind, Object, Resource, TierSpec, validate_pool_among, validate_tier_deletion,
    validate_tier_exists, validate_update,
};
use serde_json::json;

use crate::stored;

fn pool(name: &str, cidr: &str, block_size: u8) -> Object<IpPoolSpec> {
    stored(Kind::IpPool, name, json!({"cidr": cidr, "blockSize": block_size}))
        .try_into()
        .expect("a pool")
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pool_keeps_its_range_and_block_size() {
    let update =
        |old: Object<IpPoolSpec>, new: Object<IpPoolSpec>| texts(&validate_update(&old.into(), &new.into()));
    assert!(
        update(pool("a", "10.0.0.0/16", 26), pool("a", "10.0.0.0/16", 0)).is_empty(),
        "0 stands for 26"
    );
    let e = update(pool("a", "10.0.0.0/16", 26), pool("a", "10.0.0.0/15", 26));
    assert!(
        e.len() == 1 && e[0].starts_with("spec.cidr: ") && e[0].contains("10.0.0.0/16"),
        "{e:?}"
    );
    let e = update(pool("a", "fd00::/64", 122), pool("a", "fd00::/64", 120));
    assert!(
        e.len() == 1 && e[0].starts_with("spec.blockSize: ") && e[0].contains("122"),
        "{e:?}"
    );
    let tier = stored(Kind::Tier, "a", json!({"order": 1}));
    assert!(validate_update(&tier, &stored(Kind::Tier, "a", json!({"order": 2}))).is_empty());
}

#[test]
fn pools_keep_clear_of_each_other() {
    let others = [pool("a", "10.0.0.0/16", 26), pool("b", "fd00::/64", 122)];
    for (name, cidr, clash) in [
        ("c", "10.1.0.0/16", None),
        ("c", "10.0.128.0/17", Some("\"a\"")),
        ("c", "10.0.0.0/8", Some("\"a\"")),
        ("c", "fd00::/48", Some("\"b\"")),
        ("c", "fd01::/48", None),
        ("a", "10.0.0.0/17", None),
    ] {
        let e = texts(&validate_pool_among(&pool(name, cidr, 0), &others));
        match clash {
            None => assert!(e.is_empty(), "{cidr}: {e:?}"),
            Some(with) => assert!(e.len() == 1 && e[0].contains(with), "{cidr}: {e:?}"),
        }
    }
}

#[test]
fn the_tier_of_a_policy_exists() {
    let tiers = ["default", "sec"];
    for (spec, good) in [
        (json!({}), true),
        (json!({"tier": "sec"}), true),
        (json!({"tier": "sce"}), false),
    ] {
        for kind in [
            Kind::NetworkPolicy,
            Kind::GlobalNetworkPolicy,
            Kind::StagedNetworkPolicy,
            Kind::StagedGlobalNetworkPolicy,
        ] {
            let e = texts(&validate_tier_exists(&stored(kind, "p", spec.clone()), tiers));
            assert_eq!(e.is_empty(), good, "{kind} {spec}: {e:?}");
            assert!(
                good || (e[0].starts_with("spec.tier: \"sce\"") && e[0].contains("default, sec")),
                "{e:?}"
            );
        }
    }
    assert!(validate_tier_exists(&stored(Kind::NetworkSet, "s", json!({})), []).is_empty());
}

#[test]
fn a_tier_with_policies_stays() {
    let tier =
        |name: &str| -> Object<TierSpec> { stored(Kind::Tier, name, json!({})).try_into().expect("a tier") };
    let policies: Vec<Resource> = vec![
        stored(Kind::NetworkPolicy, "p", json!({"tier": "sec"})),
        stored(Kind::StagedGlobalNetworkPolicy, "q", json!({"tier": "sec"})),
    ];
    assert!(validate_tier_deletion(&tier("other"), &policies).is_empty());
    let e = texts(&validate_tier_deletion(&tier("sec"), &policies));
    assert!(
        e.len() == 1 && e[0].contains("2 policies") && e[0].contains("NetworkPolicy(ns/p)"),
        "{e:?}"
    );
    for fixed in ["default", "kube-admin", "kube-baseline"] {
        assert_eq!(validate_tier_deletion(&tier(fixed), &[]).len(), 1, "{fixed}");
    }
}
