use std::{ops::Bound, sync::Arc};

use async_trait::async_trait;
use caracal_api::{Kind, Resource, ResourceKey, Unreadable};
use caracal_store::{
    ListOptions, Page, Preconditions, Store, StoreError, WatchFrom, WatchStream, Write, check_key,
    check_preconditions, check_together, has_status, merge_for_status, merge_for_update, stamp, unreadable,
};

use crate::{
    faults::Op,
    state::{BreakWatch, Slot, State},
    watch::{Shared, open},
};

/// How many events of a kind are kept, and objects in a page, when nothing else is said.
const ETCD: (usize, usize) = (1_000_000, 2_000);
const KUBERNETES: (usize, usize) = (1_000, 500);
/// How many writes one transaction takes, where it plays etcd.
const TOGETHER: usize = 100;

/// A store in memory. Clones share the same objects.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    kubernetes: bool,
    history: usize,
    page: usize,
}

impl MemoryStore {
    /// A store that behaves like etcd.
    #[must_use]
    pub fn etcd() -> Self {
        Self::of(false, ETCD)
    }

    /// A store that behaves like the Kubernetes API.
    #[must_use]
    pub fn kubernetes() -> Self {
        Self::of(true, KUBERNETES)
    }

    fn of(kubernetes: bool, (history, page): (usize, usize)) -> Self {
        Self {
            shared: Arc::new(Shared::new()),
            kubernetes,
            history,
            page,
        }
    }

    /// Keeps only the last `events` events of each kind: watchers further behind expire.
    #[must_use]
    pub fn with_history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// Makes pages of at most `objects` when the caller does not say.
    #[must_use]
    pub fn with_page(mut self, objects: usize) -> Self {
        self.page = objects.max(1);
        self
    }

    /// Whether it plays Kubernetes.
    #[must_use]
    pub fn plays_kubernetes(&self) -> bool {
        self.kubernetes
    }

    /// Lets the next `times` calls fail.
    pub fn fail_next(&self, times: usize, error: &StoreError) {
        self.shared.lock().faults.add(None, times, error);
    }

    /// Lets the next `times` calls of one operation fail.
    pub fn fail_next_on(&self, op: Op, times: usize, error: &StoreError) {
        self.shared.lock().faults.add(Some(op), times, error);
    }

