//! The replica of the IP sets, and what of them the kernel holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_desired::{IpSet, IpSetKind, IpSetMember};
use caracal_ids::IpSetId;
use caracal_net::{Family, PerFamily};

use crate::{
    Map,
    ir::{CidrUnion, Element, Field, Key, KeyType, SetDef, SetName, Span},
    names,
};

/// How the kernel keeps the members of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Single addresses.
    Addresses,
    /// At least one prefix: disjoint intervals.
    Nets,
    /// Address, protocol and port.
    Ports,
}

impl Shape {
    pub(crate) fn def(self, id: &IpSetId, about: &str) -> SetDef {
        let def = match self {
            Self::Addresses => SetDef::new([KeyType::Addr]),
            Self::Nets => SetDef::new([KeyType::Addr]).intervals(),
            Self::Ports => SetDef::new([KeyType::Addr, KeyType::Proto, KeyType::Port]),
        };
        def.commented(format!("IP set {id}")).about(about)
    }

    /// What of a packet's side is looked up.
    pub(crate) fn fields(self, addr: Field, port: Field) -> Vec<Field> {
        match self {
            Self::Addresses | Self::Nets => vec![addr],
            Self::Ports => vec![addr, Field::Proto, port],
        }
    }
}

/// Elements that came or went since the last flush; one that did both is in neither.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<Key, bool>);

impl Pending {
    fn note(&mut self, key: Key, added: bool) {
        if let std::collections::btree_map::Entry::Occupied(entry) = self.0.entry(key.clone()) {
            if *entry.get() != added {
                entry.remove();
            }
        } else {
            self.0.insert(key, added);
        }
    }

    /// Those that went and those that came.
    pub(crate) fn split(self) -> (Vec<Key>, Vec<(Key, Element)>) {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for (key, added) in self.0 {
            if added {
                new.push((key, Element::plain()));
            } else {
                gone.push(key);
            }
        }
        (gone, new)
    }
}

#[derive(Debug, Default)]
struct Side {
    // members that are not single addresses
    prefixes: usize,
    union: CidrUnion,
    // while the kernel has the set: what it lacks; none when it must be written anew
    pending: Option<Pending>,
}

/// A set's members and their kernel form in both families.
#[derive(Debug)]
pub(crate) struct Replica {
    kind: IpSetKind,
    about: Box<str>,
    members: BTreeSet<IpSetMember>,
    sides: PerFamily<Side>,
}

fn key(member: &IpSetMember) -> Key {
    match *member {
        IpSetMember::Net(c) => Key::One(Span::from(c)),
        IpSetMember::IpPort(a, p, n) => Key::of(&[Span::addr(a), Span::Proto(p), Span::Port(n, n)]),
    }
}

impl Replica {
    fn new(kind: IpSetKind, about: Box<str>) -> Self {
        Self {
            kind,
            about,
            members: BTreeSet::new(),
            sides: PerFamily::default(),
        }
    }

    /// A port set's members need a protocol that has ports: the kernel would read something else as the port.
    fn takes(&self, member: &IpSetMember) -> bool {
        match (self.kind, member) {
            (IpSetKind::Net, IpSetMember::Net(_)) => true,
            (IpSetKind::IpPort, IpSetMember::IpPort(_, proto, _)) => proto.has_ports(),
            _ => false,
        }
    }

    pub(crate) fn shape(&self, family: Family) -> Shape {
        match self.kind {
            IpSetKind::IpPort => Shape::Ports,
            IpSetKind::Net if self.sides.get(family).prefixes == 0 => Shape::Addresses,
            IpSetKind::Net => Shape::Nets,
        }
    }

    fn of_family(&self, family: Family) -> impl Iterator<Item = &IpSetMember> {
        self.members.iter().filter(move |m| m.family() == family)
    }

    fn insert(&mut self, member: IpSetMember) {
        if !self.takes(&member) || !self.members.insert(member) {
            return;
        }
        let family = member.family();
        if let IpSetMember::Net(c) = member
            && (!c.is_host() || self.shape(family) == Shape::Nets)
        {
            if self.shape(family) == Shape::Addresses {
                let mut union = CidrUnion::default();
                self.of_family(family).filter_map(net).for_each(|c| {
                    union.insert(c);
                });
                let side = self.sides.get_mut(family);
                side.union = union;
                side.pending = None;
                side.prefixes = 1;
                return;
            }
            let side = self.sides.get_mut(family);
            side.prefixes += usize::from(!c.is_host());
            let change = side.union.insert(c);
            side.note(change.removed, false);
            side.note(change.added, true);
        } else if let Some(pending) = &mut self.sides.get_mut(family).pending {
            pending.note(key(&member), true);
        }
    }

    fn remove(&mut self, member: &IpSetMember) {
        if !self.members.remove(member) {
            return;
        }
        let family = member.family();
        let shape = self.shape(family);
        let side = self.sides.get_mut(family);
        match member {
            IpSetMember::Net(c) if shape == Shape::Nets => {
                side.prefixes -= usize::from(!c.is_host());
                if side.prefixes == 0 {
                    side.union = CidrUnion::default();
                    side.pending = None;
                    return;
                }
                let change = side.union.remove(*c);
                side.note(change.removed, false);
                side.note(change.added, true);
            }
            _ => {
                if let Some(pending) = &mut side.pending {
                    pending.note(key(member), false);
                }
            }
        }
    }

