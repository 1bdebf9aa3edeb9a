//! From the oracle's path to a report.

use caracal_desired::{Desired, TierPolicies};
use caracal_ids::ProfileName;
use caracal_oracle::{
    Decider, Decision, Direction, ListKind, Packet, Reading, RuleSource, Stage, Trip, Verdict, Way, mismatch,
    travel,
};

use super::criteria::{Ends, as_written, because, is_near_miss};
use super::party::{self, Party};
use super::report::{Answer, End, Place, Rule, Tier};
use super::rules;
use super::travel::{Passage, TUNNEL};
use super::walk::Walk;
use crate::failure::Failure;
use crate::kernel::Live;
use crate::world::{Node, World};

/// Judges a passage and says why.
pub(super) fn explain(world: &World, passage: Passage, live: Option<&Live>) -> Result<Answer, Failure> {
    let (packet, source, destination) = (passage.packet, &passage.source, &passage.destination);
    let ends = Ends {
        source: &source.name,
        destination: &destination.name,
    };
    let end = |party: &Party, address| End {
        name: party.name.clone(),
        kind: party.kind(),
        address,
        node: party.place.node().map(str::to_owned),
    };
    let mut answer = Answer {
        verdict: Verdict::Allowed,
        packet: packet.to_string(),
        source: end(source, packet.src),
        destination: end(destination, packet.dst),
        if_staged_were_enforced: None,
        places: Vec::new(),
        not_reached: Vec::new(),
        remarks: Vec::new(),
    };
    let mut pending = Verdict::Allowed;
    for (name, node, trip) in &passage.nodes {
        let judge = |reading| travel(&node.desired, &node.host, reading, trip);
        if judge(Reading::Pending).verdict == Verdict::Blocked {
            pending = Verdict::Blocked;
        }
        let lens = Lens {
            world,
            node,
            name,
            packet: &packet,
            ends: &ends,
        };
        let journey = judge(Reading::Enforced);
        let places = lens.places(&journey.stages, live)?;
        if answer.verdict == Verdict::Blocked {
            answer.not_reached.extend(places);
        } else {
            answer.verdict = journey.verdict;
            answer.places.extend(places);
            if let Some(trip) =
                arrival(destination, name, trip).filter(|_| answer.verdict == Verdict::Blocked)
            {
                let mut stages = travel(&node.desired, &node.host, Reading::Enforced, &trip).stages;
                stages.retain(|stage| is_of(destination, &stage.0) && !journey.stages.contains(stage));
                answer.not_reached.extend(lens.places(&stages, live)?);
            }
        }
        if live.is_some_and(|l| l.node != *name) && !journey.stages.is_empty() {
            answer
                .remarks
                .push(format!("the kernel of {name} is read only there"));
        }
        let invalid = node.desired.invalid.iter();
        answer
            .remarks
            .extend(invalid.map(|(key, why)| format!("{key} cannot be used: {why}")));
    }
    if answer.places.is_empty() {
        answer
            .remarks
            .push("no endpoint is on the packet's way: no policy is asked".to_owned());
    }
    answer.remarks.sort();
    answer.remarks.dedup();
    answer.if_staged_were_enforced = (pending != answer.verdict).then_some(pending);
    Ok(answer)
}

/// The same trip as if the packet had come to the destination's node from elsewhere: past the sender's own lists.
fn arrival(destination: &Party, node: &str, trip: &Trip) -> Option<Trip> {
    let Way::Forward { to, .. } = &trip.way else {
        return None;
    };
    (destination.place.node() == Some(node)).then(|| Trip {
        way: Way::Forward {
            from: TUNNEL.to_owned(),
            to: to.clone(),
        },
        ..trip.clone()
    })
}

/// Whether the destination's own policy is asked here.
fn is_of(destination: &Party, stage: &Stage) -> bool {
    match (stage, &destination.place) {
        (Stage::Workload(stage), party::Place::Workload(id, _)) => id.to_string() == *stage,
        _ => false,
    }
}

/// What one node's decisions are looked at with.
pub(super) struct Lens<'a> {
    world: &'a World,
    pub(super) node: &'a Node,
    name: &'a str,
    pub(super) packet: &'a Packet,
    ends: &'a Ends<'a>,
}

