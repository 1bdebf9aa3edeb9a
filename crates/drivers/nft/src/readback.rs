//! What the kernel has of our tables. Expressions are never decoded: each rule carries a hash of its content.

use caracal_net::Family;
use caracal_netlink::{Attrs, Message, Request};
use caracal_rules::ir::{BaseChain, ChainName, CounterName, SetName};

use crate::{
    Error, NftTx,
    batch::At,
    encode::{
        WireElement, af, base_of, counter_of, def_hash_of, layout_of, read_elements, rule_comment_of,
        rule_hash_of, since_of,
    },
    numbers::{SUBSYSTEM, chain, elem, msg, object, rule, set, table},
};

/// A table in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundTable {
    pub(crate) name: String,
    /// Of a table of ours.
    pub(crate) layout: Option<u32>,
    /// Since when a table of ours counts.
    pub(crate) since: Option<u64>,
}

/// A rule in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownRule {
    /// 0 for a rule that is not ours.
    pub(crate) hash: u64,
    /// 0 while not known.
    pub(crate) handle: u64,
}

fn request(kind: u16, family: Family) -> Request {
    Request::new((SUBSYSTEM << 8) | kind, 0, &[af(family), 0, 0, 0])
}

fn reading(source: caracal_netlink::Error) -> Error {
    Error::Netlink {
        doing: "read nf_tables back",
        source,
    }
}

fn name_of(attrs: Attrs<'_>, kind: u16) -> Option<&str> {
    attrs.find(kind)?.as_str()
}

/// All tables of a family.
pub(crate) fn tables(tx: &mut impl NftTx, family: Family) -> Result<Vec<FoundTable>, Error> {
    let found = tx.dump(&request(msg::GET_TABLE, family), |m| {
        let attrs = m.attrs(4);
        Some(FoundTable {
            name: name_of(attrs, table::NAME)?.to_owned(),
            layout: layout_of(attrs),
            since: since_of(attrs),
        })
    });
    found.map_err(reading)
}

fn chain_of(m: &Message<'_>, at: At<'_>) -> Option<(ChainName, Option<BaseChain>, bool)> {
    let attrs = m.attrs(4);
    let name = name_of(attrs, chain::NAME)?;
    let hooked = attrs.find(chain::HOOK).is_some();
    (name_of(attrs, chain::TABLE)? == at.table).then(|| (name.into(), base_of(attrs), hooked))
}

/// All chains of a table: name, how it is hooked in, and whether it is hooked in at all.
pub(crate) fn chains(
    tx: &mut impl NftTx,
    at: At<'_>,
) -> Result<Vec<(ChainName, Option<BaseChain>, bool)>, Error> {
    tx.dump(&request(msg::GET_CHAIN, at.family), |m| chain_of(&m, at))
        .map_err(reading)
}

/// One chain; `None` when there is none of that name.
pub(crate) fn chain(
    tx: &mut impl NftTx,
    at: At<'_>,
    name: &ChainName,
) -> Result<Option<(Option<BaseChain>, bool)>, Error> {
    let mut ask = request(msg::GET_CHAIN, at.family);
    ask.attrs()
        .str(chain::TABLE, at.table)
        .str(chain::NAME, name.as_str());
    let mut found = None;
    match tx.get(&ask, |m| {
        found = chain_of(&m, at).map(|(_, base, hooked)| (base, hooked)).or(found)
    }) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(reading(e)),
    }
}

/// The rules of a table in order, each with its chain; of one chain only if named.
pub(crate) fn rules(
    tx: &mut impl NftTx,
    at: At<'_>,
    only: Option<&ChainName>,
) -> Result<Vec<(ChainName, KnownRule)>, Error> {
    let mut ask = request(msg::GET_RULE, at.family);
    ask.attrs().str(rule::TABLE, at.table);
    if let Some(chain) = only {
        ask.attrs().str(rule::CHAIN, chain.as_str());
    }
    let mut last: Option<ChainName> = None;
    let found = tx.dump(&ask, |m| {
        let attrs = m.attrs(4);
        if name_of(attrs, rule::TABLE)? != at.table {
            return None;
        }
        let name = name_of(attrs, rule::CHAIN)?;
        // Rules of one chain come together: one allocation of the name serves them all.
        let chain = match last.take() {
            Some(chain) if chain.as_str() == name => chain,
            _ => name.into(),
        };
        last = Some(chain.clone());
        let handle = attrs.find(rule::HANDLE)?.as_be64()?;
        Some((
            chain,
            KnownRule {
                hash: rule_hash_of(attrs),
                handle,
            },
        ))
    });
    found.map_err(reading)
}

