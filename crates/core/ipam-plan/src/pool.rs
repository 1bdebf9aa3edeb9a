use std::collections::BTreeMap;

use caracal_api::{AssignmentMode, IpPoolAllowedUse, IpPoolSpec, Object, default_block_size};
use caracal_net::{Cidr, Family};
use caracal_selector::Selector;

use crate::{PlanError, Stamp};

const NOT_ASKED_FOR: &str = "it was not asked for";

/// What a pool must fit.
#[derive(Debug, Clone)]
pub struct PoolQuery<'a> {
    /// The family.
    pub family: Family,
    /// What the address is for.
    pub usage: IpPoolAllowedUse,
    /// Pools asked for, by name or CIDR; empty means any automatic one.
    pub requested: &'a [String],
    /// Labels of the node.
    pub node_labels: &'a BTreeMap<String, String>,
    /// Labels of the namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
}

/// A pool that may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its range.
    pub cidr: Cidr,
    /// Prefix length of its blocks.
    pub block_len: u8,
}

/// The pools that fit, in order of the request, else of their names. Of pools whose ranges overlap only the oldest is
/// used, whatever they are called and whether it is disabled or not: blocks of different sizes cannot see each other.
///
/// # Errors
/// [`PlanError::NoPool`] with the reason of each pool that does not fit.
pub fn select_pools(
    pools: &[Object<IpPoolSpec>],
    query: &PoolQuery<'_>,
) -> Result<Vec<Candidate>, PlanError> {
    let (mut found, mut reasons) = sort_out(pools, query);
    let position = |c: &Candidate| {
        query
            .requested
            .iter()
            .position(|r| *r == c.name || r.parse::<Cidr>().is_ok_and(|r| r == c.cidr))
    };
    for r in query.requested {
        let known = |p: &Object<IpPoolSpec>| p.metadata.name == *r || p.spec.cidr == *r;
        if !pools.iter().any(known) {
            reasons.push(format!("pool {r}: there is no such pool"));
        }
    }
    found.sort_by_key(|c| (position(c), c.name.clone()));
    if found.is_empty() {
        let reasons = if reasons.is_empty() {
            "there is none of this family".to_owned()
        } else {
            reasons.join("; ")
        };
        return Err(PlanError::NoPool {
            family: query.family,
            reasons,
        });
    }
    Ok(found)
}

/// The pools that fit, and for each other one of the family why it does not.
fn sort_out(pools: &[Object<IpPoolSpec>], query: &PoolQuery<'_>) -> (Vec<Candidate>, Vec<String>) {
    let mut reasons = Vec::new();
    let mut found = Vec::new();
    for pool in pools {
        let name = &pool.metadata.name;
        let fit = match fits(pool, query) {
            Ok(Some(c)) => match elder(pool, c.cidr, pools) {
                Some((other, range)) => Err(format!(
                    "its range overlaps with {range} of the older pool {other}"
                )),
                None => Ok(Some(c)),
            },
            other => other,
        };
        match fit {
            Ok(Some(c)) => found.push(c),
            Ok(None) => {}
            Err(why) => reasons.push(format!("pool {name}: {why}")),
        }
    }
    (found, reasons)
}

/// Why pools that could have been meant are passed over: all but those that were not asked for.
pub(crate) fn passed_over(pools: &[Object<IpPoolSpec>], query: &PoolQuery<'_>) -> Vec<String> {
    let (_, mut reasons) = sort_out(pools, query);
    reasons.retain(|r| !r.ends_with(NOT_ASKED_FOR));
    reasons
}

