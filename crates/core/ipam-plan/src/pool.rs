use std::collections::BTreeMap;

use caracal_api::{AssignmentMode, IpPoolAllowedUse, IpPoolSpec, Object};
use caracal_net::{Cidr, Family};
use caracal_selector::Selector;

use crate::PlanError;

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

/// The pools that fit, in order of the request, else of their names.
///
/// # Errors
/// [`PlanError::NoPool`] with the reason of each pool that does not fit.
pub fn select_pools(
    pools: &[Object<IpPoolSpec>],
    query: &PoolQuery<'_>,
) -> Result<Vec<Candidate>, PlanError> {
    let mut reasons = Vec::new();
    let mut found = Vec::new();
    for pool in pools {
        let name = &pool.metadata.name;
        match fits(pool, query) {
            Ok(Some(c)) => found.push(c),
            Ok(None) => {}
            Err(why) => reasons.push(format!("pool {name}: {why}")),
        }
    }
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

/// `Ok(None)` for a pool of the other family, which needs no explanation.
fn fits(pool: &Object<IpPoolSpec>, query: &PoolQuery<'_>) -> Result<Option<Candidate>, String> {
    let spec = &pool.spec;
    let cidr: Cidr = spec.cidr.parse().map_err(|e| format!("spec.cidr: {e}"))?;
    if cidr.family() != query.family {
        return Ok(None);
    }
    if spec.disabled {
        return Err("it is disabled".into());
    }
    if pool.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".into());
    }
    if !query.requested.is_empty() {
        if !query
            .requested
            .iter()
            .any(|r| *r == pool.metadata.name || r.parse::<Cidr>().is_ok_and(|r| r == cidr))
        {
            return Err("it was not asked for".into());
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
    let block_len = spec.block_size.unwrap_or(match cidr.family() {
        Family::V4 => 26,
        Family::V6 => 122,
    });
    if block_len < cidr.len() || cidr.family().bits() - block_len > 16 || block_len > cidr.family().bits() {
        return Err(format!("spec.blockSize {block_len} does not fit {cidr}"));
    }
    Ok(Some(Candidate {
        name: pool.metadata.name.clone(),
        cidr,
        block_len,
    }))
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
