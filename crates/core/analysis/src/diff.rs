//! What a change of the objects changes: which packets were let through and are not any more, and the other way round.
//!
//! Not packets are compared but classes: addresses that no rule of either state tells apart, and ports between the
//! bounds that rules name (`space`, `program`, `region`). The result is exact: it equals the comparison packet by packet.
//!
//! - A packet of a workload to a workload is let through by the egress of the one and the ingress of the other.
//! - Hosts are their host endpoints; traffic is judged as between nodes, behind destination NAT.
//! - A workload that only one of the states has is named and not judged. A host without host endpoint is open.

mod actors;
mod describe;
mod evaluate;
mod groups;
mod lockout;
mod program;
mod report;
mod space;
mod world;

use caracal_net::Family;

use self::actors::{Actor, Both, Cast, Group, Role, Row};
use self::program::Library;
use self::space::{ClassId, Members, Space};
use self::world::Endpoint;
use crate::map::Map;
use crate::region::{Region, RegionId, Regions};
use crate::state::State;

pub use report::{Change, Diff, Headers, Party, Subject};

pub(crate) use world::{desired_of, failsafe, host_addresses};

/// At most this much memory is used for the groups of peers of one block of destinations.
const BLOCK: usize = 64 << 20;
/// More pairs of classes than this that change are not told one by one.
const MOST_PAIRS: usize = 16 << 20;

/// A pair of classes whose verdicts change, with what is opened and closed between them.
pub(crate) struct Pair {
    pub(crate) from: ClassId,
    pub(crate) to: ClassId,
    pub(crate) opened: RegionId,
    pub(crate) closed: RegionId,
}

/// Everything that is known once two states have been compared.
pub(crate) struct Comparison {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) space: Space,
    pub(crate) regions: Regions,
    pub(crate) pairs: Vec<Pair>,
    /// Whether there were too many pairs to remember.
    pub(crate) cut: bool,
    /// Keys and reasons of objects that cannot be used, old and new.
    pub(crate) invalid: [Vec<String>; 2],
    /// Names of host endpoints whose forward policies differ.
    pub(crate) forward: Vec<String>,
}

/// Compares two states.
#[must_use]
pub fn diff(old: &State, new: &State) -> Diff {
    report::report(&compare(old, new))
}

pub(crate) fn compare(old: &State, new: &State) -> Comparison {
    let desired = world::desired(old, new);
    let mut library = Library::default();
    let endpoints = world::endpoints([old, new], &desired, &mut library);
    let space = Space::new(&endpoints, &desired, &library);
    let mut search = Search {
        library: &library,
        space: &space,
        regions: Regions::default(),
        pairs: Vec::new(),
        known: Map::default(),
        cut: false,
    };
    for family in Family::BOTH {
        search.family(family);
    }
    let Search {
        regions, pairs, cut, ..
    } = search;
    let invalid = [0, 1].map(|s| {
        let of = desired[s].invalid.iter();
        of.map(|(key, why)| format!("{key}: {why}")).collect()
    });
    let forward = |name: &str, s: usize| {
        desired[s]
            .host_endpoints
            .get(name)
            .map(|h| world::forward_rules(h, &desired[s]))
    };
    let hosts = endpoints.iter().filter(|e| e.is_host);
    let differs =
        |e: &&Endpoint| forward(&e.name, 0).unwrap_or_default() != forward(&e.name, 1).unwrap_or_default();
    let forward = hosts.filter(differs).map(|e| e.name.clone()).collect();
    Comparison {
        endpoints,
        space,
        regions,
        pairs,
        cut,
        invalid,
        forward,
    }
}

struct Search<'a> {
    library: &'a Library,
    space: &'a Space,
    regions: Regions,
    pairs: Vec<Pair>,
    /// What is opened and closed, by what both sides let through.
    known: Map<[Both; 2], Changed>,
    cut: bool,
}

