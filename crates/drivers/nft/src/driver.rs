use std::{
    collections::{BTreeSet, VecDeque},
    os::fd::{AsRawFd, RawFd},
    time::{Duration, Instant},
};

use caracal_net::{Family, PerFamily};
use caracal_netlink::{Refusal, Wait};
use caracal_rules::ir::{TableDelta, TableState};
use caracal_update::InSync;
use tracing::{debug, info, warn};

use crate::{
    Config, Error, NetlinkTx, NftTx, Problem, Report,
    batch::{At, Batch, Object},
    load::{self, LoadError, NAMES, REPLACED},
    monitor::{Monitor, Noticed},
    plan::{ECHO_MAX, Plan, Planned},
    readback,
    state::{FamilyState, KnownChain},
    tx,
};

/// How often a commit is tried, each time without what the kernel refused before.
const TRIES: usize = 16;
/// Reading back may take this long before a change gets its turn.
const AUDIT_SLICE: Duration = Duration::from_millis(4);
/// Pauses between tries after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A difference longer than this is written as a new table, in small batches.
const DIFF_MAX: usize = 8 * 1024 * 1024;

/// Our tables in the network namespace of the thread that opened it. Everything blocks; one thread owns it.
#[derive(Debug)]
pub struct Nft<T: NftTx = NetlinkTx> {
    tx: T,
    config: Config,
    states: PerFamily<FamilyState>,
    monitor: Option<Monitor>,
    audit: VecDeque<(Family, Object)>,
    started: bool,
    /// After a failure: when to try again, and how long that pause is.
    backoff: Option<(Instant, Duration)>,
}

impl Nft {
    /// Opens the way to the current network namespace's nf_tables; changes nothing.
    ///
    /// # Errors
    /// When there is no netfilter netlink, or no right to it.
    pub fn open(config: Config) -> Result<Self, Error> {
        Ok(Self::with_tx(NetlinkTx::open()?, config))
    }
}

impl<T: NftTx> Nft<T> {
    /// The same over another way to the kernel.
    pub fn with_tx(tx: T, config: Config) -> Self {
        let states = PerFamily::new(FamilyState::new);
        Self {
            tx,
            config,
            states,
            monitor: None,
            audit: VecDeque::new(),
            started: false,
            backoff: None,
        }
    }

    /// Makes the tables exactly this: reads back what there is and writes the difference, or loads anew where there is
    /// no table of this layout. Then listens to changes of others.
    ///
    /// # Errors
    /// When the kernel cannot be read, or refuses for a reason that no single object accounts for.
    pub fn start(&mut self, desired: PerFamily<TableState>, token: &InSync) -> Result<Report, Error> {
        let mut report = Report::default();
        for (family, wanted) in [(Family::V4, desired.v4), (Family::V6, desired.v6)] {
            let state = self.states.get_mut(family);
            *state = FamilyState {
                desired: wanted,
                ..FamilyState::new(family)
            };
        }
        self.monitor = None;
        self.audit.clear();
        let first = tx::generation(&mut self.tx)?;
        let mut reload = Vec::new();
        let mut old = Vec::new();
        for family in Family::BOTH {
            if self.adopt(family, &mut old)? {
                self.states.get_mut(family).touch_all();
            } else {
                reload.push(family);
            }
        }
        if !reload.is_empty() {
            self.load(&reload, &mut report)?;
        }
        self.commit(&old, &mut report)?;
        self.started = true;
        self.listen(first, &report)?;
        self.finish(&mut report);
        let _ = token;
        Ok(report)
    }

    /// Changes what is wanted, and makes it so in one transaction for both families.
    ///
    /// # Errors
    /// As [`Nft::start`]. What is wanted has changed all the same, and the next call makes it so.
    pub fn apply(&mut self, deltas: PerFamily<Vec<TableDelta>>, token: &InSync) -> Result<Report, Error> {
        let _ = token;
        if !self.started {
            return Err(Error::NotStarted);
        }
        for (family, deltas) in [(Family::V4, deltas.v4), (Family::V6, deltas.v6)] {
            for delta in deltas {
                self.states.get_mut(family).take(delta)?;
            }
        }
        self.repair()
    }

