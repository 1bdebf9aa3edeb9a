//! Policy lists: what endpoints with the same policies share, tier by tier.

use std::sync::Arc;

use caracal_api::TierDefaultAction;
use caracal_desired::{HostEndpoint, TierPolicies, WorkloadEndpoint};
use caracal_ids::{PolicyId, ProfileName, TierName};

use crate::{
    ir::ChainName,
    names::{self, Digest},
};

/// A direction, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    /// From the endpoint: egress rules.
    From,
    /// To the endpoint: ingress rules.
    To,
}

impl Direction {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::From => "fw",
            Self::To => "tw",
        }
    }

    /// The same in names of counters.
    pub(crate) fn side(self) -> &'static str {
        match self {
            Self::From => "out",
            Self::To => "in",
        }
    }
}

/// Whose list it is, and for which of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Purpose {
    /// A workload's packets.
    Workload,
    /// Packets of the host itself.
    Host,
    /// The same once their destination was translated, judged where nothing can be answered.
    HostTranslated,
    /// Packets that the host forwards.
    Forward,
    /// Packets before connection tracking.
    Untracked,
    /// Packets before destination NAT.
    PreDnat,
}

impl Purpose {
    /// Whether a packet that nothing decided goes on.
    pub(crate) fn ends_open(self) -> bool {
        matches!(self, Self::Forward | Self::Untracked | Self::PreDnat)
    }

    /// Whether a packet that is allowed leaves the hook at once, with the mark.
    pub(crate) fn allows_for_good(self) -> bool {
        matches!(self, Self::Untracked | Self::PreDnat)
    }

    /// Whether a denied packet can be answered where the list stands.
    pub(crate) fn can_answer(self) -> bool {
        matches!(self, Self::Workload | Self::Host | Self::Forward)
    }

    fn prefix(self, direction: Direction) -> &'static str {
        match (self, direction) {
            (Self::Workload, d) => d.word(),
            (Self::Host, Direction::From) => "host-out",
            (Self::Host, Direction::To) => "host-in",
            (Self::HostTranslated, Direction::From) => "host-nat-out",
            (Self::HostTranslated, Direction::To) => "host-nat-in",
            (Self::Forward, Direction::From) => "host-fwd-out",
            (Self::Forward, Direction::To) => "host-fwd-in",
            (Self::Untracked, Direction::From) => "host-raw-out",
            (Self::Untracked, Direction::To) => "host-raw-in",
            (Self::PreDnat, Direction::From) => "host-pre-out",
            (Self::PreDnat, Direction::To) => "host-pre-in",
        }
    }
}

/// Purpose and direction together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Role {
    pub(crate) purpose: Purpose,
    pub(crate) direction: Direction,
}

impl Role {
    pub(crate) fn new(purpose: Purpose, direction: Direction) -> Self {
        Self { purpose, direction }
    }

    fn prefix(self) -> &'static str {
        self.purpose.prefix(self.direction)
    }
}

/// Where rules come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SourceId {
    Policy(PolicyId),
    Profile(ProfileName),
}

impl SourceId {
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Policy(id) => names::policy_label(id),
            Self::Profile(name) => names::shortened(&format!("profile/{name}"), 100),
        }
    }

    /// The beginning of the names of its counters.
    pub(crate) fn counters(&self) -> String {
        match self {
            Self::Policy(id) => names::of_counters(&self.label(), &names::whole_label(id)),
            Self::Profile(name) => names::of_counters(&self.label(), &format!("profile/{name}")),
        }
    }

    /// The same for names of sets.
    pub(crate) fn digest(&self) -> Digest {
        let mut d = Digest::default();
        match self {
            Self::Policy(id) => d.add_policy(id),
            Self::Profile(name) => d.add(name.as_str()),
        }
        d
    }
}

/// Tiers that follow one another by `goto`. The kernel refuses more than 14 chains in a row, of which up to
/// [`PROFILES_IN_A_ROW`] may be of profiles and one holds the groups of a long list.
const TIERS_IN_A_ROW: usize = 8;

/// Profiles among which one may pass to the next.
pub(crate) const PROFILES_IN_A_ROW: usize = 5;

/// What one chain of a list holds.
#[derive(Debug)]
pub(crate) enum Segment {
    /// The policies of a tier, and what happens at its end.
    Tier(TierName, TierDefaultAction),
    /// Profiles; at their end all is denied.
    Profiles,
    /// A list of more tiers than can follow one another, in groups. All groups but the last one return for a packet
    /// that they allow as for one that they pass on, and mark the first (unless what is allowed leaves the hook).
    Groups(Vec<Arc<List>>),
    /// Nothing: all is left to what comes after.
    Empty,
}

/// A list from one tier on. Equal lists have equal names, and only those.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) name: ChainName,
    pub(crate) role: Role,
    pub(crate) segment: Segment,
    /// In order; all of them policies, or all profiles.
    pub(crate) sources: Vec<SourceId>,
    /// What comes after the tier; nothing at the end of a group that marks, and of a list that ends open.
    pub(crate) next: Option<Arc<List>>,
    /// Whether it is part of a group that is not the last one.
    pub(crate) marks: bool,
}

