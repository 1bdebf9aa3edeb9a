//! One family's table: which chains and sets are needed, by whom, and what of them changed since the last flush.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use caracal_ids::IpSetId;
use caracal_net::Family;

use crate::{
    Map,
    base::{self, Base},
    chain::compile,
    config::RulesConfig,
    few::Few,
    ip_sets::IpSets,
    ir::{
        Chain, ChainName, CounterName, Data, DataType, Element, Elements, IfName, Key, Rule, Set, SetName,
        Span, TableDelta, TableState, Verdict,
    },
    list::{List, SourceId},
    out::{Out, push_elements, write_set},
    slot::Slot,
    source::Sources,
};

/// The list of an interface's packets at one place.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) list: Arc<List>,
    /// Whose interface it is.
    pub(crate) comment: Arc<str>,
}

/// Keys that went from a map, and elements that came.
type Change = (Vec<Key>, Vec<(Key, Element)>);

/// A place, and an interface or all that have no list of their own there.
pub(crate) type At = (Slot, Option<IfName>);

/// A chain of a list, and what it needs.
#[derive(Debug)]
struct Live {
    list: Arc<List>,
    refs: usize,
    rules: Vec<Rule>,
    sets: Vec<SetName>,
    ip_sets: Vec<IpSetId>,
    leads_to: Vec<ChainName>,
}

#[derive(Debug)]
struct Own {
    refs: usize,
    set: Set,
}

#[derive(Debug)]
pub(crate) struct Table {
    family: Family,
    lists: Map<ChainName, Live>,
    users: Map<SourceId, Few<ChainName>>,
    own: Map<SetName, Own>,
    ip_refs: Map<IpSetId, usize>,
    counters: Counters,
    bindings: BTreeMap<At, Binding>,
    // as of the last flush
    ip_written: Map<IpSetId, SetName>,
    base: Base,
    // since the last flush
    dirty: BTreeSet<ChainName>,
    idle: BTreeSet<ChainName>,
    ip_touched: BTreeSet<IpSetId>,
    rules_before: BTreeMap<ChainName, Option<Vec<Rule>>>,
    sets_before: BTreeMap<SetName, Option<Set>>,
    bindings_before: BTreeMap<At, Option<Binding>>,
}

/// Who counts: rules and elements as of the last flush.
#[derive(Debug, Default)]
struct Counters {
    refs: Map<CounterName, u32>,
    // whether it was there before this flush
    before: BTreeMap<CounterName, bool>,
}

impl Counters {
    /// What counts now, and what did before.
    fn recount<'a>(
        &mut self,
        now: impl Iterator<Item = &'a CounterName>,
        before: impl Iterator<Item = &'a CounterName>,
    ) {
        for name in now {
            let refs = self.refs.entry_ref(name).or_insert(0);
            if *refs == 0 {
                self.before.entry(name.clone()).or_insert(false);
            }
            *refs += 1;
        }
        for name in before {
            if let Some(refs) = self.refs.get_mut(name) {
                *refs -= 1;
                if *refs == 0 {
                    self.refs.remove(name);
                    self.before.entry(name.clone()).or_insert(true);
                }
            }
        }
    }

    fn write(&mut self, out: &mut Out) {
        for (name, was_there) in std::mem::take(&mut self.before) {
            match (was_there, self.refs.contains_key(&name)) {
                (false, true) => out.counters.push(TableDelta::PutCounter(name)),
                (true, false) => out.counters_gone.push(TableDelta::RemoveCounter(name)),
                _ => {}
            }
        }
    }
}

fn of_rules(rules: &[Rule]) -> impl Iterator<Item = &CounterName> {
    rules.iter().flat_map(Rule::counters)
}

fn of_set(set: &Set) -> impl Iterator<Item = &CounterName> {
    let counts = set.def.data == Some(DataType::Counter);
    let elements = set.elements.values().filter(move |_| counts);
    elements.filter_map(|e| match e.data() {
        Some(Data::Counter(name)) => Some(name),
        _ => None,
    })
}

impl Table {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            lists: Map::default(),
            users: Map::default(),
            own: Map::default(),
            ip_refs: Map::default(),
            bindings: BTreeMap::new(),
            ip_written: Map::default(),
            base: Base::default(),
            dirty: BTreeSet::new(),
            idle: BTreeSet::new(),
            ip_touched: BTreeSet::new(),
            rules_before: BTreeMap::new(),
            sets_before: BTreeMap::new(),
            bindings_before: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// Gives an interface its list at a place, or takes it away.
    pub(crate) fn bind(&mut self, at: At, binding: Option<Binding>) {
        if let Some(b) = &binding {
            self.claim(&b.list);
        }
        let old = match binding {
            Some(b) => self.bindings.insert(at, b),
            None => self.bindings.remove(&at),
        };
        if let Some(b) = &old {
            self.release(&b.list.name);
        }
        if old.is_some() || self.bindings.contains_key(&at) {
            self.bindings_before.entry(at).or_insert(old);
        }
    }