/// `Ok(None)` for a pool of the other family, which needs no explanation.
fn fits(pool: &Object<IpPoolSpec>, query: &PoolQuery<'_>) -> Result<Option<Candidate>, String> {
    let spec = &pool.spec;
    let cidr: Cidr = spec.cidr.parse().map_err(|e| format!("spec.cidr: {e}"))?;
    if cidr.family() != query.family {
        return Ok(None);
    }
    if let Some(why) = closed(pool) {
        return Err(why);
    }
    if !query.requested.is_empty() {
        if !query
            .requested
            .iter()
            .any(|r| *r == pool.metadata.name || r.parse::<Cidr>().is_ok_and(|r| r == cidr))
        {
            return Err(NOT_ASKED_FOR.into());
        }
    } else if spec.assignment_mode == Some(AssignmentMode::Manual) {
        return Err("its assignmentMode is Manual and it was not asked for".into());
    }
    let default = [IpPoolAllowedUse::Workload, IpPoolAllowedUse::Tunnel];
    let uses = if spec.allowed_uses.is_empty() {
        &default[..]
    } else {
        &spec.allowed_uses
    };
    if !uses.contains(&query.usage) {
        return Err(format!("its allowedUses have no {:?}", query.usage));
    }
    selects(&spec.node_selector, query.node_labels, "nodeSelector")?;
    selects(
        &spec.namespace_selector,
        query.namespace_labels,
        "namespaceSelector",
    )?;
    candidate(pool).map(Some)
}

/// The pool itself, if its range and block size make sense.
pub(crate) fn candidate(pool: &Object<IpPoolSpec>) -> Result<Candidate, String> {
    let cidr: Cidr = pool.spec.cidr.parse().map_err(|e| format!("spec.cidr: {e}"))?;
    let bits = cidr.family().bits();
    let block_len = pool
        .spec
        .block_size
        .filter(|s| *s > 0)
        .unwrap_or(default_block_size(cidr.family()));
    if block_len < cidr.len() || block_len > bits || bits - block_len > 16 {
        return Err(format!("spec.blockSize {block_len} does not fit {cidr}"));
    }
    Ok(Candidate {
        name: pool.metadata.name.clone(),
        cidr,
        block_len,
    })
}

/// The open pool whose range covers `range`; of several the oldest.
#[must_use]
pub fn pool_covering(pools: &[Object<IpPoolSpec>], range: &Cidr) -> Option<Candidate> {
    pools
        .iter()
        .filter(|p| closed(p).is_none())
        .filter_map(|p| Some((p, candidate(p).ok()?)))
        .find(|(p, c)| c.cidr.covers(range) && elder(p, c.cidr, pools).is_none())
        .map(|(_, c)| c)
}

/// Why no address may be taken from the pool, whoever asks.
pub(crate) fn closed(pool: &Object<IpPoolSpec>) -> Option<String> {
    if pool.spec.disabled {
        return Some("it is disabled".into());
    }
    if pool.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".into());
    }
    let conditions = pool.status.iter().flat_map(|s| &s.conditions);
    let mut refusals =
        conditions.filter(|c| c.condition_type == "Allocatable" && c.status.eq_ignore_ascii_case("false"));
    // What the pool itself shows was looked at above and is newer than a controller's word about it.
    refusals
        .find(|c| !matches!(c.reason.as_str(), "PoolDisabled" | "Terminating" | "CIDROverlap"))
        .map(|c| {
            format!(
                "its status says that it is not allocatable: {} {}",
                c.reason, c.message
            )
        })
}

/// An older pool whose range overlaps with `range` of `pool`.
pub(crate) fn elder<'a>(
    pool: &Object<IpPoolSpec>,
    range: Cidr,
    pools: &'a [Object<IpPoolSpec>],
) -> Option<(&'a str, Cidr)> {
    // A pool without a time of creation is taken to be the oldest.
    let age = |p: &Object<IpPoolSpec>| {
        let at = p.metadata.creation_timestamp.as_deref().and_then(Stamp::parse);
        (at, p.metadata.name.clone())
    };
    let own = age(pool);
    pools
        .iter()
        .filter(|p| p.metadata.name != pool.metadata.name && age(p) < own)
        .filter_map(|p| Some((p.metadata.name.as_str(), p.spec.cidr.parse::<Cidr>().ok()?)))
        .find(|(_, other)| other.overlaps(&range))
}

