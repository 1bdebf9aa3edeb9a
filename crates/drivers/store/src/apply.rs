use caracal_api::{Resource, ResourceKey};

use crate::{Store, StoreError, merge_for_update};

/// How often an unconditional change starts again because another writer was faster.
const ATTEMPTS: usize = 32;

/// What [`apply`] or [`ensure`] did, with the object as it is stored now.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// It did not exist.
    Created(Resource),
    /// It was another.
    Updated(Resource),
    /// It was like that already (or, for [`ensure`], there already).
    Unchanged(Resource),
}

impl Applied {
    /// The object as it is stored now.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Created(r) | Self::Updated(r) | Self::Unchanged(r) => r,
        }
    }

    /// The object as it is stored now.
    #[must_use]
    pub fn into_resource(self) -> Resource {
        match self {
            Self::Created(r) | Self::Updated(r) | Self::Unchanged(r) => r,
        }
    }

    /// Whether anything was written.
    #[must_use]
    pub fn changed(&self) -> bool {
        !matches!(self, Self::Unchanged(_))
    }
}

/// Makes the stored object like `wanted`, whether it exists or not; writes nothing when it is like that already. A
/// `resourceVersion` or `uid` in `wanted` must be the stored one's. The status stays as stored.
///
/// # Errors
/// Those of the store.
pub async fn apply(store: &dyn Store, mut wanted: Resource) -> Result<Applied, StoreError> {
    caracal_api::default_resource(&mut wanted);
    let conditional = wanted.metadata().resource_version.is_some() || wanted.metadata().uid.is_some();
    let key = wanted.key();
    for _ in 0..ATTEMPTS {
        match store.get(&key).await {
            Ok(stored) => {
                if !conditional && merge_for_update(wanted.clone(), &stored) == stored {
                    return Ok(Applied::Unchanged(stored));
                }
            }
            Err(StoreError::NotFound(_)) => match store.create(wanted.clone()).await {
                Err(StoreError::AlreadyExists(_)) => continue,
                outcome => return outcome.map(Applied::Created),
            },
            // An update repairs it.
            Err(StoreError::Malformed { .. }) => {}
            Err(e) => return Err(e),
        }
        match store.update(wanted.clone()).await {
            Err(StoreError::NotFound(_)) => {}
            Err(StoreError::Conflict { .. }) if !conditional => {}
            outcome => return outcome.map(Applied::Updated),
        }
    }
    Err(busy(key))
}

/// Makes the object unless it exists; one that exists stays as it is. For several programs that start at once.
///
/// # Errors
/// Those of the store.
pub async fn ensure(store: &dyn Store, wanted: Resource) -> Result<Applied, StoreError> {
    let key = wanted.key();
    for _ in 0..ATTEMPTS {
        match store.get(&key).await {
            Err(StoreError::NotFound(_)) => {}
            outcome => return outcome.map(Applied::Unchanged),
        }
        match store.create(wanted.clone()).await {
            Err(StoreError::AlreadyExists(_)) => {}
            outcome => return outcome.map(Applied::Created),
        }
    }
    Err(busy(key))
}

/// Changes an object that exists: reads it, lets `change` work on it, and writes it if nobody else did meanwhile, else
/// starts again. Nothing is written when `change` leaves it as it was.
///
/// # Errors
/// Those of the store.
pub async fn modify(
    store: &dyn Store,
    key: &ResourceKey,
    mut change: impl FnMut(&mut Resource) + Send,
) -> Result<Applied, StoreError> {
    for _ in 0..ATTEMPTS {
        let stored = store.get(key).await?;
        let mut wanted = stored.clone();
        change(&mut wanted);
        if wanted == stored {
            return Ok(Applied::Unchanged(stored));
        }
        match store.update(wanted).await {
            Err(StoreError::Conflict { .. }) => {}
            outcome => return outcome.map(Applied::Updated),
        }
    }
    Err(busy(key.clone()))
}

fn busy(key: ResourceKey) -> StoreError {
    StoreError::Conflict {
        key,
        why: format!("other writers were faster {ATTEMPTS} times in a row"),
    }
}
