//! The fewest rule operations that turn one list of rules into another.

use crate::readback::KnownRule;

/// One operation; places are of the wanted list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleOp {
    /// The rule in the kernel stays.
    Keep { handle: u64 },
    /// Wanted rule `place` takes the place of a rule in the kernel.
    Replace { place: usize, handle: u64 },
    /// Wanted rule `place` goes before a rule that stays, or to the end.
    Insert { place: usize, before: Option<u64> },
    /// A rule in the kernel goes.
    Delete { handle: u64 },
}

/// Above this many pairs the middle part is rewritten instead of compared.
const PAIRS_MAX: usize = 1 << 20;

/// The operations, in the order of the wanted list.
pub(crate) fn rule_ops(have: &[KnownRule], want: &[u64]) -> Vec<RuleOp> {
    let same = |(h, w): &(&KnownRule, &u64)| h.hash == **w;
    let head = have.iter().zip(want).take_while(same).count();
    let (have_rest, want_rest) = (&have[head..], &want[head..]);
    let tail = have_rest
        .iter()
        .rev()
        .zip(want_rest.iter().rev())
        .take_while(same)
        .count();
    let have_mid = &have_rest[..have_rest.len() - tail];
    let want_mid = &want_rest[..want_rest.len() - tail];

    let mut ops: Vec<RuleOp> = have[..head]
        .iter()
        .map(|r| RuleOp::Keep { handle: r.handle })
        .collect();
    let mut kept = common(have_mid, want_mid);
    // The end of the middle part ends its last gap.
    kept.push((have_mid.len(), want_mid.len()));
    let (mut i, mut j) = (0, 0);
    for (next_i, next_j) in kept {
        let anchor = have.get(head + next_i).map(|r| r.handle);
        gap(&have_mid[i..next_i], head + j, head + next_j, anchor, &mut ops);
        if next_i < have_mid.len() {
            ops.push(RuleOp::Keep {
                handle: have_mid[next_i].handle,
            });
        }
        (i, j) = (next_i + 1, next_j + 1);
    }
    ops.extend(
        have_rest[have_mid.len()..]
            .iter()
            .map(|r| RuleOp::Keep { handle: r.handle }),
    );
    ops
}

fn gap(old: &[KnownRule], from: usize, to: usize, before: Option<u64>, ops: &mut Vec<RuleOp>) {
    let replaced = old.len().min(to - from);
    for (n, rule) in old[..replaced].iter().enumerate() {
        ops.push(RuleOp::Replace {
            place: from + n,
            handle: rule.handle,
        });
    }
    ops.extend((from + replaced..to).map(|place| RuleOp::Insert { place, before }));
    ops.extend(
        old[replaced..]
            .iter()
            .map(|r| RuleOp::Delete { handle: r.handle }),
    );
}

/// The longest common subsequence, as pairs of places.
fn common(have: &[KnownRule], want: &[u64]) -> Vec<(usize, usize)> {
    let (n, m) = (have.len(), want.len());
    if n == 0 || m == 0 || n * m > PAIRS_MAX {
        return Vec::new();
    }
    let width = m + 1;
    let mut best = vec![0u32; (n + 1) * width];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            best[i * width + j] = if have[i].hash == want[j] {
                best[(i + 1) * width + j + 1] + 1
            } else {
                best[(i + 1) * width + j].max(best[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < n && j < m {
        if have[i].hash == want[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[(i + 1) * width + j] >= best[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(hashes: &[u64]) -> Vec<KnownRule> {
        hashes
            .iter()
            .zip(100..)
            .map(|(hash, handle)| KnownRule { hash: *hash, handle })
            .collect()
    }

    /// Does what the kernel does: a list of (handle, hash); deleted rules stay as places until the end.
    fn play(have: &[KnownRule], want: &[u64], ops: &[RuleOp]) -> Vec<u64> {
        let mut list: Vec<(u64, u64, bool)> = have.iter().map(|r| (r.handle, r.hash, true)).collect();
        let place_of = |list: &[(u64, u64, bool)], handle| {
            list.iter()
                .position(|(h, _, live)| *h == handle && *live)
                .expect("a live rule")
        };
        for op in ops {
            match *op {
                RuleOp::Keep { handle } => assert!(list[place_of(&list, handle)].2),
                RuleOp::Replace { place, handle } => {
                    let at = place_of(&list, handle);
                    list[at].2 = false;
                    list.insert(at + 1, (0, want[place], true));
                }
                RuleOp::Insert {
                    place,
                    before: Some(handle),
                } => {
                    let at = place_of(&list, handle);
                    list.insert(at, (0, want[place], true));
                }
                RuleOp::Insert { place, before: None } => list.push((0, want[place], true)),
                RuleOp::Delete { handle } => {
                    let at = place_of(&list, handle);
                    list[at].2 = false;
                }
            }
        }
        list.into_iter()
            .filter(|(_, _, live)| *live)
            .map(|(_, hash, _)| hash)
            .collect()
    }

    fn cost(ops: &[RuleOp]) -> usize {
        ops.iter().filter(|op| !matches!(op, RuleOp::Keep { .. })).count()
    }

    proptest! {
        #[test]
        fn the_operations_lead_to_what_is_wanted(
            have in proptest::collection::vec(0u64..6, 0..12),
            want in proptest::collection::vec(1u64..6, 0..12),
        ) {
            let have = known(&have);
            let ops = rule_ops(&have, &want);
            prop_assert_eq!(play(&have, &want, &ops), want.clone());
            prop_assert!(cost(&ops) <= have.len() + want.len());
            let kept = ops.len() - cost(&ops);
            let shared = common(&have, &want).len();
            prop_assert_eq!(kept, shared, "all that is common stays");
        }
    }

    #[test]
    fn a_small_change_costs_one_operation() {
        let have = known(&[1, 2, 3, 4]);
        assert_eq!(cost(&rule_ops(&have, &[1, 2, 3, 4])), 0);
        assert_eq!(cost(&rule_ops(&have, &[1, 9, 3, 4])), 1);
        assert_eq!(cost(&rule_ops(&have, &[1, 3, 4])), 1);
        assert_eq!(cost(&rule_ops(&have, &[1, 2, 9, 3, 4])), 1);
        assert_eq!(cost(&rule_ops(&have, &[1, 2, 3, 4, 5])), 1);
        assert_eq!(
            cost(&rule_ops(&known(&[0, 1, 2]), &[1, 2])),
            1,
            "a foreign rule goes alone"
        );
    }
}
