//! The contract on every backend, and what etcd alone has.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod backend;
mod brief;
mod cluster;
mod conformance;
mod etcd;
mod secure;

use std::sync::Arc;

use caracal_store_memory::MemoryStore;

use backend::{Embedded, Memory, Remote};

#[tokio::test]
async fn memory_as_etcd_keeps_the_contract() {
    conformance::run(Arc::new(Memory(MemoryStore::etcd()))).await;
}

#[tokio::test]
async fn memory_as_kubernetes_keeps_the_contract() {
    conformance::run(Arc::new(Memory(MemoryStore::kubernetes()))).await;
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let server = Embedded::start(dir.path()).await;
    conformance::run(Arc::new(Remote::embedded(server))).await;
}
