//! Load for a server of etcd's API, and how fast it answers: `store_bench URL measure|load DIR`.
//!
//! `measure` prints a line for each kind of work; `load` writes the manifests that `bench/gen_workload.py` made in DIR.
//! It is a client and nothing else, so that this store and etcd do the same work.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caracal_wire::etcdserverpb::compare::{CompareTarget, TargetUnion};
use caracal_wire::etcdserverpb::kv_client::KvClient;
use caracal_wire::etcdserverpb::request_op::Request;
use caracal_wire::etcdserverpb::watch_client::WatchClient;
use caracal_wire::etcdserverpb::watch_request::RequestUnion;
use caracal_wire::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// A network's object: a workload endpoint is about this large.
const VALUE: usize = 600;
const KEYS: usize = 10_000;
const CLIENTS: usize = 32;
/// Connections that clients and watches share.
const CHANNELS: usize = 4;
const WATCHES: usize = 100;
const TIME: Duration = Duration::from_secs(4);
const OBJECTS: usize = 100_000;
const PAGE: i64 = 2000;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, what, rest @ ..] = args.as_slice() else {
        bail!("store_bench URL measure, or store_bench URL load DIR");
    };
    let mut channels = Vec::new();
    for _ in 0..CHANNELS {
        let endpoint = Endpoint::from_shared(url.clone())?.tcp_nodelay(true);
        // The server may be just starting.
        let deadline = Instant::now() + Duration::from_secs(20);
        while endpoint.connect().await.is_err() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        channels.push(
            endpoint
                .connect()
                .await
                .with_context(|| format!("connecting to {url}"))?,
        );
    }
    match (what.as_str(), rest) {
        ("measure", []) => measure(&channels).await,
        ("load", [dir]) => load(&channels, Path::new(dir)).await,
        _ => bail!("{what:?} is not known"),
    }
}

fn put(key: String, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn key(n: usize) -> String {
    format!("/calico/resources/v3/projectcalico.org/workloadendpoints/bench/object-{n:06}")
}

async fn measure(channels: &[Channel]) -> Result<()> {
    let stub = |client: usize| KvClient::new(channels[client % channels.len()].clone());
    let write = |client, n: usize| {
        let mut kv = stub(client);
        async move { kv.put(put(key(n), vec![b'v'; VALUE])).await.map(drop) }
    };
    work("put, 1 client", 1, write).await?;
    work("put, 32 clients", CLIENTS, write).await?;
    let read = |client, n: usize| {
        let mut kv = stub(client);
        let request = RangeRequest {
            key: key(n * 7919 % KEYS).into(),
            ..Default::default()
        };
        async move { kv.range(request).await.map(drop) }
    };
    work("get, 32 clients", CLIENTS, read).await?;
    work("txn, 32 clients", CLIENTS, |client, n| {
        swap(stub(client), client, n)
    })
    .await?;
    fan_out(channels).await?;
    fill(channels).await?;
    list(stub(0)).await
}

/// Reads a key of the client's own, and writes it if it is still the same.
async fn swap(mut kv: KvClient<Channel>, client: usize, n: usize) -> Result<(), tonic::Status> {
    let mine = format!("/calico/swap/{client}/{}", n % 8);
    let request = RangeRequest {
        key: mine.clone().into(),
        ..Default::default()
    };
    let found = kv.range(request).await?.into_inner();
    let compare = Compare {
        key: mine.clone().into(),
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(
            found.kvs.first().map_or(0, |kv| kv.mod_revision),
        )),
        ..Default::default()
    };
    let write = RequestOp {
        request: Some(Request::RequestPut(put(mine, vec![b'v'; VALUE]))),
    };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![write],
        ..Default::default()
    };
    match kv.txn(txn).await?.into_inner().succeeded {
        true => Ok(()),
        false => Err(tonic::Status::aborted("nobody else writes this key")),
    }
}

/// Lets clients do one kind of work for a while.
async fn work<F: Future<Output = Result<(), tonic::Status>>>(
    label: &str,
    clients: usize,
    call: impl Fn(usize, usize) -> F + Copy,
) -> Result<()> {
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let stop = begun + TIME;
    let local = futures::future::try_join_all((0..clients).map(|client| {
        let next = next.clone();
        async move {
            let mut times = Vec::new();
            while Instant::now() < stop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let begin = Instant::now();
                call(client, n % KEYS).await?;
                times.push(begin.elapsed());
            }
            Ok::<_, tonic::Status>(times)
        }
    }));
    let times: Vec<Duration> = local
        .await
        .context(label.to_owned())?
        .into_iter()
        .flatten()
        .collect();
    show(label, times, begun.elapsed());
    Ok(())
}

fn show(label: &str, mut times: Vec<Duration>, wall: Duration) {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times
            .get(place.min(times.len().saturating_sub(1)))
            .map_or(0.0, |t| t.as_secs_f64() * 1e3)
    };
    println!(
        "{label} n {} rate {:.0} p50 {:.3} p99 {:.3}",
        times.len(),
        times.len() as f64 / wall.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
}