    /// All elements of a family, in the order of their keys.
    pub(crate) fn elements(&self, family: Family) -> Vec<(Key, Element)> {
        let plain = |k| (k, Element::plain());
        match self.shape(family) {
            Shape::Nets => {
                let spans = self.sides.get(family).union.spans();
                spans.map(|s| plain(Key::One(s))).collect()
            }
            Shape::Addresses | Shape::Ports => self.of_family(family).map(|m| plain(key(m))).collect(),
        }
    }

    /// What it is of, as far as a listing has room for it.
    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    /// What the members are.
    pub(crate) fn kind(&self) -> IpSetKind {
        self.kind
    }

    /// The members that hold one of two addresses.
    pub(crate) fn holding(&self, either: [IpAddr; 2]) -> impl Iterator<Item = IpSetMember> {
        let holds = move |m: &&IpSetMember| match m {
            IpSetMember::Net(c) => either.iter().any(|a| c.contains(*a)),
            IpSetMember::IpPort(a, ..) => either.contains(a),
        };
        self.members.iter().filter(holds).copied()
    }

    /// Nobody needs the kernel's set any more.
    pub(crate) fn forgotten(&mut self, family: Family) {
        self.sides.get_mut(family).pending = None;
    }

    /// What the kernel lacks; none when the set must be written whole. From now on only what changes counts.
    pub(crate) fn take_pending(&mut self, family: Family) -> Option<Pending> {
        self.sides.get_mut(family).pending.replace(Pending::default())
    }
}

impl Side {
    fn note(&mut self, spans: Vec<Span>, added: bool) {
        if let Some(pending) = &mut self.pending {
            spans.into_iter().for_each(|s| pending.note(Key::One(s), added));
        }
    }
}

fn net(member: &IpSetMember) -> Option<caracal_net::Cidr> {
    match member {
        IpSetMember::Net(c) => Some(*c),
        IpSetMember::IpPort(..) => None,
    }
}

/// A text as a comment in a listing that `nft` reads again: without quotes, and not longer than it takes.
fn listed(text: &str) -> Box<str> {
    const MAX: usize = 127;
    const CUT: &str = "…";
    let mut text = text.replace('"', "'");
    if text.len() > MAX {
        text.truncate(text.floor_char_boundary(MAX - CUT.len()));
        text.push_str(CUT);
    }
    text.into()
}

/// All sets.
#[derive(Debug, Default)]
pub(crate) struct IpSets {
    sets: Map<IpSetId, Replica>,
}

impl IpSets {
    /// Puts a whole set in place; whether rules that use it must be written anew.
    pub(crate) fn put(&mut self, id: &IpSetId, set: &IpSet) -> bool {
        let before = self.shapes(id);
        let fresh = || Replica::new(set.kind, listed(&set.about));
        let replica = self.sets.entry(id.clone()).or_insert_with(fresh);
        if replica.kind != set.kind {
            *replica = fresh();
        }
        let gone: Vec<IpSetMember> = replica.members.difference(&set.members).copied().collect();
        gone.iter().for_each(|m| replica.remove(m));
        set.members.iter().for_each(|m| replica.insert(*m));
        before != self.shapes(id)
    }

    /// Changes members; whether rules that use the set must be written anew.
    pub(crate) fn change(&mut self, id: &IpSetId, added: &[IpSetMember], removed: &[IpSetMember]) -> bool {
        let before = self.shapes(id);
        let replica = self
            .sets
            .entry(id.clone())
            .or_insert_with(|| Replica::new(IpSetKind::Net, Box::default()));
        removed.iter().for_each(|m| replica.remove(m));
        added.iter().for_each(|m| replica.insert(*m));
        before != self.shapes(id)
    }

    /// Drops a set; whether there was one.
    pub(crate) fn remove(&mut self, id: &IpSetId) -> bool {
        self.sets.remove(id).is_some()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &IpSetId> {
        self.sets.keys()
    }

    pub(crate) fn get(&self, id: &IpSetId) -> Option<&Replica> {
        self.sets.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &IpSetId) -> Option<&mut Replica> {
        self.sets.get_mut(id)
    }

    fn shapes(&self, id: &IpSetId) -> Option<[Shape; 2]> {
        let set = self.sets.get(id)?;
        Some(Family::BOTH.map(|f| set.shape(f)))
    }

    /// The kernel's name of a set in one family, and how it is kept; none when there is no such set.
    pub(crate) fn resolve(&self, id: &IpSetId, family: Family) -> Option<(SetName, Shape)> {
        let shape = self.sets.get(id)?.shape(family);
        Some((kernel_name(id, shape), shape))
    }
}

/// Another shape has another name, so that both can exist while rules move from one to the other.
pub(crate) fn kernel_name(id: &IpSetId, shape: Shape) -> SetName {
    let suffix = match shape {
        Shape::Addresses => "addr",
        Shape::Nets => "net",
        Shape::Ports => "port",
    };
    format!("{}.{suffix}", names::of_set_id(id.as_str())).into()
}
