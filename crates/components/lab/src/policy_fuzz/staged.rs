//! Staged policies change nothing while they are staged, and what they are said to do is what they do.

use std::borrow::Cow;

use caracal_oracle::{Reading, Verdict, travel};
use caracal_policy_fuzz::{Case, Dataplane, check as check_enforced, desired};

/// Judges the packets of a case with its staged policies, without them, and after they took effect: how many verdicts were
/// as they should be, and the first that was not.
pub(super) fn check(case: &Case, dataplane: &mut dyn Dataplane) -> Result<(usize, Option<String>), String> {
    let meant = match dataplane.refuses() {
        true => case.in_force(),
        false => Cow::Borrowed(case),
    };
    // What is told beside the enforced verdicts, before anything is done.
    let (told, _) = desired(&meant);
    let read = |reading| -> Vec<bool> {
        let allowed = |trip| travel(&told, &case.host, reading, trip).verdict == Verdict::Allowed;
        case.trips.iter().map(allowed).collect()
    };
    let (enforced, pending) = (read(Reading::Enforced), read(Reading::Pending));
    let (agreed, difference) = check_enforced(case, dataplane)?;
    if let Some(difference) = difference {
        return Ok((agreed, Some(format!("with staged policies: {difference}"))));
    }
    let without = dataplane.verdicts(&meant.without_staged())?;
    if let Some(text) = differs(case, "without staged policies", &enforced, &without) {
        return Ok((0, Some(text)));
    }
    let committed = dataplane.verdicts(&meant.committed())?;
    if let Some(text) = differs(case, "with staged policies enforced", &pending, &committed) {
        return Ok((0, Some(text)));
    }
    Ok((agreed + without.len() + committed.len(), None))
}

fn differs(case: &Case, when: &str, expected: &[bool], found: &[bool]) -> Option<String> {
    let word = |allowed| if allowed { "allowed" } else { "blocked" };
    let at = expected.iter().zip(found).position(|(a, b)| a != b)?;
    Some(format!(
        "packet {at}: {} by {:?}\n  {when}, as foretold {}\n  the dataplane     {}\n",
        case.trips[at].packet,
        case.trips[at].way,
        word(expected[at]),
        word(found[at]),
    ))
}
