//! Transactions: what makes one valid, and which branch it takes.
//!
//! As in etcd every compare, nested ones included, is decided on the state before the first write.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::ControlFlow;

use caracal_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use caracal_wire::{Bytes, KeyValue};

use crate::error::RequestError;
use crate::query;
use crate::span::Span;
use crate::view::{self, Source};

/// Most compares or operations in a txn, those of nested ones included.
const MAX_OPS: usize = 128;

/// Refuses a put that makes no sense whatever the store holds.
pub(crate) fn validate_put(put: &PutRequest) -> Result<(), RequestError> {
    if put.key.is_empty() {
        Err(RequestError::EmptyKey)
    } else if put.ignore_value && !put.value.is_empty() {
        Err(RequestError::ValueProvided)
    } else if put.ignore_lease && put.lease != 0 {
        Err(RequestError::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Refuses a delete that makes no sense whatever the store holds.
pub(crate) fn validate_delete(delete: &DeleteRangeRequest) -> Result<(), RequestError> {
    if delete.key.is_empty() {
        Err(RequestError::EmptyKey)
    } else {
        Ok(())
    }
}

/// Refuses a txn that makes no sense whatever the store holds.
pub(crate) fn validate(txn: &TxnRequest) -> Result<(), RequestError> {
    limits(txn, MAX_OPS)?;
    writes_of(&txn.success)?;
    writes_of(&txn.failure)?;
    Ok(())
}

fn limits(txn: &TxnRequest, left: usize) -> Result<(), RequestError> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = left.checked_sub(ops).ok_or(RequestError::TooManyOps)?;
    for compare in &txn.compare {
        if compare.key.is_empty() {
            return Err(RequestError::EmptyKey);
        }
        if CompareResult::try_from(compare.result).is_err()
            || CompareTarget::try_from(compare.target).is_err()
        {
            return Err(RequestError::InvalidCompare);
        }
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => query::validate(range)?,
            Some(Request::RequestPut(put)) => validate_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => validate_delete(delete)?,
            Some(Request::RequestTxn(nested)) => limits(nested, left)?,
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<Span>,
}

impl<'a> Writes<'a> {
    fn clashes(&self, key: &Bytes) -> bool {
        self.puts.contains(key) || self.deleted(key)
    }

    fn deleted(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|span| span.contains(key))
    }

    /// Takes in the writes of one nested txn: its branches may touch the same keys, as only one of them runs.
    fn nest(&mut self, success: Writes<'a>, failure: Writes<'a>) -> Result<(), RequestError> {
        let both = || success.puts.iter().chain(&failure.puts);
        let deleted = |key: &&Bytes| success.deleted(key) || failure.deleted(key);
        if both().any(|key| self.clashes(key)) || self.puts.iter().any(deleted) {
            return Err(RequestError::DuplicateKey);
        }
        self.puts.extend(success.puts);
        self.puts.extend(failure.puts);
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }
}

/// Collects the writes of one branch; an error when it would write a key twice. etcd overlooks two cases that its own
/// rule forbids (a delete without an end, a put and a delete in neighbouring nested txns); here they are refused.
fn writes_of(ops: &[RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            writes.nest(writes_of(&nested.success)?, writes_of(&nested.failure)?)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            let span = Span::new(delete.key.clone(), &delete.range_end);
            if writes.puts.iter().any(|key| span.contains(key)) {
                return Err(RequestError::DuplicateKey);
            }
            writes.deletes.push(span);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            if writes.clashes(&put.key) {
                return Err(RequestError::DuplicateKey);
            }
            writes.puts.insert(&put.key);
        }
    }
    Ok(writes)
}

/// Which branch each txn of a tree takes.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    /// Of the nested txns of that branch, in order.
    pub(crate) nested: Vec<Path>,
}

/// The operations that will run.
pub(crate) fn branch<'a>(txn: &'a TxnRequest, path: &Path) -> &'a [RequestOp] {
    if path.succeeded {
        &txn.success
    } else {
        &txn.failure
    }
}

/// Whether a txn could write, whichever branches it takes.
pub(crate) fn may_write(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => true,
            Some(Request::RequestTxn(nested)) => may_write(nested),
            Some(Request::RequestRange(_)) | None => false,
        })
}

/// Whether a txn could need more space on disk than it frees.
pub(crate) fn may_put(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(nested)) => may_put(nested),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
        })
}

/// Decides all compares.
pub(crate) fn decide(source: &impl Source, txn: &TxnRequest) -> Result<Path, RequestError> {
    let mut succeeded = true;
    for compare in &txn.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut path = Path {
        succeeded,
        nested: Vec::new(),
    };
    for op in branch(txn, &path) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            path.nested.push(decide(source, nested)?);
        }
    }
    Ok(path)
}

