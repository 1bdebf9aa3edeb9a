//! The same requests to a real etcd and to this store: the same answers, but for the ids of cluster and member.

use std::fmt::Debug;
use std::time::Duration;

use caracal_store_embedded::{Engine, Options};
use caracal_testkit::{Etcd, needs};
use caracal_wire::etcdserverpb::compare::TargetUnion;
use caracal_wire::etcdserverpb::kv_client::KvClient;
use caracal_wire::etcdserverpb::lease_client::LeaseClient;
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::response_op::Response;
use caracal_wire::etcdserverpb::watch_client::WatchClient;
use caracal_wire::etcdserverpb::watch_request::RequestUnion;
use caracal_wire::etcdserverpb::*;
use caracal_wire::{Bytes, Event, EventType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::api::Running;
use crate::dice::{Dice, nightly, seed};

const SOON: Duration = Duration::from_secs(60);

/// A request of any kind.
#[derive(Debug, Clone)]
enum Ask {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    KeepAlive(i64),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    Watch(WatchCreateRequest),
}

/// An answer of any kind, without what may differ.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Range(RangeResponse),
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    Grant(LeaseGrantResponse),
    Revoke(LeaseRevokeResponse),
    KeepAlive(i64),
    TimeToLive(LeaseTimeToLiveResponse),
    Leases(Vec<i64>),
    Watched(Watched),
    Refused(Code, String),
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Watched {
    created: bool,
    canceled: bool,
    reason: String,
    compacted: i64,
    events: Vec<Event>,
}

fn plain(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader {
            revision: header.revision,
            ..Default::default()
        };
    }
}

fn plain_txn(txn: &mut TxnResponse) {
    plain(&mut txn.header);
    for op in &mut txn.responses {
        match op.response.as_mut() {
            Some(Response::ResponseTxn(nested)) => plain_txn(nested),
            Some(Response::ResponseRange(range)) => plain(&mut range.header),
            Some(Response::ResponsePut(put)) => plain(&mut put.header),
            Some(Response::ResponseDeleteRange(delete)) => plain(&mut delete.header),
            None => {}
        }
    }
}

