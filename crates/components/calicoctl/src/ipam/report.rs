//! The report that `check -o FILE` writes and `release --from-report` reads.

use std::collections::BTreeMap;

use caracal_api::{ClusterInformationSpec, Object};
use caracal_ipam_plan::{Finding, Fix, Life, Problem, ProblemKind, Report, Snapshot};
use serde::{Deserialize, Serialize};

/// The version that reports carry.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    pub(super) version: String,
    #[serde(rename = "clusterGUID")]
    pub(super) cluster_guid: String,
    pub(super) datastore_locked: bool,
    #[serde(rename = "clusterInformationRevision")]
    pub(super) cluster_info_revision: String,
    pub(super) cluster_type: String,
    pub(super) allocations: BTreeMap<String, Vec<Allocation>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) leaked_handles: Vec<Handle>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Allocation {
    pub(super) ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) handle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence_number: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) node: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) creation_timestamp: String,
    pub(super) in_use: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) borrowed: bool,
    pub(super) owners: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Handle {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "UID")]
    pub(super) uid: Option<String>,
    #[serde(rename = "Revision")]
    pub(super) revision: String,
}

/// The report as a file.
pub(super) fn file(cluster: &Object<ClusterInformationSpec>, snapshot: &Snapshot, report: &Report) -> File {
    let mut allocations: BTreeMap<String, Vec<Allocation>> = BTreeMap::new();
    for f in &report.allocations {
        allocations
            .entry(f.addr.to_string())
            .or_default()
            .push(allocation(f));
    }
    File {
        version: VERSION.to_owned(),
        cluster_guid: cluster.spec.cluster_guid.clone(),
        datastore_locked: cluster.spec.datastore_ready == Some(false),
        cluster_info_revision: cluster.metadata.resource_version.clone().unwrap_or_default(),
        cluster_type: cluster.spec.cluster_type.clone(),
        allocations,
        leaked_handles: leaked_handles(snapshot, &report.problems),
    }
}

fn allocation(f: &Finding) -> Allocation {
    let attribute = |name: &str| f.attributes.get(name).cloned().unwrap_or_default();
    Allocation {
        ip: f.addr.to_string(),
        handle: f.handle.clone().unwrap_or_default(),
        sequence_number: Some(f.sequence),
        pod: attribute("pod"),
        namespace: attribute("namespace"),
        node: f.node.clone(),
        kind: attribute("type"),
        creation_timestamp: attribute("timestamp"),
        // What may live must not be given back by whoever reads this.
        in_use: !matches!(f.life, Life::Leaked { .. }),
        borrowed: f.borrowed,
        owners: (!f.owners.is_empty()).then(|| f.owners.clone()),
    }
}

/// Handles of which nothing is left; those that hold addresses elsewhere are none.
fn leaked_handles(snapshot: &Snapshot, problems: &[Problem]) -> Vec<Handle> {
    let leaked = |name: &str, blocks: usize| {
        let of_it = problems
            .iter()
            .filter(|p| p.kind == ProblemKind::HandleLeaked && p.subject == name);
        blocks == 0 || of_it.filter(|p| matches!(p.fix, Some(Fix::Count { .. }))).count() == blocks
    };
    snapshot
        .handles
        .iter()
        .filter(|h| leaked(&h.metadata.name, h.spec.block.len()))
        .map(|h| Handle {
            id: h.metadata.name.clone(),
            uid: h.metadata.uid.clone(),
            revision: h.metadata.resource_version.clone().unwrap_or_default(),
        })
        .collect()
}
