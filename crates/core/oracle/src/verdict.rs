use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Desired, HostEndpoint, Rule, TierPolicies, WorkloadEndpoint};
use caracal_ids::{PolicyId, ProfileName, TierName};
use serde::{Deserialize, Serialize};

use crate::{Decider, Decision, Direction, Packet, RuleSource, Step, Verdict, mismatch};

/// The lists of a host endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListKind {
    /// Traffic of the host itself; ends with the profiles.
    Normal,
    /// doNotTrack; a packet that nothing decides goes on to the normal list.
    Untracked,
    /// preDNAT; a packet that nothing decides goes on.
    PreDnat,
    /// applyOnForward.
    Forward,
}

/// Which policies count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Those that are enforced.
    Enforced,
    /// Staged ones too, as if they were enforced (`calico-components.md` §3.5), in the place of those that they would
    /// replace or delete.
    Pending,
}

/// Everything that a walk needs to know beside the lists.
#[derive(Clone, Copy)]
struct Ground<'a> {
    desired: &'a Desired,
    reading: Reading,
    direction: Direction,
    packet: &'a Packet,
}

/// How a walk through rules went on.
enum Flow {
    /// No rule decided.
    Next,
    /// A rule passed to the next tier.
    Pass,
    /// Decided.
    Done(Verdict, Decider),
}

/// The verdict of `packet` for a workload endpoint in one direction.
#[must_use]
pub fn decide(
    desired: &Desired,
    endpoint: &WorkloadEndpoint,
    direction: Direction,
    packet: &Packet,
) -> Decision {
    decide_as(desired, Reading::Enforced, endpoint, direction, packet)
}

/// The same, by the policies of one reading: what staged policies would do is `Reading::Pending`.
#[must_use]
pub fn decide_as(
    desired: &Desired,
    reading: Reading,
    endpoint: &WorkloadEndpoint,
    direction: Direction,
    packet: &Packet,
) -> Decision {
    let ground = Ground {
        desired,
        reading,
        direction,
        packet,
    };
    let mut path = Vec::new();
    let (verdict, by) = match tiers(ground, &endpoint.tiers, &mut path) {
        Flow::Done(v, by) => (v, by),
        Flow::Next | Flow::Pass => profiles(ground, &endpoint.profiles, &mut path),
    };
    Decision {
        direction,
        verdict,
        by,
        path,
    }
}

/// The verdict of `packet` for one list of a host endpoint; `None` when the list leaves it to what comes after.
#[must_use]
pub fn decide_host(
    desired: &Desired,
    endpoint: &HostEndpoint,
    list: ListKind,
    direction: Direction,
    packet: &Packet,
) -> Option<Decision> {
    decide_host_as(desired, Reading::Enforced, endpoint, list, direction, packet)
}

/// The same, by the policies of one reading.
#[must_use]
pub fn decide_host_as(
    desired: &Desired,
    reading: Reading,
    endpoint: &HostEndpoint,
    list: ListKind,
    direction: Direction,
    packet: &Packet,
) -> Option<Decision> {
    let ground = Ground {
        desired,
        reading,
        direction,
        packet,
    };
    let mut path = Vec::new();
    let lists = match list {
        ListKind::Normal => &endpoint.tiers,
        ListKind::Untracked => &endpoint.untracked,
        ListKind::PreDnat => &endpoint.pre_dnat,
        ListKind::Forward => &endpoint.forward,
    };
    let (verdict, by) = match (tiers(ground, lists, &mut path), list) {
        (Flow::Done(verdict, by), _) => (verdict, by),
        (_, ListKind::Normal) => profiles(ground, &endpoint.profiles, &mut path),
        (_, ListKind::Forward) if lists.is_empty() => (Verdict::Allowed, Decider::NotGoverned),
        _ => return None,
    };
    Some(Decision {
        direction,
        verdict,
        by,
        path,
    })
}