impl Search<'_> {
    fn family(&mut self, family: Family) {
        let of_family = |c: &space::Class| c.family == family;
        let Some(first) = self.space.classes.iter().position(of_family) else {
            return;
        };
        let count = self.space.classes.iter().filter(|c| of_family(c)).count();
        let bounds = (number(first), number(first + count));
        let everything = self.regions.id(Region::all(family));
        let sources = Cast::new(Role::Source, self.space, self.library);
        let destinations = Cast::new(Role::Destination, self.space, self.library);
        // Sources that ask alike come one after another, so that a row is made once for all of them.
        let mut from: Vec<ClassId> = (bounds.0..bounds.1).collect();
        from.sort_by_key(|c| sources.of[*c as usize]);
        let mut receivers: Vec<Option<u32>> = (bounds.0..bounds.1)
            .map(|c| destinations.of[c as usize])
            .collect();
        receivers.sort_unstable();
        receivers.dedup();
        let block = (BLOCK / Actor::row_size(count).max(1)).max(1);
        for receivers in receivers.chunks(block) {
            let mut block = Block {
                bounds,
                everything,
                sources: &sources,
                destinations: &destinations,
                rows: destinations.actors.iter().map(|_| None).collect(),
                to: Vec::new(),
            };
            for actor in receivers.iter().flatten().map(|a| *a as usize) {
                let row = destinations.actors[actor].row(self.space, self.library, bounds.0, bounds.1);
                block.rows[actor] = Some(row);
            }
            let known: Map<Option<u32>, ()> = receivers.iter().map(|r| (*r, ())).collect();
            let inside = |c: &ClassId| known.contains_key(&destinations.of[*c as usize]);
            block.to = (bounds.0..bounds.1).filter(inside).collect();
            self.block(&block, &from);
        }
    }

    fn block(&mut self, block: &Block<'_>, from: &[ClassId]) {
        let unsteady = |c: &ClassId| block.row_of(*c).is_some_and(|r| !r.steady);
        let unsteady: Vec<ClassId> = block.to.iter().copied().filter(unsteady).collect();
        let actor = |c: ClassId| block.sources.of[c as usize];
        let (first, end) = block.bounds;
        let mut answers = Answers::default();
        for alike in from.chunk_by(|a, b| actor(*a) == actor(*b)) {
            let asking = actor(alike[0]).map(|a| &block.sources.actors[a as usize]);
            let asking = asking.map(|a| (a, a.row(self.space, self.library, first, end)));
            let to = if asking.as_ref().is_none_or(|(_, row)| row.steady) {
                &unsteady
            } else {
                &block.to
            };
            for destination in to {
                let out = asking.as_ref();
                let out = out.map(|(actor, row)| (*actor, row.group((destination - first) as usize)));
                self.destination(block, out, alike, *destination, &mut answers);
            }
        }
    }

    /// Sources that ask alike to one destination: judged once for all that it does not tell apart.
    fn destination(
        &mut self,
        block: &Block<'_>,
        out: Option<(&Actor, &Group)>,
        alike: &[ClassId],
        destination: ClassId,
        answers: &mut Answers,
    ) {
        let into = block.row_of(destination);
        if out.is_none_or(|(_, g)| g.steady) && into.is_none_or(|r| r.steady) {
            return;
        }
        let (first, _) = block.bounds;
        let one = is_one(&self.space.classes[destination as usize].members);
        answers.forget(into.map_or(1, |r| r.groups.len()));
        for source in alike {
            let place = into.map_or(0, |r| r.place((source - first) as usize));
            let changed = answers.of(place, || {
                self.change(block, out, destination, into.map(|r| &r.groups[place]))
            });
            let Some((opened, closed)) = changed else { continue };
            // Nobody is a pair with oneself.
            if *source == destination && one {
                continue;
            }
            if self.pairs.len() >= MOST_PAIRS {
                self.cut = true;
                return;
            }
            self.pairs.push(Pair {
                from: *source,
                to: destination,
                opened,
                closed,
            });
        }
    }

    /// What is opened and closed between those of a group of destinations and those of a group of sources.
    fn change(
        &mut self,
        block: &Block<'_>,
        out: Option<(&Actor, &Group)>,
        destination: ClassId,
        into: Option<&Group>,
    ) -> Changed {
        if out.is_none_or(|(_, g)| g.steady) && into.is_none_or(|g| g.steady) {
            return None;
        }
        let (space, library) = (self.space, self.library);
        let all = [block.everything; 2];
        let out = match out {
            Some((actor, group)) => actor.regions(group, space, library, &mut self.regions),
            None => all,
        };
        let into = match (into, block.destinations.of[destination as usize]) {
            (Some(group), Some(a)) => {
                block.destinations.actors[a as usize].regions(group, space, library, &mut self.regions)
            }
            _ => all,
        };
        if out[0] == out[1] && into[0] == into[1] {
            return None;
        }
        let regions = &mut self.regions;
        *self.known.entry([out, into]).or_insert_with(|| {
            let [before, now] = [0, 1].map(|s| regions.both(out[s], into[s]));
            (before != now).then(|| (regions.without(now, before), regions.without(before, now)))
        })
    }
}

/// What is opened and closed, if anything is.
type Changed = Option<(RegionId, RegionId)>;

/// What is known of a destination's groups of sources.
#[derive(Default)]
struct Answers {
    /// By group: when it was found out, and what.
    known: Vec<(u64, Changed)>,
    now: u64,
}

impl Answers {
    /// Nothing is known any more; there are so many groups.
    fn forget(&mut self, groups: usize) {
        self.now += 1;
        if self.known.len() < groups {
            self.known.resize(groups, (0, None));
        }
    }

    fn of(&mut self, group: usize, find: impl FnOnce() -> Changed) -> Changed {
        let known = &mut self.known[group];
        if known.0 != self.now {
            *known = (self.now, find());
        }
        known.1
    }
}

/// Destinations whose rows are in memory at the same time.
struct Block<'a> {
    bounds: (ClassId, ClassId),
    everything: RegionId,
    sources: &'a Cast,
    destinations: &'a Cast,
    /// By actor.
    rows: Vec<Option<Row>>,
    to: Vec<ClassId>,
}

impl Block<'_> {
    fn row_of(&self, class: ClassId) -> Option<&Row> {
        self.rows[self.destinations.of[class as usize]? as usize].as_ref()
    }
}

fn is_one(members: &Members) -> bool {
    matches!(members, Members::Endpoints(list) if list.len() == 1)
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 classes fit in memory")
}

#[cfg(test)]
mod tests;
