use std::{borrow::Cow, fmt};

use caracal_oracle::{Journey, Reading, Trip, Verdict, travel};

use crate::{Case, Dataplane, Mistake, Reference, dataplane::desired};

/// A packet on which the opinions differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Its place among the case's packets.
    pub at: usize,
    /// The packet.
    pub trip: Trip,
    /// Whether the objects say that it gets through.
    pub reference: bool,
    /// Whether the engine's output, read by the oracle, says so, and its reasons.
    pub oracle: Journey,
    /// Whether it got through the dataplane.
    pub dataplane: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |allowed| if allowed { "allowed" } else { "blocked" };
        writeln!(
            f,
            "packet {}: {} by {:?}",
            self.at, self.trip.packet, self.trip.way
        )?;
        writeln!(f, "  the objects say   {}", word(self.reference))?;
        writeln!(f, "  the engine says   {}", self.oracle.verdict)?;
        writeln!(f, "  the dataplane     {}", word(self.dataplane))?;
        for (stage, decision) in &self.oracle.stages {
            match decision {
                Some(d) => writeln!(f, "    {stage:?} {}: {} by {}", d.direction, d.verdict, d.by)?,
                None => writeln!(f, "    {stage:?}: left to what comes after")?,
            }
        }
        Ok(())
    }
}

/// The first packet on which reference, engine and dataplane differ; and how many verdicts agreed.
///
/// # Errors
/// When the dataplane cannot say.
pub fn check(case: &Case, dataplane: &mut dyn Dataplane) -> Result<(usize, Option<Box<Difference>>), String> {
    check_believing(case, dataplane, None)
}

/// As [`check`], with a reference that makes a deliberate mistake: what is found shows what a real difference looks like.
///
/// # Errors
/// When the dataplane cannot say.
pub fn check_believing(
    case: &Case,
    dataplane: &mut dyn Dataplane,
    mistake: Option<Mistake>,
) -> Result<(usize, Option<Box<Difference>>), String> {
    let meant = match dataplane.refuses() {
        true => case.in_force(),
        false => Cow::Borrowed(case),
    };
    let reference = Reference::new(&meant, mistake);
    let (desired, _) = desired(&meant);
    if let Some((key, reason)) = desired.invalid.iter().next() {
        return Err(format!("{key} cannot be used: {reason}"));
    }
    let through = dataplane.verdicts(case)?;
    for (at, (trip, dataplane)) in case.trips.iter().zip(through).enumerate() {
        let oracle = travel(&desired, &case.host, Reading::Enforced, trip);
        let reference = reference.allows(trip);
        if reference != dataplane || (oracle.verdict == Verdict::Allowed) != dataplane {
            let difference = Difference {
                at,
                trip: trip.clone(),
                reference,
                oracle,
                dataplane,
            };
            return Ok((at, Some(Box::new(difference))));
        }
    }
    Ok((case.trips.len(), None))
}