    /// Waits for changes of others, at most as `wait` says, and tells whether [`Nft::repair`] has something to do.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn wait(&mut self, wait: Wait) -> Result<bool, Error> {
        let pause = self.backoff.map_or(Duration::ZERO, |(until, _)| {
            until.saturating_duration_since(Instant::now())
        });
        let wait = match wait {
            _ if self.has_work() && pause.is_zero() => Wait::No,
            Wait::For(time) if self.has_work() => Wait::For(time.min(pause)),
            Wait::Forever if self.has_work() => Wait::For(pause),
            wait => wait,
        };
        self.notice(wait)?;
        let due = self.backoff.is_none_or(|(until, _)| until <= Instant::now());
        Ok(due && self.has_work())
    }

    /// Reads again what others may have changed, a few milliseconds' worth of it, and puts it right.
    ///
    /// # Errors
    /// As [`Nft::start`].
    pub fn repair(&mut self) -> Result<Report, Error> {
        if !self.started {
            return Err(Error::NotStarted);
        }
        let mut report = Report::default();
        self.notice(Wait::No)?;
        self.audit_slice()?;
        match self.commit(&[], &mut report) {
            Ok(()) => self.backoff = None,
            Err(e) => {
                let pause = self
                    .backoff
                    .map_or(PAUSE_MIN, |(_, last)| (last * 2).min(PAUSE_MAX));
                self.backoff = Some((Instant::now() + pause, pause));
                return Err(e);
            }
        }
        self.notice(Wait::No)?;
        self.finish(&mut report);
        Ok(report)
    }

    /// Has every chain and set compared with the kernel, in slices by the following calls of [`Nft::repair`].
    ///
    /// # Errors
    /// When the kernel's names cannot be read.
    pub fn audit(&mut self) -> Result<(), Error> {
        self.audit.clear();
        for family in Family::BOTH {
            let Some(table) = self.states.get(family).table.clone() else {
                continue;
            };
            if !readback::tables(&mut self.tx, family)?
                .iter()
                .any(|t| t.name == table)
            {
                self.states.get_mut(family).forget_kernel();
                continue;
            }
            let at = At {
                family,
                table: &table,
            };
            let chains = readback::chains(&mut self.tx, at)?
                .into_iter()
                .map(|(name, ..)| name);
            let sets = readback::sets(&mut self.tx, at)?
                .into_iter()
                .map(|(name, _)| name);
            let state = self.states.get(family);
            let chains: BTreeSet<_> = chains.chain(state.desired.chains.keys().cloned()).collect();
            let sets: BTreeSet<_> = sets.chain(state.desired.sets.keys().cloned()).collect();
            // Sets first: a wrong member opens or closes more than a wrong rule that nobody could have meant.
            self.audit
                .extend(sets.into_iter().map(|name| (family, Object::Set(name))));
            self.audit
                .extend(chains.into_iter().map(|name| (family, Object::Chain(name))));
        }
        Ok(())
    }

    /// Has what the kernel refused tried again with the next change or repair. To be called seldom.
    pub fn retry_refused(&mut self) {
        for (_, state) in self.states.iter_mut() {
            if !state.refused.is_empty() || !state.problems.is_empty() {
                state.forgive();
                state.touch_problems();
            }
        }
    }

    /// Deletes every table of ours, of whatever layout, and nothing else.
    ///
    /// # Errors
    /// When the kernel cannot be read or refuses.
    pub fn cleanup(&mut self) -> Result<(), Error> {
        self.monitor = None;
        self.started = false;
        let mut batch = Batch::default();
        for family in Family::BOTH {
            for table in readback::tables(&mut self.tx, family)? {
                if NAMES.contains(&table.name.as_str()) {
                    batch.del_table(At {
                        family,
                        table: &table.name,
                    });
                }
            }
            *self.states.get_mut(family) = FamilyState::new(family);
        }
        match load::send(&mut self.tx, batch, &mut Report::default()) {
            Ok(_) => Ok(()),
            Err(LoadError::Failed(e)) => Err(e),
            Err(LoadError::Refused(refusals)) => Err(gave_up(&refusals)),
        }
    }

    /// What is in the kernel otherwise than asked for, or not at all.
    pub fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        self.states.iter().flat_map(|(family, state)| {
            let one = move |(object, why): (&Object, &String)| Problem {
                family,
                object: object.clone(),
                why: why.clone(),
            };
            state.problems.iter().map(one)
        })
    }

    /// What is wanted of a family, as last told.
    pub fn desired(&self, family: Family) -> &TableState {
        &self.states.get(family).desired
    }

    /// The name of our table in the kernel, if there is one.
    pub fn table(&self, family: Family) -> Option<&str> {
        self.states.get(family).table.as_deref()
    }

    /// Packets and bytes of the first counter of each rule of a chain, in order; `None` for a rule without one.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn counters(&mut self, family: Family, chain: &str) -> Result<Vec<Option<(u64, u64)>>, Error> {
        match self.states.get(family).table.clone() {
            Some(table) => readback::counters(
                &mut self.tx,
                At {
                    family,
                    table: &table,
                },
                chain,
            ),
            None => Ok(Vec::new()),
        }
    }

    fn has_work(&self) -> bool {
        !self.audit.is_empty() || self.states.iter().any(|(_, s)| s.has_work())
    }

    fn finish(&self, report: &mut Report) {
        report.problems = self.problems().collect();
    }

    /// Takes over a table of ours that is in force, and lists what else is to go. False when there is none that fits.
    fn adopt(&mut self, family: Family, old: &mut Vec<(Family, String)>) -> Result<bool, Error> {
        let found = readback::tables(&mut self.tx, family)?;
        let ours = found.iter().filter(|t| NAMES.contains(&t.name.as_str()));
        let mut live = Vec::new();
        for table in ours {
            let at = At {
                family,
                table: &table.name,
            };
            let chains = readback::chains(&mut self.tx, at)?;
            if chains.iter().any(|(_, _, hooked)| *hooked) {
                live.push((table, chains));
            }
        }
        let state = self.states.get_mut(family);
        if state.is_nothing_wanted() {
            let gone = found
                .into_iter()
                .filter(|t| NAMES.contains(&t.name.as_str()) || t.name == REPLACED);
            old.extend(gone.map(|t| (family, t.name)));
            return Ok(true);
        }
        let same_layout = |t: &&readback::FoundTable| t.layout == Some(self.config.layout);
        let choice = live
            .iter()
            .position(|(t, _)| same_layout(t))
            .or((!live.is_empty()).then_some(0));
        let Some((table, chains)) = choice.map(|i| live.swap_remove(i)) else {
            return Ok(false);
        };
        state.table = Some(table.name.clone());
        if !same_layout(&table) {
            info!(family = %family, table = table.name, "table of another layout is replaced");
            return Ok(false);
        }
        let at = At {
            family,
            table: &table.name,
        };
        state.sets = readback::sets(&mut self.tx, at)?.into_iter().collect();
        state.stale_sets = state.sets.keys().cloned().collect();
        state.chains = chains
            .into_iter()
            .map(|(name, base, _)| {
                (
                    name,
                    KnownChain {
                        base,
                        ..KnownChain::default()
                    },
                )
            })
            .collect();
        match readback::rules(&mut self.tx, at, None) {
            Ok(rules) => {
                for (chain, rule) in rules {
                    state.chains.entry(chain).or_default().rules.push(rule);
                }
            }
            // Others write all the time: each chain alone can be read between two of their changes.
            Err(Error::Netlink {
                source: caracal_netlink::Error::Interrupted { .. },
                ..
            }) => {
                state.stale_chains = state.chains.keys().cloned().collect();
            }
            Err(e) => return Err(e),
        }
        let goes = |t: &&readback::FoundTable| t.name == REPLACED || NAMES.contains(&t.name.as_str());
        for other in found.iter().filter(|t| t.name != table.name).filter(goes) {
            old.push((family, other.name.clone()));
        }
        Ok(true)
    }

    /// Listens from now on; whatever happened since `first` beside our own commits is looked for.
    fn listen(&mut self, first: u32, report: &Report) -> Result<(), Error> {
        let mut monitor = Monitor::open(self.tx.port())?;
        let now = tx::generation(&mut self.tx)?;
        monitor.start_from(now);
        self.monitor = Some(monitor);
        let own = u32::try_from(report.batches - report.refused_batches).unwrap_or(u32::MAX);
        if now.wrapping_sub(first) != own {
            self.audit()?;
        }
        Ok(())
    }

    fn notice(&mut self, wait: Wait) -> Result<(), Error> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(());
        };
        let mut noticed = Vec::new();
        monitor.poll(wait, &mut noticed)?;
        let mut lost = false;
        for what in noticed {
            match what {
                Noticed::Lost => lost = true,
                Noticed::Foreign {
                    family,
                    table,
                    object,
                    removed,
                } => {
                    let state = self.states.get_mut(family);
                    if state.table.as_deref() != Some(&table) {
                        continue;
                    }
                    debug!(%family, %object, "changed by someone else");
                    if removed {
                        warn!(%family, table, "our table was deleted by someone else");
                        state.forget_kernel();
                    } else {
                        state.doubt(&object);
                    }
                }
            }
        }
        if lost {
            debug!("notifications of nf_tables were lost; everything is compared");
            self.audit()?;
        }
        Ok(())
    }

    fn audit_slice(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        while let Some((family, object)) = self.audit.pop_front() {
            let state = self.states.get_mut(family);
            let Some(table) = state.table.clone() else {
                continue;
            };
            state.examine(&mut self.tx, &table, &object)?;
            // A set is read by the commit that follows: one at a time.
            if matches!(object, Object::Set(_)) || start.elapsed() > AUDIT_SLICE {
                break;
            }
        }
        Ok(())
    }

    fn load(&mut self, families: &[Family], report: &mut Report) -> Result<(), Error> {
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
            let lost = noticed.contains(&Noticed::Lost);
            match result {
                Ok(()) => {
                    if lost {
                        self.audit()?;
                    }
                    return Ok(());
                }
                Err(LoadError::Failed(e)) => return Err(e),
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

    /// Writes every difference in one batch, and deletes the tables of `old` by it.
    fn commit(&mut self, old: &[(Family, String)], report: &mut Report) -> Result<(), Error> {
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
            let mut batch = Batch::default();
            self.delete_old(old, &mut batch)?;
            let Some(plans) = self.plan(&mut batch)? else {
                let families: Vec<Family> = Family::BOTH
                    .into_iter()
                    .filter(|f| self.states.get(*f).has_work())
                    .collect();
                self.load(&families, report)?;
                continue;
            };
            match load::send(&mut self.tx, batch, report) {
                Ok(echoes) => {
                    for (family, plan) in plans {
                        self.states.get_mut(family).settle(plan, &echoes);
                    }
                    return Ok(());
                }
                Err(LoadError::Failed(e)) => {
                    // Nobody knows what the kernel has now.
                    self.audit()?;
                    return Err(e);
                }
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

    /// Plans for the families that have work, appended to the batch; `None` when a new table must be written.
    fn plan(&mut self, batch: &mut Batch) -> Result<Option<Vec<(Family, Plan)>>, Error> {
        let mut plans = Vec::new();
        for family in Family::BOTH {
            let state = self.states.get_mut(family);
            let Some(table) = state.table.clone().filter(|_| state.has_work()) else {
                continue;
            };
            state.touch_problems();
            match state.plan(&mut self.tx, &table)? {
                Planned::Ready(plan) => plans.push((family, table, plan)),
                Planned::Reload => return Ok(None),
            }
        }
        let echo = plans.iter().map(|(_, _, p)| p.new_rules()).sum::<usize>() <= ECHO_MAX;
        for (family, table, plan) in &mut plans {
            self.states.get(*family).emit(plan, batch, table, echo);
        }
        if batch.len() > DIFF_MAX && !self.started {
            return Ok(None);
        }
        Ok(Some(
            plans
                .into_iter()
                .map(|(family, _, plan)| (family, plan))
                .collect(),
        ))
    }

    /// Looks for the cause of a refusal: what may only be out of date is read again, what is refused a second time is
    /// closed. False when nothing was learnt.
    fn digest(
        &mut self,
        refusals: Vec<(Option<(Family, Object)>, Refusal)>,
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

impl<T: NftTx> AsRawFd for Nft<T> {
    /// Readable when others changed nf_tables; -1 before the start.
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_ref().map_or(-1, |m| m.socket.as_raw_fd())
    }
}

fn gave_up(refusals: &[(Option<(Family, Object)>, Refusal)]) -> Error {
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
