//! Making the kernel have what is wanted.

use std::collections::BTreeSet;

use caracal_net::{Family, PerFamily};
use caracal_netlink::{Refusal, Wait};
use caracal_rules::ir::SetName;
use tracing::warn;

use super::Nft;
use crate::{
    Error, NftTx, Report,
    batch::{At, Batch, Object},
    load::{self, LoadError},
    plan::{ECHO_MAX, Plan, Planned},
    readback,
    state::FamilyState,
};

/// How often a commit is tried, each time without what the kernel refused before.
const TRIES: usize = 16;
/// A difference longer than this is written as a new table, in small batches.
const DIFF_MAX: usize = 8 * 1024 * 1024;

/// A new set of more elements is written before the change that uses it.
const STAGED: usize = 4096;

/// What the kernel refused, with its words.
type Refusals = Vec<(Option<(Family, Object)>, Refusal)>;

/// A family's plan: what goes ahead, and the rest.
type Split = (Family, Plan, Plan);

impl<T: NftTx> Nft<T> {
    pub(super) fn load(&mut self, families: &[Family], report: &mut Report) -> Result<(), Error> {
        let mut last = None;
        for _ in 0..TRIES {
            report.loads += 1;
            let PerFamily { v4, v6 } = &mut self.states;
            let mut states: Vec<&mut FamilyState> = [v4, v6]
                .into_iter()
                .filter(|s| families.contains(&s.family))
                .collect();
            // Our own notifications are read while the kernel makes them, for they would fill the buffer.
            let mut noticed = Vec::new();
            let monitor = &mut self.monitor;
            let mut between = || {
                if let Some(monitor) = monitor.as_mut() {
                    // A listener that fails is found out by the next wait.
                    let _ = monitor.poll(Wait::No, &mut noticed);
                }
            };
            let result = load::load(
                &mut self.tx,
                &mut states,
                self.config.layout,
                report,
                &mut between,
            );
            self.noticed(noticed)?;
            match result {
                Ok(()) => return Ok(()),
                Err(LoadError::Failed(e)) => return Err(e),
                Err(LoadError::Again) => {}
                Err(LoadError::Refused(refusals)) => {
                    report.refused_batches += 1;
                    let error = gave_up(&refusals);
                    let mut progress = false;
                    for (object, refusal) in refusals {
                        match object {
                            Some((family, object)) => progress |= self.refuse(family, &object, &refusal),
                            None => progress |= refusal.errno == libc::EINTR || refusal.errno == libc::EAGAIN,
                        }
                    }
                    if !progress {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(Error::NotStarted))
    }

    /// Writes every difference by one batch, new chains that nothing leads to yet by one ahead of it; deletes the tables
    /// of `old`.
    pub(super) fn commit(&mut self, old: &[(Family, String)], report: &mut Report) -> Result<(), Error> {
        let mut doubted: BTreeSet<(Family, Object)> = BTreeSet::new();
        let mut last = None;
        for _ in 0..TRIES {
            let missing: Vec<Family> = Family::BOTH
                .into_iter()
                .filter(|f| self.states.get(*f).table.is_none() && self.states.get(*f).has_work())
                .collect();
            if !missing.is_empty() {
                self.load(&missing, report)?;
            }
            if let Err(refusals) = self.stage(report)? {
                last = Some(gave_up(&refusals));
                if !self.digest(refusals, &mut doubted)? {
                    break;
                }
                continue;
            }
            let (mut ahead, mut batch) = (Batch::default(), Batch::default());
            self.delete_old(old, &mut batch)?;
            let Some(mut plans) = self.plan(&mut ahead, &mut batch)? else {
                let families: Vec<Family> = Family::BOTH
                    .into_iter()
                    .filter(|f| self.states.get(*f).has_work())
                    .collect();
                self.load(&families, report)?;
                continue;
            };
            let sent = load::send(&mut self.tx, ahead, report).and_then(|echoes| {
                for (family, new, _) in &mut plans {
                    self.states
                        .get_mut(*family)
                        .settle_new(std::mem::take(new), &echoes);
                }
                load::send(&mut self.tx, batch, report)
            });
            match sent {
                Ok(echoes) => {
                    for (family, _, plan) in plans {
                        self.states.get_mut(family).settle(plan, &echoes);
                    }
                    return Ok(());
                }
                Err(LoadError::Failed(e)) => {
                    // Nobody knows what the kernel has now.
                    self.audit()?;
                    return Err(e);
                }
                Err(LoadError::Again) => {}
                Err(LoadError::Refused(refusals)) => {
                    report.refused_batches += 1;
                    last = Some(gave_up(&refusals));
                    if !self.digest(refusals, &mut doubted)? {
                        break;
                    }
                }
            }
        }
        self.audit()?;
        Err(last.unwrap_or(Error::NotStarted))
    }

    /// Writes large new sets in small batches before the change that uses them.
    fn stage(&mut self, report: &mut Report) -> Result<Result<(), Refusals>, Error> {
        while let Some((family, name)) = self.large_new_set() {
            let monitor = &mut self.monitor;
            let mut noticed = Vec::new();
            let mut between = || {
                if let Some(monitor) = monitor.as_mut() {
                    // A listener that fails is found out by the next wait.
                    let _ = monitor.poll(Wait::No, &mut noticed);
                }
            };
            let state = self.states.get_mut(family);
            let result = load::stage(&mut self.tx, state, &name, report, &mut between);
            self.noticed(noticed)?;
            match result {
                Ok(()) | Err(LoadError::Again) => {}
                Err(LoadError::Failed(e)) => return Err(e),
                Err(LoadError::Refused(refusals)) => {
                    report.refused_batches += 1;
                    return Ok(Err(refusals));
                }
            }
        }
        Ok(Ok(()))
    }

    fn large_new_set(&self) -> Option<(Family, SetName)> {
        self.states
            .iter()
            .filter(|(_, state)| state.table.is_some())
            .find_map(|(family, state)| {
                let is_large = |name: &&SetName| {
                    let known = state.sets.contains_key(*name) || state.stale_sets.contains(*name);
                    !known && state.wanted_set(name).is_some_and(|s| s.elements.len() > STAGED)
                };
                state
                    .touched_sets
                    .keys()
                    .find(is_large)
                    .map(|name| (family, name.clone()))
            })
    }

    fn delete_old(&mut self, old: &[(Family, String)], batch: &mut Batch) -> Result<(), Error> {
        for (family, name) in old {
            let current = self.states.get(*family).table.as_ref() == Some(name);
            if !current
                && readback::tables(&mut self.tx, *family)?
                    .iter()
                    .any(|t| t.name == *name)
            {
                batch.del_table(At {
                    family: *family,
                    table: name,
                });
            }
        }
        Ok(())
    }

    /// Plans for the families that have work, appended to the two batches; `None` when a new table must be written.
    fn plan(&mut self, ahead: &mut Batch, batch: &mut Batch) -> Result<Option<Vec<Split>>, Error> {
        let mut plans = Vec::new();
        for family in Family::BOTH {
            let state = self.states.get_mut(family);
            let Some(table) = state.table.clone().filter(|_| state.has_work()) else {
                continue;
            };
            state.touch_problems();
            match state.plan(&mut self.tx, &table)? {
                Planned::Ready(plan) => plans.push((family, table, *plan)),
                Planned::Reload => return Ok(None),
            }
        }
        let echo = plans.iter().map(|(_, _, p)| p.new_rules()).sum::<usize>() <= ECHO_MAX;
        let mut split = Vec::new();
        for (family, table, mut plan) in plans {
            let state = self.states.get(family);
            let mut new = state.take_new(&mut plan);
            state.emit(&mut new, ahead, &table, echo);
            state.emit(&mut plan, batch, &table, echo);
            split.push((family, new, plan));
        }
        if ahead.len() + batch.len() > DIFF_MAX && !self.started {
            return Ok(None);
        }
        Ok(Some(split))
    }

    /// Looks for the cause of a refusal: what may only be out of date is read again, what is refused a second time is
    /// closed. False when nothing was learnt.
    fn digest(
        &mut self,
        refusals: Refusals,
        doubted: &mut BTreeSet<(Family, Object)>,
    ) -> Result<bool, Error> {
        let mut learnt = false;
        for family in Family::BOTH {
            let Some(table) = self.states.get(family).table.clone() else {
                continue;
            };
            if !readback::tables(&mut self.tx, family)?
                .iter()
                .any(|t| t.name == table)
            {
                self.states.get_mut(family).forget_kernel();
                learnt = true;
            }
        }
        if learnt {
            return Ok(true);
        }
        for (object, refusal) in refusals {
            let Some((family, object)) = object else {
                learnt |= matches!(refusal.errno, libc::EINTR | libc::EAGAIN);
                continue;
            };
            let may_be_stale = matches!(
                refusal.errno,
                libc::ENOENT | libc::EEXIST | libc::EBUSY | libc::ENOTEMPTY | libc::ENFILE
            );
            if may_be_stale && doubted.insert((family, object.clone())) {
                self.states.get_mut(family).stale_counters = true;
                self.states.get_mut(family).doubt(&object);
                learnt = true;
            } else {
                learnt |= self.refuse(family, &object, &refusal);
            }
        }
        Ok(learnt)
    }

    /// Gives an object up until it changes; false when that leads nowhere.
    fn refuse(&mut self, family: Family, object: &Object, refusal: &Refusal) -> bool {
        let why = format!("the kernel refused {object}: {refusal}");
        warn!(%family, %object, %refusal, "refused by the kernel; closed until it changes");
        self.states.get_mut(family).refuse(object, &why)
    }
}

pub(crate) fn gave_up(refusals: &[(Option<(Family, Object)>, Refusal)]) -> Error {
    let named = refusals
        .iter()
        .find(|(object, _)| object.is_some())
        .or(refusals.first());
    match named {
        Some((object, refusal)) => Error::Refused {
            object: object
                .as_ref()
                .map_or("the batch".into(), |(family, o)| format!("{o} ({family})")),
            source: refusal.clone(),
        },
        None => Error::NotStarted,
    }
}
