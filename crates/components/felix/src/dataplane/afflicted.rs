//! Which endpoints suffer from what the kernel refused: those whose packets can get to a chain that is not as wanted.

use std::collections::BTreeMap;

use caracal_nft::{Object, Problem};
use caracal_rules::ir::{ChainName, Data, Key, SetName, Span, TableState};

/// Names of workload interfaces with the reason, for one family's table and its problems. What is wrong with a base
/// chain concerns the node and no single endpoint.
pub(crate) fn interfaces(table: &TableState, problems: &[Problem]) -> BTreeMap<String, String> {
    let mut bad: BTreeMap<&ChainName, String> = BTreeMap::new();
    let mut whole = None;
    for p in problems {
        let why = format!("the kernel refused {}: {}", p.object, p.why);
        match &p.object {
            Object::Table(_) => whole = Some(why),
            // Nothing is decided by counting.
            Object::Counter(_) => {}
            Object::Chain(chain) | Object::Rule(chain, _) => {
                bad.insert(chain, why);
            }
            Object::Set(set) | Object::Elements(set) => {
                bad.extend(users(table, set).map(|chain| (chain, why.clone())));
            }
        }
    }
    bad.retain(|chain, _| table.chains.get(*chain).is_none_or(|c| c.base.is_none()));
    spread(table, &mut bad);
    let mut found = BTreeMap::new();
    for (key, element) in table.sets.values().flat_map(|s| &s.elements) {
        let (Key::One(Span::If(name)), Some(Data::Verdict(verdict))) = (key, element.data()) else {
            continue;
        };
        let why = verdict.target().and_then(|t| bad.get(t)).or(whole.as_ref());
        if let Some(why) = why.filter(|_| !name.is_prefix()) {
            found.insert(name.text().to_owned(), why.clone());
        }
    }
    found
}

fn users<'a>(table: &'a TableState, set: &SetName) -> impl Iterator<Item = &'a ChainName> {
    let uses = move |rules: &[caracal_rules::ir::Rule]| rules.iter().any(|r| r.sets().any(|s| s == set));
    let chains = table.chains.iter().filter(move |(_, c)| uses(&c.rules));
    chains.map(|(name, _)| name)
}

/// A chain that leads to a bad one is as bad.
fn spread<'a>(table: &'a TableState, bad: &mut BTreeMap<&'a ChainName, String>) {
    loop {
        let more: Vec<_> = table
            .chains
            .iter()
            .filter(|(name, chain)| !bad.contains_key(name) && chain.base.is_none())
            .filter_map(|(name, chain)| {
                let why = chain
                    .rules
                    .iter()
                    .flat_map(|r| r.targets())
                    .find_map(|t| bad.get(t))?;
                Some((name, why.clone()))
            })
            .collect();
        if more.is_empty() {
            return;
        }
        bad.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use caracal_net::Family;
    use caracal_rules::ir::{Chain, Element, IfName, KeyType, Rule, Set, SetDef, Statement, Verdict};

    use super::*;

    fn to(chain: &str) -> Verdict {
        Verdict::Goto(chain.into())
    }

    #[test]
    fn a_refused_chain_is_felt_by_those_whose_packets_get_there() {
        let leads = |chain: &str| {
            let rule = Rule::new(vec![], vec![Statement::Verdict(to(chain))], "");
            Chain::regular(vec![rule])
        };
        let mut table = TableState::default();
        table.chains.insert("a".into(), leads("b"));
        table.chains.insert("b".into(), leads("c"));
        table.chains.insert("c".into(), Chain::default());
        table.chains.insert("d".into(), Chain::default());
        let mut map = Set::empty(SetDef::verdict_map(vec![KeyType::IfName]));
        for (name, chain) in [("cali1", "a"), ("cali2", "d")] {
            let name = Span::If(IfName::exact(name).unwrap());
            map.elements.insert(Key::One(name), Element::verdict(to(chain)));
        }
        table.sets.insert("from-wl".into(), map);
        let problem = Problem {
            family: Family::V4,
            object: Object::Rule("c".into(), 0),
            why: "no".into(),
        };
        let found = interfaces(&table, &[problem]);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["cali1"]);
        assert!(found["cali1"].contains("rule 1 of chain c: no"), "{found:?}");
    }
}
