//! `usePodCidr`: another IPAM plugin gets the ranges that the cluster gave to this node, in place of the word.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use caracal_api::{Kind, NodeSpec, Object, ResourceKey};
use caracal_net::{Cidr, Family};
use caracal_store::StoreError;
use serde_json::Value;

use crate::{
    call::Call,
    error::{CniError, Code},
};

/// What stands in a configuration for a range, by family.
fn family_of(word: &str) -> Option<Family> {
    match word {
        w if w.eq_ignore_ascii_case("usePodCidr") => Some(Family::V4),
        w if w.eq_ignore_ascii_case("usePodCidrIPv6") => Some(Family::V6),
        _ => None,
    }
}

/// The configuration for the other plugin: as it is, or with the node's ranges in it.
pub(crate) async fn resolve<'a>(call: &Call<'a>, verb: &str) -> Result<Cow<'a, [u8]>, CniError> {
    if !call.conf.uses_pod_cidr() {
        return Ok(Cow::Borrowed(&call.given.stdin));
    }
    // What holds addresses is found without the range, and the datastore or the node may be gone by then.
    let ranges = match verb {
        "ADD" | "CHECK" => ranges_of_node(call).await?,
        _ => vec![
            Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            Cidr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        ],
    };
    let mut conf: Value = serde_json::from_slice(&call.given.stdin)
        .map_err(|e| CniError::new(Code::Decode, "the network configuration", e))?;
    let mut missing = None;
    let mut replace = |value: &mut Value| {
        let Some(family) = value.as_str().and_then(family_of) else {
            return;
        };
        match ranges.iter().find(|r| r.family() == family) {
            Some(range) => *value = range.to_string().into(),
            None => missing = Some(family),
        }
    };
    let ipam = &mut conf["ipam"];
    if let Some(subnet) = ipam.get_mut("subnet") {
        replace(subnet);
    }
    let sets = ipam.get_mut("ranges").and_then(Value::as_array_mut);
    let sets = sets
        .into_iter()
        .flatten()
        .filter_map(Value::as_array_mut)
        .flatten();
    for range in sets {
        if let Some(subnet) = range.get_mut("subnet") {
            replace(subnet);
        }
    }
    match missing {
        Some(family) => Err(none(call, format!("it has no {family} range, only {ranges:?}"))),
        None => Ok(Cow::Owned(conf.to_string().into_bytes())),
    }
}

async fn ranges_of_node(call: &Call<'_>) -> Result<Vec<Cidr>, CniError> {
    let key = ResourceKey::global(Kind::Node, call.id.node.as_str());
    let found = match call.store.get(&key).await {
        Ok(found) => found,
        Err(StoreError::NotFound(_)) => return Err(none(call, "there is no such Node object".to_owned())),
        Err(e) => return Err(CniError::store("reading the node", &e)),
    };
    let status = Object::<NodeSpec>::try_from(found).ok().and_then(|n| n.status);
    let ranges = status.map(|s| s.pod_cidrs).unwrap_or_default();
    if ranges.is_empty() {
        return Err(none(call, "its status.podCIDRs is empty".to_owned()));
    }
    ranges
        .iter()
        .map(|r| {
            r.parse()
                .map_err(|e| none(call, format!("its status.podCIDRs: {r}: {e}")))
        })
        .collect()
}

fn none(call: &Call<'_>, why: String) -> CniError {
    CniError::new(
        Code::TryAgain,
        format!("usePodCidr: the range of node {} is not known", call.id.node),
        format!("{why}; let the cluster give ranges to nodes, or write the subnet"),
    )
}
