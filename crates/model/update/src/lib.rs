//! What an agent is fed: one [`Update`] per change of an object, and the [`InSync`] token.
//!
//! The contract (design §2): output is a function of the current state. A feed may squash, repeat and replay versions,
//! and may delete what was never there; only the last update of a key counts. Absence is `value: None`.
//!
//! **Invariant:** a driver commits nothing before it holds the [`InSync`] token of its feed.

mod slice;
mod trials;

use std::sync::Arc;

use caracal_api::{Resource, ResourceKey, Unreadable};
use serde::{Deserialize, Serialize};

/// One object changed, or is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Which object.
    pub key: ResourceKey,
    /// Its state now; `None` when it does not exist.
    pub value: Option<Arc<Resource>>,
}

impl Update {
    /// The object exists and is `resource`.
    #[must_use]
    pub fn set(resource: Resource) -> Self {
        Self {
            key: resource.key(),
            value: Some(Arc::new(resource)),
        }
    }

    /// The object does not exist.
    #[must_use]
    pub fn gone(key: ResourceKey) -> Self {
        Self { key, value: None }
    }
}

pub use slice::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};
pub use trials::Trials;

/// What a feed delivers.
#[derive(Debug, Clone)]
pub enum Event {
    /// Objects changed; in order.
    Updates(Vec<Update>),
    /// The first complete snapshot has been delivered; comes once in the life of a feed.
    InSync(InSync),
    /// What the datastore holds under the key cannot be read. If something stands in for the object, that is what it is
    /// now; else it counts as gone (an update said so, if it was known). The next update of the key ends this, whether it
    /// sets the object or says that it is gone.
    Unreadable {
        /// The object.
        key: ResourceKey,
        /// What is wrong with it, and what stands in for it.
        reason: Unreadable,
    },
    /// The feed lost its source and is trying again; what was delivered stays valid. For health and metrics.
    Disconnected(String),
    /// The feed has its source again and delivers what changed meanwhile.
    Reconnected,
}

/// Proof that a complete snapshot has been delivered. Only a feed (syncer, Typha client, or a program that reads a
/// complete state from files) makes one.
#[derive(Debug, Clone)]
pub struct InSync(());

impl InSync {
    /// Issues the token. To be called by a feed, after the last update of its first complete snapshot.
    #[must_use]
    pub fn after_complete_snapshot() -> Self {
        Self(())
    }
}
