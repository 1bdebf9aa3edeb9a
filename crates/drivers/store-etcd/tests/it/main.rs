//! The contract on every backend, and what etcd alone has.

mod backend;
mod conformance;
mod etcd;

use std::sync::Arc;

use caracal_store_memory::MemoryStore;

use backend::Memory;

#[tokio::test]
async fn memory_as_etcd_keeps_the_contract() {
    conformance::run(Arc::new(Memory(MemoryStore::etcd()))).await;
}

#[tokio::test]
async fn memory_as_kubernetes_keeps_the_contract() {
    conformance::run(Arc::new(Memory(MemoryStore::kubernetes()))).await;
}
