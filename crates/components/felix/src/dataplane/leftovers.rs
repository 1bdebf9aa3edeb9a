//! What Calico left in iptables and ipset. It is reported, never touched: rules of a dataplane that nobody drives any
//! more still drop packets, and only the operator knows whether Calico is really gone.

use std::{collections::BTreeMap, fs, process::Command};

use caracal_netlink::{Error, Protocol, Request, Socket};

/// `NFNL_SUBSYS_NFTABLES` with `NFT_MSG_GETCHAIN` and `NFT_MSG_GETTABLE`.
const GET_CHAIN: u16 = (10 << 8) | 4;
const GET_TABLE: u16 = (10 << 8) | 1;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;

/// `NFNL_SUBSYS_IPSET` with `IPSET_CMD_LIST`.
const LIST_SETS: u16 = (6 << 8) | 7;
const SET_PROTOCOL: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 8;
/// The version of ipset's protocol that every kernel since 4.19 speaks.
const SET_VERSION: u8 = 6;
/// `IPSET_FLAG_LIST_SETNAME`: names only.
const NAMES_ONLY: u32 = 1 << 1;

/// The tables of iptables.
const IPTABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];

/// How the names of Calico's chains begin.
const CHAIN_PREFIX: &str = "cali-";

/// What was found, in words; empty when there is nothing.
pub(crate) fn find() -> Vec<String> {
    let mut found = Vec::new();
    match nft_chains() {
        Ok(chains) => found.extend(chains.into_iter().map(|(table, n)| {
            format!("{n} chains {CHAIN_PREFIX}… in nftables table {table} (iptables-nft)")
        })),
        Err(e) => tracing::debug!("looking for chains of iptables-nft: {e}"),
    }
    match ip_sets() {
        Ok(0) => {}
        Ok(n) => found.push(format!("{n} IP sets cali4…, cali6…")),
        // No ipset in this kernel, no leftovers of it.
        Err(e) => tracing::debug!("looking for IP sets: {e}"),
    }
    for (file, program) in [
        ("/proc/self/net/ip_tables_names", "iptables-legacy-save"),
        ("/proc/self/net/ip6_tables_names", "ip6tables-legacy-save"),
    ] {
        found.extend(legacy(file, program));
    }
    found
}

/// Tables of the families `ip` and `ip6` in which iptables-nft keeps chains of Calico's, with their number.
fn nft_chains() -> Result<BTreeMap<String, usize>, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut tables = BTreeMap::new();
    for (name, family) in [("ip", libc::AF_INET), ("ip6", libc::AF_INET6)] {
        let family = u8::try_from(family).expect("address families are small numbers");
        let header = [family, 0, 0, 0];
        let of_iptables = |table: &str| IPTABLES.contains(&table);
        let there = socket.dump(&Request::new(GET_TABLE, 0, &header), |m| {
            m.attrs(4)
                .find(TABLE_NAME)?
                .as_str()
                .filter(|t| of_iptables(t))
                .map(drop)
        })?;
        if there.is_empty() {
            // The list of chains is one of all tables; ours may have many.
            continue;
        }
        let request = Request::new(GET_CHAIN, 0, &header);
        let chains = socket.dump(&request, |m| {
            let attrs = m.attrs(4);
            let chain = attrs.find(CHAIN_NAME)?.as_str()?;
            let table = attrs.find(CHAIN_TABLE)?.as_str()?;
            (chain.starts_with(CHAIN_PREFIX) && of_iptables(table)).then(|| format!("{name} {table}"))
        })?;
        for table in chains {
            *tables.entry(table).or_default() += 1;
        }
    }
    Ok(tables)
}

fn ip_sets() -> Result<usize, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let family = u8::try_from(libc::AF_INET).expect("address families are small numbers");
    let mut request = Request::new(LIST_SETS, 0, &[family, 0, 0, 0]);
    request
        .attrs()
        .u8(SET_PROTOCOL, SET_VERSION)
        .be32(SET_FLAGS | NET_ORDER, NAMES_ONLY);
    let names = socket.dump(&request, |m| {
        let name = m.attrs(4).find(SET_NAME)?.as_str()?.to_owned();
        (name.starts_with("cali4") || name.starts_with("cali6")).then_some(())
    })?;
    Ok(names.len())
}

/// `NLA_F_NET_BYTEORDER`, which ipset insists on.
const NET_ORDER: u16 = 1 << 14;

/// The old iptables has no netlink; its own program reads it.
fn legacy(file: &str, program: &str) -> Option<String> {
    let tables = fs::read_to_string(file).ok().filter(|t| !t.trim().is_empty())?;
    let tables = tables.split_whitespace().collect::<Vec<_>>().join(", ");
    match Command::new(program).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let n = text
                .lines()
                .filter(|l| l.starts_with(&format!(":{CHAIN_PREFIX}")))
                .count();
            (n > 0).then(|| format!("{n} chains {CHAIN_PREFIX}… in {tables} (iptables-legacy)"))
        }
        _ => {
            tracing::debug!(
                tables,
                program,
                "cannot look into these tables of iptables-legacy"
            );
            None
        }
    }
}
