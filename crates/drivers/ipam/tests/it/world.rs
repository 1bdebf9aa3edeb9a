//! Small set-ups that several tests use.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use caracal_api::{
    IpPoolAllowedUse, IpPoolSpec, IpamConfigurationSpec, NodeSpec, Object, Resource, WorkloadEndpointSpec,
};
use caracal_ids::NodeName;
use caracal_ipam::{Assign, Ipam};
use caracal_ipam_plan::{Owner, Report, Snapshot, Stamp, check};
use caracal_net::Family;
use caracal_store::{Store, apply};
use caracal_store_memory::MemoryStore;

pub(crate) const GRACE: i64 = 120;

/// A store and the time.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) memory: MemoryStore,
    pub(crate) clock: Arc<AtomicI64>,
}

impl World {
    pub(crate) fn new(kubernetes: bool) -> Self {
        let memory = if kubernetes {
            MemoryStore::kubernetes()
        } else {
            MemoryStore::etcd().with_history(1_000)
        };
        Self {
            memory,
            clock: Arc::new(AtomicI64::new(1_750_000_000)),
        }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.memory.clone())
    }

    pub(crate) fn now(&self) -> Stamp {
        Stamp::from_seconds(self.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// IPAM of a process that sees the store like this, on a host whose clock is `ahead`.
    pub(crate) fn ipam(&self, store: Arc<dyn Store>, ahead: i64) -> Ipam {
        let clock = self.clock.clone();
        Ipam::new(store)
            .with_clock(move || Stamp::from_seconds(clock.load(Ordering::Relaxed) + ahead))
            .with_waits(Duration::ZERO, Duration::ZERO)
    }

    pub(crate) fn sound(&self) -> Ipam {
        self.ipam(self.store(), 0)
    }

    pub(crate) async fn put(&self, resource: impl Into<Resource>) {
        apply(&self.memory, resource.into()).await.unwrap();
    }

    pub(crate) async fn pool(&self, name: &str, cidr: &str, block: u8) {
        self.pool_with(name, cidr, block, |_| {}).await;
    }

    pub(crate) async fn pool_with(
        &self,
        name: &str,
        cidr: &str,
        block: u8,
        change: impl FnOnce(&mut IpPoolSpec),
    ) {
        let mut spec = IpPoolSpec {
            cidr: cidr.into(),
            block_size: Some(block),
            ..IpPoolSpec::default()
        };
        change(&mut spec);
        let mut pool = Object::new(name, spec);
        pool.metadata.creation_timestamp = Some(self.now().to_string());
        self.put(pool).await;
    }

    pub(crate) async fn config(&self, change: impl FnOnce(&mut IpamConfigurationSpec)) {
        let mut spec = IpamConfigurationSpec::default();
        change(&mut spec);
        self.put(Object::new("default", spec)).await;
    }

    pub(crate) async fn node(&self, name: &str) {
        self.put(Object::new(name, NodeSpec::default())).await;
    }

    /// The endpoint of a container, as the plugin or Kubernetes makes it.
    pub(crate) fn endpoint(node: &str, container: &str, addresses: &[IpAddr]) -> Resource {
        let spec = WorkloadEndpointSpec {
            node: node.into(),
            pod: format!("pod-{container}"),
            container_id: container.into(),
            ip_networks: addresses.iter().map(ToString::to_string).collect(),
            ..WorkloadEndpointSpec::default()
        };
        Object::namespaced("default", format!("{node}-k8s-pod--{container}-eth0"), spec).into()
    }

    /// A container that has these addresses.
    pub(crate) fn runs(&self, node: &str, container: &str, addresses: &[IpAddr]) {
        self.memory.derive(Self::endpoint(node, container, addresses));
    }

    pub(crate) fn stops(&self, node: &str, container: &str) {
        self.memory.underive(&Self::endpoint(node, container, &[]).key());
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.sound().load().await.unwrap()
    }

    pub(crate) async fn check(&self) -> Report {
        check(&self.snapshot().await, self.now(), GRACE)
    }
}

pub(crate) fn owner(node: &str, container: &str, now: Stamp) -> Owner {
    Owner {
        handle: format!("net.{container}"),
        attributes: BTreeMap::from([
            ("node".to_owned(), node.to_owned()),
            ("namespace".to_owned(), "default".to_owned()),
            ("pod".to_owned(), format!("pod-{container}")),
            ("timestamp".to_owned(), now.to_string()),
        ]),
    }
}

pub(crate) fn want(node: &str, container: &str, family: Family, now: Stamp) -> Assign {
    Assign {
        node: NodeName::new(node).unwrap(),
        family,
        count: 1,
        owner: owner(node, container, now),
        pools: Vec::new(),
        usage: IpPoolAllowedUse::Workload,
        namespace_labels: BTreeMap::new(),
    }
}

/// Runs a task with time standing still, one poll at a time.
pub(crate) fn run<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(task)
}
