//! Every consumer on a real etcd that goes through what etcd goes through: each test leaves all streams converged, with
//! nothing told twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_store::{ListOptions, Preconditions, Store, StoreError};
use caracal_store_etcd::{EtcdSettings, EtcdStore, Material, Source as Pem};
use caracal_syncer::{Stream, Syncer};
use caracal_testkit::{Authority, Etcd, EtcdCluster, eventually, needs, netns};
use caracal_update::Event;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::mpsc::Receiver, time::Instant};

use crate::options;

const NODE: &str = "n1";
const PATIENCE: Duration = Duration::from_secs(120);

type State = BTreeMap<ResourceKey, Arc<Resource>>;

/// One consumer, and what it has been told.
struct Consumer {
    stream: Stream,
    events: Receiver<Event>,
    state: State,
    /// The revisions of each object that it was told, in order.
    told: BTreeMap<ResourceKey, Vec<String>>,
    in_sync: usize,
}

impl Consumer {
    fn start(store: &EtcdStore, stream: Stream) -> Self {
        let sources = stream.sources(Some(NODE));
        let (syncer, events) = Syncer::with_options(Arc::new(store.clone()), sources, options(4));
        tokio::spawn(syncer.run());
        Self {
            stream,
            events,
            state: State::new(),
            told: BTreeMap::new(),
            in_sync: 0,
        }
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let event = event
                .unwrap_or_else(|_| panic!("{:?} does not converge: {:?}", self.stream, self.state.keys()));
            self.take(event.expect("a living syncer"));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Updates(updates) => {
                for u in updates {
                    match u.value {
                        Some(r) => {
                            let revision = r.metadata().resource_version.clone().unwrap_or_default();
                            let told = self.told.entry(u.key.clone()).or_default();
                            assert!(
                                !told.contains(&revision),
                                "{:?} is told twice of {}",
                                self.stream,
                                u.key
                            );
                            told.push(revision);
                            self.state.insert(u.key, r);
                        }
                        None => drop(self.state.remove(&u.key)),
                    }
                }
            }
            Event::InSync(_) => self.in_sync += 1,
            Event::Unreadable { key, reason } => panic!("{key}: {reason}"),
            Event::Disconnected(_) | Event::Reconnected => {}
        }
    }
}

/// A datastore in use: objects that all streams tell apart, and one consumer of each stream.
struct World {
    rt: Runtime,
    store: EtcdStore,
    consumers: Vec<Consumer>,
    round: usize,
}

fn object(kind: Kind, name: &str, spec: &Value) -> Resource {
    let mut meta = json!({ "name": name });
    if kind.namespaced() {
        meta["namespace"] = "shop".into();
    }
    Resource::from_value(kind, json!({ "metadata": meta, "spec": spec })).unwrap()
}

impl World {
    fn new(settings: &EtcdSettings) -> Self {
        let rt = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let settings = EtcdSettings {
            timeout: Duration::from_secs(8),
            ..settings.clone()
        };
        let store = EtcdStore::new(&settings).unwrap();
        let mut world = Self {
            rt,
            store,
            consumers: Vec::new(),
            round: 0,
        };
        world.happen();
        let (rt, store) = (&world.rt, &world.store);
        let _inside = rt.enter();
        let started = Stream::ALL.map(|stream| Consumer::start(store, stream));
        world.consumers = started.into();
        world.converged();
        world
    }

