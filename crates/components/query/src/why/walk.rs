//! The lists of an endpoint beside the path that the oracle took through them.

use caracal_desired::TierPolicies;
use caracal_ids::{PolicyId, ProfileName, TierName};
use caracal_oracle::{Decider, Decision, Direction, RuleSource, Step, Verdict, mismatch};

use super::explain::Lens;
use super::report::{Policy, Tier};
use super::rules;

/// A walk through the lists beside the path that the oracle took.
pub(super) struct Walk<'a> {
    pub(super) lens: &'a Lens<'a>,
    pub(super) direction: Direction,
    pub(super) decision: Option<&'a Decision>,
    /// Whether it has been decided.
    pub(super) over: bool,
}

impl Walk<'_> {
    fn path(&self) -> &[Step] {
        self.decision.map_or(&[], |d| &d.path)
    }

    pub(super) fn tier(&mut self, tier: &TierPolicies) -> Tier {
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

    pub(super) fn profile(&mut self, name: &ProfileName) -> Policy {
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
