use caracal_api::{Object, Resource, Spec};
use caracal_ipam_plan::Step;
use caracal_store::{Preconditions, Store, StoreError};
use futures::future::join_all;

use crate::error::{IpamError, doing};

/// How a run of steps went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All done.
    Done,
    /// Somebody else changed an object meanwhile: observe and plan again.
    Stale,
}

/// Does the steps in order, up to the first that finds its object changed. Handles that follow each other are written at
/// once.
pub(crate) async fn execute(store: &dyn Store, steps: Vec<Step>) -> Result<Outcome, IpamError> {
    let mut steps = steps.into_iter().peekable();
    while let Some(first) = steps.next() {
        let mut together = vec![first];
        while together[0].is_handle()
            && let Some(next) = steps.next_if(Step::is_handle)
        {
            together.push(next);
        }
        if all(store, together).await? == Outcome::Stale {
            return Ok(Outcome::Stale);
        }
    }
    Ok(Outcome::Done)
}

/// Does the steps at once.
pub(crate) async fn all(store: &dyn Store, steps: Vec<Step>) -> Result<Outcome, IpamError> {
    let mut outcome = Outcome::Done;
    for result in join_all(steps.into_iter().map(|s| one(store, s))).await {
        if result? == Outcome::Stale {
            outcome = Outcome::Stale;
        }
    }
    Ok(outcome)
}

/// Does one step.
pub(crate) async fn one(store: &dyn Store, step: Step) -> Result<Outcome, IpamError> {
    let (result, what) = match step {
        Step::PutAffinity(o) => (put(store, o).await, "writing a block affinity"),
        Step::PutBlock(o) => (put(store, o).await, "writing an IPAM block"),
        Step::PutHandle(o) => (put(store, o).await, "writing an IPAM handle"),
        Step::DeleteAffinity(o) => (delete(store, o).await, "deleting a block affinity"),
        // Whoever deleted it gave its last addresses back: they are told once.
        Step::DeleteBlock(o) => (delete_this(store, &o).await, "deleting an IPAM block"),
        Step::DeleteHandle(o) => (delete(store, o).await, "deleting an IPAM handle"),
    };
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {
            Ok(Outcome::Stale)
        }
        Err(e) => Err(doing(what)(e)),
    }
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
    match delete_this(store, &object).await {
        // Gone already is what was wanted.
        Err(StoreError::NotFound(_)) => Ok(()),
        done => done,
    }
}

async fn delete_this<S: Spec>(store: &dyn Store, object: &Object<S>) -> Result<(), StoreError> {
    let expect = Preconditions {
        resource_version: object.metadata.resource_version.clone(),
        uid: None,
    };
    store.delete(&object.key(), &expect).await.map(drop)
}
