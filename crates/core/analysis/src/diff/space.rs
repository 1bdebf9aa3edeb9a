//! The address space cut into classes: addresses of one class answer every question of both states alike, and belong to
//! endpoints with the same programs, or to nobody.

mod lines;

use std::collections::BTreeSet;
use std::net::IpAddr;

use caracal_desired::{Desired, IpSetMember};
use caracal_net::{Cidr, Family, IntervalSet, Proto};

use self::lines::Lines;
use super::evaluate::Answer;
use super::program::{Library, ProgramId, Question, QuestionId};
use super::world::Endpoint;
use crate::map::Map;

/// The number of a class; those of one family stand together.
pub(crate) type ClassId = u32;

/// Who the addresses of a class belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Members {
    /// Endpoints, by number.
    Endpoints(Vec<u32>),
    /// Nobody: ranges, first and last inside, in order.
    Outside(Vec<(IpAddr, IpAddr)>),
}

/// Addresses that nothing tells apart.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) family: Family,
    pub(crate) members: Members,
    /// By direction (ingress, egress), by state; nobody's addresses have none.
    pub(crate) programs: Option<[[ProgramId; 2]; 2]>,
    /// One address for all, by state.
    example: [IpAddr; 2],
}

/// What tells classes apart.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    family: Family,
    programs: Option<[[ProgramId; 2]; 2]>,
    answers: [u128; 2],
}

/// Answers other than no, by class: 1 is yes, the others are lists of ports.
type Answers = Vec<(ClassId, u32)>;

/// All classes with the answers to all questions.
pub(crate) struct Space {
    pub(crate) classes: Vec<Class>,
    /// By state, by question.
    answers: [Vec<Answers>; 2],
    missing: [Vec<bool>; 2],
    lists: Vec<Vec<(Proto, u16)>>,
    /// Ranges that hold nothing but addresses of endpoints: for people, ranges beside them are one.
    pub(crate) occupied: Vec<(IpAddr, IpAddr)>,
}