fn selects(text: &str, labels: &BTreeMap<String, String>, field: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let selector = Selector::parse(text).map_err(|e| format!("spec.{field}: {}", e.summary()))?;
    if selector.matches_map(labels) {
        Ok(())
    } else {
        Err(format!("its {field} ({text}) does not match"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, cidr: &str, change: impl FnOnce(&mut IpPoolSpec)) -> Object<IpPoolSpec> {
        let mut spec = IpPoolSpec {
            cidr: cidr.into(),
            ..IpPoolSpec::default()
        };
        change(&mut spec);
        Object::new(name, spec)
    }

    fn query<'a>(requested: &'a [String], labels: &'a BTreeMap<String, String>) -> PoolQuery<'a> {
        PoolQuery {
            family: Family::V4,
            usage: IpPoolAllowedUse::Workload,
            requested,
            node_labels: labels,
            namespace_labels: labels,
        }
    }

    #[test]
    fn every_pool_that_does_not_fit_says_why() {
        let pools = [
            pool("off", "10.1.0.0/16", |s| s.disabled = true),
            pool("lb", "10.2.0.0/16", |s| {
                s.allowed_uses = vec![IpPoolAllowedUse::LoadBalancer]
            }),
            pool("manual", "10.3.0.0/16", |s| {
                s.assignment_mode = Some(AssignmentMode::Manual)
            }),
            pool("rack", "10.4.0.0/16", |s| s.node_selector = "rack == '2'".into()),
            pool("six", "fd00::/64", |_| {}),
        ];
        let labels = BTreeMap::from([("rack".to_owned(), "1".to_owned())]);
        let e = select_pools(&pools, &query(&[], &labels))
            .unwrap_err()
            .to_string();
        for part in [
            "off: it is disabled",
            "lb: its allowedUses",
            "manual: its assignmentMode",
            "rack: its nodeSelector",
        ] {
            assert!(e.contains(part), "{part} is missing in {e}");
        }
        let got = select_pools(&pools, &query(&["manual".into()], &labels)).unwrap();
        assert_eq!(got[0].block_len, 26);
        let e = select_pools(&pools, &query(&["nope".into()], &labels))
            .unwrap_err()
            .to_string();
        assert!(e.contains("pool nope: there is no such pool"), "{e}");
    }

    #[test]
    fn of_pools_that_overlap_the_oldest_is_used() {
        let aged = |name: &str, cidr: &str, at: &str| {
            let mut p = pool(name, cidr, |_| {});
            p.metadata.creation_timestamp = Some(at.into());
            p
        };
        let mut pools = vec![
            aged("a-young", "10.0.0.0/16", "2026-01-02T00:00:00Z"),
            aged("z-old", "10.0.4.0/22", "2026-01-01T00:00:00Z"),
        ];
        let labels = BTreeMap::new();
        let got = select_pools(&pools, &query(&[], &labels)).unwrap();
        assert_eq!((got.len(), got[0].name.as_str()), (1, "z-old"));
        pools[1].spec.disabled = true;
        let e = select_pools(&pools, &query(&[], &labels))
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("a-young: its range overlaps with 10.0.4.0/22 of the older pool z-old"),
            "{e}"
        );
        pools[1].spec.cidr = "10.1.0.0/16".into();
        assert_eq!(
            select_pools(&pools, &query(&[], &labels)).unwrap()[0].name,
            "a-young"
        );
    }

    #[test]
    fn a_pool_that_its_controller_closed_is_not_used() {
        let mut p = pool("p", "10.0.0.0/16", |_| {});
        p.status = Some(caracal_api::IpPoolStatus {
            conditions: vec![caracal_api::Condition {
                condition_type: "Allocatable".into(),
                status: "False".into(),
                reason: "Draining".into(),
                ..Default::default()
            }],
        });
        let labels = BTreeMap::new();
        let e = select_pools(&[p], &query(&[], &labels)).unwrap_err().to_string();
        assert!(e.contains("Draining"), "{e}");
    }

    #[test]
    fn the_order_of_the_request_counts() {
        let pools = [pool("a", "10.1.0.0/16", |_| {}), pool("b", "10.2.0.0/16", |_| {})];
        let labels = BTreeMap::new();
        let asked = ["10.2.0.0/16".to_owned(), "a".to_owned()];
        let names: Vec<String> = select_pools(&pools, &query(&asked, &labels))
            .unwrap()
            .into_iter()
            .map(|c| c.name)
            .collect();
        assert_eq!(names, ["b", "a"]);
    }
}
