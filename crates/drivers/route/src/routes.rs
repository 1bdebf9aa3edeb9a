use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_delta::Tracker;
use caracal_link::{Event, LinkError, Refusal};
use caracal_net::Family;
use netlink_packet_route::route::RouteMessage;

use crate::codec::{self, Installed};
use crate::model::{Route, RouteKey};
use crate::ownership::Ownership;

mod apply;

/// What went wrong with one route, or with all of them.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel refused to write a route.
    #[error("cannot write route {key} {route}: {refusal}")]
    Write {
        /// Which route.
        key: RouteKey,
        /// What it should be.
        route: Box<Route>,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The kernel refused to delete a route.
    #[error("cannot delete route {key}: {refusal}")]
    Delete {
        /// Which route.
        key: RouteKey,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// What an apply did and what went wrong.
#[derive(Debug, Default)]
pub struct RouteReport {
    /// Routes written.
    pub written: usize,
    /// Routes deleted.
    pub deleted: usize,
    /// Desired routes whose link is missing or down.
    pub waiting: usize,
    /// What failed; tried again at the next apply.
    pub errors: Vec<RouteError>,
}

#[derive(Clone, Copy, Debug)]
struct LinkState {
    index: u32,
    up: bool,
}

/// The reconciler of our routes. One for both families and all tables.
#[derive(Debug)]
pub struct Routes {
    ownership: Ownership,
    wanted: BTreeMap<RouteKey, Route>,
    /// Desired routes by the link they need.
    by_link: BTreeMap<String, BTreeSet<RouteKey>>,
    links: BTreeMap<String, LinkState>,
    names: BTreeMap<u32, String>,
    /// Desired here are only those whose link is there.
    tracker: Tracker<RouteKey, Installed>,
    /// Observed routes by the number of their link: they go with it, untold.
    through: BTreeMap<u32, BTreeSet<RouteKey>>,
    /// Observed routes by their source address: they go with it, untold.
    sourced: BTreeMap<IpAddr, BTreeSet<RouteKey>>,
    /// Routes of ours that share their key with others: to be deleted.
    strays: Vec<(RouteKey, Installed)>,
    unread: bool,
}

impl Routes {
    /// Desires nothing yet. The first apply reads the kernel.
    pub fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            wanted: BTreeMap::new(),
            by_link: BTreeMap::new(),
            links: BTreeMap::new(),
            names: BTreeMap::new(),
            tracker: Tracker::new(),
            through: BTreeMap::new(),
            sourced: BTreeMap::new(),
            strays: Vec::new(),
            unread: true,
        }
    }

    /// Wants a route.
    pub fn set(&mut self, key: RouteKey, route: Route) {
        self.unfile(&key);
        if let Some(link) = route.target.link() {
            self.by_link.entry(link.to_owned()).or_default().insert(key);
        }
        self.wanted.insert(key, route);
        self.resolve(&key);
    }

    /// Does not want a route any more.
    pub fn remove(&mut self, key: &RouteKey) {
        self.unfile(key);
        self.wanted.remove(key);
        self.resolve(key);
    }

    /// Wants exactly these routes.
    pub fn replace_all(&mut self, wanted: BTreeMap<RouteKey, Route>) {
        let gone: Vec<RouteKey> = self
            .wanted
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        for key in &gone {
            self.remove(key);
        }
        for (key, route) in wanted {
            if self.wanted.get(&key) != Some(&route) {
                self.set(key, route);
            }
        }
    }

    /// What is wanted.
    pub fn wanted(&self) -> &BTreeMap<RouteKey, Route> {
        &self.wanted
    }

    /// Wanted routes whose link is missing or down.
    pub fn waiting(&self) -> impl Iterator<Item = (&RouteKey, &Route)> {
        self.wanted
            .iter()
            .filter(|(key, _)| self.tracker.desired(key).is_none())
    }

    /// Whether an apply has something to do. Failed writes count; waiting routes do not.
    pub fn is_pending(&self) -> bool {
        self.unread || !self.strays.is_empty() || !self.tracker.in_sync()
    }

    /// Reads the kernel again at the next apply.
    pub fn resync(&mut self) {
        self.unread = true;
    }

    fn unfile(&mut self, key: &RouteKey) {
        let Some(link) = self.wanted.get(key).and_then(|route| route.target.link()) else {
            return;
        };
        if let Some(keys) = self.by_link.get_mut(link) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_link.remove(link);
            }
        }
    }

    /// Desires of the kernel what is wanted, if its link is there.
    fn resolve(&mut self, key: &RouteKey) {
        let installed = self.wanted.get(key).and_then(|route| match route.target.link() {
            None => Some(Installed::from_route(route, None)),
            Some(name) => {
                let link = self.links.get(name).filter(|link| link.up)?;
                Some(Installed::from_route(route, Some(link.index)))
            }
        });
        match installed {
            Some(installed) => drop(self.tracker.set_desired(*key, installed)),
            None => drop(self.tracker.remove_desired(key)),
        }
    }

    fn resolve_link(&mut self, name: &str) {
        let keys: Vec<RouteKey> = self.by_link.get(name).into_iter().flatten().copied().collect();
        for key in &keys {
            self.resolve(key);
        }
    }

    fn observe(&mut self, key: RouteKey, route: Installed) {
        self.forget(&key);
        if let Some(link) = route.link {
            self.through.entry(link).or_default().insert(key);
        }
        if let Some(source) = route.source {
            self.sourced.entry(source).or_default().insert(key);
        }
        self.tracker.observe(key, route);
    }

    fn forget(&mut self, key: &RouteKey) {
        let Some(route) = self.tracker.forget(key) else {
            return;
        };
        if let Some(link) = route.link {
            drop_from(&mut self.through, &link, key);
        }
        if let Some(source) = route.source {
            drop_from(&mut self.sourced, &source, key);
        }
    }

    /// Follows the kernel. Tells whether an apply has something to do now.
    pub fn on_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Overrun => self.unread = true,
            Event::Link(link) => self.on_link(&link.name, link.index, link.up),
            Event::LinkGone(link) => self.on_link_gone(link.index),
            Event::AddressGone(address) => {
                for key in self.sourced.remove(&address.addr.addr).unwrap_or_default() {
                    self.forget(&key);
                }
                if address.addr.addr.is_ipv4() {
                    self.forget_v4_through(address.link);
                }
            }
            Event::Route { route, replaced } => self.on_route(route, *replaced),
            Event::RouteGone(message) => self.on_route_gone(message),
            _ => {}
        }
        self.is_pending()
    }

    fn on_link(&mut self, name: &str, index: u32, up: bool) {
        let before = self.links.get(name).copied();
        if self.names.get(&index).is_some_and(|old| old != name)
            || before.is_some_and(|old| old.index != index)
        {
            // Renamed, or made anew under the same name.
            self.on_link_gone(index);
            self.on_link_gone(before.map_or(index, |old| old.index));
        }
        if !up {
            self.forget_through(index);
        }
        self.names.insert(index, name.to_owned());
        self.links.insert(name.to_owned(), LinkState { index, up });
        if before.is_none_or(|old| old.index != index || old.up != up) {
            self.resolve_link(name);
        }
    }

    fn on_link_gone(&mut self, index: u32) {
        self.forget_through(index);
        if let Some(name) = self.names.remove(&index)
            && self.links.get(&name).is_some_and(|link| link.index == index)
        {
            self.links.remove(&name);
            self.resolve_link(&name);
        }
    }

    /// The kernel drops routes through a link that goes down without telling of each.
    fn forget_through(&mut self, index: u32) {
        for key in self.through.remove(&index).unwrap_or_default() {
            self.forget(&key);
        }
    }

    /// With the last IPv4 address of a link go all IPv4 routes through it, untold. Whether it was the last one is not
    /// known here: a route that is still there is written once too often.
    fn forget_v4_through(&mut self, index: u32) {
        let through = self.through.get(&index).into_iter().flatten();
        let keys: Vec<RouteKey> = through
            .filter(|k| k.dst.family() == Family::V4)
            .copied()
            .collect();
        for key in &keys {
            self.forget(key);
        }
    }

    /// A key with several routes is an accident that events alone do not tell the whole truth about: which
    /// one was replaced, which one comes first. Then everything is read again.
    fn on_route(&mut self, message: &RouteMessage, replaced: bool) {
        let Some((key, route)) = codec::read(message) else {
            return;
        };
        let known = self.tracker.observed(&key);
        if !self.is_ours(&key, &route) {
            self.unread |= known.is_some() || self.wanted.contains_key(&key);
        } else if replaced || known.is_none_or(|known| *known == route) {
            self.observe(key, route);
        } else {
            self.unread = true;
        }
    }

    fn on_route_gone(&mut self, message: &RouteMessage) {
        let Some((key, route)) = codec::read(message).filter(|(key, route)| self.is_ours(key, route)) else {
            return;
        };
        // One that is desired is better written once too often.
        if self.tracker.observed(&key) == Some(&route) || self.tracker.desired(&key).is_some() {
            self.forget(&key);
        }
    }

    fn is_ours(&self, key: &RouteKey, route: &Installed) -> bool {
        let link = route
            .link
            .and_then(|index| self.names.get(&index))
            .map(String::as_str);
        // One that is exactly as wanted is ours even if no rule says so.
        self.ownership.owns(key.table, route.protocol, link) || self.tracker.desired(key) == Some(route)
    }
}

fn drop_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<RouteKey>>, at: &K, key: &RouteKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
