//! The answer, as `-o json` prints it.

use std::net::IpAddr;

use caracal_oracle::Verdict;
use serde::Serialize;

/// What becomes of one packet, and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    /// The packet, for people.
    pub(super) packet: String,
    pub(super) source: End,
    pub(super) destination: End,
    /// What the verdict would be if staged policies were enforced, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) if_staged_were_enforced: Option<Verdict>,
    /// Every place where something was decided, in order; the first that blocks is the last.
    pub(super) places: Vec<Place>,
    /// What the blocked packet did not come to: what would be decided there if it did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) not_reached: Vec<Place>,
    /// What else one should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remarks: Vec<String>,
}

impl Answer {
    /// What kernels were found to have.
    pub(super) fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        let places = self.places.iter().chain(&self.not_reached);
        places.filter_map(|p| p.kernel.as_ref())
    }

    /// Whether a kernel has something else than the model says.
    pub(super) fn disagrees(&self) -> bool {
        self.kernels().any(|k| !k.differences.is_empty())
    }
}

/// One end of the way.
#[derive(Debug, Clone, Serialize)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
}

/// A place on the way: an endpoint in one direction.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    /// The endpoint, or what else decides.
    pub(super) at: String,
    pub(super) node: String,
    pub(super) direction: String,
    /// Which list of a host endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) list: Option<&'static str>,
    /// Absent where the list leaves it to what comes after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    pub(super) decided_by: String,
    /// Where the object was read that holds the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_from: Option<String>,
    pub(super) tiers: Vec<Tier>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) profiles: Vec<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<Kernel>,
}

/// A tier.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tier {
    pub(super) name: String,
    /// How it ended: `decided`, `passed`, `end: Deny`, `end: Pass`, `not asked`, …
    pub(super) outcome: String,
    pub(super) policies: Vec<Policy>,
}

/// A policy or profile.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    /// Such as `NetworkPolicy shop/cart`.
    pub(super) name: String,
    pub(super) staged: bool,
    /// `decided`, `passed`, `no rule matches`, `no rules`, `not asked`, `would allow`, …
    pub(super) outcome: String,
    pub(super) rules: Vec<Rule>,
}

/// A rule that was looked at.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    /// Such as `ingress[0]`.
    pub(super) place: String,
    pub(super) action: String,
    /// What it asks for.
    pub(super) text: String,
    pub(super) matches: bool,
    /// The first criterion that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) because: Option<String>,
    /// Whether nothing but this criterion stood in its way.
    pub(super) near_miss: bool,
}

/// What the kernel of the endpoint's node has.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kernel {
    pub(crate) table: String,
    /// Where the packet enters the list: map and element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handle: Option<u64>,
    /// The rule that enforces the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// Elements that the rule's sets have for the packet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) elements: Vec<String>,
    /// Where the kernel is not what the model says it should be.
    pub(crate) differences: Vec<String>,
}
