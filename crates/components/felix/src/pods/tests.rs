//! Beginnings and ends that meet, over a datastore that stands still when a test wants it.

mod calls;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use caracal_api::Resource;
use caracal_store::{
    Found, ListOptions, Page, Preconditions, Reads, StoreError, WatchFrom, WatchStream, Write,
};
use caracal_store_memory::MemoryStore;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// A store in memory whose transactions wait while the gate is closed.
#[derive(Debug)]
struct Gated {
    inner: MemoryStore,
    closed: AtomicBool,
    came: Notify,
    gate: Arc<Semaphore>,
    /// How many transactions were asked for.
    asked: AtomicUsize,
}

#[tonic::async_trait]
impl Store for Gated {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    async fn get(&self, key: &ResourceKey) -> Result<Resource, StoreError> {
        self.inner.get(key).await
    }
    async fn list(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
        self.inner.list(kind, options).await
    }
    async fn create(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.inner.create(resource).await
    }
    async fn update(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.inner.update(resource).await
    }
    async fn update_status(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.inner.update_status(resource).await
    }
    async fn delete(&self, key: &ResourceKey, expect: &Preconditions) -> Result<Resource, StoreError> {
        self.inner.delete(key, expect).await
    }
    async fn watch(&self, kind: Kind, from: &WatchFrom) -> Result<WatchStream, StoreError> {
        self.inner.watch(kind, from).await
    }
    async fn read_together(&self, reads: &Reads) -> Result<Found, StoreError> {
        self.inner.read_together(reads).await
    }
    fn writes_together(&self) -> usize {
        self.inner.writes_together()
    }
    async fn write_together(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if !self.closed.load(Ordering::SeqCst) {
            return self.inner.write_together(writes).await;
        }
        self.came.notify_one();
        let (inner, gate) = (self.inner.clone(), self.gate.clone());
        // It is done also when whoever asked has gone.
        let late = tokio::spawn(async move {
            drop(gate.acquire().await);
            inner.write_together(writes).await
        });
        late.await.unwrap()
    }
}

struct Scene {
    store: Arc<Gated>,
    service: Arc<Service>,
    shutdown: Shutdown,
    _tasks: Supervisor,
}

impl Scene {
    async fn new() -> Self {
        let inner = MemoryStore::etcd();
        let store = Arc::new(Gated {
            inner,
            closed: AtomicBool::new(false),
            came: Notify::new(),
            gate: Arc::new(Semaphore::new(0)),
            asked: AtomicUsize::new(0),
        });
        let pool = json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/24"}});
        let pool = Resource::from_value(Kind::IpPool, pool).unwrap();
        store.create(pool).await.unwrap();
        let shutdown = Shutdown::new();
        let mut tasks = Supervisor::new(shutdown.clone());
        let as_store: Arc<dyn Store> = store.clone();
        let node = NodeName::new("n").unwrap();
        let service = start(&mut tasks, &as_store, &node, &Arc::default(), &shutdown);
        let scene = Self {
            store,
            service: Arc::new(service),
            shutdown,
            _tasks: tasks,
        };
        // The node's block is made.
        scene.attach("first", 0).await.unwrap();
        scene
    }

    async fn attach(&self, container: &str, wait_ms: u32) -> Result<Attached, Refusal> {
        self.service.attach(self.comes(container, wait_ms)).await
    }

    fn comes(&self, container: &str, wait_ms: u32) -> AttachRequest {
        let endpoint = json!({
            "metadata": {"name": format!("n-k8s-{container}-eth0"), "namespace": "default"},
            "spec": {"node": "n", "orchestrator": "k8s", "pod": container, "endpoint": "eth0",
                "workload": "", "interfaceName": "cali1", "containerID": container, "profiles": []},
        });
        AttachRequest {
            datastore: self.store.describe(),
            node: "n".into(),
            endpoint: endpoint.to_string().into_bytes(),
            handle: format!("net.{container}"),
            attributes: HashMap::new(),
            ipv4: true,
            timeout_ms: wait_ms,
            ..AttachRequest::default()
        }
    }

    fn goes(&self, container: &str) -> DetachRequest {
        DetachRequest {
            datastore: self.store.describe(),
            node: "n".into(),
            namespace: "default".into(),
            name: format!("n-k8s-{container}-eth0"),
            container_id: container.into(),
            handles: vec![format!("net.{container}")],
            ..DetachRequest::default()
        }
    }

    async fn detach(&self, container: &str) -> DetachReply {
        self.service.detach(self.goes(container)).await
    }

    /// Whether the container has an endpoint and a handle.
    async fn stored(&self, container: &str) -> [bool; 2] {
        let keys = [
            ResourceKey::namespaced(
                Kind::WorkloadEndpoint,
                "default",
                &format!("n-k8s-{container}-eth0"),
            ),
            ResourceKey::global(Kind::IpamHandle, &format!("net.{container}")),
        ];
        let mut found = [false; 2];
        for (key, found) in keys.iter().zip(&mut found) {
            *found = self.store.get(key).await.is_ok();
        }
        found
    }
}

