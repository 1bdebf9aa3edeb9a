//! What the kernel has, and what others do to it.

use std::time::{Duration, Instant};

use caracal_net::Family;
use caracal_netlink::Wait;
use tracing::{debug, info, warn};

use super::Nft;
use crate::{
    Error, NftTx, Report,
    batch::{At, Object},
    load::{NAMES, REPLACED},
    monitor::{Monitor, Noticed},
    readback,
    state::KnownChain,
    tx,
};

/// Reading back may take this long before a change gets its turn.
const AUDIT_SLICE: Duration = Duration::from_millis(4);

impl<T: NftTx> Nft<T> {
    /// Takes over a table of ours that is in force, and lists what else is to go. False when there is none that fits.
    pub(super) fn adopt(&mut self, family: Family, old: &mut Vec<(Family, String)>) -> Result<bool, Error> {
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
        if state.desired.sets.keys().any(|name| state.is_unreadable(name)) {
            return Ok(false);
        }
        let at = At {
            family,
            table: &table.name,
        };
        state.sets = readback::sets(&mut self.tx, at)?.into_iter().collect();
        state.stale_sets = state.sets.keys().cloned().collect();
        state.know_counters(readback::counters(&mut self.tx, at)?);
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
    pub(super) fn listen(&mut self, first: u32, report: &Report) -> Result<(), Error> {
        let mut monitor = Monitor::open(self.tx.port(), self.config.listen_buffer)?;
        let now = tx::generation(&mut self.tx)?;
        monitor.start_from(now);
        self.monitor = Some(monitor);
        let own = u32::try_from(report.batches - report.refused_batches).unwrap_or(u32::MAX);
        if now.wrapping_sub(first) != own {
            self.audit()?;
        }
        Ok(())
    }

    pub(super) fn notice(&mut self, wait: Wait) -> Result<(), Error> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(());
        };
        let mut noticed = Vec::new();
        monitor.poll(wait, &mut noticed)?;
        self.noticed(noticed)
    }

    /// Remembers what must be read again.
    pub(super) fn noticed(&mut self, noticed: Vec<Noticed>) -> Result<(), Error> {
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

    pub(super) fn audit_slice(&mut self) -> Result<(), Error> {
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
}