    /// Forgets failures that were asked for and have not happened.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, op: Op) -> usize {
        self.shared.lock().faults.calls(op)
    }

    /// Cuts every open watch off, as a lost connection does.
    pub fn drop_watches(&self) {
        self.break_watches(BreakWatch::Lost);
    }

    /// Ends every open watch without an error, as a server does that restarts in order.
    pub fn end_watches(&self) {
        self.break_watches(BreakWatch::Ended);
    }

    /// Forgets all history and expires every open watch: everybody must list again.
    pub fn expire(&self) {
        self.compact();
        self.break_watches(BreakWatch::Expired);
    }

    fn break_watches(&self, because: BreakWatch) {
        self.shared.change(|s| {
            s.broken += 1;
            s.broken_because = because;
        });
    }

    /// Forgets all history: a watch or a page from before expires. Open watches that have read everything go on.
    pub fn compact(&self) {
        self.shared.change(|s| {
            let rev = s.rev;
            for kind in Kind::ALL {
                s.table(*kind).compact(rev);
            }
        });
    }

    /// Holds the watches of a kind back, or lets them go on: other kinds' later changes are seen first.
    pub fn hold_watches(&self, kind: Kind, held: bool) {
        self.shared.change(|s| s.table(kind).held = held);
    }

    /// Lets every open watch send a bookmark.
    pub fn send_bookmarks(&self) {
        self.shared.change(|s| s.bookmarks += 1);
    }

    /// Puts a value under the key that cannot be read.
    pub fn put_malformed(&self, key: &ResourceKey, why: impl Into<Unreadable>) {
        self.shared
            .change(|s| self.put(s, key, Slot::Malformed(why.into())));
    }

    /// Makes or replaces an object without any rule: what Kubernetes derives (endpoints, profiles), and set-ups of tests.
    pub fn derive(&self, mut resource: Resource) -> Resource {
        let key = resource.key();
        self.shared.change(|s| {
            if let Slot::Set(old) = s.table(key.kind).current(&key) {
                resource.metadata_mut().uid.clone_from(&old.metadata().uid);
            }
            stamp(&mut resource);
            self.set(s, resource)
        })
    }

    /// Takes away what [`MemoryStore::derive`] made; says whether it was there.
    pub fn underive(&self, key: &ResourceKey) -> bool {
        self.shared.change(|s| {
            let there = !matches!(s.table(key.kind).current(key), Slot::Gone);
            if there {
                self.put(s, key, Slot::Gone);
            }
            there
        })
    }

    fn put(&self, s: &mut State, key: &ResourceKey, slot: Slot) {
        s.rev += 1;
        self.put_now(s, key, slot);
    }

    /// Belongs to the revision that has begun.
    fn put_now(&self, s: &mut State, key: &ResourceKey, slot: Slot) {
        let rev = s.rev;
        s.table(key.kind).put(rev, key, slot, self.history);
    }

    fn set(&self, s: &mut State, resource: Resource) -> Resource {
        s.rev += 1;
        self.set_now(s, resource)
    }

    fn set_now(&self, s: &mut State, mut resource: Resource) -> Resource {
        resource.metadata_mut().resource_version = Some(self.revision(s.rev));
        self.put_now(s, &resource.key(), Slot::Set(Arc::new(resource.clone())));
        resource
    }

    /// What is to be stored by one of several writes; an error when it finds its object not as it expects.
    fn prepare(s: &mut State, write: Write) -> Result<(ResourceKey, Option<Resource>), StoreError> {
        let key = write.key();
        check_key(&key)?;
        match write {
            Write::Create(mut resource) => {
                s.faults.enter(Op::Create)?;
                if !matches!(s.table(key.kind).current(&key), Slot::Gone) {
                    return Err(StoreError::AlreadyExists(key));
                }
                stamp(&mut resource);
                Ok((key, Some(resource)))
            }
            Write::Update(resource) => {
                s.faults.enter(Op::Update)?;
                let expect = Preconditions::of(&resource);
                if expect.resource_version.is_none() {
                    return Err(StoreError::Invalid {
                        key,
                        reason: "a write together with others needs metadata.resourceVersion".to_owned(),
                    });
                }
                let stored = Self::read_or_bare(s, &key)?;
                check_preconditions(&key, stored.metadata(), &expect)?;
                let mut merged = merge_for_update(resource, &stored);
                if merged.metadata().uid.is_none() {
                    stamp(&mut merged);
                }
                Ok((key, Some(merged)))
            }
            Write::Delete(_, at) => {
                s.faults.enter(Op::Delete)?;
                let stored = Self::read_or_bare(s, &key)?;
                let expect = Preconditions {
                    resource_version: Some(at),
                    uid: None,
                };
                check_preconditions(&key, stored.metadata(), &expect)?;
                Ok((key, None))
            }
        }
    }

    /// An object's revision as text; on Kubernetes in an order that means nothing.
    fn revision(&self, rev: u64) -> String {
        if self.kubernetes {
            format!("x{:016x}", rev.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        } else {
            rev.to_string()
        }
    }

    fn writable(&self, kind: Kind, operation: &'static str) -> Result<(), StoreError> {
        if self.kubernetes && matches!(kind, Kind::WorkloadEndpoint | Kind::Profile) {
            let source = if kind == Kind::Profile {
                "namespaces and service accounts"
            } else {
                "pods"
            };
            return Err(StoreError::Unsupported {
                operation,
                kind,
                why: format!("the Kubernetes datastore derives it from {source}"),
            });
        }
        Ok(())
    }

    fn read(s: &mut State, key: &ResourceKey) -> Result<Arc<Resource>, StoreError> {
        match s.table(key.kind).current(key) {
            Slot::Set(r) => Ok(r.clone()),
            Slot::Gone => Err(StoreError::NotFound(key.clone())),
            Slot::Malformed(why) => Err(StoreError::Malformed {
                key: key.clone(),
                reason: why.clone(),
            }),
        }
    }

    /// As `read`, but a value that cannot be read is an object with a name only, so that it can be replaced or deleted.
    fn read_or_bare(s: &mut State, key: &ResourceKey) -> Result<Arc<Resource>, StoreError> {
        Self::read(s, key).or_else(|e| match (&e, unreadable(key)) {
            (StoreError::Malformed { .. }, Some(bare)) => Ok(Arc::new(bare)),
            _ => Err(e),
        })
    }

    /// Stores what `merge` makes of the stored object, after the checks that every update has.
    fn replace(
        &self,
        op: Op,
        resource: &Resource,
        merge: impl FnOnce(&Resource) -> Resource,
    ) -> Result<Resource, StoreError> {
        let key = resource.key();
        self.shared.change(|s| {
            s.faults.enter(op)?;
            check_key(&key)?;
            self.writable(key.kind, "update")?;
            let stored = Self::read_or_bare(s, &key)?;
            check_preconditions(&key, stored.metadata(), &Preconditions::of(resource))?;
            let mut merged = merge(&stored);
            if merged.metadata().uid.is_none() {
                stamp(&mut merged);
            }
            if self.kubernetes && merged == *stored {
                return Ok(merged);
            }
            Ok(self.set(s, merged))
        })
    }
}

/// Where a watch or a page continues: the kind too, because a place belongs to one kind.
fn place(kind: Kind, rev: u64) -> WatchFrom {
    WatchFrom(format!("{}@{rev}", kind.plural()))
}

