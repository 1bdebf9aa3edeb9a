//! Members of IP sets: every endpoint and network set of the cluster, and the sets whose selectors match them.
//!
//! No set holds its members. An address is a member if an item that has it is in a class that matches, which the index
//! by address answers; so endpoints may share addresses, and a set costs nothing but its selector. What a change may
//! affect is noted with its state before the change ([`Live::touched`](crate::sets::Live)), and compared at the flush.

mod port;
mod service;

use std::{collections::BTreeSet, hash::BuildHasher};

use caracal_api::Kind;
use caracal_desired::{Delta, IpSet, IpSetMember};
use caracal_net::Cidr;
use caracal_selector::Symbol;
use hashbrown::HashTable;
use smallvec::SmallVec;

pub(crate) use crate::cluster::port::{Port, Ports, content};
use crate::{
    cluster::port::port_members,
    cluster::service::Services,
    index::{Content, LabelIndex},
    sets::{Live, Origin, SetKey, SetTable},
    store::Slab,
    vocabulary::Vocabulary,
};

/// An endpoint or network set.
struct Item {
    /// Sorted, each once.
    nets: Box<[Cidr]>,
    name: Box<str>,
    namespace: Symbol,
    class: u32,
    place: u32,
    kind: Kind,
}

/// The identity of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ItemKey<'a> {
    pub(crate) kind: Kind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// An address of an item. Short, because there is one for every address of the cluster.
struct Place {
    hash: u32,
    item: u32,
}

/// What an item is a member with.
type Members = (u32, Box<[Cidr]>);

#[derive(Default)]
pub(crate) struct Cluster {
    index: LabelIndex<Ports>,
    items: Slab<Item>,
    by_key: HashTable<u32>,
    by_net: HashTable<Place>,
    hasher: foldhash::fast::RandomState,
    services: Services,
    pub(crate) sets: SetTable,
}

impl Default for LabelIndex<Ports> {
    fn default() -> Self {
        Self::new(false)
    }
}

