//! What Calico left in nf_tables, of its own nftables mode and of iptables on top of nf_tables: found, and on request
//! taken out, each table by one transaction.

use caracal_net::Family;
use caracal_netlink::{Attrs, Request};
use caracal_rules::ir::ChainName;

use crate::{
    Error, Nft, NftTx, Report,
    batch::{At, Batch},
    encode::af,
    load::{self, LoadError, REPLACED},
    numbers::{SUBSYSTEM, chain, data, msg, rule, table},
};

/// The tables of iptables.
const IPTABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];

/// How the names of Calico's chains, and the comments of its rules in chains of others, begin.
const CHAIN: &str = "cali-";
const COMMENT: &[u8] = b"cali:";

/// `NFPROTO_ARP`, where Calico has a table too.
const ARP: u8 = 3;

/// What of Calico's is in a table of iptables.
#[derive(Debug, Default)]
struct Found {
    chains: Vec<ChainName>,
    /// Rules in chains of others: chain and handle.
    rules: Vec<(ChainName, u64)>,
}

fn reading(source: caracal_netlink::Error) -> Error {
    Error::Netlink {
        doing: "look for what Calico left",
        source,
    }
}

/// Whether a rule jumps into a chain of Calico's, or says that it is Calico's.
fn is_calicos(attrs: Attrs<'_>) -> bool {
    let says = |kind| {
        attrs.find(kind).is_some_and(|a| {
            let mut windows = a.value.windows(COMMENT.len());
            windows.any(|w| w == COMMENT)
        })
    };
    let target = |expression: Attrs<'_>| {
        let verdict = expression
            .find(2)?
            .nested()
            .find(2)?
            .nested()
            .find(data::VERDICT)?;
        let name = verdict.nested().find(data::VERDICT_CHAIN)?.as_str()?;
        name.starts_with(CHAIN).then_some(())
    };
    let mut expressions = attrs.find(rule::EXPRESSIONS).into_iter().flat_map(|e| e.nested());
    says(rule::EXPRESSIONS) || says(rule::USERDATA) || expressions.any(|e| target(e.nested()).is_some())
}

impl<T: NftTx> Nft<T> {
    fn tables_of(&mut self, family: u8) -> Result<Vec<String>, Error> {
        let ask = Request::new((SUBSYSTEM << 8) | msg::GET_TABLE, 0, &[family, 0, 0, 0]);
        let names = self.tx.dump(&ask, |m| {
            let of = m.payload.first().is_some_and(|f| *f == family);
            m.attrs(4)
                .find(table::NAME)?
                .as_str()
                .filter(|_| of)
                .map(str::to_owned)
        });
        names.map_err(reading)
    }

    fn of_iptables(&mut self, at: At<'_>) -> Result<Found, Error> {
        let head = [af(at.family), 0, 0, 0];
        let mut found = Found::default();
        let ask = Request::new((SUBSYSTEM << 8) | msg::GET_CHAIN, 0, &head);
        let chains = self.tx.dump(&ask, |m| {
            let attrs = m.attrs(4);
            let ours = attrs.find(chain::TABLE)?.as_str()? == at.table;
            let name = attrs.find(chain::NAME)?.as_str()?;
            (ours && name.starts_with(CHAIN)).then(|| ChainName::from(name))
        });
        found.chains = chains.map_err(reading)?;
        let mut ask = Request::new((SUBSYSTEM << 8) | msg::GET_RULE, 0, &head);
        ask.attrs().str(rule::TABLE, at.table);
        let rules = self.tx.dump(&ask, |m| {
            let attrs = m.attrs(4);
            let name = attrs.find(rule::CHAIN)?.as_str()?;
            let foreign = !name.starts_with(CHAIN) && attrs.find(rule::TABLE)?.as_str()? == at.table;
            let handle = attrs.find(rule::HANDLE)?.as_be64()?;
            (foreign && is_calicos(attrs)).then(|| (ChainName::from(name), handle))
        });
        found.rules = rules.map_err(reading)?;
        Ok(found)
    }

    /// What Calico left in nf_tables, in words; with `remove`, it is gone when this returns. Rules and chains of others
    /// in the same tables stay.
    ///
    /// # Errors
    /// When the kernel cannot be read or refuses; what was named before is gone all the same.
    pub fn calico(&mut self, remove: bool) -> Result<Vec<String>, Error> {
        let mut words = Vec::new();
        for (name, family) in [("ip", Some(Family::V4)), ("ip6", Some(Family::V6)), ("arp", None)] {
            let mut batch = Batch::default();
            for table in self.tables_of(family.map_or(ARP, af))? {
                if table == REPLACED {
                    words.push(format!("nftables table {name} {table}"));
                    batch.del_table_of(family.map_or(ARP, af), &table);
                    continue;
                }
                let Some(family) = family.filter(|_| IPTABLES.contains(&table.as_str())) else {
                    continue;
                };
                let at = At {
                    family,
                    table: &table,
                };
                let found = self.of_iptables(at)?;
                if found.chains.is_empty() && found.rules.is_empty() {
                    continue;
                }
                words.push(format!(
                    "{} chains {CHAIN}… and {} rules beside them in nftables table {name} {table} (iptables-nft)",
                    found.chains.len(),
                    found.rules.len()
                ));
                for (chain, handle) in &found.rules {
                    batch.del_rule(at, chain, *handle);
                }
                // They lead to one another: all are emptied before the first goes.
                found.chains.iter().for_each(|c| batch.flush_chain(at, c));
                found.chains.iter().for_each(|c| batch.del_chain(at, c));
            }
            if remove {
                match load::send(&mut self.tx, batch, &mut Report::default()) {
                    Ok(_) | Err(LoadError::Again) => {}
                    Err(LoadError::Failed(e)) => return Err(e),
                    Err(LoadError::Refused(refusals)) => return Err(crate::driver::gave_up(&refusals)),
                }
            }
        }
        Ok(words)
    }
}
