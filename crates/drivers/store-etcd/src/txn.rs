use caracal_wire::{
    Bytes, KeyValue,
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
};

/// The key does not exist.
pub(crate) fn absent(key: &Bytes) -> Compare {
    compare(key, CompareTarget::Version, TargetUnion::Version(0))
}

/// The key was changed last at this revision.
pub(crate) fn unchanged(key: &Bytes, revision: i64) -> Compare {
    compare(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

fn compare(key: &Bytes, target: CompareTarget, value: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(value),
        ..Compare::default()
    }
}

pub(crate) fn put(key: &Bytes, value: Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: key.clone(),
            value,
            ..PutRequest::default()
        })),
    }
}

pub(crate) fn get(key: &Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        })),
    }
}

/// At most `limit` pairs from `start` up to `end`.
pub(crate) fn range(start: &Bytes, end: &Bytes, limit: i64) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key: start.clone(),
            range_end: end.clone(),
            limit,
            ..RangeRequest::default()
        })),
    }
}

/// Deletes without saying what was there.
pub(crate) fn remove(key: &Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            ..DeleteRangeRequest::default()
        })),
    }
}

pub(crate) fn delete(key: &Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            prev_kv: true,
            ..DeleteRangeRequest::default()
        })),
    }
}

/// `then` if all of `compare` hold, else reads `key`.
pub(crate) fn when(compare: Compare, then: RequestOp, key: &Bytes) -> TxnRequest {
    TxnRequest {
        compare: vec![compare],
        success: vec![then],
        failure: vec![get(key)],
    }
}

/// The pairs that the operations of a transaction read or deleted.
pub(crate) fn pairs(responses: Vec<ResponseOp>) -> impl Iterator<Item = KeyValue> {
    responses.into_iter().flat_map(|r| match r.response {
        Some(Response::ResponseRange(r)) => r.kvs,
        Some(Response::ResponseDeleteRange(d)) => d.prev_kvs,
        _ => Vec::new(),
    })
}
