//! Each deliberate mistake in the reference is noticed: the suite would notice it in the engine as well.

use std::collections::BTreeMap;

use caracal_oracle::{Reading, Verdict, travel};
use caracal_policy_fuzz::{Case, Mistake, Reference, desired, shrink};

#[test]
fn every_mistake_is_caught() {
    const { assert!(Mistake::ALL.len() >= 20) };
    let mut left: Vec<Mistake> = Mistake::ALL.to_vec();
    let mut caught = BTreeMap::new();
    for seed in 1..3000 {
        let case = Case::random(seed, 40);
        let (desired, _) = desired(&case);
        let engine: Vec<bool> = case
            .trips
            .iter()
            .map(|t| travel(&desired, &case.host, Reading::Enforced, t).verdict == Verdict::Allowed)
            .collect();
        left.retain(|mistake| {
            let wrong = Reference::new(&case, Some(*mistake));
            let same = case.trips.iter().zip(&engine).all(|(t, e)| wrong.allows(t) == *e);
            if !same {
                caught.insert(*mistake, seed);
            }
            same
        });
        if left.is_empty() {
            break;
        }
    }
    assert!(
        left.is_empty(),
        "nobody notices that {left:#?}; others were: {caught:#?}"
    );
}

#[test]
fn a_mistake_shrinks_to_what_shows_it() {
    let differs = |case: &Case| {
        let (right, wrong) = (
            Reference::new(case, None),
            Reference::new(case, Some(Mistake::PassIsAllow)),
        );
        case.trips.iter().any(|t| right.allows(t) != wrong.allows(t))
    };
    let case = (1..)
        .map(|seed| Case::random(seed, 40))
        .find(|c| differs(c))
        .unwrap();
    let small = shrink(&case, 5000, differs);
    assert!(differs(&small));
    assert_eq!(small.trips.len(), 1);
    assert!(small.objects.len() <= 4, "{}", small.to_yaml());
    assert!(small.to_yaml().contains("action: Pass"));
}
