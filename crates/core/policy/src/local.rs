//! This node's endpoints, and which policies select them.

use std::sync::Arc;

use caracal_api::ResourceKey;
use caracal_desired::{Delta, HostEndpoint, WorkloadEndpoint};
use caracal_ids::ProfileName;
use caracal_selector::{LabelSet, Selector, Symbol};

use crate::{
    index::{Content, Frame, LabelIndex},
    policy::Standing,
    store::{Map, Set, Slab},
    vocabulary::Vocabulary,
};

/// An endpoint, with its policies or still without.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Endpoint {
    Workload(Arc<WorkloadEndpoint>),
    Host(Arc<HostEndpoint>),
}

impl Endpoint {
    pub(crate) fn is_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    pub(crate) fn profiles(&self) -> &[ProfileName] {
        match self {
            Self::Workload(w) => &w.profiles,
            Self::Host(h) => &h.profiles,
        }
    }

    pub(crate) fn delta(&self) -> Delta {
        match self {
            Self::Workload(w) => Delta::Workload(w.clone()),
            Self::Host(h) => Delta::HostEndpoint(h.clone()),
        }
    }

    pub(crate) fn gone(&self) -> Delta {
        match self {
            Self::Workload(w) => Delta::WorkloadGone(w.id.clone()),
            Self::Host(h) => Delta::HostEndpointGone(h.name.clone()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) class: u32,
    place: u32,
    /// Without its policies.
    pub(crate) bare: Endpoint,
}

/// An endpoint that exists or is still emitted.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: ResourceKey,
    pub(crate) state: Option<State>,
    pub(crate) emitted: Option<Endpoint>,
}

/// Whether a selector matches a host endpoint, and a workload endpoint, of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) hosts: bool,
    pub(crate) workloads: bool,
}

impl Reach {
    /// Whether a policy that selects so far is needed.
    pub(crate) fn needs(self, policy: &Standing) -> bool {
        policy.needed_everywhere || self.hosts || (self.workloads && !policy.hosts_only())
    }
}

/// This node's endpoints. Users of selectors are policies.
pub(crate) struct Local {
    /// Classes by labels and by whether they are of host endpoints.
    index: LabelIndex<bool>,
    pub(crate) entries: Slab<Entry>,
    by_key: Map<ResourceKey, u32>,
    /// Endpoints to look at in the next flush, and classes with all their endpoints.
    dirty: Set<u32>,
    dirty_classes: Set<u32>,
    /// How far each selector reached at the last flush.
    reach: Map<u32, Reach>,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            index: LabelIndex::new(true),
            entries: Slab::default(),
            by_key: Map::default(),
            dirty: Set::default(),
            dirty_classes: Set::default(),
            reach: Map::default(),
        }
    }
}

impl Local {
    /// The endpoint exists and is this. Returns the profiles it named before.
    pub(crate) fn put(
        &mut self,
        voc: &Vocabulary,
        key: &ResourceKey,
        (labels, forced, profiles): (LabelSet, LabelSet, Box<[Symbol]>),
        bare: Endpoint,
    ) -> Vec<ProfileName> {
        let at = match self.by_key.get(key) {
            Some(at) => *at,
            None => {
                let at = self.entries.insert(Entry {
                    key: key.clone(),
                    state: None,
                    emitted: None,
                });
                self.by_key.insert(key.clone(), at);
                at
            }
        };
        let class = self.index.find_or_make(
            voc,
            Content {
                own: labels,
                frame: Frame {
                    forced,
                    profiles,
                    extra: bare.is_host(),
                },
            },
        );
        let place = self.index.add_item(class, at);
        let before = self.vacate(voc, at);
        // If it was in the same class, then before itself, and has slid into its own old place.
        let place = match before {
            Some(ref old) if old.class == class => old.place,
            _ => place,
        };
        self.dirty.insert(at);
        self.entries[at].state = Some(State { class, place, bare });
        before.map_or(Vec::new(), |s| s.bare.profiles().to_vec())
    }

    /// The endpoint does not exist. Returns the profiles it named.
    pub(crate) fn remove(&mut self, voc: &Vocabulary, key: &ResourceKey) -> Vec<ProfileName> {
        let Some(at) = self.by_key.get(key).copied() else {
            return Vec::new();
        };
        let Some(before) = self.vacate(voc, at) else {
            return Vec::new();
        };
        self.dirty.insert(at);
        before.bare.profiles().to_vec()
    }