    /// Insists on a write, as a client must while the datastore is unwell.
    fn insist<T, F: Future<Output = Result<T, StoreError>>>(&self, write: impl Fn() -> F) {
        let deadline = Instant::now() + PATIENCE;
        self.rt.block_on(async {
            loop {
                match write().await {
                    Ok(_) | Err(StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => return,
                    Err(e) if e.is_transient() && Instant::now() < deadline => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        });
    }

    fn put(&self, kind: Kind, name: &str, spec: &Value) {
        self.insist(|| caracal_store::apply(&self.store, object(kind, name, spec)));
    }

    /// Makes, changes and deletes objects of all streams.
    fn happen(&mut self) {
        self.round += 1;
        let n = self.round;
        let cidr = format!("10.{n}.0.0/16");
        self.put(Kind::NetworkSet, &format!("s{n}"), &json!({ "nets": [cidr] }));
        self.put(Kind::NetworkSet, "changes", &json!({ "nets": [cidr] }));
        self.put(Kind::IpPool, &format!("p{n}"), &json!({ "cidr": cidr }));
        self.put(
            Kind::Node,
            NODE,
            &json!({ "bgp": { "ipv4Address": format!("192.0.2.{n}/24") } }),
        );
        self.put(
            Kind::Node,
            "other",
            &json!({ "bgp": { "ipv4Address": format!("192.0.3.{n}/24") } }),
        );
        self.put(
            Kind::BgpPeer,
            &format!("b{n}"),
            &json!({ "peerIP": "192.0.2.9", "asNumber": 64_512 }),
        );
        for (node, owner) in [(NODE, "mine"), ("other", "theirs")] {
            self.put(
                Kind::CalicoNodeStatus,
                &format!("{owner}{n}"),
                &json!({ "node": node }),
            );
            let block = json!({ "type": "host", "node": node, "cidr": format!("10.{n}.0.0/26"), "state": "confirmed" });
            self.put(Kind::BlockAffinity, &format!("{node}-10-{n}-0-0-26"), &block);
        }
        if n > 1 {
            for (kind, name) in [
                (Kind::NetworkSet, format!("s{}", n - 1)),
                (Kind::IpPool, format!("p{}", n - 1)),
                (Kind::CalicoNodeStatus, format!("mine{}", n - 1)),
                (Kind::BlockAffinity, format!("{NODE}-10-{}-0-0-26", n - 1)),
            ] {
                let key = object(kind, &name, &json!({})).key();
                self.insist(|| async { self.store.delete(&key, &Preconditions::default()).await });
            }
        }
    }

    /// Every consumer comes to what one sees who begins now.
    fn converged(&mut self) {
        let (rt, store) = (&self.rt, &self.store);
        rt.block_on(async {
            for consumer in &mut self.consumers {
                let mut fresh = Consumer::start(store, consumer.stream);
                fresh.until(|c| c.in_sync == 1).await;
                assert!(!fresh.state.is_empty(), "{:?}", consumer.stream);
                consumer.until(|c| c.in_sync == 1 && c.state == fresh.state).await;
            }
        });
    }
}

#[test]
fn netns_consumers_converge_when_members_are_lost_and_found() {
    netns!(300);
    needs!("etcd");
    let mut cluster = EtcdCluster::start(3);
    let mut world = World::new(&EtcdSettings::new(cluster.endpoints()));
    for member in 0..3 {
        cluster.members[member].kill();
        world.happen();
        world.converged();
        cluster.members[member].restart();
        world.happen();
    }
    world.converged();
}

#[test]
fn netns_consumers_converge_when_the_only_etcd_is_killed() {
    netns!(300);
    needs!("etcd");
    let mut etcd = Etcd::start();
    let mut world = World::new(&EtcdSettings::new([etcd.endpoint()]));
    for _ in 0..2 {
        etcd.kill();
        etcd.restart();
        world.happen();
        world.converged();
    }
}

#[test]
fn netns_consumers_converge_when_the_leader_changes() {
    netns!(300);
    needs!("etcd");
    let mut cluster = EtcdCluster::start(3);
    let mut world = World::new(&EtcdSettings::new(cluster.endpoints()));
    let leader = eventually(PATIENCE, || {
        cluster.leader().ok_or_else(|| "no leader".to_owned())
    });
    cluster.members[leader].kill();
    world.happen();
    world.converged();
    let next = eventually(PATIENCE, || {
        cluster.leader().ok_or_else(|| "no leader".to_owned())
    });
    assert_ne!(leader, next);
    cluster.members[leader].restart();
    world.happen();
    world.converged();
}

#[test]
fn netns_consumers_converge_when_they_are_with_the_minority() {
    netns!(300);
    needs!("etcd");
    needs!("nft");
    let cluster = EtcdCluster::start(3);
    // All consumers begin at the member that will be cut off.
    let mut world = World::new(&EtcdSettings::new(cluster.endpoints()));
    cluster.cut_off(0);
    world.happen();
    world.converged();
    cluster.heal();
    world.happen();
    world.converged();
}

#[test]
fn netns_consumers_converge_when_history_is_compacted() {
    netns!(300);
    needs!("etcd");
    needs!("etcdctl");
    let mut etcd = Etcd::start();
    let mut world = World::new(&EtcdSettings::new([etcd.endpoint()]));
    for _ in 0..2 {
        // While they are away all that they missed is compacted; and while they watch.
        etcd.kill();
        etcd.restart();
        world.happen();
        compact(&world, &etcd);
        world.happen();
        compact(&world, &etcd);
        world.converged();
    }
}

fn compact(world: &World, etcd: &Etcd) {
    let all = ListOptions::default();
    let list = world.store.list(Kind::Tier, &all);
    let now = world.rt.block_on(list).unwrap().watch_from.0;
    etcd.ctl(&["compact", &now]);
}

#[test]
fn netns_consumers_converge_when_the_quota_was_exceeded() {
    netns!(300);
    needs!("etcd");
    needs!("etcdctl");
    let etcd = Etcd::start_with(&["--quota-backend-bytes", "2097152"]);
    let mut world = World::new(&EtcdSettings::new([etcd.endpoint()]));
    let filler = |i: usize| {
        let mut r = object(Kind::NetworkSet, &format!("filler{i}"), &json!({}));
        r.metadata_mut()
            .annotations
            .insert("filler".into(), "x".repeat(200_000));
        r
    };
    let mut made = 0;
    let refused = loop {
        match world.rt.block_on(world.store.create(filler(made))) {
            Ok(_) => made += 1,
            Err(e) => break e,
        }
        assert!(made < 100, "the quota is never met");
    };
    assert!(
        matches!(&refused, StoreError::NoSpace(text) if text.contains("quota")),
        "{refused}"
    );
    world.converged();
    for i in 0..made {
        let key = filler(i).key();
        world.insist(|| async { world.store.delete(&key, &Preconditions::default()).await });
    }
    compact(&world, &etcd);
    etcd.ctl(&["defrag"]);
    etcd.ctl(&["alarm", "disarm"]);
    world.happen();
    world.converged();
}

#[test]
fn netns_consumers_converge_when_certificates_are_rotated() {
    netns!(300);
    needs!("etcd");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mut etcd = Etcd::start_secure(&old);
    let dir = tempfile::tempdir().unwrap();
    let put = |authority: &Authority| {
        std::fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
        authority.issue(&["calico"]).write(dir.path(), "client")
    };
    let (cert, key) = put(&old);
    let settings = EtcdSettings {
        tls: Material {
            authorities: Some(Pem::file("ETCD_CA_CERT_FILE", dir.path().join("ca.crt"))),
            identity: Some((Pem::file("ETCD_CERT_FILE", cert), Pem::file("ETCD_KEY_FILE", key))),
        },
        ..EtcdSettings::new([etcd.endpoint()])
    };
    let mut world = World::new(&settings);
    // First the client's files are new, and etcd still has the old ones; then etcd follows.
    put(&new);
    world.happen();
    etcd.kill();
    etcd.certify(&new);
    etcd.restart();
    world.happen();
    world.converged();
}
