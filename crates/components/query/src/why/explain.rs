//! From the oracle's path to a report.

use caracal_desired::{Desired, TierPolicies};
use caracal_ids::{PolicyId, ProfileName, TierName};
use caracal_oracle::{
    Decider, Decision, Direction, Journey, ListKind, Packet, Reading, RuleSource, Stage, Step, Verdict,
    mismatch, travel,
};

use super::criteria::{Ends, because, is_near_miss};
use super::report::{Answer, End, Place, Policy, Rule, Tier};
use super::rules;
use super::travel::Passage;
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
    let end = |party: &super::party::Party, address| End {
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
        remarks: Vec::new(),
    };
    let mut pending = Verdict::Allowed;
    for (name, node, trip) in &passage.nodes {
        let judge = |reading| travel(&node.desired, &node.host, reading, trip);
        if judge(Reading::Pending).verdict == Verdict::Blocked {
            pending = Verdict::Blocked;
        }
        if answer.verdict == Verdict::Blocked {
            continue;
        }
        let journey = judge(Reading::Enforced);
        answer.verdict = journey.verdict;
        let lens = Lens {
            world,
            node,
            name,
            packet: &packet,
            ends: &ends,
        };
        lens.places(&journey, live, &mut answer)?;
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

/// What one node's decisions are looked at with.
struct Lens<'a> {
    world: &'a World,
    node: &'a Node,
    name: &'a str,
    packet: &'a Packet,
    ends: &'a Ends<'a>,
}

impl Lens<'_> {
    fn places(&self, journey: &Journey, live: Option<&Live>, answer: &mut Answer) -> Result<(), Failure> {
        for (stage, decision) in &journey.stages {
            let mut place = self.place(stage, decision.as_ref());
            if let Some(live) = live.filter(|l| l.node == self.name) {
                place.kernel = live.look(self.world, self.node, stage, decision.as_ref(), self.packet)?;
            }
            answer.places.push(place);
        }
        Ok(())
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

    fn rules_of(&self, source: &RuleSource, direction: Direction) -> &[caracal_desired::Rule] {
        rules_of(&self.node.desired, source, direction)
    }

    /// The rules that were looked at, all of a policy that was not stopped in.
    fn rules(
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
            Rule {
                place: format!("{direction}[{n}]"),
                action: format!("{:?}", rule.action),
                text: text.map(rules::describe).unwrap_or_default(),
                matches: failed.is_none(),
                failed: failed.map(|c| c.to_string()),
                because: failed.and_then(|c| Some(because(text?, c, self.packet, self.ends))),
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

/// A walk through the lists beside the path that the oracle took.
struct Walk<'a> {
    lens: &'a Lens<'a>,
    direction: Direction,
    decision: Option<&'a Decision>,
    /// Whether it has been decided.
    over: bool,
}

impl Walk<'_> {
    fn path(&self) -> &[Step] {
        self.decision.map_or(&[], |d| &d.path)
    }

    fn tier(&mut self, tier: &TierPolicies) -> Tier {
        let ids = match self.direction {
            Direction::Ingress => &tier.ingress,
            Direction::Egress => &tier.egress,
        };
        let mut outcome = if self.over {
            "not asked".to_owned()
        } else {
            "no policy for this direction".to_owned()
        };
        let mut passed = self.over;
        let mut policies = Vec::new();
        for id in ids {
            if id.kind.is_staged() {
                policies.push(self.staged(&tier.name, id));
                continue;
            }
            let policy = self.policy(&tier.name, id, passed || self.over);
            match policy.outcome.as_str() {
                "passed" => {
                    outcome = format!("passed on by {}", policy.name);
                    passed = true;
                }
                "decided" | "missing" => outcome = "decided".to_owned(),
                _ => {}
            }
            policies.push(policy);
        }
        let end = self.path().iter().find_map(|s| match s {
            Step::EndOfTier(name, action) if *name == tier.name => Some(*action),
            _ => None,
        });
        if let Some(action) = end {
            outcome = format!("end of the tier: {action:?}");
        }
        let decides = self
            .decision
            .is_some_and(|d| matches!(&d.by, Decider::EndOfTier(name) if *name == tier.name));
        self.over |= decides;
        Tier {
            name: tier.name.to_string(),
            outcome,
            policies,
        }
    }

    fn policy(&mut self, tier: &TierName, id: &PolicyId, skipped: bool) -> Policy {
        let source = RuleSource::Policy(tier.clone(), id.clone());
        self.list(&source, rules::policy_name(id), skipped)
    }

    fn profile(&mut self, name: &ProfileName) -> Policy {
        let source = RuleSource::Profile(name.clone());
        let skipped = self.over;
        self.list(&source, rules::name_of(&source), skipped)
    }

    fn list(&mut self, source: &RuleSource, name: String, skipped: bool) -> Policy {
        let mut policy = Policy {
            name,
            staged: false,
            outcome: "not asked".to_owned(),
            rules: Vec::new(),
        };
        if skipped {
            return policy;
        }
        let decided = self.decision.and_then(|d| match &d.by {
            Decider::Rule(by, n) if by == source => Some(*n),
            _ => None,
        });
        let passed = self.path().iter().find_map(|s| match s {
            Step::Matched(by, n, caracal_api::Action::Pass) if by == source => Some(*n),
            _ => None,
        });
        let is_missing = match source {
            RuleSource::Policy(_, id) => !self.lens.node.desired.policies.contains_key(id),
            RuleSource::Profile(name) => !self.lens.node.desired.profiles.contains_key(name),
        };
        let lost = self.decision.is_some_and(|d| d.verdict == Verdict::Blocked);
        policy.rules = self.lens.rules(source, self.direction, decided.or(passed), lost);
        policy.outcome = match (decided, passed) {
            (Some(_), _) => "decided",
            (_, Some(_)) => "passed",
            _ if is_missing => "missing",
            _ if policy.rules.is_empty() => "no rules for this direction",
            _ => "no rule matches",
        }
        .to_owned();
        self.over |= decided.is_some() || is_missing;
        policy
    }

    /// What a staged policy would do if the packet came to it.
    fn staged(&self, tier: &TierName, id: &PolicyId) -> Policy {
        use caracal_api::Action;
        let source = RuleSource::Policy(tier.clone(), id.clone());
        let all = self.lens.rules_of(&source, self.direction);
        let desired = &self.lens.node.desired;
        let found = all
            .iter()
            .position(|r| r.action != Action::Log && mismatch(desired, r, self.lens.packet).is_none());
        let outcome = match found.map(|n| all[n].action) {
            Some(Action::Allow) => "would allow",
            Some(Action::Deny) => "would deny",
            Some(Action::Pass) => "would pass to the next tier",
            Some(Action::Log) | None => "no rule would match; at the end of the tier that counts",
        };
        Policy {
            name: rules::policy_name(id),
            staged: true,
            outcome: outcome.to_owned(),
            rules: self.lens.rules(&source, self.direction, found, found.is_none()),
        }
    }
}
