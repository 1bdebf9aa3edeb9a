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

/// What one chain of a list holds.
#[derive(Debug)]
pub(crate) enum Segment {
    /// The policies of a tier, and what happens at its end.
    Tier(TierName, TierDefaultAction),
    /// Profiles; at their end all is denied.
    Profiles,
}

/// A list from one tier on. Equal lists have equal names, and only those.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) name: ChainName,
    pub(crate) direction: Direction,
    pub(crate) segment: Segment,
    /// In order; all of them policies, or all profiles.
    pub(crate) sources: Vec<SourceId>,
    /// What comes after the tier.
    pub(crate) next: Option<Arc<List>>,
}

/// The list of an endpoint in one direction.
pub(crate) fn of_endpoint(endpoint: &WorkloadEndpoint, direction: Direction) -> Arc<List> {
    let profiles = endpoint.profiles.iter().cloned().map(SourceId::Profile).collect();
    let mut list = profiles_list(direction, profiles);
    for tier in endpoint.tiers.iter().rev() {
        let ids = match direction {
            Direction::From => &tier.egress,
            Direction::To => &tier.ingress,
        };
        let enforced: Vec<&PolicyId> = ids.iter().filter(|id| !id.kind.is_staged()).collect();
        if !enforced.is_empty() {
            list = tier_list(direction, &tier.name, tier.default_action, &enforced, list);
        }
    }
    list
}

fn tier_list(
    direction: Direction,
    tier: &TierName,
    end: TierDefaultAction,
    policies: &[&PolicyId],
    next: Arc<List>,
) -> Arc<List> {
    let mut digest = Digest::default().part([u8::from(end == TierDefaultAction::Pass)]);
    digest.add(tier.as_str());
    policies.iter().for_each(|id| digest.add_policy(id));
    digest.add(next.name.as_str());
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
        next: Some(next),
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
    })
}