/// The rules of one chain in order, each with its comment.
pub(crate) fn commented_rules(
    tx: &mut impl NftTx,
    at: At<'_>,
    chain: &ChainName,
) -> Result<Vec<(KnownRule, String)>, Error> {
    let mut ask = request(msg::GET_RULE, at.family);
    ask.attrs()
        .str(rule::TABLE, at.table)
        .str(rule::CHAIN, chain.as_str());
    let found = tx.dump(&ask, |m| {
        let attrs = m.attrs(4);
        let known = KnownRule {
            hash: rule_hash_of(attrs),
            handle: attrs.find(rule::HANDLE)?.as_be64()?,
        };
        Some((known, rule_comment_of(attrs)))
    });
    found.map_err(reading)
}

/// All sets and maps of a table with the hash of their definition (0 when they are not ours).
pub(crate) fn sets(tx: &mut impl NftTx, at: At<'_>) -> Result<Vec<(SetName, u64)>, Error> {
    let mut ask = request(msg::GET_SET, at.family);
    ask.attrs().str(set::TABLE, at.table);
    let found = tx.dump(&ask, |m| {
        let attrs = m.attrs(4);
        let ours = name_of(attrs, set::TABLE)? == at.table;
        let name = name_of(attrs, set::NAME)?;
        // Anonymous sets belong to a foreign rule and go with it.
        (ours && !name.starts_with("__")).then(|| (name.into(), def_hash_of(attrs)))
    });
    found.map_err(reading)
}

/// The hash of one set's definition; `None` when there is no such set.
pub(crate) fn set(tx: &mut impl NftTx, at: At<'_>, name: &SetName) -> Result<Option<u64>, Error> {
    let mut ask = request(msg::GET_SET, at.family);
    ask.attrs()
        .str(set::TABLE, at.table)
        .str(set::NAME, name.as_str());
    let mut found = None;
    match tx.get(&ask, |m| found = found.or(Some(def_hash_of(m.attrs(4))))) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(reading(e)),
    }
}

/// All elements of a set.
pub(crate) fn elements(tx: &mut impl NftTx, at: At<'_>, name: &SetName) -> Result<Vec<WireElement>, Error> {
    let mut ask = request(msg::GET_ELEM, at.family);
    ask.attrs()
        .str(elem::LIST_TABLE, at.table)
        .str(elem::LIST_SET, name.as_str());
    let found = tx.dump(&ask, |m| {
        let mut list = Vec::new();
        read_elements(m.attrs(4), &mut list);
        Some(list)
    });
    Ok(found.map_err(reading)?.into_iter().flatten().collect())
}

/// Packets and bytes.
pub type Count = (u64, u64);

/// All counters of a table.
pub(crate) fn counters(tx: &mut impl NftTx, at: At<'_>) -> Result<Vec<(CounterName, Count)>, Error> {
    let mut ask = request(msg::GET_OBJ, at.family);
    ask.attrs()
        .str(object::TABLE, at.table)
        .be32(object::TYPE, object::COUNTER);
    let found = tx.dump(&ask, |m| {
        let attrs = m.attrs(4);
        let ours = name_of(attrs, object::TABLE)? == at.table
            && attrs.find(object::TYPE)?.as_be32()? == object::COUNTER;
        let value = attrs.find(object::DATA)?.nested();
        let number = |kind| value.find(kind).and_then(|a| a.as_be64()).unwrap_or(0);
        let count = (number(object::PACKETS), number(object::BYTES));
        let name = name_of(attrs, object::NAME)?;
        ours.then(|| (name.into(), count))
    });
    found.map_err(reading)
}

/// Packets and bytes of each rule's first counter.
pub(crate) fn rule_counters(
    tx: &mut impl NftTx,
    at: At<'_>,
    chain: &str,
) -> Result<Vec<Option<(u64, u64)>>, Error> {
    let mut ask = request(msg::GET_RULE, at.family);
    ask.attrs().str(rule::TABLE, at.table).str(rule::CHAIN, chain);
    tx.dump(&ask, |m| Some(counter_of(m.attrs(4)))).map_err(reading)
}
