use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::StoreError;

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The node's agent lives.
    Agent,
    /// When the node's agent was last known to live; stays when it does not.
    LastSeen,
    /// A workload's interface.
    Workload {
        /// Who started the workload, for example `k8s`.
        orchestrator: String,
        /// The workload, for example `namespace/pod`.
        workload: String,
        /// Its interface, for example `eth0`.
        endpoint: String,
    },
    /// An interface of the node itself.
    Host {
        /// The name of the HostEndpoint.
        endpoint: String,
    },
}

/// Names a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportKey {
    /// OpenStack's region; empty where there are no regions.
    pub region: String,
    /// The node that reports.
    pub node: String,
    /// What about.
    pub subject: Subject,
}

/// A lease: what is written under it goes when it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease(pub i64);

/// Short-lived reports of nodes. They are no objects: no metadata, no conflicts, one writer each.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Opens a lease that ends this long after it was last kept.
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError>;

    /// Keeps a lease; says whether it was still there.
    async fn keep(&self, lease: Lease) -> Result<bool, StoreError>;

    /// Ends a lease, and with it what was written under it.
    async fn revoke(&self, lease: Lease) -> Result<(), StoreError>;

    /// Writes a report, under a lease or to stay. Says whether the lease was still there.
    async fn report(&self, key: &ReportKey, value: &Value, lease: Option<Lease>) -> Result<bool, StoreError>;

    /// Takes a report away, if it is there.
    async fn retract(&self, key: &ReportKey) -> Result<(), StoreError>;

    /// All reports, or those of a node. One that cannot be read has the value null.
    async fn reported(&self, node: Option<&str>) -> Result<Vec<(ReportKey, Value)>, StoreError>;
}
