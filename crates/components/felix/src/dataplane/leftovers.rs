//! What Calico left in nftables, iptables and ipset. It is reported: rules of a dataplane that nobody drives any more
//! still drop packets, and only the operator knows whether Calico is really gone. Where the operator says so, it goes.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use caracal_netlink::{Error, Protocol, Request, Socket};
use caracal_nft::Nft;

/// `NFNL_SUBSYS_IPSET` with `IPSET_CMD_LIST` and `IPSET_CMD_DESTROY`.
const LIST_SETS: u16 = (6 << 8) | 7;
const DESTROY_SET: u16 = (6 << 8) | 3;
const SET_PROTOCOL: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 6;
/// The version of ipset's protocol that every kernel since 4.19 speaks.
const SET_VERSION: u8 = 6;
/// `IPSET_FLAG_LIST_SETNAME`: names only.
const NAMES_ONLY: u32 = 1 << 1;

/// How the names of Calico's chains begin.
const CHAIN_PREFIX: &str = "cali-";

/// What was found, in words; empty when there is nothing.
pub(crate) fn find(nft: &mut Nft) -> Vec<String> {
    let mut found = Vec::new();
    match nft.calico(false) {
        Ok(words) => found.extend(words),
        Err(e) => tracing::debug!("looking for chains of Calico's: {e}"),
    }
    match Socket::open(Protocol::Netfilter).and_then(|mut s| ip_sets(&mut s)) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => found.push(format!("{} IP sets cali4…, cali6…", names.len())),
        // No ipset in this kernel, no leftovers of it.
        Err(e) => tracing::debug!("looking for IP sets: {e}"),
    }
    found.extend(LEGACY.iter().filter_map(legacy));
    found
}

/// Takes out what [`find`] finds; what was taken out and what could not be, in words.
pub(crate) fn remove(nft: &mut Nft) -> (Vec<String>, Vec<String>) {
    let found = find(nft);
    let mut stay = Vec::new();
    if let Some(who) = running() {
        return (
            Vec::new(),
            vec![format!(
                "{who} is still running and would put everything back: stop it first"
            )],
        );
    }
    if let Err(e) = nft.calico(true) {
        stay.push(e.to_string());
    }
    stay.extend(LEGACY.iter().filter_map(|l| remove_legacy(l).err()));
    match remove_ip_sets() {
        Ok(sets) => stay.extend(sets),
        Err(e) => tracing::debug!("removing IP sets: {e}"),
    }
    (found, stay)
}

/// An agent of Calico's that still runs on this node: another program than this one by the name of its agent.
fn running() -> Option<String> {
    let own = fs::read_link("/proc/self/exe").ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut others = processes.filter_map(|p| {
        let name = fs::read_to_string(p.path().join("comm")).ok()?;
        let exe = fs::read_link(p.path().join("exe")).ok()?;
        let is_agent = matches!(name.trim(), "calico-felix" | "calico-node");
        let in_here = fs::read_link(p.path().join("ns/net")).ok() == fs::read_link("/proc/self/ns/net").ok();
        let pid = p.file_name();
        (is_agent && in_here && exe != own).then(|| format!("{} (process {})", name.trim(), pid.display()))
    });
    others.next()
}

/// Names of Calico's IP sets.
fn ip_sets(socket: &mut Socket) -> Result<Vec<String>, Error> {
    let family = u8::try_from(libc::AF_INET).expect("address families are small numbers");
    let mut request = Request::new(LIST_SETS, 0, &[family, 0, 0, 0]);
    request
        .attrs()
        .u8(SET_PROTOCOL, SET_VERSION)
        .be32(SET_FLAGS | NET_ORDER, NAMES_ONLY);
    socket.dump(&request, |m| {
        let name = m.attrs(4).find(SET_NAME)?.as_str()?;
        (name.starts_with("cali4") || name.starts_with("cali6")).then(|| name.to_owned())
    })
}

/// Deletes IP sets that nothing looks into any more; those that cannot go, in words.
fn remove_ip_sets() -> Result<Vec<String>, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let family = u8::try_from(libc::AF_INET).expect("address families are small numbers");
    let mut stay = Vec::new();
    for name in ip_sets(&mut socket)? {
        let mut request = Request::new(DESTROY_SET, 0, &[family, 0, 0, 0]);
        request.attrs().u8(SET_PROTOCOL, SET_VERSION).str(SET_NAME, &name);
        if let Err(e) = socket.request(&request) {
            stay.push(format!("IP set {name}: {e}"));
        }
    }
    Ok(stay)
}

/// `NLA_F_NET_BYTEORDER`, which ipset insists on.
const NET_ORDER: u16 = 1 << 14;

/// The old iptables: where the kernel says that it is in use, and its programs.
struct Legacy {
    file: &'static str,
    save: &'static str,
    restore: &'static str,
}

const LEGACY: [Legacy; 2] = [
    Legacy {
        file: "/proc/self/net/ip_tables_names",
        save: "iptables-legacy-save",
        restore: "iptables-legacy-restore",
    },
    Legacy {
        file: "/proc/self/net/ip6_tables_names",
        save: "ip6tables-legacy-save",
        restore: "ip6tables-legacy-restore",
    },
];

/// What the old iptables has, as its own program writes it: it has no netlink. Nothing where it is not in use.
fn saved(legacy: &Legacy) -> Option<String> {
    let tables = fs::read_to_string(legacy.file)
        .ok()
        .filter(|t| !t.trim().is_empty())?;
    match Command::new(legacy.save).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => {
            tracing::debug!(
                tables,
                program = legacy.save,
                "cannot look into these tables of iptables-legacy"
            );
            None
        }
    }
}

fn is_calicos(line: &str) -> bool {
    line.starts_with(&format!(":{CHAIN_PREFIX}"))
        || line.contains(&format!(" {CHAIN_PREFIX}"))
        || line.contains("\"cali:")
}

fn legacy(legacy: &Legacy) -> Option<String> {
    let text = saved(legacy)?;
    let n = text.lines().filter(|l| is_calicos(l)).count();
    (n > 0).then(|| format!("{n} chains and rules of iptables-legacy ({})", legacy.save))
}

/// Restores what the old iptables has without Calico's lines, each table at once.
fn remove_legacy(legacy: &Legacy) -> Result<(), String> {
    let Some(text) = saved(legacy).filter(|t| t.lines().any(is_calicos)) else {
        return Ok(());
    };
    let kept: String = text
        .lines()
        .filter(|l| !is_calicos(l))
        .flat_map(|l| [l, "\n"])
        .collect();
    let restore = || -> std::io::Result<bool> {
        let mut child = Command::new(legacy.restore).stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(kept.as_bytes())?;
        }
        Ok(child.wait()?.success())
    };
    match restore() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "{} refused what was left without Calico's lines",
            legacy.restore
        )),
        Err(e) => Err(format!("{}: {e}", legacy.restore)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_calicos() {
        for line in [
            ":cali-FORWARD - [0:0]",
            "-A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD",
            "-A FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m mark --mark 0x10000/0x10000 -j ACCEPT",
            "-A cali-tw-cali1 -j DROP",
        ] {
            assert!(is_calicos(line), "{line}");
        }
        for line in [
            "*filter",
            ":FORWARD DROP [0:0]",
            "-A FORWARD -i cali+ -j ACCEPT",
            "-A FORWARD -m comment --comment \"california\" -j ACCEPT",
            "COMMIT",
        ] {
            assert!(!is_calicos(line), "{line}");
        }
    }
}
