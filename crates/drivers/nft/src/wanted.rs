//! What a chain or set shall be in the kernel, once what cannot be is closed or left out.

use caracal_rules::ir::{Chain, ChainName, Data, Key, Rule, Set, SetName, Statement, Verdict};

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
    pub(crate) refs: Vec<SetName>,
}

impl FamilyState {
    /// Why a rule cannot be in the kernel, if it cannot.
    pub(crate) fn obstacle(&self, rule: &Rule) -> Option<String> {
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

    /// Encodes a chain. A rule that cannot be closes a chain that is jumped to, and is left out of a base chain:
    /// dropping everything there would cut the node off.
    pub(crate) fn wanted_chain(
        &self,
        name: &ChainName,
        chain: &Chain,
        problems: &mut Problems,
    ) -> WantedChain {
        if let Some(why) = self.refused.chains.get(name) {
            problems.push((Object::Chain(name.clone()), why.clone()));
            return self.closed(why);
        }
        let mut wanted = WantedChain {
            rules: Vec::with_capacity(chain.rules.len()),
            refs: Vec::new(),
        };
        for (place, rule) in chain.rules.iter().enumerate() {
            let encoded = match self.obstacle(rule) {
                Some(why) => Err(why),
                None => encode_rule(rule, self.family, &self.desired.sets).map_err(|e| e.to_string()),
            };
            let encoded = encoded.and_then(|e| match self.refused.rules.get(&(name.clone(), e.hash)) {
                Some(why) => Err(why.clone()),
                None => Ok(e),
            });
            match encoded {
                Ok(encoded) => {
                    wanted.rules.push(encoded);
                    wanted.refs.extend(rule.sets().cloned());
                }
                Err(why) => {
                    problems.push((Object::Rule(name.clone(), place), why.clone()));
                    if chain.base.is_none() {
                        return self.closed(&why);
                    }
                }
            }
        }
        wanted
    }

    fn closed(&self, why: &str) -> WantedChain {
        let rule = Rule::new(
            [],
            [Statement::Counter, Statement::DROP],
            format!("closed: {why}"),
        );
        let rules = encode_rule(&rule, self.family, &self.desired.sets)
            .into_iter()
            .collect();
        WantedChain {
            rules,
            refs: Vec::new(),
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
