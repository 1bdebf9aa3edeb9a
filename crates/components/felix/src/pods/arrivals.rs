//! Who is being attached at this moment. The end of a container comes after its beginning, also when whoever asked for the
//! beginning is gone: else what is written last would be an endpoint and addresses that nobody ever gives back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// The containers that are being attached.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    here: Mutex<BTreeMap<String, Vec<Arc<AtomicBool>>>>,
    left: Notify,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Arc<AtomicBool>>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is being attached until the result is dropped.
    pub(super) fn enter(self: &Arc<Self>, container: &str) -> Arrival {
        let off = Arc::<AtomicBool>::default();
        let mut here = self.lock();
        here.entry(container.to_owned()).or_default().push(off.clone());
        Arrival {
            all: self.clone(),
            container: container.to_owned(),
            off,
        }
    }

    /// Nothing more is begun for the container; returns when nothing is under way.
    pub(super) async fn end(&self, container: &str) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            match self.lock().get(container) {
                None => return,
                Some(flags) => flags.iter().for_each(|f| f.store(true, Ordering::Relaxed)),
            }
            left.await;
        }
    }
}

/// A container that is being attached.
#[derive(Debug)]
pub(super) struct Arrival {
    all: Arc<Arrivals>,
    container: String,
    off: Arc<AtomicBool>,
}

impl Arrival {
    /// Whether nobody wants it any more.
    pub(super) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Who wants it; when that is dropped, nobody does.
    pub(super) fn wish(&self) -> Wish {
        Wish(self.off.clone())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut here = self.all.lock();
        if let Some(flags) = here.get_mut(&self.container) {
            flags.retain(|f| !Arc::ptr_eq(f, &self.off));
            if flags.is_empty() {
                here.remove(&self.container);
            }
        }
        drop(here);
        self.all.left.notify_waiters();
    }
}

/// One who waits for a container to be attached.
#[derive(Debug)]
pub(super) struct Wish(Arc<AtomicBool>);

impl Drop for Wish {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
