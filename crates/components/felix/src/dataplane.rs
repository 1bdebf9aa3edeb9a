//! The hands: one named thread that owns everything in the kernel.
//!
//! It takes batches of deltas, folds them into its own replicas, and applies them in an order that is safe at every
//! step: policy first, then interfaces, devices and routes, then the status that others wait for. Between batches it
//! follows the kernel's own events and puts right what others changed.

mod afflicted;
mod bandwidth;
mod cleanup;
mod conntrack;
mod convert;
mod departed;
mod files;
mod interfaces;
mod leftovers;
mod network;
mod owners;
mod worker;

use std::sync::Arc;

use caracal_config::FelixConfig;
use caracal_ids::NodeName;
use caracal_runtime::{Reporter, Shutdown};
use tokio::sync::{mpsc, oneshot};

use crate::{agent::Order, calc::Batch, status::Status};

pub(crate) use cleanup::{cleanup, cleanup_calico};

/// The way to the dataplane.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    batches: mpsc::Sender<Batch>,
}

/// Room for one batch.
pub(crate) struct Slot<'a>(mpsc::Permit<'a, Batch>);

impl Slot<'_> {
    pub(crate) fn send(self, batch: Batch) {
        self.0.send(batch);
    }
}

impl Handle {
    /// Waits until the dataplane takes another batch. One may wait while one is applied: what comes after that is
    /// gathered by the engines, where changes of one object cost nothing.
    pub(crate) async fn ready(&self) -> Result<Slot<'_>, ()> {
        self.batches.reserve().await.map(Slot).map_err(drop)
    }
}

/// What the dataplane needs to run.
pub(crate) struct Parts {
    pub(crate) node: NodeName,
    pub(crate) config: FelixConfig,
    pub(crate) status: Arc<Status>,
    pub(crate) health: Reporter,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) shutdown: Shutdown,
}

/// Starts the thread. The second result tells how it ended.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn spawn(parts: Parts) -> std::io::Result<(Handle, oneshot::Receiver<Result<(), String>>)> {
    let (batches, receiver) = mpsc::channel(1);
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("dataplane".into())
        .spawn(move || {
            // An event loop of its own: kernel calls block this thread only.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = match runtime {
                Ok(r) => r
                    .block_on(worker::run(parts, receiver))
                    .map_err(|e| format!("{e:#}")),
                Err(e) => Err(format!("cannot start: {e}")),
            };
            // Nobody listens any more when the program is ending.
            let _ = ended.send(outcome);
        })?;
    Ok((Handle { batches }, end))
}
