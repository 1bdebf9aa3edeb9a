use std::{path::PathBuf, sync::Arc};

use caracal_datastore::EtcdStore;
use caracal_store::{Checked, Store};

use crate::{Io, failure::Failure};

/// What a command works with. The datastore is decided on when it is first asked for.
pub(crate) struct Session {
    pub(crate) io: Io,
    config: Option<PathBuf>,
    store: Option<Arc<dyn Store>>,
}

impl Session {
    pub(crate) fn new(io: Io, config: Option<PathBuf>) -> Self {
        Self {
            io,
            config,
            store: None,
        }
    }

    /// The datastore, with every rule checked before a write.
    ///
    /// # Errors
    /// When none is configured or the configuration cannot be used.
    pub(crate) fn store(&mut self) -> Result<Arc<dyn Store>, Failure> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let raw = self.raw_store()?;
        let store: Arc<dyn Store> = Arc::new(Checked::new(raw));
        self.store = Some(store.clone());
        Ok(store)
    }

    /// The datastore as it is, for what is no object that a user wrote.
    ///
    /// # Errors
    /// When none is configured or the configuration cannot be used.
    pub(crate) fn raw_store(&mut self) -> Result<Arc<dyn Store>, Failure> {
        if let Some(store) = &self.io.store {
            return Ok(store.clone());
        }
        let (_, store) = caracal_datastore::from_process(self.config.as_deref())?;
        self.io.store = Some(store.clone());
        Ok(store)
    }

    /// The client of the configured datastore, for what is about keys.
    ///
    /// # Errors
    /// When none is configured or the configuration cannot be used.
    pub(crate) fn client(&self) -> Result<EtcdStore, Failure> {
        Ok(caracal_datastore::client_from_process(self.config.as_deref())?)
    }

    /// Writes results.
    ///
    /// # Errors
    /// When the reader went away or the disk is full.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.io.output.write_all(text.as_bytes())?;
        Ok(self.io.output.flush()?)
    }
}
