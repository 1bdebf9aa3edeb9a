use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Desired, HostEndpoint, Rule, TierPolicies, WorkloadEndpoint};
use caracal_ids::{ProfileName, TierName};
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
    let mut path = Vec::new();
    let (verdict, by) = match tiers(desired, &endpoint.tiers, direction, packet, &mut path) {
        Flow::Done(v, by) => (v, by),
        Flow::Next | Flow::Pass => profiles(desired, &endpoint.profiles, direction, packet, &mut path),
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
    let mut path = Vec::new();
    let lists = match list {
        ListKind::Normal => &endpoint.tiers,
        ListKind::Untracked => &endpoint.untracked,
        ListKind::PreDnat => &endpoint.pre_dnat,
        ListKind::Forward => &endpoint.forward,
    };
    if list == ListKind::Forward && lists.is_empty() {
        let by = Decider::NotGoverned;
        return Some(Decision {
            direction,
            verdict: Verdict::Allowed,
            by,
            path,
        });
    }
    match (tiers(desired, lists, direction, packet, &mut path), list) {
        (Flow::Done(verdict, by), _) => Some(Decision {
            direction,
            verdict,
            by,
            path,
        }),
        (_, ListKind::Normal) => {
            let (verdict, by) = profiles(desired, &endpoint.profiles, direction, packet, &mut path);
            Some(Decision {
                direction,
                verdict,
                by,
                path,
            })
        }
        _ => None,
    }
}

fn tiers(
    desired: &Desired,
    tiers: &[TierPolicies],
    direction: Direction,
    packet: &Packet,
    path: &mut Vec<Step>,
) -> Flow {
    for tier in tiers {
        match one_tier(desired, tier, direction, packet, path) {
            Flow::Done(v, by) => return Flow::Done(v, by),
            Flow::Next | Flow::Pass => {}
        }
    }
    Flow::Next
}

fn one_tier(
    desired: &Desired,
    tier: &TierPolicies,
    direction: Direction,
    packet: &Packet,
    path: &mut Vec<Step>,
) -> Flow {
    let ids = match direction {
        Direction::Ingress => &tier.ingress,
        Direction::Egress => &tier.egress,
    };
    let mut governed = false;
    for id in ids {
        if id.kind.is_staged() {
            path.push(Step::Staged(tier.name.clone(), id.clone()));
            continue;
        }
        governed = true;
        let Some(policy) = desired.policies.get(id) else {
            return missing(format!("policy {id}"), path);
        };
        let rules = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        let source = RuleSource::Policy(tier.name.clone(), id.clone());
        match walk(desired, rules, &source, packet, path) {
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

fn profiles(
    desired: &Desired,
    names: &[ProfileName],
    direction: Direction,
    packet: &Packet,
    path: &mut Vec<Step>,
) -> (Verdict, Decider) {
    for name in names {
        let Some(profile) = desired.profiles.get(name) else {
            path.push(Step::Missing(format!("profile {name}")));
            return (Verdict::Blocked, Decider::Missing(format!("profile {name}")));
        };
        let rules = match direction {
            Direction::Ingress => &profile.ingress,
            Direction::Egress => &profile.egress,
        };
        // Pass in a profile leaves that profile only; the next one is asked (§3.3, as on nftables).
        if let Flow::Done(v, by) = walk(desired, rules, &RuleSource::Profile(name.clone()), packet, path) {
            return (v, by);
        }
    }
    path.push(Step::EndOfProfiles);
    (Verdict::Blocked, Decider::EndOfProfiles)
}

fn walk(
    desired: &Desired,
    rules: &[Rule],
    source: &RuleSource,
    packet: &Packet,
    path: &mut Vec<Step>,
) -> Flow {
    for (n, rule) in rules.iter().enumerate() {
        if let Some(criterion) = mismatch(desired, rule, packet) {
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
