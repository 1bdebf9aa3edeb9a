//! Random histories: the engine answers as the model does, before and after compaction and restart.

use std::time::Duration;

use caracal_store_embedded::{Engine, Options, RequestError};
use caracal_wire::Bytes;
use caracal_wire::etcdserverpb::compare::TargetUnion;
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::response_op::Response;
use caracal_wire::etcdserverpb::*;
use proptest::prelude::*;

use crate::api::Running;
use crate::model::Model;

#[derive(Debug, Clone)]
enum Op {
    Txn(TxnRequest),
    Range(RangeRequest),
    /// Compact to this share of the revisions (of 16).
    Compact(i64, bool),
    Restart,
}

fn key() -> impl Strategy<Value = Bytes> {
    // Some are in folders, whose keys the store counts apart.
    prop_oneof![3 => "[abc]{1,2}", 2 => "[ab]/[ab]?"].prop_map(Bytes::from)
}

fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 3 => key(), 2 => "[ab]0".prop_map(Bytes::from)]
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let basics = (key(), end(), 0_i64..4, -1_i64..40, 0_i32..3, 0_i32..5);
    let flags = (any::<bool>(), prop::bool::weighted(0.1), any::<bool>());
    let bounds = prop_oneof![3 => Just((0, 0, 0, 0)), 1 => (0_i64..30, 0_i64..40, 0_i64..30, 0_i64..40)];
    (basics, flags, bounds).prop_map(
        |(
            (key, range_end, limit, revision, sort_order, sort_target),
            (keys_only, count_only, now),
            bounds,
        )| {
            RangeRequest {
                key,
                range_end,
                limit,
                revision: if now { 0 } else { revision },
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            }
        },
    )
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), "[xyz]{0,3}", any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(key, value, prev_kv, ignore_value)| {
            let value = if ignore_value {
                Bytes::new()
            } else {
                Bytes::from(value)
            };
            PutRequest {
                key,
                value,
                prev_kv,
                ignore_value,
                ..Default::default()
            }
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0_i64..4).prop_map(TargetUnion::Version),
        (0_i64..20).prop_map(TargetUnion::CreateRevision),
        (0_i64..20).prop_map(TargetUnion::ModRevision),
        "[xyz]{0,3}".prop_map(|v| TargetUnion::Value(v.into())),
        (0_i64..2).prop_map(TargetUnion::Lease),
    ];
    (key(), end(), 0_i32..4, union).prop_map(|(key, range_end, result, union)| Compare {
        result,
        target: match union {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        },
        key,
        range_end,
        target_union: Some(union),
    })
}

fn leaf() -> impl Strategy<Value = RequestOp> {
    prop_oneof![
        4 => put().prop_map(Request::RequestPut),
        2 => delete().prop_map(Request::RequestDeleteRange),
        1 => range().prop_map(Request::RequestRange),
    ]
    .prop_map(|request| RequestOp {
        request: Some(request),
    })
}

fn txn_of(op: impl Strategy<Value = RequestOp> + Clone) -> impl Strategy<Value = TxnRequest> {
    let ops = || prop::collection::vec(op.clone(), 0..4);
    (prop::collection::vec(compare(), 0..3), ops(), ops()).prop_map(|(compare, success, failure)| {
        TxnRequest {
            compare,
            success,
            failure,
        }
    })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let nested = txn_of(leaf().boxed())
        .prop_map(|txn| RequestOp {
            request: Some(Request::RequestTxn(txn)),
        })
        .boxed();
    txn_of(prop_oneof![5 => leaf(), 1 => nested].boxed())
}

fn single(request: Request) -> Op {
    Op::Txn(TxnRequest {
        success: vec![RequestOp {
            request: Some(request),
        }],
        ..Default::default()
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => put().prop_map(|put| single(Request::RequestPut(put))),
        2 => delete().prop_map(|delete| single(Request::RequestDeleteRange(delete))),
        6 => txn().prop_map(Op::Txn),
        6 => range().prop_map(Op::Range),
        1 => (0_i64..17, any::<bool>()).prop_map(|(share, physical)| Op::Compact(share, physical)),
        1 => Just(Op::Restart),
    ]
}

fn reason(error: RequestError) -> &'static str {
    match error {
        RequestError::Compacted => "compacted",
        RequestError::FutureRevision => "future",
        RequestError::DuplicateKey => "duplicate key",
        RequestError::KeyNotFound => "key not found",
        other => panic!("unexpected: {other}"),
    }
}

