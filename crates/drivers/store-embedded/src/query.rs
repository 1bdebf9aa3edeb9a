//! Range requests: limits, sorting, filters, counting.

use std::ops::ControlFlow;

use caracal_wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use caracal_wire::etcdserverpb::{RangeRequest, RangeResponse};
use caracal_wire::{Bytes, KeyValue};

use crate::error::RequestError;
use crate::span::Span;
use crate::view::{self, Source};

/// Refuses a request that makes no sense whatever the store holds.
pub(crate) fn validate(request: &RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        Err(RequestError::InvalidSort)
    } else {
        Ok(())
    }
}

/// Answers a valid request. `known` is the number of keys in the span when the caller knows it: then the scan stops
/// at the limit, else it has to go on to the end to count.
pub(crate) fn range(
    source: &impl Source,
    request: &RangeRequest,
    known: Option<i64>,
) -> Result<RangeResponse, RequestError> {
    let at = view::resolve(source, request.revision)?;
    let span = Span::new(request.key.clone(), &request.range_end);
    // A sort or a filter decides which keys the limit keeps, so it needs them all. Without an order but with a target
    // etcd sorts only the keys within the limit and the next one.
    let ordered = request.sort_order != i32::from(SortOrder::None);
    let all = (ordered && sorting(request).is_some()) || filtered(request);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let most = if all || limit == 0 {
        usize::MAX
    } else {
        limit.saturating_add(usize::from(sorting(request).is_some()))
    };
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut count = 0_i64;
    if let Some(key) = span.single() {
        if let Some(kv) = view::get(source, key, at)? {
            count = 1;
            kvs.push(kv);
        }
    } else if known.is_none() || !request.count_only {
        view::scan(source, &span, at, &mut |found| {
            count += 1;
            if !request.count_only && kvs.len() < most {
                let mut kv = found.load(source)?;
                if request.keys_only && sorting(request).is_none() {
                    kv.value = Bytes::new();
                }
                kvs.push(kv);
            }
            let enough = known.is_some() && !request.count_only && kvs.len() >= most;
            Ok(if enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
    }
    let count = known.unwrap_or(count);
    if request.count_only {
        return Ok(RangeResponse {
            count,
            ..Default::default()
        });
    }
    if filtered(request) {
        kvs.retain(|kv| passes(request, kv));
    }
    if let Some((target, descending)) = sorting(request) {
        sort(&mut kvs, target, descending);
    }
    let mut more = !all && count > i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    if limit > 0 && kvs.len() > limit {
        kvs.truncate(limit);
        more = true;
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    Ok(RangeResponse {
        header: None,
        kvs,
        more,
        count,
    })
}

/// By what to sort, and whether backwards; none when the order of keys is what is asked for.
fn sorting(request: &RangeRequest) -> Option<(SortTarget, bool)> {
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    match SortOrder::try_from(request.sort_order).unwrap_or_default() {
        SortOrder::Descend => Some((target, true)),
        SortOrder::None | SortOrder::Ascend if target == SortTarget::Key => None,
        SortOrder::None | SortOrder::Ascend => Some((target, false)),
    }
}

fn sort(kvs: &mut [KeyValue], target: SortTarget, descending: bool) {
    kvs.sort_by(|a, b| {
        let order = match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if descending { order.reverse() } else { order }
    });
}

fn filtered(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within =
        |min: i64, max: i64, revision: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        request.min_mod_revision,
        request.max_mod_revision,
        kv.mod_revision,
    ) && within(
        request.min_create_revision,
        request.max_create_revision,
        kv.create_revision,
    )
}
