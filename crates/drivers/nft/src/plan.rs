//! The one batch that makes the kernel's table what is wanted, where it may differ.

use std::collections::{BTreeMap, BTreeSet};

use caracal_rules::ir::{BaseChain, ChainName, CounterName, DataType, SetName};

mod sets;

use crate::{
    Error, NftTx,
    batch::{At, Batch, Place},
    diff::{RuleOp, rule_ops},
    encode::{WireElement, def_hash},
    readback::{self, KnownRule},
    state::{FamilyState, KnownChain, SetChange},
    tx::Echo,
    wanted::{Problems, WantedChain},
};

/// With more new rules than this, the kernel is not asked to tell their handles.
pub(crate) const ECHO_MAX: usize = 512;

/// What is to be done to a chain.
#[derive(Debug)]
struct ChainPlan {
    name: ChainName,
    wanted: WantedChain,
    base: Option<BaseChain>,
    /// The chain itself is to be made, or its policy set.
    put: bool,
    flush: bool,
    ops: Vec<RuleOp>,
    /// Sequence number of the message that makes each rule.
    seqs: Vec<u32>,
}

/// What one family adds to the batch.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    chains: Vec<ChainPlan>,
    gone_chains: Vec<ChainName>,
    new_sets: Vec<(SetName, Vec<WireElement>)>,
    gone_sets: Vec<SetName>,
    redefined: BTreeSet<SetName>,
    changes: BTreeMap<SetName, SetChange>,
    new_counters: Vec<CounterName>,
    gone_counters: Vec<CounterName>,
    problems: Problems,
}

/// What planning led to.
#[derive(Debug)]
pub(crate) enum Planned {
    /// A plan.
    Ready(Box<Plan>),
    /// The difference cannot be told in one batch on this table: write a new one.
    Reload,
}

impl Plan {
    /// How many rules it makes.
    pub(crate) fn new_rules(&self) -> usize {
        let makes = |op: &&RuleOp| matches!(op, RuleOp::Insert { .. } | RuleOp::Replace { .. });
        self.chains
            .iter()
            .map(|c| c.ops.iter().filter(makes).count())
            .sum()
    }
}

impl FamilyState {
    /// Takes out of a plan what nothing leads to before the rest of it is in force: new chains, with the sets they look
    /// into. Written by a batch of its own, ahead of the rest: rules are those of the generation in which a packet
    /// began, but elements those of the moment, so a packet on its way would meet a chain of its own batch without rules.
    pub(crate) fn take_new(&self, plan: &mut Plan) -> Plan {
        let mut new = Plan::default();
        let is_new = |c: &ChainPlan| c.put && c.base.is_none();
        // A set that is made anew has those who look into it emptied by the same batch.
        if !plan.redefined.is_empty() || !plan.chains.iter().any(is_new) {
            return new;
        }
        new.new_counters = std::mem::take(&mut plan.new_counters);
        (new.chains, plan.chains) = std::mem::take(&mut plan.chains).into_iter().partition(is_new);
        for (name, elements) in std::mem::take(&mut plan.new_sets) {
            if self.leads_to_chains(&name) {
                plan.changes.entry(name.clone()).or_default().add = elements;
                new.new_sets.push((name, Vec::new()));
            } else {
                new.new_sets.push((name, elements));
            }
        }
        new
    }

