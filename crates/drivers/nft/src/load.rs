//! Writes whole tables beside the ones in force, and changes over in one batch.
//!
//! A table cannot be renamed, so a new one takes the first free of three names. It is written in small batches without
//! base chains: no packet enters it and the kernel validates nothing. The last batch makes the base chains and deletes
//! every table that the new one stands for.

use std::collections::BTreeMap;

use caracal_net::Family;
use caracal_rules::ir::{Chain, ChainName, CounterName, SetName};

use crate::{
    Error, NftTx, Report,
    batch::{At, Batch, Place},
    encode::{WireElement, check_def, def_hash},
    readback::{self, Count, KnownRule},
    state::{FamilyState, KnownChain},
    tx::TxError,
    wanted::Problems,
};

/// Names of our table, in order of preference.
pub(crate) const NAMES: [&str; 3] = ["caracal", "caracal-b", "caracal-c"];
/// The table of the program that we replace.
pub(crate) const REPLACED: &str = "calico";
/// Elements that are encoded at a time.
const ELEMENTS: usize = 2048;
/// Batches of a load are about this long.
const BATCH: usize = 256 * 1024;
/// The longest, so that a listener's buffer takes the notifications of one.
const BATCH_MAX: usize = 4 * 1024 * 1024;
/// The kernel's time to list a set grows with the square of its size: a set of more elements is written anew rather
/// than read back.
pub(crate) const READABLE: usize = 200_000;

/// A load that the kernel refused.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The batch, with the kernel's refusals.
    Refused(Vec<(Option<(Family, crate::Object)>, caracal_netlink::Refusal)>),
    Failed(Error),
    /// Something was found to have no place in the kernel; the next try leaves it out.
    Again,
}

impl From<Error> for LoadError {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// Sends what was gathered whenever it is long enough.
struct Writer<'a, T> {
    tx: &'a mut T,
    batch: Batch,
    report: &'a mut Report,
    between: &'a mut dyn FnMut(),
}

impl<T: NftTx> Writer<'_, T> {
    fn step(&mut self) -> Result<(), LoadError> {
        self.step_above(BATCH)
    }

    fn step_above(&mut self, bytes: usize) -> Result<(), LoadError> {
        if self.batch.len() < bytes {
            Ok(())
        } else {
            self.send()
        }
    }

    fn send(&mut self) -> Result<(), LoadError> {
        let batch = std::mem::take(&mut self.batch);
        let result = send(self.tx, batch, self.report);
        (self.between)();
        result.map(|_| ())
    }
}

/// Commits a batch, and names the objects of refusals.
pub(crate) fn send<T: NftTx>(
    tx: &mut T,
    mut batch: Batch,
    report: &mut Report,
) -> Result<Vec<crate::tx::Echo>, LoadError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    report.batches += 1;
    report.messages += batch.messages();
    report.bytes += batch.len();
    tx.commit(&mut batch).map_err(|e| match e {
        TxError::Failed(e) => LoadError::Failed(e),
        TxError::Refused(refusals) => {
            let object = |seq: u32| {
                batch
                    .objects()
                    .get(usize::try_from(seq).ok()?.checked_sub(1)?)
                    .cloned()
            };
            LoadError::Refused(refusals.into_iter().map(|r| (object(r.seq), r)).collect())
        }
    })
}

/// What the load of one family leaves to be known.
struct Loaded {
    table: &'static str,
    chains: Vec<(ChainName, KnownChain)>,
    sets: Vec<(SetName, u64)>,
    problems: Problems,
    maps: Vec<SetName>,
    old: Vec<String>,
    /// What the table in force has counted.
    counted: BTreeMap<CounterName, Count>,
}