/// Checks what will run against the state: afterwards only the storage can fail. As in etcd all puts come first.
pub(crate) fn check(
    source: &impl Source,
    txn: &TxnRequest,
    path: &Path,
    lease_exists: &dyn Fn(i64) -> Result<bool, RequestError>,
) -> Result<(), RequestError> {
    each(txn, path, &mut |op| match op {
        Request::RequestPut(put) => check_put(source, put, lease_exists),
        _ => Ok(()),
    })?;
    each(txn, path, &mut |op| match op {
        // Unlike alone, in a txn a negative revision is one of the past.
        Request::RequestRange(range) if range.revision < 0 && source.compacted() >= 0 => {
            Err(RequestError::Compacted)
        }
        Request::RequestRange(range) => view::resolve(source, range.revision).map(drop),
        _ => Ok(()),
    })
}

/// Visits the operations that will run, those of nested txns included.
fn each(
    txn: &TxnRequest,
    path: &Path,
    visit: &mut dyn FnMut(&Request) -> Result<(), RequestError>,
) -> Result<(), RequestError> {
    let mut nested = path.nested.iter();
    for op in branch(txn, path) {
        match &op.request {
            Some(Request::RequestTxn(inner)) => {
                if let Some(path) = nested.next() {
                    each(inner, path, visit)?;
                }
            }
            Some(other) => visit(other)?,
            None => {}
        }
    }
    Ok(())
}

/// Checks one put of a txn against the state.
fn check_put(
    source: &impl Source,
    put: &PutRequest,
    lease_exists: &dyn Fn(i64) -> Result<bool, RequestError>,
) -> Result<(), RequestError> {
    check_ignored(source, put)?;
    check_lease(put, lease_exists)
}

/// Checks a put that stands alone: as in etcd its lease comes first.
pub(crate) fn check_single_put(
    source: &impl Source,
    put: &PutRequest,
    lease_exists: &dyn Fn(i64) -> Result<bool, RequestError>,
) -> Result<(), RequestError> {
    check_lease(put, lease_exists)?;
    check_ignored(source, put)
}

fn check_ignored(source: &impl Source, put: &PutRequest) -> Result<(), RequestError> {
    if (put.ignore_value || put.ignore_lease) && view::current(source, &put.key)?.is_none() {
        return Err(RequestError::KeyNotFound);
    }
    Ok(())
}

fn check_lease(
    put: &PutRequest,
    exists: &dyn Fn(i64) -> Result<bool, RequestError>,
) -> Result<(), RequestError> {
    if put.lease != 0 && !exists(put.lease)? {
        return Err(RequestError::LeaseNotFound);
    }
    Ok(())
}

fn holds(source: &impl Source, compare: &Compare) -> Result<bool, RequestError> {
    let span = Span::new(compare.key.clone(), &compare.range_end);
    let mut any = false;
    let mut all = true;
    view::scan(source, &span, source.revision(), &mut |found| {
        any = true;
        all = matches(compare, &found.load(source)?);
        Ok(if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    if any {
        return Ok(all);
    }
    // A key that does not exist has no value to compare, but counts as one with all numbers 0.
    let by_value = CompareTarget::try_from(compare.target) == Ok(CompareTarget::Value);
    Ok(!by_value && matches(compare, &KeyValue::default()))
}

fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let number =
        |pick: fn(&TargetUnion) -> Option<i64>| compare.target_union.as_ref().and_then(pick).unwrap_or(0);
    let order = match CompareTarget::try_from(compare.target).unwrap_or_default() {
        CompareTarget::Version => kv.version.cmp(&number(|t| match t {
            TargetUnion::Version(n) => Some(*n),
            _ => None,
        })),
        CompareTarget::Create => kv.create_revision.cmp(&number(|t| match t {
            TargetUnion::CreateRevision(n) => Some(*n),
            _ => None,
        })),
        CompareTarget::Mod => kv.mod_revision.cmp(&number(|t| match t {
            TargetUnion::ModRevision(n) => Some(*n),
            _ => None,
        })),
        CompareTarget::Lease => kv.lease.cmp(&number(|t| match t {
            TargetUnion::Lease(n) => Some(*n),
            _ => None,
        })),
        CompareTarget::Value => match &compare.target_union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.cmp(&Bytes::new()),
        },
    };
    match CompareResult::try_from(compare.result).unwrap_or_default() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
        CompareResult::NotEqual => order != Ordering::Equal,
    }
}