/// Watches of one prefix, each a stream of its own, while it is written: how many events reach them, how late.
async fn fan_out(channels: &[Channel]) -> Result<()> {
    let begun = Instant::now();
    let stop = begun + TIME;
    let mut watches = JoinSet::new();
    for watch in 0..WATCHES {
        let channel = channels[watch % channels.len()].clone();
        let mut stream = open(channel).await?;
        watches.spawn(async move {
            let mut late = Vec::new();
            while let Ok(Some(response)) = stream.message().await {
                for event in response.events {
                    let value = event.kv.map(|kv| kv.value).unwrap_or_default();
                    if value.as_ref() == b"end" {
                        return late;
                    }
                    let sent = value
                        .get(..8)
                        .and_then(|b| b.try_into().ok())
                        .map_or(0, u64::from_le_bytes);
                    late.push(begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
                }
            }
            late
        });
    }
    let writers = (0..8).map(|writer| {
        let mut kv = KvClient::new(channels[writer % channels.len()].clone());
        async move {
            let mut n = 0_usize;
            while Instant::now() < stop {
                let mut value = vec![b'v'; VALUE];
                let now = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                value[..8].copy_from_slice(&now.to_le_bytes());
                kv.put(put(format!("/calico/watched/{writer}/{}", n % 100), value))
                    .await?;
                n += 1;
            }
            Ok::<_, tonic::Status>(n)
        }
    });
    let written: usize = futures::future::try_join_all(writers).await?.into_iter().sum();
    let mut kv = KvClient::new(channels[0].clone());
    kv.put(put("/calico/watched/end".into(), b"end".to_vec())).await?;
    let mut times = Vec::new();
    while let Some(late) = watches.join_next().await {
        times.extend(late?);
    }
    ensure!(
        times.len() == written * WATCHES,
        "{} events of {written} changes",
        times.len()
    );
    show("watch, 100 watches", times, begun.elapsed());
    Ok(())
}

async fn open(channel: Channel) -> Result<tonic::Streaming<caracal_wire::etcdserverpb::WatchResponse>> {
    let create = WatchCreateRequest {
        key: "/calico/watched/".into(),
        range_end: "/calico/watched0".into(),
        ..Default::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // Never ends, as a client's side does not.
    let requests = futures::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut stream = WatchClient::new(channel).watch(requests).await?.into_inner();
    let created = stream.message().await?.context("the stream ended")?;
    ensure!(created.created, "the watch was not created");
    Ok(stream)
}

/// Writes objects until there are a hundred thousand.
async fn fill(channels: &[Channel]) -> Result<()> {
    let objects = (0..OBJECTS).map(|n| (key(n), vec![b'v'; VALUE]));
    let begun = Instant::now();
    let written = write_all(channels, objects).await?;
    println!("fill n {written} wall {:.3}", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Writes objects, a hundred to a transaction.
async fn write_all(channels: &[Channel], objects: impl Iterator<Item = (String, Vec<u8>)>) -> Result<usize> {
    let mut kv = KvClient::new(channels[0].clone());
    let (mut ops, mut written) = (Vec::new(), 0);
    let mut objects = objects.peekable();
    while let Some((key, value)) = objects.next() {
        ops.push(RequestOp {
            request: Some(Request::RequestPut(put(key, value))),
        });
        written += 1;
        if ops.len() == 100 || objects.peek().is_none() {
            let success = std::mem::take(&mut ops);
            let txn = TxnRequest {
                success,
                ..Default::default()
            };
            kv.txn(txn).await?;
        }
    }
    Ok(written)
}

/// Reads all objects in pages, as a client does at its start.
async fn list(kv: KvClient<Channel>) -> Result<()> {
    let mut kv = kv.max_decoding_message_size(64 << 20);
    let begun = Instant::now();
    let folder = "/calico/resources/v3/projectcalico.org/workloadendpoints/".to_owned();
    let (mut from, mut revision, mut count) = (folder, 0, 0);
    loop {
        let request = RangeRequest {
            key: from.clone().into(),
            range_end: "/calico/resources/v3/projectcalico.org/workloadendpoints0".into(),
            limit: PAGE,
            revision,
            ..Default::default()
        };
        let page = kv.range(request).await?.into_inner();
        revision = page.header.map_or(0, |header| header.revision);
        count += page.kvs.len();
        match page.kvs.last() {
            Some(last) if page.more => from = format!("{}\0", String::from_utf8_lossy(&last.key)),
            _ => break,
        }
    }
    ensure!(count == OBJECTS, "{count} objects");
    println!("list n {count} wall {:.3}", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Writes generated manifests under Calico's keys, with the cluster's own objects.
async fn load(channels: &[Channel], dir: &Path) -> Result<()> {
    let plurals: BTreeMap<&str, &str> = BTreeMap::from([
        ("IPPool", "ippools"),
        ("Profile", "profiles"),
        ("Node", "nodes"),
        ("GlobalNetworkPolicy", "globalnetworkpolicies"),
        ("WorkloadEndpoint", "workloadendpoints"),
        ("Tier", "tiers"),
        ("ClusterInformation", "clusterinformations"),
    ]);
    let mut texts = vec![
        r#"{"apiVersion":"projectcalico.org/v3","kind":"ClusterInformation","metadata":{"name":"default"},"spec":{"clusterGUID":"0123456789abcdef0123456789abcdef","datastoreReady":true}}"#.to_owned(),
        r#"{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"default"},"spec":{"order":1000000,"defaultAction":"Deny"}}"#.to_owned(),
    ];
    let mut files: Vec<_> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    for file in files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "yaml"))
    {
        let text = std::fs::read_to_string(file)?;
        texts.extend(
            text.lines()
                .filter(|line| line.starts_with('{'))
                .map(str::to_owned),
        );
    }
    let mut objects = Vec::with_capacity(texts.len());
    for text in texts {
        let object: Value = serde_json::from_str(&text)?;
        let (kind, meta) = (object["kind"].as_str().unwrap_or_default(), &object["metadata"]);
        let plural = plurals
            .get(kind)
            .with_context(|| format!("{kind}: not known here"))?;
        let name = meta["name"].as_str().context("an object without a name")?;
        let place = match meta["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        objects.push((
            format!("/calico/resources/v3/projectcalico.org/{plural}/{place}"),
            text.into_bytes(),
        ));
    }
    let written = write_all(channels, objects.into_iter()).await?;
    println!("load n {written}");
    Ok(())
}
