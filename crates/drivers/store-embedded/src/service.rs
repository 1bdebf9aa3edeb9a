//! The gRPC services on top of the engine.

use tokio::sync::watch;

use crate::engine::Engine;

mod kv;
mod lease;
mod status;
pub(crate) mod watch_stream;

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) engine: Engine,
    /// Becomes true when the server stops: streams end then.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Where the server can be reached, as shown to clients that ask for the members.
    pub(crate) urls: Vec<String>,
}