/// Leaves only what the model knows of headers.
fn plain(header: &mut Option<ResponseHeader>) {
    *header = Some(ResponseHeader {
        revision: header.as_ref().unwrap().revision,
        ..Default::default()
    });
}

fn plain_txn(response: &mut TxnResponse) {
    plain(&mut response.header);
    for op in &mut response.responses {
        match op.response.as_mut().unwrap() {
            Response::ResponseTxn(nested) => plain_txn(nested),
            Response::ResponsePut(_) | Response::ResponseRange(_) | Response::ResponseDeleteRange(_) => {}
        }
    }
}

/// A single write goes through its own call.
async fn run(engine: &Engine, request: TxnRequest) -> Result<TxnResponse, RequestError> {
    let response = match (
        request.compare.len() + request.failure.len(),
        request.success.as_slice(),
    ) {
        (
            0,
            [
                RequestOp {
                    request: Some(Request::RequestPut(put)),
                },
            ],
        ) => Response::ResponsePut(engine.put(put.clone()).await?),
        (
            0,
            [
                RequestOp {
                    request: Some(Request::RequestDeleteRange(delete)),
                },
            ],
        ) => Response::ResponseDeleteRange(engine.delete_range(delete.clone()).await?),
        _ => return engine.txn(request).await,
    };
    let mut response = response;
    let header = match &mut response {
        Response::ResponsePut(put) => &mut put.header,
        Response::ResponseDeleteRange(delete) => &mut delete.header,
        Response::ResponseRange(_) | Response::ResponseTxn(_) => unreachable!("made above"),
    };
    plain(header);
    let header = *header;
    Ok(TxnResponse {
        header,
        succeeded: true,
        responses: vec![ResponseOp {
            response: Some(response),
        }],
    })
}

async fn play(ops: Vec<Op>) {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(dir.path(), Options::default()).unwrap();
    let mut model = Model::new();
    for op in ops {
        match op {
            Op::Txn(request) => {
                let mut ours = run(&engine, request.clone()).await.map_err(reason);
                if let Ok(response) = &mut ours {
                    plain_txn(response);
                }
                assert_eq!(ours, model.txn(&request), "{request:?}");
            }
            Op::Range(request) => {
                let mut ours = engine.range(request.clone()).await.map_err(reason);
                if let Ok(response) = &mut ours {
                    plain(&mut response.header);
                }
                assert_eq!(ours, model.range(&request), "{request:?}");
            }
            Op::Compact(share, physical) => {
                let revision = model.revision() * share / 16;
                let ours = engine.compact(CompactionRequest { revision, physical }).await;
                assert_eq!(ours.map(|_| ()).map_err(reason), model.compact(revision));
            }
            Op::Restart => {
                engine.close().await;
                engine = Engine::open(dir.path(), Options::default()).unwrap();
            }
        }
    }
    history(&engine, &model).await;
    engine.close().await;
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    history(&engine, &model).await;
    assert_eq!(engine.verify().await.unwrap(), Vec::<String>::new());
    replay(engine, &model).await;
}

/// Every revision that can be read reads as the model has it.
async fn history(engine: &Engine, model: &Model) {
    let everything = Bytes::from_static(b"\0");
    for revision in model.compacted.max(1)..=model.revision() {
        let request = RangeRequest {
            key: everything.clone(),
            range_end: everything.clone(),
            revision,
            ..Default::default()
        };
        let ours = engine.range(request).await.unwrap();
        let theirs: Vec<_> = model.states[revision as usize].values().cloned().collect();
        assert_eq!(ours.kvs, theirs, "at revision {revision}");
    }
}

/// A watch from the oldest revision there is sees every change once, in order.
async fn replay(engine: Engine, model: &Model) {
    let running = Running::start(engine).await;
    let from = model.compacted.max(1);
    let expected: Vec<_> = model.events[from as usize..].iter().flatten().cloned().collect();
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: from,
        prev_kv: true,
        ..Default::default()
    };
    let mut watch = running.watch(vec![create]).await;
    let mut seen = watch.events(expected.len(), Duration::from_secs(20)).await;
    // What the first revision that is left replaced may be gone.
    let first = expected
        .iter()
        .take_while(|e| e.kv.as_ref().unwrap().mod_revision == from)
        .count();
    let mut expected = expected;
    for event in seen.iter_mut().take(first).chain(expected.iter_mut().take(first)) {
        event.prev_kv = None;
    }
    assert_eq!(seen, expected);
    running.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_the_model(ops in prop::collection::vec(op(), 1..60)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(play(ops));
    }
}