/// A hash of 32 bits spread over 64, as the table wants it.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Cluster {
    /// How many endpoints and network sets there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    fn key_hash(&self, kind: Kind, namespace: Symbol, name: &str) -> u64 {
        self.hasher.hash_one((kind, namespace, name))
    }

    fn find(&self, voc: &Vocabulary, key: ItemKey<'_>) -> Option<u32> {
        let namespace = voc.interner.lookup(key.namespace)?;
        let found = self
            .by_key
            .find(self.key_hash(key.kind, namespace, key.name), |id| {
                let item = &self.items[*id];
                item.kind == key.kind && item.namespace == namespace && *item.name == *key.name
            });
        found.copied()
    }

    /// The item exists and is this. `nets` in any order.
    pub(crate) fn put(
        &mut self,
        voc: &mut Vocabulary,
        key: ItemKey<'_>,
        content: Content<Ports>,
        mut nets: Vec<Cidr>,
    ) {
        nets.sort_unstable();
        nets.dedup();
        let known = self.find(voc, key);
        if let Some(id) = known
            && self.items[id].nets[..] == nets[..]
            && self.index.find(&content) == Some(self.items[id].class)
        {
            return;
        }
        let class = self.index.find_or_make(voc, content);
        let nets = nets.into_boxed_slice();
        match known {
            Some(id) => self.replace(voc, id, class, nets),
            None => {
                let namespace = voc.word(key.namespace);
                let now = (class, nets);
                self.touch_difference(None, Some(&now));
                let id = self.items.insert(Item {
                    nets: now.1,
                    name: key.name.into(),
                    namespace,
                    class,
                    place: 0,
                    kind: key.kind,
                });
                self.items[id].place = self.index.add_item(class, id);
                self.remember_key(id);
                self.remember_nets(id);
            }
        }
    }

    fn replace(&mut self, voc: &Vocabulary, id: u32, class: u32, nets: Box<[Cidr]>) {
        let before: Members = (self.items[id].class, self.items[id].nets.clone());
        let now: Members = (class, nets);
        self.touch_difference(Some(&before), Some(&now));
        if before.1 != now.1 {
            self.forget_nets(id);
            self.items[id].nets = now.1;
            self.remember_nets(id);
        }
        if before.0 != class {
            self.leave_class(voc, id);
            self.items[id].place = self.index.add_item(class, id);
            self.items[id].class = class;
        }
    }

    /// The item does not exist.
    pub(crate) fn remove(&mut self, voc: &Vocabulary, key: ItemKey<'_>) {
        let Some(id) = self.find(voc, key) else {
            return;
        };
        let before: Members = (self.items[id].class, self.items[id].nets.clone());
        self.touch_difference(Some(&before), None);
        self.forget_nets(id);
        self.leave_class(voc, id);
        let Some(item) = self.items.remove(id) else {
            return;
        };
        let hash = self.key_hash(item.kind, item.namespace, &item.name);
        if let Ok(entry) = self.by_key.find_entry(hash, |held| *held == id) {
            entry.remove();
        }
    }

    fn leave_class(&mut self, voc: &Vocabulary, id: u32) {
        let (class, place) = (self.items[id].class, self.items[id].place);
        if let Some(moved) = self.index.take_item(class, place) {
            self.items[moved].place = place;
        }
        self.index.release(voc, class);
    }

    fn remember_key(&mut self, id: u32) {
        let (items, hasher) = (&self.items, &self.hasher);
        let hash = |id: &u32| {
            let item = &items[*id];
            hasher.hash_one((item.kind, item.namespace, &*item.name))
        };
        self.by_key.insert_unique(hash(&id), id, hash);
    }

    // The casts keep the low half of a hash, which is as good as the whole.
    fn net_hash(&self, net: &Cidr) -> u32 {
        self.hasher.hash_one(net) as u32
    }

    fn remember_nets(&mut self, id: u32) {
        for net in &self.items[id].nets {
            let hash = self.hasher.hash_one(net) as u32;
            let place = Place { hash, item: id };
            self.by_net.insert_unique(spread(hash), place, |p| spread(p.hash));
        }
    }

    fn forget_nets(&mut self, id: u32) {
        for net in &self.items[id].nets {
            let hash = self.hasher.hash_one(net) as u32;
            if let Ok(entry) = self
                .by_net
                .find_entry(spread(hash), |p| p.hash == hash && p.item == id)
            {
                entry.remove();
            }
        }
    }

    /// Notes, for every live set, the members that differ between two states of an item. To be called before the item
    /// changes.
    fn touch_difference(&mut self, before: Option<&Members>, now: Option<&Members>) {
        let sets_of = |side: Option<&Members>| -> SmallVec<[u32; 8]> {
            let class = side.map(|(class, _)| self.index.class(*class));
            let selectors = class.into_iter().flat_map(|c| &c.selectors);
            selectors.flat_map(|s| self.index.users(*s)).copied().collect()
        };
        let (mut old, mut new) = (sets_of(before), sets_of(now));
        old.sort_unstable();
        new.sort_unstable();
        for set in &old {
            let stays = new.binary_search(set).is_ok();
            self.touch_side(*set, before, now.filter(|_| stays));
        }
        for set in &new {
            let stayed = old.binary_search(set).is_ok();
            self.touch_side(*set, now, before.filter(|_| stayed));
        }
    }

    /// Notes the members that an item has in a set with `side`, but for those it has with `other` as well.
    fn touch_side(&mut self, set: u32, side: Option<&Members>, other: Option<&Members>) {
        let Some((class, nets)) = side else {
            return;
        };
        let mut members: SmallVec<[IpSetMember; 8]> = SmallVec::new();
        let same = |net: &Cidr| other.is_some_and(|(c, n)| c == class && n.binary_search(net).is_ok());
        let same_net = |net: &Cidr| other.is_some_and(|(_, n)| n.binary_search(net).is_ok());
        let Some(Live {
            origin: Origin::Selected { port, .. },
            ..
        }) = &self.sets.get(set).live
        else {
            return;
        };
        match *port {
            None => members.extend(nets.iter().filter(|n| !same_net(n)).map(|n| IpSetMember::Net(*n))),
            Some(port) => {
                let ports = self.index.extra(*class);
                let left = nets.iter().filter(|n| !same(n));
                members.extend(left.flat_map(|n| port_members(n, ports, port)));
            }
        }
        self.touch(set, &members);
    }

    fn touch(&mut self, set: u32, members: &[IpSetMember]) {
        for member in members {
            let Some(live) = &self.sets.get(set).live else {
                return;
            };
            if live.touched.contains_key(member) {
                continue;
            }
            let there = self.is_member(live, member);
            if let Some(live) = self.sets.live_mut(set) {
                live.touched.insert(*member, there);
            }
        }
        if !members.is_empty() {
            self.sets.stir(set);
        }
    }

    fn is_member(&self, live: &Live, member: &IpSetMember) -> bool {
        let net = match member {
            IpSetMember::Net(net) => *net,
            IpSetMember::IpPort(addr, _, _) => Cidr::host(*addr),
        };
        let (selector, port) = match &live.origin {
            Origin::Selected { selector, port } => (*selector, *port),
            Origin::Service(members) => return members.contains_key(member),
        };
        let hash = self.net_hash(&net);
        self.by_net.iter_hash(spread(hash)).any(|place| {
            let item = &self.items[place.item];
            let class = self.index.class(item.class);
            place.hash == hash
                && class.matches(selector)
                && item.nets.binary_search(&net).is_ok()
                && match port {
                    None => true,
                    Some(port) => {
                        port_members(&net, self.index.extra(item.class), port).any(|m| m == *member)
                    }
                }
        })
    }

    /// First half of a change of a profile's labels.
    pub(crate) fn lift(&mut self, voc: &Vocabulary, profile: Symbol) -> Vec<u32> {
        self.index.lift(voc, profile)
    }

    /// Second half, after the labels have changed.
    pub(crate) fn lower(&mut self, voc: &Vocabulary, children: &[u32]) {
        let turns = self.index.lower(voc, children);
        for turn in &turns {
            let sets: SmallVec<[u32; 4]> = self.index.users(turn.selector).iter().copied().collect();
            let items: Vec<u32> = self.index.class(turn.class).items.to_vec();
            for item in items {
                let members: Members = (turn.class, self.items[item].nets.clone());
                for set in &sets {
                    self.touch_side(*set, Some(&members), None);
                }
            }
        }
        self.index.turn(&turns);
    }

    /// What became of the sets since the last flush: what to emit before anything else, and after.
    pub(crate) fn flush(&mut self, voc: &mut Vocabulary, before: &mut Vec<Delta>, after: &mut Vec<Delta>) {
        for set in self.sets.take_stirred() {
            let entry = self.sets.get(set);
            let id = entry.id.clone();
            match (entry.is_used(), entry.live.is_some()) {
                (true, false) => {
                    let members = self.go_live(voc, set);
                    before.push(Delta::IpSet(id, members));
                }
                (true, true) => before.extend(self.changes(set)),
                (false, true) => {
                    if let Some(live) = self.sets.live_mut(set).take() {
                        match live.origin {
                            Origin::Selected { selector, .. } => {
                                self.index.detach(selector, set);
                            }
                            Origin::Service(_) => self.services.leave(&self.sets.get(set).key, set),
                        }
                        after.push(Delta::IpSetGone(id));
                    }
                }
                (false, false) => {}
            }
            self.sets.drop_if_idle(set);
        }
    }

    fn go_live(&mut self, voc: &mut Vocabulary, set: u32) -> IpSet {
        let key = self.sets.get(set).key.clone();
        let (selector, port) = match &key {
            SetKey::Selected { selector, port } => (selector, port),
            SetKey::Service { .. } => return self.service_goes_live(&key, set),
        };
        let selector = self.index.attach(voc, selector, set);
        let port = port.as_ref().map(|p| (p.proto, voc.word(&p.name)));
        let mut members = Vec::new();
        for class in self.index.classes_of(selector) {
            let ports = self.index.extra(class);
            let nets = self
                .index
                .class(class)
                .items
                .iter()
                .flat_map(|item| &self.items[*item].nets);
            match port {
                None => members.extend(nets.map(|n| IpSetMember::Net(*n))),
                Some(port) => members.extend(nets.flat_map(|n| port_members(n, ports, port))),
            }
        }
        *self.sets.live_mut(set) = Some(Live {
            origin: Origin::Selected { selector, port },
            touched: Default::default(),
        });
        IpSet {
            kind: key.kind(),
            members: members.into_iter().collect::<BTreeSet<_>>(),
            about: key.about(),
        }
    }

    fn changes(&mut self, set: u32) -> Option<Delta> {
        let touched = std::mem::take(&mut self.sets.live_mut(set).as_mut()?.touched);
        let live = self.sets.get(set).live.as_ref()?;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (member, was) in touched {
            match (was, self.is_member(live, &member)) {
                (false, true) => added.push(member),
                (true, false) => removed.push(member),
                _ => {}
            }
        }
        if added.is_empty() && removed.is_empty() {
            return None;
        }
        added.sort_unstable();
        removed.sort_unstable();
        Some(Delta::IpSetMembers {
            id: self.sets.get(set).id.clone(),
            added,
            removed,
        })
    }

    /// Every word in use, for the vocabulary's clean-up.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> + '_ {
        let namespaces = self.items.iter().map(|(_, item)| item.namespace);
        let ports = self.index.extras().flatten().map(|p| p.name);
        let wanted = self.sets.iter().filter_map(|e| match &e.live.as_ref()?.origin {
            Origin::Selected { port, .. } => port.map(|p| p.1),
            Origin::Service(_) => None,
        });
        self.index.symbols().chain(namespaces).chain(ports).chain(wanted)
    }
}