/// A tier's name, its end, and its policies that are enforced in a direction.
type Tier<'a> = (&'a TierName, TierDefaultAction, Vec<&'a PolicyId>);

/// The list of a workload in one direction.
pub(crate) fn of_workload(endpoint: &WorkloadEndpoint, direction: Direction) -> Arc<List> {
    let role = Role::new(Purpose::Workload, direction);
    closed(role, &endpoint.tiers, &endpoint.profiles)
}

/// The list of a host endpoint for one purpose; nothing if it leaves all packets to what comes after.
pub(crate) fn of_host(endpoint: &HostEndpoint, role: Role) -> Option<Arc<List>> {
    let tiers = match role.purpose {
        Purpose::Workload | Purpose::Host | Purpose::HostTranslated => {
            return Some(closed(role, &endpoint.tiers, &endpoint.profiles));
        }
        Purpose::Forward => &endpoint.forward,
        Purpose::Untracked => &endpoint.untracked,
        Purpose::PreDnat => &endpoint.pre_dnat,
    };
    chained(role, &enforced(tiers, role.direction), None)
}

/// The list of an interface whose endpoint has none for the purpose, where other interfaces have.
pub(crate) fn empty(role: Role) -> Arc<List> {
    Arc::new(List {
        name: format!("{}.none", role.prefix()).into(),
        role,
        segment: Segment::Empty,
        sources: Vec::new(),
        next: None,
        marks: false,
    })
}

/// A list that ends with the profiles.
fn closed(role: Role, tiers: &[TierPolicies], profiles: &[ProfileName]) -> Arc<List> {
    let profiles = profiles.iter().cloned().map(SourceId::Profile).collect();
    let profiles = profiles_list(role, profiles);
    let list = chained(
        role,
        &enforced(tiers, role.direction),
        Some(Arc::clone(&profiles)),
    );
    list.unwrap_or(profiles)
}

fn enforced(tiers: &[TierPolicies], direction: Direction) -> Vec<Tier<'_>> {
    let enforced = tiers.iter().map(|tier| {
        let ids = match direction {
            Direction::From => &tier.egress,
            Direction::To => &tier.ingress,
        };
        let enforced: Vec<&PolicyId> = ids.iter().filter(|id| !id.kind.is_staged()).collect();
        (&tier.name, tier.default_action, enforced)
    });
    enforced.filter(|(_, _, ids)| !ids.is_empty()).collect()
}

/// The tiers and, behind the last one, `end`; in groups where there are many.
fn chained(role: Role, tiers: &[Tier<'_>], end: Option<Arc<List>>) -> Option<Arc<List>> {
    let mut groups: Vec<&[Tier<'_>]> = tiers.chunks(TIERS_IN_A_ROW).collect();
    let last = groups.pop().unwrap_or_default();
    let last = in_a_row(role, last, end, false);
    if groups.is_empty() {
        return last;
    }
    let marking = groups.into_iter().filter_map(|g| in_a_row(role, g, None, true));
    Some(grouped(role, marking.chain(last).collect()))
}

/// Chains that lead from one tier to the next and, behind the last one, to `end`.
fn in_a_row(role: Role, tiers: &[Tier<'_>], end: Option<Arc<List>>, marks: bool) -> Option<Arc<List>> {
    tiers
        .iter()
        .rev()
        .fold(end, |next, tier| Some(tier_list(role, tier, next, marks)))
}

fn grouped(role: Role, groups: Vec<Arc<List>>) -> Arc<List> {
    let mut digest = Digest::default();
    groups.iter().for_each(|g| digest.add(g.name.as_str()));
    Arc::new(List {
        name: format!("{}.long-{}", role.prefix(), digest.text()).into(),
        role,
        segment: Segment::Groups(groups),
        sources: Vec::new(),
        next: None,
        marks: false,
    })
}

fn tier_list(role: Role, tier: &Tier<'_>, next: Option<Arc<List>>, marks: bool) -> Arc<List> {
    let (name, end, policies) = tier;
    let mut digest = Digest::default().part([u8::from(*end == TierDefaultAction::Pass), u8::from(marks)]);
    digest.add(name.as_str());
    policies.iter().for_each(|id| digest.add_policy(id));
    digest.add(next.as_ref().map_or("", |n| n.name.as_str()));
    let chain = format!(
        "{}-{}-{}",
        role.prefix(),
        names::readable(name.as_str()),
        digest.text()
    );
    Arc::new(List {
        name: chain.into(),
        role,
        segment: Segment::Tier((*name).clone(), *end),
        sources: policies
            .iter()
            .map(|id| SourceId::Policy((*id).clone()))
            .collect(),
        next,
        marks,
    })
}

/// A list of profiles only.
pub(crate) fn profiles_list(role: Role, profiles: Vec<SourceId>) -> Arc<List> {
    let mut digest = Digest::default();
    for source in &profiles {
        match source {
            SourceId::Profile(name) => digest.add(name.as_str()),
            SourceId::Policy(id) => digest.add_policy(id),
        }
    }
    let name = format!("{}.profiles-{}", role.prefix(), digest.text());
    Arc::new(List {
        name: name.into(),
        role,
        segment: Segment::Profiles,
        sources: profiles,
        next: None,
        marks: false,
    })
}