/// Writes the tables of these families anew. `between` runs between batches.
pub(crate) fn load<T: NftTx>(
    tx: &mut T,
    states: &mut [&mut FamilyState],
    layout: u32,
    report: &mut Report,
    between: &mut dyn FnMut(),
) -> Result<(), LoadError> {
    let mut w = Writer {
        tx,
        batch: Batch::default(),
        report,
        between,
    };
    let mut done = Vec::new();
    for state in states.iter_mut() {
        let mut loaded = begin(&mut w, state, layout)?;
        let at = At {
            family: state.family,
            table: loaded.table,
        };
        for name in &state.desired.counters {
            let count = loaded.counted.get(name).copied().unwrap_or_default();
            w.batch.put_counter(at, name, count);
            w.step()?;
        }
        put_sets(&mut w, state, &mut loaded, at)?;
        let chains: Vec<(&ChainName, &Chain)> = state.desired.chains.iter().collect();
        for (name, chain) in chains.iter().filter(|(_, c)| c.base.is_none()) {
            w.batch.put_chain(at, name, chain.base.as_ref());
            w.step()?;
        }
        for (name, chain) in chains.iter().filter(|(_, c)| c.base.is_none()) {
            put_rules(&mut w, state, &mut loaded, at, name, chain);
            w.step()?;
        }
        for name in std::mem::take(&mut loaded.maps) {
            put_elements(&mut w, state, &mut loaded.problems, at, &name)?;
        }
        done.push(loaded);
    }
    w.send()?;
    for (state, loaded) in states.iter_mut().zip(&mut done) {
        let at = At {
            family: state.family,
            table: loaded.table,
        };
        for (name, chain) in state.desired.chains.iter().filter(|(_, c)| c.base.is_some()) {
            if let Some(why) = state.refused.chains.get(name) {
                loaded
                    .problems
                    .push((crate::Object::Chain(name.clone()), why.clone()));
                continue;
            }
            w.batch.put_chain(at, name, chain.base.as_ref());
            put_rules(&mut w, state, loaded, at, name, chain);
        }
        for old in &loaded.old {
            w.batch.del_table(At {
                family: state.family,
                table: old,
            });
        }
    }
    w.send()?;
    for (state, loaded) in states.iter_mut().zip(done) {
        state.forget_kernel();
        state.table = Some(loaded.table.to_owned());
        state.chains = loaded.chains.into_iter().collect();
        state.sets = loaded.sets.into_iter().collect();
        state.counters.clone_from(&state.desired.counters);
        state.problems = loaded.problems.into_iter().collect();
    }
    Ok(())
}

fn begin<T: NftTx>(w: &mut Writer<'_, T>, state: &FamilyState, layout: u32) -> Result<Loaded, LoadError> {
    let found = readback::tables(w.tx, state.family)?;
    let before = found.iter().find(|t| state.table.as_ref() == Some(&t.name));
    let since = before.and_then(|t| t.since).unwrap_or_else(now);
    let found: Vec<String> = found.into_iter().map(|t| t.name).collect();
    let free = NAMES.into_iter().find(|n| !found.iter().any(|f| f == n));
    let not_ours = |n: &&str| state.table.as_deref() != Some(*n);
    let table = free
        .or_else(|| NAMES.into_iter().rev().find(not_ours))
        .unwrap_or(NAMES[0]);
    let at = At {
        family: state.family,
        table,
    };
    if found.iter().any(|f| f == table) {
        w.batch.del_table(at);
    }
    w.batch.put_table(at, layout, since);
    let replaced = |n: &String| *n != table && (NAMES.contains(&n.as_str()) || n == REPLACED);
    // What packets count in the old table from here on until the new one is in force is not carried over.
    let counted = match state.table.as_ref().filter(|t| found.contains(*t)) {
        Some(name) => {
            let (family, table) = (state.family, name.as_str());
            readback::counters(w.tx, At { family, table })?
                .into_iter()
                .collect()
        }
        None => BTreeMap::new(),
    };
    let old = found.into_iter().filter(replaced).collect();
    Ok(Loaded {
        table,
        chains: Vec::new(),
        sets: Vec::new(),
        problems: Problems::new(),
        maps: Vec::new(),
        old,
        counted,
    })
}

/// Seconds of Unix time.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

