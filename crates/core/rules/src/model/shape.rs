//! What can be wrong with a table whatever packets come.

use std::collections::{BTreeMap, BTreeSet};

use super::CHAINS_IN_A_ROW;
use crate::ir::{Chain, ChainName, Data, Hook, RejectWith, Statement, TableState};

/// What the kernel keeps of a comment.
const COMMENT_MAX: usize = 127;

/// What the kernel would refuse, and what is there for nothing: dangling names, chains or sets that nothing leads to,
/// rows of chains that are too long, statements where they cannot be.
#[must_use]
pub fn faults(table: &TableState) -> Vec<String> {
    let mut faults = vec![];
    let (mut chains, mut sets, mut counters) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (name, chain) in &table.chains {
        for rule in &chain.rules {
            chains.extend(rule.targets().cloned());
            sets.extend(rule.sets().cloned());
            counters.extend(rule.counters().cloned());
            if rule.comment.len() > COMMENT_MAX {
                faults.push(format!("long comment in {name}: {}", rule.comment));
            }
        }
    }
    for set in table.sets.values() {
        for element in set.elements.values() {
            match element.data() {
                Some(Data::Verdict(v)) => chains.extend(v.target().cloned()),
                Some(Data::Counter(name)) => {
                    counters.insert(name.clone());
                }
                Some(Data::Value(_)) | None => {}
            }
        }
    }
    let missing = chains.iter().filter(|c| !table.chains.contains_key(*c));
    faults.extend(missing.map(|c| format!("no chain {c}")));
    let missing = sets.iter().filter(|s| !table.sets.contains_key(*s));
    faults.extend(missing.map(|s| format!("no set {s}")));
    let missing = counters.difference(&table.counters);
    faults.extend(missing.map(|c| format!("no counter {c}")));
    let idle = table.counters.difference(&counters);
    faults.extend(idle.map(|c| format!("nothing counts in {c}")));
    let is_base = |c: &Chain| c.base.is_some();
    let idle = table
        .chains
        .iter()
        .filter(|(n, c)| !is_base(c) && !chains.contains(*n));
    faults.extend(idle.map(|(n, _)| format!("nothing leads to chain {n}")));
    let idle = table.sets.keys().filter(|n| !sets.contains(*n));
    faults.extend(idle.map(|n| format!("nothing looks into set {n}")));
    let (mut rows, mut hooks) = (BTreeMap::new(), BTreeMap::new());
    for (name, chain) in &table.chains {
        let Some(base) = chain.base else { continue };
        let row = row(table, name, &mut rows);
        if row > CHAINS_IN_A_ROW {
            faults.push(format!(
                "{row} chains in a row from {name}, the kernel takes {CHAINS_IN_A_ROW}"
            ));
        }
        hook(table, name, (base.hook, base.priority), &mut hooks);
    }
    for (name, places) in &hooks {
        let rules = table.chains.get(name).into_iter().flat_map(|c| &c.rules);
        for statement in rules.flat_map(|r| &r.statements) {
            if let Some((hook, priority)) = places.iter().find(|(h, p)| !allowed(statement, *h, *p)) {
                faults.push(format!(
                    "{statement:?} in {name} cannot be at {hook:?}, priority {priority}"
                ));
            }
        }
    }
    faults
}

/// Whether the kernel (or sense) allows a statement at a hook.
fn allowed(statement: &Statement, hook: Hook, priority: i32) -> bool {
    match statement {
        Statement::Reject(
            RejectWith::TcpReset | RejectWith::PortUnreachable | RejectWith::AdminProhibited,
        ) => {
            matches!(hook, Hook::Input | Hook::Forward | Hook::Output)
        }
        // Tracking begins at -200.
        Statement::NoTrack => matches!(hook, Hook::Prerouting | Hook::Output) && priority < -200,
        _ => true,
    }
}

fn next(table: &TableState, name: &ChainName) -> Vec<ChainName> {
    let mut targets: Vec<ChainName> = vec![];
    for rule in table.chains.get(name).into_iter().flat_map(|c| &c.rules) {
        targets.extend(rule.targets().cloned());
        for set in rule.sets().filter_map(|s| table.sets.get(s)) {
            targets.extend(set.elements.values().filter_map(|e| match e.data() {
                Some(Data::Verdict(v)) => v.target().cloned(),
                _ => None,
            }));
        }
    }
    targets
}

/// How many chains can follow one another from this one on. The kernel counts jumps and gotos alike.
fn row(table: &TableState, name: &ChainName, known: &mut BTreeMap<ChainName, usize>) -> usize {
    if let Some(n) = known.get(name) {
        return *n;
    }
    let targets = next(table, name);
    let n = 1 + targets.iter().map(|t| row(table, t, known)).max().unwrap_or(0);
    known.insert(name.clone(), n);
    n
}

/// Notes at which hooks a chain and all behind it are reached.
fn hook(
    table: &TableState,
    name: &ChainName,
    place: (Hook, i32),
    known: &mut BTreeMap<ChainName, BTreeSet<(Hook, i32)>>,
) {
    if known.entry(name.clone()).or_default().insert(place) {
        for target in next(table, name) {
            hook(table, &target, place, known);
        }
    }
}