    /// The lists that some interface has, or that another one leads to.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Arc<List>> {
        self.lists.values().filter(|l| l.refs > 0).map(|l| &l.list)
    }

    /// The interfaces that have a list at a place, and its chain.
    pub(crate) fn bound(&self, slot: Slot) -> impl Iterator<Item = (Option<IfName>, &ChainName)> {
        let all = self.bindings.range((slot, None)..);
        let here = all.take_while(move |((s, _), _)| *s == slot);
        here.map(|((_, interface), b)| (*interface, &b.list.name))
    }

    /// Whether any interface has a list at a place.
    pub(crate) fn is_bound(&self, slot: Slot) -> bool {
        self.bindings
            .range((slot, None)..)
            .next()
            .is_some_and(|((s, _), _)| *s == slot)
    }

    /// The rules of a source changed.
    pub(crate) fn source_changed(&mut self, source: &SourceId) {
        self.dirty
            .extend(self.users.get(source).into_iter().flat_map(Few::iter).cloned());
    }

    /// Something that every chain depends on changed.
    pub(crate) fn all_changed(&mut self) {
        self.dirty.extend(self.lists.keys().cloned());
    }

    /// Members or shape of a set changed.
    pub(crate) fn set_changed(&mut self, id: &IpSetId) {
        if self.ip_refs.contains_key(id) || self.ip_written.contains_key(id) {
            self.ip_touched.insert(id.clone());
        }
    }

    /// Brings everything up to date and says what changed.
    pub(crate) fn settle(
        &mut self,
        sources: &mut Sources,
        ip_sets: &mut IpSets,
        config: &RulesConfig,
        base: Option<Base>,
    ) -> Vec<TableDelta> {
        while let Some(name) = self.dirty.pop_first() {
            self.compile(&name, sources, ip_sets, config);
        }
        while let Some(name) = self.idle.pop_first() {
            self.collect(&name);
        }
        let mut out = Out::default();
        self.write_base(base, &mut out);
        self.write_chains(&mut out);
        self.write_own_sets(&mut out);
        for id in std::mem::take(&mut self.ip_touched) {
            self.write_ip_set(&id, ip_sets, &mut out);
        }
        self.write_bindings(&mut out);
        self.counters.write(&mut out);
        out.deltas()
    }

    /// Everything, as after the last flush if nothing changed since.
    pub(crate) fn state(&self, ip_sets: &IpSets) -> TableState {
        let mut state = TableState {
            chains: self.base.chains.clone(),
            sets: self.base.sets.clone(),
            counters: self.counters.refs.keys().cloned().collect(),
        };
        let lists = self.lists.iter();
        state
            .chains
            .extend(lists.map(|(n, l)| (n.clone(), Chain::regular(l.rules.clone()))));
        let own = self.own.iter();
        state.sets.extend(own.map(|(n, o)| (n.clone(), o.set.clone())));
        for (id, name) in &self.ip_written {
            if let (Some((_, shape)), Some(set)) = (ip_sets.resolve(id, self.family), ip_sets.get(id)) {
                let elements = set.elements(self.family).into_iter().collect();
                let def = shape.def(id, set.about());
                state.sets.insert(name.clone(), Set { def, elements });
            }
        }
        for slot in &self.base.maps {
            let bound = self.bindings.iter().filter(|((s, _), _)| s == slot);
            let bound = bound.map(|((_, interface), b)| element(*interface, b));
            let elements: Elements = bound.chain(base::unknown(*slot)).collect();
            let def = slot.def();
            state.sets.insert(slot.map().into(), Set { def, elements });
        }
        state
    }

    fn claim(&mut self, list: &Arc<List>) {
        if let Some(live) = self.lists.get_mut(&list.name) {
            live.refs += 1;
            if live.refs == 1 {
                // It was about to go, and was not kept up to date meanwhile.
                self.dirty.insert(list.name.clone());
            }
            return;
        }
        for source in &list.sources {
            let users = self.users.entry(source.clone()).or_default();
            users.insert(list.name.clone());
        }
        self.rules_before.entry(list.name.clone()).or_insert(None);
        self.dirty.insert(list.name.clone());
        let live = Live {
            list: Arc::clone(list),
            refs: 1,
            rules: Vec::new(),
            sets: Vec::new(),
            ip_sets: Vec::new(),
            leads_to: Vec::new(),
        };
        self.lists.insert(list.name.clone(), live);
    }

    fn release(&mut self, name: &ChainName) {
        if let Some(live) = self.lists.get_mut(name) {
            live.refs = live.refs.saturating_sub(1);
            if live.refs == 0 {
                self.idle.insert(name.clone());
            }
        }
    }

    fn compile(&mut self, name: &ChainName, sources: &mut Sources, ip_sets: &IpSets, config: &RulesConfig) {
        let Some(live) = self.lists.get_mut(name).filter(|l| l.refs > 0) else {
            return;
        };
        let list = Arc::clone(&live.list);
        let of = |s| sources.atoms(s, self.family, list.role.direction, ip_sets);
        let atoms: Vec<_> = list.sources.iter().map(of).collect();
        let new = compile(&list, &atoms, config);
        let set_names = new.sets.iter().map(|(n, _)| n.clone()).collect();
        let leads_to = new.leads_to.iter().map(|l| l.name.clone()).collect();
        let old_sets = std::mem::replace(&mut live.sets, set_names);
        let old_ip_sets = std::mem::replace(&mut live.ip_sets, new.ip_sets.clone());
        let old_leads = std::mem::replace(&mut live.leads_to, leads_to);
        if live.rules != new.rules {
            let before = std::mem::replace(&mut live.rules, new.rules);
            self.rules_before.entry(name.clone()).or_insert(Some(before));
        }
        for (name, set) in new.sets {
            self.claim_set(name, set);
        }
        for id in new.ip_sets {
            *self.ip_refs.entry(id.clone()).or_insert_with(|| {
                self.ip_touched.insert(id);
                0
            }) += 1;
        }
        new.leads_to.iter().for_each(|l| self.claim(l));
        self.give_back(old_sets, old_ip_sets, old_leads);
    }

    fn claim_set(&mut self, name: SetName, set: Set) {
        match self.own.get_mut(&name) {
            Some(own) => {
                own.refs += 1;
                if own.set != set {
                    let before = std::mem::replace(&mut own.set, set);
                    self.sets_before.entry(name).or_insert(Some(before));
                }
            }
            None => {
                self.sets_before.entry(name.clone()).or_insert(None);
                self.own.insert(name, Own { refs: 1, set });
            }
        }
    }

    fn give_back(&mut self, sets: Vec<SetName>, ip_sets: Vec<IpSetId>, leads_to: Vec<ChainName>) {
        for name in sets {
            if let Some(own) = self.own.get_mut(&name) {
                own.refs -= 1;
                if own.refs == 0 {
                    let gone = self.own.remove(&name).map(|o| o.set);
                    self.sets_before.entry(name).or_insert(gone);
                }
            }
        }
        for id in ip_sets {
            if let Some(refs) = self.ip_refs.get_mut(&id) {
                *refs -= 1;
                if *refs == 0 {
                    self.ip_refs.remove(&id);
                    self.ip_touched.insert(id);
                }
            }
        }
        leads_to.iter().for_each(|l| self.release(l));
    }

    /// Removes a chain that nothing leads to any more, and what only it needed.
    fn collect(&mut self, name: &ChainName) {
        if self.lists.get(name).is_none_or(|l| l.refs > 0) {
            return;
        }
        let Some(live) = self.lists.remove(name) else {
            return;
        };
        for source in &live.list.sources {
            if let Some(users) = self.users.get_mut(source) {
                users.remove(name);
                if users.is_empty() {
                    self.users.remove(source);
                }
            }
        }
        self.rules_before.entry(name.clone()).or_insert(Some(live.rules));
        self.give_back(live.sets, live.ip_sets, live.leads_to);
    }

    fn write_base(&mut self, new: Option<Base>, out: &mut Out) {
        let Some(new) = new else { return };
        let old = std::mem::replace(&mut self.base, new);
        let rules = |b: &'_ Base| -> Vec<CounterName> {
            let rules = b.chains.values().flat_map(|c| of_rules(&c.rules));
            rules.cloned().collect()
        };
        self.counters
            .recount(rules(&self.base).iter(), rules(&old).iter());
        for slot in self.base.maps.difference(&old.maps) {
            out.sets.push(TableDelta::PutSet(slot.map().into(), slot.def()));
            let unknown: Vec<_> = base::unknown(*slot).into_iter().collect();
            push_elements(&slot.map().into(), Vec::new(), unknown, out);
        }
        let maps_gone = old.maps.difference(&self.base.maps);
        out.sets_gone
            .extend(maps_gone.map(|s| TableDelta::RemoveSet(s.map().into())));
        for (name, chain) in &self.base.chains {
            if old.chains.get(name) != Some(chain) {
                out.chains.push(TableDelta::PutChain(name.clone(), chain.clone()));
            }
        }
        let gone = old
            .chains
            .into_keys()
            .filter(|n| !self.base.chains.contains_key(n));
        out.chains_gone.extend(gone.map(TableDelta::RemoveChain));
        let mut names: BTreeSet<SetName> = self.base.sets.keys().cloned().collect();
        names.extend(old.sets.keys().cloned());
        for name in names {
            let before = old.sets.get(&name);
            write_set(&name, before, self.base.sets.get(&name), out);
        }
    }

    fn write_chains(&mut self, out: &mut Out) {
        for (name, before) in std::mem::take(&mut self.rules_before) {
            let now = self.lists.get(&name).map_or(&[][..], |l| &l.rules);
            let rules_before = before.as_deref().unwrap_or_default();
            self.counters.recount(of_rules(now), of_rules(rules_before));
            match (self.lists.get(&name), before) {
                (Some(live), before) if before.as_ref() != Some(&live.rules) => {
                    let chain = Chain::regular(live.rules.clone());
                    out.chains.push(TableDelta::PutChain(name, chain));
                }
                (None, Some(_)) => out.chains_gone.push(TableDelta::RemoveChain(name)),
                _ => {}
            }
        }
    }

    fn write_own_sets(&mut self, out: &mut Out) {
        for (name, before) in std::mem::take(&mut self.sets_before) {
            let now = self.own.get(&name).map(|o| &o.set);
            write_set(&name, before.as_ref(), now, out);
            let counting = now.into_iter().flat_map(of_set);
            self.counters.recount(counting, before.iter().flat_map(of_set));
        }
    }

    fn write_ip_set(&mut self, id: &IpSetId, ip_sets: &mut IpSets, out: &mut Out) {
        let needed = self.ip_refs.contains_key(id);
        let want = ip_sets.resolve(id, self.family).filter(|_| needed);
        let replica = ip_sets.get_mut(id);
        let old = self.ip_written.get(id);
        if let (Some((name, shape)), Some(replica)) = (want, replica) {
            let same = old == Some(&name);
            if let Some(pending) = replica.take_pending(self.family).filter(|_| same) {
                let (gone, new) = pending.split();
                push_elements(&name, gone, new, out);
                return;
            }
            let elements = replica.elements(self.family);
            if !same {
                if let Some(old) = self.ip_written.insert(id.clone(), name.clone()) {
                    out.sets_gone.push(TableDelta::RemoveSet(old));
                }
                out.sets
                    .push(TableDelta::PutSet(name.clone(), shape.def(id, replica.about())));
            }
            out.sets.push(TableDelta::ReplaceElements(name, elements));
        } else if let Some(old) = self.ip_written.remove(id) {
            out.sets_gone.push(TableDelta::RemoveSet(old));
            if let Some(replica) = ip_sets.get_mut(id) {
                replica.forgotten(self.family);
            }
        }
    }

    fn write_bindings(&mut self, out: &mut Out) {
        let mut changes: BTreeMap<Slot, Change> = BTreeMap::new();
        for (at, before) in std::mem::take(&mut self.bindings_before) {
            // What goes with its map needs no words.
            if !self.base.maps.contains(&at.0) {
                continue;
            }
            let (gone, new) = changes.entry(at.0).or_default();
            let before = before.as_ref().map(|b| element(at.1, b));
            match self.bindings.get(&at).map(|b| element(at.1, b)) {
                Some(now) if before.as_ref() != Some(&now) => new.push(now),
                None => gone.extend(before.map(|(k, _)| k)),
                Some(_) => {}
            }
        }
        for (slot, (gone, new)) in changes {
            push_elements(&slot.map().into(), gone, new, out);
        }
    }
}

fn element(interface: Option<IfName>, binding: &Binding) -> (Key, Element) {
    let verdict = Verdict::Jump(binding.list.name.clone());
    let element = Element::verdict(verdict).commented(Arc::clone(&binding.comment));
    (interface.map_or(Key::Any, |i| Key::One(Span::If(i))), element)
}