/// A number that stands for a question with its answer; the exclusive or of several stands for all of them.
pub(crate) fn mark(question: QuestionId, answer: u32) -> u128 {
    let mix = |mut x: u64| {
        x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    let seed = (u64::from(question) << 32) | u64::from(answer);
    let high = mix(seed);
    (u128::from(high) << 64) | u128::from(mix(high ^ seed.rotate_left(17)))
}

/// What a question says of addresses in one state.
#[derive(Default)]
struct Extent {
    ranges: IntervalSet<IpAddr>,
    /// Single addresses, in order.
    singles: Vec<IpAddr>,
    /// Addresses with the numbers of their lists of ports.
    ports: Vec<(IpAddr, u32)>,
}

impl Space {
    pub(crate) fn new(endpoints: &[Endpoint], desired: &[Desired; 2], library: &Library) -> Self {
        let mut space = Self {
            classes: Vec::new(),
            answers: [Vec::new(), Vec::new()],
            missing: [Vec::new(), Vec::new()],
            // 0 is no and 1 is yes.
            lists: vec![Vec::new(), Vec::new()],
            occupied: Vec::new(),
        };
        let extents = [0, 1].map(|s| space.extents(&desired[s], s, library));
        let own: BTreeSet<IpAddr> = endpoints
            .iter()
            .flat_map(|e| e.seen.iter().flatten())
            .flat_map(|s| s.addresses.iter().copied())
            .collect();
        let lines = [0, 1].map(|s| Lines::new(&extents[s], &own));
        let mut made: Map<Key, ClassId> = Map::default();
        for family in Family::BOTH {
            space.endpoints(endpoints, family, &lines, &mut made);
            space.outside(family, &lines, &own, &mut made);
        }
        space.answers = [0, 1].map(|s| space.answers_of(&extents[s], s));
        space
    }

    fn extents(&mut self, desired: &Desired, state: usize, library: &Library) -> Vec<Extent> {
        let mut known: Map<Vec<(Proto, u16)>, u32> = Map::default();
        // Lists of the other state keep their numbers, so that equal answers have equal numbers.
        for (n, list) in self.lists.iter().enumerate().skip(2) {
            known.insert(list.clone(), u32::try_from(n).unwrap_or(u32::MAX));
        }
        let mut out = Vec::with_capacity(library.questions.len());
        for question in &library.questions {
            let mut extent = Extent::default();
            let mut missing = false;
            match question {
                Question::Nets(nets) => nets.iter().for_each(|c| extent.add(*c)),
                Question::Set(id) => match desired.ip_sets.get(id) {
                    None => missing = true,
                    Some(set) => {
                        let mut ports: Map<IpAddr, Vec<(Proto, u16)>> = Map::default();
                        for member in &set.members {
                            match member {
                                IpSetMember::Net(cidr) => extent.add(*cidr),
                                IpSetMember::IpPort(a, proto, port) => {
                                    ports.entry(*a).or_default().push((*proto, *port));
                                }
                            }
                        }
                        for (address, mut list) in ports {
                            list.sort_unstable();
                            let next = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
                            let number = *known.entry(list).or_insert_with_key(|list| {
                                self.lists.push(list.clone());
                                next
                            });
                            extent.ports.push((address, number));
                        }
                        extent.ports.sort_unstable();
                    }
                },
            }
            extent.singles.sort_unstable();
            extent.singles.dedup();
            self.missing[state].push(missing);
            out.push(extent);
        }
        out
    }

    fn class(&mut self, key: Key, made: &mut Map<Key, ClassId>, example: [IpAddr; 2]) -> &mut Members {
        let next = ClassId::try_from(self.classes.len()).unwrap_or(ClassId::MAX);
        let (family, programs) = (key.family, key.programs);
        let id = *made.entry(key).or_insert(next);
        if id == next {
            let members = match programs {
                Some(_) => Members::Endpoints(Vec::new()),
                None => Members::Outside(Vec::new()),
            };
            self.classes.push(Class {
                family,
                members,
                programs,
                example,
            });
        }
        &mut self.classes[id as usize].members
    }

    /// Endpoints that are in both states and have an address of the family in both.
    fn endpoints(
        &mut self,
        all: &[Endpoint],
        family: Family,
        lines: &[Lines; 2],
        made: &mut Map<Key, ClassId>,
    ) {
        let f = usize::from(family == Family::V6);
        for (n, endpoint) in (0u32..).zip(all) {
            let [Some(old), Some(new)] = &endpoint.seen else {
                continue;
            };
            let of_family = |list: &[IpAddr]| -> Vec<IpAddr> {
                list.iter()
                    .copied()
                    .filter(|a| Family::of(*a) == family)
                    .collect()
            };
            let (old_list, new_list) = (of_family(&old.addresses), of_family(&new.addresses));
            // Addresses that both states have stay what they are; of the others the first stand for each other.
            let mut pairs: Vec<[IpAddr; 2]> = old_list
                .iter()
                .filter(|a| new_list.contains(a))
                .map(|a| [*a, *a])
                .collect();
            let gone = old_list.iter().filter(|a| !new_list.contains(a));
            let come = new_list.iter().filter(|a| !old_list.contains(a));
            pairs.extend(gone.zip(come).map(|(a, b)| [*a, *b]));
            for example in pairs {
                let key = Key {
                    family,
                    programs: Some([0, 1].map(|d| [old.programs[d][f], new.programs[d][f]])),
                    answers: [lines[0].at(example[0]), lines[1].at(example[1])],
                };
                if let Members::Endpoints(members) = self.class(key, made, example)
                    && members.last() != Some(&n)
                {
                    members.push(n);
                }
            }
        }
    }

    fn outside(
        &mut self,
        family: Family,
        lines: &[Lines; 2],
        own: &BTreeSet<IpAddr>,
        made: &mut Map<Key, ClassId>,
    ) {
        let mut starts: Vec<IpAddr> = lines.iter().flat_map(|l| l.starts(family)).collect();
        starts.sort_unstable();
        starts.dedup();
        for (n, first) in starts.iter().enumerate() {
            let last = match starts.get(n + 1) {
                Some(next) => lines::before(*next),
                None => lines::last(family),
            };
            let Some(example) = free_address(*first, last, own) else {
                self.occupied.push((*first, last));
                continue;
            };
            let key = Key {
                family,
                programs: None,
                answers: [0, 1].map(|s| lines[s].at(example)),
            };
            if let Members::Outside(ranges) = self.class(key, made, [example; 2]) {
                ranges.push((*first, last));
            }
        }
    }

    fn answers_of(&self, extents: &[Extent], state: usize) -> Vec<Answers> {
        let mut by_address: Vec<(IpAddr, ClassId)> = (0..)
            .zip(&self.classes)
            .map(|(n, c)| (c.example[state], n))
            .collect();
        by_address.sort_unstable();
        let from = |a: IpAddr| by_address.partition_point(|(b, _)| *b < a);
        let answers = extents.iter().map(|extent| {
            let mut found: Answers = Vec::new();
            for (first, last) in extent.ranges.iter() {
                let inside = by_address[from(first)..].iter().take_while(|(a, _)| *a <= last);
                found.extend(inside.map(|(_, class)| (*class, 1)));
            }
            for (address, number) in extent.points() {
                let same = by_address[from(address)..]
                    .iter()
                    .take_while(|(a, _)| *a == address);
                found.extend(same.map(|(_, class)| (*class, number)));
            }
            found.sort_unstable();
            found
        });
        answers.collect()
    }

    /// The classes where the answer is not no.
    pub(crate) fn hits(&self, state: usize, question: QuestionId) -> &[(ClassId, u32)] {
        &self.answers[state][question as usize]
    }

    pub(crate) fn number(&self, state: usize, question: QuestionId, class: ClassId) -> u32 {
        let hits = self.hits(state, question);
        hits.binary_search_by_key(&class, |(c, _)| *c)
            .map_or(0, |at| hits[at].1)
    }

    pub(crate) fn answer(&self, state: usize, question: QuestionId, class: ClassId) -> Answer<'_> {
        if self.missing[state][question as usize] {
            return Answer::NoSuchSet;
        }
        match self.number(state, question, class) {
            0 => Answer::No,
            1 => Answer::Yes,
            n => Answer::At(&self.lists[n as usize]),
        }
    }

    /// What tells a state in which there is no such set from one in which it is empty.
    pub(crate) fn is_missing(&self, state: usize, question: QuestionId) -> bool {
        self.missing[state][question as usize]
    }
}

impl Extent {
    fn add(&mut self, cidr: Cidr) {
        if cidr.is_host() {
            self.singles.push(cidr.addr());
        } else {
            let range = cidr.range();
            self.ranges.insert(range.first, range.last);
        }
    }

    /// Single addresses, with their answers, where no range says yes already.
    fn points(&self) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
        let singles = self.singles.iter().map(|a| (*a, 1));
        let ports = self.ports.iter().copied();
        let ports = ports.filter(|(a, _)| self.singles.binary_search(a).is_err());
        singles
            .chain(ports)
            .filter(|(a, _)| self.ranges.is_empty() || !self.ranges.contains(*a))
    }
}

/// An address of the range that is no endpoint's.
fn free_address(first: IpAddr, last: IpAddr, own: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let mut at = first;
    for used in own.range(first..=last) {
        if *used != at {
            break;
        }
        if at == last {
            return None;
        }
        at = lines::after(at)?;
    }
    Some(at)
}