#[tokio::test]
async fn the_end_of_a_container_comes_after_its_beginning_though_nobody_waits_for_that() {
    let scene = Arc::new(Scene::new().await);
    scene.store.closed.store(true, Ordering::SeqCst);
    let asking = tokio::spawn({
        let scene = scene.clone();
        async move { scene.attach("c", 0).await.map(drop) }
    });
    timeout(LIMIT, scene.store.came.notified()).await.unwrap();
    // The plugin is killed, and the runtime calls DEL at once.
    asking.abort();
    let _ = asking.await;
    let ending = tokio::spawn({
        let scene = scene.clone();
        async move { scene.detach("c").await }
    });
    // What DEL asks for gets to where it waits, or, where it does not, to its end.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    scene.store.closed.store(false, Ordering::SeqCst);
    scene.store.gate.close();
    let reply = timeout(LIMIT, ending).await.unwrap().unwrap();
    assert_eq!(reply, DetachReply::default());
    // Served after it, so nothing of it is still under way.
    scene.attach("last", 0).await.unwrap();
    assert_eq!(scene.stored("c").await, [false, false]);
    assert_eq!(scene.stored("last").await, [true, true]);
}

#[tokio::test]
async fn an_agent_that_ends_says_nothing_of_policy_so_that_the_next_one_is_asked() {
    let scene = Scene::new().await;
    let attached = scene.attach("c", 30_000).await.unwrap();
    scene.shutdown.request();
    let told = timeout(LIMIT, scene.service.told(attached)).await.unwrap();
    assert!(told.is_none(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_datastore_may_still_write_is_said_to_the_end_of_the_container() {
    let scene = Arc::new(Scene::new().await);
    scene.store.closed.store(true, Ordering::SeqCst);
    let asking = tokio::spawn({
        let scene = scene.clone();
        async move { scene.attach("c", 0).await.map(drop) }
    });
    scene.store.came.notified().await;
    let still = |reply: DetachReply| {
        assert_eq!(reply.endpoint_left, STILL_ATTACHING);
        assert_eq!(reply.addresses_left, STILL_ATTACHING);
    };
    // Its answer is waited for; then it is given up, but the datastore may do it all the same.
    still(scene.detach("c").await);
    assert!(asking.await.unwrap().is_err());
    still(scene.detach("c").await);
    scene.store.closed.store(false, Ordering::SeqCst);
    scene.store.gate.close();
    while scene.stored("c").await != [true, true] {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.detach("c").await, DetachReply::default());
    assert_eq!(scene.stored("c").await, [false, false]);
}

#[tokio::test]
async fn only_who_cannot_be_served_falls_out_of_a_group() {
    let scene = Arc::new(Scene::new().await);
    let bad = ResourceKey::global(Kind::IpamHandle, "net.bad");
    scene.store.inner.put_malformed(&bad, "half of it is missing");
    // Whoever comes while a transaction is under way is of the next group.
    scene.store.closed.store(true, Ordering::SeqCst);
    let ask = |request: AttachRequest| {
        let service = scene.service.clone();
        tokio::spawn(async move { is_given(&service, request).await })
    };
    let first = ask(scene.comes("leads", 0));
    timeout(LIMIT, scene.store.came.notified()).await.unwrap();
    let mut twin = scene.comes("c3", 0);
    twin.handle = "net.twin".into();
    twin.endpoint = String::from_utf8(twin.endpoint)
        .unwrap()
        .replace("\"containerID\":\"c3\"", "\"containerID\":\"twin\"")
        .into();
    let mut same = scene.comes("same", 0);
    same.handle = "net.c4".into();
    let good: Vec<_> = (0..12).map(|n| ask(scene.comes(&format!("c{n}"), 0))).collect();
    let odd = [scene.comes("bad", 0), same].map(ask);
    let twin = ask(twin);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let before = scene.store.asked.load(Ordering::SeqCst);
    scene.store.closed.store(false, Ordering::SeqCst);
    scene.store.gate.close();
    let all = async {
        let mut answers = vec![first.await.unwrap()];
        for asking in good.into_iter().chain([twin]) {
            answers.push(asking.await.unwrap());
        }
        let [bad, same] = odd;
        (answers, [bad.await.unwrap(), same.await.unwrap()])
    };
    let (served, refused) = timeout(LIMIT, all).await.unwrap();
    assert!(served.iter().all(|given| *given), "{served:?}");
    assert_eq!(
        refused,
        [false, false],
        "a handle that cannot be read, a handle of another one"
    );
    let asked = scene.store.asked.load(Ordering::SeqCst) - before;
    assert!(asked < 10, "{asked} transactions for 13 containers");
}

async fn is_given(service: &Service, request: AttachRequest) -> bool {
    service.attach(request).await.is_ok()
}
