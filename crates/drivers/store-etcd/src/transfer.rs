//! Everything from one datastore into another, key by key as it is stored: fields that we do not know come along.
//!
//! The destination carries a mark from the first write to the last. A transfer that was cut off is begun again and writes
//! what is missing; one that is done and compared takes the mark away.

mod compare;
mod names;
mod outcome;

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{Backoff, StoreError};
use caracal_wire::{
    Bytes, KeyValue,
    etcdserverpb::{RangeRequest, RequestOp, TxnRequest},
};
use serde_json::Value;

use self::compare::Pages;
pub use self::outcome::{Step, TransferError, Transferred};
use crate::{
    EtcdStore,
    keys::{self, Span},
    status::{About, explain},
    store::{decode, kv},
    transport::Repeat,
    txn,
};

const ROOT: &str = "/calico/";
/// Where the destination's mark is: an annotation of its ClusterInformation.
const MARK: &str = "caracal.projectcalico.org/migrated-from";
/// Requests of a transaction, and bytes in it, well below what etcd takes.
const OPS: usize = 100;
const BYTES: usize = 512 << 10;
/// How often a write is tried again while the destination is away.
const ATTEMPTS: usize = 8;
/// How many differences are named.
const NAMED: usize = 10;

/// Copies everything below `/calico/`, without what is under a lease, and compares it. The source must be locked, and the
/// destination stays so.
///
/// # Errors
/// [`TransferError`]; the same transfer can be begun again after any of them, and after a crash.
pub async fn transfer(
    from: &EtcdStore,
    to: &EtcdStore,
    overwrite: bool,
    mut progress: impl FnMut(Step) + Send,
) -> Result<Transferred, TransferError> {
    let work = Transfer { from, to };
    if work.source_name() == work.destination_name() {
        return Err(TransferError::Same(work.source_name()));
    }
    let information = work.check_source().await?;
    let whole = Span::prefix(ROOT.to_owned());
    let keys = count(from, &whole)
        .await
        .map_err(|e| work.failed("counting at", from, e))?;
    progress(Step::Begun(u64::try_from(keys).unwrap_or_default()));
    if !work.prepare(&information, overwrite).await? {
        // All is there already, as after a transfer whose last answer was lost.
        return work.compare(&mut progress, true).await;
    }
    let (written, deleted) = work.copy(&whole, &mut progress).await?;
    let mut done = work.compare(&mut progress, false).await?;
    work.finish(&information).await?;
    *done.objects.entry(Kind::ClusterInformation).or_default() += 1;
    (done.written, done.deleted) = (written + 1, deleted);
    Ok(done)
}

struct Transfer<'a> {
    from: &'a EtcdStore,
    to: &'a EtcdStore,
}

fn information_key() -> ResourceKey {
    ResourceKey::global(Kind::ClusterInformation, "default")
}

/// Where the ClusterInformation is.
fn information_place() -> Bytes {
    let mut places = keys::candidates(&information_key());
    places.pop().unwrap_or_default().into()
}

