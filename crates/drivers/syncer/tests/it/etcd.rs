//! The syncer on a real etcd that is killed, started again and compacted meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{ListOptions, Preconditions, Store};
use caracal_store_etcd::{EtcdSettings, EtcdStore};
use caracal_syncer::{Source, Syncer};
use caracal_testkit::{Etcd, needs};
use caracal_update::Event;
use caracal_wire::etcdserverpb::{CompactionRequest, RangeRequest, kv_client::KvClient};
use tokio::sync::mpsc::Receiver;
use tonic::transport::Endpoint;

use crate::{key, options, set, tier, with_nets};

type State = BTreeMap<ResourceKey, Arc<Resource>>;

#[derive(Default)]
struct Seen {
    state: State,
    in_sync: usize,
    back: usize,
    updates: usize,
}

/// Takes events until `done`, for two minutes at most: etcd needs its time to start.
async fn until(events: &mut Receiver<Event>, seen: &mut Seen, done: impl Fn(&Seen) -> bool) {
    let all = async {
        while !done(seen) {
            match events.recv().await.expect("a living syncer") {
                Event::Updates(updates) => {
                    seen.updates += updates.len();
                    for u in updates {
                        match u.value {
                            Some(r) => seen.state.insert(u.key, r),
                            None => seen.state.remove(&u.key),
                        };
                    }
                }
                Event::InSync(_) => seen.in_sync += 1,
                Event::Reconnected => seen.back += 1,
                Event::Disconnected(_) | Event::Unreadable { .. } => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all)
        .await
        .expect("in time");
}

async fn stored(store: &EtcdStore) -> State {
    let mut all = State::new();
    for kind in [Kind::NetworkSet, Kind::Tier] {
        let page = store.list_all(kind, &ListOptions::default()).await.unwrap();
        all.extend(page.items.into_iter().map(|r| (r.key(), Arc::new(r))));
    }
    all
}

async fn compact(endpoint: &str) {
    let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect_lazy();
    let mut raw = KvClient::new(channel);
    let now = raw
        .range(RangeRequest {
            key: "/".into(),
            ..RangeRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    let revision = now.header.unwrap().revision;
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    raw.compact(request).await.unwrap();
}

#[test]
fn etcd_may_die_and_forget_and_all_converges() {
    needs!("etcd");
    let mut etcd = Etcd::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = EtcdStore::new(&EtcdSettings::new([etcd.endpoint()])).unwrap();
        for i in 0..20 {
            store.create(set(&format!("s{i}"))).await.unwrap();
        }
        store.create(tier("t")).await.unwrap();
        let sources = [Kind::NetworkSet, Kind::Tier].map(Source::all).to_vec();
        let (syncer, mut events) = Syncer::with_options(Arc::new(store.clone()), sources, options(4));
        tokio::spawn(syncer.run());
        let mut seen = Seen::default();
        until(&mut events, &mut seen, |s| s.in_sync == 1).await;
        assert_eq!((seen.state.len(), seen.updates), (21, 21));

        // Killed and started again: what happens while the syncer waits is neither lost nor repeated.
        etcd.kill();
        etcd.restart();
        store.create(set("while-away")).await.unwrap();
        store.delete(&key("s0"), &Preconditions::default()).await.unwrap();
        until(&mut events, &mut seen, |s| s.back == 1).await;
        let want = stored(&store).await;
        until(&mut events, &mut seen, |s| s.state == want).await;
        assert_eq!(seen.updates, 23);

        // History is gone too: the difference comes, and only that.
        etcd.kill();
        etcd.restart();
        store.update(with_nets("s1", &["10.0.0.0/8"])).await.unwrap();
        store.delete(&key("s2"), &Preconditions::default()).await.unwrap();
        compact(&etcd.endpoint()).await;
        let want = stored(&store).await;
        until(&mut events, &mut seen, |s| s.state == want).await;
        assert_eq!((seen.updates, seen.in_sync), (25, 1));
    });
}
