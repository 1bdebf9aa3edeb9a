//! The label index: which labelled things match which selectors.
//!
//! Things with the same labels, profiles and extra facts form a *class*; selectors are evaluated on classes. A class
//! finds its candidates among the selectors, and a selector among the classes, through what the selector demands of
//! labels ([`plan`]), so that a change costs what it touches.

mod frames;
mod plan;

use std::hash::{BuildHasher, Hash};

use caracal_selector::{Compiled, LabelSet, Selector, Symbol};
use hashbrown::HashTable;
use smallvec::SmallVec;

pub(crate) use crate::index::frames::Frame;
use crate::{
    index::{
        frames::Frames,
        plan::{Plan, Postings, Registry},
    },
    store::{IdSet, Map, Set, Slab},
    vocabulary::{View, Vocabulary},
};

/// All that counts about a thing but its identity.
#[derive(Debug)]
pub(crate) struct Content<X> {
    pub(crate) own: LabelSet,
    pub(crate) frame: Frame<X>,
}

/// Things with the same content. Short, because every thing may have a label of its own.
#[derive(Debug)]
pub(crate) struct Class {
    own: LabelSet,
    frame: u32,
    /// The selectors that match, sorted.
    pub(crate) selectors: SmallVec<[u32; 4]>,
    pub(crate) items: SmallVec<[u32; 2]>,
}

impl Class {
    pub(crate) fn matches(&self, selector: u32) -> bool {
        self.selectors.binary_search(&selector).is_ok()
    }
}

/// A selector in use.
struct Watched {
    selector: Selector,
    program: Compiled,
    plan: Plan,
    users: Vec<u32>,
    classes: IdSet,
}

/// A class begins or ceases to match a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) class: u32,
    pub(crate) selector: u32,
    pub(crate) matches: bool,
}

pub(crate) struct LabelIndex<X> {
    classes: Slab<Class>,
    frames: Frames<X>,
    by_content: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    postings: Postings,
    selectors: Slab<Watched>,
    by_selector: Map<Selector, u32>,
    registry: Registry,
    /// Selectors whose classes changed, where somebody wants to know.
    stirred: Option<Set<u32>>,
}

impl<X: Eq + Hash> LabelIndex<X> {
    /// `watch_selectors`: whether [`take_stirred`](Self::take_stirred) will be called.
    pub(crate) fn new(watch_selectors: bool) -> Self {
        Self {
            classes: Slab::default(),
            by_content: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            frames: Frames::default(),
            postings: Postings::default(),
            selectors: Slab::default(),
            by_selector: Map::default(),
            registry: Registry::default(),
            stirred: watch_selectors.then(Set::default),
        }
    }

    pub(crate) fn class(&self, class: u32) -> &Class {
        &self.classes[class]
    }

    pub(crate) fn try_class(&self, class: u32) -> Option<&Class> {
        self.classes.get(class)
    }

    pub(crate) fn class_ids(&self) -> impl Iterator<Item = u32> {
        self.classes.iter().map(|(id, _)| id)
    }

    /// The extra facts of a class.
    pub(crate) fn extra(&self, class: u32) -> &X {
        &self.frames.get(self.classes[class].frame).extra
    }

