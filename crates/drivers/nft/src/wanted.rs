//! What a chain or set shall be in the kernel, once what cannot be is closed or left out.

use caracal_rules::ir::{Chain, ChainName, Data, Field, Key, Match, Rule, Set, SetName, Statement, Verdict};

use smallvec::SmallVec;

use crate::{
    batch::Object,
    encode::{EncodedRule, WireElement, encode_rule, wire_elements},
    state::FamilyState,
};

/// Objects that are not in the kernel as they were asked for, and why.
pub(crate) type Problems = Vec<(Object, String)>;

/// A chain ready for the kernel.
#[derive(Debug)]
pub(crate) struct WantedChain {
    pub(crate) rules: Vec<EncodedRule>,
    /// For each of them, the place of the rule it stands for.
    pub(crate) origin: Vec<usize>,
    pub(crate) refs: Vec<SetName>,
}

impl FamilyState {
    /// Why a rule cannot be in the kernel, if it cannot.
    fn obstacle(&self, rule: &Rule) -> Option<String> {
        let missing_set = rule.sets().find(|s| self.wanted_set(s).is_none());
        let missing_chain = rule.targets().find(|c| !self.is_target(c));
        match (missing_set, missing_chain) {
            (Some(set), _) => Some(match self.refused.sets.get(set) {
                Some(why) => format!("it needs set {set}, which was refused: {why}"),
                None => format!("it needs set {set}, which does not exist"),
            }),
            (None, Some(chain)) => Some(format!("it needs chain {chain}, which does not exist")),
            (None, None) => None,
        }
    }

    fn is_target(&self, chain: &ChainName) -> bool {
        self.desired.chains.get(chain).is_some_and(|c| c.base.is_none())
    }

    /// Encodes a chain. A rule that cannot be closes a chain that is jumped to. In a base chain, where dropping
    /// everything would cut the node off, it closes the workloads' interfaces if it decides over them, else it is left
    /// out.
    pub(crate) fn wanted_chain(
        &self,
        name: &ChainName,
        chain: &Chain,
        problems: &mut Problems,
    ) -> WantedChain {
        let mut wanted = WantedChain {
            rules: Vec::new(),
            origin: Vec::new(),
            refs: Vec::new(),
        };
        if let Some(why) = self.refused.chains.get(name) {
            problems.push((Object::Chain(name.clone()), why.clone()));
            wanted.push(self.encode(&closed(why)), 0);
            return wanted;
        }
        for (place, rule) in chain.rules.iter().enumerate() {
            let encoded = match self.obstacle(rule) {
                Some(why) => Err(why),
                None => self.encode(rule),
            };
            let encoded = encoded.and_then(|e| match self.refused.rules.get(&(name.clone(), e.hash)) {
                Some(why) => Err(why.clone()),
                None => Ok(e),
            });
            let why = match encoded {
                Ok(encoded) => {
                    wanted.push(Ok(encoded), place);
                    wanted.refs.extend(rule.sets().cloned());
                    continue;
                }
                Err(why) => why,
            };
            problems.push((Object::Rule(name.clone(), place), why.clone()));
            if chain.base.is_none() {
                wanted = WantedChain {
                    rules: Vec::new(),
                    origin: Vec::new(),
                    refs: Vec::new(),
                };
                wanted.push(self.encode(&closed(&why)), place);
                return wanted;
            }
            for instead in self.instead_of(rule, &why) {
                wanted.push(self.encode(&instead), place);
            }
        }
        wanted
    }

    fn encode(&self, rule: &Rule) -> Result<EncodedRule, String> {
        encode_rule(rule, self.family, &self.desired.sets).map_err(|e| e.to_string())
    }

    /// What keeps the workloads closed where a rule of a base chain cannot be: the rule's own interfaces, or those that
    /// its map tells apart.
    fn instead_of(&self, rule: &Rule, why: &str) -> Vec<Rule> {
        let drop = |m: Match| Rule {
            matches: vec![m],
            ..closed(why)
        };
        let is_link = |field: &Field| matches!(field, Field::Iif | Field::Oif);
        let by_map = rule.statements.iter().find_map(|s| match s {
            Statement::VerdictMap { fields, .. } => fields.iter().copied().find(is_link),
            _ => None,
        });
        if let Some(field) = by_map {
            return self
                .workloads
                .iter()
                .map(|prefix| drop(Match::is(field, *prefix)))
                .collect();
        }
        let restricts = rule.statements.iter().any(|s| match s {
            Statement::Verdict(v) => !matches!(v, Verdict::Accept | Verdict::Return),
            Statement::Reject(_) => true,
            _ => false,
        });
        let links = rule
            .matches
            .iter()
            .filter(|m| matches!(m, Match::Is { field, not: false, .. } if is_link(field)));
        let links: Vec<Match> = links.filter(|_| restricts).cloned().collect();
        if links.is_empty() {
            Vec::new()
        } else {
            vec![Rule {
                matches: links,
                ..closed(why)
            }]
        }
    }

    /// Encodes one element; one that leads to a chain that does not exist is left out.
    pub(crate) fn wire(
        &self,
        name: &SetName,
        set: &Set,
        key: &Key,
        problems: &mut Problems,
    ) -> SmallVec<[WireElement; 2]> {
        let Some(element) = set.elements.get(key) else {
            return SmallVec::new();
        };
        let target = match element.data() {
            Some(Data::Verdict(v)) => Verdict::target(v),
            _ => None,
        };
        let wire = match target.filter(|c| !self.is_target(c)) {
            Some(chain) => Err(format!("{key} leads to chain {chain}, which does not exist")),
            None => wire_elements(key, element, &set.def, self.family).map_err(|e| e.to_string()),
        };
        wire.unwrap_or_else(|why| {
            problems.push((Object::Elements(name.clone()), why));
            SmallVec::new()
        })
    }

    /// Encodes all elements of a set, one after the other.
    pub(crate) fn wire_all<'a>(
        &'a self,
        name: &'a SetName,
        set: &'a Set,
        problems: &'a mut Problems,
    ) -> impl Iterator<Item = WireElement> + 'a {
        set.elements
            .keys()
            .flat_map(|key| self.wire(name, set, key, problems))
    }
}

impl WantedChain {
    fn push(&mut self, rule: Result<EncodedRule, String>, place: usize) {
        if let Ok(rule) = rule {
            self.rules.push(rule);
            self.origin.push(place);
        }
    }
}

fn closed(why: &str) -> Rule {
    Rule::new(
        [],
        [Statement::Counter, Statement::DROP],
        format!("closed: {why}"),
    )
}
