use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use caracal_api::IpamConfigurationSpec;
use caracal_ipam_plan::Stamp;
use caracal_store::{Backoff, Store};

use crate::{
    error::{IpamError, doing},
    observe::get,
};

/// How often an operation is tried against other writers (`calico-components.md` §4.6).
const MAX_TRIES: u32 = 100;

type Clock = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// IPAM over a datastore.
#[derive(Clone)]
pub struct Ipam {
    pub(crate) store: Arc<dyn Store>,
    clock: Clock,
    waits: (Duration, Duration),
    /// What the log says is wrong with reservations: each assignment finds it anew.
    pub(crate) told: Arc<Mutex<BTreeSet<String>>>,
}

impl fmt::Debug for Ipam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ipam")
            .field("store", &self.store)
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

impl Ipam {
    /// IPAM over `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            clock: Arc::new(|| Stamp::from_seconds(jiff::Timestamp::now().as_second())),
            waits: (Duration::from_millis(2), Duration::from_millis(100)),
            told: Arc::default(),
        }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Stamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Waits about `first` after the first conflict with another writer and doubles that up to `max`.
    #[must_use]
    pub fn with_waits(mut self, first: Duration, max: Duration) -> Self {
        self.waits = (first, max);
        self
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(crate) fn now(&self) -> Stamp {
        (self.clock)()
    }

    pub(crate) fn tries(&self) -> Tries {
        Tries {
            conflicts: 0,
            backoff: Backoff::new(self.waits.0, self.waits.1),
        }
    }

    pub(crate) async fn config(&self) -> Result<IpamConfigurationSpec, IpamError> {
        Ok(get::<IpamConfigurationSpec>(self.store(), "default")
            .await
            .map_err(doing("reading the IPAM configuration"))?
            .map(|c| c.spec)
            .unwrap_or_default())
    }
}

/// Conflicts with other writers so far.
#[derive(Debug)]
pub(crate) struct Tries {
    conflicts: u32,
    backoff: Backoff,
}

impl Tries {
    /// Waits after a conflict; an error when there were too many.
    pub(crate) async fn again(&mut self) -> Result<(), IpamError> {
        self.conflicts += 1;
        if self.conflicts >= MAX_TRIES {
            return Err(IpamError::Contention(self.conflicts));
        }
        tokio::time::sleep(self.backoff.wait()).await;
        Ok(())
    }
}

#[cfg(test)]
#[path = "ipam_tests.rs"]
mod tests;
