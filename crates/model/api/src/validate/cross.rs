use caracal_net::Cidr;

use crate::{
    FieldPath, IpPoolSpec, Object, Resource, TierSpec, default_block_size, fixed_tier, validate::FieldError,
};

fn error(path: &str, value: impl ToString, reason: String) -> FieldError {
    FieldError {
        path: FieldPath::of(path),
        value: value.to_string(),
        reason,
        allowed: String::new(),
    }
}

/// What may not change from one version of an object to the next.
#[must_use]
pub fn validate_update(old: &Resource, new: &Resource) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let (Resource::IpPool(old), Resource::IpPool(new)) = (old, new) {
        let (was, is) = (old.spec.cidr.parse::<Cidr>(), new.spec.cidr.parse::<Cidr>());
        // An old version that cannot be read may be put right.
        if let (Ok(was), Ok(is)) = (was, is) {
            if was != is {
                let reason = format!(
                    "the range of a pool cannot be changed; it is {was}. Make a new pool and move to it"
                );
                errors.push(error("spec.cidr", is, reason));
            }
            let size = |s: &IpPoolSpec, r: Cidr| {
                s.block_size
                    .filter(|n| *n > 0)
                    .unwrap_or(default_block_size(r.family()))
            };
            let (before, after) = (size(&old.spec, was), size(&new.spec, is));
            if was == is && before != after {
                let reason = format!(
                    "the block size of a pool cannot be changed; it is {before}. Make a new pool and move to it"
                );
                errors.push(error("spec.blockSize", after, reason));
            }
        }
    }
    errors
}

/// Whether a pool keeps clear of the others; one of the same name is the pool itself.
#[must_use]
pub fn validate_pool_among<'a>(
    pool: &Object<IpPoolSpec>,
    others: impl IntoIterator<Item = &'a Object<IpPoolSpec>>,
) -> Vec<FieldError> {
    let Ok(range) = pool.spec.cidr.parse::<Cidr>() else {
        return Vec::new();
    };
    others
        .into_iter()
        .filter(|o| o.metadata.name != pool.metadata.name)
        .filter_map(|o| Some((o, o.spec.cidr.parse::<Cidr>().ok()?)))
        .filter(|(_, other)| range.overlaps(other))
        .map(|(o, other)| {
            let name = &o.metadata.name;
            error(
                "spec.cidr",
                range,
                format!("overlaps with {other} of the pool {name:?}"),
            )
        })
        .collect()
}

/// The tier of a policy; none for what is no policy or has no tier.
#[must_use]
pub fn policy_tier(policy: &Resource) -> Option<&str> {
    let tier = match policy {
        Resource::NetworkPolicy(o) => &o.spec.tier,
        Resource::GlobalNetworkPolicy(o) => &o.spec.tier,
        Resource::StagedNetworkPolicy(o) => &o.spec.tier,
        Resource::StagedGlobalNetworkPolicy(o) => &o.spec.tier,
        Resource::StagedKubernetesNetworkPolicy(_) => "default",
        _ => return None,
    };
    Some(if tier.is_empty() { "default" } else { tier })
}

/// Whether the tier of a policy is among those that exist.
#[must_use]
pub fn validate_tier_exists<'a>(
    policy: &Resource,
    tiers: impl IntoIterator<Item = &'a str>,
) -> Vec<FieldError> {
    let Some(wanted) = policy_tier(policy) else {
        return Vec::new();
    };
    let tiers: Vec<&str> = tiers.into_iter().collect();
    if tiers.contains(&wanted) {
        return Vec::new();
    }
    let mut e = error("spec.tier", wanted, "is a tier that does not exist".to_owned());
    e.allowed = format!("make the tier first, or use one of {}", tiers.join(", "));
    vec![e]
}

/// Whether a tier may be deleted: not a fixed one, and none with policies.
#[must_use]
pub fn validate_tier_deletion<'a>(
    tier: &Object<TierSpec>,
    policies: impl IntoIterator<Item = &'a Resource>,
) -> Vec<FieldError> {
    let name = &tier.metadata.name;
    if fixed_tier(name).is_some() {
        return vec![error(
            "metadata.name",
            name,
            "is a tier that always exists".to_owned(),
        )];
    }
    let inside: Vec<String> = policies
        .into_iter()
        .filter(|p| policy_tier(p) == Some(name))
        .map(|p| p.key().to_string())
        .collect();
    if inside.is_empty() {
        return Vec::new();
    }
    let shown = inside
        .iter()
        .take(5)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = if inside.len() > 5 { ", …" } else { "" };
    let reason = format!("still has {} policies: {shown}{more}", inside.len());
    vec![error("metadata.name", name, reason)]
}