    fn at<'a>(&self, table: &'a str) -> At<'a> {
        At {
            family: self.family,
            table,
        }
    }

    /// Reads again what is in doubt, and compares. Refuses sets that have no place in the kernel.
    pub(crate) fn plan(&mut self, tx: &mut impl NftTx, table: &str) -> Result<Planned, Error> {
        let mut plan = Plan::default();
        for name in std::mem::take(&mut self.stale_chains) {
            self.reread_chain(tx, table, &name)?;
        }
        if self
            .stale_sets
            .iter()
            .any(|name| self.is_unreadable(name) && self.wanted_set(name).is_some())
        {
            return Ok(Planned::Reload);
        }
        (plan.new_counters, plan.gone_counters) = self.counter_changes(
            tx,
            At {
                family: self.family,
                table,
            },
        )?;
        self.plan_sets(tx, table, &mut plan)?;
        let touched: Vec<ChainName> = self.touched_chains.iter().cloned().collect();
        let mut flushed = BTreeSet::new();
        if !plan.redefined.is_empty() {
            let looks = |c: &KnownChain| match &c.refs {
                Some(refs) => refs.iter().any(|s| plan.redefined.contains(s)),
                None => true,
            };
            flushed.extend(
                self.chains
                    .iter()
                    .filter(|(_, c)| looks(c))
                    .map(|(n, _)| n.clone()),
            );
        }
        let also: Vec<ChainName> = flushed.difference(&self.touched_chains).cloned().collect();
        for name in touched.iter().chain(&also) {
            let Some(chain) = self.desired.chains.get(name) else {
                if self.chains.contains_key(name) {
                    plan.gone_chains.push(name.clone());
                }
                continue;
            };
            let wanted = self.wanted_chain(name, chain, &mut plan.problems);
            let base = chain.base;
            let flush = flushed.contains(name);
            match self.plan_chain(tx, table, name, base, wanted, flush)? {
                Some(chain) => plan.chains.push(chain),
                None => return Ok(Planned::Reload),
            }
        }
        for name in &touched {
            self.clear_problems(Some(name), None);
        }
        self.problems.extend(plan.problems.drain(..));
        Ok(Planned::Ready(Box::new(plan)))
    }

    fn reread_chain(&mut self, tx: &mut impl NftTx, table: &str, name: &ChainName) -> Result<(), Error> {
        self.touched_chains.insert(name.clone());
        let at = self.at(table);
        match readback::chain(tx, at, name)? {
            None => {
                self.chains.remove(name);
            }
            Some((base, _)) => {
                let rules = readback::rules(tx, at, Some(name))?
                    .into_iter()
                    .map(|(_, r)| r)
                    .collect();
                self.chains.insert(
                    name.clone(),
                    KnownChain {
                        base,
                        rules,
                        refs: None,
                    },
                );
            }
        }
        Ok(())
    }

    /// `None` when the chain cannot become what it shall be without a new table.
    fn plan_chain(
        &mut self,
        tx: &mut impl NftTx,
        table: &str,
        name: &ChainName,
        base: Option<BaseChain>,
        wanted: WantedChain,
        flush: bool,
    ) -> Result<Option<ChainPlan>, Error> {
        let hashes: Vec<u64> = wanted.rules.iter().map(|r| r.hash).collect();
        let at = self.at(table);
        let mut put = true;
        let mut have: &[KnownRule] = &[];
        if let Some(known) = self.chains.get_mut(name) {
            let policy = base.map(|b| b.policy);
            let as_wanted = known.base.map(|b| BaseChain {
                policy: policy.unwrap_or(b.policy),
                ..b
            });
            if as_wanted != base {
                return Ok(None);
            }
            put = known.base != base;
            let differs = !known.rules.iter().map(|r| &r.hash).eq(&hashes);
            if differs && !flush && known.rules.iter().any(|r| r.handle == 0) {
                known.rules = readback::rules(tx, at, Some(name))?
                    .into_iter()
                    .map(|(_, r)| r)
                    .collect();
            }
            have = if flush { &[] } else { &known.rules };
        }
        let ops = rule_ops(have, &hashes);
        Ok(Some(ChainPlan {
            name: name.clone(),
            wanted,
            base,
            put,
            flush,
            ops,
            seqs: Vec::new(),
        }))
    }

    /// Appends a plan to a batch, in an order in which every message is valid: sets, rules, elements that lead to
    /// chains; and what goes in reverse.
    pub(crate) fn emit(&self, plan: &mut Plan, batch: &mut Batch, table: &str, echo: bool) {
        let at = At {
            family: self.family,
            table,
        };
        for name in &plan.new_counters {
            batch.put_counter(at, name, (0, 0));
        }
        for chain in plan.chains.iter().filter(|c| c.flush) {
            batch.flush_chain(at, &chain.name);
        }
        if !plan.redefined.is_empty() {
            plan.gone_chains
                .iter()
                .for_each(|name| batch.flush_chain(at, name));
        }
        plan.redefined.iter().for_each(|name| batch.del_set(at, name));
        for (name, elements) in &plan.new_sets {
            let Some(set) = self.desired.sets.get(name) else {
                continue;
            };
            batch.put_set(at, name, &set.def);
            if !self.leads_to_chains(name) {
                batch.put_elements(at, name, elements);
            }
        }
        for chain in plan.chains.iter().filter(|c| c.put) {
            batch.put_chain(at, &chain.name, chain.base.as_ref());
        }
        for (name, change) in &plan.changes {
            batch.del_elements(at, name, &change.del);
            if !self.leads_to_chains(name) {
                batch.put_elements(at, name, &change.add);
            }
        }
        for chain in &mut plan.chains {
            emit_rules(chain, batch, at, echo);
        }
        // Chains that go may lead to one another, and look into sets that go: empty them all first.
        if plan.gone_chains.len() + plan.gone_sets.len() > 1 && plan.redefined.is_empty() {
            plan.gone_chains
                .iter()
                .for_each(|name| batch.flush_chain(at, name));
        }
        let fresh = plan.new_sets.iter().map(|(name, add)| (name, add));
        for (name, add) in fresh.chain(plan.changes.iter().map(|(name, c)| (name, &c.add))) {
            if self.leads_to_chains(name) {
                batch.put_elements(at, name, add);
            }
        }
        plan.gone_sets.iter().for_each(|name| batch.del_set(at, name));
        plan.gone_chains.iter().for_each(|name| batch.del_chain(at, name));
        plan.gone_counters
            .iter()
            .for_each(|name| batch.del_counter(at, name));
    }

    /// Whether a set is a verdict map.
    pub(crate) fn leads_to_chains(&self, name: &SetName) -> bool {
        self.desired
            .sets
            .get(name)
            .is_some_and(|s| s.def.data == Some(DataType::Verdict))
    }

    /// The kernel took the last of a plan: what it knows is what was wanted.
    pub(crate) fn settle(&mut self, plan: Plan, echoes: &[Echo]) {
        self.note(plan, echoes);
        self.clear_touched();
    }

    /// The kernel took what goes ahead of a plan.
    pub(crate) fn settle_new(&mut self, plan: Plan, echoes: &[Echo]) {
        for (name, _) in &plan.new_sets {
            if !self.leads_to_chains(name) {
                // Should the rest be refused, these elements are not to be written again.
                self.touched_sets.insert(name.clone(), BTreeMap::new());
            }
        }
        self.note(plan, echoes);
    }

    fn note(&mut self, plan: Plan, echoes: &[Echo]) {
        self.counters.extend(plan.new_counters);
        plan.gone_counters.iter().for_each(|name| {
            self.counters.remove(name);
        });
        let handles: BTreeMap<u32, u64> = echoes.iter().map(|e| (e.seq, e.handle)).collect();
        for chain in plan.chains {
            let hashes = chain.wanted.rules.iter().map(|r| r.hash);
            let kept = chain.ops.iter().filter(|op| !matches!(op, RuleOp::Delete { .. }));
            let rules = kept
                .zip(hashes)
                .zip(&chain.seqs)
                .map(|((op, hash), seq)| match op {
                    RuleOp::Keep { handle } => KnownRule {
                        hash,
                        handle: *handle,
                    },
                    _ => KnownRule {
                        hash,
                        handle: handles.get(seq).copied().unwrap_or(0),
                    },
                });
            let known = KnownChain {
                base: chain.base,
                rules: rules.collect(),
                refs: Some(chain.wanted.refs),
            };
            self.chains.insert(chain.name, known);
        }
        for name in plan.gone_chains {
            self.chains.remove(&name);
        }
        for name in plan.gone_sets {
            self.sets.remove(&name);
        }
        for (name, _) in plan.new_sets {
            if let Some(set) = self.desired.sets.get(&name) {
                self.sets.insert(name, def_hash(&set.def, self.family));
            }
        }
    }
}

fn emit_rules(chain: &mut ChainPlan, batch: &mut Batch, at: At<'_>, echo: bool) {
    chain.seqs.clear();
    for op in &chain.ops {
        let (place, how) = match *op {
            RuleOp::Keep { .. } => {
                chain.seqs.push(0);
                continue;
            }
            RuleOp::Delete { handle } => {
                batch.del_rule(at, &chain.name, handle);
                continue;
            }
            RuleOp::Replace { place, handle } => (place, Place::Instead(handle)),
            RuleOp::Insert {
                place,
                before: Some(handle),
            } => (place, Place::Before(handle)),
            RuleOp::Insert { place, before: None } => (place, Place::End),
        };
        batch.put_rule(at, &chain.name, place, &chain.wanted.rules[place], how, echo);
        chain.seqs.push(batch.seq());
    }
}
