use caracal_api::{Resource, ResourceKey};

use crate::{Preconditions, Store, StoreError};

/// How often a delete starts again because another writer was faster.
const ATTEMPTS: usize = 10;

/// What became of an object that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// It is deleted.
    Deleted,
    /// There was none.
    Absent,
    /// It is not the one that was meant and stays.
    Kept,
}

/// Deletes an object if it is the one that is meant, as `fits` says of what is stored, and nobody changed it meanwhile.
///
/// # Errors
/// Those of the store; [`StoreError::Conflict`] when others were always faster.
pub async fn retire(
    store: &dyn Store,
    key: &ResourceKey,
    fits: impl Fn(&Resource) -> bool + Send,
) -> Result<Retired, StoreError> {
    // Whoever deleted it after our try, whose answer may be lost, did what was wanted.
    let mut gone = Retired::Absent;
    for _ in 0..ATTEMPTS {
        let found = match store.get(key).await {
            Ok(found) => found,
            Err(StoreError::NotFound(_)) => return Ok(gone),
            Err(e) => return Err(e),
        };
        if !fits(&found) {
            return Ok(Retired::Kept);
        }
        gone = Retired::Deleted;
        match store.delete(key, &Preconditions::of(&found)).await {
            Ok(_) | Err(StoreError::NotFound(_)) => return Ok(Retired::Deleted),
            Err(StoreError::Conflict { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Err(StoreError::Conflict {
        key: key.clone(),
        why: format!("other writers were faster {ATTEMPTS} times in a row"),
    })
}
