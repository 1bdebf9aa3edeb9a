use caracal_api::{Object, Resource, Spec};
use caracal_ipam_plan::Step;
use caracal_store::{Preconditions, Store, StoreError};

use crate::error::{IpamError, doing};

/// How a run of steps went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All done.
    Done,
    /// Somebody else changed an object meanwhile: observe and plan again.
    Stale,
}

/// Does the steps in order, up to the first that finds its object changed.
pub(crate) async fn execute(store: &dyn Store, steps: Vec<Step>) -> Result<Outcome, IpamError> {
    for step in steps {
        let result = match step {
            Step::PutAffinity(o) => put(store, o).await.map_err(|e| (e, "writing a block affinity")),
            Step::PutBlock(o) => put(store, o).await.map_err(|e| (e, "writing an IPAM block")),
            Step::PutHandle(o) => put(store, o).await.map_err(|e| (e, "writing an IPAM handle")),
            Step::DeleteAffinity(o) => delete(store, o)
                .await
                .map_err(|e| (e, "deleting a block affinity")),
            Step::DeleteBlock(o) => delete(store, o).await.map_err(|e| (e, "deleting an IPAM block")),
            Step::DeleteHandle(o) => delete(store, o).await.map_err(|e| (e, "deleting an IPAM handle")),
        };
        match result {
            Ok(()) => {}
            Err((
                StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_),
                _,
            )) => {
                return Ok(Outcome::Stale);
            }
            Err((e, what)) => return Err(doing(what)(e)),
        }
    }
    Ok(Outcome::Done)
}

async fn put<S: Spec>(store: &dyn Store, object: Object<S>) -> Result<(), StoreError>
where
    Resource: From<Object<S>>,
{
    let exists = object.metadata.resource_version.is_some();
    let resource = Resource::from(object);
    if exists {
        store.update(resource).await
    } else {
        store.create(resource).await
    }
    .map(drop)
}

async fn delete<S: Spec>(store: &dyn Store, object: Object<S>) -> Result<(), StoreError> {
    let expect = Preconditions {
        resource_version: object.metadata.resource_version.clone(),
        uid: None,
    };
    match store.delete(&object.key(), &expect).await {
        // Gone already is what was wanted.
        Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
        Err(e) => Err(e),
    }
}
