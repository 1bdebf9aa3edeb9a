use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::{Duration, Instant},
};

use caracal_net::{Family, PerFamily};
use caracal_netlink::Wait;
use caracal_rules::ir::{ChainName, CounterName, LogTo, Rule, Statement, TableDelta, TableState};
use caracal_update::InSync;

use crate::{
    Config, Count, Error, NetlinkTx, NftTx, Problem, Report,
    batch::{At, Batch, Object, Place},
    load::{self, LoadError, NAMES},
    monitor::Monitor,
    readback,
    state::FamilyState,
    tx,
};

mod commit;
mod observe;

pub(crate) use commit::gave_up;

/// Pauses between tries after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Our tables in the network namespace of the thread that opened it. Everything blocks; one thread owns it.
#[derive(Debug)]
pub struct Nft<T: NftTx = NetlinkTx> {
    pub(crate) tx: T,
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
        let states = PerFamily::new(|f| FamilyState::new(f, &config.workloads));
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
                ..FamilyState::new(family, &self.config.workloads)
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

    /// When [`Nft::repair`] has something to do, without looking for news: now or earlier while work is left over from a
    /// slice of it, later after a failure, `None` when nothing is known to be wrong.
    #[must_use]
    pub fn next_work(&self) -> Option<Instant> {
        let due = || self.backoff.map_or_else(Instant::now, |(until, _)| until);
        (self.started && self.has_work()).then(due)
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

    /// Has every chain and set compared with the kernel, in slices by the following calls of [`Nft::repair`]. Sets of
    /// more than 200 000 elements are left out: reading one takes the kernel seconds to minutes.
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
            let sets = sets.into_iter().filter(|name| !state.is_unreadable(name));
            self.audit.extend(sets.map(|name| (family, Object::Set(name))));
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
            *self.states.get_mut(family) = FamilyState::new(family, &self.config.workloads);
        }
        match load::send(&mut self.tx, batch, &mut Report::default()) {
            Ok(_) | Err(LoadError::Again) => Ok(()),
            Err(LoadError::Failed(e)) => Err(e),
            Err(LoadError::Refused(refusals)) => Err(commit::gave_up(&refusals)),
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

    /// Whether the kernel takes rules that tell a netlink log group of packets. Nothing is left of the question.
    pub fn can_log_to(&mut self, group: u16) -> bool {
        let at = At {
            family: Family::V4,
            table: "caracal-probe",
        };
        let log = Statement::Log {
            to: LogTo::Group { group, snaplen: 1 },
            prefix: "".into(),
        };
        let Ok(rule) = crate::encode::encode_rule(&Rule::new([], [log], ""), at.family, &BTreeMap::new())
        else {
            return false;
        };
        let (chain, mut batch) = (ChainName::from("probe"), Batch::default());
        batch.put_table(at, 0, 0);
        batch.put_chain(at, &chain, None);
        batch.put_rule(at, &chain, 0, &rule, Place::End, false);
        batch.del_table(at);
        load::send(&mut self.tx, batch, &mut Report::default()).is_ok()
    }

    /// Since when the counters of a family count, seconds of Unix time.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn since(&mut self, family: Family) -> Result<Option<u64>, Error> {
        let Some(table) = self.states.get(family).table.clone() else {
            return Ok(None);
        };
        let tables = readback::tables(&mut self.tx, family)?;
        Ok(tables.into_iter().find(|t| t.name == table).and_then(|t| t.since))
    }

    /// Packets and bytes of every named counter of a family.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn counters(&mut self, family: Family) -> Result<Vec<(CounterName, Count)>, Error> {
        match self.states.get(family).table.clone() {
            Some(table) => readback::counters(
                &mut self.tx,
                At {
                    family,
                    table: &table,
                },
            ),
            None => Ok(Vec::new()),
        }
    }

    /// Packets and bytes of the first counter of each rule of a chain, in order; `None` for a rule without one.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn rule_counters(&mut self, family: Family, chain: &str) -> Result<Vec<Option<(u64, u64)>>, Error> {
        match self.states.get(family).table.clone() {
            Some(table) => readback::rule_counters(
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
}

impl<T: NftTx> Nft<T> {
    /// Readable when others changed nf_tables; nothing before the start.
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(|m| m.socket.as_fd())
    }
}

impl<T: NftTx> AsRawFd for Nft<T> {
    /// Readable when others changed nf_tables; -1 before the start.
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_ref().map_or(-1, |m| m.socket.as_raw_fd())
    }
}
