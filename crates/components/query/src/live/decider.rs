//! Who decided about a packet.

use caracal_agent_api::v1::{Decider, decider::What};
use serde::Serialize;

/// A decider as data.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Who {
    /// policy, profile, endOfTier, noProfile or node.
    pub(super) what: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) tier: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) direction: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) action: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) missing: bool,
}

impl From<Decider> for Who {
    fn from(d: Decider) -> Self {
        let (what, counted) = match d.what() {
            What::Policy => ("policy", true),
            What::Profile => ("profile", true),
            What::Tier => ("endOfTier", false),
            What::NoProfile => ("noProfile", false),
            What::Wall => ("node", false),
        };
        Self {
            what,
            rule: (counted && !d.missing).then_some(d.rule),
            kind: d.kind,
            namespace: d.namespace,
            name: d.name,
            tier: d.tier,
            direction: d.direction,
            action: d.action,
            missing: d.missing,
        }
    }
}

impl Who {
    /// What people call it, without the rule.
    pub(super) fn title(&self) -> String {
        let name = if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        };
        match self.what {
            "policy" => format!("{} {name}", self.kind),
            "profile" => format!("profile {name}"),
            "endOfTier" => {
                let tier = if self.tier.is_empty() {
                    &self.name
                } else {
                    &self.tier
                };
                format!("end of tier {tier}")
            }
            "noProfile" => "no profile allows it".to_owned(),
            _ => format!("the node ({name})"),
        }
    }

    /// The rule as the object has it: `ingress[0]`.
    pub(super) fn place(&self) -> String {
        match self.rule {
            Some(rule) => format!("{}[{rule}]", self.direction),
            None if self.missing => "(missing)".to_owned(),
            None => self.direction.clone(),
        }
    }
}