    fn view<'a>(&'a self, voc: &'a Vocabulary, class: &'a Class) -> View<'a> {
        let frame = self.frames.get(class.frame);
        voc.view(&frame.forced, &class.own, &frame.profiles)
    }

    pub(crate) fn find(&self, content: &Content<X>) -> Option<u32> {
        self.find_in(&content.own, self.frames.find(&content.frame)?)
    }

    fn find_in(&self, own: &LabelSet, frame: u32) -> Option<u32> {
        let found = self.by_content.find(self.hasher.hash_one((own, frame)), |id| {
            let class = &self.classes[*id];
            class.frame == frame && class.own == *own
        });
        found.copied()
    }

    /// The class of a content, made (and matched) if there is none.
    pub(crate) fn find_or_make(&mut self, voc: &Vocabulary, content: Content<X>) -> u32 {
        let frame = self.frames.find_or_make(content.frame);
        let own = content.own;
        if let Some(id) = self.find_in(&own, frame) {
            return id;
        }
        let hash = self.hasher.hash_one((&own, frame));
        let mut class = Class {
            own,
            frame,
            selectors: SmallVec::new(),
            items: SmallVec::new(),
        };
        let flat = self.view(voc, &class).flatten();
        class.selectors = self.selectors_matching(voc, &flat);
        let id = self.classes.insert(class);
        self.frames.join(frame, id);
        self.postings.add(id, &flat);
        for selector in self.classes[id].selectors.clone() {
            self.selectors[selector].classes.insert(id);
            self.stir(selector);
        }
        let (hasher, classes) = (&self.hasher, &self.classes);
        self.by_content.insert_unique(hash, id, |held| {
            let class = &classes[*held];
            hasher.hash_one((&class.own, class.frame))
        });
        id
    }

    /// Puts an item into a class; returns its place there.
    pub(crate) fn add_item(&mut self, class: u32, item: u32) -> u32 {
        let items = &mut self.classes[class].items;
        items.push(item);
        u32::try_from(items.len() - 1).expect("items are numbered with u32")
    }

    /// Takes the item at `place` out; returns the item that is there now, if another had to move.
    pub(crate) fn take_item(&mut self, class: u32, place: u32) -> Option<u32> {
        let items = &mut self.classes[class].items;
        items.swap_remove(place as usize);
        items.get(place as usize).copied()
    }

    /// Forgets a class without items.
    pub(crate) fn release(&mut self, voc: &Vocabulary, id: u32) {
        if !self.classes[id].items.is_empty() {
            return;
        }
        let flat = self.view(voc, &self.classes[id]).flatten();
        self.postings.remove(id, &flat);
        let Some(class) = self.classes.remove(id) else {
            return;
        };
        let hash = self.hasher.hash_one((&class.own, class.frame));
        if let Ok(entry) = self.by_content.find_entry(hash, |held| *held == id) {
            entry.remove();
        }
        self.frames.leave(class.frame, id);
        for selector in class.selectors {
            self.selectors[selector].classes.remove(id);
            self.stir(selector);
        }
    }

    fn selectors_matching(&self, voc: &Vocabulary, flat: &LabelSet) -> SmallVec<[u32; 4]> {
        let matching = self.registry.candidates(flat).filter(|id| {
            let watched = &self.selectors[*id];
            watched.program.matches(flat, &voc.interner)
        });
        let mut found: SmallVec<[u32; 4]> = matching.collect();
        // No selector comes twice: it is registered under one label, which has one value here.
        found.sort_unstable();
        found
    }

    /// Adds a user of a selector, which is matched if it is new.
    pub(crate) fn attach(&mut self, voc: &mut Vocabulary, selector: &Selector, user: u32) -> u32 {
        if let Some(id) = self.by_selector.get(selector) {
            self.selectors[*id].users.push(user);
            return *id;
        }
        let program = selector.compile(&mut voc.interner);
        let plan = Plan::choose(selector, voc, &self.postings);
        let mut matching: Vec<u32> = Vec::new();
        let mut consider = |class: u32| {
            if program.matches(&self.view(voc, &self.classes[class]), &voc.interner) {
                matching.push(class);
            }
        };
        if matches!(plan, Plan::Anything) {
            self.classes.iter().for_each(|(class, _)| consider(class));
        } else {
            self.postings.candidates(&plan).for_each(&mut consider);
        }
        let mut classes = IdSet::default();
        matching.iter().for_each(|class| classes.insert(*class));
        let id = self.selectors.insert(Watched {
            selector: selector.clone(),
            program,
            plan,
            users: vec![user],
            classes,
        });
        self.by_selector.insert(selector.clone(), id);
        self.registry.add(id, &self.selectors[id].plan);
        for class in matching {
            insert_sorted(&mut self.classes[class].selectors, id);
        }
        self.stir(id);
        id
    }

    /// Takes a user of a selector away; true if that was the last and the selector is gone.
    pub(crate) fn detach(&mut self, id: u32, user: u32) -> bool {
        let users = &mut self.selectors[id].users;
        if let Some(at) = users.iter().position(|held| *held == user) {
            users.swap_remove(at);
        }
        if !users.is_empty() {
            return false;
        }
        if let Some(watched) = self.selectors.remove(id) {
            self.by_selector.remove(&watched.selector);
            self.registry.remove(id, &watched.plan);
            for class in watched.classes.iter() {
                remove_sorted(&mut self.classes[class].selectors, id);
            }
        }
        if let Some(stirred) = &mut self.stirred {
            stirred.remove(&id);
        }
        true
    }

    pub(crate) fn users(&self, selector: u32) -> &[u32] {
        &self.selectors[selector].users
    }

    pub(crate) fn classes_of(&self, selector: u32) -> impl Iterator<Item = u32> + '_ {
        self.selectors[selector].classes.iter()
    }

    fn stir(&mut self, selector: u32) {
        if let Some(stirred) = &mut self.stirred {
            stirred.insert(selector);
        }
    }

    /// The selectors whose classes changed since the last call.
    pub(crate) fn take_stirred(&mut self) -> Set<u32> {
        self.stirred.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// First half of a change of a profile's labels: takes its classes, which are returned, out of the postings.
    pub(crate) fn lift(&mut self, voc: &Vocabulary, profile: Symbol) -> Vec<u32> {
        let children: Vec<u32> = self.frames.classes_with(profile).collect();
        for id in &children {
            let flat = self.view(voc, &self.classes[*id]).flatten();
            self.postings.remove(*id, &flat);
        }
        children
    }

    /// Second half, after the labels have changed: puts the classes back and says what turns, without doing it.
    pub(crate) fn lower(&mut self, voc: &Vocabulary, children: &[u32]) -> Vec<Turn> {
        let mut turns = Vec::new();
        for id in children {
            let flat = self.view(voc, &self.classes[*id]).flatten();
            self.postings.add(*id, &flat);
            let now = self.selectors_matching(voc, &flat);
            let before = &self.classes[*id].selectors;
            let turn = |selector: &u32, matches| Turn {
                class: *id,
                selector: *selector,
                matches,
            };
            turns.extend(
                before
                    .iter()
                    .filter(|s| now.binary_search(s).is_err())
                    .map(|s| turn(s, false)),
            );
            turns.extend(
                now.iter()
                    .filter(|s| before.binary_search(s).is_err())
                    .map(|s| turn(s, true)),
            );
        }
        turns
    }

    /// Does what [`lower`](Self::lower) said.
    pub(crate) fn turn(&mut self, turns: &[Turn]) {
        for turn in turns {
            let (held, classes) = (
                &mut self.classes[turn.class].selectors,
                &mut self.selectors[turn.selector].classes,
            );
            if turn.matches {
                insert_sorted(held, turn.selector);
                classes.insert(turn.class);
            } else {
                remove_sorted(held, turn.selector);
                classes.remove(turn.class);
            }
            self.stir(turn.selector);
        }
    }

    /// The extra facts of all classes.
    pub(crate) fn extras(&self) -> impl Iterator<Item = &X> {
        self.frames.iter().map(|f| &f.extra)
    }

    /// Every word in use, for the vocabulary's clean-up.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> + '_ {
        let frames = self.frames.iter();
        let shared = frames.flat_map(|f| f.forced.symbols().chain(f.profiles.iter().copied()));
        let things = self
            .classes
            .iter()
            .flat_map(|(_, c)| c.own.symbols())
            .chain(shared);
        things.chain(self.selectors.iter().flat_map(|(_, s)| s.program.symbols()))
    }
}

fn insert_sorted(ids: &mut SmallVec<[u32; 4]>, id: u32) {
    if let Err(at) = ids.binary_search(&id) {
        ids.insert(at, id);
    }
}

fn remove_sorted(ids: &mut SmallVec<[u32; 4]>, id: u32) {
    if let Ok(at) = ids.binary_search(&id) {
        ids.remove(at);
    }
}

#[cfg(test)]
mod tests;
