//! Addresses and ranges, as Kubernetes' library for them reads them: no zeros in front, no zones, no IPv4 in IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range that keeps the bits behind its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) addr: IpAddr,
    pub(super) len: u8,
}

/// Reads an address.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    let bad = || format!("{text:?} is no address");
    match text.parse().map_err(|_| bad())? {
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => Err(bad()),
        a => Ok(a),
    }
}

/// Reads a range.
pub(super) fn range(text: &str) -> Result<Range, String> {
    let bad = || format!("{text:?} is no range of addresses");
    let (addr, len) = text.rsplit_once('/').ok_or_else(bad)?;
    let addr = ip(addr).map_err(|_| bad())?;
    let plain =
        !len.is_empty() && len.bytes().all(|b| b.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
    let len = len
        .parse::<u8>()
        .ok()
        .filter(|n| plain && *n <= bits(addr))
        .ok_or_else(bad)?;
    Ok(Range { addr, len })
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// 4 or 6.
pub(super) fn family(addr: IpAddr) -> i64 {
    if addr.is_ipv4() { 4 } else { 6 }
}

impl Range {
    /// Without the bits behind the prefix.
    pub(super) fn masked(self) -> Self {
        Self {
            addr: mask(self.addr, self.len),
            len: self.len,
        }
    }

    /// Whether an address is in the range; one of the other family is not.
    pub(super) fn contains(self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4() && mask(addr, self.len) == self.masked().addr
    }
}

fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            Ipv4Addr::from(u32::from(a) & keep).into()
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            Ipv6Addr::from(u128::from(a) & keep).into()
        }
    }
}
