//! A second, naive reading of etcd's semantics: every revision is a whole map.

use std::collections::{BTreeMap, BTreeSet};

use caracal_wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::response_op::Response;
use caracal_wire::etcdserverpb::*;
use caracal_wire::{Bytes, Event, EventType, KeyValue};

/// Keys and their versions at one revision.
type State = BTreeMap<Bytes, KeyValue>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// `states[r]` is the state at revision r; 0 is not used.
    pub(crate) states: Vec<State>,
    /// `events[r]` is what revision r changed.
    pub(crate) events: Vec<Vec<Event>>,
    pub(crate) compacted: i64,
}

type Outcome<T> = Result<T, &'static str>;

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => key == start,
        b"\0" => key >= start,
        _ => key >= start && key < end,
    }
}

/// The state a request works on, and what it has changed so far.
struct Work<'a> {
    model: &'a Model,
    state: State,
    events: Vec<Event>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            states: vec![State::new(); 2],
            events: vec![Vec::new(); 2],
            compacted: -1,
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    fn work(&self) -> Work<'_> {
        Work {
            model: self,
            state: self.states.last().unwrap().clone(),
            events: Vec::new(),
        }
    }

    fn commit(&mut self, state: State, events: Vec<Event>) {
        if !events.is_empty() {
            self.states.push(state);
            self.events.push(events);
        }
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Outcome<RangeResponse> {
        self.work().range(request)
    }

    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Outcome<TxnResponse> {
        for ops in [&request.success, &request.failure] {
            written_once(ops)?;
        }
        let mut work = self.work();
        let start = work.state.clone();
        work.check(&start, request)?;
        let response = work.txn(&start, request)?;
        let (state, events) = (work.state, work.events);
        self.commit(state, events);
        Ok(response)
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Outcome<()> {
        if revision <= self.compacted {
            return Err("compacted");
        }
        if revision > self.revision() {
            return Err("future");
        }
        self.compacted = revision;
        Ok(())
    }
}

/// Puts of a branch (those of both branches of a nested txn count), each of which must be written once.
fn written_once(ops: &[RequestOp]) -> Outcome<(BTreeSet<Bytes>, Vec<DeleteRangeRequest>)> {
    let (mut puts, mut deletes) = (BTreeSet::new(), Vec::new());
    let hit = |deletes: &[DeleteRangeRequest], key: &Bytes| {
        deletes.iter().any(|d| inside(key, &d.key, &d.range_end))
    };
    let mut groups: Vec<(BTreeSet<Bytes>, Vec<DeleteRangeRequest>)> = Vec::new();
    for op in ops {
        groups.push(match op.request.as_ref().unwrap() {
            Request::RequestPut(put) => (BTreeSet::from([put.key.clone()]), vec![]),
            Request::RequestDeleteRange(delete) => (BTreeSet::new(), vec![delete.clone()]),
            Request::RequestTxn(txn) => {
                let (mut p, mut d) = written_once(&txn.success)?;
                let (p2, d2) = written_once(&txn.failure)?;
                p.extend(p2);
                d.extend(d2);
                (p, d)
            }
            Request::RequestRange(_) => continue,
        });
    }
    for (i, (p, d)) in groups.iter().enumerate() {
        for (p2, d2) in &groups[i + 1..] {
            if p.intersection(p2).next().is_some()
                || p.iter().any(|k| hit(d2, k))
                || p2.iter().any(|k| hit(d, k))
            {
                return Err("duplicate key");
            }
        }
        puts.extend(p.iter().cloned());
        deletes.extend(d.iter().cloned());
    }
    Ok((puts, deletes))
}

impl Work<'_> {
    fn revision(&self) -> i64 {
        self.model.revision() + i64::from(!self.events.is_empty())
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.revision(),
            ..Default::default()
        })
    }

    fn range(&self, request: &RangeRequest) -> Outcome<RangeResponse> {
        let state = match request.revision {
            r if r <= 0 || r == self.revision() => &self.state,
            r if r > self.revision() => return Err("future"),
            r if r < self.model.compacted => return Err("compacted"),
            r => &self.model.states[r as usize],
        };
        let mut kvs: Vec<KeyValue> = state
            .values()
            .filter(|kv| inside(&kv.key, &request.key, &request.range_end))
            .cloned()
            .collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(RangeResponse {
                header: self.header(),
                count,
                ..Default::default()
            });
        }
        let bounds = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let (min, max) = (request.min_mod_revision, request.max_mod_revision);
        kvs.retain(|kv| kv.mod_revision >= min && (max == 0 || kv.mod_revision <= max));
        let (min, max) = (request.min_create_revision, request.max_create_revision);
        kvs.retain(|kv| kv.create_revision >= min && (max == 0 || kv.create_revision <= max));
        if request.sort_order == 0 && bounds == [0; 4] && request.limit > 0 {
            // Without an order etcd sorts no more than it needs for the limit.
            kvs.truncate(request.limit as usize + 1);
        }
        match request.sort_target {
            1 => kvs.sort_by_key(|kv| kv.version),
            2 => kvs.sort_by_key(|kv| kv.create_revision),
            3 => kvs.sort_by_key(|kv| kv.mod_revision),
            4 => kvs.sort_by_key(|kv| kv.value.clone()),
            _ => {}
        }
        if request.sort_order == 2 {
            // Backwards, equal ones staying in the order of keys.
            let mut groups: Vec<Vec<KeyValue>> = Vec::new();
            let by = |kv: &KeyValue| match request.sort_target {
                1 => kv.version.to_be_bytes().to_vec(),
                2 => kv.create_revision.to_be_bytes().to_vec(),
                3 => kv.mod_revision.to_be_bytes().to_vec(),
                4 => kv.value.to_vec(),
                _ => kv.key.to_vec(),
            };
            for kv in kvs {
                match groups.last_mut() {
                    Some(group) if by(&group[0]) == by(&kv) => group.push(kv),
                    _ => groups.push(vec![kv]),
                }
            }
            kvs = groups.into_iter().rev().flatten().collect();
        }
        let more = request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse {
            header: self.header(),
            kvs,
            more,
            count,
        })
    }

    fn put(&mut self, put: &PutRequest) -> PutResponse {
        let old = self.state.get(&put.key).cloned();
        let revision = self.model.revision() + 1;
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |kv| kv.version + 1),
            value: if put.ignore_value {
                old.clone().unwrap().value
            } else {
                put.value.clone()
            },
            lease: 0,
        };
        self.state.insert(put.key.clone(), kv.clone());
        self.events.push(Event {
            r#type: EventType::Put.into(),
            kv: Some(kv),
            prev_kv: old.clone(),
        });
        PutResponse {
            header: self.header(),
            prev_kv: old.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let hit = |key: &Bytes| inside(key, &delete.key, &delete.range_end);
        let gone: Vec<KeyValue> = self.state.values().filter(|kv| hit(&kv.key)).cloned().collect();
        for old in &gone {
            self.state.remove(&old.key);
            let kv = KeyValue {
                key: old.key.clone(),
                mod_revision: self.model.revision() + 1,
                ..Default::default()
            };
            self.events.push(Event {
                r#type: EventType::Delete.into(),
                kv: Some(kv),
                prev_kv: Some(old.clone()),
            });
        }
        let deleted = gone.len() as i64;
        DeleteRangeResponse {
            header: self.header(),
            deleted,
            prev_kvs: if delete.prev_kv { gone } else { vec![] },
        }
    }

    /// What must hold before anything is written: first of puts, then of ranges.
    fn check(&self, start: &State, request: &TxnRequest) -> Outcome<()> {
        let mut running = Vec::new();
        flatten(start, request, &mut running);
        for op in &running {
            match op {
                Request::RequestPut(put) if put.ignore_value && !start.contains_key(&put.key) => {
                    return Err("key not found");
                }
                _ => {}
            }
        }
        for op in &running {
            match op {
                Request::RequestRange(range) if range.revision < 0 && self.model.compacted >= 0 => {
                    return Err("compacted");
                }
                Request::RequestRange(range) => drop(self.range(range)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn txn(&mut self, start: &State, request: &TxnRequest) -> Outcome<TxnResponse> {
        let succeeded = chosen(start, request);
        let mut responses = Vec::new();
        for op in if succeeded {
            &request.success
        } else {
            &request.failure
        } {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => Response::ResponseRange(self.range(range)?),
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Request::RequestTxn(txn) => Response::ResponseTxn(TxnResponse {
                    header: Some(ResponseHeader::default()),
                    ..self.txn(start, txn)?
                }),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        Ok(TxnResponse {
            header: self.header(),
            succeeded,
            responses,
        })
    }
}

/// The operations that will run, nested ones in place.
fn flatten<'a>(start: &State, request: &'a TxnRequest, out: &mut Vec<&'a Request>) {
    for op in if chosen(start, request) {
        &request.success
    } else {
        &request.failure
    } {
        match op.request.as_ref().unwrap() {
            Request::RequestTxn(nested) => flatten(start, nested, out),
            other => out.push(other),
        }
    }
}

fn chosen(start: &State, request: &TxnRequest) -> bool {
    request.compare.iter().all(|compare| {
        let found: Vec<&KeyValue> = start
            .values()
            .filter(|kv| inside(&kv.key, &compare.key, &compare.range_end))
            .collect();
        if found.is_empty() {
            return compare.target != i32::from(CompareTarget::Value) && holds(compare, &KeyValue::default());
        }
        found.into_iter().all(|kv| holds(compare, kv))
    })
}

fn holds(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match compare.target_union.as_ref().unwrap() {
        TargetUnion::Version(n) => kv.version.cmp(n),
        TargetUnion::CreateRevision(n) => kv.create_revision.cmp(n),
        TargetUnion::ModRevision(n) => kv.mod_revision.cmp(n),
        TargetUnion::Lease(n) => kv.lease.cmp(n),
        TargetUnion::Value(v) => kv.value.cmp(v),
    };
    match CompareResult::try_from(compare.result).unwrap() {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}
