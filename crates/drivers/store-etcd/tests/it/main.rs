//! The contract on every backend, and what etcd alone has.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod backend;
mod cluster;
mod conformance;
mod etcd;
mod secure;

use std::sync::Arc;

use caracal_store_embedded::{Engine, Listen, Options, Server};
use caracal_store_memory::MemoryStore;

use backend::{Memory, Remote};

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
    let socket = dir.path().join("s.sock");
    let engine = Engine::open(&dir.path().join("data"), Options::default()).unwrap();
    let listen = Listen {
        socket: Some(socket.clone()),
        tcp: None,
        tls: None,
    };
    let server = Server::bind(engine, listen).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    conformance::run(Arc::new(Remote::at(&format!("unix://{}", socket.display())))).await;
    drop(stop);
    served.await.unwrap().unwrap();
}