    fn vacate(&mut self, voc: &Vocabulary, at: u32) -> Option<State> {
        let state = self.entries[at].state.take()?;
        if let Some(moved) = self.index.take_item(state.class, state.place)
            && let Some(moved) = &mut self.entries[moved].state
        {
            moved.place = state.place;
        }
        self.index.release(voc, state.class);
        Some(state)
    }

    pub(crate) fn drop_if_idle(&mut self, at: u32) {
        let entry = &self.entries[at];
        if entry.state.is_none()
            && entry.emitted.is_none()
            && let Some(entry) = self.entries.remove(at)
        {
            self.by_key.remove(&entry.key);
        }
    }

    /// A policy selects with `selector`.
    pub(crate) fn attach(&mut self, voc: &mut Vocabulary, selector: &Selector, policy: u32) -> u32 {
        self.index.attach(voc, selector, policy)
    }

    pub(crate) fn detach(&mut self, selector: u32, policy: u32) {
        if self.index.detach(selector, policy) {
            self.reach.remove(&selector);
        }
    }

    /// The lists of all endpoints that a selector matches must be made anew.
    pub(crate) fn dirty_selected(&mut self, selector: u32) {
        self.dirty_classes.extend(self.index.classes_of(selector));
    }

    /// The lists of all endpoints must be made anew.
    pub(crate) fn dirty_all(&mut self) {
        self.dirty_classes.extend(self.index.class_ids());
    }

    /// First half of a change of a profile's labels.
    pub(crate) fn lift(&mut self, voc: &Vocabulary, profile: Symbol) -> Vec<u32> {
        self.index.lift(voc, profile)
    }

    /// Second half, after the labels have changed.
    pub(crate) fn lower(&mut self, voc: &Vocabulary, children: &[u32]) {
        let turns = self.index.lower(voc, children);
        self.dirty_classes.extend(turns.iter().map(|t| t.class));
        self.index.turn(&turns);
    }

    /// The policies whose selectors reach farther or less far than at the last flush.
    pub(crate) fn policies_with_new_reach(&mut self) -> Vec<u32> {
        let mut policies = Vec::new();
        for selector in self.index.take_stirred() {
            let now = self.reach_now(selector);
            let before = self.reach.insert(selector, now).unwrap_or_default();
            if before != now {
                policies.extend_from_slice(self.index.users(selector));
            }
        }
        policies
    }

    fn reach_now(&self, selector: u32) -> Reach {
        let mut reach = Reach::default();
        for class in self.index.classes_of(selector) {
            match *self.index.extra(class) {
                true => reach.hosts = true,
                false => reach.workloads = true,
            }
            if reach.hosts && reach.workloads {
                break;
            }
        }
        reach
    }

    /// How far a selector reaches, as of the last call of [`policies_with_new_reach`](Self::policies_with_new_reach).
    pub(crate) fn reach(&self, selector: Option<u32>) -> Reach {
        selector
            .and_then(|s| self.reach.get(&s))
            .copied()
            .unwrap_or_default()
    }

    /// The endpoints to look at, those of a class together.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for class in std::mem::take(&mut self.dirty_classes) {
            let class = self.index.try_class(class);
            dirty.extend(class.into_iter().flat_map(|c| &c.items));
        }
        let mut sorted: Vec<u32> = dirty
            .into_iter()
            .filter(|at| self.entries.get(*at).is_some())
            .collect();
        let class = |at: &u32| self.entries[*at].state.as_ref().map(|s| s.class);
        sorted.sort_unstable_by(|a, b| {
            (class(a), &self.entries[*a].key).cmp(&(class(b), &self.entries[*b].key))
        });
        sorted
    }

    /// The policies that select the endpoints of a class, in no order.
    pub(crate) fn policies_of(&self, class: u32) -> impl Iterator<Item = u32> + '_ {
        let selectors = &self.index.class(class).selectors;
        selectors.iter().flat_map(|s| self.index.users(*s)).copied()
    }

    /// Every word in use, for the vocabulary's clean-up.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> + '_ {
        self.index.symbols()
    }
}
