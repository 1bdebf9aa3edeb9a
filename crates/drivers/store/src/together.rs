//! Several objects in one request, where the backend can.

use std::collections::BTreeSet;

use caracal_api::{Kind, Resource, ResourceKey};
use futures::future::join_all;

use crate::{ListOptions, Page, Preconditions, Store, StoreError};

/// What is read together: objects, and lists that are expected to be short.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// Objects.
    pub objects: Vec<ResourceKey>,
    /// Whole lists.
    pub lists: Vec<(Kind, ListOptions)>,
}

/// The answers, in the order of [`Reads`].
#[derive(Debug)]
pub struct Found {
    /// The objects, or why each cannot be had.
    pub objects: Vec<Result<Resource, StoreError>>,
    /// The lists, all pages of each.
    pub lists: Vec<Page>,
}

/// One of several writes.
#[derive(Debug, Clone)]
pub enum Write {
    /// Make the object; there must be none.
    Create(Resource),
    /// Replace the object, which must have the revision that it says.
    Update(Resource),
    /// Delete the object, which must have this revision.
    Delete(ResourceKey, String),
}

impl Write {
    /// A replacement where the object has a revision, else a new object.
    #[must_use]
    pub fn put(resource: Resource) -> Self {
        match Preconditions::of(&resource).resource_version {
            Some(_) => Self::Update(resource),
            None => Self::Create(resource),
        }
    }

    /// The object it is about.
    #[must_use]
    pub fn key(&self) -> ResourceKey {
        match self {
            Self::Create(r) | Self::Update(r) => r.key(),
            Self::Delete(key, _) => key.clone(),
        }
    }
}

/// Whether these may be written together: at most `most` of them, each about another object.
///
/// # Errors
/// [`StoreError::Invalid`] naming an object that is one too many.
pub fn check_together(writes: &[Write], most: usize) -> Result<(), StoreError> {
    let refuse = |key: ResourceKey, reason: String| Err(StoreError::Invalid { key, reason });
    if let Some(beyond) = writes.get(most) {
        let reason = format!(
            "{} writes are more than the {most} that can be done together: split them",
            writes.len()
        );
        return refuse(beyond.key(), reason);
    }
    let mut seen = BTreeSet::new();
    match writes
        .iter()
        .map(Write::key)
        .find(|key| !seen.insert(key.clone()))
    {
        Some(twice) => refuse(twice, "it is written twice in one transaction".to_owned()),
        None => Ok(()),
    }
}

/// One by one, for backends that cannot do better.
pub(crate) async fn read_each(store: &(impl Store + ?Sized), reads: &Reads) -> Result<Found, StoreError> {
    let objects = join_all(reads.objects.iter().map(|key| store.get(key)));
    let lists = join_all(
        reads
            .lists
            .iter()
            .map(|(kind, options)| store.list_all(*kind, options)),
    );
    let (objects, lists) = futures::join!(objects, lists);
    Ok(Found {
        objects,
        lists: lists.into_iter().collect::<Result<_, _>>()?,
    })
}