async fn answer(channel: &Channel, ask: Ask) -> Result<Told, Status> {
    let (mut kv, mut lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
    Ok(match ask {
        Ask::Range(request) => {
            let mut told = kv.range(request).await?.into_inner();
            plain(&mut told.header);
            Told::Range(told)
        }
        Ask::Put(request) => {
            let mut told = kv.put(request).await?.into_inner();
            plain(&mut told.header);
            Told::Put(told)
        }
        Ask::Delete(request) => {
            let mut told = kv.delete_range(request).await?.into_inner();
            plain(&mut told.header);
            Told::Delete(told)
        }
        Ask::Txn(request) => {
            let mut told = kv.txn(request).await?.into_inner();
            plain_txn(&mut told);
            Told::Txn(told)
        }
        Ask::Compact(request) => {
            let mut told = kv.compact(request).await?.into_inner();
            plain(&mut told.header);
            Told::Compact(told)
        }
        Ask::Grant(request) => {
            let mut told = lease.lease_grant(request).await?.into_inner();
            plain(&mut told.header);
            Told::Grant(told)
        }
        Ask::Revoke(request) => {
            let mut told = lease.lease_revoke(request).await?.into_inner();
            plain(&mut told.header);
            Told::Revoke(told)
        }
        Ask::KeepAlive(id) => {
            let once = tokio_stream::once(LeaseKeepAliveRequest { id });
            let mut stream = lease.lease_keep_alive(once).await?.into_inner();
            let told = stream
                .message()
                .await?
                .ok_or_else(|| Status::aborted("no answer"))?;
            assert_eq!(told.id, id);
            Told::KeepAlive(told.ttl)
        }
        Ask::TimeToLive(request) => {
            let mut told = lease.lease_time_to_live(request).await?.into_inner();
            plain(&mut told.header);
            told.keys.sort();
            // The seconds that are left are read at two moments.
            told.ttl = told.ttl.min(1);
            Told::TimeToLive(told)
        }
        Ask::Leases => {
            let told = lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner();
            let mut ids: Vec<i64> = told.leases.iter().map(|l| l.id).collect();
            ids.sort_unstable();
            Told::Leases(ids)
        }
        Ask::Watch(request) => Told::Watched(watched(channel, request).await?),
    })
}

/// What a watch tells up to a change made for it: of its first key, put and then deleted.
async fn watched(channel: &Channel, create: WatchCreateRequest) -> Result<Watched, Status> {
    let (requests, outgoing) = mpsc::channel(4);
    let union = RequestUnion::CreateRequest(create.clone());
    let request = WatchRequest {
        request_union: Some(union),
    };
    requests
        .send(request)
        .await
        .map_err(|_| Status::aborted("not sent"))?;
    let mut stream = WatchClient::new(channel.clone())
        .watch(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    let mut told = Watched::default();
    let mut last = i64::MAX;
    while told
        .events
        .last()
        .is_none_or(|e| e.kv.as_ref().is_none_or(|kv| kv.mod_revision < last))
    {
        let response = tokio::time::timeout(SOON, stream.message()).await;
        let Some(response) = response.map_err(|_| Status::aborted(format!("silent after {told:?}")))?? else {
            break;
        };
        if response.created {
            told.created = true;
            if !response.canceled {
                last = mark(channel, &create).await?;
            }
        }
        told.events.extend(response.events);
        if response.canceled {
            told.canceled = true;
            told.reason = response.cancel_reason;
            told.compacted = response.compact_revision;
            // etcd says that a start is compacted before or after others hear of the mark.
            told.events.clear();
            break;
        }
    }
    Ok(told)
}

/// Changes the first key of a watch; the revision of the last change that it is shown.
async fn mark(channel: &Channel, create: &WatchCreateRequest) -> Result<i64, Status> {
    let mut kv = KvClient::new(channel.clone());
    let put = PutRequest {
        key: create.key.clone(),
        value: "mark".into(),
        ..Default::default()
    };
    let put = kv
        .put(put)
        .await?
        .into_inner()
        .header
        .unwrap_or_default()
        .revision;
    let delete = DeleteRangeRequest {
        key: create.key.clone(),
        ..Default::default()
    };
    let delete = kv
        .delete_range(delete)
        .await?
        .into_inner()
        .header
        .unwrap_or_default()
        .revision;
    // Filter 1 hides deletions.
    Ok(if create.filters.contains(&1) { put } else { delete })
}

/// Random requests that make sense more often than not.
struct Asker {
    dice: Dice,
    /// The revision that both stores are at.
    revision: i64,
    /// The one before which both have forgotten what was.
    compacted: i64,
}

impl Asker {
    fn key(&mut self) -> Bytes {
        let letters = ["a", "b", "c"];
        let mut key = letters[self.dice.below(3)].to_owned();
        if self.dice.one_in(2) {
            key.push_str(letters[self.dice.below(3)]);
        }
        if self.dice.one_in(150) {
            key.clear();
        }
        key.into()
    }

    fn end(&mut self) -> Bytes {
        match self.dice.below(8) {
            0..3 => Bytes::new(),
            3 => Bytes::from_static(b"\0"),
            _ => self.key(),
        }
    }

    fn any_revision(&mut self) -> i64 {
        match self.dice.below(20) {
            0 => -1,
            1 => self.revision + 1,
            _ => (self.revision - self.dice.below(40) as i64).max(0),
        }
    }

    fn bound(&mut self) -> i64 {
        if self.dice.one_in(8) {
            self.any_revision()
        } else {
            0
        }
    }

    fn range(&mut self) -> RangeRequest {
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: [0, 0, 1, 2, 5, -1][self.dice.below(6)],
            revision: if self.dice.one_in(2) {
                self.any_revision()
            } else {
                0
            },
            sort_order: self.dice.below(3) as i32,
            sort_target: self.dice.below(5) as i32,
            serializable: self.dice.one_in(3),
            keys_only: self.dice.one_in(4),
            count_only: self.dice.one_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn lease(&mut self) -> i64 {
        1 + self.dice.below(5) as i64
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.dice.one_in(8);
        let ignore_lease = self.dice.one_in(8);
        let empty = ignore_value && !self.dice.one_in(10);
        let value = "xyz"[..self.dice.below(4)].to_owned();
        let lease = if self.dice.one_in(3) && (!ignore_lease || self.dice.one_in(10)) {
            self.lease()
        } else {
            0
        };
        PutRequest {
            key: self.key(),
            value: if empty { Bytes::new() } else { value.into() },
            lease,
            prev_kv: self.dice.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(),
            range_end: self.end(),
            prev_kv: self.dice.one_in(2),
        }
    }

    fn compare(&mut self) -> Compare {
        let back = self.any_revision();
        let union = match self.dice.below(5) {
            0 => TargetUnion::Version(self.dice.below(4) as i64),
            1 => TargetUnion::CreateRevision(back),
            2 => TargetUnion::ModRevision(back),
            3 => TargetUnion::Value("xyz"[..self.dice.below(4)].to_owned().into()),
            _ => TargetUnion::Lease(self.lease() - 1),
        };
        Compare {
            result: self.dice.below(4) as i32,
            target: match union {
                TargetUnion::Version(_) => 0,
                TargetUnion::CreateRevision(_) => 1,
                TargetUnion::ModRevision(_) => 2,
                TargetUnion::Value(_) => 3,
                TargetUnion::Lease(_) => 4,
            },
            key: self.key(),
            range_end: self.end(),
            target_union: Some(union),
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let mut ops = |most| -> Vec<RequestOp> {
            let count = self.dice.below(most);
            (0..count)
                .map(|_| RequestOp {
                    request: Some(match self.dice.below(8) {
                        0..3 => Request::RequestPut(self.put()),
                        3 => Request::RequestDeleteRange(self.delete()),
                        4 if depth > 0 => Request::RequestTxn(self.txn(depth - 1)),
                        _ => Request::RequestRange(self.range()),
                    }),
                })
                .collect()
        };
        let (success, failure) = (ops(5), ops(4));
        let compare = (0..self.dice.below(3)).map(|_| self.compare()).collect();
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let mut key = self.key();
        if key.is_empty() {
            // All keys: its mark could not be made.
            key = "a".into();
        }
        let end = self.end();
        let filters = [vec![], vec![], vec![0], vec![1]][self.dice.below(4)].clone();
        WatchCreateRequest {
            key,
            range_end: end,
            start_revision: (self.revision - self.dice.below(40) as i64).max(0),
            progress_notify: self.dice.one_in(4),
            filters,
            prev_kv: self.dice.one_in(2),
            watch_id: 0,
            fragment: self.dice.one_in(4),
        }
    }

    fn next(&mut self) -> Ask {
        match self.dice.below(100) {
            0..25 => Ask::Put(self.put()),
            25..33 => Ask::Delete(self.delete()),
            33..60 => Ask::Range(self.range()),
            60..85 => Ask::Txn(self.txn(2)),
            85 => Ask::Compact(CompactionRequest {
                revision: self.any_revision(),
                physical: self.dice.one_in(2),
            }),
            86..89 => Ask::Grant(LeaseGrantRequest {
                ttl: [100, 5000, 9_000_000_000, 9_000_000_001][self.dice.below(4)],
                id: self.lease(),
            }),
            89 => Ask::Revoke(LeaseRevokeRequest { id: self.lease() }),
            90 => Ask::KeepAlive(self.lease()),
            91..93 => Ask::TimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.dice.one_in(2),
            }),
            93 => Ask::Leases,
            _ => Ask::Watch(self.watch()),
        }
    }
}

/// Requests at the edges, each of which has one right answer.
fn edges() -> Vec<Ask> {
    let put = |key: &str, bytes: usize| PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    };
    let range = |key: &str, end: &str| RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    };
    let many = |count: usize| {
        let op = |n| RequestOp {
            request: Some(Request::RequestPut(put(&format!("many{n}"), 1))),
        };
        TxnRequest {
            success: (0..count).map(op).collect(),
            ..Default::default()
        }
    };
    let grant = |id, ttl| Ask::Grant(LeaseGrantRequest { id, ttl });
    let gone = |key: &str, end: &str| {
        Ask::Delete(DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            prev_kv: false,
        })
    };
    let compact = |revision| {
        Ask::Compact(CompactionRequest {
            revision,
            physical: true,
        })
    };
    let compare = |target, result, union| {
        Ask::Txn(TxnRequest {
            compare: vec![Compare {
                key: "a".into(),
                target,
                result,
                target_union: union,
                ..Default::default()
            }],
            ..Default::default()
        })
    };
    vec![
        compact(-1),
        compact(0),
        compact(0),
        compact(99),
        Ask::Put(put("a", 0)),
        Ask::Put(put("", 1)),
        Ask::Put(put("/not/of/calico", 3)),
        Ask::Put(put("big", (3 << 19) - 100)),
        Ask::Put(put("big", 3 << 19)),
        Ask::Range(range("", "")),
        Ask::Range(range("\0", "\0")),
        Ask::Range(range("b", "a")),
        Ask::Delete(DeleteRangeRequest::default()),
        Ask::Txn(TxnRequest::default()),
        Ask::Txn(many(128)),
        Ask::Txn(many(129)),
        Ask::Txn(TxnRequest {
            success: vec![RequestOp { request: None }],
            ..Default::default()
        }),
        compare(0, 0, None),
        compare(3, 0, None),
        grant(7, 0),
        grant(8, -5),
        grant(9, 1),
        grant(9, 1),
        grant(-3, 100),
        Ask::Revoke(LeaseRevokeRequest { id: 7 }),
        Ask::Revoke(LeaseRevokeRequest { id: 8 }),
        Ask::Revoke(LeaseRevokeRequest { id: 9 }),
        Ask::Revoke(LeaseRevokeRequest { id: 0 }),
        Ask::Revoke(LeaseRevokeRequest { id: -3 }),
        // Among more than twelve keys etcd's sort shuffles equal ones.
        gone("big", ""),
        gone("m", "n"),
        gone("/", "0"),
        Ask::KeepAlive(0),
        Ask::TimeToLive(LeaseTimeToLiveRequest { id: 0, keys: true }),
    ]
}

