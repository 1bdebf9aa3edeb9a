//! The reference verdict of a packet against the desired state, with the path that led to it.
//!
//! Small and obvious on purpose: nested loops over [`caracal_desired::Desired`], nothing indexed, nothing shared with `policy` or
//! `rules`. Every dataplane is tested against it; `why`, policy diffs and policy tests are made of it.
//!
//! **Invariant:** a referent that is missing (policy, profile, IP set) never lets a packet through.

mod criteria;
mod journey;
mod packet;
mod trace;
mod verdict;

pub use criteria::{Criterion, mismatch};
pub use journey::{FailsafePort, Host, Journey, OpenStack, Stage, ToHost, Trip, Way, travel};
pub use packet::{Direction, Packet, Verdict};
pub use trace::{Decider, Decision, RuleSource, Step};
pub use verdict::{ListKind, Reading, decide, decide_as, decide_host, decide_host_as};
