use std::fmt;

use caracal_api::{Action, TierDefaultAction};
use caracal_ids::{PolicyId, ProfileName, TierName};
use serde::{Deserialize, Serialize};

use crate::{Criterion, Direction, Verdict};

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleSource {
    /// In a policy of a tier.
    Policy(TierName, PolicyId),
    /// In a profile.
    Profile(ProfileName),
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(tier, id) => write!(f, "tier {tier}, {id}"),
            Self::Profile(name) => write!(f, "profile {name}"),
        }
    }
}

/// One thing that was looked at on the way to a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A rule did not match, because of its first failing criterion.
    Missed(RuleSource, usize, Criterion),
    /// A rule matched.
    Matched(RuleSource, usize, Action),
    /// A staged policy was passed by.
    Staged(TierName, PolicyId),
    /// The policies of a tier decided nothing; its end did.
    EndOfTier(TierName, TierDefaultAction),
    /// No policy of the tier governs this direction.
    TierSkipped(TierName),
    /// A policy or profile that the endpoint names is not there.
    Missing(String),
    /// All profiles were asked and none decided.
    EndOfProfiles,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Decider {
    /// A rule, by its place.
    Rule(RuleSource, usize),
    /// The end of a tier.
    EndOfTier(TierName),
    /// A referent that is missing.
    Missing(String),
    /// The end of the profiles.
    EndOfProfiles,
    /// No list of this kind governs the packet.
    NotGoverned,
    /// The endpoint is not known.
    UnknownEndpoint,
    /// The port is kept open at host endpoints whatever policy says.
    Failsafe,
    /// What happens to traffic of workloads to their host once policy allowed it.
    EndpointToHost,
    /// A workload sent from an address that is not its own.
    Spoofed,
    /// Traffic of the host to its own workloads is not policed.
    HostToWorkload,
    /// What a host must hear from its neighbours.
    Neighbours,
    /// What OpenStack's workloads may always ask of their host.
    OpenStack,
    /// An address of a service that nobody translated.
    ServiceLoop,
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(source, n) => write!(f, "{source}, rule {n}"),
            Self::EndOfTier(t) => write!(f, "end of tier {t}"),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::EndOfProfiles => f.write_str("no profile allowed it"),
            Self::NotGoverned => f.write_str("no policy governs it"),
            Self::UnknownEndpoint => f.write_str("the endpoint is not known"),
            Self::Failsafe => f.write_str("a failsafe port"),
            Self::EndpointToHost => f.write_str("the default endpoint to host action"),
            Self::Spoofed => f.write_str("the source is not the workload's"),
            Self::HostToWorkload => f.write_str("from the host to a workload of its own"),
            Self::Neighbours => f.write_str("neighbour discovery"),
            Self::OpenStack => f.write_str("OpenStack's DHCP, DNS and metadata"),
            Self::ServiceLoop => {
                f.write_str("service-loop prevention: nobody translated the service's address")
            }
        }
    }
}

/// A verdict with the path that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The direction that was judged.
    pub direction: Direction,
    /// The verdict.
    pub verdict: Verdict,
    /// What decided.
    pub by: Decider,
    /// What was looked at, in order.
    pub path: Vec<Step>,
}
