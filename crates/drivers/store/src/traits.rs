use std::sync::Arc;

use async_trait::async_trait;
use caracal_api::{Kind, Resource, ResourceKey, Unreadable};
use caracal_selector::Selector;
use futures::{StreamExt, stream::BoxStream};

use crate::{Found, Reads, Reports, StoreError, Write, together::read_each};

/// Where a watch continues: opaque, of one kind, from a list's page or a watch event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchFrom(pub String);

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Only this namespace; kinds without namespaces are not filtered.
    pub namespace: Option<String>,
    /// Only names that start with this. Backends may read more than they return.
    pub name_prefix: Option<String>,
    /// Only objects whose labels match. Backends may read more than they return.
    pub labels: Option<Selector>,
    /// At most this many objects in a page; 0 means the backend's choice.
    pub limit: usize,
    /// The `next` of the page before.
    pub continue_from: Option<String>,
    /// Whoever asks is the agent of this node: of objects that concern other nodes, backends may leave out what only those
    /// nodes' agents look at, the object's uid and its times.
    pub for_node: Option<Arc<str>>,
}

impl ListOptions {
    /// Whether an object of this key can be asked for.
    #[must_use]
    pub fn wants_key(&self, key: &ResourceKey) -> bool {
        let namespace = self.namespace.as_deref().filter(|_| key.kind.namespaced());
        namespace.is_none_or(|ns| ns == &*key.namespace)
            && self
                .name_prefix
                .as_deref()
                .is_none_or(|p| key.name.starts_with(p))
    }

    /// Whether the object's labels are those that are asked for.
    #[must_use]
    pub fn wants_labels(&self, resource: &Resource) -> bool {
        self.labels
            .as_ref()
            .is_none_or(|s| s.matches_map(&resource.metadata().labels))
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.namespace.is_none() && self.name_prefix.is_none() && self.labels.is_none()
    }

    /// What one who follows only this part sees of an event: an object that is not in it is gone.
    #[must_use]
    pub fn of_event(&self, event: WatchEvent) -> Option<WatchEvent> {
        match event {
            WatchEvent::Set(r) if !self.wants_key(&r.key()) => None,
            WatchEvent::Set(r) if !self.wants_labels(&r) => Some(WatchEvent::Gone(r.key())),
            WatchEvent::Gone(key) | WatchEvent::Malformed(key, _) if !self.wants_key(&key) => None,
            event => Some(event),
        }
    }
}

/// One page of a list. Objects that cannot be read are left out of `items` and named in `malformed`.
#[derive(Debug, Clone)]
pub struct Page {
    /// The objects, by namespace and name.
    pub items: Vec<Resource>,
    /// Objects whose stored value cannot be read.
    pub malformed: Vec<StoreError>,
    /// Set when there are more: pass it as `continue_from`.
    pub next: Option<String>,
    /// Where a watch starts so that it misses nothing after this list. All pages of a list have the same.
    pub watch_from: WatchFrom,
}

/// What a write must find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// The revision of the object as it was read.
    pub resource_version: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// The object exists and is this now (added or changed).
    Set(Arc<Resource>),
    /// The object is gone.
    Gone(ResourceKey),
    /// What is stored under the key cannot be read; treat as what stands in for it, if anything, and report.
    Malformed(ResourceKey, Unreadable),
    /// All up to here was delivered: a later watch may start from it. Follows events when no more are at hand.
    Bookmark(WatchFrom),
}

/// The events of a watch. It ends after an error; [`StoreError::Expired`] means: list again.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, StoreError>>;

/// A datastore. Objects come back with `uid`, `creationTimestamp` and `resourceVersion` set.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// A short text saying which datastore this is and where, for messages.
    fn describe(&self) -> String;

    /// Reads one object.
    async fn get(&self, key: &ResourceKey) -> Result<Resource, StoreError>;

    /// Lists objects of a kind, one page.
    async fn list(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError>;

    /// Says that this list will be asked for in a moment: a backend may ask ahead for the beginning of it.
    fn prefetch(&self, _: Kind, _: &ListOptions) {}

    /// Makes an object that does not exist yet. `uid` and `creationTimestamp` are made if absent.
    async fn create(&self, resource: Resource) -> Result<Resource, StoreError>;

    /// Replaces an object that exists. With `resourceVersion` set only if it still has that revision, and with `uid`
    /// set only if it is that object. The status of kinds that have one is kept as stored.
    async fn update(&self, resource: Resource) -> Result<Resource, StoreError>;

    /// Replaces the status only.
    async fn update_status(&self, resource: Resource) -> Result<Resource, StoreError>;

    /// Deletes an object and returns what was deleted.
    async fn delete(&self, key: &ResourceKey, expect: &Preconditions) -> Result<Resource, StoreError>;

    /// Follows a kind from a list's or bookmark's place.
    async fn watch(&self, kind: Kind, from: &WatchFrom) -> Result<WatchStream, StoreError>;

    /// As [`Store::watch`], of the objects that `part` asks for by namespace, name and labels. One that is not among them
    /// (any more) may be told of as gone, also if it never was.
    async fn watch_part(
        &self,
        kind: Kind,
        from: &WatchFrom,
        part: &ListOptions,
    ) -> Result<WatchStream, StoreError> {
        let all = self.watch(kind, from).await?;
        if part.wants_all() {
            return Ok(all);
        }
        Ok(only_part(all, part))
    }

    /// Where nodes report on themselves and their endpoints, if this datastore has such a place.
    fn reports(&self) -> Option<&dyn Reports> {
        None
    }

    /// Reads several objects and lists, in one request where the backend can. Only there they are of one moment,
    /// and only a hundred of them at most: more take several requests.
    ///
    /// # Errors
    /// When the request or a list fails; an object's own error is its answer.
    async fn read_together(&self, reads: &Reads) -> Result<Found, StoreError> {
        read_each(self, reads).await
    }

    /// How many writes [`Store::write_together`] takes; 0 where there is no such thing. Who uses it must be able to do
    /// without.
    fn writes_together(&self) -> usize {
        0
    }

    /// Does all of the writes, each about another object, or none: false when one finds its object not as it expects.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is too much for one transaction or cannot be stored: nothing is written then.
    /// [`StoreError::Unavailable`] also when the answer got lost: then all of it may have been done, or nothing.
    async fn write_together(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        let first = writes.first().map_or(Kind::WorkloadEndpoint, |w| w.key().kind);
        Err(StoreError::Unsupported {
            operation: "writing several objects together",
            kind: first,
            why: "it has no transactions".to_owned(),
        })
    }

    /// All pages of a list.
    async fn list_all(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
        let mut options = options.clone();
        let mut all = self.list(kind, &options).await?;
        while let Some(next) = all.next.take() {
            options.continue_from = Some(next);
            let page = self.list(kind, &options).await?;
            all.items.extend(page.items);
            all.malformed.extend(page.malformed);
            all.next = page.next;
        }
        Ok(all)
    }
}

/// The events of a watch that are about this part.
#[must_use]
pub fn only_part(all: WatchStream, part: &ListOptions) -> WatchStream {
    let part = part.clone();
    all.filter_map(move |event| {
        let seen = match event {
            Ok(event) => part.of_event(event).map(Ok),
            Err(e) => Some(Err(e)),
        };
        std::future::ready(seen)
    })
    .boxed()
}