fn parse_place(kind: Kind, text: &str) -> Option<u64> {
    let (plural, rev) = text.split_once('@')?;
    (plural == kind.plural()).then_some(())?;
    rev.parse().ok()
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        let plays = if self.kubernetes { "Kubernetes" } else { "etcd" };
        format!("memory (playing {plays})")
    }

    async fn get(&self, key: &ResourceKey) -> Result<Resource, StoreError> {
        let mut s = self.shared.lock();
        s.faults.enter(Op::Get)?;
        check_key(key)?;
        Self::read(&mut s, key).map(|r| (*r).clone())
    }

    async fn list(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
        let mut s = self.shared.lock();
        s.faults.enter(Op::List)?;
        let (rev, after) = match &options.continue_from {
            None => (s.rev, None),
            Some(token) => {
                let (at, after) = token.split_once('#').ok_or(StoreError::Expired(kind))?;
                let rev = parse_place(kind, at).ok_or(StoreError::Expired(kind))?;
                (rev, Some(after.to_owned()))
            }
        };
        let table = s.table(kind);
        if rev < table.compacted {
            return Err(StoreError::Expired(kind));
        }
        let limit = if options.limit == 0 {
            self.page
        } else {
            options.limit
        };
        let mut page = Page {
            items: Vec::new(),
            malformed: Vec::new(),
            next: None,
            watch_from: place(kind, rev),
        };
        let mut last = "";
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for (path, entry) in table.entries.range::<str, _>((from, Bound::Unbounded)) {
            let slot = entry.at(rev);
            let labelled = match slot {
                Slot::Set(r) => options.wants_labels(r),
                Slot::Malformed(_) => true,
                Slot::Gone => false,
            };
            if !labelled || !options.wants_key(&entry.key) {
                continue;
            }
            if page.items.len() + page.malformed.len() == limit {
                page.next = Some(format!("{}#{last}", page.watch_from.0));
                break;
            }
            match slot {
                Slot::Set(r) => page.items.push((**r).clone()),
                Slot::Malformed(why) => page.malformed.push(StoreError::Malformed {
                    key: entry.key.clone(),
                    reason: why.clone(),
                }),
                Slot::Gone => {}
            }
            last = path;
        }
        Ok(page)
    }

    async fn create(&self, mut resource: Resource) -> Result<Resource, StoreError> {
        let key = resource.key();
        self.shared.change(|s| {
            s.faults.enter(Op::Create)?;
            check_key(&key)?;
            self.writable(key.kind, "create")?;
            if !matches!(s.table(key.kind).current(&key), Slot::Gone) {
                return Err(StoreError::AlreadyExists(key.clone()));
            }
            if self.kubernetes && has_status(key.kind) {
                let mut bare = resource.to_value();
                if let Some(o) = bare.as_object_mut() {
                    o.remove("status");
                }
                resource = Resource::from_value(key.kind, bare).map_err(|e| StoreError::Invalid {
                    key: key.clone(),
                    reason: e.to_string(),
                })?;
            }
            stamp(&mut resource);
            Ok(self.set(s, resource))
        })
    }

    async fn update(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.replace(Op::Update, &resource, |stored| {
            merge_for_update(resource.clone(), stored)
        })
    }

    async fn update_status(&self, resource: Resource) -> Result<Resource, StoreError> {
        if !has_status(resource.kind()) {
            return Err(StoreError::Unsupported {
                operation: "update of the status",
                kind: resource.kind(),
                why: "the kind has no status".into(),
            });
        }
        self.replace(Op::UpdateStatus, &resource, |stored| {
            merge_for_status(&resource, stored)
        })
    }

    async fn delete(&self, key: &ResourceKey, expect: &Preconditions) -> Result<Resource, StoreError> {
        self.shared.change(|s| {
            s.faults.enter(Op::Delete)?;
            check_key(key)?;
            self.writable(key.kind, "delete")?;
            let stored = Self::read_or_bare(s, key)?;
            check_preconditions(key, stored.metadata(), expect)?;
            self.put(s, key, Slot::Gone);
            Ok((*stored).clone())
        })
    }

    fn writes_together(&self) -> usize {
        if self.kubernetes { 0 } else { TOGETHER }
    }

    async fn write_together(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        if self.kubernetes {
            return Err(StoreError::Unsupported {
                operation: "writing several objects together",
                kind: writes.first().map_or(Kind::WorkloadEndpoint, |w| w.key().kind),
                why: "Kubernetes has no transactions".to_owned(),
            });
        }
        check_together(&writes, TOGETHER)?;
        self.shared.change(|s| {
            let mut prepared = Vec::with_capacity(writes.len());
            for write in writes {
                match Self::prepare(s, write) {
                    Ok(one) => prepared.push(one),
                    Err(
                        StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_),
                    ) => return Ok(false),
                    Err(e) => return Err(e),
                }
            }
            if !prepared.is_empty() {
                s.rev += 1;
            }
            for (key, resource) in prepared {
                match resource {
                    Some(resource) => drop(self.set_now(s, resource)),
                    None => self.put_now(s, &key, Slot::Gone),
                }
            }
            Ok(true)
        })
    }

    async fn watch(&self, kind: Kind, from: &WatchFrom) -> Result<WatchStream, StoreError> {
        let mut s = self.shared.lock();
        s.faults.enter(Op::Watch)?;
        let at = parse_place(kind, &from.0).ok_or(StoreError::Expired(kind))?;
        // A place ahead of everything is one of another store.
        if at < s.table(kind).compacted || at > s.rev {
            return Err(StoreError::Expired(kind));
        }
        drop(s);
        Ok(open(&self.shared, kind, at, place))
    }
}