impl Lens<'_> {
    fn places(
        &self,
        stages: &[(Stage, Option<Decision>)],
        live: Option<&Live>,
    ) -> Result<Vec<Place>, Failure> {
        let live = live.filter(|l| l.node == self.name);
        let one = |(stage, decision): &(Stage, Option<Decision>)| {
            let mut place = self.place(stage, decision.as_ref());
            if let Some(live) = live {
                place.kernel = live.look(self.world, self.node, stage, decision.as_ref(), self.packet)?;
            }
            Ok(place)
        };
        stages.iter().map(one).collect()
    }

    fn place(&self, stage: &Stage, decision: Option<&Decision>) -> Place {
        let desired = &self.node.desired;
        let direction = decision.map_or(Direction::Ingress, |d| d.direction);
        let mut list = None;
        let (at, tiers, profiles): (String, &[TierPolicies], &[ProfileName]) = match stage {
            Stage::Workload(id) => {
                let found = desired.workloads.values().find(|w| w.id.to_string() == *id);
                let tiers = found.map_or(&[][..], |w| &w.tiers);
                (
                    self.workload_name(id),
                    tiers,
                    found.map_or(&[][..], |w| &w.profiles),
                )
            }
            Stage::Host(name, kind) => {
                list = Some(list_name(*kind));
                match desired.host_endpoints.get(name) {
                    Some(h) => {
                        let tiers = match kind {
                            ListKind::Normal => &h.tiers,
                            ListKind::Untracked => &h.untracked,
                            ListKind::PreDnat => &h.pre_dnat,
                            ListKind::Forward => &h.forward,
                        };
                        let profiles: &[ProfileName] = if *kind == ListKind::Normal {
                            &h.profiles
                        } else {
                            &[]
                        };
                        (format!("host endpoint {name}"), tiers, profiles)
                    }
                    None => (format!("host endpoint {name}"), &[], &[]),
                }
            }
            Stage::Source(interface) => (format!("source check of {interface}"), &[], &[]),
            Stage::ToHost => (format!("workloads to node {}", self.name), &[], &[]),
            Stage::ServiceLoop => ("addresses of services".to_owned(), &[], &[]),
        };
        let asked = decision.is_some_and(|d| asks_policy(&d.by));
        let mut walk = Walk {
            lens: self,
            direction,
            decision,
            over: !asked && decision.is_some(),
        };
        let tiers: Vec<Tier> = tiers.iter().map(|t| walk.tier(t)).collect();
        let profiles = profiles.iter().map(|name| walk.profile(name)).collect();
        let by = decision.map(|d| &d.by);
        let source = by.and_then(|by| match by {
            Decider::Rule(source, _) => Some(source),
            _ => None,
        });
        Place {
            at,
            node: self.name.to_owned(),
            direction: direction.to_string(),
            list,
            verdict: decision.map(|d| d.verdict),
            decided_by: by.map_or_else(
                || "no rule of this list".to_owned(),
                |by| decided_by(by, direction),
            ),
            read_from: source
                .and_then(|s| self.world.state.origin(&rules::key_of(s)))
                .map(str::to_owned),
            tiers,
            profiles,
            kernel: None,
        }
    }

    fn workload_name(&self, id: &str) -> String {
        let named = self
            .world
            .workloads()
            .find(|w| crate::world::id_of(w).to_string() == *id);
        named.map_or_else(|| id.to_owned(), caracal_analysis::endpoint_name)
    }

    pub(super) fn rules_of(&self, source: &RuleSource, direction: Direction) -> &[caracal_desired::Rule] {
        rules_of(&self.node.desired, source, direction)
    }

    /// The rules that were looked at, all of a policy that was not stopped in.
    pub(super) fn rules(
        &self,
        source: &RuleSource,
        direction: Direction,
        until: Option<usize>,
        lost: bool,
    ) -> Vec<Rule> {
        let written = rules::written(self.world, source, direction);
        let all = self.rules_of(source, direction).iter().enumerate();
        let looked = all.take_while(|(n, _)| until.is_none_or(|last| *n <= last));
        let one = |(n, rule): (usize, &caracal_desired::Rule)| {
            let failed = mismatch(&self.node.desired, rule, self.packet);
            let text = written.get(n);
            let shown = failed.map(|c| text.map_or(c, |rule| as_written(c, rule)));
            Rule {
                place: format!("{direction}[{n}]"),
                action: format!("{:?}", rule.action),
                text: text.map(rules::describe).unwrap_or_default(),
                matches: failed.is_none(),
                failed: shown.map(|c| c.to_string()),
                because: shown.and_then(|c| Some(because(text?, c, self.packet, self.ends))),
                near_miss: failed
                    .is_some_and(|c| is_near_miss(&self.node.desired, rule, self.packet, c, lost)),
            }
        };
        looked.map(one).collect()
    }
}

fn rules_of<'d>(
    desired: &'d Desired,
    source: &RuleSource,
    direction: Direction,
) -> &'d [caracal_desired::Rule] {
    let both = match source {
        RuleSource::Policy(_, id) => desired.policies.get(id).map(|p| (&p.ingress, &p.egress)),
        RuleSource::Profile(name) => desired.profiles.get(name).map(|p| (&p.ingress, &p.egress)),
    };
    both.map_or(&[], |(ingress, egress)| match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    })
}

fn list_name(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Normal => "normal",
        ListKind::Untracked => "doNotTrack",
        ListKind::PreDnat => "preDNAT",
        ListKind::Forward => "applyOnForward",
    }
}

/// Whether the decision came from the lists of the endpoint.
fn asks_policy(by: &Decider) -> bool {
    matches!(
        by,
        Decider::Rule(..)
            | Decider::EndOfTier(_)
            | Decider::Missing(_)
            | Decider::EndOfProfiles
            | Decider::NotGoverned
    )
}

fn decided_by(by: &Decider, direction: Direction) -> String {
    match by {
        Decider::Rule(source, n) => format!("{} {direction}[{n}]", rules::name_of(source)),
        other => other.to_string(),
    }
}
