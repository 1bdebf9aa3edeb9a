use caracal_api::{Resource, ResourceKey};
use caracal_store::{Store, StoreError};

use crate::failure::Failure;

/// How often a change starts again because another writer was faster.
const ATTEMPTS: usize = 32;

/// Reads an object, changes it and writes it back; starts again when somebody else changed it meanwhile. A revision that
/// the change itself sets must be the stored one.
///
/// # Errors
/// Those of the store and of the change.
pub(crate) async fn change(
    store: &dyn Store,
    key: &ResourceKey,
    mut by: impl FnMut(&Resource) -> Result<Resource, Failure>,
) -> Result<(), Failure> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let stored = store.get(key).await?;
        let wanted = by(&stored)?;
        if wanted == stored {
            return Ok(());
        }
        let own_revision = wanted.metadata().resource_version != stored.metadata().resource_version;
        match store.update(wanted).await {
            Err(StoreError::Conflict { .. }) if attempts < ATTEMPTS && !own_revision => {}
            outcome => return Ok(outcome.map(drop)?),
        }
    }
}
