//! Who made a revision that nobody was told of: an assignment of calls of unknown fate, and ends of leases, to revisions.

use std::collections::BTreeMap;

/// What may have made a revision: by number, with the revisions it can have made.
pub(crate) type Candidates = BTreeMap<i64, Vec<usize>>;

/// Gives every revision a cause of its own; returns those for which none is left. (Kuhn's augmenting paths: few
/// revisions have more than one candidate.)
pub(crate) fn unexplained(candidates: &Candidates) -> Vec<i64> {
    let mut owner: BTreeMap<usize, i64> = BTreeMap::new();
    candidates
        .keys()
        .copied()
        .filter(|revision| !give(*revision, candidates, &mut owner, &mut Vec::new()))
        .collect()
}

fn give(
    revision: i64,
    candidates: &Candidates,
    owner: &mut BTreeMap<usize, i64>,
    asked: &mut Vec<usize>,
) -> bool {
    for cause in candidates.get(&revision).into_iter().flatten() {
        if asked.contains(cause) {
            continue;
        }
        asked.push(*cause);
        let free = match owner.get(cause).copied() {
            None => true,
            Some(other) => give(other, candidates, owner, asked),
        };
        if free {
            owner.insert(*cause, revision);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_handed_on_when_that_helps_and_used_once() {
        let both: Candidates = BTreeMap::from([(5, vec![0, 1]), (6, vec![0])]);
        assert!(unexplained(&both).is_empty());
        let one = BTreeMap::from([(5, vec![0]), (6, vec![0]), (7, vec![])]);
        assert_eq!(unexplained(&one), [6, 7]);
    }
}
