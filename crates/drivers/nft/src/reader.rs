//! Reading without writing: for those who ask what the kernel has.

use std::collections::BTreeSet;

use caracal_net::Family;
use caracal_rules::ir::{ChainName, CounterName, Key, Set, SetName};

use crate::{
    Count, Error, NetlinkTx,
    batch::At,
    encode::{WireElement, wire_elements},
    load::NAMES,
    numbers::elem,
    readback,
};

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRule {
    /// Its number in the table.
    pub handle: u64,
    /// Its comment; empty when it has none.
    pub comment: String,
    /// Whether this driver wrote it.
    pub ours: bool,
}

/// How a set in the kernel differs from a wanted one, in the kernel's elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetDifference {
    /// Elements that are wanted and not there.
    pub missing: usize,
    /// Elements that are there and not wanted.
    pub foreign: usize,
}

/// Looks at our tables in the network namespace of the thread that opened it, and changes nothing.
#[derive(Debug)]
pub struct Reader {
    tx: NetlinkTx,
}

impl Reader {
    /// Opens the way to nf_tables.
    ///
    /// # Errors
    /// When there is no netfilter netlink, or no right to it.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            tx: NetlinkTx::open()?,
        })
    }

    /// The name of our table that is in force: the one that packets are led into.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn table(&mut self, family: Family) -> Result<Option<String>, Error> {
        for table in readback::tables(&mut self.tx, family)? {
            if !NAMES.contains(&table.name.as_str()) {
                continue;
            }
            let at = At {
                family,
                table: &table.name,
            };
            let chains = readback::chains(&mut self.tx, at)?;
            if chains.iter().any(|(_, _, hooked)| *hooked) {
                return Ok(Some(table.name));
            }
        }
        Ok(None)
    }

    /// Packets and bytes of every counter of a table of ours.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self, family: Family, table: &str) -> Result<Vec<(CounterName, Count)>, Error> {
        readback::counters(&mut self.tx, At { family, table })
    }

    /// Since when a table of ours counts, seconds of Unix time.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn since(&mut self, family: Family, table: &str) -> Result<Option<u64>, Error> {
        let tables = readback::tables(&mut self.tx, family)?;
        Ok(tables.into_iter().find(|t| t.name == table).and_then(|t| t.since))
    }

    /// The rules of a chain in order; `None` when there is no such chain.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn chain(
        &mut self,
        family: Family,
        table: &str,
        name: &ChainName,
    ) -> Result<Option<Vec<LiveRule>>, Error> {
        let at = At { family, table };
        if readback::chain(&mut self.tx, at, name)?.is_none() {
            return Ok(None);
        }
        let rules = readback::commented_rules(&mut self.tx, at, name)?;
        let rules = rules.into_iter().map(|(rule, comment)| LiveRule {
            handle: rule.handle,
            comment,
            ours: rule.hash != 0,
        });
        Ok(Some(rules.collect()))
    }

    /// How a set differs from what is wanted, all of it or only what `only` names; `None` when there is no such set.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn set(
        &mut self,
        family: Family,
        table: &str,
        name: &SetName,
        wanted: &Set,
        only: Option<&Key>,
    ) -> Result<Option<SetDifference>, Error> {
        let at = At { family, table };
        if readback::set(&mut self.tx, at, name)?.is_none() {
            return Ok(None);
        }
        let mut have: BTreeSet<WireElement> =
            readback::elements(&mut self.tx, at, name)?.into_iter().collect();
        // The kernel may hold an end at the lowest value; it ends nothing, and `nft` writes one to every set.
        have.retain(|e| e.flags != elem::F_END || e.key.iter().any(|b| *b != 0));
        let mut difference = SetDifference::default();
        let chosen = wanted
            .elements
            .iter()
            .filter(|(key, _)| only.is_none_or(|o| o == *key));
        for (key, element) in chosen {
            // What has no place in the kernel is not missed there: the driver says so by itself.
            for wire in wire_elements(key, element, &wanted.def, family)
                .into_iter()
                .flatten()
            {
                if !have.remove(&wire) {
                    difference.missing += 1;
                }
            }
        }
        if only.is_none() {
            difference.foreign = have.len();
        }
        Ok(Some(difference))
    }
}
