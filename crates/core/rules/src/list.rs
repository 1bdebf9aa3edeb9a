//! Policy lists: what endpoints with the same policies share, tier by tier.

use std::sync::Arc;

use caracal_api::TierDefaultAction;
use caracal_desired::WorkloadEndpoint;
use caracal_ids::{PolicyId, ProfileName, TierName};

use crate::{
    ir::ChainName,
    names::{self, Digest},
};

/// A direction, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    /// From the workload: egress rules.
    From,
    /// To the workload: ingress rules.
    To,
}

impl Direction {
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::From => "fw",
            Self::To => "tw",
        }
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
    /// that they allow as for one that they pass on, and mark the first.
    Groups(Vec<Arc<List>>),
}

/// A list from one tier on. Equal lists have equal names, and only those.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) name: ChainName,
    pub(crate) direction: Direction,
    pub(crate) segment: Segment,
    /// In order; all of them policies, or all profiles.
    pub(crate) sources: Vec<SourceId>,
    /// What comes after the tier; nothing at the end of a group that marks.
    pub(crate) next: Option<Arc<List>>,
    /// Whether what is allowed is marked.
    pub(crate) marks: bool,
}

/// A tier's name, its end, and its policies that are enforced in a direction.
type Tier<'a> = (&'a TierName, TierDefaultAction, Vec<&'a PolicyId>);

/// The list of an endpoint in one direction.
pub(crate) fn of_endpoint(endpoint: &WorkloadEndpoint, direction: Direction) -> Arc<List> {
    let profiles = endpoint.profiles.iter().cloned().map(SourceId::Profile).collect();
    let profiles = profiles_list(direction, profiles);
    let enforced = endpoint.tiers.iter().map(|tier| {
        let ids = match direction {
            Direction::From => &tier.egress,
            Direction::To => &tier.ingress,
        };
        let enforced: Vec<&PolicyId> = ids.iter().filter(|id| !id.kind.is_staged()).collect();
        (&tier.name, tier.default_action, enforced)
    });
    let tiers: Vec<Tier<'_>> = enforced.filter(|(_, _, ids)| !ids.is_empty()).collect();
    let mut groups: Vec<&[Tier<'_>]> = tiers.chunks(TIERS_IN_A_ROW).collect();
    let last = groups.pop().unwrap_or_default();
    let last = in_a_row(direction, last, Some(profiles));
    if groups.is_empty() {
        return last.unwrap_or_else(|| profiles_list(direction, Vec::new()));
    }
    let marking = groups.into_iter().filter_map(|g| in_a_row(direction, g, None));
    grouped(direction, marking.chain(last).collect())
}

/// Chains that lead from one tier to the next and, behind the last one, to `end`; without one they mark.
fn in_a_row(direction: Direction, tiers: &[Tier<'_>], end: Option<Arc<List>>) -> Option<Arc<List>> {
    let marks = end.is_none();
    tiers.iter().rev().fold(end, |next, (name, action, policies)| {
        Some(tier_list(direction, name, *action, policies, next, marks))
    })
}

fn grouped(direction: Direction, groups: Vec<Arc<List>>) -> Arc<List> {
    let mut digest = Digest::default();
    groups.iter().for_each(|g| digest.add(g.name.as_str()));
    Arc::new(List {
        name: format!("{}.long-{}", direction.prefix(), digest.text()).into(),
        direction,
        segment: Segment::Groups(groups),
        sources: Vec::new(),
        next: None,
        marks: false,
    })
}

fn tier_list(
    direction: Direction,
    tier: &TierName,
    end: TierDefaultAction,
    policies: &[&PolicyId],
    next: Option<Arc<List>>,
    marks: bool,
) -> Arc<List> {
    let mut digest = Digest::default().part([u8::from(end == TierDefaultAction::Pass), u8::from(marks)]);
    digest.add(tier.as_str());
    policies.iter().for_each(|id| digest.add_policy(id));
    digest.add(next.as_ref().map_or("", |n| n.name.as_str()));
    let name = format!(
        "{}-{}-{}",
        direction.prefix(),
        names::readable(tier.as_str()),
        digest.text()
    );
    Arc::new(List {
        name: name.into(),
        direction,
        segment: Segment::Tier(tier.clone(), end),
        sources: policies
            .iter()
            .map(|id| SourceId::Policy((*id).clone()))
            .collect(),
        next,
        marks,
    })
}

/// A list of profiles only.
pub(crate) fn profiles_list(direction: Direction, profiles: Vec<SourceId>) -> Arc<List> {
    let mut digest = Digest::default();
    for source in &profiles {
        match source {
            SourceId::Profile(name) => digest.add(name.as_str()),
            SourceId::Policy(id) => digest.add_policy(id),
        }
    }
    let name = format!("{}.profiles-{}", direction.prefix(), digest.text());
    Arc::new(List {
        name: name.into(),
        direction,
        segment: Segment::Profiles,
        sources: profiles,
        next: None,
        marks: false,
    })
}
