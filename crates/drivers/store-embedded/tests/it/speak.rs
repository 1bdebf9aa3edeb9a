//! The checker's words as requests and answers of the API.

use caracal_history::{
    Answer, Call, Compare, Event, Field, Item, Op, Outcome, Refusal, Span, Step, Txn, Version,
};
use caracal_wire::etcdserverpb::compare::{CompareTarget, TargetUnion};
use caracal_wire::etcdserverpb::kv_client::KvClient;
use caracal_wire::etcdserverpb::lease_client::LeaseClient;
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::response_op::Response;
use caracal_wire::etcdserverpb::*;
use caracal_wire::{Bytes, KeyValue};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Seconds of leases whose time runs out during a test, and of others.
const SHORT: i64 = 1;
const LONG: i64 = 100_000;

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("tests write text")
}

pub(crate) fn version(kv: &KeyValue) -> Version {
    Version {
        value: text(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(crate) fn item(event: &caracal_wire::Event) -> Item {
    let kv = event.kv.as_ref().expect("events are of a key");
    let put = (event.r#type == 0).then(|| version(kv));
    let event_ = Event {
        revision: kv.mod_revision,
        key: text(&kv.key),
        put,
    };
    Item::Event(event_, event.prev_kv.as_ref().map(version))
}

fn end(span: &Span) -> Bytes {
    span.to.clone().map(Bytes::from).unwrap_or_default()
}

fn range(span: &Span, revision: i64) -> RangeRequest {
    RangeRequest {
        key: span.from.clone().into(),
        range_end: end(span),
        revision,
        ..Default::default()
    }
}

fn delete(span: &Span) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: span.from.clone().into(),
        range_end: end(span),
        prev_kv: false,
    }
}

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    }
}

fn compare(compare: &Compare) -> caracal_wire::etcdserverpb::Compare {
    let (target, union) = match &compare.field {
        Field::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        Field::Modified(n) => (CompareTarget::Mod, TargetUnion::ModRevision(*n)),
        Field::Created(n) => (CompareTarget::Create, TargetUnion::CreateRevision(*n)),
        Field::Version(n) => (CompareTarget::Version, TargetUnion::Version(*n)),
    };
    caracal_wire::etcdserverpb::Compare {
        key: compare.key.clone().into(),
        target: target.into(),
        target_union: Some(union),
        ..Default::default()
    }
}

fn txn(txn: &Txn) -> TxnRequest {
    let op = |step: &Step| RequestOp {
        request: Some(match step {
            Step::Put { key, value, lease } => Request::RequestPut(put(key, value, *lease)),
            Step::Delete(span) => Request::RequestDeleteRange(delete(span)),
            Step::Range(span, at) => Request::RequestRange(range(span, *at)),
        }),
    };
    TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

fn found(response: &RangeResponse) -> Answer {
    Answer::Found(
        response
            .kvs
            .iter()
            .map(|kv| (text(&kv.key), version(kv)))
            .collect(),
    )
}

fn done(header: Option<ResponseHeader>, answer: Answer) -> Outcome {
    Outcome::Done(header.expect("answers have a header").revision, answer)
}

async fn ask(channel: Channel, op: &Op) -> Result<Outcome, Status> {
    let (mut kv, mut leases) = (KvClient::new(channel.clone()), LeaseClient::new(channel));
    Ok(match op {
        Op::Step(Step::Put { key, value, lease }) => {
            let response = kv.put(put(key, value, *lease)).await?.into_inner();
            done(response.header, Answer::Done)
        }
        Op::Step(Step::Delete(span)) => {
            let response = kv.delete_range(delete(span)).await?.into_inner();
            done(response.header, Answer::Deleted(response.deleted))
        }
        Op::Step(Step::Range(span, at)) => {
            let response = kv.range(range(span, *at)).await?.into_inner();
            done(response.header, found(&response))
        }
        Op::Txn(request) => {
            let response = kv.txn(txn(request)).await?.into_inner();
            let answer = |op: &ResponseOp| match op.response.as_ref().expect("answers are of a kind") {
                Response::ResponsePut(_) => Answer::Done,
                Response::ResponseDeleteRange(deleted) => Answer::Deleted(deleted.deleted),
                Response::ResponseRange(range) => found(range),
                Response::ResponseTxn(_) => unreachable!("nothing nested was sent"),
            };
            let answers = response.responses.iter().map(answer).collect();
            done(response.header, Answer::Txn(response.succeeded, answers))
        }
        Op::Grant { lease, short } => {
            let request = LeaseGrantRequest {
                ttl: if *short { SHORT } else { LONG },
                id: *lease,
            };
            done(
                leases.lease_grant(request).await?.into_inner().header,
                Answer::Done,
            )
        }
        Op::Revoke { lease } => {
            let request = LeaseRevokeRequest { id: *lease };
            done(
                leases.lease_revoke(request).await?.into_inner().header,
                Answer::Done,
            )
        }
        Op::Compact { revision } => {
            let request = CompactionRequest {
                revision: *revision,
                physical: false,
            };
            done(kv.compact(request).await?.into_inner().header, Answer::Done)
        }
    })
}

/// Makes a call; `returned` of one whose fate is unknown is for the caller to say.
pub(crate) async fn call(channel: Channel, op: Op, tick: impl Fn() -> u64) -> Call {
    let invoked = tick();
    let asked = ask(channel, &op).await;
    let returned = tick();
    let outcome = asked.unwrap_or_else(|status| match status.code() {
        Code::OutOfRange if status.message().contains("compacted") => Outcome::Refused(Refusal::Compacted),
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::ResourceExhausted => Outcome::Refused(Refusal::Other),
        _ => Outcome::Unknown,
    });
    Call {
        invoked,
        returned,
        op,
        outcome,
    }
}