async fn count(store: &EtcdStore, span: &Span) -> Result<i64, StoreError> {
    let request = RangeRequest {
        key: span.start.clone().into(),
        range_end: span.end.clone().into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = store.range(&request).await;
    answer.map(|r| r.count).map_err(|f| explain(&f, About::Report))
}

/// The pair of the ClusterInformation, if it is there.
async fn information(store: &EtcdStore) -> Result<Option<KeyValue>, StoreError> {
    let request = RangeRequest {
        key: information_place(),
        ..RangeRequest::default()
    };
    let answer = store.range(&request).await;
    let answer = answer.map_err(|f| explain(&f, About::Object(&information_key())))?;
    Ok(answer.kvs.into_iter().next())
}

fn locked(pair: &KeyValue) -> bool {
    matches!(
        decode(&information_key(), pair),
        Ok(Resource::ClusterInformation(o)) if o.spec.datastore_ready == Some(false)
    )
}

fn mark_of(pair: &KeyValue) -> Option<String> {
    let value: Value = serde_json::from_slice(&pair.value).ok()?;
    let mark = value.pointer("/metadata/annotations")?.get(MARK)?;
    mark.as_str().map(str::to_owned)
}

fn marked(pair: &KeyValue, from: &str) -> Bytes {
    let mut value: Value = serde_json::from_slice(&pair.value).unwrap_or_default();
    if !value["metadata"]["annotations"].is_object() {
        value["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
    }
    value["metadata"]["annotations"][MARK] = from.into();
    value.to_string().into()
}

impl Transfer<'_> {
    fn source_name(&self) -> String {
        caracal_store::Store::describe(self.from)
    }

    fn destination_name(&self) -> String {
        caracal_store::Store::describe(self.to)
    }

    fn failed(&self, doing: &str, at: &EtcdStore, source: StoreError) -> TransferError {
        TransferError::Store {
            doing: format!("{doing} {}", caracal_store::Store::describe(at)),
            source,
        }
    }

    async fn check_source(&self) -> Result<KeyValue, TransferError> {
        let pair = information(self.from)
            .await
            .map_err(|e| self.failed("reading", self.from, e))?;
        match pair {
            Some(pair) if locked(&pair) && mark_of(&pair).is_none() => Ok(pair),
            Some(pair) if locked(&pair) => Err(TransferError::Other {
                at: self.source_name(),
                from: mark_of(&pair).unwrap_or_default(),
            }),
            _ => Err(TransferError::NotLocked(self.source_name())),
        }
    }

    /// Marks the destination, if it may be written. Says whether there is anything to write.
    async fn prepare(&self, source: &KeyValue, overwrite: bool) -> Result<bool, TransferError> {
        let error = |e| self.failed("reading", self.to, e);
        let present = information(self.to).await.map_err(error)?;
        let whole = Span::prefix(ROOT.to_owned());
        match &present {
            Some(pair) if !locked(pair) => return Err(TransferError::InUse(self.destination_name())),
            Some(pair) => match mark_of(pair) {
                Some(from) if from == self.source_name() => return Ok(true),
                Some(from) if !overwrite => {
                    return Err(TransferError::Other {
                        at: self.destination_name(),
                        from,
                    });
                }
                None if pair.value == source.value && self.same().await? => return Ok(false),
                _ => {}
            },
            None => {}
        }
        let keys = count(self.to, &whole).await.map_err(error)?;
        if keys > 0 && !overwrite {
            return Err(TransferError::NotEmpty {
                at: self.destination_name(),
                keys,
            });
        }
        let value = marked(source, &self.source_name());
        self.write(vec![txn::put(&information_place(), value)]).await?;
        Ok(true)
    }

    /// Makes the destination's keys those of the source.
    async fn copy(
        &self,
        whole: &Span,
        progress: &mut (impl FnMut(Step) + Send),
    ) -> Result<(u64, u64), TransferError> {
        let mut source = Pages::new(self.from, whole);
        let (mut written, mut deleted) = (0, 0);
        while let Some(page) = source
            .next()
            .await
            .map_err(|e| self.failed("reading", self.from, e))?
        {
            let there = Pages::new(self.to, &page.span).all().await;
            let there = there.map_err(|e| self.failed("reading", self.to, e))?;
            let changes = compare::changes(&page.pairs, &there);
            written += changes.puts.len() as u64;
            deleted += changes.deletes.len() as u64;
            let puts = changes
                .puts
                .iter()
                .map(|kv| (txn::put(&kv.key, kv.value.clone()), kv.value.len()));
            let deletes = changes.deletes.iter().map(|key| (txn::delete(key), 0));
            for batch in batches(puts.chain(deletes)) {
                self.write(batch).await?;
            }
            progress(Step::Copied(page.pairs.len() as u64));
        }
        Ok((written, deleted))
    }

    /// Writes; again while the destination is away. The same writes done twice do no harm: nobody else writes.
    async fn write(&self, ops: Vec<RequestOp>) -> Result<(), TransferError> {
        let request = TxnRequest {
            success: ops,
            ..TxnRequest::default()
        };
        let mut backoff = Backoff::default();
        let mut attempt = 1;
        loop {
            let answer = self.to.transport().call(Repeat::Safe, |wire| {
                let request = request.clone();
                async move { kv(wire).txn(request).await }
            });
            match answer.await.map_err(|f| explain(&f, About::Report)) {
                Ok(_) => return Ok(()),
                Err(e) if matches!(e, StoreError::Unavailable(_)) && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(backoff.wait()).await;
                }
                Err(e) => return Err(self.failed("writing to", self.to, e)),
            }
        }
    }

    async fn same(&self) -> Result<bool, TransferError> {
        match self.compare(&mut |_| {}, true).await {
            Ok(_) => Ok(true),
            Err(TransferError::Differs(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Compares both, key by key, as they are stored now; the ClusterInformation only when it is `final`.
    async fn compare(
        &self,
        progress: &mut (impl FnMut(Step) + Send),
        with_information: bool,
    ) -> Result<Transferred, TransferError> {
        let whole = Span::prefix(ROOT.to_owned());
        let mut source = Pages::new(self.from, &whole);
        let mut done = Transferred::default();
        let mut wrong = Vec::new();
        while let Some(page) = source
            .next()
            .await
            .map_err(|e| self.failed("comparing with", self.from, e))?
        {
            let there = Pages::new(self.to, &page.span).all().await;
            let there = there.map_err(|e| self.failed("comparing with", self.to, e))?;
            let changes = compare::changes(&page.pairs, &there);
            wrong.extend(changes.puts.iter().map(|kv| compare::name(&kv.key)));
            wrong.extend(changes.deletes.iter().map(|key| compare::name(key)));
            for pair in &page.pairs {
                match compare::object(&pair.key) {
                    Some(key) => *done.objects.entry(key.kind).or_default() += 1,
                    None => done.others += 1,
                }
            }
            progress(Step::Compared(page.pairs.len() as u64));
        }
        if with_information {
            let both = (information(self.from).await, information(self.to).await);
            match both {
                (Ok(Some(a)), Ok(Some(b))) if a.value == b.value => {
                    *done.objects.entry(Kind::ClusterInformation).or_default() += 1;
                }
                (Err(e), _) => return Err(self.failed("comparing with", self.from, e)),
                (_, Err(e)) => return Err(self.failed("comparing with", self.to, e)),
                _ => wrong.push(information_key().to_string()),
            }
        }
        if wrong.is_empty() {
            return Ok(done);
        }
        let more = wrong.len().saturating_sub(NAMED);
        wrong.truncate(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Err(TransferError::Differs(format!(
            "{} and {} differ in {}{more}",
            self.source_name(),
            self.destination_name(),
            wrong.join(", ")
        )))
    }

    /// Takes the mark away; nothing of the source may have changed meanwhile.
    async fn finish(&self, source: &KeyValue) -> Result<(), TransferError> {
        let now = self.check_source().await?;
        if now.mod_revision != source.mod_revision {
            let text = format!("{} changed meanwhile: {}", self.source_name(), information_key());
            return Err(TransferError::Differs(text));
        }
        self.write(vec![txn::put(&information_place(), source.value.clone())])
            .await
    }
}

/// Groups operations so that each transaction stays within its limits.
fn batches(ops: impl Iterator<Item = (RequestOp, usize)>) -> Vec<Vec<RequestOp>> {
    let mut all: Vec<Vec<RequestOp>> = Vec::new();
    let mut bytes = 0;
    for (op, size) in ops {
        match all.last_mut() {
            Some(last) if last.len() < OPS && bytes + size <= BYTES => {
                last.push(op);
                bytes += size;
            }
            _ => {
                all.push(vec![op]);
                bytes = size;
            }
        }
    }
    all
}