fn tiers(ground: Ground<'_>, tiers: &[TierPolicies], path: &mut Vec<Step>) -> Flow {
    for tier in tiers {
        if let Flow::Done(v, by) = one_tier(ground, tier, path) {
            return Flow::Done(v, by);
        }
    }
    Flow::Next
}

fn one_tier(ground: Ground<'_>, tier: &TierPolicies, path: &mut Vec<Step>) -> Flow {
    let ids = match ground.direction {
        Direction::Ingress => &tier.ingress,
        Direction::Egress => &tier.egress,
    };
    let mut governed = false;
    for id in ids {
        if id.kind.is_staged() && ground.reading == Reading::Enforced {
            path.push(Step::Staged(tier.name.clone(), id.clone()));
            continue;
        }
        if ground.reading == Reading::Pending && replaced(ground.desired, id) {
            continue;
        }
        governed = true;
        let Some(policy) = ground.desired.policies.get(id) else {
            return missing(format!("policy {id}"), path);
        };
        let rules = match ground.direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        let source = RuleSource::Policy(tier.name.clone(), id.clone());
        match walk(ground, rules, &source, path) {
            Flow::Next => {}
            decided => return decided,
        }
    }
    if governed {
        end_of_tier(&tier.name, tier.default_action, path)
    } else {
        skipped(&tier.name, path)
    }
}

/// Whether some staged policy would replace or delete this one.
fn replaced(desired: &Desired, id: &PolicyId) -> bool {
    id.staged().any(|staged| desired.policies.contains_key(&staged))
}

fn skipped(tier: &TierName, path: &mut Vec<Step>) -> Flow {
    path.push(Step::TierSkipped(tier.clone()));
    Flow::Pass
}

fn end_of_tier(tier: &TierName, action: TierDefaultAction, path: &mut Vec<Step>) -> Flow {
    path.push(Step::EndOfTier(tier.clone(), action));
    match action {
        TierDefaultAction::Deny => Flow::Done(Verdict::Blocked, Decider::EndOfTier(tier.clone())),
        TierDefaultAction::Pass => Flow::Pass,
    }
}

fn missing(what: String, path: &mut Vec<Step>) -> Flow {
    path.push(Step::Missing(what.clone()));
    Flow::Done(Verdict::Blocked, Decider::Missing(what))
}

fn profiles(ground: Ground<'_>, names: &[ProfileName], path: &mut Vec<Step>) -> (Verdict, Decider) {
    for name in names {
        let Some(profile) = ground.desired.profiles.get(name) else {
            path.push(Step::Missing(format!("profile {name}")));
            return (Verdict::Blocked, Decider::Missing(format!("profile {name}")));
        };
        let rules = match ground.direction {
            Direction::Ingress => &profile.ingress,
            Direction::Egress => &profile.egress,
        };
        // Pass in a profile leaves that profile only; the next one is asked (§3.3, as on nftables).
        if let Flow::Done(v, by) = walk(ground, rules, &RuleSource::Profile(name.clone()), path) {
            return (v, by);
        }
    }
    path.push(Step::EndOfProfiles);
    (Verdict::Blocked, Decider::EndOfProfiles)
}

fn walk(ground: Ground<'_>, rules: &[Rule], source: &RuleSource, path: &mut Vec<Step>) -> Flow {
    for (n, rule) in rules.iter().enumerate() {
        if let Some(criterion) = mismatch(ground.desired, rule, ground.packet) {
            path.push(Step::Missed(source.clone(), n, criterion));
            continue;
        }
        path.push(Step::Matched(source.clone(), n, rule.action));
        match rule.action {
            Action::Allow => return Flow::Done(Verdict::Allowed, Decider::Rule(source.clone(), n)),
            Action::Deny => return Flow::Done(Verdict::Blocked, Decider::Rule(source.clone(), n)),
            Action::Pass => return Flow::Pass,
            Action::Log => {}
        }
    }
    Flow::Next
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
