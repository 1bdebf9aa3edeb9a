//! Endpoints that ask alike: the same programs, and the same answers about themselves.

use std::cell::Cell;

use super::evaluate;
use super::program::{Library, ProgramId, QuestionId};
use super::space::{ClassId, Space, mark};
use crate::map::Map;
use crate::region::{RegionId, Regions};

/// The sides of a packet that the endpoint, and its peer, are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its egress is asked.
    Source,
    /// Its ingress is asked.
    Destination,
}

/// Programs and answers about oneself.
pub(crate) struct Actor {
    role: Role,
    /// Old and new.
    programs: [ProgramId; 2],
    own: ClassId,
    /// Whether the programs, and all they ask about the actor itself, are the same in both states.
    steady: bool,
}

/// What is let through in the old state and in the new one.
pub(crate) type Both = [RegionId; 2];

/// Peers that an actor does not tell apart.
pub(crate) struct Group {
    peer: ClassId,
    /// Nothing differs between the states.
    pub(crate) steady: bool,
    regions: Cell<Option<Both>>,
}

/// An actor's groups of peers.
pub(crate) struct Row {
    pub(crate) groups: Vec<Group>,
    /// By class, less the first class of the family.
    of: Vec<u32>,
    /// Whether all groups are steady.
    pub(crate) steady: bool,
}

impl Row {
    pub(crate) fn group(&self, class: usize) -> &Group {
        &self.groups[self.place(class)]
    }

    /// The number of a class's group.
    pub(crate) fn place(&self, class: usize) -> usize {
        self.of[class] as usize
    }
}

impl Actor {
    fn own_and_peer(library: &Library, role: Role, program: ProgramId) -> (&[QuestionId], &[QuestionId]) {
        let program = &library.programs[program as usize];
        match role {
            Role::Source => (&program.about_src, &program.about_dst),
            Role::Destination => (&program.about_dst, &program.about_src),
        }
    }

    /// How much a row takes in memory.
    pub(crate) fn row_size(classes: usize) -> usize {
        classes * size_of::<u32>()
    }

    /// Sorts the classes from `first` to before `end` into groups.
    pub(crate) fn row(&self, space: &Space, library: &Library, first: ClassId, end: ClassId) -> Row {
        let marks = [0, 1].map(|s| {
            let mut marks = vec![0u128; (end - first) as usize];
            let (_, peer) = Self::own_and_peer(library, self.role, self.programs[s]);
            for question in peer {
                let hits = space.hits(s, *question);
                let begin = hits.partition_point(|(c, _)| *c < first);
                for (class, number) in hits[begin..].iter().take_while(|(c, _)| *c < end) {
                    marks[(class - first) as usize] ^= mark(*question, *number);
                }
            }
            marks
        });
        let mut known: Map<[u128; 2], u32> = Map::default();
        let mut groups = Vec::new();
        let mut of = Vec::with_capacity(marks[0].len());
        for (n, (old, new)) in (first..).zip(marks[0].iter().zip(&marks[1])) {
            let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let group = *known.entry([*old, *new]).or_insert(next);
            if group == next {
                groups.push(Group {
                    peer: n,
                    steady: self.steady && old == new,
                    regions: Cell::new(None),
                });
            }
            of.push(group);
        }
        Row {
            steady: groups.iter().all(|g| g.steady),
            groups,
            of,
        }
    }

    /// What the actor lets through with the peers of a group.
    pub(crate) fn regions(&self, group: &Group, space: &Space, library: &Library, all: &mut Regions) -> Both {
        if let Some(known) = group.regions.get() {
            return known;
        }
        let family = space.classes[group.peer as usize].family;
        let (src, dst) = match self.role {
            Role::Source => (self.own, group.peer),
            Role::Destination => (group.peer, self.own),
        };
        let mut of = |s: usize| {
            let ops = &library.programs[self.programs[s] as usize].ops;
            let (src, dst) = (|q| space.answer(s, q, src), |q| space.answer(s, q, dst));
            all.id(evaluate::region(ops, &library.conds, family, src, dst))
        };
        let old = of(0);
        let both = [old, if group.steady { old } else { of(1) }];
        group.regions.set(Some(both));
        both
    }
}

/// The actors of one role, and which one each class is.
pub(crate) struct Cast {
    pub(crate) actors: Vec<Actor>,
    /// By class; nobody's addresses have none.
    pub(crate) of: Vec<Option<u32>>,
}

impl Cast {
    pub(crate) fn new(role: Role, space: &Space, library: &Library) -> Self {
        let mut known: Map<([ProgramId; 2], [u128; 2]), u32> = Map::default();
        let mut cast = Self {
            actors: Vec::new(),
            of: Vec::with_capacity(space.classes.len()),
        };
        for (own, class) in (0..).zip(&space.classes) {
            let Some(programs) = class.programs else {
                cast.of.push(None);
                continue;
            };
            let programs = programs[usize::from(role == Role::Source)];
            let about = [0, 1].map(|s| {
                let (questions, _) = Actor::own_and_peer(library, role, programs[s]);
                let marks = questions.iter().map(|q| match space.number(s, *q, own) {
                    0 => 0,
                    number => mark(*q, number),
                });
                marks.fold(0, |a, b| a ^ b)
            });
            let next = u32::try_from(cast.actors.len()).unwrap_or(u32::MAX);
            let actor = *known.entry((programs, about)).or_insert(next);
            if actor == next {
                let program = &library.programs[programs[0] as usize];
                let questions = program.about_src.iter().chain(&program.about_dst);
                let mut sets = questions.map(|q| space.is_missing(0, *q) == space.is_missing(1, *q));
                cast.actors.push(Actor {
                    role,
                    programs,
                    own,
                    steady: programs[0] == programs[1] && about[0] == about[1] && sets.all(|same| same),
                });
            }
            cast.of.push(Some(actor));
        }
        cast
    }
}