/// etcd overlooks, in two cases, what its own rule forbids: see `docs/store.md`.
fn meant(ask: &Ask, ours: &Told) -> bool {
    let duplicate = "etcdserver: duplicate key given in txn request";
    matches!((ask, ours), (Ask::Txn(_), Told::Refused(_, text)) if text == duplicate)
}

/// What the compaction at `compacted` took from etcd 3.4.23 and should not have (etcd-io/etcd#18089, mended in 3.4.34): a
/// deletion in that very revision, which a watch from there on has to tell.
fn forgotten_by_etcd(ask: &Ask, theirs: &mut Told, ours: &Told, compacted: i64) {
    let (Ask::Watch(_), Told::Watched(theirs), Told::Watched(ours)) = (ask, theirs, ours) else {
        return;
    };
    let is_there = |e: &&Event| {
        let revision = e.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        e.r#type == i32::from(EventType::Delete) && revision == compacted
    };
    let forgotten: Vec<Event> = ours.events.iter().take_while(is_there).cloned().collect();
    if !theirs.events.iter().any(|e| is_there(&e)) {
        theirs.events.splice(..0, forgotten);
    }
}

/// Asks both. What differs is an error, unless it is meant: then the stores are not the same any more, which is `false`.
async fn both(etcd: &Channel, ours: &Channel, ask: &Ask, asker: &mut Asker) -> Result<bool, String> {
    let told = |told: Result<Told, Status>| match told {
        Ok(told) => told,
        Err(status) => Told::Refused(status.code(), status.message().to_owned()),
    };
    let (theirs, our) = tokio::join!(answer(etcd, ask.clone()), answer(ours, ask.clone()));
    let (mut theirs, our) = (told(theirs), told(our));
    forgotten_by_etcd(ask, &mut theirs, &our, asker.compacted);
    if meant(ask, &our) {
        // What etcd refused for another reason left them the same; some of what it takes kills it.
        let reasons = [Code::InvalidArgument, Code::NotFound, Code::OutOfRange];
        return Ok(matches!(theirs, Told::Refused(code, _) if reasons.contains(&code)));
    }
    if theirs != our {
        let short = |text: &dyn Debug| format!("{text:?}").chars().take(1500).collect::<String>();
        return Err(format!(
            "{}\netcd: {}\nours: {}\n",
            short(ask),
            short(&theirs),
            short(&our)
        ));
    }
    let header = match &our {
        Told::Put(told) => told.header,
        Told::Delete(told) => told.header,
        Told::Txn(told) => told.header,
        Told::Range(told) => told.header,
        Told::Watched(_) => {
            asker.revision += 2;
            None
        }
        Told::Compact(_) => {
            if let Ask::Compact(request) = ask {
                asker.compacted = request.revision;
            }
            None
        }
        _ => None,
    };
    let revision = header.map_or(0, |header| header.revision);
    asker.revision = asker.revision.max(revision);
    Ok(true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_are_answered_as_etcd_answers_them() {
    needs!("etcd");
    let seed = seed("etcd");
    let wanted = if nightly() { 15_000 } else { 2000 };
    let (mut round, mut compared) = (0, 0);
    while compared < wanted {
        let etcd = Etcd::start();
        let theirs = Endpoint::from_shared(etcd.endpoint())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ours = Running::start(Engine::open(dir.path(), Options::default()).unwrap()).await;
        let mut asker = Asker {
            dice: Dice::new(seed.wrapping_add(round)),
            revision: 1,
            compacted: 0,
        };
        if round == 0 {
            let mut differ = Vec::new();
            for ask in edges() {
                differ.extend(both(&theirs, &ours.channel, &ask, &mut asker).await.err());
            }
            assert!(differ.is_empty(), "{}", differ.join("\n"));
        }
        let mut last = None;
        for n in 0..1000 {
            let ask = asker.next();
            let before = last.replace(ask.clone());
            match both(&theirs, &ours.channel, &ask, &mut asker).await {
                Ok(true) => compared += 1,
                Ok(false) => break,
                Err(differ) => panic!("seed {seed}, round {round}, request {n}, after {before:?}: {differ}"),
            }
        }
        ours.stop().await;
        round += 1;
    }
    eprintln!("{compared} requests in {round} rounds");
}