fn put_sets<T: NftTx>(
    w: &mut Writer<'_, T>,
    state: &mut FamilyState,
    loaded: &mut Loaded,
    at: At<'_>,
) -> Result<(), LoadError> {
    let names: Vec<SetName> = state.desired.sets.keys().cloned().collect();
    let mut again = false;
    for name in names {
        let Some(set) = state.wanted_set(&name) else {
            let why = state.refused.sets.get(&name).cloned().unwrap_or_default();
            loaded.problems.push((crate::Object::Set(name), why));
            continue;
        };
        if let Err(why) = check_def(&set.def) {
            state.refused.sets.insert(name.clone(), why.to_string());
            loaded.problems.push((crate::Object::Set(name), why.to_string()));
            continue;
        }
        w.batch.put_set(at, &name, &set.def);
        loaded.sets.push((name.clone(), def_hash(&set.def, state.family)));
        if state.leads_to_chains(&name) {
            loaded.maps.push(name);
        } else if let Some(why) = put_elements(w, state, &mut loaded.problems, at, &name)? {
            state.refuse_set(&name, &why);
            again = true;
        }
    }
    if again { Err(LoadError::Again) } else { Ok(()) }
}

/// Sends all elements of a set; for a plain set, what is wrong with one of them.
fn put_elements<T: NftTx>(
    w: &mut Writer<'_, T>,
    state: &FamilyState,
    problems: &mut Problems,
    at: At<'_>,
    name: &SetName,
) -> Result<Option<String>, LoadError> {
    let Some(set) = state.wanted_set(name) else {
        return Ok(None);
    };
    // Each commit walks the whole of an interval set, so a large one takes fewer and larger batches.
    let bytes = BATCH.max((set.elements.len() * 10).min(BATCH_MAX));
    let before = problems.len();
    let mut some: Vec<WireElement> = Vec::with_capacity(ELEMENTS);
    for key in set.elements.keys() {
        some.extend(state.wire(name, set, key, problems));
        // A member too few may open what should be closed: a plain set is refused as a whole.
        if let (None, Some((_, why))) = (&set.def.data, problems.get(before)) {
            return Ok(Some(why.clone()));
        }
        if some.len() >= ELEMENTS {
            w.batch.put_elements(at, name, &some);
            some.clear();
            w.step_above(bytes)?;
        }
    }
    w.batch.put_elements(at, name, &some);
    w.step()?;
    Ok(None)
}

/// Writes a large new set ahead of the change that will look into it: nobody sees it until then, so it need not be in
/// that change's batch.
pub(crate) fn stage<T: NftTx>(
    tx: &mut T,
    state: &mut FamilyState,
    name: &SetName,
    report: &mut Report,
    between: &mut dyn FnMut(),
) -> Result<(), LoadError> {
    let (Some(set), Some(table)) = (state.wanted_set(name), state.table.clone()) else {
        return Ok(());
    };
    if let Err(why) = check_def(&set.def) {
        state.refuse_set(name, &why.to_string());
        return Ok(());
    }
    let at = At {
        family: state.family,
        table: &table,
    };
    let hash = def_hash(&set.def, state.family);
    let mut w = Writer {
        tx,
        batch: Batch::default(),
        report,
        between,
    };
    w.batch.put_set(at, name, &set.def);
    let wrong = put_elements(&mut w, state, &mut Problems::new(), at, name)?;
    w.send()?;
    state.sets.insert(name.clone(), hash);
    if let Some(why) = wrong {
        state.refuse_set(name, &why);
    }
    state.touched_sets.insert(name.clone(), BTreeMap::new());
    Ok(())
}

fn put_rules<T: NftTx>(
    w: &mut Writer<'_, T>,
    state: &FamilyState,
    loaded: &mut Loaded,
    at: At<'_>,
    name: &ChainName,
    chain: &Chain,
) {
    let wanted = state.wanted_chain(name, chain, &mut loaded.problems);
    for (index, rule) in wanted.rules.iter().enumerate() {
        w.batch.put_rule(at, name, index, rule, Place::End, false);
    }
    let rules = wanted
        .rules
        .iter()
        .map(|r| KnownRule {
            hash: r.hash,
            handle: 0,
        })
        .collect();
    let known = KnownChain {
        base: chain.base,
        rules,
        refs: Some(wanted.refs),
    };
    loaded.chains.push((name.clone(), known));
}
