use caracal_api::{EntityRule, Resource, Rule};

use crate::Case;

/// A smaller case that still shows what `shows` looks for: without objects, rules, criteria and packets that are not
/// needed for it. At most `budget` cases are tried.
pub fn shrink(case: &Case, budget: usize, mut shows: impl FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut left = budget;
    // Large parts first: a case may be slow to try.
    for part in [2, 4, 8] {
        for step in [drop_part_of_trips, drop_part_of_objects] {
            let mut n = 0;
            while n < part {
                if left == 0 {
                    return best;
                }
                left -= 1;
                match step(&best, part, n) {
                    Some(smaller) if shows(&smaller) => best = smaller,
                    _ => n += 1,
                }
            }
        }
    }
    loop {
        let before = best.clone();
        for step in [drop_trips, drop_slices, drop_objects, drop_rules, drop_criteria] {
            let mut n = 0;
            while let Some(smaller) = step(&best, n) {
                if left == 0 {
                    return best;
                }
                left -= 1;
                if smaller != best && shows(&smaller) {
                    best = smaller;
                } else {
                    n += 1;
                }
            }
        }
        if best == before {
            return best;
        }
    }
}

/// Without the `n`th of `of` parts; nothing where that is no part at all.
fn without<T: Clone>(list: &[T], of: usize, n: usize) -> Option<Vec<T>> {
    let size = list.len() / of;
    let (from, to) = (n * size, (n + 1) * size);
    (size > 0).then(|| [&list[..from], &list[to..]].concat())
}

fn drop_part_of_trips(case: &Case, of: usize, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    smaller.trips = without(&case.trips, of, n)?;
    Some(smaller)
}

fn drop_part_of_objects(case: &Case, of: usize, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    smaller.objects = without(&case.objects, of, n)?;
    Some(smaller)
}

/// The case without its `n`th packet; nothing when there is none, or no other.
fn drop_trips(case: &Case, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    if n >= smaller.trips.len() || smaller.trips.len() == 1 {
        return None;
    }
    smaller.trips.remove(n);
    Some(smaller)
}

fn drop_slices(case: &Case, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    (n < smaller.slices.len()).then(|| smaller.slices.remove(n))?;
    Some(smaller)
}

fn drop_objects(case: &Case, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    (n < smaller.objects.len()).then(|| smaller.objects.remove(n))?;
    Some(smaller)
}

/// The lists of rules of an object.
fn lists(object: &mut Resource) -> Vec<&mut Vec<Rule>> {
    match object {
        Resource::NetworkPolicy(p) => vec![&mut p.spec.ingress, &mut p.spec.egress],
        Resource::GlobalNetworkPolicy(p) => vec![&mut p.spec.ingress, &mut p.spec.egress],
        Resource::StagedNetworkPolicy(p) => vec![&mut p.spec.ingress, &mut p.spec.egress],
        Resource::StagedGlobalNetworkPolicy(p) => vec![&mut p.spec.ingress, &mut p.spec.egress],
        Resource::Profile(p) => vec![&mut p.spec.ingress, &mut p.spec.egress],
        _ => vec![],
    }
}

fn drop_rules(case: &Case, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    let mut n = n;
    for list in smaller.objects.iter_mut().flat_map(lists) {
        if n < list.len() {
            list.remove(n);
            return Some(smaller);
        }
        n -= list.len();
    }
    None
}

/// Ways to write a rule without one of its criteria.
const SIMPLER: [fn(&mut Rule); 14] = [
    |r| r.ip_version = None,
    |r| r.not_protocol = None,
    |r| r.icmp = None,
    |r| r.not_icmp = None,
    |r| r.source = EntityRule::default(),
    |r| r.destination = EntityRule::default(),
    |r| each(r, |e| e.nets.clear()),
    |r| each(r, |e| e.not_nets.clear()),
    |r| each(r, |e| e.selector.clear()),
    |r| each(r, |e| e.not_selector.clear()),
    |r| each(r, |e| e.namespace_selector.clear()),
    |r| each(r, |e| e.service_accounts = None),
    |r| each(r, |e| e.not_ports.clear()),
    |r| each(r, |e| e.ports.truncate(1)),
];

fn each(rule: &mut Rule, change: impl Fn(&mut EntityRule)) {
    change(&mut rule.source);
    change(&mut rule.destination);
}

fn drop_criteria(case: &Case, n: usize) -> Option<Case> {
    let mut smaller = case.clone();
    let (nth, way) = (n / SIMPLER.len(), n % SIMPLER.len());
    let mut rules = smaller.objects.iter_mut().flat_map(lists).flatten();
    SIMPLER[way](rules.nth(nth)?);
    Some(smaller)
}
